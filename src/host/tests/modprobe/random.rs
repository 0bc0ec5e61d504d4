//! Trees at random, small and full of what is rare: softdeps in circles, aliases of aliases, names in both spellings,
//! blacklists, install commands. depmod makes their indexes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use mkmodest::image::plan::{Plan, Source};
use mkmodest::kernel;
use mkmodest::kernel::modprobe::Database;
use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{RngSeed, TestRunner};
use tempfile::TempDir;

use crate::count;
use crate::kmod::{Place, command, share_out};

const RELEASE: &str = "6.1.0";

const MODULES: [&str; 7] = ["a", "b-c", "d_e", "f-g_h", "i", "j", "k"];

const BUILTIN: [&str; 3] = ["l", "m-n", "a"];

const CONFIG_FILES: [&str; 5] = ["a.conf", "b.conf", "z.conf", ".hidden.conf", "text.txt"];

/// What modules and configuration call things by; one alias is a module's name.
const PATTERNS: [&str; 16] = [
    "x",
    "x-y",
    "x*",
    "x?y",
    "*",
    "pci:v1d2",
    "pci:v*d*",
    "pci:v1*",
    "pci:v[12]d2",
    "pci:v[1-2]d[a-f]",
    "net-pf-1",
    "net_pf_*",
    "of:N*T*Cvirtio,mmio",
    "symbol:a_symbol",
    "d_e",
    "b*",
];

/// What is asked of each tree, and what its files mention.
pub const NAMES: [&str; 30] = [
    "a",
    "b-c",
    "b_c",
    "d-e",
    "d_e",
    "f-g_h",
    "f_g-h",
    "i",
    "j",
    "k",
    "l",
    "m-n",
    "m_n",
    "x",
    "x-y",
    "x_y",
    "xyz",
    "pci:v1d2",
    "pci:v2d2",
    "pci:v2db",
    "pci:v3d",
    "net-pf-1",
    "net_pf_2",
    "of:NaTbCvirtio,mmio",
    "symbol:a_symbol",
    "symbol:b_c_symbol",
    "missing",
    "[",
    "b[-]c",
    "a.ko",
];

/// What depmod and modprobe read.
#[derive(Clone, Debug)]
pub struct Tree {
    pub modules: Vec<Module>,
    /// Names, and the aliases of each.
    pub builtin: Vec<(&'static str, Vec<&'static str>)>,
    /// The names and lines of the files in the folder of configuration.
    pub config: Vec<(&'static str, Vec<String>)>,
    pub cmdline: String,
}

#[derive(Clone, Debug)]
pub struct Module {
    pub name: &'static str,
    /// The modules whose symbols it needs, by their places before it in the tree.
    pub deps: Vec<usize>,
    pub aliases: Vec<&'static str>,
    pub softdeps: Vec<String>,
    /// Whether it needs a symbol that nothing has. (That the file of one is gone is not tried: kmod then forgets all that others
    /// need beside it, and would load them without; we name the file.)
    pub is_unresolved: bool,
}

impl Module {
    /// A module that is alone.
    pub fn new(name: &'static str) -> Module {
        let (deps, aliases, softdeps) = Default::default();
        Module { name, deps, aliases, softdeps, is_unresolved: false }
    }

    /// The symbol that it exports.
    fn symbol(&self) -> String {
        format!("{}_symbol", self.name.replace('-', "_"))
    }

    fn path(&self) -> String {
        format!("kernel/{}/{}.ko", if self.deps.is_empty() { "lib" } else { "drivers" }, self.name)
    }

    /// The file: as much of one as depmod reads.
    fn image(&self, modules: &[Module]) -> Vec<u8> {
        let aliases = self.aliases.iter().map(|alias| format!("alias={alias}\0"));
        let softdeps = self.softdeps.iter().map(|softdep| format!("softdep={softdep}\0"));
        let modinfo: String = ["license=GPL\0".into()].into_iter().chain(aliases).chain(softdeps).collect();
        let needed = self.deps.iter().map(|dep| modules[*dep].symbol());
        let undefined = needed.chain(self.is_unresolved.then(|| "nothing_has_this".into()));
        image(&modinfo, &(self.symbol() + "\0"), undefined.map(|name| Undefined { name, weak: false }), &[])
    }
}

/// A symbol that a module needs.
#[derive(Clone, Debug)]
pub struct Undefined {
    pub name: String,
    pub weak: bool,
}

/// A module: as much of one as depmod reads. It has `defined` as symbols.
pub fn image(
    modinfo: &str, ksymtab_strings: &str, undefined: impl IntoIterator<Item = Undefined>, defined: &[String],
) -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little);
    for (section, text) in [(".modinfo", modinfo), ("__ksymtab_strings", ksymtab_strings)] {
        let id = object.add_section(Vec::new(), section.into(), SectionKind::ReadOnlyData);
        object.append_section_data(id, text.as_bytes(), 1);
    }
    let undefined = undefined.into_iter().map(|Undefined { name, weak }| (name, weak, SymbolSection::Undefined));
    let defined = defined.iter().map(|name| (name.clone(), false, SymbolSection::Absolute));
    for (name, weak, section) in undefined.chain(defined) {
        let is_undefined = section == SymbolSection::Undefined;
        object.add_symbol(Symbol {
            name: name.into(),
            value: 0,
            size: 0,
            kind: if is_undefined { SymbolKind::Unknown } else { SymbolKind::Data },
            scope: if is_undefined { SymbolScope::Unknown } else { SymbolScope::Dynamic },
            weak,
            section,
            flags: SymbolFlags::None,
        });
    }
    object.write().unwrap()
}

/// A tree on disk.
pub struct Files {
    folder: TempDir,
    config: PathBuf,
    texts: PathBuf,
    is_unordered: bool,
}

impl Files {
    /// Writes it, and has depmod index it.
    pub fn write(tree: &Tree) -> Files {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("lib/modules").join(RELEASE);
        let config = folder.path().join("config");
        for dir in [&dir.join("kernel/lib"), &dir.join("kernel/drivers"), &config] {
            fs::create_dir_all(dir).unwrap();
        }
        for module in &tree.modules {
            fs::write(dir.join(module.path()), module.image(&tree.modules)).unwrap();
        }
        let order: String = tree.modules.iter().map(|module| module.path() + "\n").collect();
        let builtin: String = tree.builtin.iter().map(|(name, _)| format!("kernel/{name}.ko\n")).collect();
        let info = |(name, aliases): &(&str, Vec<&str>)| -> String {
            let name = name.replace('-', "_");
            let aliases = aliases.iter().map(|alias| format!("{name}.alias={alias}\0"));
            [format!("{name}.license=GPL\0")].into_iter().chain(aliases).collect()
        };
        let info: String = tree.builtin.iter().map(info).collect();
        for (file, text) in [("modules.order", order), ("modules.builtin", builtin), ("modules.builtin.modinfo", info)]
        {
            fs::write(dir.join(file), text).unwrap();
        }
        for (file, lines) in &tree.config {
            fs::write(config.join(file), lines.join("\n") + "\n").unwrap();
        }
        // The machine's own configuration is kept out; a folder that is not there will do.
        let no_config = folder.path().join("none");
        let mut depmod = command("depmod");
        depmod.arg("-C").arg(no_config).arg("-b").arg(folder.path()).arg(RELEASE);
        assert!(depmod.stderr(Stdio::null()).status().unwrap().success(), "{depmod:?}");
        let texts = folder.path().join("texts/lib/modules").join(RELEASE);
        fs::create_dir_all(&texts).unwrap();
        for entry in fs::read_dir(&dir).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_none_or(|extension| extension != "bin") {
                symlink(&file, texts.join(file.file_name().unwrap())).unwrap();
            }
        }
        let is_unordered = tree.builtin.iter().filter(|(_, aliases)| !aliases.is_empty()).count() > 1;
        Files { texts: folder.path().join("texts"), folder, config, is_unordered }
    }

    /// Where modprobe finds it.
    pub fn place(&self) -> Place<'_> {
        Place {
            base: self.folder.path(),
            release: RELEASE,
            config: &self.config,
            texts: Some(&self.texts),
            is_unordered: self.is_unordered,
        }
    }

    /// A folder with the same modules, and of depmod's files none.
    fn without_indexes(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = [&self.folder, &folder].map(|folder| folder.path().join("lib/modules").join(RELEASE));
        fs::create_dir_all(&to).unwrap();
        for file in ["kernel", "modules.order", "modules.builtin", "modules.builtin.modinfo"] {
            symlink(from.join(file), to.join(file)).unwrap();
        }
        folder
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let names = Just(MODULES.to_vec()).prop_shuffle();
    let bodies = prop::collection::vec(module(), 0..=MODULES.len());
    let builtin = prop::collection::btree_map(select(&BUILTIN[..]), patterns(), 0..3);
    let config = prop::collection::btree_map(select(&CONFIG_FILES[..]), prop::collection::vec(line(), 0..6), 0..4);
    let cmdline = prop::collection::vec(cmdline_word(), 0..4);
    (names, bodies, builtin, config, cmdline).prop_map(|(names, bodies, builtin, config, cmdline)| {
        let named = bodies.into_iter().zip(names).enumerate().map(|(place, (body, name))| {
            // Each needs only such as come before it: depmod refuses circles.
            let deps = body.deps.iter().copied().filter(|dep| *dep < place).collect();
            Module { name, deps, ..body }
        });
        let modules: Vec<_> = named.collect();
        // kmod cuts `a.ko` to the module `a` where only a command has that name, and for the rest of the run the command is what
        // is done for `a`, whoever asks. To us a module is not changed by what others are called; so no tree has both.
        let has_a = modules.iter().any(|module| module.name == "a") || builtin.contains_key("a");
        let is_tried = |line: &String| !(has_a && line.starts_with("install a.ko "));
        let mut config: BTreeMap<_, Vec<_>> = config;
        config.values_mut().for_each(|lines| lines.retain(is_tried));
        Tree {
            modules,
            builtin: builtin.into_iter().collect(),
            config: config.into_iter().collect(),
            cmdline: cmdline.join(" "),
        }
    })
}

/// A module without a name, whose dependencies may be any.
fn module() -> impl Strategy<Value = Module> {
    let deps = prop::collection::btree_set(0..MODULES.len(), 0..4);
    let softdeps = prop_oneof![3 => Just(vec![]), 2 => prop::collection::vec(softdep(), 1..3)];
    (deps, patterns(), softdeps, prop::bool::weighted(0.1)).prop_map(|(deps, aliases, softdeps, is_unresolved)| {
        let deps = deps.into_iter().collect();
        Module { name: "", deps, aliases, softdeps, is_unresolved }
    })
}

fn patterns() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(select(&PATTERNS[..]), 0..3)
}

fn name() -> impl Strategy<Value = &'static str> {
    select(&NAMES[..])
}

fn softdep() -> impl Strategy<Value = String> {
    let word = prop_oneof![2 => Just("pre:"), 1 => Just("post:"), 4 => name(), 1 => Just("")];
    (select(&["pre: ", "post: ", ""][..]), prop::collection::vec(word, 1..5))
        .prop_map(|(first, words)| format!("{first}{}", words.join(" ")))
}

/// A line of modprobe's configuration.
fn line() -> impl Strategy<Value = String> {
    let options = select(&["n=1", "m", " n=\"a b\"  m=2 ", "n=1\tm", "n=\\\n2"][..]);
    let install = select(
        &[
            "/bin/true",
            "/bin/false",
            "echo  two",
            "/sbin/modprobe --ignore-install a $CMDLINE_OPTS && echo $CMDLINE_OPTS",
        ][..],
    );
    let other = select(
        &[
            "",
            "# comment",
            "  # comment",
            "alias",
            "alias x",
            "blacklist",
            "options a",
            "install a",
            "softdep a",
            "alias x[ a",
            "alias x a]",
            "alias x a b",
            "blacklist a b",
            " blacklist a",
            "options\ta n=tab",
            "blacklist a\\",
            "alias x \\",
            "install a ",
            "options a ",
            "unknown a",
            "remove a /bin/true",
            "include /nowhere",
            "\u{e9} a",
            "blacklist a # not a comment",
        ][..],
    );
    prop_oneof![
        4 => (select(&PATTERNS[..]), name()).prop_map(|(pattern, name)| format!("alias {pattern} {name}")),
        2 => name().prop_map(|name| format!("blacklist {name}")),
        3 => (name(), options).prop_map(|(name, options)| format!("options {name} {options}")),
        1 => (select(&PATTERNS[..]), install.clone()).prop_map(|(name, command)| format!("install {name} {command}")),
        1 => (name(), install).prop_map(|(name, command)| format!("install {name} {command}")),
        3 => (name(), softdep()).prop_map(|(name, softdep)| format!("softdep {name} {softdep}")),
        2 => other.prop_map(String::from),
    ]
}

fn cmdline_word() -> impl Strategy<Value = String> {
    let option = select(&[".n=1", ".n", ".n=\"a b\"", ".n=a.b"][..]);
    prop_oneof![
        (name(), option).prop_map(|(name, option)| format!("{name}{option}")),
        prop::collection::vec(name(), 1..3).prop_map(|names| format!("modprobe.blacklist={}", names.join(","))),
        select(&["quiet", "module_blacklist=a", "root=/dev/vda", "\"a.n=a b\""][..]).prop_map(String::from),
    ]
}

/// What decides on the trees of a run.
fn seed() -> usize {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    count("MODEST_TEST_SEED", now.subsec_nanos() as usize)
}

#[test]
fn trees_at_random() {
    // A part's trees depend on nothing but the seed and its number, on however many cores.
    const PARTS: usize = 8;
    const MAX_SHRINK_ITERS: u32 = 1000;
    let trees_total = count("MODEST_TEST_TREES", 2000);
    let seed = seed();
    let failed = AtomicBool::new(false);
    share_out(PARTS, |kmod, part| {
        let mut runner = TestRunner::new(ProptestConfig {
            cases: trees_total.div_ceil(PARTS) as u32,
            rng_seed: RngSeed::Fixed((seed * PARTS + part) as u64),
            max_shrink_iters: MAX_SHRINK_ITERS,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let kmod = RefCell::new(kmod);
        let result = runner.run(&trees(), |tree| {
            // One tree that shows a fault, made as small as it can be, is enough.
            if failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            let files = Files::write(&tree);
            let mut kmod = kmod.borrow_mut();
            kmod.set_cmdline(&tree.cmdline);
            let differences = kmod.differences(&files.place(), &NAMES);
            prop_assert!(differences.is_empty(), "{}", differences.join("\n"));
            Ok(())
        });
        if let Err(error) = result {
            failed.store(true, Ordering::Relaxed);
            panic!("{error}\nagain with MODEST_TEST_SEED={seed}");
        }
    });
}

/// What is planned for each of the names, by modprobe and for a manifest, with `folder` left out of it.
fn plans(folder: &Path, config: &Path, cmdline: &str) -> Vec<[Result<String, String>; 2]> {
    let tree = kernel::Tree::find(folder).unwrap();
    let database = Database::read(&tree, &[config], cmdline, &mut |_| {}).unwrap();
    let place = folder.to_str().unwrap();
    let plans = NAMES.map(|name| {
        let listing = || Plan::resolve(&Source::names(&[name.into()]), &tree, &database)?.listing(&tree);
        [database.show_depends(name), listing()].map(|plan| match plan {
            Ok(plan) => Ok(plan.replace(place, "")),
            Err(error) => Err(format!("{error:#}").replace(place, "")),
        })
    });
    plans.into()
}

/// Runs `test` on so many trees.
pub fn for_trees(count: u32, test: impl Fn(&Tree) -> Result<(), TestCaseError>) {
    let seed = seed();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: count,
        rng_seed: RngSeed::Fixed(seed as u64),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    if let Err(error) = runner.run(&trees(), |tree| test(&tree)) {
        panic!("{error}\nagain with MODEST_TEST_SEED={seed}");
    }
}

#[test]
fn trees_without_indexes() {
    for_trees(300, |tree| {
        let files = Files::write(tree);
        let without = files.without_indexes();
        // Without a module there is no tree.
        if !tree.modules.is_empty() {
            let [with, without] =
                [files.folder.path(), without.path()].map(|folder| plans(folder, &files.config, &tree.cmdline));
            prop_assert_eq!(with, without);
        }
        Ok(())
    });
}
