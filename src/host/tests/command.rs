//! The command line: that the manual pages have all of it, and that shells complete it.
//!
//! Two parts of mkmodest(1) are written from the command line's own help: with MODEST_WRITE_DOCS=1 this test writes them.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use clap::{Arg, ArgAction, CommandFactory};
use mkmodest::commands::Cli;
use modest_loader::load_path::LoadPath;
use modest_loader::manifest::Line;

fn project(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../..", file].iter().collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(project(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// A text in mdoc(7), a sentence or a piece of at most so many bytes a line. Of backquotes nothing is left.
fn escaped(text: &str) -> String {
    const MOST_BYTES: usize = 78;
    let mut lines = vec![String::new()];
    for word in text.replace('`', "").replace('\\', "\\e").split_whitespace() {
        let line = lines.last_mut().unwrap();
        // A new sentence begins on a line of its own.
        if line.ends_with('.') || line.len() + 1 + word.len() > MOST_BYTES {
            lines.push(String::new());
        }
        let line = lines.last_mut().unwrap();
        if !line.is_empty() {
            line.push(' ');
        } else if word.starts_with(['.', '\'']) {
            line.push_str("\\&");
        }
        line.push_str(word);
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// An argument as a macro's: `Fl -config Ar DIR`.
fn macros(arg: &Arg) -> String {
    let long = arg.get_long().map(|long| format!("Fl -{long}"));
    let short = arg.get_short().map(|short| format!("Fl {short} , "));
    let name = arg.get_value_names().map_or(String::new(), |names| names[0].replace('|', " | "));
    let takes = arg.get_action().takes_values();
    match long {
        Some(long) if takes && arg.is_require_equals_set() => format!("{long} Ns Op = Ns Ar {name}"),
        Some(long) if takes => format!("{}{long} Ar {name}", short.unwrap_or_default()),
        Some(long) => format!("{}{long}", short.unwrap_or_default()),
        None => format!("Ar {name}"),
    }
}

/// What mkmodest(1) has in its two parts.
fn generated() -> (String, String) {
    let mut command = Cli::command();
    command.build();
    let (mut synopsis, mut commands) = (String::new(), ".Bl -tag -width Ds\n".to_string());
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = sub.get_name();
        let positionals: String = sub
            .get_positionals()
            .map(|arg| {
                let dots = if matches!(arg.get_action(), ArgAction::Append) { " ..." } else { "" };
                match arg.is_required_set() {
                    true => format!(" {}{dots}", macros(arg)),
                    false => format!(" Op {}{dots}", macros(arg)),
                }
            })
            .collect();
        let options = if sub.get_opts().next().is_some() { ".Op Ar options\n" } else { "" };
        synopsis += &format!(".Nm\n.Cm {name}\n{options}.{}\n", positionals.trim_start());
        let about = sub.get_long_about().or(sub.get_about()).unwrap().to_string();
        // The first line of a help has no full stop.
        let about: String =
            about.split("\n\n").map(|part| escaped(&format!("{}.", part.trim_end_matches('.')))).collect();
        commands += &format!(".It Nm Cm {name}{positionals}\n{about}.Bl -tag -width Ds\n");
        for arg in sub.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())) {
            let help = arg.get_help().unwrap().to_string();
            commands += &format!(".It {}\n{}", macros(arg), escaped(&format!("{help}.")));
            let values: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_string()).collect();
            if !arg.get_action().takes_values() {
                continue;
            }
            let default = arg.get_default_values().first().filter(|_| !arg.is_hide_default_value_set());
            if !values.is_empty() {
                commands += &format!("One of\n.Cm {} .\n", values.join(" , "));
            }
            if let Some(default) = default {
                commands += &format!("By default\n.Cm {} .\n", default.to_str().unwrap());
            }
        }
        commands += ".El\n";
    }
    commands += ".El\n";
    (synopsis, commands)
}

#[test]
fn mkmodest_1_has_all_commands_and_options() {
    let file = "docs/man/mkmodest.1";
    let mut page = read(file);
    let (synopsis, commands) = generated();
    for (part, text) in [("synopsis", synopsis), ("commands", commands)] {
        let [begin, end] = ["begin", "end"].map(|mark| format!(".\\\" {part}: {mark}\n"));
        let (before, rest) = page.split_once(&begin).unwrap();
        let (old, after) = rest.split_once(&end).unwrap();
        if std::env::var_os("MODEST_WRITE_DOCS").is_none() {
            assert_eq!(old, text, "{file}: MODEST_WRITE_DOCS=1 writes it");
        }
        page = format!("{before}{begin}{text}{end}{after}");
    }
    fs::write(project(file), &page).unwrap();
    // What is written has every option of every command.
    let items: BTreeSet<_> = page.lines().filter(|line| line.starts_with(".It ")).collect();
    let mut command = Cli::command();
    command.build();
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        assert!(items.iter().any(|item| item.starts_with(&format!(".It Nm Cm {}", sub.get_name()))));
        for long in sub.get_arguments().filter_map(|arg| arg.get_long()).filter(|long| *long != "help") {
            let is_it = |item: &&str| {
                item.split(' ').collect::<Vec<_>>().windows(2).any(|two| two == ["Fl", &format!("-{long}")])
            };
            assert!(items.iter().any(is_it), "{} --{long}", sub.get_name());
        }
    }
}

/// The items of a page's lists.
fn items(page: &str) -> Vec<Vec<&str>> {
    page.lines().filter_map(|line| Some(line.strip_prefix(".It ")?.split(' ').collect())).collect()
}

#[test]
fn modest_manifest_5_has_all_directives_and_attributes() {
    let page = read("docs/man/modest.manifest.5");
    let items = items(&page);
    let is_there = |word: &str| {
        let wanted = ["Cm", word];
        assert!(items.iter().any(|item| item.windows(2).any(|two| two == wanted)), "no .It Cm {word}");
    };
    // What is wrong with a line that has one that there is not, names all that there are.
    let mut words = 0;
    for line in ["@none", "x @none"] {
        let error = Line::parse(line.as_bytes()).unwrap_err().problem.to_string();
        let (_, known) = error.split_once("expected ").unwrap();
        for word in known.split([' ', ',']).filter(|word| word.starts_with('@')) {
            is_there(word);
            words += 1;
        }
    }
    assert!(words >= 16, "{words}");
    let error = Line::parse(b"@on-error none").unwrap_err().problem.to_string();
    for policy in ["continue", "stop", "reboot", "exec"] {
        assert!(error.contains(policy), "{error}");
        assert!(items.iter().any(|item| item.starts_with(&["Cm", "@on-error", policy])), "@on-error {policy}");
    }
    for path in LoadPath::ALL {
        assert!(
            page.lines().any(|line| line.trim_end_matches([' ', ',', '.']) == format!(".Cm {path}")),
            "@path={path}"
        );
    }
}

/// The texts between double quotes in a source, without its tests.
fn literals(source: &str) -> impl Iterator<Item = &str> {
    source.split("#[cfg(test)]").next().unwrap_or_default().split('"').skip(1).step_by(2)
}

#[test]
fn modest_8_has_all_applets_options_and_words_of_the_command_line() {
    let page = read("docs/man/modest.8");
    let items = items(&page);
    let has = |wanted: [&str; 2]| items.iter().any(|item| item.windows(2).any(|two| two == wanted));
    let applets = read("src/init/src/applets.rs") + &read("src/init/src/check.rs");
    // What arguments are compared with: those of `match`, and of options that stand first.
    let mut options = 0;
    for option in literals(&applets).filter(|text| text.starts_with('-') && !text.contains(' ')) {
        assert!(has(["Fl", &option[1..]]), "no .It with Fl {}", &option[1..]);
        options += 1;
    }
    assert!(options >= 12, "{options}");
    let usage = applets.split_once("const USAGE").unwrap().1;
    for applet in ["load", "insmod", "check"] {
        assert!(usage.contains(&format!("modest {applet} ")));
        assert!(has(["Cm", applet]), "{applet}");
    }

    let sources = ["src/init/src/settings.rs", "src/init/src/pid1.rs", "src/init/src/switch_root.rs"].map(read);
    let mut words = BTreeSet::new();
    for source in &sources {
        for call in ["value(\"", "has(\"", "path(\""] {
            words.extend(source.split(call).skip(1).map(|rest| rest.split('"').next().unwrap().to_string()));
        }
    }
    // Of a build for tests alone.
    assert!(words.remove("modest.panic"));
    let help = applets.split_once("const CMDLINE").unwrap().1.split("\";").next().unwrap();
    let named =
        help.split([' ', ',', ';', '\n']).filter_map(|word| word.split_once('=')).map(|(name, _)| name.to_string());
    words.extend(named.filter(|name| name != "MODULE.PARAM" && !name.is_empty()));
    assert!(words.len() >= 16, "{words:?}");
    for word in words {
        let is_it = |item: &[&str]| item.iter().any(|text| text.trim_end_matches('=') == word);
        assert!(items.iter().any(|item| is_it(item)), "no .It of {word}");
    }
}

/// What bash completes, with the cursor behind the last word.
fn completions(words: &[&str]) -> BTreeSet<String> {
    let script = r#"
        source <("$0" completions bash)
        complete -p mkmodest >/dev/null || exit 1
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _mkmodest "$1" "${*: -1}" "${@: -2:1}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output =
        Command::new("bash").args(["-c", script, env!("CARGO_BIN_EXE_mkmodest")]).args(words).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    let set = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(completions(&["mkmodest", "im"]), set(&["image"]));
    let all: BTreeSet<_> = Cli::command().get_subcommands().map(|sub| sub.get_name().to_string()).collect();
    assert!(completions(&["mkmodest", ""]).is_superset(&all));
    assert_eq!(completions(&["mkmodest", "image", "--comp"]), set(&["--compress"]));
    assert_eq!(completions(&["mkmodest", "image", "--compress", ""]), set(&["gzip", "none", "xz", "zstd"]));
    assert_eq!(completions(&["mkmodest", "plan", "--format", "mo"]), set(&["modprobe"]));
    let longs: BTreeSet<_> = Cli::command()
        .find_subcommand("check")
        .unwrap()
        .get_arguments()
        .filter_map(|arg| Some(format!("--{}", arg.get_long()?)))
        .collect();
    assert!(longs.len() > 5 && completions(&["mkmodest", "check", "--"]).is_superset(&longs));
}

#[test]
fn other_shells_have_completions_too() {
    for (shell, begins) in [("zsh", "#compdef mkmodest\n"), ("fish", "# Print an optspec for argparse")] {
        let output = Command::new(env!("CARGO_BIN_EXE_mkmodest")).args(["completions", shell]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.starts_with(begins), "{text}");
        for word in ["image", "init-at", "modules-as", "zstd"] {
            assert!(text.contains(word), "{shell}: no {word}");
        }
    }
}
