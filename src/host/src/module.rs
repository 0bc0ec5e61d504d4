//! A module file as it goes into an image: read, put into the wanted format.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use elf::ElfBytes;
use elf::endian::AnyEndian;
use modest_loader::elf::Machine;
use modest_loader::format::Format;
use modest_loader::{name, pin};

use crate::board::Arch;
use crate::codec::{decode, encode};
use crate::facts::Facts;
use crate::kernel::Tree;
use crate::strip::{Refusal, Strip, strip};

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
    /// The modules that it may ask for, each text some names.
    pub weakdeps: Vec<String>,
    /// What its image tells.
    pub facts: Facts,
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
    /// Reads `file` of the tree, and changes it. Whether it can be loaded is decided by [`mod@crate::check`].
    pub fn read(tree: &Tree, file: &str, change: Change) -> Result<ModuleFile> {
        ensure!(is_below(file), "{file} in modules.dep is not below {}", tree.dir.display());
        let path = tree.dir.join(file);
        Self::read_fallible(file, &path, change).with_context(|| format!("{}", path.display()))
    }

    fn read_fallible(file: &str, path: &std::path::Path, change: Change) -> Result<ModuleFile> {
        let mut bytes = fs::read(path)?;
        let has = Format::of(&bytes);
        let stem = match name::strip_ko(file) {
            Some((_, named)) if named == has => file.strip_suffix(named.ending()).unwrap_or(file),
            Some((_, named)) => bail!("named as {}, but it is {}", named.name(), has.name()),
            None => bail!("expected a name that ends in .ko, .ko.gz, .ko.xz or .ko.zst"),
        };
        let whole = decode(&bytes).with_context(|| format!("not to be decompressed as {}", has.name()))?;
        let facts = Facts::read(&whole);
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
            weakdeps: facts.weakdeps.clone(),
            facts,
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

/// Checks that a program will run on the board without a library; a script is taken as it is.
pub fn check_init(bytes: &[u8], arch: Arch) -> Result<()> {
    let Some(machine) = machine(bytes) else {
        ensure!(bytes.starts_with(b"#!"), "neither an ELF file nor a script");
        return Ok(());
    };
    ensure!(machine == arch.machine(), "built for {machine}; the board is {}", arch.machine());
    let elf = ElfBytes::<AnyEndian>::minimal_parse(bytes)?;
    let is_dynamic = elf.segments().is_some_and(|table| table.iter().any(|s| s.p_type == elf::abi::PT_INTERP));
    ensure!(!is_dynamic, "dynamically linked; expected a static program");
    Ok(())
}

fn machine(bytes: &[u8]) -> Option<Machine> {
    let machine = u16::from_le_bytes(*bytes.get(18..)?.first_chunk()?);
    bytes.starts_with(b"\x7fELF").then_some(Machine { class: bytes[4], data: bytes[5], machine })
}

/// The pairs of a module's `.modinfo`.
pub(crate) fn modinfo(image: &[u8]) -> Result<Vec<(&str, &str)>> {
    let elf = ElfBytes::<AnyEndian>::minimal_parse(image)?;
    let section = elf.section_header_by_name(".modinfo")?.context("not a module: no .modinfo in it")?;
    let (data, _) = elf.section_data(&section)?;
    let texts = data.split(|b| *b == 0).filter_map(|text| std::str::from_utf8(text).ok());
    Ok(texts.filter_map(|text| text.split_once('=')).collect())
}

/// The release of the kernel that a module's image was built for, if it tells.
pub(crate) fn release(image: &[u8]) -> Result<Option<String>> {
    let vermagic = modinfo(image)?.into_iter().find(|(key, _)| *key == "vermagic");
    Ok(vermagic.and_then(|(_, value)| Some(value.split(' ').next()?.into())))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use modest_loader::elf::Fault;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A module for AArch64 with these pairs in its `.modinfo`, of the name that one of them tells, or of one of its own.
    pub fn module(modinfo: &[&str]) -> Vec<u8> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let named = modinfo.iter().find_map(|pair| pair.strip_prefix("name=")).map(String::from);
        let name = named.unwrap_or_else(|| format!("made{}", MADE.fetch_add(1, Ordering::Relaxed)));
        let mut this_module = [0; 128];
        this_module[24..24 + name.len()].copy_from_slice(name.as_bytes());
        let names = b"\0.modinfo\0.shstrtab\0.symtab\0.gnu.linkonce.this_module\0";
        let info = modinfo.join("\0") + "\0";
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        elf[16] = 1;
        elf[18] = 183;
        elf[20] = 1;
        elf[0x28] = 64;
        elf[0x34] = 64;
        elf[0x3a] = 64;
        elf[0x3c] = 5;
        elf[0x3e] = 2;
        // Name, type, content, link, length of an entry; flags are SHF_ALLOC.
        let sections: [(u32, u32, &[u8], u32, u64); 5] = [
            (0, 0, b"", 0, 0),
            (1, 1, info.as_bytes(), 0, 0),
            (10, 3, names, 0, 0),
            (20, 2, &[0; 24], 2, 24),
            (28, 1, &this_module, 0, 0),
        ];
        let mut content = Vec::new();
        for (name, kind, bytes, link, entry) in sections {
            let start = elf.len();
            elf.resize(start + 64, 0);
            let mut put = |at: usize, bytes: &[u8]| {
                elf[start + at..start + at + bytes.len()].copy_from_slice(bytes);
            };
            let offset = if kind == 0 { 0 } else { 64 * 6 + content.len() as u64 };
            put(0, &name.to_le_bytes());
            put(4, &kind.to_le_bytes());
            put(8, &[if kind == 1 { 2 } else { 0 }]);
            put(0x18, &offset.to_le_bytes());
            put(0x20, &(bytes.len() as u64).to_le_bytes());
            put(0x28, &link.to_le_bytes());
            put(0x38, &entry.to_le_bytes());
            content.extend(bytes);
        }
        [elf, content].concat()
    }

    /// A tree with these files, its release 6.1.0.
    pub fn tree(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Tree) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("6.1.0");
        for (file, bytes) in [("modules.dep", &b""[..])].iter().chain(files) {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let tree = Tree::find(&dir).unwrap();
        (tmp, tree)
    }

    #[test]
    fn a_path_that_leads_out_of_the_tree_is_refused() {
        let (_tmp, tree) = tree(&[("k/a.ko", &module(&["license=GPL"]))]);
        for path in ["../k/a.ko", "k/../../6.1.0/k/a.ko", "/etc/passwd"] {
            let error = ModuleFile::read(&tree, path, Change::default()).err().unwrap();
            assert_eq!(error.to_string(), format!("{path} in modules.dep is not below {}", tree.dir.display()));
        }
        assert!(is_below("k/a..ko") && ModuleFile::read(&tree, "k/a.ko", Change::default()).is_ok());
    }

    #[test]
    fn a_module_changes_its_format_and_name() {
        let image = module(&["license=GPL", "firmware=a/b.bin", "firmware=c*.bin", "vermagic=6.1.0 SMP mod_unload"]);
        let xz = encode(&image, Format::Xz).unwrap();
        let (_tmp, tree) = tree(&[("k/a.ko.xz", &xz)]);
        for (wanted, file, format) in [
            (None, "k/a.ko.xz", Format::Xz),
            (Some(Format::Plain), "k/a.ko", Format::Plain),
            (Some(Format::Gzip), "k/a.ko.gz", Format::Gzip),
        ] {
            let module = ModuleFile::read(&tree, "k/a.ko.xz", Change { format: wanted, strip: None }).unwrap();
            assert_eq!((module.file.as_str(), module.image_bytes), (file, image.len() as u64));
            assert_eq!(module.bytes, encode(&image, format).unwrap());
            assert_eq!(module.facts.firmware, ["a/b.bin", "c*.bin"]);
        }
    }

    #[test]
    fn what_is_not_to_be_read_is_refused() {
        let good = module(&["vermagic=6.2.0 SMP"]);
        let (_tmp, tree) = tree(&[
            ("named.ko.xz", &good),
            ("text.ko", b"text, and more of it"),
            ("cut.ko.gz", &encode(&good, Format::Gzip).unwrap()[..50]),
            ("module", &good),
        ]);
        let read = |file| ModuleFile::read(&tree, file, Change::default());
        assert_eq!(read("text.ko").unwrap().facts.fault, Some(Fault::NotElf(*b"text")));
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

    #[test]
    fn an_init_must_run_alone() {
        let mut program = module(&[]);
        check_init(&program, Arch::Aarch64).unwrap();
        check_init(b"#!/bin/sh\n", Arch::Aarch64).unwrap();
        let says = |bytes: &[u8], arch| check_init(bytes, arch).unwrap_err().to_string();
        assert_eq!(says(&program, Arch::Armv7), "built for AArch64; the board is Arm");
        assert_eq!(says(b"text", Arch::Armv7), "neither an ELF file nor a script");
        // A program header of type PT_INTERP, where the section headers are.
        program[0x20] = 64;
        program[0x36] = 56;
        program[0x38] = 1;
        program[64] = 3;
        assert_eq!(says(&program, Arch::Aarch64), "dynamically linked; expected a static program");
    }
}
