//! `mkmodest check`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use modest_loader::name::strip_ko;

use super::args::Choice;
use super::make::chosen;
use crate::board::Board;
use crate::check::Report;
use crate::codec;
use crate::image::{self, Initramfs};
use crate::kernel::KernelSymbols;

/// Tells what modules are, and what the kernel would refuse about them (docs/checks.md)
///
/// Of module files: each by itself. Of an initramfs: the modules that its manifest loads, in its order, and those for
/// later. Of a board: the modules of the image that `mkmodest image` would make. Exit codes: 0 nothing keeps a module from
/// being loaded, 1 something does, 2 something was missing or wrong.
#[derive(clap::Args)]
pub struct Args {
    /// Files of modules, an initramfs, or a board
    #[arg(required = true, value_name = "FILE|IMAGE|BOARD")]
    what: Vec<String>,
    /// Which of the board's kernels [default: its first]
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    #[command(flatten)]
    choice: Choice,
    /// Of module files, prints where the kernel puts sections and symbols
    #[arg(long)]
    map: bool,
    /// Prints all as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command; returns the exit code.
pub fn run(args: Args) -> Result<u8> {
    let Args { what, kernel, choice, map, json } = args;
    let mut reports = Vec::new();
    for what in &what {
        let asked = Asked { kernel: kernel.as_deref(), choice: &choice, map };
        reports.push(asked.checked(what)?);
    }
    let (modules, problems) = reports.into_iter().map(|report| (report.modules, report.problems)).unzip();
    let (modules, problems): (Vec<Vec<_>>, Vec<Vec<_>>) = (modules, problems);
    let report = Report { modules: modules.concat(), problems: problems.concat() };
    match json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => tell(&what, &report),
    }
    Ok(report.has_problem().into())
}

/// What is asked of each thing that is checked.
struct Asked<'a> {
    kernel: Option<&'a str>,
    choice: &'a Choice,
    map: bool,
}

impl Asked<'_> {
    /// Checks a module's file, an initramfs or a board, whichever `what` is.
    fn checked(&self, what: &str) -> Result<Report> {
        let path = Path::new(what);
        if what.ends_with(".toml") || !path.exists() && !what.contains('/') && strip_ko(what).is_none() {
            ensure!(!self.map, "{what} is a board; --map is for a module's file");
            let board = Board::load(what)?;
            let (tree, mut options) = chosen(&board, self.kernel, self.choice, PathBuf::new())?;
            // What the file itself says is what is checked.
            options.add_suppliers &= board.suppliers == Some(true);
            return image::check(&board, board.kernel_spec(self.kernel)?, &tree, &options);
        }
        let bytes = std::fs::read(path).with_context(|| what.to_string())?;
        if strip_ko(what).is_none()
            && let Some(format) = codec::foreign(&bytes)
        {
            bail!("{what}: it is compressed by {format}, which mkmodest does not read; decompress it first");
        }
        if strip_ko(what).is_some() || !Initramfs::is_one(&bytes) {
            self.takes(what, "a module's file", &["--map"])?;
            return Report::of_file(what, &bytes, self.map);
        }
        self.takes(what, "an initramfs", &["--symbols"])?;
        let symbols = self.choice.symbols.as_deref().map(KernelSymbols::read).transpose()?;
        Initramfs::read(&bytes).and_then(|image| image.check(symbols.as_ref())).with_context(|| what.to_string())
    }

    /// An error if an option is given that means nothing for `kind`, which `what` is.
    fn takes(&self, what: &str, kind: &str, options: &[&str]) -> Result<()> {
        let mut given = self.choice.given();
        given.extend(self.kernel.map(|_| "--kernel"));
        given.extend(self.map.then_some("--map"));
        match given.into_iter().find(|option| !options.contains(option)) {
            Some(option) => bail!("{what} is {kind}, for which {option} means nothing; leave it out"),
            None => Ok(()),
        }
    }
}

/// Prints a report for people: of modules that were named all, of a set what is wrong with it.
fn tell(what: &[String], report: &Report) {
    for module in &report.modules {
        if what.contains(&module.file) {
            print!("{module}");
        }
    }
    for problem in &report.problems {
        println!("{}: {problem}", if problem.is_problem() { "problem" } else { "warning" });
    }
    let problems = report.problems.iter().filter(|problem| problem.is_problem()).count();
    let warnings = report.problems.len() - problems;
    println!("{} modules, {problems} problems, {warnings} warnings", report.modules.len());
}
