//! Damage to modules, made by a seed, for tests of what reads them: the same seed gives the same files.
//!
//! [`refused_by_kernel`] judges an image by the rules of the kernel, not by the loader's reader, which is what is tested.

use anyhow::Result;
use modest_loader::elf::Machine;
use modest_loader::format::Format;

use mkmodest::codec::encode;

/// What is done to a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Damage {
    /// Some bits are other ones.
    Flip,
    /// Its end is missing, from anywhere on.
    Cut,
    /// Its end is missing, from where a section or the section headers begin or end.
    CutAtSection,
    /// A field of a section header has another value.
    SectionHeader,
    /// A field of the ELF header has another value.
    ElfHeader,
    /// It is for another machine, or says so.
    OtherMachine,
    /// Its first part is of one module, the rest of another.
    Splice,
    /// Something follows it.
    Append,
    /// Some of it is zeros.
    Zero,
    /// A field of a symbol has another value.
    Symbol,
    /// It is compressed, and the file that holds it so is damaged.
    Container,
}

impl Damage {
    /// All there are.
    pub const ALL: [Damage; 11] = [
        Damage::Flip,
        Damage::Cut,
        Damage::CutAtSection,
        Damage::SectionHeader,
        Damage::ElfHeader,
        Damage::OtherMachine,
        Damage::Splice,
        Damage::Append,
        Damage::Zero,
        Damage::Symbol,
        Damage::Container,
    ];
}

/// A damaged module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// What was done to it.
    pub damage: Damage,
    /// What was done in particular, for messages.
    pub what: String,
    /// The format that its file is in, or was in before that was damaged.
    pub format: Format,
    /// What is damaged: the image, or the file that holds it compressed.
    pub part: Part,
}

/// What is damaged of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Part {
    Image(Vec<u8>),
    File(Vec<u8>),
}

impl Mutant {
    /// Its image, if that is what is damaged.
    pub fn image(&self) -> Option<&[u8]> {
        match &self.part {
            Part::Image(image) => Some(image),
            Part::File(_) => None,
        }
    }

    /// Its file.
    pub fn file(&self) -> Result<Vec<u8>> {
        match &self.part {
            Part::Image(image) => encode(image, self.format),
            Part::File(bytes) => Ok(bytes.clone()),
        }
    }
}

/// Makes `count` mutants of modules of one machine, `own`, each kind of damage as often as the next. `others` are modules of
/// other machines. None is an image of either as it was.
pub fn mutants(seed: u64, count: usize, own: &[Vec<u8>], others: &[Vec<u8>]) -> Result<Vec<Mutant>> {
    let mut rng = Rng(seed);
    let formats = [Format::Gzip, Format::Xz];
    let files = own.iter().flat_map(|image| formats.map(|format| encode(image, format).map(|file| (format, file))));
    let files = files.collect::<Result<Vec<_>>>()?;
    let each = |i| mutant(&mut rng, Damage::ALL[i % Damage::ALL.len()], own, &files, others);
    Ok((0..count).map(each).collect())
}

fn mutant(rng: &mut Rng, damage: Damage, own: &[Vec<u8>], files: &[(Format, Vec<u8>)], others: &[Vec<u8>]) -> Mutant {
    const FORMATS: [Format; 4] = [Format::Plain, Format::Plain, Format::Gzip, Format::Xz];
    if damage == Damage::Container {
        let (format, whole) = rng.of(files);
        let mut bytes = whole.clone();
        let mut what = String::new();
        while bytes == *whole {
            what = container(rng, &mut bytes);
        }
        return Mutant { damage, what, format: *format, part: Part::File(bytes) };
    }
    let format = *rng.of(&FORMATS);
    loop {
        let mut image = rng.of::<Vec<u8>>(own).clone();
        let what = change(rng, damage, &mut image, own, others);
        // It may be that zeros took the place of zeros.
        if !own.contains(&image) {
            return Mutant { damage, what, format, part: Part::Image(image) };
        }
    }
}

/// Damages an image: what was done.
fn change(rng: &mut Rng, damage: Damage, image: &mut Vec<u8>, own: &[Vec<u8>], others: &[Vec<u8>]) -> String {
    let layout = Layout::of(image);
    let len = image.len();
    match damage {
        Damage::Flip => flip(rng, image),
        Damage::Cut => cut(image, rng.below(len)),
        Damage::CutAtSection => {
            let table = layout.get(image, layout.e_shoff) as usize;
            let mut places = vec![layout.header_bytes, table];
            for number in 0..layout.sections(image) {
                let header = table + number * layout.section_bytes;
                let at = layout.get(image, layout.sh_offset.behind(header)) as usize;
                places.extend([header, at, at + layout.get(image, layout.sh_size.behind(header)) as usize]);
            }
            places.retain(|place| *place < len);
            // One off is another matter than exactly there.
            let place = *rng.of(&places) + rng.below(3);
            cut(image, place.saturating_sub(1).min(len - 1))
        }
        Damage::SectionHeader => {
            let number = rng.below(layout.sections(image));
            let header = layout.get(image, layout.e_shoff) as usize + number * layout.section_bytes;
            let (name, field) = *rng.of(&layout.section_fields());
            format!("section {number}: {}", edit(rng, image, layout, name, field.behind(header)))
        }
        Damage::ElfHeader => {
            let (name, field) = *rng.of(&layout.header_fields());
            edit(rng, image, layout, name, field)
        }
        Damage::OtherMachine => {
            if rng.below(3) == 0 && !others.is_empty() {
                *image = rng.of::<Vec<u8>>(others).clone();
                return "a module of another machine".into();
            }
            let (name, at, value) = *rng.of(&[
                ("e_machine", 18, 40),
                ("e_machine", 18, 62),
                ("e_machine", 18, 183),
                ("e_machine", 18, 243),
                ("e_machine", 18, 0),
                ("EI_CLASS", 4, 1),
                ("EI_CLASS", 4, 2),
                ("EI_CLASS", 4, 0),
                ("EI_DATA", 5, 2),
                ("EI_DATA", 5, 0),
            ]);
            image[at] = value;
            format!("{name} {value}")
        }
        Damage::Splice => {
            let second = rng.of::<Vec<u8>>(own).clone();
            let (end, from) = match rng.below(2) {
                0 => (len / 2, second.len() / 2),
                _ => (rng.below(len), rng.below(second.len())),
            };
            image.truncate(end);
            image.extend_from_slice(&second[from..]);
            format!("its first {end} bytes, and another's from {from} on")
        }
        Damage::Append => {
            let added = 1 + rng.below(5000);
            let kind = rng.below(3);
            for _ in 0..added {
                image.push(if kind == 0 { 0 } else { rng.next() as u8 });
            }
            if kind == 2 {
                // As if it were signed.
                image.extend_from_slice(b"~Module signature appended~\n");
            }
            format!("{added} bytes more, of kind {kind}")
        }
        Damage::Zero => {
            let pages = len.div_ceil(4096);
            let from = 4096 * rng.below(pages);
            let to = (from + 4096 * (1 + rng.below(2))).min(len);
            image[from..to].fill(0);
            format!("zeros from {from} to {to}")
        }
        Damage::Symbol => {
            let Some((at, symbols)) = layout.symbols(image).filter(|(_, symbols)| *symbols > 0) else {
                return flip(rng, image);
            };
            let number = rng.below(symbols);
            let symbol = at + number * layout.symbol_bytes;
            let (name, field) = *rng.of(&layout.symbol_fields());
            format!("symbol {number}: {}", edit(rng, image, layout, name, field.behind(symbol)))
        }
        Damage::Container => container(rng, image),
    }
}

/// Damages a compressed file: what was done.
fn container(rng: &mut Rng, bytes: &mut Vec<u8>) -> String {
    let len = bytes.len();
    match rng.below(7) {
        0 => flip(rng, bytes),
        // Where the format's own fields are: its head and its foot.
        1 => {
            let at = rng.below(24);
            let at = if rng.below(2) == 0 { at } else { len - 1 - at };
            let bit = rng.below(8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at}")
        }
        2 => cut(bytes, rng.below(len)),
        3 => cut(bytes, len - 1 - rng.below(16)),
        4 => {
            let added = 1 + rng.below(64);
            bytes.extend((0..added).map(|_| rng.next() as u8));
            format!("{added} bytes more")
        }
        5 => {
            let from = rng.below(len);
            let to = (from + 1 + rng.below(256)).min(len);
            bytes[from..to].fill(0);
            format!("zeros from {from} to {to}")
        }
        _ => {
            let from = rng.below(len);
            let to = (from + 1 + rng.below(64)).min(len);
            bytes.drain(from..to);
            format!("without its bytes from {from} to {to}")
        }
    }
}

fn flip(rng: &mut Rng, bytes: &mut [u8]) -> String {
    let bits: Vec<_> = (0..1 + rng.below(8)).map(|_| (rng.below(bytes.len()), rng.below(8))).collect();
    for (at, bit) in &bits {
        bytes[*at] ^= 1 << bit;
    }
    format!("bits {bits:?}")
}

fn cut(bytes: &mut Vec<u8>, len: usize) -> String {
    bytes.truncate(len);
    format!("its first {len} bytes")
}

/// Gives a field another value, one of those that readers trip over.
fn edit(rng: &mut Rng, image: &mut [u8], layout: Layout, name: &str, field: Field) -> String {
    let old = layout.get(image, field);
    let len = image.len() as u64;
    let new = match rng.below(11) {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3 => u64::MAX >> (65 - 8 * field.bytes),
        4 => len,
        5 => len - 1,
        6 => old.wrapping_add(1),
        7 => old.wrapping_sub(1),
        8 => rng.next() % 64,
        9 => rng.next() % (len + 1),
        _ => rng.next(),
    };
    layout.set(image, field, new);
    format!("{name} {:#x} instead of {old:#x}", layout.get(image, field))
}

/// Numbers that follow from a seed (splitmix64).
#[derive(Clone, Copy, Debug)]
pub struct Rng(pub u64);

impl Rng {
    #[allow(clippy::should_implement_trait, missing_docs)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0 to `end`, which is not among them; 0 where that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// One of a list.
    pub fn of<'t, T>(&mut self, list: &'t [T]) -> &'t T {
        &list[self.below(list.len())]
    }
}

/// A field: where, of how many bytes.
#[derive(Clone, Copy, Debug)]
struct Field {
    at: usize,
    bytes: usize,
}

impl Field {
    fn behind(self, at: usize) -> Field {
        Field { at: self.at + at, ..self }
    }
}

const fn field(at: usize, bytes: usize) -> Field {
    Field { at, bytes }
}

/// Where things are in an ELF file (elf(5)), of little-endian byte order as all machines here.
#[derive(Clone, Copy, Debug)]
struct Layout {
    is_wide: bool,
    header_bytes: usize,
    section_bytes: usize,
    symbol_bytes: usize,
    e_shoff: Field,
    e_shentsize: Field,
    e_shnum: Field,
    e_shstrndx: Field,
    sh_flags: Field,
    sh_addr: Field,
    sh_offset: Field,
    sh_size: Field,
    sh_link: Field,
}

impl Layout {
    const NARROW: Layout = Layout {
        is_wide: false,
        header_bytes: 52,
        section_bytes: 40,
        symbol_bytes: 16,
        e_shoff: field(0x20, 4),
        e_shentsize: field(0x2e, 2),
        e_shnum: field(0x30, 2),
        e_shstrndx: field(0x32, 2),
        sh_flags: field(8, 4),
        sh_addr: field(0x0c, 4),
        sh_offset: field(0x10, 4),
        sh_size: field(0x14, 4),
        sh_link: field(0x18, 4),
    };

    const WIDE: Layout = Layout {
        is_wide: true,
        header_bytes: 64,
        section_bytes: 64,
        symbol_bytes: 24,
        e_shoff: field(0x28, 8),
        e_shentsize: field(0x3a, 2),
        e_shnum: field(0x3c, 2),
        e_shstrndx: field(0x3e, 2),
        sh_flags: field(8, 8),
        sh_addr: field(0x10, 8),
        sh_offset: field(0x18, 8),
        sh_size: field(0x20, 8),
        sh_link: field(0x28, 4),
    };

    fn of(image: &[u8]) -> Layout {
        if image.get(4) == Some(&1) { Layout::NARROW } else { Layout::WIDE }
    }

    /// A field's value; 0 where the image ends before it.
    fn get(self, image: &[u8], field: Field) -> u64 {
        let bytes = image.get(field.at..field.at.saturating_add(field.bytes)).unwrap_or_default();
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn set(self, image: &mut [u8], field: Field, value: u64) {
        image[field.at..field.at + field.bytes].copy_from_slice(&value.to_le_bytes()[..field.bytes]);
    }

    fn sections(self, image: &[u8]) -> usize {
        self.get(image, self.e_shnum) as usize
    }

    /// Where the symbol table is, and how many symbols it has.
    fn symbols(self, image: &[u8]) -> Option<(usize, usize)> {
        let table = self.get(image, self.e_shoff) as usize;
        let mut headers = (0..self.sections(image)).map(|number| table + number * self.section_bytes);
        let header = headers.find(|header| self.get(image, field(4, 4).behind(*header)) == SHT_SYMTAB)?;
        let len_bytes = self.get(image, self.sh_size.behind(header)) as usize;
        Some((self.get(image, self.sh_offset.behind(header)) as usize, len_bytes / self.symbol_bytes))
    }

    fn header_fields(self) -> [(&'static str, Field); 12] {
        let (e_phoff, rest) = if self.is_wide { (field(0x20, 8), 0x30) } else { (field(0x1c, 4), 0x24) };
        [
            ("EI_MAG", field(0, 4)),
            ("EI_VERSION", field(6, 1)),
            ("e_type", field(16, 2)),
            ("e_machine", field(18, 2)),
            ("e_version", field(20, 4)),
            ("e_phoff", e_phoff),
            ("e_shoff", self.e_shoff),
            ("e_flags", field(rest, 4)),
            ("e_ehsize", field(rest + 4, 2)),
            ("e_shentsize", self.e_shentsize),
            ("e_shnum", self.e_shnum),
            ("e_shstrndx", self.e_shstrndx),
        ]
    }

    fn section_fields(self) -> [(&'static str, Field); 10] {
        let (align, entry) =
            if self.is_wide { (field(0x30, 8), field(0x38, 8)) } else { (field(0x20, 4), field(0x24, 4)) };
        [
            ("sh_name", field(0, 4)),
            ("sh_type", field(4, 4)),
            ("sh_flags", self.sh_flags),
            ("sh_addr", self.sh_addr),
            ("sh_offset", self.sh_offset),
            ("sh_size", self.sh_size),
            ("sh_link", self.sh_link),
            ("sh_info", self.sh_link.behind(4)),
            ("sh_addralign", align),
            ("sh_entsize", entry),
        ]
    }

    fn symbol_fields(self) -> [(&'static str, Field); 5] {
        match self.is_wide {
            true => [
                ("st_name", field(0, 4)),
                ("st_info", field(4, 1)),
                ("st_shndx", field(6, 2)),
                ("st_value", field(8, 8)),
                ("st_size", field(16, 8)),
            ],
            false => [
                ("st_name", field(0, 4)),
                ("st_info", field(12, 1)),
                ("st_shndx", field(14, 2)),
                ("st_value", field(4, 4)),
                ("st_size", field(8, 4)),
            ],
        }
    }
}

const SHT_NULL: u64 = 0;
const SHT_SYMTAB: u64 = 2;
const SHT_NOBITS: u64 = 8;

/// The rule by which a kernel for `machine` refuses an image before anything of it is used (`elf_validity_cache_copy` of
/// kernel/module/main.c in Linux 6.12, `elf_check_arch` of each machine); `None` where it may get further. What the kernel takes
/// off the image's end as a signature counts as the image's here, so that there are fewer refusals than there will be.
pub fn refused_by_kernel(image: &[u8], machine: Machine) -> Option<&'static str> {
    let layout = if machine.class == 1 { Layout::NARROW } else { Layout::WIDE };
    let get = |field: Field| layout.get(image, field);
    let len = image.len() as u64;
    if image.len() < layout.header_bytes {
        return Some("no room for a header");
    }
    if image[..4] != *b"\x7fELF" {
        return Some("no magic");
    }
    if get(field(16, 2)) != 1 {
        return Some("not relocatable");
    }
    // What a class or byte order is there that is not the machine's, only some ask.
    if get(field(18, 2)) != u64::from(machine.machine) {
        return Some("another machine");
    }
    if get(layout.e_shentsize) != layout.section_bytes as u64 {
        return Some("length of section headers");
    }
    let (table, sections) = (get(layout.e_shoff), get(layout.e_shnum));
    if table >= len || sections * layout.section_bytes as u64 > len - table {
        return Some("section headers outside");
    }
    let names_in = get(layout.e_shstrndx);
    if names_in == 0 || names_in >= sections {
        return Some("no names of sections");
    }
    let header = |number: u64| (table + number * layout.section_bytes as u64) as usize;
    let of = |number: u64, field: Field| get(field.behind(header(number)));
    let is_outside = |number| {
        let (at, len_bytes) = (of(number, layout.sh_offset), of(number, layout.sh_size));
        // On a 32-bit machine their sum wraps there, which is a refusal too.
        at.checked_add(len_bytes).is_none_or(|end| end > len)
    };
    if is_outside(names_in) {
        return Some("names of sections outside");
    }
    let (names, names_len) = (of(names_in, layout.sh_offset) as usize, of(names_in, layout.sh_size) as usize);
    if names_len == 0 || image[names + names_len - 1] != 0 {
        return Some("names of sections without an end");
    }
    if of(0, field(4, 4)) != SHT_NULL || of(0, layout.sh_size) != 0 || of(0, layout.sh_addr) != 0 {
        return Some("the first section is one");
    }
    let mut symbol_tables = 0;
    let mut structs = 0;
    for number in 1..sections {
        let kind = of(number, field(4, 4));
        if matches!(kind, SHT_NULL | SHT_NOBITS) {
            continue;
        }
        if kind == SHT_SYMTAB {
            symbol_tables += 1;
            let link = of(number, layout.sh_link);
            if link == 0 || link >= sections {
                return Some("symbols without names");
            }
        }
        if is_outside(number) {
            return Some("a section outside");
        }
        let name = of(number, field(0, 4)) as usize;
        if name >= names_len {
            // Linux 6.12 compares the name before it looks where that is, and that may be its end.
            return None;
        }
        structs += u32::from(image[names + name..].starts_with(b".gnu.linkonce.this_module\0"));
    }
    match (symbol_tables, structs) {
        (1, 1) => None,
        (1, _) => Some("not one struct module"),
        _ => Some("not one symbol table"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scenario;
    use mkmodest::board::Arch;
    use modest_loader::elf::{Bytes, Elf, Fault, NAME_BYTES};
    use modest_loader::kernel::Kernel as _;
    use modest_loader::load::with_image;
    use modest_loader::source::DecodeError;
    use modest_loader::sys::Linux;
    use std::collections::BTreeMap;
    use std::ffi::CString;

    const COUNT: usize = 1500;

    /// Small modules of each architecture.
    fn modules() -> Vec<(Arch, Vec<Vec<u8>>)> {
        let of = |board: &str| {
            let scenario = Scenario::new(board, None).unwrap();
            let images = ["crc16", "nls_cp437", "dummy", "ts_kmp"].map(|name| scenario.module(name).unwrap());
            (scenario.board.arch, images.into())
        };
        ["qemu-aarch64", "qemu-armv7", "qemu-riscv64"].map(of).into()
    }

    fn others(modules: &[(Arch, Vec<Vec<u8>>)], arch: Arch) -> Vec<Vec<u8>> {
        modules.iter().filter(|(other, _)| *other != arch).flat_map(|(_, images)| images.clone()).collect()
    }

    /// Counts what is read.
    struct Counted<'b>(&'b [u8], u64);

    impl Bytes for Counted<'_> {
        fn len_bytes(&mut self) -> Result<u64, DecodeError> {
            self.0.len_bytes()
        }

        fn read_at(&mut self, buf: &mut [u8], at: u64) -> Result<usize, DecodeError> {
            let read = self.0.read_at(buf, at)?;
            self.1 += 1 + read as u64;
            Ok(read)
        }
    }

    /// Asks all that can be asked of an image: what is wrong with it, in the order of the questions.
    fn ask<B: Bytes>(bytes: B, machine: Option<Machine>) -> Result<Vec<Option<Fault>>, Fault> {
        let mut elf = Elf::open(bytes, machine)?;
        let mut ranges = vec![];
        let said = vec![
            elf.info(&mut |key, value| assert!(key.len() + value.len() < 4096)).err(),
            elf.name(&mut [0; NAME_BYTES]).err(),
            elf.versions(&mut |name, _| assert!(name.len() < 64)).err(),
            elf.undefined(&mut |name| assert!(name.len() < 512)).err(),
            elf.sections(&mut |number, _, section| ranges.push((number, section.range))).err(),
            elf.symbols(&mut |symbol| assert!(symbol.name.len() < 512)).err(),
        ];
        let _ = (elf.machine(), elf.is_signed());
        for (_, range) in ranges {
            let mut buf = [0; 64];
            for at in [0, 1, range.len_bytes.saturating_sub(1), range.len_bytes, u64::MAX] {
                let _ = elf.read(range, at, &mut buf);
            }
        }
        Ok(said)
    }

    #[test]
    fn every_mutant_is_read_to_an_end_and_what_the_kernel_refuses_is_named() {
        let modules = modules();
        for (arch, own) in &modules {
            let machine = arch.machine();
            for image in own {
                assert_eq!(refused_by_kernel(image, machine), None);
                assert_eq!(ask(&image[..], Some(machine)), Ok(vec![None; 6]));
            }
            let mut rules = BTreeMap::<_, usize>::new();
            let mut accepted = 0;
            let all = mutants(1, COUNT, own, &others(&modules, *arch)).unwrap();
            assert_eq!(all.len(), COUNT);
            for Mutant { damage, what, part, .. } in &all {
                let (Part::Image(bytes) | Part::File(bytes)) = part;
                let mut counted = Counted(bytes, 0);
                let _ = ask(&mut counted, None);
                // A symbol's name is read in one piece, however short it is: 512 bytes for each 16 of the file.
                let most = 64 * bytes.len() as u64 + (64 << 10);
                assert!(counted.1 < most, "{damage:?}, {what}: {} read of {}", counted.1, bytes.len());
                let Part::Image(image) = part else { continue };
                let answer = ask(&image[..], Some(machine));
                if let Some(rule) = refused_by_kernel(image, machine) {
                    *rules.entry(rule).or_default() += 1;
                    let fault = answer.expect_err(&format!("{damage:?}, {what}: {rule}"));
                    assert!(!fault.to_string().is_empty(), "{fault:?}");
                } else {
                    accepted += usize::from(answer.is_ok());
                }
            }
            // A generator that makes nothing worth reading, or one thing over and over, would show nothing.
            assert!(rules.len() >= 10 && accepted >= COUNT / 5, "{accepted} accepted, refused: {rules:?}");
        }
    }

    #[test]
    fn every_compressed_mutant_is_decoded_to_an_end() {
        let modules = modules();
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("m.ko");
        let name = CString::new(path.to_str().unwrap()).unwrap();
        for (arch, own) in &modules {
            let (mut same, mut broken) = (0, 0);
            for mutant in mutants(2, COUNT / 10, own, &others(&modules, *arch)).unwrap() {
                if mutant.format == Format::Plain {
                    continue;
                }
                std::fs::write(&path, mutant.file().unwrap()).unwrap();
                let file = Linux.open(&name).unwrap();
                let mut answer = None;
                let looked =
                    with_image(&Linux, None, file, &mut |bytes| answer = Some(ask(bytes, Some(arch.machine()))));
                let context = format!("{:?}, {}: {looked:?}, {answer:?}", mutant.damage, mutant.what);
                match mutant.image() {
                    // Compressed or not, it is the same file.
                    Some(image) => {
                        assert_eq!(answer, Some(ask(image, Some(arch.machine()))), "{context}");
                        same += 1;
                    }
                    None => {
                        let is_told = looked.is_err() || !matches!(answer, Some(Ok(_)));
                        broken += usize::from(is_told);
                    }
                }
            }
            assert!(same > 40 && broken > 5, "{same} {broken}");
        }
    }

    #[test]
    fn a_seed_makes_the_same_mutants() {
        let (_, own) = &modules()[0];
        let make = |seed| mutants(seed, 200, own, &[]).unwrap();
        assert!(make(7) == make(7));
        assert!(make(7) != make(8));
    }
}
