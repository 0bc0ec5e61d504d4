//! Firmware files on the build host.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The files in `dir` that a module means by `wanted`, a name or a pattern: the name of each there, and its path. Compressed
/// ones stay so. They are where the kernel looks: in the folders for updates and for its release, and in `dir` itself
/// (`fw_path` of drivers/base/firmware_loader/main.c). A name that leads out of the folder has no files,
/// as the kernel refuses it (`name_contains_dotdot`, there too).
pub(crate) fn firmware_files(dir: &Path, wanted: &str, release: &str) -> Result<Vec<(String, PathBuf)>> {
    if wanted.split('/').any(|part| part == "..") {
        return Ok(Vec::new());
    }
    let dir_pattern = glob::Pattern::escape(dir.to_str().with_context(|| format!("{}: not UTF-8", dir.display()))?);
    let mut found = Vec::new();
    let folders = [format!("updates/{release}/"), "updates/".into(), format!("{release}/"), String::new()];
    let places = ["", ".xz", ".zst"].into_iter().flat_map(|ending| folders.iter().map(move |folder| (folder, ending)));
    for (folder, ending) in places {
        for path in glob::glob(&format!("{dir_pattern}/{}{wanted}{ending}", glob::Pattern::escape(folder)))? {
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
        for folder in ["updates/6.1.0", "6.1.0", "6.2.0"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        for file in [
            "secret",
            "firmware/a.bin",
            "firmware/updates/6.1.0/u.bin",
            "firmware/updates/u.bin.xz",
            "firmware/6.1.0/u.bin",
            "firmware/6.2.0/u.bin",
        ] {
            fs::write(tmp.path().join(file), "").unwrap();
        }
        let names = |wanted| -> Vec<_> {
            firmware_files(&dir, wanted, "6.1.0").unwrap().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names("a*"), ["a.bin"]);
        assert_eq!(names("u.bin"), ["updates/6.1.0/u.bin", "6.1.0/u.bin", "updates/u.bin.xz"]);
        assert!(names("../secret").is_empty() && names("x/../../s*").is_empty());
    }
}
