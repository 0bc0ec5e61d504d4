//! The pages for users: that their manifests are manifests, their links lead somewhere, and their lines are short.

use std::fs;
use std::path::{Path, PathBuf};

use modest_loader::manifest::Line;

/// The longest line, in characters.
const MOST_COLUMNS: usize = 120;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All pages, each with its path from the project's folder.
fn pages() -> Vec<(String, String)> {
    let top = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md"].map(String::from);
    let docs =
        fs::read_dir(project().join("docs")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let docs = docs.filter(|file| file.ends_with(".md")).map(|file| format!("docs/{file}"));
    let layer = "packaging/yocto/meta-modest/README.md".to_string();
    let files = top.into_iter().chain(docs).chain([layer]);
    files
        .map(|file| (fs::read_to_string(project().join(&file)).unwrap(), file))
        .map(|(text, file)| (file, text))
        .collect()
}

/// A line of a page.
struct PageLine<'p> {
    /// Counted from 1.
    number: usize,
    text: &'p str,
    /// In a fenced block, what stands behind its first backquotes.
    fenced: Option<&'p str>,
}

/// The lines of a page, without those that begin or end fenced blocks.
fn lines(page: &str) -> impl Iterator<Item = PageLine<'_>> {
    let mut fenced = None;
    page.lines().enumerate().filter_map(move |(i, text)| {
        if let Some(kind) = text.strip_prefix("```") {
            fenced = if fenced.is_some() { None } else { Some(kind) };
            return None;
        }
        Some(PageLine { number: i + 1, text, fenced })
    })
}

/// The places in a page that are wrong, each with what is wrong there.
fn complain(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn example_manifests_are_read_by_the_loader() {
    let (mut wrong, mut examples) = (Vec::new(), Vec::new());
    for (file, page) in pages() {
        for line in lines(&page).filter(|line| line.fenced == Some("manifest")) {
            match Line::parse(line.text.as_bytes()) {
                Ok(Line::Empty) => {}
                Ok(_) => examples.push(file.clone()),
                Err(e) => wrong.push(format!("{file}:{}:{}: {}", line.number, e.column, e.problem)),
            }
        }
    }
    complain(&wrong);
    for file in ["README.md", "docs/manifest.md", "docs/hooks.md", "docs/migrations.md"] {
        assert!(examples.iter().any(|example| example == file), "no manifest in {file}");
    }
    let manual = fs::read_to_string(project().join("docs/man/modest.manifest.5")).unwrap();
    let (_, example) = manual.split_once(".Sh EXAMPLES\n.Bd -literal\n").unwrap();
    let (example, _) = example.split_once("\n.Ed\n").unwrap();
    for line in example.lines() {
        Line::parse(line.as_bytes()).unwrap_or_else(|e| panic!("modest.manifest.5: {line}: {}", e.problem));
    }
}

/// A file that a page writes is what its name says.
#[test]
fn files_that_pages_call_manifests_are_among_the_examples() {
    let (mut wrong, mut manifests) = (Vec::new(), 0);
    for (file, page) in pages() {
        let mut before = "";
        for (i, text) in page.lines().enumerate() {
            if let Some(kind) = text.strip_prefix("```")
                && before.ends_with(".manifest`:")
            {
                manifests += 1;
                if kind != "manifest" {
                    wrong.push(format!("{file}:{}: expected ```manifest", i + 1));
                }
            }
            before = if text.is_empty() { before } else { text };
        }
    }
    complain(&wrong);
    assert!(manifests >= 5, "{manifests}");
}

/// The README's failures are a case of docs/failures.md, which guest tests compare with what programs print.
#[test]
fn failures_in_the_readme_are_real() {
    let (failures, readme) = (project().join("docs/failures.md"), project().join("README.md"));
    let (failures, readme) = (fs::read_to_string(failures).unwrap(), fs::read_to_string(readme).unwrap());
    let shown: Vec<_> = lines(&readme).filter(|line| line.fenced == Some("failures")).map(|line| line.text).collect();
    assert!(shown.len() >= 3, "{shown:?}");
    assert!(failures.contains(&shown.join("\n")), "docs/failures.md has not\n{}", shown.join("\n"));
}

/// What a program prints stays as it is, and a row of a table cannot be broken.
#[test]
fn lines_are_short() {
    let mut wrong = Vec::new();
    for (file, page) in pages() {
        for line in lines(&page).filter(|line| line.fenced.is_none() && !line.text.starts_with('|')) {
            // A message quoted in a list, as `scripts/bench` writes them.
            let is_quoted = line.text.starts_with("- ") && line.text.ends_with('`');
            let columns = line.text.chars().count();
            if columns > MOST_COLUMNS && !is_quoted {
                wrong.push(format!("{file}:{}: {columns} columns", line.number));
            }
        }
    }
    complain(&wrong);
}

/// The anchor of a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let (mut wrong, mut links) = (Vec::new(), 0);
    for (file, page) in pages() {
        for line in lines(&page).filter(|line| line.fenced.is_none()) {
            for target in line.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                links += 1;
                let (to, heading) = target.split_once('#').unwrap_or((target, ""));
                let to = if to.is_empty() {
                    project().join(&file)
                } else {
                    project().join(&file).parent().unwrap().join(to)
                };
                let has_heading = |text: &str| {
                    lines(text).any(|l| l.fenced.is_none() && l.text.starts_with('#') && anchor(l.text) == heading)
                };
                let leads = if heading.is_empty() {
                    to.exists()
                } else {
                    fs::read_to_string(&to).is_ok_and(|text| has_heading(&text))
                };
                if !leads {
                    wrong.push(format!("{file}:{}: nothing is at {target}", line.number));
                }
            }
        }
    }
    complain(&wrong);
    assert!(links >= 20, "{links}");
}

/// A page that the book's list lacks would not be in the book.
#[test]
fn the_book_has_all_pages() {
    let summary = fs::read_to_string(project().join("docs/SUMMARY.md")).unwrap();
    let listed: Vec<_> = summary.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    let in_book = |file: &str| match file.strip_prefix("docs/") {
        Some(page) => listed.contains(&page),
        None => listed.contains(&format!("../{file}").as_str()),
    };
    let is_page = |file: &&String| !file.starts_with("packaging/") && *file != "docs/SUMMARY.md";
    let missing: Vec<_> =
        pages().into_iter().map(|(file, _)| file).filter(|file| is_page(&file) && !in_book(file)).collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md lacks {missing:?}");
}

#[test]
fn versions_are_those_of_the_project() {
    let page = fs::read_to_string(project().join("docs/versions.md")).unwrap();
    let cargo = fs::read_to_string(project().join("Cargo.toml")).unwrap();
    let rust = cargo.split_once("rust-version = \"").unwrap().1.split('"').next().unwrap();
    assert!(page.contains(&format!("| Rust, to build | {rust}. ")), "docs/versions.md: expected Rust {rust}");
}
