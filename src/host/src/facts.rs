//! What a module's image tells of it: what it is, needs, exports and takes, and what about it no kernel would take.
//!
//! Read by the target's own code ([`modest_loader::elf`]). Nothing is decided here: see [`crate::check`].

use std::collections::{BTreeSet, HashMap};

use modest_loader::elf::{Elf, Fault, Machine, NAME_BYTES, Range, Section, Symbol};
use serde::{Serialize, Serializer};

/// What a module's image tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// As the kernel will list it.
    pub name: String,
    /// What it is for.
    #[serde(serialize_with = "as_text")]
    pub machine: Option<Machine>,
    /// What the kernel compares with its own.
    pub vermagic: Option<String>,
    /// The first that it states, which is what the kernel looks at.
    pub license: Option<String>,
    /// The modules that its build found it to need.
    pub depends: Vec<String>,
    /// Whether a signature is appended.
    #[serde(rename = "signed")]
    pub is_signed: bool,
    /// In the order in which it tells of them.
    pub parameters: Vec<Parameter>,
    /// Parameters that it has and that nothing names.
    #[serde(skip)]
    pub unnamed_parameters: usize,
    /// The symbols that must be there when it is linked.
    pub needs: Vec<String>,
    /// The symbols that it can do without.
    #[serde(skip)]
    pub weak: Vec<String>,
    /// The symbols that it was built to use, with their CRCs then.
    #[serde(skip)]
    pub versions: Vec<(String, u32)>,
    /// What other modules may use.
    pub exports: Vec<Export>,
    /// The name spaces of symbols that it imports.
    pub imports: Vec<String>,
    /// The firmware files that it may ask for; they may be patterns.
    pub firmware: Vec<String>,
    /// The modules that it may ask for, each text some names.
    #[serde(skip)]
    pub weakdeps: Vec<String>,
    /// Length of its struct module, which must be that of the kernel's.
    #[serde(skip)]
    pub struct_bytes: u64,
    /// Why no kernel would take it; what is read before that is found is told all the same.
    #[serde(serialize_with = "as_text")]
    pub fault: Option<Fault>,
}

fn as_text<T: std::fmt::Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(T::to_string).serialize(serializer)
}

/// A parameter (MODULE_PARM_DESC, module_param of include/linux/moduleparam.h).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type: `uint`, `bool`, `array of int`, or a word of the module's own.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

/// A symbol for other modules.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// The checksum of its type, where the kernel has CONFIG_MODVERSIONS.
    pub crc: Option<u32>,
    /// Whether it is for modules with a license that is compatible with the GPL only.
    pub gpl_only: bool,
    /// The name space that its users must import.
    pub namespace: Option<String>,
}

const SHT_NULL: u32 = 0;
const SHT_RELA: u32 = 4;
const SHT_NOBITS: u32 = 8;
const SHT_REL: u32 = 9;
const SHF_ALLOC: u64 = 2;
/// SHN_COMMON, and where the numbers of no sections begin.
const COMMON: u16 = 0xfff2;
const RESERVED: u16 = 0xff00;
/// SHF_RELA_LIVEPATCH (include/uapi/linux/elf.h): these relocations are not for the loader.
const SHF_RELA_LIVEPATCH: u64 = 0x0010_0000;
const STB_WEAK: u8 = 2;

const EM_386: u16 = 3;
const EM_ARM: u16 = 40;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;
const EM_RISCV: u16 = 243;

/// A module's sections by their numbers: names and headers. The first, which is none, is not among them.
pub(crate) type Sections = Vec<(u16, String, Section)>;

impl Facts {
    /// Reads an image, which is not compressed.
    pub fn read(image: &[u8]) -> Facts {
        let mut facts = Facts::default();
        facts.fault = facts.read_fallible(image).err();
        facts
    }

    fn read_fallible(&mut self, image: &[u8]) -> Result<(), Fault> {
        // What it is for is told even of one with faults.
        let header = image.starts_with(b"\x7fELF").then(|| image.get(..20)).flatten();
        self.machine = header.map(|header| {
            let machine = [header[18], header[19]];
            let (class, data) = (header[4], header[5]);
            let machine = if data == 2 { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
            Machine { class, data, machine }
        });
        let mut elf = Elf::open(image, None)?;
        self.is_signed = elf.is_signed();
        self.read_info(&mut elf)?;
        self.name = elf.name(&mut [0; NAME_BYTES])?.into();
        elf.versions(&mut |name, crc| self.versions.push((name.into(), crc)))?;
        elf.undefined(&mut |name| self.needs.push(name.into()))?;
        self.needs.sort();
        if matches!(self.machine.map(|machine| machine.machine), Some(EM_386 | EM_X86_64)) {
            // What the kernel lets be (ignore_undef_symbol).
            self.needs.retain(|name| name != "_GLOBAL_OFFSET_TABLE_");
        }
        let mut sections = Sections::new();
        elf.sections(&mut |number, name, section| sections.push((number, name.into(), section)))?;
        self.add_long_versions(image, elf.machine(), &sections);
        let this_module = sections.iter().find(|(_, name, _)| name == ".gnu.linkonce.this_module");
        self.struct_bytes = this_module.map_or(0, |(_, _, section)| section.range.len_bytes);
        let found = self.read_symbols(&mut elf, &sections)?;
        self.exports = found.exports(&mut elf, &sections)?;
        self.add_parameters(&found, &sections);
        check_relocations(image, elf.machine(), &sections, found.symbols)
    }

    /// Adds the versions of symbols whose names are too long for `__versions` (since Linux 6.14; CONFIG_EXTENDED_MODVERSIONS).
    fn add_long_versions(&mut self, image: &[u8], machine: Machine, sections: &Sections) {
        let [crcs, names] = ["__version_ext_crcs", "__version_ext_names"].map(|wanted| {
            let section = sections.iter().find(|(_, name, section)| name == wanted && section.kind != SHT_NOBITS);
            section.map_or(&[][..], |(_, _, section)| content(image, section.range))
        });
        let names = names.split(|b| *b == 0).filter_map(|name| str::from_utf8(name).ok());
        for (crc, name) in crcs.chunks_exact(4).zip(names) {
            let crc = std::array::from_fn(|i| crc[i]);
            let crc = if machine.data == 2 { u32::from_be_bytes(crc) } else { u32::from_le_bytes(crc) };
            if self.version(name).is_none() {
                self.versions.push((name.into(), crc));
            }
        }
    }

    fn read_info(&mut self, elf: &mut Elf<&[u8]>) -> Result<(), Fault> {
        let mut parameters: Vec<Parameter> = Vec::new();
        fn of<'a>(parameters: &'a mut Vec<Parameter>, name: &str) -> &'a mut Parameter {
            let at = parameters.iter().position(|parameter| parameter.name == name).unwrap_or_else(|| {
                parameters.push(Parameter { name: name.into(), ..Parameter::default() });
                parameters.len() - 1
            });
            &mut parameters[at]
        }
        elf.info(&mut |key, value| {
            let first = |place: &mut Option<String>| {
                place.get_or_insert_with(|| value.into());
            };
            match (key, value.split_once(':')) {
                ("vermagic", _) => first(&mut self.vermagic),
                ("license", _) => first(&mut self.license),
                ("depends", _) => {
                    self.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(String::from));
                }
                ("firmware", _) => self.firmware.push(value.into()),
                ("weakdep", _) => self.weakdeps.push(value.into()),
                ("import_ns", _) => self.imports.push(value.into()),
                ("parmtype", Some((name, kind))) => of(&mut parameters, name).kind = Some(kind.into()),
                ("parm", Some((name, text))) => of(&mut parameters, name).description = Some(text.into()),
                _ => {}
            }
        })?;
        self.parameters = parameters;
        Ok(())
    }

    /// Looks at every symbol once.
    fn read_symbols(&mut self, elf: &mut Elf<&[u8]>, sections: &Sections) -> Result<Found, Fault> {
        let number_of = |wanted: &str| {
            let found = sections.iter().find(|(_, name, _)| name == wanted);
            found.map_or(Symbol::UNDEFINED, |(number, ..)| *number)
        };
        let [plain, gpl, strings, param] =
            ["__ksymtab", "__ksymtab_gpl", "__ksymtab_strings", "__param"].map(number_of);
        let last = sections.last().map_or(0, |(number, ..)| *number);
        let (mut found, mut wrong) = (Found::default(), None);
        elf.symbols(&mut |symbol| {
            let Symbol { name, section, value, .. } = *symbol;
            found.symbols += 1;
            match section {
                Symbol::UNDEFINED if symbol.info >> 4 == STB_WEAK && !name.is_empty() => self.weak.push(name.into()),
                Symbol::UNDEFINED => {}
                COMMON if !name.starts_with("__gnu_lto") => {
                    wrong = Some("it has common symbols, which no kernel takes")
                }
                _ if section > last && section < RESERVED => wrong = Some("a symbol is in a section that there is not"),
                _ if section == plain || section == gpl => {
                    if let Some(name) = name.strip_prefix("__ksymtab_") {
                        found.exported.push((name.into(), section == gpl));
                    }
                }
                _ if section == strings => {
                    if let Some(name) = name.strip_prefix("__kstrtabns_") {
                        found.namespaces.insert(name.into(), value);
                    }
                }
                _ if section == param => {
                    found.parameters.extend(name.strip_prefix("__param_").map(String::from));
                }
                _ => {}
            }
            if section != Symbol::UNDEFINED
                && let Some(name) = name.strip_prefix("__crc_")
            {
                found.crcs.insert(name.into(), (section, value));
            }
        })?;
        // The first of a file counts as one too.
        found.symbols += 1;
        match wrong {
            Some(what) => Err(Fault::Content(what)),
            None => Ok(found),
        }
    }

    /// Adds the parameters that `.modinfo` does not tell of: those without a description and with a setter of their own.
    fn add_parameters(&mut self, found: &Found, sections: &Sections) {
        // struct kernel_param: three pointers, four bytes, a pointer.
        let entry_bytes = if self.machine.is_some_and(|machine| machine.class == 1) { 20 } else { 40 };
        let section = sections.iter().find(|(_, name, _)| name == "__param");
        let entries = section.map_or(0, |(_, _, section)| section.range.len_bytes as usize / entry_bytes);
        for name in &found.parameters {
            if !self.parameters.iter().any(|parameter| parameter.name == *name) {
                self.parameters.push(Parameter { name: name.clone(), ..Parameter::default() });
            }
        }
        // MODULE_PARM_DESC may describe what there is not; so those count that the symbols name, if they do.
        let named = if found.parameters.is_empty() { self.parameters.len() } else { found.parameters.len() };
        self.unnamed_parameters = entries.saturating_sub(named);
    }

    /// The CRC that it wants a symbol to have.
    pub fn version(&self, symbol: &str) -> Option<u32> {
        self.versions.iter().find(|(name, _)| name == symbol).map(|(_, crc)| *crc)
    }

    /// Whether the kernel lets it use what is GPL-only (include/linux/license.h).
    pub fn is_gpl(&self) -> bool {
        const COMPATIBLE: [&str; 6] =
            ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];
        self.license.as_deref().is_some_and(|license| COMPATIBLE.contains(&license))
    }
}

/// What the symbols of an image tell.
#[derive(Default)]
struct Found {
    symbols: u64,
    /// Each with whether it is GPL-only.
    exported: Vec<(String, bool)>,
    /// Section and value of each symbol's CRC.
    crcs: HashMap<String, (u16, u64)>,
    /// Where in `__ksymtab_strings` each symbol's name space is.
    namespaces: HashMap<String, u64>,
    parameters: BTreeSet<String>,
}

impl Found {
    fn exports(&self, elf: &mut Elf<&[u8]>, sections: &Sections) -> Result<Vec<Export>, Fault> {
        let strings = sections.iter().find(|(_, name, _)| name == "__ksymtab_strings");
        let strings = match strings {
            Some((_, _, section)) if section.kind != SHT_NOBITS => {
                let mut bytes = vec![0; section.range.len_bytes as usize];
                elf.read(section.range, 0, &mut bytes)?;
                bytes
            }
            _ => Vec::new(),
        };
        let text = |at: u64| {
            let rest = usize::try_from(at).ok().and_then(|at| strings.get(at..)).unwrap_or_default();
            let text = rest.split(|b| *b == 0).next().unwrap_or_default();
            str::from_utf8(text).ok().filter(|text| !text.is_empty()).map(String::from)
        };
        let mut exported = self.exported.clone();
        if exported.is_empty() {
            // Where the symbols that say more were left out, as depmod finds them.
            let mut names: Vec<_> = self.crcs.keys().cloned().collect();
            if names.is_empty() {
                let texts = strings.split(|b| *b == 0).filter_map(|text| str::from_utf8(text).ok());
                names = texts.filter(|text| !text.is_empty()).map(String::from).collect();
            }
            exported = names.into_iter().map(|name| (name, false)).collect();
        }
        exported.sort();
        exported.dedup();
        let mut exports = Vec::new();
        for (name, gpl_only) in exported {
            let crc = match self.crcs.get(&name) {
                None => None,
                // Before Linux 5.19.
                Some((Symbol::ABSOLUTE, value)) => Some(*value as u32),
                Some((number, value)) => {
                    let section = sections.iter().find(|(other, ..)| other == number);
                    let mut bytes = [0; 4];
                    let len = match section {
                        Some((_, _, section)) => elf.read(section.range, *value, &mut bytes)?,
                        None => 0,
                    };
                    let is_big = elf.machine().data == 2;
                    (len == 4).then(|| if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
                }
            };
            let namespace = self.namespaces.get(&name).and_then(|at| text(*at));
            exports.push(Export { name, crc, gpl_only, namespace });
        }
        Ok(exports)
    }
}

/// The content of a section.
fn content(image: &[u8], Range { at, len_bytes }: Range) -> &[u8] {
    let range = usize::try_from(at).ok().zip(usize::try_from(at.saturating_add(len_bytes)).ok());
    range.and_then(|(from, to)| image.get(from..to)).unwrap_or_default()
}

/// What `apply_relocations` of kernel/module/main.c and the architectures' `apply_relocate` refuse: entries of a form or
/// type that they do not know, for a symbol or a place that is not there. Of another architecture nothing is known.
fn check_relocations(image: &[u8], machine: Machine, sections: &Sections, symbols: u64) -> Result<(), Fault> {
    let (wanted, is_known): (u32, fn(u64) -> bool) = match (machine.machine, machine.class, machine.data) {
        (EM_ARM, 1, 1) => (SHT_REL, |kind| matches!(kind, 0..=3 | 10 | 28..=30 | 38 | 40 | 42..=50 | 57 | 59 | 63)),
        (EM_AARCH64, 2, 1) => (SHT_RELA, |kind| matches!(kind, 0 | 256..=280 | 282..=293 | 299)),
        (EM_RISCV, 2, 1) => {
            (SHT_RELA, |kind| matches!(kind, 1 | 2 | 16..=20 | 22..=28 | 33..=40 | 44 | 45 | 51..=57 | 59..=61))
        }
        _ => return Ok(()),
    };
    let entry_bytes = if wanted == SHT_REL { 8 } else { 24 };
    for (number, _, section) in sections {
        if !matches!(section.kind, SHT_REL | SHT_RELA) || section.flags & SHF_RELA_LIVEPATCH != 0 {
            continue;
        }
        let target = sections.iter().find(|(number, ..)| u32::from(*number) == section.info);
        let Some((_, _, target)) = target.filter(|(_, _, target)| target.flags & SHF_ALLOC != 0) else { continue };
        if section.kind != wanted {
            return Err(Fault::Section(*number, "relocations of another form than this architecture's"));
        }
        for entry in content(image, section.range).chunks_exact(entry_bytes) {
            let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| entry[at + i]));
            let word = |at: usize| u64::from(u32::from_le_bytes(std::array::from_fn(|i| entry[at + i])));
            let (place, symbol, kind) = match entry_bytes {
                8 => (word(0), word(4) >> 8, word(4) & 0xff),
                _ => (long(0), word(12), word(8)),
            };
            if !is_known(kind) {
                return Err(Fault::Section(*number, "a relocation of a type that the kernel does not know"));
            }
            if symbol >= symbols {
                return Err(Fault::Section(*number, "a relocation for a symbol that there is not"));
            }
            if place >= target.range.len_bytes && target.kind != SHT_NULL {
                return Err(Fault::Section(*number, "a relocation for a place that there is not"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::tests::module;

    #[test]
    fn a_module_is_read_whole() {
        let image = module(&[
            "name=x",
            "license=GPL v2",
            "license=Proprietary",
            "parmtype=depth:uint",
            "parm=depth:how deep: very",
            "parm=other:text",
            "depends=a,b-c",
            "import_ns=NS",
            "firmware=f*",
            "vermagic=6.1.0 SMP",
        ]);
        let facts = Facts::read(&image);
        assert_eq!((facts.fault, facts.machine.unwrap().to_string()), (None, "AArch64".into()));
        let parameter = |name: &str, kind: Option<&str>, text: &str| Parameter {
            name: name.into(),
            kind: kind.map(String::from),
            description: Some(text.into()),
        };
        assert_eq!(
            facts.parameters,
            [parameter("depth", Some("uint"), "how deep: very"), parameter("other", None, "text")]
        );
        assert_eq!(
            (facts.depends, facts.imports, facts.firmware),
            (vec!["a".into(), "b-c".into()], vec!["NS".into()], vec!["f*".into()])
        );
        assert_eq!((facts.license.as_deref(), facts.vermagic.as_deref()), (Some("GPL v2"), Some("6.1.0 SMP")));
        for (len, fault) in [(0, Fault::Empty), (100, Fault::Truncated { needs_bytes: 384, has_bytes: 100 })] {
            let facts = Facts::read(&image[..len]);
            assert_eq!(facts.fault, Some(fault));
            assert_eq!(facts.machine.is_some(), len > 0);
        }
    }
}
