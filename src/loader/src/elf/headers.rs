//! The structures of an ELF file, read as its class and byte order say. Only their places are checked here.

use super::abi::*;
use super::bytes::Bytes;
use super::fault::Fault;
use super::machine::Machine;

/// The bytes of one structure.
pub(super) struct Fields<'a> {
    pub bytes: &'a [u8],
    pub machine: Machine,
}

impl Fields<'_> {
    pub fn bytes<const N: usize>(&self, at: ByClass) -> Option<[u8; N]> {
        self.bytes.get(self.machine.pick(at)..)?.first_chunk().copied()
    }

    pub fn half(&self, at: ByClass) -> Option<u16> {
        let bytes = self.bytes(at)?;
        Some(if self.machine.is_big_endian() { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    pub fn word(&self, at: ByClass) -> Option<u32> {
        let bytes = self.bytes(at)?;
        Some(if self.machine.is_big_endian() { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// An offset, an address or a length, of 4 or 8 bytes.
    pub fn long(&self, at: ByClass) -> Option<u64> {
        if self.machine.class == ELFCLASS32 {
            return self.word(at).map(u64::from);
        }
        let bytes = self.bytes(at)?;
        Some(if self.machine.is_big_endian() { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }
}

/// Length of the longest file header, and of the longest section header.
pub(super) const HEADER_BYTES: usize = EHDR_BYTES.1;

/// The header of a relocatable file whose table of section headers is in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub machine: Machine,
    pub sections_at: u64,
    pub section_bytes: u16,
    pub sections: u16,
    /// Number of the section that has the names of sections.
    pub names_in: u16,
}

impl Header {
    /// Reads the header of a file of `has_bytes`, which has to be for `machine` where that is given.
    pub fn read(bytes: &mut dyn Bytes, has_bytes: u64, machine: Option<Machine>) -> Result<Header, Fault> {
        let mut buf = [0; HEADER_BYTES];
        let len = bytes.read_at(&mut buf, 0)?;
        if !buf.starts_with(&ELFMAG) {
            return Err(Fault::NotElf([buf[0], buf[1], buf[2], buf[3]]));
        }
        let truncated = Fault::Truncated { needs_bytes: HEADER_BYTES as u64, has_bytes };
        let found = Machine::parse(&buf[..len]).ok_or(truncated)?;
        if !found.is_valid() {
            return Err(Fault::Header("its class or byte order does not exist"));
        }
        if machine.is_some_and(|machine| machine != found) {
            return Err(Fault::OtherMachine(found));
        }
        let fields = Fields { bytes: &buf[..len], machine: found };
        let (kind, header) = Header::parse(&fields).ok_or(truncated)?;
        if kind != ET_REL {
            return Err(Fault::NotRelocatable(kind));
        }
        header.check(has_bytes)?;
        Ok(header)
    }

    /// The file's type (`e_type`) and the rest of its header.
    fn parse(fields: &Fields) -> Option<(u16, Header)> {
        let header = Header {
            machine: fields.machine,
            sections_at: fields.long(E_SHOFF)?,
            section_bytes: fields.half(E_SHENTSIZE)?,
            sections: fields.half(E_SHNUM)?,
            names_in: fields.half(E_SHSTRNDX)?,
        };
        Some((fields.half(E_TYPE)?, header))
    }

    fn check(&self, has_bytes: u64) -> Result<(), Fault> {
        // Section headers of another length would be read from the wrong places.
        if usize::from(self.section_bytes) != self.machine.pick(SHDR_BYTES) {
            return Err(Fault::Header("its section headers have the wrong length"));
        }
        let needs_bytes = self.sections_end();
        if needs_bytes > has_bytes {
            return Err(Fault::Truncated { needs_bytes, has_bytes });
        }
        if !(1..self.sections).contains(&self.names_in) {
            return Err(Fault::Header("no section holds the names of sections"));
        }
        Ok(())
    }

    /// Where the section headers end in the file.
    pub fn sections_end(&self) -> u64 {
        self.sections_at.saturating_add(u64::from(self.section_bytes) * u64::from(self.sections))
    }
}

/// A part of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Where it begins.
    pub at: u64,
    /// Its length in bytes.
    pub len_bytes: u64,
}

/// A section header (elf(5), `Elf64_Shdr`).
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Section {
    /// Where its name begins among the names of sections.
    pub(super) name_at: u32,
    pub kind: u32,
    pub flags: u64,
    /// 0 in a module.
    pub(super) address: u64,
    pub range: Range,
    pub link: u32,
    pub info: u32,
    pub align: u64,
    pub(super) entry_bytes: u64,
}

impl Section {
    pub(super) fn parse(fields: &Fields) -> Option<Section> {
        Some(Section {
            name_at: fields.word(SH_NAME)?,
            kind: fields.word(SH_TYPE)?,
            flags: fields.long(SH_FLAGS)?,
            address: fields.long(SH_ADDR)?,
            range: Range { at: fields.long(SH_OFFSET)?, len_bytes: fields.long(SH_SIZE)? },
            link: fields.word(SH_LINK)?,
            info: fields.word(SH_INFO)?,
            align: fields.long(SH_ADDRALIGN)?,
            entry_bytes: fields.long(SH_ENTSIZE)?,
        })
    }
}

/// A symbol without the text of its name (elf(5), `Elf64_Sym`).
#[derive(Clone, Copy)]
pub(super) struct SymbolFields {
    /// Where its name begins among the names of symbols.
    pub name_at: u32,
    pub info: u8,
    pub section: u16,
    pub value: u64,
    pub size_bytes: u64,
}

impl SymbolFields {
    pub fn parse(fields: &Fields) -> Option<SymbolFields> {
        let [info] = fields.bytes(ST_INFO)?;
        Some(SymbolFields {
            name_at: fields.word(ST_NAME)?,
            info,
            section: fields.half(ST_SHNDX)?,
            value: fields.long(ST_VALUE)?,
            size_bytes: fields.long(ST_SIZE)?,
        })
    }

    /// Whether the kernel cannot link the module without it.
    pub fn is_needed(self) -> bool {
        self.section == SHN_UNDEF && self.name_at != 0 && self.info >> 4 != STB_WEAK
    }
}
