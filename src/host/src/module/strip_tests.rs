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
    let section_name =
        |header: &elf::section::SectionHeader| section_names.unwrap().get(header.sh_name as usize).unwrap().to_string();
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
    let at = |image: &[u8], offset: usize| u64::from_le_bytes(image[offset..offset + 8].try_into().unwrap()) as usize;
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
