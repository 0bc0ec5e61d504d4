//! Where the kernel puts the parts of a module: the sections in the order and groups in which it lays them out
//! (`layout_sections` and `layout_symtab` of kernel/module/main.c and kallsyms.c, Linux 6.12), and the symbols in them.
//!
//! What a kernel adds itself is not in it: veneers and tables for far jumps, and the copy of symbols that it keeps for
//! kallsyms. Each group is rounded up to pages.

use std::fmt;

use elf::abi::{EM_ARM, EM_RISCV, SHN_COMMON, SHT_NOBITS, SHT_SYMTAB};
use modest_loader::elf::{Elf, Fault, Section, Symbol};
use serde::Serialize;

use super::info::ModuleInfo;
use super::sections::{SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, Sections};

/// A load map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Map {
    /// The groups, those that are freed after the module's init last.
    pub groups: Vec<Group>,
    /// Bytes of all groups but those of init.
    pub core_bytes: u64,
    /// Bytes of the groups of init.
    pub init_bytes: u64,
    /// Bytes for each processor.
    pub percpu_bytes: u64,
    /// Group by group, by address; then those without one.
    pub symbols: Vec<MapSymbol>,
}

/// Sections that the kernel keeps together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// `text`, `rodata`, `ro_after_init`, `data`; `init.text` and others; `percpu`.
    pub name: &'static str,
    /// Its length.
    pub bytes: u64,
    /// In their order.
    pub sections: Vec<Placed>,
}

/// A section in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// Its name.
    pub name: String,
    /// From the start of its group.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// What its offset is a multiple of.
    pub align: u64,
    #[serde(skip)]
    number: u16,
}

/// A symbol in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapSymbol {
    /// Its group; none for what is absolute, undefined, or in a section that is not kept.
    pub group: Option<&'static str>,
    /// From the start of its group; without one, its value.
    pub offset: u64,
    /// As nm(1) has it.
    pub letter: char,
    /// Its name.
    pub name: String,
}

/// Groups, first those that stay; a module's own data for each processor is apart.
const GROUPS: [&str; 8] =
    ["text", "rodata", "ro_after_init", "data", "init.text", "init.rodata", "init.data", "percpu"];
const PERCPU: usize = 7;

impl Map {
    /// Lays a module's image out.
    pub fn of(image: &[u8], info: &ModuleInfo) -> Result<Map, Fault> {
        let mut elf = Elf::open(image, None)?;
        let mut sections = Sections::new();
        elf.sections(&mut |number, name, section| sections.push((number, name.into(), section)))?;
        let mut map = Map { groups: GROUPS.map(|name| Group { name, ..Group::default() }).into(), ..Map::default() };
        let is_arm = elf.machine().machine == EM_ARM;
        let can_unload = info.vermagic.as_deref().is_none_or(|magic| magic.split(' ').any(|word| word == "mod_unload"));
        let is_init = |name: &str| {
            let starts = |part: &str| {
                name.starts_with(&format!(".{part}"))
                    || is_arm && ["extab", "exidx"].iter().any(|kind| name.starts_with(&format!(".ARM.{kind}.{part}")))
            };
            starts("init") || !can_unload && starts("exit")
        };
        for init in [false, true] {
            // Those of all groups before the next: first code, then what is only read, and so on.
            for kind in 0..4 {
                for (number, name, section) in &sections {
                    let is_ours = kind_of(name, section) == Some(kind) && is_init(name) == init;
                    let at = match (is_ours, init, kind) {
                        (false, ..) | (true, true, 2) => continue,
                        (true, false, kind) => kind,
                        (true, true, 3) => 6,
                        (true, true, kind) => 4 + kind,
                    };
                    map.groups[at].place(*number, name, section);
                }
            }
        }
        let symbols = sections.iter().find(|(_, _, section)| section.kind == SHT_SYMTAB);
        let names =
            symbols.and_then(|(_, _, symbols)| sections.iter().find(|(number, ..)| u32::from(*number) == symbols.link));
        for (number, name, section) in symbols.into_iter().chain(names) {
            map.groups[6].place(*number, name, section);
        }
        for (number, name, section) in &sections {
            if is_percpu(name, section) {
                map.groups[PERCPU].place(*number, name, section);
            }
        }
        let bytes = |groups: &[Group]| groups.iter().fold(0u64, |sum, group| sum.saturating_add(group.bytes));
        map.core_bytes = bytes(&map.groups[..4]);
        map.init_bytes = bytes(&map.groups[4..PERCPU]);
        map.percpu_bytes = map.groups[PERCPU].bytes;
        map.add_symbols(&mut elf, &sections)?;
        map.groups.retain(|group| !group.sections.is_empty());
        Ok(map)
    }

    fn add_symbols(&mut self, elf: &mut Elf<&[u8]>, sections: &Sections) -> Result<(), Fault> {
        let mut placed = Vec::new();
        let is_riscv = elf.machine().machine == EM_RISCV;
        elf.symbols(&mut |symbol| {
            // Sections and files, and what assemblers mark code and data by, which nm does not tell either.
            let is_label = symbol.name.starts_with('$') || is_riscv && symbol.name.starts_with(".L");
            let is_told = !symbol.name.is_empty() && !matches!(symbol.info & 15, 3 | 4) && !is_label;
            if !is_told {
                return;
            }
            let section = sections.iter().find(|(number, ..)| *number == symbol.section);
            let letter = letter(symbol, section.map(|(_, name, section)| (name.as_str(), section)));
            let place = self.groups.iter().enumerate().find_map(|(i, group)| {
                let section = group.sections.iter().find(|section| section.number == symbol.section)?;
                Some((i, section.offset))
            });
            let (rank, start) = place.unwrap_or((GROUPS.len(), 0));
            let offset = start.saturating_add(symbol.value);
            let group = GROUPS.get(rank).copied();
            placed.push((rank, MapSymbol { group, offset, letter, name: symbol.name.into() }));
        })?;
        placed.sort_by(|(a, one), (b, other)| (a, one.offset, &one.name).cmp(&(b, other.offset, &other.name)));
        self.symbols = placed.into_iter().map(|(_, symbol)| symbol).collect();
        Ok(())
    }
}

impl Group {
    fn place(&mut self, number: u16, name: &str, section: &Section) {
        let align = section.align.max(1);
        let offset = self.bytes.checked_next_multiple_of(align).unwrap_or(u64::MAX);
        let bytes = section.range.len_bytes;
        self.bytes = offset.saturating_add(bytes);
        self.sections.push(Placed { name: name.into(), offset, bytes, align, number });
    }
}

fn is_percpu(name: &str, section: &Section) -> bool {
    name == ".data..percpu" && section.flags & SHF_ALLOC != 0
}

/// Which kind of memory a section needs: code, read only, read only after init, data; none if it is not kept.
fn kind_of(name: &str, section: &Section) -> Option<usize> {
    let has = |flags: u64| section.flags & flags == flags;
    let is_kept = has(SHF_ALLOC) && !is_percpu(name, section) && !matches!(name, ".modinfo" | "__versions");
    let is_settled = matches!(name, ".data..ro_after_init" | "__jump_table");
    match () {
        () if !is_kept => None,
        () if has(SHF_EXECINSTR) => Some(0),
        () if !has(SHF_WRITE) => Some(1),
        () if is_settled => Some(2),
        () => Some(3),
    }
}

/// The letter that nm(1) has for a symbol (bfd_decode_symclass of binutils' bfd/syms.c).
fn letter(symbol: &Symbol, section: Option<(&str, &Section)>) -> char {
    let (binding, is_object) = (symbol.info >> 4, symbol.info & 15 == 1);
    match (symbol.section, binding) {
        (SHN_COMMON, _) => return 'C',
        (Symbol::UNDEFINED, 2) => return if is_object { 'v' } else { 'w' },
        (Symbol::UNDEFINED, _) => return 'U',
        (_, 2) => return if is_object { 'V' } else { 'W' },
        _ => {}
    }
    let small = match section {
        _ if symbol.section == Symbol::ABSOLUTE => 'a',
        None => '?',
        Some((name, section)) => {
            let has = |flag: u64| section.flags & flag != 0;
            match () {
                () if has(SHF_EXECINSTR) => 't',
                () if section.kind == SHT_NOBITS => 'b',
                () if has(SHF_ALLOC) && has(SHF_WRITE) => 'd',
                () if has(SHF_ALLOC) => 'r',
                () if name.starts_with(".debug") => 'N',
                () if has(SHF_WRITE) => '?',
                () => 'n',
            }
        }
    };
    if binding == 0 { small } else { small.to_ascii_uppercase() }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let names = self.groups.iter().flat_map(|group| &group.sections).map(|section| section.name.len());
        let width = names.max().unwrap_or_default().max(8);
        writeln!(f, "{:width$}  {:>10}  {:>10}  align", "section", "size", "offset")?;
        for group in &self.groups {
            writeln!(f, "{:width$}  {:#010x}", group.name, group.bytes)?;
            for Placed { name, offset, bytes, align, .. } in &group.sections {
                writeln!(f, "{name:width$}  {bytes:#010x}  {offset:#010x}  {align}")?;
            }
        }
        writeln!(
            f,
            "core {} bytes, init {}, for each processor {}",
            self.core_bytes, self.init_bytes, self.percpu_bytes
        )?;
        for MapSymbol { group, offset, letter, name } in &self.symbols {
            writeln!(f, "{:13}  {offset:08x} {letter} {name}", group.unwrap_or("-"))?;
        }
        Ok(())
    }
}
