//! Measurements against other loaders; `scripts/bench` provides what they need. Each writes its section of
//! docs/benchmarks.md, and leaves the rest of it alone.

mod machine;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("machine") => machine::run(),
        _ => bail!("expected what to measure: machine"),
    }
}

/// Puts `text` into the document, in place of what it has between the marks of `section`, or at its end.
fn write_section(section: &str, text: &str) -> Result<()> {
    let file = modest_qemu::project().join("docs/benchmarks.md");
    let document = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    let [begin, end] = ["begin", "end"].map(|mark| format!("<!-- {section}: {mark} -->\n"));
    let (before, after) = match (document.split_once(&begin), document.split_once(&end)) {
        (Some((before, _)), Some((_, after))) => (before.to_string(), after),
        _ => (format!("{document}\n"), ""),
    };
    Ok(std::fs::write(file, format!("{before}{begin}{text}{end}{after}"))?)
}
