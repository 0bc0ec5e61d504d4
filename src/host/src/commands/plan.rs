//! `mkmodest plan`.

use std::path::PathBuf;

use anyhow::Result;
use clap::builder::PossibleValuesParser;

use super::make::{devices, find_tree};
use super::way;
use crate::board::Board;
use crate::image::plan::{Plan, Source};
use crate::kernel::config_files::given;
use crate::kernel::modprobe::Database;
use crate::kernel::{KernelPackage, KernelSymbols};

/// Prints what to load for modules and aliases, in order, as modprobe resolves them
#[derive(clap::Args)]
pub struct Args {
    /// A folder of modules, or one with one lib/modules/VERSION; depmod need not have run [default: the tree of --board]
    #[arg(long, value_name = "DIR", required_unless_present = "board")]
    modules: Option<PathBuf>,
    /// The board whose kernel's modules are meant
    #[arg(long, value_name = "BOARD")]
    board: Option<String>,
    /// Which of the board's kernels [default: its first]; with --modules, which VERSION of the folder's lib/modules
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// A folder with files of modprobe.d; of files of the same name the first counts
    #[arg(long, value_name = "DIR")]
    config: Vec<PathBuf>,
    /// A file of modprobe.d of any name, such as Android's modules.options and modules.blocklist
    #[arg(long, value_name = "FILE")]
    config_file: Vec<PathBuf>,
    /// What is on the kernel command line
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    cmdline: String,
    /// As a manifest, or as the lines that `modprobe -D` prints
    #[arg(long, value_name = "FORMAT", default_value = "manifest",
        value_parser = PossibleValuesParser::new(["manifest", "modprobe"]))]
    format: String,
    /// Also what the devices of this device tree need on the way to their disks, first in order
    #[arg(long, value_name = "FILE")]
    dtb: Option<PathBuf>,
    /// With --dtb: only the disk of this device, by the name, path or alias of its node
    #[arg(long, value_name = "NODE", requires = "dtb")]
    root: Option<String>,
    /// With --dtb: what all devices need
    #[arg(long, requires = "dtb")]
    all: bool,
    /// Modules or aliases
    #[arg(required_unless_present = "dtb", value_name = "NAME")]
    names: Vec<String>,
}

/// Runs the command; returns the exit code.
pub fn run(args: Args) -> Result<u8> {
    let Args { modules, board, kernel, config, config_file, cmdline, format, dtb, root, all, mut names } = args;
    let tree = match (modules, board) {
        (Some(dir), _) => find_tree(&kernel.map_or(dir.clone(), |kernel| dir.join("lib/modules").join(kernel)))?,
        (None, board) => KernelPackage::find(&Board::load(&board.unwrap_or_default())?, kernel.as_deref())?.tree,
    };
    if let Some(file) = dtb {
        let (symbols, _) = KernelSymbols::find(&tree, None);
        let devices = devices(Some(&file), &tree, symbols.as_ref())?;
        names.splice(0..0, way::modules(&devices, root.as_deref(), all)?);
    }
    let (config, files) = given(&config, &config_file)?;
    let config: Vec<_> = config.iter().map(PathBuf::as_path).collect();
    let database = Database::read(&tree, &config, &cmdline, &mut |line| {
        eprintln!("{}", files.as_ref().map_or(line.clone(), |files| files.named(&line)));
    })?;
    if format == "modprobe" {
        for name in &names {
            print!("{}", database.show_depends(name)?);
        }
    } else {
        print!("{}", Plan::resolve(&Source::names(&names), &tree, &database)?.listing(&tree)?);
    }
    Ok(0)
}
