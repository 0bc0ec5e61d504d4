//! `mkmodest image`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use modest_loader::format::Format;

use super::args::{How, What};
use super::make::{make, summary};
use crate::board::Board;

/// Makes an initramfs: modest, the resolved manifest, its modules, what is included, and their firmware
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
    /// Where to write it [default: modest-BOARD.cpio, with the ending of its compression]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs the command; returns the exit code.
pub fn run(args: Args) -> Result<u8> {
    let Args { what, how, output } = args;
    let board = Board::load(&what.board)?;
    let (tree, image) = make(&board, &what, &how)?;
    let ending = match how.compress {
        Format::Plain => "",
        compressed => compressed.ending(),
    };
    let output = output.unwrap_or(format!("modest-{}.cpio{ending}", board.name).into());
    std::fs::write(&output, &image.bytes).with_context(|| format!("{}", output.display()))?;
    println!("{}, Linux {}: {}", board.name, tree.release, summary(&image));
    println!("{}", output.display());
    Ok(0)
}
