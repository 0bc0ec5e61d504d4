//! The command line of `mkmodest`: what it takes, and what is said of it. What it does is in the binary.

// Their documentation is the help, which clap would take from more than the help.
#![allow(missing_docs)]

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use modest_loader::format::Format;

use crate::strip::Strip;
use crate::{disk, image};

/// Makes initramfs images with modest as their init, and boots them in QEMU.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Cmd,
}

#[derive(Subcommand)]
pub enum Cmd {
    /// Makes an initramfs: modest, the resolved manifest, its modules, what is included, and their firmware
    Image {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        how: How,
        /// Where to write it [default: modest-BOARD.cpio, with the ending of its compression]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Boots a board in QEMU until its root says that the hand-over worked
    ///
    /// Exit codes: 0 the marker showed, 1 QEMU ended without it, 2 something was missing or wrong, 3 the time limit came
    /// first.
    Boot {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        how: How,
        /// Boots this initramfs instead of making one
        #[arg(long, value_name = "FILE")]
        image: Option<PathBuf>,
        /// Attaches this disk instead of making one; the guest writes to it
        #[arg(long, value_name = "FILE")]
        disk: Option<PathBuf>,
        /// Adds this to the kernel's command line
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, allow_hyphen_values = true)]
        append: String,
        /// How long the boot may take, in seconds [default: what the board says]
        #[arg(long, value_name = "N")]
        timeout_s: Option<u64>,
        /// The text on the console that means success
        #[arg(long, value_name = "TEXT", default_value = disk::MARKER)]
        marker: String,
    },
    /// Prints what to load for modules and aliases, in order, as modprobe resolves them
    Plan {
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
        /// What is on the kernel command line
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, allow_hyphen_values = true)]
        cmdline: String,
        /// As a manifest, or as the lines that `modprobe -D` prints
        #[arg(long, value_name = "FORMAT", default_value = "manifest",
            value_parser = PossibleValuesParser::new(["manifest", "modprobe"]))]
        format: String,
        /// Modules or aliases
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Tells what modules are, and what the kernel would refuse about them (docs/checks.md)
    ///
    /// Of module files: each by itself. Of an initramfs: the modules that its manifest loads, in its order, and those for
    /// later. Of a board: the modules of the image that `mkmodest image` would make. Exit codes: 0 nothing keeps a module from
    /// being loaded, 1 something does, 2 something was missing or wrong.
    Check {
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
    },
    /// Prints what a board's image is made of: `target TARGET`, `kernel SUITE ARCHITECTURE PACKAGE`, `build NAME`
    ///
    /// Each is a line of its own; scripts/build, scripts/kernel and scripts/small-kernel take what follows the word.
    Needs {
        /// Boards, by name or file [default: all, with all of their kernels]
        boards: Vec<String>,
        /// Which of the boards' kernels [default: their first]
        #[arg(long, value_name = "NAME")]
        kernel: Option<String>,
    },
    /// Prints what completes mkmodest's commands and options in a shell
    ///
    /// In bash: `source <(mkmodest completions bash)`.
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Args)]
pub struct What {
    /// A board's name, looked up in ./boards or $MODEST_BOARDS, or the path of a board file
    pub board: String,
    /// Which of the board's kernels [default: its first]
    #[arg(long, value_name = "NAME")]
    pub kernel: Option<String>,
}

/// Which modules are meant.
#[derive(Args)]
pub struct Choice {
    /// Modules of another kernel: a folder of them, or one with one lib/modules/VERSION; depmod need not have run
    #[arg(long, value_name = "DIR")]
    pub kernel_modules: Option<PathBuf>,
    /// Adds a module for later and what it needs, beside what the manifest loads and the board includes (docs/images.md):
    /// a name, an alias, or with a / in it a pattern of paths in the tree
    #[arg(long, value_name = "NAME")]
    pub include: Vec<String>,
    /// A folder with files of modprobe.d; of files of the same name the first counts
    #[arg(long, value_name = "DIR")]
    pub config: Vec<PathBuf>,
    /// Adds the firmware that modules name, as far as it is in this folder
    #[arg(long, value_name = "DIR")]
    pub firmware: Option<PathBuf>,
    /// Refuses modules for any file of theirs that --firmware lacks, not only if it has none of theirs
    #[arg(long, requires = "firmware")]
    pub require_firmware: bool,
    /// Takes modules and directives from this manifest instead of the board
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// What the kernel itself exports: a Module.symvers, a System.map or a kernel [default: what is beside the modules, or the
    /// board's kernel]
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,
}

#[derive(Args)]
pub struct How {
    #[command(flatten)]
    pub choice: Choice,
    /// Makes an image of modules that the kernel would refuse, too; what is wrong is told
    #[arg(long)]
    pub force: bool,
    /// The program to become /init [default: target/TARGET/size/modest]
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Where it is in the image, for an image that is put behind another one, whose /init stays (docs/hooks.md)
    #[arg(long, value_name = "PATH", default_value = image::INIT)]
    pub init_at: String,
    /// The format of modules in the image
    #[arg(long, value_name = "FORMAT", default_value = "keep", value_parser = modules_as())]
    pub modules_as: Wanted,
    /// Leaves out of unsigned modules what the kernel does not use; =btf, the types for BPF too (docs/strip.md)
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "debug",
        value_parser = strip())]
    pub strip: Option<Strip>,
    /// Gives each entry the digest of its module, without which the target does not load it
    #[arg(long)]
    pub pin: bool,
    /// The compression of the image
    #[arg(long, value_name = "FORMAT", default_value = "none", value_parser = compress())]
    pub compress: Format,
}

/// A format to change to, if any.
#[derive(Clone, Copy)]
pub struct Wanted(pub Option<Format>);

fn modules_as() -> impl TypedValueParser<Value = Wanted> {
    PossibleValuesParser::new(["keep", "plain", "gzip", "xz", "zstd"]).map(|name| {
        Wanted(match name.as_str() {
            "plain" => Some(Format::Plain),
            "gzip" => Some(Format::Gzip),
            "xz" => Some(Format::Xz),
            "zstd" => Some(Format::Zstd),
            _ => None,
        })
    })
}

fn strip() -> impl TypedValueParser<Value = Strip> {
    PossibleValuesParser::new(["debug", "btf"]).map(|name| match name.as_str() {
        "btf" => Strip::Btf,
        _ => Strip::Debug,
    })
}

fn compress() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(["none", "gzip", "xz", "zstd"]).map(|name| match name.as_str() {
        "gzip" => Format::Gzip,
        "xz" => Format::Xz,
        "zstd" => Format::Zstd,
        _ => Format::Plain,
    })
}
