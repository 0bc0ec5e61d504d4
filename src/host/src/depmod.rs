//! What depmod(8) finds out about modules, from the modules themselves: which of them each needs, and what else it is
//! called.
//!
//! With it a tree that depmod has not seen can be used, and an image can have indexes of just the modules in it. Texts
//! and binary indexes are depmod's, byte by byte; only the lines of `modules.symbols`, which depmod takes out of a
//! hash table, stand in the modules' order.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use elf::ElfBytes;
use elf::abi::SHN_UNDEF;
use elf::endian::AnyEndian;
use modest_index_writer::binary_index;
use modest_loader::limits::INDEX_KEY_BYTES;
use modest_loader::name;
use modest_loader::resolve::pattern::{AliasError, normalize_alias};

use crate::codec::decode;
use crate::module::modinfo;

/// What modules say of themselves and need of each other.
#[derive(Clone, Debug)]
pub struct Indexes {
    /// In the order of `modules.order`; then the others, as they were found.
    modules: Vec<Module>,
    /// For each, the places of all that it needs, what is needed first at the end.
    needed: Vec<Vec<usize>>,
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
        Self::of(modules.into_iter().collect::<Result<_>>()?, &order(dir)?)
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
        Ok(Indexes { needed: needed(&direct, &sorted), modules })
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

/// The text of `modules.order` in `dir`; empty if there is none.
pub(crate) fn order(dir: &Path) -> Result<String> {
    let path = dir.join("modules.order");
    let bytes = read_if_there(&path)?.unwrap_or_default();
    String::from_utf8(bytes).with_context(|| path.display().to_string())
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).with_context(|| path.display().to_string()),
    }
}

/// The paths of all modules below the folder `dir`, sorted.
pub fn module_files(dir: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    add_files(&mut files, dir, "")?;
    files.sort();
    Ok(files)
}

/// Adds the modules in the folder `dir` and below, as paths behind `prefix`.
fn add_files(files: &mut Vec<String>, dir: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry.with_context(|| dir.display().to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            // Links to the kernel's sources, with objects of all kinds.
            if !matches!(&*name, "build" | "source") {
                add_files(files, &path, &format!("{prefix}{name}/"))?;
            }
        } else if name::strip_ko(&name).is_some() {
            ensure!(path.to_str().is_some(), "{}: its name is not UTF-8", path.display());
            files.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

/// What `work` makes of each of `items`, in their order.
fn on_all_cores<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let one_core = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(i) else { return done };
            done.push((i, work(item)));
        }
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(one_core)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, result)| result).collect()
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

/// The places of modules, each behind all that need it; or those of a circle, each before what it needs, and the first
/// again at the end.
///
/// Of the many such orders this is depmod's: next is always the one that was the last to have all its users behind it.
fn sort_users_first(direct: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut users = vec![0; direct.len()];
    direct.iter().flatten().for_each(|i| users[*i] += 1);
    let mut free: Vec<_> = (0..direct.len()).filter(|i| users[*i] == 0).collect();
    let mut sorted = Vec::new();
    while let Some(next) = free.pop() {
        sorted.push(next);
        for needed in &direct[next] {
            users[*needed] -= 1;
            if users[*needed] == 0 {
                free.push(*needed);
            }
        }
    }
    match users.iter().position(|left| *left > 0) {
        Some(left) => Err(circle(direct, &users, left)),
        None => Ok(sorted),
    }
}

/// A circle, found from `start` by going from one that has `users` left to one of these.
fn circle(direct: &[Vec<usize>], users: &[usize], start: usize) -> Vec<usize> {
    let mut way = vec![start];
    loop {
        let last = way[way.len() - 1];
        let user = (0..direct.len()).find(|i| (users[*i] > 0) && direct[*i].contains(&last));
        let Some(user) = user else { return way };
        let before = way.iter().position(|i| *i == user);
        way.push(user);
        if let Some(before) = before {
            way.reverse();
            way.truncate(way.len() - before);
            return way;
        }
    }
}

/// For each module, all that it needs, also through others, in the order of `sorted`.
fn needed(direct: &[Vec<usize>], sorted: &[usize]) -> Vec<Vec<usize>> {
    let mut rank = vec![0; sorted.len()];
    sorted.iter().enumerate().for_each(|(at, i)| rank[*i] = at);
    let mut all = vec![Vec::new(); sorted.len()];
    for i in sorted.iter().rev() {
        let through = direct[*i].iter().flat_map(|j| &all[*j]);
        let mut needed: Vec<usize> = direct[*i].iter().chain(through).copied().collect();
        needed.sort_by_key(|j| rank[*j]);
        needed.dedup();
        all[*i] = needed;
    }
    all
}

/// An index, made of the bytes of another file.
type Make = fn(&[u8]) -> Result<Vec<u8>>;

/// The indexes of what is built into the kernel, by their names: those in `dir`, or what stands in for them there.
pub fn builtin_files(dir: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    const FILES: [(&str, &str, Make); 2] = [
        ("modules.builtin.bin", "modules.builtin", |text| builtin_bin(str::from_utf8(text)?)),
        ("modules.builtin.alias.bin", "modules.builtin.modinfo", builtin_alias_bin),
    ];
    let mut files = Vec::new();
    for (name, source, make) in FILES {
        let source = dir.join(source);
        let bytes = match read_if_there(&dir.join(name))? {
            Some(bytes) => Some(bytes),
            None => read_if_there(&source)?
                .map(|bytes| make(&bytes).with_context(|| source.display().to_string()))
                .transpose()?,
        };
        files.extend(bytes.map(|bytes| (name, bytes)));
    }
    Ok(files)
}

/// The bytes of `modules.builtin.bin`, from the text of `modules.builtin`.
pub fn builtin_bin(builtin: &str) -> Result<Vec<u8>> {
    Ok(binary_index(builtin.lines().map(|path| (name::of(path).to_string(), 0, String::new())))?)
}

/// The bytes of `modules.builtin.alias.bin`, from those of `modules.builtin.modinfo`.
pub fn builtin_alias_bin(modinfo: &[u8]) -> Result<Vec<u8>> {
    let texts = modinfo.split(|b| *b == 0).filter_map(|text| str::from_utf8(text).ok());
    alias_index(texts.filter_map(|text| {
        let (key, alias) = text.split_once('=')?;
        Some((alias, 0, key.strip_suffix(".alias")?))
    }))
}

/// An index of aliases, each with a priority and the name of its module.
fn alias_index<'a>(aliases: impl Iterator<Item = (&'a str, u32, &'a str)>) -> Result<Vec<u8>> {
    let mut entries = Vec::new();
    for (alias, priority, name) in aliases {
        let mut key = heapless::String::<INDEX_KEY_BYTES>::new();
        match normalize_alias(alias, &mut key) {
            Ok(()) => entries.push((key.to_string(), priority, name.to_string())),
            // Nothing that is looked up is like it; depmod too has it in the text alone.
            Err(AliasError::Brackets) => {}
            Err(error @ AliasError::Long) => bail!("{name}: {error}: {alias}"),
        }
    }
    Ok(binary_index(entries)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use modest_loader::format::Format;
    use modest_loader::resolve::index::Index;
    use object::write::{Object, Symbol, SymbolSection};
    use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};
    use proptest::prelude::*;

    use crate::codec::encode;

    /// A module with these pairs in its `.modinfo`, that exports and needs these symbols.
    fn module(modinfo: &[&str], exported: &[&str], undefined: &[&str]) -> Vec<u8> {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::Arm, Endianness::Little);
        for (section, texts) in [(".modinfo", modinfo), ("__ksymtab_strings", exported)] {
            let id = object.add_section(Vec::new(), section.into(), SectionKind::ReadOnlyData);
            object.append_section_data(id, (texts.join("\0") + "\0").as_bytes(), 1);
        }
        for name in undefined {
            object.add_symbol(Symbol {
                name: name.as_bytes().into(),
                value: 0,
                size: 0,
                kind: SymbolKind::Unknown,
                scope: SymbolScope::Unknown,
                weak: false,
                section: SymbolSection::Undefined,
                flags: SymbolFlags::None,
            });
        }
        object.write().unwrap()
    }

    fn of<const N: usize>(modules: [(&str, Vec<u8>); N], order: &str) -> Result<Indexes, String> {
        Indexes::of_modules(modules, order).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_module_needs_those_that_have_its_symbols() {
        let indexes = of(
            [
                ("k/a.ko.xz", module(&[], &[], &["b1", "c1", "_printk"])),
                ("k/b.ko", module(&[], &["b1"], &["c1"])),
                ("k/c-d.ko", module(&[], &["c1"], &["_printk"])),
                ("k/without-symbols.ko", module(&["depends=b,none,c_d"], &[], &[])),
            ],
            "k/c-d.ko\nk/gone.ko\nk/a.ko\n",
        );
        let indexes = indexes.unwrap();
        let dep = "k/c-d.ko:\nk/a.ko.xz: k/b.ko k/c-d.ko\nk/b.ko: k/c-d.ko\nk/without-symbols.ko: k/b.ko k/c-d.ko\n";
        assert_eq!(indexes.dep(), dep);
        let bin = indexes.dep_bin().unwrap();
        assert_eq!(Index::new(&bin).unwrap().find("a"), Ok(Some("k/a.ko.xz: k/b.ko k/c-d.ko")));
        let symbols = "# Aliases for symbols, used by symbol_request().\nalias symbol:c1 c_d\nalias symbol:b1 b\n";
        assert_eq!(indexes.symbols(), symbols);
        let bin = indexes.symbols_bin().unwrap();
        assert_eq!(Index::new(&bin).unwrap().find("symbol:c1"), Ok(Some("c_d")));
    }

    #[test]
    fn what_a_module_says_is_told_under_its_name() {
        let modinfo = ["alias=x-y*", "softdep=pre: c", "license=GPL", "alias=b]", "weakdep=d e"];
        let indexes = of([("k/a-b.ko", module(&modinfo, &[], &[]))], "").unwrap();
        assert_eq!(
            [indexes.alias(), indexes.softdep(), indexes.weakdep()],
            [
                "# Aliases extracted from modules themselves.\nalias x-y* a_b\nalias b] a_b\n",
                "# Soft dependencies extracted from modules themselves.\nsoftdep a_b pre: c\n",
                "# Weak dependencies extracted from modules themselves.\nweakdep a_b d e\n",
            ]
        );
        let bin = indexes.alias_bin().unwrap();
        assert_eq!(Index::new(&bin).unwrap().matches("x_yz").unwrap(), ["a_b"]);
        assert_eq!(all(&bin).len(), 1);
        let builtin = builtin_alias_bin(b"c.license=GPL\0c.alias=d-*\0c.file=k/c\0").unwrap();
        assert_eq!(all(&builtin), [("d_*".into(), "c".into())]);
        assert_eq!(all(&builtin_bin("k/c-d.ko\n").unwrap()), [("c_d".into(), String::new())]);
    }

    #[test]
    fn updates_are_preferred() {
        let named = |symbol| module(&[], &[symbol], &["_printk"]);
        let indexes =
            of([("k/a.ko", named("old")), ("updates/a.ko.gz", named("new")), ("updates/z/a.ko", named("other"))], "");
        assert_eq!(indexes.unwrap().dep(), "updates/a.ko.gz:\n");
    }

    #[test]
    fn what_has_no_indexes_is_named() {
        let circle = of(
            [
                ("k/user.ko", module(&[], &[], &["a1"])),
                ("k/a.ko", module(&[], &["a1"], &["c1"])),
                ("k/b.ko", module(&[], &["b1"], &["a1"])),
                ("k/c.ko", module(&[], &["c1"], &["b1", "d1"])),
                ("k/d.ko", module(&[], &["d1"], &[])),
            ],
            "",
        );
        let circles = ["k/a.ko needs k/c.ko needs k/b.ko needs k/a.ko"];
        assert_eq!(circle.unwrap_err(), format!("modules that need each other: {}", circles[0]));
        assert!(of([("k/a.ko", b"text".to_vec())], "").unwrap_err().starts_with("k/a.ko: "));
        let no_modinfo = Object::new(BinaryFormat::Elf, Architecture::Arm, Endianness::Little).write().unwrap();
        assert_eq!(of([("a.ko", no_modinfo)], "").unwrap_err(), "a.ko: not a module: no .modinfo in it");

        let index = |alias: &str| {
            let indexes = of([("k/a.ko", module(&[&format!("alias={alias}")], &[], &[]))], "").unwrap();
            indexes.alias_bin().map_err(|error| error.to_string())
        };
        assert_eq!(index("ä").unwrap_err(), "a key of an index that is not ASCII: ä");
        assert!(index(&"x".repeat(INDEX_KEY_BYTES)).is_ok());
        assert!(index(&"x".repeat(INDEX_KEY_BYTES + 1)).unwrap_err().starts_with("a: the alias is too long: xx"));
    }

    #[test]
    fn a_tree_is_read_whatever_its_format() {
        let tmp = tempfile::tempdir().unwrap();
        let write = |file: &str, bytes: &[u8]| {
            let path = tmp.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        assert_eq!(Indexes::of_tree(tmp.path()).unwrap().dep(), "");
        let image = module(&[], &["a1"], &["_printk"]);
        let formats = [Format::Plain, Format::Gzip, Format::Xz, Format::Zstd];
        for (i, format) in formats.into_iter().enumerate() {
            write(&format!("k/m{i}.ko{}", format.ending()), &encode(&image, format).unwrap());
        }
        let xz = encode(&module(&[], &[], &["a1"]), Format::Xz).unwrap();
        write("extra/x/a.ko.xz", &xz);
        write("build/b.ko", b"of the sources");
        write("k/modules.txt", b"text");
        write("modules.order", b"k/m3.ko\nk/m2.ko\n");
        let dep = "k/m3.ko.zst:\nk/m2.ko.xz:\nextra/x/a.ko.xz: k/m1.ko.gz\nk/m0.ko:\nk/m1.ko.gz:\n";
        assert_eq!(Indexes::of_tree(tmp.path()).unwrap().dep(), dep);
        for bytes in [&xz[..xz.len() - 20], &image[..image.len() - 20], b""] {
            write("extra/x/a.ko.xz", bytes);
            let error = format!("{:#}", Indexes::of_tree(tmp.path()).unwrap_err());
            assert!(error.starts_with(&format!("{}/extra/x/a.ko.xz: ", tmp.path().display())), "{error}");
        }
        let error = Indexes::of_tree(&tmp.path().join("none")).unwrap_err();
        assert!(format!("{error:#}").contains("/none: No such file"), "{error:#}");
    }

    fn all(index: &[u8]) -> Vec<(String, String)> {
        let mut entries = Vec::new();
        Index::new(&index).unwrap().each(&mut |key, value| entries.push((key.into(), value.into()))).unwrap();
        entries
    }

    #[test]
    fn of_values_of_one_priority_the_last_is_found() {
        let same = binary_index(["first", "last"].map(|value| (String::new(), 1, value.to_string()))).unwrap();
        assert_eq!(Index::new(&same).unwrap().find(""), Ok(Some("last")));
        assert_eq!(all(&same), [("".into(), "last".into()), ("".into(), "first".into())]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_found(entries in prop::collection::vec(("[ab*-]{1,5}", 0u32..3, "[x-z]{0,2}"), 0..12)) {
            let file = binary_index(entries.clone()).unwrap();
            let index = Index::new(&file).unwrap();
            for (key, ..) in &entries {
                let least = entries.iter().rev().filter(|entry| entry.0 == *key).min_by_key(|entry| entry.1);
                prop_assert_eq!(index.find(key).unwrap(), least.map(|entry| entry.2.as_str()));
            }
            let mut expected: Vec<_> = entries.into_iter().map(|(key, _, value)| (key, value)).collect();
            let mut found = all(&file);
            expected.sort();
            found.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
