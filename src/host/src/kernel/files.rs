//! The files of a tree.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use modest_loader::name;

/// The text of `modules.order` in `dir`; empty if there is none.
pub(crate) fn order(dir: &Path) -> Result<String> {
    let path = dir.join("modules.order");
    let bytes = read_if_there(&path)?.unwrap_or_default();
    String::from_utf8(bytes).with_context(|| path.display().to_string())
}

pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).with_context(|| path.display().to_string()),
    }
}

/// The paths of all modules below the folder `dir`, sorted.
pub fn module_files(dir: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    add_files(&mut files, dir, "")?;
    files.sort();
    Ok(files)
}

/// Adds the modules in the folder `dir` and below, as paths behind `prefix`.
fn add_files(files: &mut Vec<String>, dir: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry.with_context(|| dir.display().to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            // Links to the kernel's sources, with objects of all kinds.
            if !matches!(&*name, "build" | "source") {
                add_files(files, &path, &format!("{prefix}{name}/"))?;
            }
        } else if name::strip_ko(&name).is_some() {
            ensure!(path.to_str().is_some(), "{}: its name is not UTF-8", path.display());
            files.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}
