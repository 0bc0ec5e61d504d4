//! The sections of an image, and the numbers of `elf.h` that their headers have.

use modest_loader::elf::{Range, Section};

pub const SHF_WRITE: u64 = elf::abi::SHF_WRITE as u64;
pub const SHF_ALLOC: u64 = elf::abi::SHF_ALLOC as u64;
pub const SHF_EXECINSTR: u64 = elf::abi::SHF_EXECINSTR as u64;

/// A module's sections by their numbers: names and headers. The first, which is none, is not among them.
pub type Sections = Vec<(u16, String, Section)>;

/// The content of a section.
pub fn content(image: &[u8], Range { at, len_bytes }: Range) -> &[u8] {
    let range = usize::try_from(at).ok().zip(usize::try_from(at.saturating_add(len_bytes)).ok());
    range.and_then(|(from, to)| image.get(from..to)).unwrap_or_default()
}

/// The first section of that name.
pub fn named<'s>(sections: &'s Sections, wanted: &str) -> Option<&'s Section> {
    sections.iter().find(|(_, name, _)| name == wanted).map(|(_, _, section)| section)
}
