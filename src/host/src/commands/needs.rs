//! `mkmodest needs`.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::board::{self, Board, Origin};

/// Prints what a board's image is made of: `target TARGET`, `kernel SUITE ARCHITECTURE PACKAGE`, `build NAME`
///
/// Each is a line of its own; scripts/build, scripts/kernel and scripts/small-kernel take what follows the word.
#[derive(clap::Args)]
pub struct Args {
    /// Boards, by name or file [default: all, with all of their kernels]
    boards: Vec<String>,
    /// Which of the boards' kernels [default: their first]
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
}

/// Runs the command; returns the exit code.
pub fn run(args: Args) -> Result<u8> {
    let Args { boards, kernel } = args;
    let all = boards.is_empty();
    let mut lines = BTreeSet::new();
    for name in if all { board::names(&board::dir())? } else { boards } {
        let board = Board::load(&name)?;
        lines.insert(format!("target {}", board.arch.target()));
        let kernels = if all { board.kernels.iter().collect() } else { vec![board.kernel_spec(kernel.as_deref())?] };
        lines.extend(kernels.iter().filter_map(|kernel| match &kernel.origin {
            Origin::Package { suite, package } => Some(format!("kernel {suite} {} {package}", board.arch.debian())),
            Origin::Build(name) => Some(format!("build {name}")),
            Origin::Folder(_) => None,
        }));
    }
    lines.iter().for_each(|line| println!("{line}"));
    Ok(0)
}
