//! The symbols of an image: what it exports, what it can do without, and which parameters it has.

use std::collections::{BTreeSet, HashMap};

use elf::abi::{SHN_COMMON, SHN_LORESERVE, SHT_NOBITS, STB_WEAK};
use modest_loader::elf::{Elf, Fault, Symbol};
use serde::Serialize;

use super::sections::{Sections, named};

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

/// What the symbols of an image tell.
#[derive(Default)]
pub(super) struct Symbols {
    /// How many there are.
    pub count: u64,
    /// Those that the module can do without.
    pub weak: Vec<String>,
    /// The names of its parameters.
    pub parameters: BTreeSet<String>,
    /// Each with whether it is GPL-only.
    exported: Vec<(String, bool)>,
    /// Section and value of each symbol's CRC.
    crcs: HashMap<String, (u16, u64)>,
    /// Where in `__ksymtab_strings` each symbol's name space is.
    namespaces: HashMap<String, u64>,
    /// What no kernel takes.
    wrong: Option<&'static str>,
}

/// The numbers of the sections that symbols tell something by.
struct Numbers {
    ksymtab: u16,
    ksymtab_gpl: u16,
    ksymtab_strings: u16,
    param: u16,
    /// The last of all sections.
    last: u16,
}

impl Numbers {
    fn of(sections: &Sections) -> Numbers {
        let number = |wanted: &str| {
            let found = sections.iter().find(|(_, name, _)| name == wanted);
            found.map_or(Symbol::UNDEFINED, |(number, ..)| *number)
        };
        Numbers {
            ksymtab: number("__ksymtab"),
            ksymtab_gpl: number("__ksymtab_gpl"),
            ksymtab_strings: number("__ksymtab_strings"),
            param: number("__param"),
            last: sections.last().map_or(0, |(number, ..)| *number),
        }
    }
}

impl Symbols {
    /// Looks at every symbol once.
    pub fn read(elf: &mut Elf<&[u8]>, sections: &Sections) -> Result<Symbols, Fault> {
        let numbers = Numbers::of(sections);
        // The first of a file counts as one too.
        let mut symbols = Symbols { count: 1, ..Symbols::default() };
        elf.symbols(&mut |symbol| symbols.add(symbol, &numbers))?;
        match symbols.wrong {
            Some(what) => Err(Fault::Content(what)),
            None => Ok(symbols),
        }
    }

    fn add(&mut self, symbol: &Symbol, numbers: &Numbers) {
        let Symbol { name, section, value, .. } = *symbol;
        self.count += 1;
        match section {
            Symbol::UNDEFINED if symbol.info >> 4 == STB_WEAK && !name.is_empty() => self.weak.push(name.into()),
            Symbol::UNDEFINED => {}
            SHN_COMMON if !name.starts_with("__gnu_lto") => {
                self.wrong = Some("it has common symbols, which no kernel takes")
            }
            _ if section > numbers.last && section < SHN_LORESERVE => {
                self.wrong = Some("a symbol is in a section that there is not")
            }
            _ if section == numbers.ksymtab || section == numbers.ksymtab_gpl => {
                if let Some(name) = name.strip_prefix("__ksymtab_") {
                    self.exported.push((name.into(), section == numbers.ksymtab_gpl));
                }
            }
            _ if section == numbers.ksymtab_strings => {
                if let Some(name) = name.strip_prefix("__kstrtabns_") {
                    self.namespaces.insert(name.into(), value);
                }
            }
            _ if section == numbers.param => self.parameters.extend(name.strip_prefix("__param_").map(String::from)),
            _ => {}
        }
        if section != Symbol::UNDEFINED
            && let Some(name) = name.strip_prefix("__crc_")
        {
            self.crcs.insert(name.into(), (section, value));
        }
    }

    /// What other modules may use.
    pub fn exports(&self, elf: &mut Elf<&[u8]>, sections: &Sections) -> Result<Vec<Export>, Fault> {
        let strings = strings(elf, sections)?;
        let text = |at: u64| {
            let rest = usize::try_from(at).ok().and_then(|at| strings.get(at..)).unwrap_or_default();
            let text = rest.split(|b| *b == 0).next().unwrap_or_default();
            str::from_utf8(text).ok().filter(|text| !text.is_empty()).map(String::from)
        };
        let mut exports = Vec::new();
        for (name, gpl_only) in self.exported(&strings) {
            let crc = self.crc(&name, elf, sections)?;
            let namespace = self.namespaces.get(&name).and_then(|at| text(*at));
            exports.push(Export { name, crc, gpl_only, namespace });
        }
        Ok(exports)
    }

    /// The exported symbols, sorted, each with whether it is GPL-only; `strings` is what `__ksymtab_strings` holds.
    fn exported(&self, strings: &[u8]) -> Vec<(String, bool)> {
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
        exported
    }

    fn crc(&self, symbol: &str, elf: &mut Elf<&[u8]>, sections: &Sections) -> Result<Option<u32>, Fault> {
        let (number, value) = match self.crcs.get(symbol) {
            None => return Ok(None),
            // Before Linux 5.19.
            Some((Symbol::ABSOLUTE, value)) => return Ok(Some(*value as u32)),
            Some(place) => *place,
        };
        let Some((_, _, section)) = sections.iter().find(|(other, ..)| *other == number) else { return Ok(None) };
        let mut bytes = [0; 4];
        let len = elf.read(section.range, value, &mut bytes)?;
        let is_big = elf.machine().data == elf::abi::ELFDATA2MSB;
        Ok((len == 4).then(|| if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }))
    }
}

/// What `__ksymtab_strings` holds; empty where there is none.
fn strings(elf: &mut Elf<&[u8]>, sections: &Sections) -> Result<Vec<u8>, Fault> {
    match named(sections, "__ksymtab_strings") {
        Some(section) if section.kind != SHT_NOBITS => {
            let mut bytes = vec![0; section.range.len_bytes as usize];
            elf.read(section.range, 0, &mut bytes)?;
            Ok(bytes)
        }
        _ => Ok(Vec::new()),
    }
}
