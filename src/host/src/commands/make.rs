//! Images, made as the options of several commands say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::args::{Choice, How, What};
use super::timed::Timed;
use crate::board::Board;
use crate::device_tree::{Devices, Drivers};
use crate::image::{self, Image, Options};
use crate::kernel::{KernelConfig, KernelPackage, KernelSymbols, Tree, config_files};
use crate::module::file::Change;

/// The modules in a folder; each file that none of their indexes has is reported.
pub fn find_tree(dir: &Path) -> Result<Tree> {
    let tree = Tree::find(dir)?;
    tree.passed_over.iter().for_each(|why| eprintln!("mkmodest: {why}; passed over"));
    Ok(tree)
}

/// The modules that are meant, and what the image is to be made of but for its init.
pub fn chosen(board: &Board, kernel_name: Option<&str>, choice: &Choice, init: PathBuf) -> Result<(Tree, Options)> {
    let (tree, kernel) = match &choice.kernel_modules {
        Some(dir) => (find_tree(dir)?, None),
        None => {
            let kernel = KernelPackage::find(board, kernel_name)?;
            (kernel.tree.clone(), Some(kernel))
        }
    };
    let symbols = match &choice.symbols {
        Some(file) => Some(KernelSymbols::read(file)?),
        None => {
            let (symbols, notes) = KernelSymbols::find(&tree, kernel.as_ref());
            notes.iter().for_each(|note| eprintln!("mkmodest: {note}"));
            symbols
        }
    };
    let device_tree = choice.dtb.clone().or_else(|| kernel.as_ref()?.device_tree());
    let devices = devices(device_tree.as_deref(), &tree, symbols.as_ref())?;
    let (config, copies) = config_files::given(&choice.config, &choice.config_file)?;
    let read = |file: &Path| std::fs::read(file).with_context(|| format!("{}", file.display()));
    let named = |file: &PathBuf| Ok::<_, anyhow::Error>((file.display().to_string(), read(file)?));
    let options = Options {
        manifest: choice.manifest.as_ref().map(named).transpose()?,
        include: choice.include.clone(),
        config,
        config_files: copies.map(Arc::new),
        allow_missing: choice.allow_missing,
        firmware: choice.firmware.clone(),
        require_firmware: choice.require_firmware,
        devices: Some(Arc::new(devices)),
        add_suppliers: !choice.no_suppliers && board.suppliers != Some(false),
        kernel_config: KernelConfig::find(&tree, kernel.as_ref())?.map(Arc::new),
        symbols: symbols.map(Arc::new),
        ..Options::new(init)
    };
    Ok((tree, options))
}

/// The devices of a device tree, and what drives them; without one, the drivers alone.
pub fn devices(file: Option<&Path>, tree: &Tree, symbols: Option<&KernelSymbols>) -> Result<Devices> {
    match file {
        Some(file) => Devices::load(file, Drivers::read(tree, symbols.and_then(KernelSymbols::compatible))?),
        None => Ok(Devices::without_tree(Drivers::read(tree, None)?)),
    }
}

/// Makes the image of a board, and prints its notes.
pub fn make(board: &Board, what: &What, how: &How) -> Result<(Tree, Image)> {
    let timed = Timed::new("making the image");
    let kernel_name = what.kernel.as_deref();
    let init = how.init.clone().unwrap_or_else(|| image::default_init(board.arch));
    let (tree, options) = chosen(board, kernel_name, &how.choice, init)?;
    let options = Options {
        change: Change { format: how.modules_as.0, strip: how.strip },
        init_at: how.init_at.clone(),
        pin: how.pin,
        compress: how.compress,
        force: how.force,
        ..options
    };
    let image = image::build(board, board.kernel_spec(kernel_name)?, &tree, &options)?;
    for note in &image.notes {
        eprintln!("mkmodest: {note}");
    }
    timed.done();
    Ok((tree, image))
}

/// An image in one line.
pub fn summary(image: &Image) -> String {
    let kib = |bytes: u64| format!("{} KiB", bytes.div_ceil(1024));
    let Image { bytes, modules, included, modules_file_bytes, modules_image_bytes, modules_saved_bytes, .. } = image;
    let (files, images) = (kib(*modules_file_bytes), kib(*modules_image_bytes));
    let saved = match *modules_saved_bytes {
        0 => String::new(),
        saved => format!(", {} less by --strip", kib(saved)),
    };
    let later = match included {
        0 => String::new(),
        included => format!(" ({included} for later)"),
    };
    format!("{modules} modules{later} of {files} ({images} uncompressed{saved}), image {}", kib(bytes.len() as u64))
}
