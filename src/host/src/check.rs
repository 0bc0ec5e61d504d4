//! What is wrong with a module, and with modules that are to be loaded one after another: what the kernel would refuse, told
//! before it does (load_module of kernel/module/main.c).
//!
//! All decisions are here, for `mkmodest image` and `mkmodest check` alike. What can only be guessed is let be: a set that
//! loads is never refused. docs/checks.md lists what is looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use modest_loader::elf::{Fault, Machine};
use modest_loader::format::Format;
use modest_loader::name::{self, Name};
use modest_loader::text::Words;
use serde::Serialize;

use crate::codec::decode;
use crate::facts::{Export, Facts, Parameter};
use crate::map::Map;
use crate::symbols::{KernelSymbols, TreeSymbols};

/// Something that is wrong, or may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether it keeps a module from being loaded as it is meant.
    pub level: Level,
    /// What it is about.
    pub kind: Kind,
    /// The module's file.
    pub file: String,
    /// What is wrong.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The kernel refuses the module, or it does not do what is asked.
    Problem,
    /// It may well be meant.
    Warning,
}

/// What a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Kind {
    Elf,
    File,
    Firmware,
    License,
    Machine,
    Manifest,
    Name,
    Namespace,
    Parameter,
    Struct,
    Symbol,
    Vermagic,
    Version,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Problem { file, cause, remedy, .. } = self;
        write!(f, "{file}: {cause}: {remedy}")
    }
}

impl Problem {
    /// One that keeps a module from being loaded.
    pub fn new(kind: Kind, file: &str, cause: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem { level: Level::Problem, kind, file: file.into(), cause: cause.into(), remedy: remedy.into() }
    }

    /// The same as no more than a warning.
    pub fn warning(self) -> Problem {
        Problem { level: Level::Warning, ..self }
    }

    /// Whether it keeps a module from being loaded.
    pub fn is_problem(&self) -> bool {
        self.level == Level::Problem
    }
}

/// A module of a set.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its file, for messages.
    pub file: &'a str,
    /// What it tells.
    pub facts: &'a Facts,
    /// Its parameters, as the kernel gets them.
    pub params: &'a str,
}

/// What is known of the kernel that a set is for.
#[derive(Clone, Copy, Default)]
pub struct Around<'a> {
    /// What the board is.
    pub machine: Option<Machine>,
    /// Its release.
    pub release: Option<&'a str>,
    /// What it exports.
    pub kernel: Option<&'a KernelSymbols>,
    /// What its modules export, those of the set and all others.
    pub tree: Option<&'a TreeSymbols>,
}

/// What is wrong with one module, whatever it is loaded with.
pub fn module(file: &str, facts: &Facts) -> Vec<Problem> {
    if let Some(fault) = facts.fault {
        return vec![Problem::new(Kind::Elf, file, fault.to_string(), remedy_of(fault))];
    }
    let mut problems = Vec::new();
    let (own, named) = (Name(&facts.name).to_string(), name::of(file).to_string());
    if own != named {
        let cause = format!("the module in it is {own}, not {named}");
        let remedy = format!("name the file {own}.ko, or what depends on it does not find it");
        problems.push(Problem::new(Kind::Name, file, cause, remedy).warning());
    }
    if facts.vermagic.is_none() {
        let remedy = "build it as a module (obj-m); only a kernel with CONFIG_MODULE_FORCE_LOAD takes it";
        problems.push(Problem::new(Kind::Vermagic, file, "it has no vermagic", remedy).warning());
    }
    problems
}

fn remedy_of(fault: Fault) -> &'static str {
    match fault {
        Fault::Stripped => "take the file as it was built; `mkmodest image --strip` leaves in what is needed",
        Fault::Lacks(_) => "build it as a module (obj-m)",
        Fault::Empty | Fault::NotElf(_) | Fault::NotRelocatable(_) => "name a module's file, NAME.ko",
        _ => "take the file as it was built",
    }
}

/// What is wrong with modules that are loaded in this order, `loaded`, and with others that are there to be loaded `later`
/// with what they need.
pub fn set(loaded: &[Member], later: &[Member], around: Around) -> Vec<Problem> {
    let mut set = Set { around, all: loaded.iter().chain(later).copied().collect(), problems: Vec::new() };
    let faulty = |member: &&Member| member.facts.fault.is_some();
    for member in &set.all {
        set.problems.extend(module(member.file, member.facts).into_iter().filter(Problem::is_problem));
    }
    let broken: BTreeSet<String> =
        set.all.iter().filter(faulty).map(|member| name::of(member.file).to_string()).collect();
    set.all.retain(|member| member.facts.fault.is_none());
    set.machines();
    set.names();
    set.structs();
    set.link(loaded.len() - loaded.iter().filter(faulty).count(), &broken);
    for member in set.all.clone() {
        set.parameters(&member);
    }
    set.problems
}

/// A set, and what is found.
struct Set<'a> {
    around: Around<'a>,
    all: Vec<Member<'a>>,
    problems: Vec<Problem>,
}

/// What a module gets a symbol from: the file, and what that says of it.
type Provider<'a> = (&'a str, &'a Export);

impl<'a> Set<'a> {
    fn problem(&mut self, kind: Kind, file: &str, cause: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(kind, file, cause, remedy));
    }

    /// Tells those for other machines, which nothing further is told of.
    fn machines(&mut self) {
        let (wanted, of) = match self.around.machine {
            Some(machine) => (Some(machine), "the board is"),
            None => (most(self.all.iter().filter_map(|member| member.facts.machine)), "the other modules are for"),
        };
        let (good, other) = self.all.iter().partition::<Vec<Member>, _>(|member| member.facts.machine == wanted);
        self.all = good;
        let Some(wanted) = wanted else { return };
        for Member { file, facts, .. } in other {
            let Some(machine) = facts.machine else { continue };
            let remedy = format!("take it from a kernel for {wanted}");
            self.problem(Kind::Machine, file, format!("built for {machine}; {of} {wanted}"), remedy);
        }
    }

    /// Tells modules of one name, and symbols that two of them export.
    fn names(&mut self) {
        let (mut names, mut exporters) = (HashMap::new(), HashMap::new());
        for Member { file, facts, .. } in self.all.clone() {
            let name = Name(&facts.name).to_string();
            let cause = match names.get(&name) {
                Some(other) => Some((Kind::Name, format!("it is module {name}, and so is {other}"))),
                None => {
                    names.insert(name, file);
                    let twice = facts.exports.iter().find_map(|export| {
                        let of_kernel = self.around.kernel.filter(|kernel| kernel.export(&export.name).is_some());
                        let other = exporters.get(export.name.as_str()).copied();
                        Some((&export.name, other.or(of_kernel.map(|_| KERNEL))?))
                    });
                    twice.map(|(symbol, other)| {
                        (Kind::Symbol, format!("it exports symbol {symbol}, and so does {other}"))
                    })
                }
            };
            match cause {
                Some((kind, cause)) => self.problem(kind, file, cause, "leave one of them out"),
                None => exporters.extend(facts.exports.iter().map(|export| (export.name.as_str(), file))),
            }
        }
    }

    /// Tells those whose struct module has another length than that of the most; the kernel compares it with its own.
    fn structs(&mut self) {
        let Some(wanted) = most(self.all.iter().map(|member| member.facts.struct_bytes)) else { return };
        for Member { file, facts, .. } in self.all.clone() {
            let has = facts.struct_bytes;
            if has != wanted {
                let cause = format!("its struct module has {has} bytes, that of the other modules {wanted}");
                self.problem(Kind::Struct, file, cause, "take all modules from one build");
            }
        }
    }

    /// Follows each symbol to what exports it, in the order of loading, which ends at `loaded`; what is `broken` is told of
    /// already.
    fn link(&mut self, loaded: usize, broken: &BTreeSet<String>) {
        let all = self.all.clone();
        let exports_of = |member: &Member<'a>| {
            let file = member.file;
            member.facts.exports.iter().map(move |export| (export.name.as_str(), (file, export)))
        };
        let whole: HashMap<&str, Provider> = all.iter().rev().flat_map(exports_of).collect();
        let wanted = |member: &Member<'a>| member.facts.needs.iter().map(String::as_str);
        let of_kernel: BTreeSet<_> = all.iter().flat_map(wanted).filter(|name| !whole.contains_key(name)).collect();
        let provided = self.around.kernel.map(|kernel| kernel.provided(&of_kernel));
        let mut before: HashMap<&str, Provider> = HashMap::new();
        let loaded = loaded.min(all.len());
        for (i, member) in all.iter().enumerate() {
            let there = if i < loaded { &before } else { &whole };
            let (mut missing, mut wrong) = (BTreeMap::<Missing, Vec<&str>>::new(), Vec::new());
            for name in wanted(member) {
                let exporter = || self.around.tree.and_then(|tree| tree.exporter(name));
                if let Some(provider) = there.get(name) {
                    wrong.extend(misuses(member.facts, *provider));
                } else if let Some((file, _)) = whole.get(name) {
                    missing.entry(Missing::LoadedAfter(file)).or_default().push(name);
                } else if let Some(known) = provided.as_ref().and_then(|provided| provided.get(name)) {
                    wrong.extend(known.iter().flat_map(|export| misuses(member.facts, (KERNEL, export))));
                } else if let Some(file) = exporter() {
                    missing.entry(Missing::InTree(file.into())).or_default().push(name);
                } else if provided.is_some() {
                    let built = self.around.kernel.and_then(|kernel| kernel.module_of(name));
                    missing
                        .entry(built.map_or(Missing::Nowhere, |path| Missing::Built(path.into())))
                        .or_default()
                        .push(name);
                }
            }
            for name in &member.facts.weak {
                if let Some(provider) = there.get(name.as_str()) {
                    wrong.extend(misuses(member.facts, *provider));
                }
            }
            self.misuses(member.file, wrong);
            for (from, names) in missing {
                self.lacks(member.file, i < loaded, &from, &names, broken);
            }
            before.extend(exports_of(member));
        }
        self.versions(&all, &whole);
    }

    /// Tells of symbols that nothing exports before they are needed.
    fn lacks(&mut self, file: &str, is_ordered: bool, from: &Missing, names: &[&str], broken: &BTreeSet<String>) {
        let needs = format!("needs {}, which", symbols(names));
        let before = if is_ordered { "nothing loaded before exports" } else { "no module of the set exports" };
        let (cause, remedy) = match from {
            Missing::LoadedAfter(_) if !is_ordered => return,
            Missing::LoadedAfter(other) => {
                (format!("{needs} {before}; {other} does, which is loaded later"), "list it before".into())
            }
            Missing::InTree(other) if broken.contains(&name::of(other).to_string()) => return,
            Missing::InTree(other) => {
                let remedy = if is_ordered { "list it before" } else { "include it" };
                (format!("{needs} {before}; {other} does"), remedy.into())
            }
            Missing::Built(module) => (
                format!("{needs} {before}; {module} does, which is not there"),
                format!("add {module}.ko to the modules"),
            ),
            Missing::Nowhere => {
                let kernel = self.around.kernel.map(|kernel| kernel.file.display().to_string()).unwrap_or_default();
                (
                    format!("{needs} neither the kernel ({kernel}) nor a module exports"),
                    "build it for this kernel, or add the module that exports it".into(),
                )
            }
        };
        self.problem(Kind::Symbol, file, cause, remedy);
    }

    /// Tells what modules use and may not, or use in another version: of many symbols of one module, the first.
    fn misuses(&mut self, file: &str, misuses: Vec<Misuse>) {
        let mut of_kind = BTreeMap::<(Kind, &str, String), (String, usize)>::new();
        for Misuse { kind, from, cause, remedy } in misuses {
            of_kind.entry((kind, from, remedy)).or_insert((cause, 0)).1 += 1;
        }
        for ((kind, _, remedy), (cause, count)) in of_kind {
            let more = if count > 1 { format!(", and so of {} more", count - 1) } else { String::new() };
            self.problem(kind, file, cause + &more, remedy);
        }
    }

    /// Holds modules to each other: what they say the kernel is, and which versions of its symbols they want.
    fn versions(&mut self, all: &[Member<'a>], whole: &HashMap<&str, Provider>) {
        // The CRCs of what no module exports: the kernel's, or those that the most want.
        let mut wanted = BTreeMap::<&str, Vec<u32>>::new();
        for (name, crc) in all.iter().flat_map(|member| &member.facts.versions) {
            if !whole.contains_key(name.as_str()) {
                wanted.entry(name).or_default().push(*crc);
            }
        }
        let of_kernel = |name: &str| self.around.kernel.and_then(|kernel| kernel.export(name)?.crc);
        let right: HashMap<&str, (u32, bool)> = wanted
            .into_iter()
            .filter_map(|(name, crcs)| match of_kernel(name) {
                Some(crc) => Some((name, (crc, true))),
                None => Some((name, (most(crcs)?, false))),
            })
            .collect();
        let release = |vermagic: &str| vermagic.split(' ').next().unwrap_or_default().to_string();
        let magics = || all.iter().filter_map(|member| member.facts.vermagic.as_deref());
        let of_tree = |magic: &&str| self.around.release.is_none_or(|wanted| release(magic) == wanted);
        let expected = most(magics().filter(of_tree)).or_else(|| most(magics()));
        let mut found = Vec::new();
        for Member { file, facts, .. } in all {
            let differs =
                |(name, crc): &&(String, u32)| right.get(name.as_str()).is_some_and(|(right, _)| right != crc);
            let other: Vec<_> = facts.versions.iter().filter(differs).collect();
            // The one that tells of the whole of the kernel's structures first.
            let first = other.iter().find(|(name, _)| name == "module_layout").or(other.first());
            let version = first.map(|(name, crc)| {
                let (right, is_kernels) = right[name.as_str()];
                let whose = if is_kernels { "the kernel has it with" } else { "the other modules want" };
                let more = match other.len() - 1 {
                    0 => String::new(),
                    more => format!(", and so of {more} more"),
                };
                format!("wants symbol {name} with CRC {crc:#010x}; {whose} {right:#010x}{more}")
            });
            let Some(magic) = facts.vermagic.as_deref() else {
                found.extend(version.map(|cause| (Kind::Version, *file, cause, Level::Problem)));
                continue;
            };
            let wanted_release = self.around.release.map(String::from).or(expected.map(release)).unwrap_or_default();
            let tail = |magic: &str| magic.split_once(' ').map(|(_, tail)| tail.to_string());
            let is_same_release = release(magic) == wanted_release;
            let is_same = expected.is_none_or(|expected| tail(expected) == tail(magic));
            let cause = match expected {
                Some(expected) if release(expected) == wanted_release => {
                    format!("built for {magic:?}; the other modules are for {expected:?}")
                }
                _ => format!("built for Linux {}, not {wanted_release}", release(magic)),
            };
            // The kernel compares releases only where a module has no CRCs.
            if is_same && is_same_release {
                found.extend(version.map(|cause| (Kind::Version, *file, cause, Level::Problem)));
            } else if !is_same || facts.versions.is_empty() {
                found.push((Kind::Vermagic, file, cause, Level::Problem));
            } else if let Some(version) = version {
                found.push((Kind::Vermagic, file, format!("{cause}; it {version}"), Level::Problem));
            } else {
                let cause = format!("{cause}; the kernel takes it if its symbols have the same CRCs");
                found.push((Kind::Vermagic, file, cause, Level::Warning));
            }
        }
        for (kind, file, cause, level) in found {
            self.problems.push(Problem { level, ..Problem::new(kind, file, cause, "take all modules from one build") });
        }
    }

    /// Tells parameters that a module does not have, and values that it cannot take.
    fn parameters(&mut self, member: &Member) {
        for (name, value) in arguments(member.params) {
            if let Err((cause, remedy)) = argument(member.facts, &name, value.as_deref()) {
                self.problem(Kind::Parameter, member.file, cause, remedy);
            }
        }
    }
}

/// A symbol that a module uses and may not, or in another version.
struct Misuse<'a> {
    kind: Kind,
    from: &'a str,
    cause: String,
    remedy: String,
}

/// What stands for the kernel where others have a file.
const KERNEL: &str = "the kernel";

/// Holds what a module wants of a symbol to what its exporter says of it: license, name space, version.
fn misuses<'a>(facts: &Facts, (from, export): Provider<'a>) -> Vec<Misuse<'a>> {
    let Export { name, crc, gpl_only, namespace } = export;
    let mut found = Vec::new();
    let mut add = |kind, cause, remedy: &str| found.push(Misuse { kind, from, cause, remedy: remedy.into() });
    if *gpl_only && !facts.is_gpl() {
        let license = facts.license.as_deref().unwrap_or("none");
        add(
            Kind::License,
            format!(
                "its license is {license}, and it uses {name}, which {from} exports for GPL-compatible modules only"
            ),
            "do without it, or state the license that the module has (MODULE_LICENSE)",
        );
    }
    if let Some(namespace) = namespace
        && !imports(facts, namespace)
    {
        add(
            Kind::Namespace,
            format!("it does not import the name space {namespace}, in which {from} exports {name}"),
            &format!("add MODULE_IMPORT_NS({namespace}) to it"),
        );
    }
    let Some(has) = *crc else { return found };
    match facts.version(name) {
        // Of the kernel's, others may tell too: see Set::versions.
        Some(wants) if wants == has || from == KERNEL => {}
        Some(wants) => add(
            Kind::Version,
            format!("wants symbol {name} with CRC {wants:#010x}; {from} exports it with {has:#010x}"),
            "take both from one build",
        ),
        // Then the kernel may not want them either.
        None if facts.versions.is_empty() && !has_versions(facts) => {}
        None => add(
            Kind::Version,
            format!("has no CRC for symbol {name}, which {from} exports with {has:#010x}"),
            "build it with the kernel's Module.symvers",
        ),
    }
    found
}

/// Where a symbol is, if not where it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Missing<'a> {
    LoadedAfter(&'a str),
    InTree(String),
    /// A module of the kernel's build, as a path without an ending.
    Built(String),
    Nowhere,
}

/// The one that there are the most of; of as many, that which comes first.
fn most<T: Eq + std::hash::Hash + Clone>(all: impl IntoIterator<Item = T>) -> Option<T> {
    let mut counts = HashMap::<T, (usize, usize)>::new();
    for (i, one) in all.into_iter().enumerate() {
        counts.entry(one).or_insert((0, usize::MAX - i)).0 += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(one, _)| one)
}

fn symbols(names: &[&str]) -> String {
    const TOLD: usize = 3;
    match names {
        [name] => format!("symbol {name}"),
        names if names.len() <= TOLD + 1 => format!("symbols {}", names.join(", ")),
        names => format!("symbols {} and {} more", names[..TOLD].join(", "), names.len() - TOLD),
    }
}

/// Whether the kernel that it is for wants CRCs.
fn has_versions(facts: &Facts) -> bool {
    facts.vermagic.as_deref().is_some_and(|magic| magic.split(' ').any(|word| word == "modversions"))
}

/// Whether a module may use a name space: it imports it, or it is one of those that the space is for (EXPORT_SYMBOL_FOR_MODULES,
/// verify_module_namespace).
fn imports(facts: &Facts, namespace: &str) -> bool {
    let is_named = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => facts.name.starts_with(start),
        None => facts.name == pattern,
    };
    match namespace.strip_prefix("module:") {
        Some(names) => names.split(',').any(is_named),
        None => facts.imports.iter().any(|import| import == namespace),
    }
}

/// The parameters in a text, each with its value (next_arg of lib/cmdline.c).
fn arguments(params: &str) -> Vec<(String, Option<String>)> {
    let mut arguments = Vec::new();
    for (_, word) in Words::new(params) {
        if word == "--" {
            break;
        }
        let unquoted = |text: &str| {
            let inner = text.strip_prefix('"');
            inner.map_or(text, |inner| inner.strip_suffix('"').unwrap_or(inner)).to_string()
        };
        let word = unquoted(word);
        arguments.push(match word.split_once('=') {
            Some((name, value)) => (name.to_string(), Some(unquoted(value))),
            None => (word, None),
        });
    }
    arguments
}

/// Whether a module takes an argument; else cause and remedy.
fn argument(facts: &Facts, name: &str, value: Option<&str>) -> Result<(), (String, String)> {
    let folded = |name: &str| name.replace('-', "_");
    // Those of every module (unknown_module_param_cb).
    if matches!(folded(name).as_str(), "async_probe" | "dyndbg") {
        return Ok(());
    }
    let Some(parameter) = facts.parameters.iter().find(|parameter| folded(&parameter.name) == folded(name)) else {
        if facts.unnamed_parameters > 0 {
            return Ok(());
        }
        return Err(unknown(facts, name));
    };
    let Some(kind) = parameter.kind.as_deref() else { return Ok(()) };
    let (element, is_array) = kind.strip_prefix("array of ").map_or((kind, false), |element| (element, true));
    // A setter of another name may take what it likes.
    if !facts.needs.iter().any(|symbol| symbol.strip_prefix("param_ops_") == Some(element)) {
        return Ok(());
    }
    let is_64 = facts.machine.is_some_and(|machine| machine.class == 2);
    let Some(expected) = expected(element, is_64) else { return Ok(()) };
    let Some(value) = value else {
        return match element {
            "bool" | "bool_enable_only" if !is_array => Ok(()),
            _ => {
                Err((format!("parameter `{name}` ({kind}) has no value"), format!("write `{name}=VALUE`, {expected}")))
            }
        };
    };
    let wrong = |value: &&str| !takes(element, is_64, value);
    let values: Vec<_> = if is_array { value.split(',').collect() } else { vec![value] };
    match values.iter().find(|value| wrong(value)) {
        None => Ok(()),
        Some(value) => {
            let shown = if value.is_empty() { "nothing".to_string() } else { format!("`{value}`") };
            Err((format!("parameter `{name}` ({kind}) cannot be {shown}"), format!("write {expected}")))
        }
    }
}

fn unknown(facts: &Facts, name: &str) -> (String, String) {
    const NEAR: f64 = 0.7;
    let shown = |parameter: &Parameter| match &parameter.kind {
        Some(kind) => format!("`{}` ({kind})", parameter.name),
        None => format!("`{}`", parameter.name),
    };
    // As qdepth is in queue_depth.
    let is_part = |whole: &str| {
        let mut letters = whole.chars();
        name.len() >= 3 && name.chars().all(|c| letters.any(|other| other == c))
    };
    let likeness = |parameter: &&Parameter| {
        strsim::jaro_winkler(&parameter.name, name) + if is_part(&parameter.name) { NEAR } else { 0.0 }
    };
    let near = facts.parameters.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match near.filter(|parameter| likeness(parameter) >= NEAR) {
        Some(near) => {
            (format!("parameter `{name}` unknown; it has {}", shown(near)), format!("write `{}=`", near.name))
        }
        None if facts.parameters.is_empty() => {
            (format!("parameter `{name}` unknown; it has none"), "leave it out".into())
        }
        None => {
            let all: Vec<_> = facts.parameters.iter().map(shown).collect();
            (format!("parameter `{name}` unknown; it has {}", all.join(", ")), "write one of these".into())
        }
    }
}

/// What a type takes, where kernel/params.c decides that.
fn expected(kind: &str, is_64: bool) -> Option<String> {
    match kind {
        "bool" | "invbool" | "bool_enable_only" => Some("y or n".into()),
        _ => range(kind, is_64).map(|(least, most)| format!("a number from {least} to {most}")),
    }
}

/// The least and the greatest number of a type.
fn range(kind: &str, is_64: bool) -> Option<(i128, i128)> {
    let of_bits = |bits: u32, is_signed: bool| match is_signed {
        true => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        false => (0, (1 << bits) - 1),
    };
    let long = if is_64 { 64 } else { 32 };
    Some(match kind {
        "byte" => of_bits(8, false),
        "short" => of_bits(16, true),
        "ushort" => of_bits(16, false),
        "int" => of_bits(32, true),
        "uint" | "hexint" => of_bits(32, false),
        "long" => of_bits(long, true),
        "ulong" => of_bits(long, false),
        "ullong" => of_bits(64, false),
        _ => return None,
    })
}

/// Whether a value is one of its type (kstrtobool, kstrtoint and others of lib/kstrtox.c).
fn takes(kind: &str, is_64: bool, value: &str) -> bool {
    let Some((least, most)) = range(kind, is_64) else {
        let mut letters = value.chars().map(|c| c.to_ascii_lowercase());
        return match letters.next() {
            Some('y' | 't' | '1' | 'n' | 'f' | '0') => true,
            Some('o') => matches!(letters.next(), Some('n' | 'f')),
            _ => false,
        };
    };
    let (sign, rest) = match value.as_bytes().first() {
        Some(b'-') if least < 0 => (-1, &value[1..]),
        Some(b'+') => (1, &value[1..]),
        _ => (1, value),
    };
    let lower = rest.to_ascii_lowercase();
    let (digits, base) = match lower.strip_prefix("0x") {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => (digits, 16),
        _ if lower.starts_with('0') => (lower.as_str(), 8),
        _ => (lower.as_str(), 10),
    };
    // One that parse would take a sign of.
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return false;
    }
    i128::from_str_radix(digits, base).is_ok_and(|number| (least..=most).contains(&(sign * number)))
}

/// What is missing of the firmware that a module names: `wanted` is what it asks for, `is_there` whether a file matches, and
/// `place` where they were looked for. If none at all is there, the module has nothing to run its device with. One that is in
/// the image for later may be for a device that there is not.
pub fn firmware(
    file: &str, wanted: &[String], is_there: &dyn Fn(&str) -> bool, place: &str, is_loaded: bool, is_strict: bool,
) -> Option<Problem> {
    let missing: Vec<_> = wanted.iter().filter(|name| !is_there(name)).map(String::as_str).collect();
    let all = if missing.len() == wanted.len() { "all" } else { "part" };
    let listed = match &missing[..] {
        [] => return None,
        [one] => (*one).to_string(),
        [one, more @ ..] => format!("{one} and {} more", more.len()),
    };
    let problem = Problem::new(
        Kind::Firmware,
        file,
        match (all, missing.len()) {
            ("all", _) => format!("asks for firmware {listed}, and none of it is in {place}"),
            _ => format!("may ask for firmware {listed}, not in {place}"),
        },
        "put it there, or pass --force if the device has it already",
    );
    Some(if is_strict || (all == "all" && is_loaded) { problem } else { problem.warning() })
}

/// What was checked, and what is wrong with it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The modules, first those that are loaded, in their order.
    pub modules: Vec<Checked>,
    /// What is wrong with them.
    pub problems: Vec<Problem>,
}

/// A module that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Its file.
    pub file: String,
    /// What it tells.
    #[serde(flatten)]
    pub facts: Facts,
    /// Where the kernel puts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<Map>,
}

impl Report {
    /// Of one module's file: `bytes` is what it holds, compressed or not.
    pub fn of_file(file: &str, bytes: &[u8], with_map: bool) -> Report {
        let mut report = Report::default();
        let has = Format::of(bytes);
        let named = name::strip_ko(file).map(|(_, named)| named);
        if let Some(named) = named.filter(|named| *named != has) {
            let cause = format!("named as {}, but it is {}", named.name(), has.name());
            let remedy = format!("let its name end in .ko{}", has.ending());
            report.problems.push(Problem::new(Kind::File, file, cause, remedy));
        }
        let image = match decode(bytes) {
            Ok(image) => image,
            Err(error) => {
                let cause = format!("not to be decompressed as {}: {error}", has.name());
                report.problems.push(Problem::new(Kind::File, file, cause, "take the file as it was built"));
                return report;
            }
        };
        let facts = Facts::read(&image);
        report.problems.extend(module(file, &facts));
        let map = (with_map && facts.fault.is_none()).then(|| Map::of(&image, &facts).ok()).flatten();
        report.modules.push(Checked { file: file.into(), facts, map });
        report
    }

    /// Whether something keeps a module from being loaded.
    pub fn has_problem(&self) -> bool {
        self.problems.iter().any(Problem::is_problem)
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Checked { file, facts, map } = self;
        let machine = facts.machine.map_or("no machine".into(), |machine| machine.to_string());
        let signed = if facts.is_signed { "signed" } else { "not signed" };
        let name = if facts.name.is_empty() { "no module" } else { &facts.name };
        writeln!(f, "{file}: {name}, for {machine}, {signed}")?;
        let text = |text: &Option<String>| text.clone().unwrap_or("none".into());
        writeln!(f, "  vermagic: {}", text(&facts.vermagic))?;
        writeln!(f, "  license: {}", text(&facts.license))?;
        let list = |names: &[String]| if names.is_empty() { "nothing".into() } else { names.join(", ") };
        writeln!(f, "  depends: {}", list(&facts.depends))?;
        writeln!(f, "  symbols: needs {}, exports {}", facts.needs.len(), facts.exports.len())?;
        for name in &facts.firmware {
            writeln!(f, "  firmware: {name}")?;
        }
        for Parameter { name, kind, description } in &facts.parameters {
            let kind = kind.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
            let text = description.as_ref().map(|text| format!(": {}", text.trim())).unwrap_or_default();
            writeln!(f, "  parameter: {name}{kind}{text}")?;
        }
        match map {
            Some(map) => write!(f, "{map}"),
            None => Ok(()),
        }
    }
}
