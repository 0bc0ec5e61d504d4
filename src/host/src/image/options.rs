//! What an image is made of, but for its board.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use modest_loader::format::Format;

use super::places::INIT;
use crate::board::Arch;
use crate::device_tree::Devices;
use crate::kernel::config_files::ConfigFiles;
use crate::kernel::{KernelConfig, KernelSymbols};
use crate::module::file::Change;

/// What an image is made of, but for its board.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program to become `/init`.
    pub init: PathBuf,
    /// Where it is in the image: [`INIT`], or where something else is the init.
    pub init_at: String,
    /// What to change in modules.
    pub change: Change,
    /// Whether each entry of the manifest gets the digest of its module.
    pub pin: bool,
    /// How the archive is compressed.
    pub compress: Format,
    /// A manifest in place of the board's modules: its name, for messages, and its text.
    pub manifest: Option<(String, Vec<u8>)>,
    /// The text to put in place of the resolved manifest, as it is.
    pub verbatim_manifest: Option<Vec<u8>>,
    /// Modules to put in beside those that the manifest loads and what the board includes: names, aliases, or patterns of paths
    /// in the tree.
    pub include: Vec<String>,
    /// Folders with files of modprobe.d.
    pub config: Vec<PathBuf>,
    /// Single files of configuration, whose folder is the first of [`Options::config`].
    pub config_files: Option<Arc<ConfigFiles>>,
    /// Whether entries are left out that the tree has no module for.
    pub allow_missing: bool,
    /// Where the firmware is that modules ask for.
    pub firmware: Option<PathBuf>,
    /// The devices that the board has, as far as a device tree tells them.
    pub devices: Option<Arc<Devices>>,
    /// Whether the modules of suppliers are added that the devices need.
    pub add_suppliers: bool,
    /// What the kernel was built with, where that is known.
    pub kernel_config: Option<Arc<KernelConfig>>,
    /// What tells the symbols that the kernel exports.
    pub symbols: Option<Arc<KernelSymbols>>,
    /// Whether firmware that is missing from [`Options::firmware`] is a problem, whatever else is there.
    pub require_firmware: bool,
    /// Whether an image is made of modules that the kernel would refuse, too.
    pub force: bool,
    /// Further files, which replace others of the same path.
    pub extra: Vec<Extra>,
}

/// A file to add to an image.
#[derive(Clone, Debug)]
pub struct Extra {
    /// Its absolute path; folders on the way are added.
    pub path: String,
    /// Its permissions, and if it is no regular file its type.
    pub mode: u32,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl Options {
    /// Everything as the board says, modules as they are, not compressed.
    pub fn new(init: PathBuf) -> Options {
        Options {
            init,
            init_at: INIT.into(),
            change: Change::default(),
            pin: false,
            compress: Format::Plain,
            manifest: None,
            verbatim_manifest: None,
            include: Vec::new(),
            config: Vec::new(),
            config_files: None,
            allow_missing: false,
            firmware: None,
            devices: None,
            add_suppliers: true,
            kernel_config: None,
            symbols: None,
            require_firmware: false,
            force: false,
            extra: Vec::new(),
        }
    }

    pub(crate) fn config_folders(&self) -> Vec<&Path> {
        self.config.iter().map(PathBuf::as_path).collect()
    }

    /// A message about configuration, with the names of the files that the user has.
    pub(crate) fn named(&self, message: &str) -> String {
        self.config_files.as_ref().map_or(message.into(), |files| files.named(message))
    }
}

/// Where a build leaves modest for that processor.
pub fn default_init(arch: Arch) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into());
    Path::new(&target).join(arch.target()).join("size/modest")
}
