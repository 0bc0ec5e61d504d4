//! The making of an image.

use std::fs;

use anyhow::{Context, Result, bail};

use super::archive::{Archive, Node, S_IFCHR, S_IFDIR, S_IFMT, S_IFREG};
use super::contents::Contents;
use super::firmware::firmware_files;
use super::include;
use super::init::check_init;
use super::options::{Extra, Options};
use super::places::MANIFEST;
use crate::board::{Board, KernelSpec};
use crate::check::{Checked, Problem, Report};
use crate::codec::encode;
use crate::kernel::Tree;
use crate::module::file::ModuleFile;
use crate::module::strip::Refusal;

/// An initramfs.
#[derive(Clone, Debug)]
pub struct Image {
    /// What to write to a file.
    pub bytes: Vec<u8>,
    /// Its resolved manifest.
    pub manifest: String,
    /// Number of modules.
    pub modules: usize,
    /// Number of those that its manifest does not load.
    pub included: usize,
    /// Length of their files together.
    pub modules_file_bytes: u64,
    /// Length of their images together.
    pub modules_image_bytes: u64,
    /// By how much stripping made these shorter.
    pub modules_saved_bytes: u64,
    /// What a person might want to know.
    pub notes: Vec<String>,
}

/// What is wrong with the modules of the image that [`build`] would make.
pub fn check(board: &Board, kernel: &KernelSpec, tree: &Tree, options: &Options) -> Result<Report> {
    let contents = Contents::of(board, kernel, tree, options)?;
    let problems = contents.problems(board, kernel, tree, options)?;
    let modules = contents.files.into_iter().map(|ModuleFile { file, info, .. }| Checked { file, info, map: None });
    Ok(Report { modules: modules.collect(), problems })
}

/// Makes the image of a board with the modules of `tree`. If the kernel would refuse one of them, that is an error, which
/// tells all that is wrong; or with [`Options::force`], a note.
pub fn build(board: &Board, kernel: &KernelSpec, tree: &Tree, options: &Options) -> Result<Image> {
    let contents = Contents::of(board, kernel, tree, options)?;
    let problems = contents.problems(board, kernel, tree, options)?;
    if !options.force {
        refuse(&problems)?;
    }
    let Contents { files, loaded, text, manifest, has_tables, mut notes, .. } = contents;
    notes.extend(problems.iter().map(Problem::to_string));
    notes.extend(not_stripped(&files));
    let mut archive = Archive::default();
    add_base(&mut archive, board, options)?;
    archive.file(MANIFEST, 0o644, text)?;
    if has_tables {
        for (path, bytes) in include::tables(tree, &files, &options.config_folders())? {
            archive.file(&path, 0o644, bytes)?;
        }
    }
    for ModuleFile { file, bytes, .. } in &files {
        archive.file(&format!("{}/{file}", tree.target_dir()), 0o644, bytes.clone())?;
    }
    notes.extend(add_firmware(&mut archive, &files, &tree.release, options)?);
    for Extra { path, mode, bytes } in &options.extra {
        let kind = if mode & S_IFMT == 0 { S_IFREG } else { 0 };
        archive.add(path, Node { mode: mode | kind, bytes: bytes.clone(), ..Node::default() })?;
    }
    Ok(Image {
        bytes: encode(&archive.write()?, options.compress)?,
        manifest,
        modules: files.len(),
        included: files.len() - loaded,
        modules_file_bytes: files.iter().map(|file| file.bytes.len() as u64).sum(),
        modules_image_bytes: files.iter().map(|file| file.image_bytes).sum(),
        modules_saved_bytes: files.iter().map(|file| file.saved_bytes).sum(),
        notes,
    })
}

/// An error that tells all problems, if there are any; warnings are none.
fn refuse(problems: &[Problem]) -> Result<()> {
    let lines: String = problems.iter().filter(|one| one.is_problem()).map(|one| format!("\n{one}")).collect();
    if !lines.is_empty() {
        bail!(
            "modules that the kernel would refuse, or not run as asked; --force makes the image all the same:{lines}"
        );
    }
    Ok(())
}

/// What a person might want to know of modules that should have been stripped.
fn not_stripped(files: &[ModuleFile]) -> Vec<String> {
    let mut notes = Vec::new();
    for ModuleFile { file, not_stripped, .. } in files {
        match not_stripped {
            None | Some(Refusal::Signed) => {}
            Some(refusal) => notes.push(format!("{file} is not stripped: {refusal}")),
        }
    }
    match files.iter().filter(|file| file.not_stripped == Some(Refusal::Signed)).count() {
        0 => {}
        signed => notes.push(format!("{signed} of {} modules are signed, and not stripped", files.len())),
    }
    notes
}

/// Adds the init, the folders that it mounts on, and the devices that it needs before.
fn add_base(archive: &mut Archive, board: &Board, options: &Options) -> Result<()> {
    let init = fs::read(&options.init).with_context(|| {
        format!("{}: expected modest, which scripts/build makes, or what --init names", options.init.display())
    })?;
    check_init(&init, board.arch).with_context(|| format!("{}", options.init.display()))?;
    archive.file(&options.init_at, 0o755, init)?;
    for dir in ["/dev", "/proc", "/sys"] {
        archive.add(dir, Node { mode: S_IFDIR | 0o755, ..Node::default() })?;
    }
    // The kernel opens the console for init before any init could make it.
    for (path, mode, device) in
        [("/dev/console", 0o600, (5, 1)), ("/dev/null", 0o666, (1, 3)), ("/dev/kmsg", 0o644, (1, 11))]
    {
        archive.add(path, Node { mode: S_IFCHR | mode, device, bytes: Vec::new() })?;
    }
    Ok(())
}

/// Adds the firmware that modules name, from the folder of [`Options::firmware`]; without that, a note names it.
fn add_firmware(
    archive: &mut Archive, files: &[ModuleFile], release: &str, options: &Options,
) -> Result<Option<String>> {
    let mut missing = Vec::new();
    for wanted in files.iter().flat_map(|module| &module.info.firmware) {
        let Some(dir) = &options.firmware else {
            if !missing.contains(wanted) {
                missing.push(wanted.clone());
            }
            continue;
        };
        for (name, path) in firmware_files(dir, wanted, release)? {
            let bytes = fs::read(&path).with_context(|| format!("{}", path.display()))?;
            archive.file(&format!("/lib/firmware/{name}"), 0o644, bytes)?;
        }
    }
    let names = missing.join(", ");
    Ok((!missing.is_empty())
        .then(|| format!("firmware that modules may ask for and that is not in the image: {names}")))
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
