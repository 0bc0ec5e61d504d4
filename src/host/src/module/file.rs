//! A module file as it goes into an image: read, put into the wanted format.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use modest_loader::format::Format;
use modest_loader::{name, pin};

use super::info::ModuleInfo;
use super::strip::{Refusal, Strip, strip};
use crate::codec::{decode, encode};

/// A module file for an image.
#[derive(Clone, Debug)]
pub struct ModuleFile {
    /// Its path below the tree, which changes with its format.
    pub file: String,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Length of its image, uncompressed.
    pub image_bytes: u64,
    /// Digest of its image, as `@sha256=` has it.
    pub sha256: String,
    /// The same of the tree's file, before stripping.
    pub original_sha256: String,
    /// By how much stripping made its image shorter.
    pub saved_bytes: u64,
    /// Why it was not stripped, if it should have been.
    pub not_stripped: Option<Refusal>,
    /// What its image says of itself.
    pub info: ModuleInfo,
}

/// What is changed in a module on its way into an image.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    /// The format to put it in.
    pub format: Option<Format>,
    /// What to leave out of it.
    pub strip: Option<Strip>,
}

impl ModuleFile {
    /// Reads `file` of the tree in the folder `dir`, and changes it. Whether it can be loaded is not decided here.
    pub fn read(dir: &Path, file: &str, change: Change) -> Result<ModuleFile> {
        ensure!(is_below(file), "{file} in modules.dep is not below {}", dir.display());
        let path = dir.join(file);
        Self::read_fallible(file, &path, change).with_context(|| format!("{}", path.display()))
    }

    fn read_fallible(file: &str, path: &Path, change: Change) -> Result<ModuleFile> {
        let mut bytes = fs::read(path)?;
        let has = Format::of(&bytes);
        let stem = match name::strip_ko(file) {
            Some((_, named)) if named == has => file.strip_suffix(named.ending()).unwrap_or(file),
            Some((_, named)) => bail!("named as {}, but it is {}", named.name(), has.name()),
            None => bail!("expected a name that ends in .ko, .ko.gz, .ko.xz or .ko.zst"),
        };
        let whole = decode(&bytes).with_context(|| format!("not to be decompressed as {}", has.name()))?;
        let info = ModuleInfo::read(&whole);
        let (stripped, not_stripped) = match change.strip.map(|what| strip(&whole, what)) {
            None => (None, None),
            Some(Ok(stripped)) => (Some(stripped), None),
            Some(Err(refusal)) => (None, Some(refusal)),
        };
        let image = stripped.as_ref().unwrap_or(&whole);
        let format = change.format.unwrap_or(has);
        if change.format.is_some() || stripped.is_some() {
            bytes = encode(image, format)?;
        }
        Ok(ModuleFile {
            file: format!("{stem}{}", format.ending()),
            image_bytes: image.len() as u64,
            sha256: sha256(image),
            original_sha256: sha256(&whole),
            saved_bytes: (whole.len() - image.len()) as u64,
            not_stripped,
            info,
            bytes,
        })
    }
}

/// The digest of an image, as `@sha256=` has it.
pub(crate) fn sha256(image: &[u8]) -> String {
    pin::digest(image).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a path stays in the folder that it is relative to, as far as the path itself tells: links are the tree's own affair.
pub(crate) fn is_below(path: &str) -> bool {
    !path.starts_with('/') && path.split('/').all(|part| part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::made::{folder, module};
    use modest_loader::elf::Fault;

    #[test]
    fn a_path_that_leads_out_of_the_tree_is_refused() {
        let (_tmp, dir) = folder(&[("k/a.ko", &module(&["license=GPL"]))]);
        for path in ["../k/a.ko", "k/../../6.1.0/k/a.ko", "/etc/passwd"] {
            let error = ModuleFile::read(&dir, path, Change::default()).err().unwrap();
            assert_eq!(error.to_string(), format!("{path} in modules.dep is not below {}", dir.display()));
        }
        assert!(is_below("k/a..ko") && ModuleFile::read(&dir, "k/a.ko", Change::default()).is_ok());
    }

    #[test]
    fn a_module_changes_its_format_and_name() {
        let image = module(&["license=GPL", "firmware=a/b.bin", "firmware=c*.bin", "vermagic=6.1.0 SMP mod_unload"]);
        let xz = encode(&image, Format::Xz).unwrap();
        let (_tmp, dir) = folder(&[("k/a.ko.xz", &xz)]);
        for (wanted, file, format) in [
            (None, "k/a.ko.xz", Format::Xz),
            (Some(Format::Plain), "k/a.ko", Format::Plain),
            (Some(Format::Gzip), "k/a.ko.gz", Format::Gzip),
        ] {
            let module = ModuleFile::read(&dir, "k/a.ko.xz", Change { format: wanted, strip: None }).unwrap();
            assert_eq!((module.file.as_str(), module.image_bytes), (file, image.len() as u64));
            assert_eq!(module.bytes, encode(&image, format).unwrap());
            assert_eq!(module.info.firmware, ["a/b.bin", "c*.bin"]);
        }
    }

    #[test]
    fn what_is_not_to_be_read_is_refused() {
        let good = module(&["vermagic=6.2.0 SMP"]);
        let (_tmp, dir) = folder(&[
            ("named.ko.xz", &good),
            ("text.ko", b"text, and more of it"),
            ("cut.ko.gz", &encode(&good, Format::Gzip).unwrap()[..50]),
            ("module", &good),
        ]);
        let read = |file| ModuleFile::read(&dir, file, Change::default());
        assert_eq!(read("text.ko").unwrap().info.fault, Some(Fault::NotElf(*b"text")));
        for (file, says) in [
            ("named.ko.xz", "named as xz, but it is plain"),
            ("cut.ko.gz", "not to be decompressed as gzip"),
            ("module", "expected a name that ends in .ko"),
            ("none.ko", "No such file"),
        ] {
            let error = format!("{:#}", read(file).unwrap_err());
            assert!(error.contains(says) && error.contains(&format!("6.1.0/{file}: ")), "{error}");
        }
    }
}
