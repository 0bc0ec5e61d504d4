//! `mkmodest completions`.

use anyhow::Result;
use clap_complete::Shell;

/// Prints what completes mkmodest's commands and options in a shell
///
/// In bash: `source <(mkmodest completions bash)`.
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs the command; returns the exit code.
pub fn run(args: Args, command: &mut clap::Command) -> Result<u8> {
    let Args { shell } = args;
    clap_complete::generate(shell, command, "mkmodest", &mut std::io::stdout());
    Ok(0)
}
