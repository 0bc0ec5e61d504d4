//! The symbols that a kernel itself exports, as far as something on the build host tells.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use modest_loader::format::Format;

use super::match_table::compatible_texts;
use super::package::KernelPackage;
use super::tree::Tree;
use crate::codec::first_stream;
use crate::module::symbols::Export;

/// What tells a kernel's symbols.
pub struct KernelSymbols {
    /// The file, for messages.
    pub file: PathBuf,
    kind: Kind,
}

impl fmt::Debug for KernelSymbols {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("KernelSymbols").field("file", &self.file).finish_non_exhaustive()
    }
}

enum Kind {
    /// Module.symvers: what the kernel exports, and what its modules do, each with the module's path without an ending.
    Symvers { kernel: HashMap<String, Export>, modules: HashMap<String, String> },
    /// System.map.
    Map(HashSet<String>),
    /// The kernel itself, not compressed.
    Image(Vec<u8>),
}

impl KernelSymbols {
    /// Reads a Module.symvers, a System.map or a kernel, whichever `file` is.
    pub fn read(file: &Path) -> Result<KernelSymbols> {
        let read = || {
            let bytes = fs::read(file)?;
            let bytes = match Format::of(&bytes) {
                Format::Plain => bytes,
                // What follows a kernel that is compressed whole, a device tree say, is none of its.
                format => first_stream(&bytes, format)?,
            };
            Self::parse(bytes)
        };
        let kind = read().with_context(|| file.display().to_string())?;
        Ok(KernelSymbols { file: file.into(), kind })
    }

    fn parse(bytes: Vec<u8>) -> Result<Kind> {
        let first = bytes.split(|b| *b == b'\n').next().and_then(|line| str::from_utf8(line).ok()).unwrap_or_default();
        let number = first.split([' ', '\t']).next().unwrap_or_default();
        let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        if number.strip_prefix("0x").is_some_and(is_hex) {
            return symvers(str::from_utf8(&bytes)?);
        }
        if is_hex(number) {
            return map(str::from_utf8(&bytes)?);
        }
        Ok(Kind::Image(kernel(bytes)?))
    }

    /// What there is for the kernel of `tree`: beside the modules, where its build left it, as distributions place it, and the
    /// kernel itself. With what of it cannot be used, and why.
    pub fn find(tree: &Tree, kernel: Option<&KernelPackage>) -> (Option<KernelSymbols>, Vec<String>) {
        let release = &tree.release;
        let root = tree.dir.ancestors().nth(3).unwrap_or(&tree.dir);
        let beside = [
            "Module.symvers",
            "symvers",
            "symvers.gz",
            "symvers.xz",
            "symvers.zst",
            "build/Module.symvers",
            "System.map",
            "vmlinux",
            "vmlinuz",
        ];
        let boot = ["symvers-", "System.map-", "vmlinuz-", "vmlinux-"].map(|name| format!("boot/{name}{release}"));
        let files = beside.iter().map(|name| tree.dir.join(name));
        let files = files.chain(boot.iter().map(|name| root.join(name))).chain(kernel.map(KernelPackage::image));
        let mut notes = Vec::new();
        for file in files.filter(|file| file.is_file() && !is_stub(file)) {
            match Self::read(&file) {
                Ok(symbols) => return (Some(symbols), notes),
                Err(error) => notes.push(format!("not to be used for the kernel's symbols: {error:#}")),
            }
        }
        (None, notes)
    }

    /// Which of `wanted` the kernel provides, with what is known of each.
    ///
    /// Of a kernel itself this is an approximation, which never leaves one out: what counts is that a text in it ends in the
    /// name. It may be the end of a longer one, since linkers make one of both.
    pub fn provided<'w>(&self, wanted: &BTreeSet<&'w str>) -> HashMap<&'w str, Option<&Export>> {
        match &self.kind {
            Kind::Symvers { kernel, .. } => {
                wanted.iter().filter_map(|name| Some((*name, Some(kernel.get(*name)?)))).collect()
            }
            Kind::Map(names) => wanted.iter().filter(|name| names.contains(**name)).map(|name| (*name, None)).collect(),
            Kind::Image(bytes) => ends_of_texts(bytes, wanted).into_iter().map(|name| (name, None)).collect(),
        }
    }

    /// What the drivers in the kernel are compatible with, where the kernel itself is what was read.
    pub fn compatible(&self) -> Option<BTreeSet<String>> {
        match &self.kind {
            Kind::Image(bytes) => Some(compatible_texts(bytes)),
            _ => None,
        }
    }

    /// The module that was built with this kernel and exports a symbol, as a path without an ending.
    pub fn module_of(&self, symbol: &str) -> Option<&str> {
        match &self.kind {
            Kind::Symvers { modules, .. } => modules.get(symbol).map(String::as_str),
            _ => None,
        }
    }

    /// What the kernel says of a symbol that it exports, where its Module.symvers is there.
    pub fn export(&self, symbol: &str) -> Option<&Export> {
        match &self.kind {
            Kind::Symvers { kernel, .. } => kernel.get(symbol),
            _ => None,
        }
    }
}

/// Lines of CRC, symbol, module, kind of export, and since Linux 5.4 name space, with tabs between.
fn symvers(text: &str) -> Result<Kind> {
    let (mut kernel, mut modules) = (HashMap::new(), HashMap::new());
    for (i, line) in text.lines().enumerate() {
        let mut fields = line.split('\t');
        let mut field = || fields.next();
        let (Some(crc), Some(name), Some(module), Some(kind)) = (field(), field(), field(), field()) else {
            bail!("line {}: expected CRC, symbol, module and kind of export", i + 1);
        };
        if module != "vmlinux" {
            modules.insert(name.to_string(), module.to_string());
            continue;
        }
        let crc = crc.strip_prefix("0x").and_then(|crc| u32::from_str_radix(crc, 16).ok());
        let export = Export {
            name: name.into(),
            // Without CONFIG_MODVERSIONS all are zero.
            crc: crc.filter(|crc| *crc != 0),
            gpl_only: kind.ends_with("_GPL"),
            namespace: field().filter(|namespace| !namespace.is_empty()).map(String::from),
        };
        kernel.insert(name.into(), export);
    }
    ensure!(!kernel.is_empty(), "no symbol of vmlinux in it");
    Ok(Kind::Symvers { kernel, modules })
}

/// Lines of address, letter and symbol. Those that are exported have another one, `__ksymtab_NAME`.
fn map(text: &str) -> Result<Kind> {
    // Debian's packages have a line in place of theirs.
    const LEAST: usize = 100;
    let names: HashSet<&str> = text.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    ensure!(names.len() >= LEAST, "no System.map: {} symbols in it", names.len());
    let exported: HashSet<_> =
        names.iter().filter_map(|name| name.strip_prefix("__ksymtab_")).map(String::from).collect();
    Ok(Kind::Map(if exported.is_empty() { names.into_iter().map(String::from).collect() } else { exported }))
}

/// What every kernel says of itself, and exports.
fn is_kernel(bytes: &[u8]) -> bool {
    contains(bytes, b"Linux version ") && contains(bytes, b"printk\0")
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    memmem::find(bytes, text).is_some()
}

/// The kernel that is in `bytes`, perhaps compressed behind the code that decompresses it (scripts/extract-vmlinux).
fn kernel(bytes: Vec<u8>) -> Result<Vec<u8>> {
    const MAGICS: [(&[u8], Format); 3] =
        [(b"\x1f\x8b\x08", Format::Gzip), (b"\xfd7zXZ\0", Format::Xz), (b"\x28\xb5\x2f\xfd", Format::Zstd)];
    if is_kernel(&bytes) {
        return Ok(bytes);
    }
    for (magic, format) in MAGICS {
        for at in memmem::find_iter(&bytes, magic) {
            if let Ok(image) = first_stream(&bytes[at..], format)
                && is_kernel(&image)
            {
                return Ok(image);
            }
        }
    }
    bail!("neither Module.symvers nor System.map, and no kernel in it, or one compressed neither as gzip, xz nor zstd")
}

/// Those of `wanted` that a text in `bytes`, with a NUL behind it, ends in.
fn ends_of_texts<'w>(bytes: &[u8], wanted: &BTreeSet<&'w str>) -> HashSet<&'w str> {
    // By their last two bytes, so that each text is looked at once.
    let mut by_end: HashMap<[u8; 2], Vec<&str>> = HashMap::new();
    let mut found = HashSet::new();
    for name in wanted {
        match name.as_bytes() {
            [.., a, b] => by_end.entry([*a, *b]).or_default().push(name),
            // Too short to be looked for.
            _ => {
                found.insert(*name);
            }
        }
    }
    let mut start = 0;
    for end in memchr::memchr_iter(0, bytes).chain([bytes.len()]) {
        let text = &bytes[start..end];
        start = end + 1;
        let Some(end) = text.last_chunk() else { continue };
        let Some(names) = by_end.get_mut(end) else { continue };
        names.retain(|name| {
            let is_there = text.ends_with(name.as_bytes());
            if is_there {
                found.insert(*name);
            }
            !is_there
        });
    }
    found
}

/// Whether a file is the line that Debian has in place of System.map, which says where the real one is.
fn is_stub(file: &Path) -> bool {
    const MOST_BYTES: u64 = 1024;
    file.metadata().is_ok_and(|meta| meta.len() < MOST_BYTES)
        && fs::read_to_string(file).is_ok_and(|text| text.contains("The real System.map"))
}

#[cfg(test)]
mod tests {
    use super::super::made::tree;
    use super::*;
    use crate::codec::encode;

    fn parsed(bytes: &[u8]) -> Result<KernelSymbols, String> {
        let kind = KernelSymbols::parse(bytes.to_vec()).map_err(|error| error.to_string())?;
        Ok(KernelSymbols { file: "f".into(), kind })
    }

    fn provided<'w>(bytes: &[u8], wanted: &[&'w str]) -> Vec<&'w str> {
        let symbols = parsed(bytes).unwrap();
        let mut names: Vec<_> = symbols.provided(&wanted.iter().copied().collect()).into_keys().collect();
        names.sort();
        names
    }

    #[test]
    fn module_symvers_tells_all_of_a_symbol() {
        let text = b"0x12345678\t_printk\tvmlinux\tEXPORT_SYMBOL\t\n0x00000000\tput\tvmlinux\tEXPORT_SYMBOL_GPL\tNS\n\
            0x00000001\tcrc16\tlib/crc16\tEXPORT_SYMBOL\t\n";
        assert_eq!(provided(text, &["_printk", "put", "crc16", "none"]), ["_printk", "put"]);
        let symbols = parsed(text).unwrap();
        let printk = Export { name: "_printk".into(), crc: Some(0x1234_5678), gpl_only: false, namespace: None };
        let put = Export { name: "put".into(), crc: None, gpl_only: true, namespace: Some("NS".into()) };
        assert_eq!((symbols.export("_printk"), symbols.export("put")), (Some(&printk), Some(&put)));
        assert_eq!((symbols.module_of("crc16"), symbols.module_of("put")), (Some("lib/crc16"), None));
        let error = parsed(b"0x12345678\t_printk\n").err();
        assert_eq!(error.as_deref(), Some("line 1: expected CRC, symbol, module and kind of export"));
    }

    #[test]
    fn a_system_map_tells_what_is_exported() {
        let many: String = (0..100).map(|i| format!("c0008000 t local{i}\n")).collect();
        assert_eq!(provided(many.as_bytes(), &["local1", "local"]), ["local1"]);
        let exported = format!("{many}c0008000 r __ksymtab__printk\n");
        assert_eq!(provided(exported.as_bytes(), &["local1", "_printk"]), ["_printk"]);
        let stub = parsed(b"ffffffffffffffff B The real System.map is in the linux-image-dbg package\n").err();
        assert_eq!(stub.as_deref(), Some("no System.map: 1 symbols in it"));
    }

    #[test]
    fn a_kernel_has_the_names_of_what_it_exports() {
        let kernel =
            b"MZ code, Linux version Linux version 6.1.0\0_printk_deferred\0_printk\0long_name\0x\0no_end".to_vec();
        let wanted = ["_printk", "printk", "name", "long", "no_end", "x"];
        let expected = ["_printk", "name", "no_end", "printk", "x"];
        for format in [Format::Plain, Format::Gzip, Format::Xz, Format::Zstd] {
            let packed = encode(&kernel, format).unwrap();
            // As in a zImage: behind other code with the magic of a format in it, and before more.
            let image = [b"decompressor \x1f\x8b\x08 \xfd7zXZ\0 ", &packed[..], b" and a table"].concat();
            let expected = if format == Format::Plain { &["_printk", "name", "printk", "x"][..] } else { &expected };
            assert_eq!(provided(&image, &wanted), expected, "{format:?}");
        }
        assert!(parsed(b"MZ nothing").err().unwrap().starts_with("neither Module.symvers nor System.map, "));
    }

    #[test]
    fn what_is_beside_the_modules_is_found() {
        let symvers = b"0x00000001\t_printk\tvmlinux\tEXPORT_SYMBOL\t\n";
        let (_tmp, found) = tree(&[("Module.symvers", b"text"), ("build/Module.symvers", symvers)]);
        let (symbols, notes) = KernelSymbols::find(&found, None);
        assert_eq!(symbols.unwrap().file, found.dir.join("build/Module.symvers"));
        assert_eq!(notes.len(), 1);
        let (_tmp, none) = tree(&[]);
        assert!(KernelSymbols::find(&none, None).0.is_none());
    }
}
