//! Firmware files on the build host.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The files in `dir` that a module means by `wanted`, a name or a pattern: the name of each there, and its path. Compressed
/// ones stay so. What leads out of the folder is none, for the kernel too (`name_contains_dotdot` of
/// drivers/base/firmware_loader/main.c).
pub(crate) fn firmware_files(dir: &Path, wanted: &str) -> Result<Vec<(String, PathBuf)>> {
    if wanted.split('/').any(|part| part == "..") {
        return Ok(Vec::new());
    }
    let dir_pattern = glob::Pattern::escape(dir.to_str().with_context(|| format!("{}: not UTF-8", dir.display()))?);
    let mut found = Vec::new();
    for ending in ["", ".xz", ".zst"] {
        for path in glob::glob(&format!("{dir_pattern}/{wanted}{ending}"))? {
            let path = path?;
            if path.is_file() {
                found.push((path.strip_prefix(dir)?.to_string_lossy().into_owned(), path));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn firmware_is_from_the_folder_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("firmware");
        fs::create_dir(&dir).unwrap();
        for file in ["secret", "firmware/a.bin"] {
            fs::write(tmp.path().join(file), "").unwrap();
        }
        let names =
            |wanted| -> Vec<_> { firmware_files(&dir, wanted).unwrap().into_iter().map(|(name, _)| name).collect() };
        assert_eq!(names("a*"), ["a.bin"]);
        assert!(names("../secret").is_empty() && names("x/../../s*").is_empty());
    }
}
