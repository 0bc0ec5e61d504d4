//! The archive that an image is written as (newc, Documentation/driver-api/early-userspace).

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use cpio::newc;

pub const S_IFMT: u32 = 0o170_000;
pub const S_IFREG: u32 = 0o100_000;
pub const S_IFDIR: u32 = 0o040_000;
pub const S_IFCHR: u32 = 0o020_000;

/// Files by path; a folder sorts before what is in it.
#[derive(Debug, Default)]
pub struct Archive(BTreeMap<String, Node>);

/// A file, a folder or a device.
#[derive(Debug, Default)]
pub struct Node {
    pub mode: u32,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    pub bytes: Vec<u8>,
}

impl Archive {
    pub fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) -> Result<()> {
        self.add(path, Node { mode: S_IFREG | mode, bytes, ..Node::default() })
    }

    /// Adds a file by its absolute path, and the folders on the way.
    pub fn add(&mut self, path: &str, node: Node) -> Result<()> {
        let name = path.strip_prefix('/').with_context(|| format!("{path}: expected an absolute path"))?;
        ensure!(
            !name.split('/').any(|part| matches!(part, "" | "." | "..")),
            "{path}: expected no part that is . or .."
        );
        for (end, _) in name.match_indices('/') {
            let folder = self.0.entry(name[..end].into()).or_insert(Node { mode: S_IFDIR | 0o755, ..Node::default() });
            ensure!(folder.mode & S_IFMT == S_IFDIR, "{path}: /{} is a file, not a folder", &name[..end]);
        }
        self.0.insert(name.into(), node);
        Ok(())
    }

    pub fn write(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for (ino, (name, Node { mode, device, bytes })) in (1..).zip(&self.0) {
            let len = u32::try_from(bytes.len()).with_context(|| format!("/{name}: too long for an initramfs"))?;
            let nlink = if mode & S_IFMT == S_IFDIR { 2 } else { 1 };
            let header = newc::Builder::new(name).ino(ino).mode(*mode).nlink(nlink);
            let mut writer = header.rdev_major(device.0).rdev_minor(device.1).write(&mut out, len);
            writer.write_all(bytes)?;
            writer.finish()?;
        }
        newc::trailer(&mut out)?;
        Ok(out)
    }
}
