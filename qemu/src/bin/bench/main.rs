//! What `scripts/bench` runs once all is built and fetched: one benchmark, whose figures go to `docs/benchmarks.md`.

mod machine;
mod memory;
mod speed;

use anyhow::{Context, Result, bail};
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
