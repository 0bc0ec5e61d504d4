//! What depmod(8) finds out about modules, from the modules themselves: which of them each needs, and what else it is
//! called.
//!
//! With it a tree that depmod has not seen can be used, and an image can have indexes of just the modules in it. Texts
//! and binary indexes are depmod's, byte by byte; only the lines of `modules.symbols`, which depmod takes out of a
//! hash table, stand in the modules' order.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use elf::ElfBytes;
use elf::abi::SHN_UNDEF;
use elf::endian::AnyEndian;
use modest_index_writer::binary_index;
use modest_loader::name;

use super::aliases::alias_index;
use super::files::{module_files, order};
use super::order::{needed, sort_users_first};
use crate::codec::decode;
use crate::cores::on_all_cores;
use crate::module::modinfo::modinfo;

/// What modules say of themselves and need of each other.
#[derive(Clone, Debug)]
pub struct Indexes {
    /// In the order of `modules.order`; then the others, as they were found.
    modules: Vec<Module>,
    /// For each, the places of all that it needs, what is needed first at the end.
    needed: Vec<Vec<usize>>,
    /// Why which files are in none of the indexes.
    passed_over: Vec<String>,
}

/// What a module says of itself.
#[derive(Clone, Debug, Default)]
struct Module {
    /// Relative to the tree.
    path: String,
    /// As the kernel writes it.
    name: String,
    exported: BTreeSet<String>,
    undefined: Vec<String>,
    /// The modules that its build found it to need.
    depends: Vec<String>,
    aliases: Vec<String>,
    softdeps: Vec<String>,
    weakdeps: Vec<String>,
}

impl Indexes {
    /// Of modules, each with its path in a tree and its image; `order` is the tree's `modules.order`, and those that are
    /// not in it come last, as they are given.
    ///
    /// Of modules of one name the first counts, or else the first in `updates`.
    pub fn of_modules<P: Into<String>, I: AsRef<[u8]>>(
        modules: impl IntoIterator<Item = (P, I)>, order: &str,
    ) -> Result<Indexes> {
        let read = modules.into_iter().map(|(path, image)| {
            let path = path.into();
            Module::read(path.clone(), image.as_ref()).context(path)
        });
        Self::of(read.collect::<Result<_>>()?, order)
    }

    /// Of all modules below the folder `dir`, read by all cores at once.
    pub fn of_tree(dir: &Path) -> Result<Indexes> {
        let modules = on_all_cores(&module_files(dir)?, |file| {
            let path = dir.join(file);
            let read = || Module::read(file.clone(), &decode(&fs::read(&path)?)?);
            read().with_context(|| path.display().to_string())
        });
        // As for depmod, one file that is damaged or leads nowhere spoils no other.
        let (read, broken): (Vec<_>, Vec<_>) = modules.into_iter().partition(Result::is_ok);
        let passed_over = broken.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
        let indexes = Self::of(read.into_iter().flatten().collect(), &order(dir)?)?;
        Ok(Indexes { passed_over, ..indexes })
    }

    /// Why which files of the tree are in none of the indexes, a line for each.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// As [`Indexes::of_modules`], but of files that may be compressed, read by all cores at once.
    pub fn of_files(files: &[(&str, &[u8])], order: &str) -> Result<Indexes> {
        let modules = on_all_cores(files, |(path, bytes)| {
            let read = || Module::read(path.to_string(), &decode(bytes)?);
            read().with_context(|| path.to_string())
        });
        Self::of(modules.into_iter().collect::<Result<_>>()?, order)
    }

    fn of(found: Vec<Module>, order: &str) -> Result<Indexes> {
        let mut modules = one_of_each_name(found);
        let position: HashMap<_, _> = order.lines().enumerate().map(|(i, line)| (without_ending(line), i)).collect();
        modules.sort_by_key(|module| position.get(without_ending(&module.path)).copied().unwrap_or(usize::MAX));
        let direct = direct(&modules);
        let sorted = sort_users_first(&direct).map_err(|circle| {
            let paths: Vec<_> = circle.iter().map(|i| modules[*i].path.as_str()).collect();
            anyhow!("modules that need each other: {}", paths.join(" needs "))
        })?;
        Ok(Indexes { needed: needed(&direct, &sorted), modules, passed_over: Vec::new() })
    }

    /// The text of `modules.dep`.
    pub fn dep(&self) -> String {
        self.dep_lines().map(|(_, line)| line + "\n").collect()
    }

    /// The text of `modules.alias`.
    pub fn alias(&self) -> String {
        let lines = self.each(|module| &module.aliases).map(|(_, name, alias)| format!("alias {alias} {name}\n"));
        with_heading("Aliases extracted from modules themselves.", lines)
    }

    /// The text of `modules.symbols`.
    pub fn symbols(&self) -> String {
        let lines = self.symbol_keys().map(|(i, key)| format!("alias {key} {}\n", self.modules[i].name));
        with_heading("Aliases for symbols, used by symbol_request().", lines)
    }

    /// The text of `modules.softdep`.
    pub fn softdep(&self) -> String {
        let lines = self.each(|module| &module.softdeps).map(|(_, name, text)| format!("softdep {name} {text}\n"));
        with_heading("Soft dependencies extracted from modules themselves.", lines)
    }

    /// The text of `modules.weakdep`.
    pub fn weakdep(&self) -> String {
        let lines = self.each(|module| &module.weakdeps).map(|(_, name, text)| format!("weakdep {name} {text}\n"));
        with_heading("Weak dependencies extracted from modules themselves.", lines)
    }

    /// The bytes of `modules.dep.bin`.
    pub fn dep_bin(&self) -> Result<Vec<u8>> {
        Ok(binary_index(self.dep_lines().map(|(i, line)| (self.modules[i].name.clone(), i as u32, line)))?)
    }

    /// The bytes of `modules.alias.bin`.
    pub fn alias_bin(&self) -> Result<Vec<u8>> {
        let aliases = self.each(|module| &module.aliases);
        alias_index(aliases.map(|(i, name, alias)| (alias, i as u32, name)))
    }

    /// The bytes of `modules.symbols.bin`.
    pub fn symbols_bin(&self) -> Result<Vec<u8>> {
        Ok(binary_index(self.symbol_keys().map(|(i, key)| (key, i as u32, self.modules[i].name.clone())))?)
    }

    /// The files that modules are looked up in, by their names in a tree.
    pub fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        Ok(vec![
            ("modules.dep.bin", self.dep_bin()?),
            ("modules.alias.bin", self.alias_bin()?),
            ("modules.symbols.bin", self.symbols_bin()?),
            ("modules.softdep", self.softdep().into_bytes()),
        ])
    }

    /// The place of each module, and its line of `modules.dep`.
    fn dep_lines(&self) -> impl Iterator<Item = (usize, String)> {
        self.modules.iter().zip(&self.needed).enumerate().map(|(i, (module, needed))| {
            let mut line = format!("{}:", module.path);
            for i in needed {
                let _ = write!(line, " {}", self.modules[*i].path);
            }
            (i, line)
        })
    }

    /// Each text that `of` tells of each module, behind the module's place and name.
    fn each<'a>(
        &'a self, of: impl Fn(&'a Module) -> &'a Vec<String>,
    ) -> impl Iterator<Item = (usize, &'a str, &'a str)> {
        let modules = self.modules.iter().enumerate();
        modules.flat_map(move |(i, module)| of(module).iter().map(move |text| (i, module.name.as_str(), text.as_str())))
    }

    /// What each exported symbol is looked up as, behind the place of the module that has it.
    fn symbol_keys(&self) -> impl Iterator<Item = (usize, String)> {
        let exporters = exporters(&self.modules);
        self.modules.iter().enumerate().flat_map(move |(i, module)| {
            let own = module.exported.iter().filter(|symbol| exporters[symbol.as_str()] == i);
            own.map(|symbol| (i, format!("symbol:{symbol}"))).collect::<Vec<_>>()
        })
    }
}

fn with_heading(heading: &str, lines: impl Iterator<Item = String>) -> String {
    format!("# {heading}\n{}", lines.collect::<String>())
}

impl Module {
    fn read(path: String, image: &[u8]) -> Result<Module> {
        let mut module = Module { name: name::of(&path).to_string(), path, ..Module::default() };
        module.read_image(image)?;
        Ok(module)
    }

    fn read_image(&mut self, image: &[u8]) -> Result<()> {
        for (key, value) in modinfo(image)? {
            match key {
                "alias" => self.aliases.push(value.into()),
                "softdep" => self.softdeps.push(value.into()),
                "weakdep" => self.weakdeps.push(value.into()),
                "depends" => self.depends.extend(value.split(',').map(|name| name::Name(name).to_string())),
                _ => {}
            }
        }
        let elf = ElfBytes::<AnyEndian>::minimal_parse(image)?;
        if let Some((symbols, names)) = elf.symbol_table()? {
            for symbol in symbols.iter().skip(1) {
                let name = names.get_raw(symbol.st_name as usize)?;
                if symbol.st_shndx == SHN_UNDEF {
                    self.undefined.push(str::from_utf8(name)?.into());
                } else if let Some(name) = name.strip_prefix(b"__crc_") {
                    self.exported.insert(str::from_utf8(name)?.into());
                }
            }
        }
        // A kernel without CONFIG_MODVERSIONS has no checksums of symbols. Their names stand with those of name spaces,
        // as which depmod does not know them either.
        if self.exported.is_empty()
            && let Some(header) = elf.section_header_by_name("__ksymtab_strings")?
        {
            let (data, _) = elf.section_data(&header)?;
            let names = str::from_utf8(data)?.split('\0').filter(|name| !name.is_empty());
            self.exported.extend(names.map(String::from));
        }
        Ok(())
    }

    /// Whether it is where depmod prefers modules to others of their name.
    fn is_update(&self) -> bool {
        self.path.starts_with("updates/")
    }
}

/// A path without what tells the compression.
fn without_ending(path: &str) -> &str {
    name::strip_ko(path).map_or(path, |(stem, _)| stem)
}

fn one_of_each_name(found: Vec<Module>) -> Vec<Module> {
    let mut chosen = HashMap::new();
    for (i, module) in found.iter().enumerate() {
        let held = chosen.entry(module.name.clone()).or_insert(i);
        if module.is_update() && !found[*held].is_update() {
            *held = i;
        }
    }
    let found = found.into_iter().enumerate();
    found.filter_map(|(i, module)| (chosen[&module.name] == i).then_some(module)).collect()
}

/// The place of the module that has a symbol: of those that do, the last.
fn exporters(modules: &[Module]) -> HashMap<&str, usize> {
    let modules = modules.iter().enumerate();
    modules.flat_map(|(i, module)| module.exported.iter().map(move |symbol| (symbol.as_str(), i))).collect()
}

/// For each module, those that have its symbols, in the order in which it names these; a symbol that no module has is
/// the kernel's.
fn direct(modules: &[Module]) -> Vec<Vec<usize>> {
    let exporters = exporters(modules);
    let names: HashMap<_, _> = modules.iter().enumerate().map(|(i, module)| (module.name.as_str(), i)).collect();
    let of = |module: &Module| {
        // One whose symbols were left out still says whose they were.
        let (words, places) = match &module.undefined[..] {
            [] => (&module.depends, &names),
            _ => (&module.undefined, &exporters),
        };
        let mut needed = Vec::new();
        for place in words.iter().filter_map(|word| places.get(word.as_str()).copied()) {
            if !needed.contains(&place) {
                needed.push(place);
            }
        }
        needed
    };
    modules.iter().map(of).collect()
}

#[cfg(test)]
#[path = "depmod_tests.rs"]
mod tests;
