//! What is wrong with modules that are to be loaded one after another: with what each has from the others and the kernel.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use modest_loader::name::{self, Name};

use super::member::{Around, Member};
use super::misuse::{KERNEL, Misuse, Provider, misuses};
use super::module::module;
use super::most::most;
use super::parameters::{argument, arguments};
use super::problem::{Kind, Problem};
use super::versions::versions;

/// What is wrong with modules that are loaded in this order, `loaded`, and with others that are there to be loaded `later`
/// with what they need.
pub fn set(loaded: &[Member], later: &[Member], around: Around) -> Vec<Problem> {
    let mut set = Set { around, all: loaded.iter().chain(later).copied().collect(), problems: Vec::new() };
    let faulty = |member: &&Member| member.info.fault.is_some();
    for member in &set.all {
        set.problems.extend(module(member.file, member.info).into_iter().filter(Problem::is_problem));
    }
    let broken: BTreeSet<String> =
        set.all.iter().filter(faulty).map(|member| name::of(member.file).to_string()).collect();
    set.all.retain(|member| member.info.fault.is_none());
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

impl<'a> Set<'a> {
    fn problem(&mut self, kind: Kind, file: &str, cause: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(kind, file, cause, remedy));
    }

    /// Tells those for other machines, which nothing further is told of.
    fn machines(&mut self) {
        let (wanted, of) = match self.around.machine {
            Some(machine) => (Some(machine), "the board is"),
            None => (most(self.all.iter().filter_map(|member| member.info.machine)), "the other modules are for"),
        };
        let (good, other) = self.all.iter().partition::<Vec<Member>, _>(|member| member.info.machine == wanted);
        self.all = good;
        let Some(wanted) = wanted else { return };
        for Member { file, info, .. } in other {
            let Some(machine) = info.machine else { continue };
            let remedy = format!("take it from a kernel for {wanted}");
            self.problem(Kind::Machine, file, format!("built for {machine}; {of} {wanted}"), remedy);
        }
    }

    /// Tells modules of one name, and symbols that two of them export.
    fn names(&mut self) {
        let (mut names, mut exporters) = (HashMap::new(), HashMap::new());
        for Member { file, info, .. } in self.all.clone() {
            let name = Name(&info.name).to_string();
            let cause = match names.get(&name) {
                Some(other) => Some((Kind::Name, format!("it is module {name}, and so is {other}"))),
                None => {
                    names.insert(name, file);
                    let twice = info.exports.iter().find_map(|export| {
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
                None => exporters.extend(info.exports.iter().map(|export| (export.name.as_str(), file))),
            }
        }
    }

    /// Tells those whose struct module has another length than that of the most; the kernel compares it with its own.
    fn structs(&mut self) {
        let Some(wanted) = most(self.all.iter().map(|member| member.info.struct_bytes)) else { return };
        for Member { file, info, .. } in self.all.clone() {
            let has = info.struct_bytes;
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
            member.info.exports.iter().map(move |export| (export.name.as_str(), (file, export)))
        };
        let whole: HashMap<&str, Provider> = all.iter().rev().flat_map(exports_of).collect();
        let wanted = |member: &Member<'a>| member.info.needs.iter().map(String::as_str);
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
                    wrong.extend(misuses(member.info, *provider));
                } else if let Some((file, _)) = whole.get(name) {
                    missing.entry(Missing::LoadedAfter(file)).or_default().push(name);
                } else if let Some(known) = provided.as_ref().and_then(|provided| provided.get(name)) {
                    wrong.extend(known.iter().flat_map(|export| misuses(member.info, (KERNEL, export))));
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
            for name in &member.info.weak {
                if let Some(provider) = there.get(name.as_str()) {
                    wrong.extend(misuses(member.info, *provider));
                }
            }
            self.misuses(member.file, wrong);
            for (from, names) in missing {
                self.lacks(member.file, i < loaded, &from, &names, broken);
            }
            before.extend(exports_of(member));
        }
        self.problems.extend(versions(&self.around, &all, |name| whole.contains_key(name)));
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

    /// Tells parameters that a module does not have, and values that it cannot take.
    fn parameters(&mut self, member: &Member) {
        for (name, value) in arguments(member.params) {
            if let Err((cause, remedy)) = argument(member.info, &name, value.as_deref()) {
                self.problem(Kind::Parameter, member.file, cause, remedy);
            }
        }
    }
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

fn symbols(names: &[&str]) -> String {
    const TOLD: usize = 3;
    match names {
        [name] => format!("symbol {name}"),
        names if names.len() <= TOLD + 1 => format!("symbols {}", names.join(", ")),
        names => format!("symbols {} and {} more", names[..TOLD].join(", "), names.len() - TOLD),
    }
}
