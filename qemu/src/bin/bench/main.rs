//! What `scripts/bench` runs once all is built and fetched: one benchmark, whose figures go to `docs/benchmarks.md`.

mod machine;
mod memory;
mod speed;

use anyhow::{Context, Result, bail, ensure};
use modest_qemu::project;

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((what, rest)) if what == "memory" => memory::main(rest),
        Some((what, [])) if what == "machine" => machine::run(),
        Some((what, rest)) if what == "speed" => speed::main(rest),
        _ => bail!("expected: memory [ARCH…], machine, or speed [ARCH…]"),
    }
}

/// Measures the subjects of these names, or all of them, and puts the text of each into a section of the document.
fn for_architectures<S>(
    what: &str, subjects: &[(&str, S)], names: &[String], measure: fn(&S) -> Result<String>,
) -> Result<()> {
    let known: Vec<_> = subjects.iter().map(|(name, _)| *name).collect();
    for name in names {
        ensure!(known.contains(&name.as_str()), "{name}: expected {}", known.join(", "));
    }
    for (name, subject) in subjects.iter().filter(|(own, _)| names.is_empty() || names.iter().any(|name| name == own)) {
        let text = measure(subject).with_context(|| name.to_string())?;
        println!("{text}");
        write_section(&format!("{what} {name}"), &text)?;
    }
    Ok(())
}

/// Puts `text` into the document, in place of what it has between the marks of `section`, or at its end.
fn write_section(section: &str, text: &str) -> Result<()> {
    let file = project().join("docs/benchmarks.md");
    let document = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    let [begin, end] = ["begin", "end"].map(|mark| format!("<!-- {section}: {mark} -->\n"));
    let (before, after) = match (document.split_once(&begin), document.split_once(&end)) {
        (Some((before, _)), Some((_, after))) => (before.to_string(), after),
        _ => (format!("{document}\n"), ""),
    };
    Ok(std::fs::write(file, format!("{before}{begin}{text}{end}{after}"))?)
}
