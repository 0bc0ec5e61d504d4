//! A module without what the kernel does not use: it holds the whole image while it links it, and of the symbols a part
//! for good.
//!
//! What is left out is listed here, by name; what is not listed stays. What the kernel maps (sections with `SHF_ALLOC`),
//! their relocations, and the symbols that these or other modules refer to always stay, as do the names of functions and
//! objects, which kallsyms tells in backtraces and to probes. The writing is that of [`object`].

use std::collections::HashSet;
use std::fmt;

use object::build::Id;
use object::build::elf::{Builder, SectionData, SectionId, Symbol};
use object::elf::{STB_LOCAL, STT_FILE, STT_NOTYPE, STT_SECTION};

use super::modinfo::modinfo;

/// What a signed module ends with (`MODULE_SIG_STRING`).
pub const SIGNATURE_MARKER: &[u8] = b"~Module signature appended~\n";

/// How much is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strip {
    /// What no kernel uses.
    Debug,
    /// That, and the types for BPF (`.BTF`) of modules that load without: those with no `.BTF_ids`, whose init would fail.
    Btf,
}

/// Why a module stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The signature is that of these very bytes.
    Signed,
    /// The kernel keeps and uses all of its sections and symbols.
    Livepatch,
    /// Something of it is not known well enough to be rewritten.
    Unknown(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Refusal::Signed => f.write_str("it is signed"),
            Refusal::Livepatch => f.write_str("it is a livepatch"),
            Refusal::Unknown(what) => f.write_str(what),
        }
    }
}

impl From<object::build::Error> for Refusal {
    fn from(error: object::build::Error) -> Refusal {
        Refusal::Unknown(error.to_string())
    }
}

/// Leaves out of a module's image what `strip` says.
pub fn strip(image: &[u8], strip: Strip) -> Result<Vec<u8>, Refusal> {
    if image.ends_with(SIGNATURE_MARKER) {
        return Err(Refusal::Signed);
    }
    let info = modinfo(image).map_err(|error| Refusal::Unknown(error.to_string()))?;
    if info.iter().any(|(key, _)| *key == "livepatch") {
        return Err(Refusal::Livepatch);
    }
    let mut elf = Builder::read(image)?;
    if !elf.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        return Err(Refusal::Unknown("sections and symbols have their names in one table".into()));
    }
    let without_btf = strip == Strip::Btf && !elf.sections.iter().any(|section| *section.name == *b".BTF_ids");
    // What is marked as deleted is passed over by iterators.
    let ids: Vec<_> = elf.sections.iter().map(|section| section.id()).collect();
    for section in &mut elf.sections {
        section.delete = !section.is_alloc() && (is_unused(&section.name) || without_btf && is_btf(&section.name));
        // The same to a reader, but the writer computes with it.
        section.sh_addralign = section.sh_addralign.max(1);
    }
    drop_relocations(&mut elf, &ids);
    drop_symbols(&mut elf)?;
    let mut out = Vec::new();
    elf.write(&mut out)?;
    Ok(if out.len() < image.len() { out } else { image.into() })
}

/// Whether a section that is not mapped is of no use to any kernel.
fn is_unused(name: &[u8]) -> bool {
    const BEGIN: [&[u8]; 5] = [b".debug", b".zdebug", b".stab", b".gnu.build.attributes", b".annobin."];
    const WHOLE: [&[u8]; 7] = [
        b".comment",
        b".note.GNU-stack",
        b".gnu_debuglink",
        b".gnu_debugaltlink",
        b".GCC.command.line",
        b".ARM.attributes",
        b".riscv.attributes",
    ];
    WHOLE.contains(&name) || BEGIN.iter().any(|begin| name.starts_with(begin))
}

fn is_btf(name: &[u8]) -> bool {
    matches!(name, b".BTF" | b".BTF.base" | b".BTF.ext")
}

/// Drops the relocations of what is dropped; the others keep to their section, whose number may change.
fn drop_relocations(elf: &mut Builder, ids: &[SectionId]) {
    for id in ids {
        let section = elf.sections.get(*id);
        if matches!(section.data, SectionData::Relocation(_)) {
            // SHF_INFO_LINK, which tells that sh_info is a section, is missing in what old binutils made.
            let numbered = (section.sh_info as usize).checked_sub(1).and_then(|at| ids.get(at).copied());
            let of = section.sh_info_section.or(numbered);
            let delete = of.is_some_and(|of| elf.sections.get(of).delete);
            let section = elf.sections.get_mut(*id);
            section.sh_info_section = of;
            section.delete = delete;
        }
    }
}

fn drop_symbols(elf: &mut Builder) -> Result<(), Refusal> {
    let mut needed = HashSet::new();
    for section in elf.sections.iter().filter(|section| !section.delete) {
        if let SectionData::Relocation(relocations) = &section.data {
            needed.extend(relocations.iter().filter_map(|relocation| Some(relocation.symbol?.index())));
        }
    }
    for symbol in &mut elf.symbols {
        let of_dropped = symbol.section.is_some_and(|of| elf.sections.get(of).delete);
        let is_needed = needed.contains(&symbol.id().index());
        if of_dropped && (is_needed || symbol.st_bind() != STB_LOCAL) {
            return Err(Refusal::Unknown(format!("{} is in a section that is not mapped", symbol.name)));
        }
        symbol.delete = of_dropped || !is_needed && is_unnamed(symbol);
    }
    Ok(())
}

/// Whether the kernel never tells a symbol's name: that of a file or section, or one that `is_mapping_symbol` of
/// include/linux/module_symbol.h passes over. RISC-V's assemblers leave hundreds of thousands of the latter.
fn is_unnamed(symbol: &Symbol) -> bool {
    let is_mapping = || [&b"$"[..], b".L", b"L0"].iter().any(|begin| symbol.name.starts_with(begin));
    symbol.st_bind() == STB_LOCAL
        && match symbol.st_type() {
            STT_FILE | STT_SECTION => true,
            STT_NOTYPE => symbol.name.is_empty() || is_mapping(),
            _ => false,
        }
}

#[cfg(test)]
#[path = "strip_tests.rs"]
pub(crate) mod tests;
