//! `mkmodest`: the library's command line, its errors and its exit code.

use std::process::ExitCode;

use clap::Parser;
use mkmodest::commands::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("mkmodest: {error:#}");
            ExitCode::from(2)
        }
    }
}
