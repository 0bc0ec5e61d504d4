//! What an ELF module file says of itself (elf(5), `elf_validity_check` and `load_module` of kernel/module/main.c).
//!
//! It is read a few bytes at a time, and every offset is checked. A good module is loaded without any of this: it
//! serves the explanation of a refused module, and the checks of `modest check` and mkmodest.

pub mod abi;
mod bytes;
mod content;
mod fault;
mod headers;
mod machine;
#[cfg(test)]
pub(crate) mod made;

pub use bytes::{Bytes, Decoded, FileBytes, ends_in_zeros};
pub use content::{NAME_BYTES, Symbol};
pub use fault::Fault;
pub use headers::{Range, Section};
pub use machine::{Machine, THIS_MACHINE};

use abi::*;
use headers::{Fields, HEADER_BYTES, Header};

/// An image whose headers hold what they promise.
#[derive(Debug)]
pub struct Elf<B> {
    bytes: B,
    header: Header,
    parts: Parts,
}

/// The parts of an image that have a meaning.
#[derive(Debug, Default)]
struct Parts {
    /// The names of sections.
    names: Range,
    symbols: Range,
    /// Number of the first symbol that is not local.
    first_global: u32,
    /// The names of symbols.
    strings: Range,
    modinfo: Range,
    versions: Range,
    this_module: Range,
    is_signed: bool,
}

const MODINFO: &str = ".modinfo";
const VERSIONS: &str = "__versions";
const THIS_MODULE: &str = ".gnu.linkonce.this_module";

/// What ends a file with a signature (include/linux/module_signature.h, MODULE_SIG_STRING).
const SIGNED: &[u8] = b"~Module signature appended~\n";

impl<B: Bytes> Elf<B> {
    /// Reads the headers of an image, which has to be for `machine` where that is given.
    pub fn open(mut bytes: B, machine: Option<Machine>) -> Result<Elf<B>, Fault> {
        let read = Elf::<&mut dyn Bytes>::read_headers(&mut bytes, machine);
        match read.map(|Elf { header, parts, .. }| (header, parts)) {
            Ok((header, parts)) => Ok(Elf { bytes, header, parts }),
            Err(fault @ Fault::Truncated { .. }) => Err(fault),
            // Whatever is missed first is missed because of that.
            Err(_) if ends_in_zeros(&mut bytes) == Ok(true) => Err(Fault::EndsInZeros),
            Err(fault) => Err(fault),
        }
    }

    fn read_headers(mut bytes: B, machine: Option<Machine>) -> Result<Elf<B>, Fault> {
        let has_bytes = bytes.len_bytes()?;
        if has_bytes == 0 {
            return Err(Fault::Empty);
        }
        let header = Header::read(&mut bytes, has_bytes, machine)?;
        let mut elf = Elf { bytes, header, parts: Parts::default() };
        let symbols = elf.check_sections(has_bytes)?;
        elf.check_first()?;
        elf.parts.names = elf.strings_in(header.names_in)?;
        elf.find_symbols(symbols)?;
        elf.find_by_name()?;
        elf.parts.is_signed = elf.is_marked_signed()?;
        Ok(elf)
    }

    /// A section's header; `None` where the file ends within it.
    fn header_of(&mut self, number: u16) -> Result<Option<Section>, Fault> {
        let mut buf = [0; HEADER_BYTES];
        let at = self.header.sections_at + u64::from(number) * u64::from(self.header.section_bytes);
        let len = self.bytes.read_at(&mut buf, at)?;
        Ok(Section::parse(&Fields { bytes: &buf[..len], machine: self.header.machine }))
    }

    /// Checks that each section is in the file: the header of the symbol table.
    fn check_sections(&mut self, has_bytes: u64) -> Result<Section, Fault> {
        let truncated = |needs_bytes| Fault::Truncated { needs_bytes, has_bytes };
        let mut symbols = None;
        for number in 0..self.header.sections {
            let section = self.header_of(number)?.ok_or(truncated(self.header.sections_end()))?;
            let end = section.range.at.saturating_add(section.range.len_bytes);
            if section.kind != SHT_NOBITS && end > has_bytes {
                // The headers stand behind the sections: a file that lost its end has lost them first.
                if self.header.sections_at > HEADER_BYTES as u64 {
                    return Err(Fault::Section(number, "it reaches beyond the end of the file"));
                }
                return Err(truncated(end));
            }
            if section.kind == SHT_SYMTAB && symbols.replace(section).is_some() {
                return Err(Fault::Section(number, "it is a second symbol table"));
            }
        }
        symbols.ok_or(Fault::Stripped)
    }

    /// Checks that the first section is what it always is: nothing.
    fn check_first(&mut self) -> Result<(), Fault> {
        match self.header_of(0)? {
            Some(first) if (first.kind, first.range.len_bytes, first.address) != (SHT_NULL, 0, 0) => {
                Err(Fault::Section(0, "it should be empty"))
            }
            _ => Ok(()),
        }
    }

    fn find_symbols(&mut self, symbols: Section) -> Result<(), Fault> {
        self.parts.symbols = symbols.range;
        self.parts.first_global = symbols.info;
        if symbols.entry_bytes != self.symbol_bytes() || !symbols.range.len_bytes.is_multiple_of(self.symbol_bytes()) {
            return Err(Fault::Content("its symbols have the wrong length"));
        }
        match u16::try_from(symbols.link).ok().filter(|link| (1..self.header.sections).contains(link)) {
            Some(link) => self.parts.strings = self.strings_in(link)?,
            None => return Err(Fault::Content("its symbols have no names")),
        }
        Ok(())
    }

    /// Looks for the sections that have a meaning by their names.
    fn find_by_name(&mut self) -> Result<(), Fault> {
        let (mut modinfo, mut versions, mut this_module) = (None, None, None);
        for number in 1..self.header.sections {
            let Some(section) = self.header_of(number)?.filter(|section| section.kind != SHT_NULL) else { continue };
            if u64::from(section.name_at) >= self.parts.names.len_bytes {
                return Err(Fault::Section(number, "its name is outside the table of names"));
            }
            // The longest name sought fits, with its end; a longer one is not sought.
            let mut name = [0; 32];
            let name = match self.name_in(self.parts.names, section.name_at, &mut name) {
                Ok(name) => name,
                Err(Fault::Content(_)) => continue,
                Err(fault) => return Err(fault),
            };
            let place = match name {
                MODINFO => &mut modinfo,
                VERSIONS => &mut versions,
                THIS_MODULE => &mut this_module,
                _ => continue,
            };
            if section.kind == SHT_NOBITS {
                return Err(Fault::Section(number, "it has no content"));
            }
            // Of `__versions` the kernel takes the first; modules have one of each.
            if place.replace(section.range).is_some() {
                return Err(Fault::Section(number, "another section has the same name"));
            }
            if name == THIS_MODULE && section.flags & SHF_ALLOC == 0 {
                return Err(Fault::Section(number, "it is not marked to be loaded"));
            }
        }
        self.parts.modinfo = modinfo.unwrap_or_default();
        self.parts.versions = versions.unwrap_or_default();
        self.parts.this_module = this_module.ok_or(Fault::Lacks(THIS_MODULE))?;
        Ok(())
    }

    fn is_marked_signed(&mut self) -> Result<bool, Fault> {
        let mut end = [0; SIGNED.len()];
        let Some(at) = self.bytes.len_bytes()?.checked_sub(end.len() as u64) else { return Ok(false) };
        self.bytes.read_at(&mut end, at)?;
        Ok(end == *SIGNED)
    }

    /// The strings of a section: text between NULs.
    fn strings_in(&mut self, number: u16) -> Result<Range, Fault> {
        let section = self.header_of(number)?.filter(|section| section.kind == SHT_STRTAB);
        let range = section.ok_or(Fault::Section(number, "it should hold strings"))?.range;
        let mut last = [1];
        let Some(last_at) = range.len_bytes.checked_sub(1) else {
            return Err(Fault::Section(number, "it should hold strings, but is empty"));
        };
        self.bytes.read_at(&mut last, range.at + last_at)?;
        match last {
            [0] => Ok(range),
            _ => Err(Fault::Section(number, "its last string has no end")),
        }
    }

    /// The name at `at` in `strings`.
    fn name_in<'b>(&mut self, strings: Range, at: u32, buf: &'b mut [u8]) -> Result<&'b str, Fault> {
        let left = strings.len_bytes.checked_sub(at.into()).filter(|left| *left > 0);
        let left = left.ok_or(Fault::Content("a name is outside the table of names"))?;
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let len = self.bytes.read_at(&mut buf[..len], strings.at + u64::from(at))?;
        text_before_nul(&buf[..len]).ok_or(Fault::Content("a name is not text or has no end"))
    }

    fn symbol_bytes(&self) -> u64 {
        self.header.machine.pick(SYM_BYTES) as u64
    }
}

fn text_before_nul(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|b| *b == 0)?;
    core::str::from_utf8(&bytes[..end]).ok()
}

#[cfg(test)]
mod tests;
