//! Modules for tests, made of what they say of themselves.

use super::abi::*;
use super::machine::{Machine, THIS_MACHINE};

/// What a module for tests says of itself.
pub struct Made<'a> {
    pub machine: Machine,
    pub name: &'a str,
    pub info: &'a [&'a str],
    /// What it needs, each with its CRC.
    pub needs: &'a [(&'a str, u32)],
}

impl Default for Made<'_> {
    fn default() -> Self {
        Made { machine: THIS_MACHINE, name: "made", info: &[], needs: &[] }
    }
}

/// A section: its name, its type, what it holds, the length of an entry.
type Content = (&'static str, u32, Vec<u8>, usize);

const SECTION_NAMES: &str = "\0.modinfo\0__versions\0.gnu.linkonce.this_module\0.symtab\0.strtab\0.shstrtab\0";
/// The number of `.strtab`.
const STRINGS: u64 = 5;
/// The number of the first symbol that is not local.
const FIRST_GLOBAL: u64 = 2;

impl Made<'_> {
    /// The image: the header, the sections' content in their order, the sections' headers.
    pub fn image(&self) -> Vec<u8> {
        let header_bytes = self.machine.pick(EHDR_BYTES);
        let sections = self.sections();
        let count = sections.len() as u64;
        let (mut content, mut headers) = (vec![], vec![]);
        for section in sections {
            let at = if section.1 == SHT_NULL { 0 } else { header_bytes + content.len() };
            headers.extend(self.section_header(&section, at));
            content.extend(section.2);
        }
        let n = |len, value: u64| self.number(len, value);
        let mut elf = ELFMAG.to_vec();
        elf.extend([self.machine.class, self.machine.data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        elf.extend([n(2, ET_REL.into()), n(2, self.machine.machine.into()), n(4, 1)].concat());
        elf.extend([self.long(0), self.long(0), self.long((header_bytes + content.len()) as u64)].concat());
        elf.extend([n(4, 0), n(2, header_bytes as u64), n(2, 0), n(2, 0)].concat());
        elf.extend([n(2, self.machine.pick(SHDR_BYTES) as u64), n(2, count), n(2, count - 1)].concat());
        [elf, content, headers].concat()
    }

    fn number(&self, len: usize, value: u64) -> Vec<u8> {
        let mut bytes = value.to_le_bytes()[..len].to_vec();
        if self.machine.is_big_endian() {
            bytes.reverse();
        }
        bytes
    }

    fn long(&self, value: u64) -> Vec<u8> {
        self.number(self.machine.pick((4, 8)), value)
    }

    fn sections(&self) -> [Content; 7] {
        let info: Vec<u8> = self.info.iter().flat_map(|pair| [pair.as_bytes(), b"\0"].concat()).collect();
        let versions = self.needs.iter().flat_map(|(name, crc)| {
            let mut version = self.long((*crc).into());
            version.extend_from_slice(name.as_bytes());
            version.resize(64, 0);
            version
        });
        let mut this_module = vec![0; self.machine.pick((12, 24))];
        this_module.extend_from_slice(self.name.as_bytes());
        this_module.resize(300, 0);
        let (symbols, strings) = self.symbols();
        [
            ("", SHT_NULL, vec![], 0),
            (".modinfo", SHT_PROGBITS, info, 0),
            ("__versions", SHT_PROGBITS, versions.collect(), 0),
            (".gnu.linkonce.this_module", SHT_PROGBITS, this_module, 0),
            (".symtab", SHT_SYMTAB, symbols, self.machine.pick(SYM_BYTES)),
            (".strtab", SHT_STRTAB, strings, 0),
            (".shstrtab", SHT_STRTAB, SECTION_NAMES.as_bytes().to_vec(), 0),
        ]
    }

    /// The symbols and their names: none, a local one, a weak one, and what is needed.
    fn symbols(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut symbols, mut strings) = (self.symbol(0, 0), vec![0]);
        let needed = self.needs.iter().rev().map(|(name, _)| (*name, STB_GLOBAL));
        for (name, binding) in [("local", STB_LOCAL), ("weak", STB_WEAK)].into_iter().chain(needed) {
            symbols.extend(self.symbol(strings.len() as u64, binding));
            strings.extend([name.as_bytes(), b"\0"].concat());
        }
        (symbols, strings)
    }

    fn symbol(&self, name_at: u64, binding: u8) -> Vec<u8> {
        let n = |len, value: u64| self.number(len, value);
        let info = u64::from(binding << 4);
        match self.machine.class {
            ELFCLASS32 => [n(4, name_at), n(4, 0), n(4, 0), n(1, info), n(1, 0), n(2, 0)].concat(),
            _ => [n(4, name_at), n(1, info), n(1, 0), n(2, 0), n(8, 0), n(8, 0)].concat(),
        }
    }

    fn section_header(&self, (name, kind, content, entry_bytes): &Content, at: usize) -> Vec<u8> {
        let name_at = if name.is_empty() { 0 } else { SECTION_NAMES.find(&format!("\0{name}\0")).unwrap() + 1 };
        let link = if *kind == SHT_SYMTAB { STRINGS } else { 0 };
        let flags = if *kind == SHT_PROGBITS { SHF_ALLOC } else { 0 };
        let words = |a: u64, b: u64| [self.number(4, a), self.number(4, b)].concat();
        let (at, len_bytes, entry_bytes) = (at as u64, content.len() as u64, *entry_bytes as u64);
        [
            words(name_at as u64, (*kind).into()),
            [flags, 0, at, len_bytes].map(|value| self.long(value)).concat(),
            words(link, FIRST_GLOBAL),
            [1, entry_bytes].map(|value| self.long(value)).concat(),
        ]
        .concat()
    }
}
