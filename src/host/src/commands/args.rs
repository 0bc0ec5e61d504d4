//! The options that several commands have, about an image.

// Their documentation is the help, which clap would take from more than the help.
#![allow(missing_docs)]

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use modest_loader::format::Format;

use crate::image;
use crate::module::strip::Strip;

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
    /// a name, an alias, or with a / in it a folder or a pattern of paths in the tree
    #[arg(long, value_name = "NAME")]
    pub include: Vec<String>,
    /// A folder with files of modprobe.d; of files of the same name the first counts
    #[arg(long, value_name = "DIR")]
    pub config: Vec<PathBuf>,
    /// A file of modprobe.d of any name, such as Android's modules.options and modules.blocklist
    #[arg(long, value_name = "FILE")]
    pub config_file: Vec<PathBuf>,
    /// Makes an image without the modules of entries that the kernel's tree lacks; each is reported
    #[arg(long)]
    pub allow_missing: bool,
    /// Adds the firmware that modules name, as far as it is in this folder
    #[arg(long, value_name = "DIR")]
    pub firmware: Option<PathBuf>,
    /// Refuses modules for any file of theirs that --firmware lacks, not only if it has none of theirs
    #[arg(long, requires = "firmware")]
    pub require_firmware: bool,
    /// The board's device tree, whose devices are checked for their suppliers [default: what the board file names]
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// Leaves out the modules of suppliers that the device tree names and the board does not list (docs/devices.md)
    #[arg(long)]
    pub no_suppliers: bool,
    /// Takes modules and directives from this manifest instead of the board
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// What the kernel itself exports: a Module.symvers, a System.map or a kernel [default: what is beside the modules, or the
    /// board's kernel]
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,
}

impl Choice {
    /// The options that are given.
    pub fn given(&self) -> Vec<&'static str> {
        // All are named, so that a new one is missed by the compiler.
        let Choice {
            kernel_modules,
            include,
            config,
            config_file,
            allow_missing,
            firmware,
            require_firmware,
            dtb,
            no_suppliers,
            manifest,
            symbols,
        } = self;
        let all = [
            ("--kernel-modules", kernel_modules.is_some()),
            ("--include", !include.is_empty()),
            ("--config", !config.is_empty()),
            ("--config-file", !config_file.is_empty()),
            ("--allow-missing", *allow_missing),
            ("--firmware", firmware.is_some()),
            ("--require-firmware", *require_firmware),
            ("--dtb", dtb.is_some()),
            ("--no-suppliers", *no_suppliers),
            ("--manifest", manifest.is_some()),
            ("--symbols", symbols.is_some()),
        ];
        all.into_iter().filter(|(_, is_given)| *is_given).map(|(option, _)| option).collect()
    }
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
