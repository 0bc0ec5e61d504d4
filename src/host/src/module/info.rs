//! What a module's image tells of it: what it is, needs, exports and takes, and what about it no kernel would take.
//!
//! Read by the target's own code ([`modest_loader::elf`]). Nothing is decided here but what no kernel would take.

use elf::abi::{EM_386, EM_X86_64, SHT_NOBITS};
use modest_loader::elf::{Elf, Fault, Machine, NAME_BYTES};
use serde::{Serialize, Serializer};

use super::relocations;
use super::sections::{Sections, content, named};
use super::symbols::{Export, Symbols};

/// What a module's image tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModuleInfo {
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

impl ModuleInfo {
    /// Reads an image, which is not compressed.
    pub fn read(image: &[u8]) -> ModuleInfo {
        let mut info = ModuleInfo::default();
        info.fault = info.read_fallible(image).err();
        info
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
        let this_module = named(&sections, ".gnu.linkonce.this_module");
        self.struct_bytes = this_module.map_or(0, |section| section.range.len_bytes);
        let symbols = Symbols::read(&mut elf, &sections)?;
        self.exports = symbols.exports(&mut elf, &sections)?;
        self.add_parameters(&symbols, &sections);
        self.weak = symbols.weak;
        relocations::check(image, elf.machine(), &sections, symbols.count)
    }

    /// Adds the versions of symbols whose names are too long for `__versions` (since Linux 6.14; CONFIG_EXTENDED_MODVERSIONS).
    fn add_long_versions(&mut self, image: &[u8], machine: Machine, sections: &Sections) {
        let [crcs, names] = ["__version_ext_crcs", "__version_ext_names"].map(|wanted| {
            let section = named(sections, wanted).filter(|section| section.kind != SHT_NOBITS);
            section.map_or(&[][..], |section| content(image, section.range))
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

    /// Adds the parameters that `.modinfo` does not tell of: those without a description and with a setter of their own.
    fn add_parameters(&mut self, symbols: &Symbols, sections: &Sections) {
        // struct kernel_param: three pointers, four bytes, a pointer.
        let entry_bytes = if self.machine.is_some_and(|machine| machine.class == 1) { 20 } else { 40 };
        let entries = named(sections, "__param").map_or(0, |section| section.range.len_bytes as usize / entry_bytes);
        for name in &symbols.parameters {
            if !self.parameters.iter().any(|parameter| parameter.name == *name) {
                self.parameters.push(Parameter { name: name.clone(), ..Parameter::default() });
            }
        }
        // MODULE_PARM_DESC may describe what there is not; so those count that the symbols name, if they do.
        let named = if symbols.parameters.is_empty() { self.parameters.len() } else { symbols.parameters.len() };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::made::module;

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
        let info = ModuleInfo::read(&image);
        assert_eq!((info.fault, info.machine.unwrap().to_string()), (None, "AArch64".into()));
        let parameter = |name: &str, kind: Option<&str>, text: &str| Parameter {
            name: name.into(),
            kind: kind.map(String::from),
            description: Some(text.into()),
        };
        assert_eq!(
            info.parameters,
            [parameter("depth", Some("uint"), "how deep: very"), parameter("other", None, "text")]
        );
        assert_eq!(
            (info.depends, info.imports, info.firmware),
            (vec!["a".into(), "b-c".into()], vec!["NS".into()], vec!["f*".into()])
        );
        assert_eq!((info.license.as_deref(), info.vermagic.as_deref()), (Some("GPL v2"), Some("6.1.0 SMP")));
        for (len, fault) in [(0, Fault::Empty), (100, Fault::Truncated { needs_bytes: 384, has_bytes: 100 })] {
            let info = ModuleInfo::read(&image[..len]);
            assert_eq!(info.fault, Some(fault));
            assert_eq!(info.machine.is_some(), len > 0);
        }
    }
}
