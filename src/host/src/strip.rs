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

use crate::module::modinfo;

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
pub(crate) mod tests {
    use super::*;
    use elf::ElfBytes;
    use elf::endian::AnyEndian;
    use object::write::{self, Object, Relocation, SymbolId, SymbolSection};
    use object::{
        Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    };

    fn section(object: &mut Object, name: &str, kind: SectionKind, data: &[u8]) -> write::SectionId {
        let id = object.add_section(Vec::new(), name.into(), kind);
        object.append_section_data(id, data, 4);
        id
    }

    fn symbol(object: &mut Object, name: &str, kind: SymbolKind, scope: SymbolScope, of: SymbolSection) -> SymbolId {
        object.add_symbol(write::Symbol {
            name: name.into(),
            value: 4,
            size: 0,
            kind,
            scope,
            weak: false,
            section: of,
            flags: SymbolFlags::None,
        })
    }

    fn relocation(object: &mut Object, of: write::SectionId, symbol: SymbolId) {
        let flags = RelocationFlags::Elf { r_type: object::elf::RelocationType(2) };
        object.add_relocation(of, Relocation { offset: 4, symbol, addend: 0, flags }).unwrap();
    }

    /// A module with these pairs in its `.modinfo`, with more sections, and with much that is of no use.
    pub fn module(arch: Architecture, modinfo: &str, more: &[&str]) -> Vec<u8> {
        let mut object = Object::new(BinaryFormat::Elf, arch, Endianness::Little);
        let o = &mut object;
        symbol(o, "m.c", SymbolKind::File, SymbolScope::Compilation, SymbolSection::None);
        let debug = section(o, ".debug_info", SectionKind::Debug, &[1; 400]);
        let text = section(o, ".text", SectionKind::Text, &[2; 16]);
        section(o, ".modinfo", SectionKind::ReadOnlyData, modinfo.as_bytes());
        section(o, ".comment", SectionKind::OtherString, b"GCC\0");
        section(o, "unknown", SectionKind::Other, b"?");
        for name in [".BTF"].iter().chain(more) {
            let mapped = name.ends_with("_ids");
            section(o, name, if mapped { SectionKind::ReadOnlyData } else { SectionKind::Other }, &[3; 8]);
        }
        let mut local = |name, kind| symbol(o, name, kind, SymbolScope::Compilation, SymbolSection::Section(text));
        local("$d", SymbolKind::Label);
        let label = local(".L1", SymbolKind::Label);
        local(".L2", SymbolKind::Label);
        local("L0\x01", SymbolKind::Label);
        local("by_hand", SymbolKind::Label);
        local("helper", SymbolKind::Text);
        local(".Lobject", SymbolKind::Data);
        let of_debug = symbol(o, "info", SymbolKind::Data, SymbolScope::Compilation, SymbolSection::Section(debug));
        let init = symbol(o, "init_module", SymbolKind::Text, SymbolScope::Linkage, SymbolSection::Section(text));
        let printk = symbol(o, "_printk", SymbolKind::Unknown, SymbolScope::Unknown, SymbolSection::Undefined);
        symbol(o, "unreferenced", SymbolKind::Unknown, SymbolScope::Unknown, SymbolSection::Undefined);
        relocation(o, text, label);
        relocation(o, text, printk);
        relocation(o, debug, of_debug);
        relocation(o, debug, init);
        object.write().unwrap()
    }

    /// The names of sections and of symbols, and those that the relocations of `.text` refer to.
    fn names(image: &[u8]) -> [Vec<String>; 3] {
        let elf = ElfBytes::<AnyEndian>::minimal_parse(image).unwrap();
        let (headers, section_names) = elf.section_headers_with_strtab().unwrap();
        let headers: Vec<_> = headers.unwrap().iter().collect();
        let section_name = |header: &elf::section::SectionHeader| {
            section_names.unwrap().get(header.sh_name as usize).unwrap().to_string()
        };
        let (symbols, symbol_names) = elf.symbol_table().unwrap().unwrap();
        let symbol_name = |symbol: elf::symbol::Symbol| symbol_names.get(symbol.st_name as usize).unwrap().to_string();
        let referred = |header: &elf::section::SectionHeader| {
            assert_eq!(section_name(&headers[header.sh_info as usize]), ".text");
            let numbers: Vec<_> = match header.sh_type {
                elf::abi::SHT_REL => elf.section_data_as_rels(header).unwrap().map(|r| r.r_sym).collect(),
                _ => elf.section_data_as_relas(header).unwrap().map(|r| r.r_sym).collect(),
            };
            numbers.into_iter().map(|number| symbol_name(symbols.get(number as usize).unwrap())).collect::<Vec<_>>()
        };
        let of_text = headers.iter().find(|h| matches!(section_name(h).as_str(), ".rel.text" | ".rela.text")).unwrap();
        let sections = headers.iter().skip(1).map(section_name).filter(|name| !name.contains("tab")).collect();
        [sections, symbols.iter().skip(1).map(symbol_name).collect(), referred(of_text)]
    }

    const INFO: &str = "license=GPL\0";

    #[test]
    fn what_the_kernel_uses_stays_and_nothing_else() {
        use Architecture::{Aarch64, Arm, Riscv32, Riscv64};
        for (arch, rel) in [(Aarch64, ".rela"), (Arm, ".rel"), (Riscv64, ".rela"), (Riscv32, ".rela")] {
            let image = module(arch, INFO, &[]);
            let stripped = strip(&image, Strip::Debug).unwrap();
            let [sections, symbols, referred] = names(&stripped);
            let mut expected = vec![".text".to_string(), format!("{rel}.text")];
            expected.extend([".modinfo", "unknown", ".BTF"].map(String::from));
            let mut sorted = sections.clone();
            for list in [&mut sorted, &mut expected] {
                list.sort();
            }
            assert_eq!(sorted, expected, "{arch:?}");
            assert_eq!(
                symbols,
                [".L1", "by_hand", "helper", ".Lobject", "init_module", "_printk", "unreferenced"],
                "{arch:?}"
            );
            assert_eq!(referred, [".L1", "_printk"], "{arch:?}");
            assert_eq!(modinfo(&stripped).unwrap(), [("license", "GPL")]);
            assert!(image.len() - stripped.len() > 400);
            assert_eq!(strip(&stripped, Strip::Debug).unwrap(), stripped);
        }
    }

    #[test]
    fn types_for_bpf_go_only_if_asked_for_and_not_needed() {
        let has_btf = |what, more: &[&str]| {
            let stripped = strip(&module(Architecture::Aarch64, INFO, more), what).unwrap();
            names(&stripped)[0].iter().filter(|name| is_btf(name.as_bytes())).count()
        };
        assert_eq!(has_btf(Strip::Debug, &[".BTF.base"]), 2);
        assert_eq!(has_btf(Strip::Btf, &[".BTF.base"]), 0);
        assert_eq!(has_btf(Strip::Btf, &[".BTF.base", ".BTF_ids"]), 2);
    }

    #[test]
    fn sections_are_numbered_anew_though_no_flag_says_so() {
        let mut image = module(Architecture::Riscv64, INFO, &[]);
        let at =
            |image: &[u8], offset: usize| u64::from_le_bytes(image[offset..offset + 8].try_into().unwrap()) as usize;
        for header in (at(&image, 0x28)..image.len()).step_by(64) {
            // SHF_INFO_LINK
            image[header + 8] &= !0x40;
        }
        let [_, _, referred] = names(&strip(&image, Strip::Debug).unwrap());
        assert_eq!(referred, [".L1", "_printk"]);
    }

    #[test]
    fn what_must_not_change_is_refused_with_the_reason() {
        let good = module(Architecture::Aarch64, INFO, &[]);
        let refused = |image: &[u8]| strip(image, Strip::Debug).unwrap_err();
        assert_eq!(refused(&[&good, SIGNATURE_MARKER].concat()), Refusal::Signed);
        assert_eq!(refused(&module(Architecture::Aarch64, "livepatch=Y\0", &[])), Refusal::Livepatch);
        let mut object = Object::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little);
        let text = section(&mut object, ".text", SectionKind::Text, &[0; 8]);
        section(&mut object, ".modinfo", SectionKind::ReadOnlyData, INFO.as_bytes());
        let debug = section(&mut object, ".debug_x", SectionKind::Debug, &[0; 8]);
        let of = SymbolSection::Section(debug);
        let wanted = symbol(&mut object, "wanted", SymbolKind::Data, SymbolScope::Compilation, of);
        relocation(&mut object, text, wanted);
        let refusal = refused(&object.write().unwrap());
        assert_eq!(refusal.to_string(), "wanted is in a section that is not mapped");
        for len in [0, 10, 64, good.len() / 2, good.len() - 1] {
            assert!(matches!(refused(&good[..len]), Refusal::Unknown(_)), "{len}");
        }
    }
}
