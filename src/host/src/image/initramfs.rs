//! Reads initramfs images.
//!
//! One or more archives (newc, Documentation/driver-api/early-userspace/buffer-format.rst), each compressed or not, one
//! behind another, as the kernel takes them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use modest_loader::format::Format;
use modest_loader::name;

use crate::codec::stream;

/// What is in an image.
#[derive(Clone, Debug, Default)]
pub struct Initramfs {
    /// By path, without the first `/`.
    nodes: BTreeMap<String, Node>,
}

#[derive(Clone, Debug)]
enum Node {
    File(Vec<u8>),
    Link(String),
    /// A folder, a device.
    Other,
}

/// Length of the header of a file in an archive: a magic and thirteen numbers.
const HEADER_BYTES: usize = 6 + 13 * 8;

impl Initramfs {
    /// Whether a file may be one, by how it begins.
    pub fn is_one(bytes: &[u8]) -> bool {
        is_archive(bytes) || Format::of(bytes) != Format::Plain
    }

    /// Reads an image.
    pub fn read(bytes: &[u8]) -> Result<Initramfs> {
        let mut image = Initramfs::default();
        image.add(bytes, 0)?;
        ensure!(!image.nodes.is_empty(), "no archive in it; expected an initramfs (newc)");
        Ok(image)
    }

    fn add(&mut self, bytes: &[u8], depth: usize) -> Result<()> {
        // No kernel looks for an archive in more than one compression.
        ensure!(depth < 3, "compressed more than once");
        let mut rest = bytes;
        while let Some(start) = rest.iter().position(|b| *b != 0) {
            rest = &rest[start..];
            if is_archive(rest) {
                rest = self.add_archive(rest).context("archive")?;
                continue;
            }
            match Format::of(rest) {
                Format::Plain if self.nodes.is_empty() => bail!("no archive in it; expected an initramfs (newc)"),
                Format::Plain => bail!("behind the archive there is something that is none"),
                format => {
                    let mut inner = Vec::new();
                    stream(&mut rest, format, &mut inner)
                        .with_context(|| format!("not to be decompressed as {}", format.name()))?;
                    self.add(&inner, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// Adds an archive's files; returns what is behind it.
    fn add_archive<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8]> {
        let mut at = 0;
        // Of several names for one file the last has the content.
        let mut names_of = BTreeMap::<(u32, u32, u32), Vec<String>>::new();
        loop {
            let header = bytes.get(at..at + HEADER_BYTES).context("it is truncated")?;
            ensure!(is_archive(header), "its file at {at} has no header");
            let field = |i: usize| {
                let text = str::from_utf8(&header[6 + i * 8..14 + i * 8]).ok();
                text.and_then(|text| u32::from_str_radix(text, 16).ok()).context("a header has no number")
            };
            let (ino, mode, links, size) = (field(0)?, field(1)?, field(4)?, field(6)? as usize);
            let device = (field(7)?, field(8)?, ino);
            let name_bytes = field(11)? as usize;
            let name = bytes.get(at + HEADER_BYTES..at + HEADER_BYTES + name_bytes).context("it is truncated")?;
            let name = name.split(|b| *b == 0).next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            let data_at = (at + HEADER_BYTES + name_bytes).next_multiple_of(4);
            let data = bytes.get(data_at..data_at + size).context("it is truncated")?;
            at = (data_at + size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                return Ok(bytes.get(at..).unwrap_or_default());
            }
            let name = name.trim_start_matches("./").trim_matches('/').to_string();
            let node = match mode & 0o170_000 {
                0o100_000 => Node::File(data.to_vec()),
                0o120_000 => Node::Link(String::from_utf8_lossy(data).into_owned()),
                _ => Node::Other,
            };
            if links > 1 && matches!(node, Node::File(_)) {
                let names = names_of.entry(device).or_default();
                names.push(name.clone());
                if !data.is_empty() {
                    for name in names {
                        self.nodes.insert(name.clone(), node.clone());
                    }
                    continue;
                }
            }
            self.nodes.insert(name, node);
        }
    }

    /// A file by its absolute path, through links: the path without them, and what it holds.
    pub fn file(&self, path: &str) -> Option<(String, &[u8])> {
        /// MAXSYMLINKS (include/linux/namei.h).
        const LINKS: usize = 40;
        let mut parts: Vec<String> = path.rsplit('/').map(String::from).collect();
        let (mut done, mut links) = (Vec::<String>::new(), 0);
        while let Some(part) = parts.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            if let Some(Node::Link(target)) = self.nodes.get(&done.join("/")) {
                links += 1;
                if links > LINKS {
                    return None;
                }
                done.pop();
                if target.starts_with('/') {
                    done.clear();
                }
                parts.extend(target.rsplit('/').map(String::from));
            }
        }
        let path = done.join("/");
        match self.nodes.get(&path)? {
            Node::File(bytes) => Some((format!("/{path}"), bytes)),
            _ => None,
        }
    }

    /// The paths of all files below a folder, without the first `/`.
    pub(super) fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let files = self.nodes.iter().filter_map(|(path, node)| match node {
            Node::File(bytes) => Some((path.as_str(), bytes.as_slice())),
            _ => None,
        });
        files.filter(move |(path, _)| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
    }

    /// The folders with modules, as absolute paths: `/lib/modules/VERSION`.
    pub(super) fn roots(&self) -> BTreeSet<String> {
        let modules = self.nodes.keys().filter(|path| name::strip_ko(path).is_some());
        let versions = modules.filter_map(|path| {
            let at = path.find("lib/modules/")?;
            // A module that is in lib/modules itself is of no version that its path tells.
            let (version, _) = path[at + "lib/modules/".len()..].split_once('/')?;
            Some(format!("/{}lib/modules/{version}", &path[..at]))
        });
        versions.collect()
    }
}

fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"070701") || bytes.starts_with(b"070702")
}
