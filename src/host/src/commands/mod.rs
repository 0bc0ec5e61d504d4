//! The command line: one file for each command, with what it takes, what its help says, and what it does.

// Their documentation is the help, which clap would take from more than the help.
#![allow(missing_docs)]

mod args;
mod board;
mod boot;
mod check;
mod completions;
mod image;
mod make;
mod needs;
mod plan;
mod timed;
mod way;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

/// Makes initramfs images with modest as their init, and boots them in QEMU.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Image(image::Args),
    Boot(boot::Args),
    Board(board::Args),
    Plan(plan::Args),
    Check(check::Args),
    Needs(needs::Args),
    Completions(completions::Args),
}

impl Cli {
    /// Runs the command; returns the exit code.
    pub fn run(self) -> Result<u8> {
        match self.command {
            Command::Image(args) => image::run(args),
            Command::Boot(args) => boot::run(args),
            Command::Board(args) => board::run(args),
            Command::Plan(args) => plan::run(args),
            Command::Check(args) => check::run(args),
            Command::Needs(args) => needs::run(args),
            Command::Completions(args) => completions::run(args, &mut Cli::command()),
        }
    }
}
