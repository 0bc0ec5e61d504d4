//! The configuration that a user names: folders with files of modprobe.d, and single files of any name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use modest_loader::resolve::tree::is_config;
use tempfile::TempDir;

/// Copies of single files, under names that modprobe reads.
#[derive(Debug)]
pub struct ConfigFiles {
    folder: TempDir,
    /// Each copy, and the file that it is of.
    files: Vec<(String, String)>,
}

impl ConfigFiles {
    /// Copies `files`, of which each has another name.
    fn copy(files: &[PathBuf]) -> Result<ConfigFiles> {
        let mut copies = ConfigFiles { folder: TempDir::new()?, files: Vec::new() };
        for file in files {
            let shown = file.display().to_string();
            let name = file.file_name().and_then(|name| name.to_str());
            let name = name.with_context(|| format!("--config-file {shown}: expected a file with a name in UTF-8"))?;
            let text = fs::read(file).with_context(|| format!("--config-file {shown}"))?;
            let name = if is_config(name) { name.into() } else { format!("{}.conf", name.trim_start_matches('.')) };
            let copy = copies.folder.path().join(name);
            ensure!(!copy.exists(), "--config-file {shown}: a second file of that name; expected other names");
            fs::write(&copy, as_modprobe(&text)).with_context(|| shown.clone())?;
            copies.files.push((copy.display().to_string(), shown));
        }
        Ok(copies)
    }

    /// A message, with the files' own names in place of the copies'.
    pub fn named(&self, message: &str) -> String {
        self.files.iter().fold(message.into(), |message, (copy, file)| message.replace(copy, file))
    }
}

/// A file's lines with the words of modprobe.d: Android's libmodprobe reads `blocklist` for `blacklist`.
fn as_modprobe(text: &[u8]) -> Vec<u8> {
    let line = |line: &[u8]| match line.trim_ascii_start().strip_prefix(b"blocklist") {
        Some(rest) if rest.first().is_some_and(u8::is_ascii_whitespace) => [b"blacklist", rest].concat(),
        _ => line.to_vec(),
    };
    text.split(|b| *b == b'\n').map(line).collect::<Vec<_>>().join(&b'\n')
}

/// The folders to read configuration from, of `folders` and then of `files`; and what keeps the copies of the latter.
pub fn given(folders: &[PathBuf], files: &[PathBuf]) -> Result<(Vec<PathBuf>, Option<ConfigFiles>)> {
    folders.iter().try_for_each(|folder| check_folder(folder))?;
    if files.is_empty() {
        return Ok((folders.to_vec(), None));
    }
    let copies = ConfigFiles::copy(files)?;
    Ok(([&[copies.folder.path().to_path_buf()], folders].concat(), Some(copies)))
}

/// Checks that a folder is one, and that something in it is read if anything is there.
fn check_folder(folder: &Path) -> Result<()> {
    let shown = folder.display();
    if folder.is_file() {
        bail!("--config {shown}: a file; expected a folder, or --config-file {shown}");
    }
    let mut unread = None;
    for entry in fs::read_dir(folder).with_context(|| format!("--config {shown}"))? {
        let name = entry.with_context(|| format!("--config {shown}"))?.file_name();
        match name.to_str() {
            Some(name) if is_config(name) => return Ok(()),
            _ => unread = unread.or(Some(name)),
        }
    }
    match unread {
        Some(name) => bail!(
            "--config {shown}: no file ends in .conf, so modprobe would read none; rename {}, or pass it by --config-file",
            name.display()
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_not_be_read_is_an_error() {
        let tmp = TempDir::new().unwrap();
        let [none, file, other, empty, good] =
            ["none", "file", "other", "empty", "good"].map(|name| tmp.path().join(name));
        fs::write(&file, "options a b=1\n").unwrap();
        [&other, &empty, &good].iter().for_each(|folder| fs::create_dir(folder).unwrap());
        fs::write(other.join("modules.options"), "").unwrap();
        ["a.conf", "README"].iter().for_each(|name| fs::write(good.join(name), "").unwrap());
        for (folder, says) in [
            (&none, "none: No such file or directory"),
            (&file, "file: a file; expected a folder, or --config-file "),
            (&other, "other: no file ends in .conf, so modprobe would read none; rename modules.options, or pass"),
        ] {
            let error = format!("{:#}", given(std::slice::from_ref(folder), &[]).unwrap_err());
            assert!(error.starts_with("--config /") && error.contains(says), "{error}");
        }
        let folders = [empty, good];
        assert_eq!(given(&folders, &[]).unwrap().0, folders);
    }

    #[test]
    fn files_of_any_name_are_read_as_modprobe_reads_them() {
        let tmp = TempDir::new().unwrap();
        let [options, blocklist] = ["modules.options", "modules.blocklist"].map(|name| tmp.path().join(name));
        fs::write(&options, "options a b=1\n").unwrap();
        fs::write(&blocklist, "# blocklist\nblocklist a_b\n blocklist\tc\nblocklisted d\n").unwrap();
        let (folders, copies) = given(&[], &[options, blocklist.clone()]).unwrap();
        let read = |name: &str| fs::read_to_string(folders[0].join(name)).unwrap();
        assert_eq!(read("modules.options.conf"), "options a b=1\n");
        assert_eq!(read("modules.blocklist.conf"), "# blocklist\nblacklist a_b\nblacklist\tc\nblocklisted d\n");
        let message = format!("{}/modules.blocklist.conf:4: x", folders[0].display());
        assert_eq!(copies.unwrap().named(&message), format!("{}:4: x", blocklist.display()));
        let twice = given(&[], &[blocklist.clone(), blocklist]).unwrap_err().to_string();
        assert!(twice.ends_with("a second file of that name; expected other names"), "{twice}");
        let none = format!("{:#}", given(&[], &[tmp.path().join("none")]).unwrap_err());
        assert!(none.starts_with("--config-file /") && none.contains("/none: No such file"), "{none}");
    }
}
