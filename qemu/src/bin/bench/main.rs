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

/// Puts `text` between the marks of section `name`, which come at the end if there are none yet.
fn write_section(name: &str, text: &str) -> Result<()> {
    let file = modest_qemu::project().join("docs/benchmarks.md");
    let old = std::fs::read_to_string(&file).unwrap_or("# Benchmarks\n".into());
    let (begin, end) =
        (format!("<!-- {name}: scripts/bench writes from here -->\n"), format!("<!-- {name}: to here -->\n"));
    let (before, after) = match old.split_once(&begin) {
        Some((before, rest)) => {
            let (_, after) = rest.split_once(&end).with_context(|| format!("{}: no {end}", file.display()))?;
            (before.to_string(), after)
        }
        None => (format!("{old}\n"), ""),
    };
    std::fs::write(&file, format!("{before}{begin}{text}{end}{after}")).with_context(|| format!("{}", file.display()))
}
