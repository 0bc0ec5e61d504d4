//! Indexes, ours and depmod's, of the same modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use mkmodest::codec::encode;
use mkmodest::kernel::Tree;
use mkmodest::kernel::depmod::Indexes;
use modest_loader::format::Format;
use modest_loader::resolve::index::Index;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{RngSeed, TestRunner};
use tempfile::TempDir;

use crate::count;
use crate::kmod::command;
use crate::random::{Undefined, image};
use crate::trees::{lines, tree};

const RELEASE: &str = "6.1.0";

/// An empty folder for modules, for depmod to find.
fn empty_tree() -> (TempDir, Tree) {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("lib/modules").join(RELEASE);
    fs::create_dir_all(&dir).unwrap();
    (base, Tree::new(dir, RELEASE))
}

/// Whether depmod makes indexes of the tree.
fn run_depmod(base: &Path) -> bool {
    let mut depmod = command("depmod");
    // The machine's own configuration is kept out; a folder that is not there will do.
    depmod.arg("-C").arg(base.join("none")).arg("-b").arg(base).arg(RELEASE);
    depmod.stderr(Stdio::null()).status().unwrap().success()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort();
    lines
}

/// The names of our indexes that are not as depmod's in the tree.
fn differing(indexes: &Indexes, tree: &Tree) -> Vec<String> {
    let mut differing = Vec::new();
    let texts = [
        ("modules.dep", indexes.dep()),
        ("modules.alias", indexes.alias()),
        ("modules.softdep", indexes.softdep()),
        ("modules.symbols", indexes.symbols()),
    ];
    for (name, ours) in texts {
        let depmods = fs::read_to_string(tree.dir.join(name)).unwrap();
        // Those of symbols it takes out of a hash table.
        let is_same = if name == "modules.symbols" { sorted(&ours) == sorted(&depmods) } else { ours == depmods };
        if !is_same {
            differing.push(format!("{name}:\n{depmods}ours:\n{ours}"));
        }
    }
    let binaries = [
        ("modules.dep.bin", indexes.dep_bin()),
        ("modules.alias.bin", indexes.alias_bin()),
        ("modules.symbols.bin", indexes.symbols_bin()),
    ];
    for (name, ours) in binaries {
        let (ours, depmods) = (ours.unwrap(), fs::read(tree.dir.join(name)).unwrap());
        if !is_same_index(&ours, &depmods) {
            differing.push(name.into());
        }
    }
    differing
}

/// Whether an index of ours is depmod's; other versions of depmod write nodes in another order.
fn is_same_index(ours: &[u8], depmods: &[u8]) -> bool {
    ours == depmods || !is_our_depmod() && entries(ours) == entries(depmods)
}

/// Whether depmod is of the version whose files ours are to the byte.
fn is_our_depmod() -> bool {
    let version = command("depmod").arg("--version").output().unwrap().stdout;
    version.starts_with(b"kmod version 30\n")
}

fn entries(index: &[u8]) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    Index::new(&index).unwrap().each(&mut |key, value| entries.push((key.into(), value.into()))).unwrap();
    entries
}

/// A part of a Debian kernel's modules, with all that these need, since debug builds decompress slowly.
#[test]
fn a_part_of_debians_modules() {
    const FOLDERS: [&str; 5] = ["kernel/fs/", "kernel/net/", "kernel/lib/", "kernel/crypto/", "kernel/drivers/block/"];
    let debian = tree("qemu-armv7");
    let deps: BTreeMap<_, _> = lines(&debian, "modules.dep").iter().map(|line| parts(line)).collect();
    let asked = deps.iter().filter(|(file, _)| FOLDERS.iter().any(|folder| file.starts_with(folder)));
    let files: BTreeSet<_> = asked.flat_map(|(file, needed)| needed.iter().chain([file])).collect();
    assert!(files.len() > 500, "{}", files.len());

    let (base, part) = empty_tree();
    let (builtin, modinfo) = ("modules.builtin", "modules.builtin.modinfo");
    for file in ["modules.order", builtin, modinfo] {
        symlink(debian.dir.join(file), part.dir.join(file)).unwrap();
    }
    for file in &files {
        let link = part.dir.join(file);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(debian.dir.join(file), link).unwrap();
    }
    let indexes = Indexes::of_tree(&part.dir).unwrap();
    let text = indexes.dep();
    let ours: BTreeMap<_, _> = text.lines().map(parts).collect();
    let as_set = |needed: &[String]| needed.iter().cloned().collect::<BTreeSet<_>>();
    assert!(ours.keys().eq(files.iter().copied()));
    for (file, needed) in &ours {
        assert_eq!(as_set(needed), as_set(&deps[file]), "{file}");
        for (i, one) in needed.iter().enumerate() {
            assert!(ours[one].iter().all(|other| needed[i..].contains(other)), "{file} needs {one}");
        }
    }
    assert!(run_depmod(base.path()));
    assert_eq!(differing(&indexes, &part), [""; 0]);
    let read = |file: &str| fs::read(part.dir.join(file)).unwrap();
    for (name, ours) in [
        ("modules.builtin.bin", mkmodest::kernel::builtin_bin(&lines(&debian, builtin).join("\n"))),
        ("modules.builtin.alias.bin", mkmodest::kernel::builtin_alias_bin(&read(modinfo))),
    ] {
        assert!(is_same_index(&ours.unwrap(), &read(name)), "{name}");
    }
}

/// A module's file, and those of all that it needs, in a line of modules.dep.
fn parts(line: &str) -> (String, Vec<String>) {
    let (file, needed) = line.split_once(':').unwrap();
    (file.into(), needed.split_whitespace().map(String::from).collect())
}

const NAMES: [&str; 6] = ["a", "b-c", "d_e", "f", "g", "h"];

const SYMBOLS: [&str; 6] = ["s", "symbol", "sym", "t", "t_1", "init"];

const ALIASES: [&str; 9] =
    ["x-y", "x_y", "x*", "x[a-c]-", "pci:v1d2*", "pci:v1-d2", "a", "of:N*T*Cvirtio,mmio", "b]-["];

#[derive(Clone, Debug)]
struct Module {
    folder: &'static str,
    name: &'static str,
    ending: Format,
    /// Whether its exported symbols have checksums.
    has_crcs: bool,
    exported: Vec<&'static str>,
    undefined: Vec<Undefined>,
    modinfo: Vec<String>,
}

impl Module {
    fn path(&self) -> String {
        format!("{}/{}.ko", self.folder, self.name)
    }

    fn image(&self) -> Vec<u8> {
        let modinfo: String = self.modinfo.iter().map(|pair| format!("{pair}\0")).collect();
        // Behind each name stands that of its name space, which may be none.
        let strings: String = self.exported.iter().map(|symbol| format!("{symbol}\0\0SPACE\0")).collect();
        let crcs: Vec<_> = self.exported.iter().map(|symbol| format!("__crc_{symbol}")).collect();
        let crcs = if self.has_crcs { &crcs[..] } else { &[] };
        image(&modinfo, &strings, self.undefined.clone(), crcs)
    }
}

/// Modules in the order of `modules.order`; no two in one folder have the same name.
fn trees() -> impl Strategy<Value = Vec<Module>> {
    let names = NAMES.iter().flat_map(|name| [("kernel/lib", *name), ("updates", *name)]).collect::<Vec<_>>();
    let bodies = prop::collection::vec(module(), 0..=NAMES.len());
    (Just(names).prop_shuffle(), bodies).prop_map(|(names, bodies)| {
        let named = bodies.into_iter().zip(names);
        named.map(|(body, (folder, name))| Module { folder, name, ..body }).collect()
    })
}

fn module() -> impl Strategy<Value = Module> {
    let exported = prop::collection::btree_set(select(&SYMBOLS[..]), 0..3);
    let name = prop_oneof![3 => select(&SYMBOLS[..]), 1 => Just("_printk")];
    let undefined = (name, prop::bool::weighted(0.2)).prop_map(|(name, weak)| Undefined { name: name.into(), weak });
    let undefined = prop::collection::vec(undefined, 0..3);
    let pair = prop_oneof![
        6 => select(&ALIASES[..]).prop_map(|alias| format!("alias={alias}")),
        1 => select(&NAMES[..]).prop_map(|name| format!("softdep=pre: {name} post: x")),
        1 => Just("description=a=b".to_string()),
    ];
    let modinfo = prop::collection::vec(pair, 0..4);
    let ending = prop_oneof![4 => Just(Format::Plain), 1 => Just(Format::Xz), 1 => Just(Format::Zstd)];
    (exported, undefined, modinfo, ending, any::<bool>()).prop_map(
        |(exported, undefined, modinfo, ending, has_crcs)| {
            let exported: Vec<_> = exported.into_iter().collect();
            let (folder, name) = ("", "");
            Module { folder, name, ending, has_crcs, exported, undefined, modinfo }
        },
    )
}

/// Whether the modules that an error tells do each need the next, and so the first itself.
fn is_circle(modules: &[Module], error: &str) -> bool {
    let circle = error.strip_prefix("modules that need each other: ").unwrap_or_default();
    let find = |path: &str| modules.iter().find(|module| path.starts_with(&module.path()));
    let circle: Vec<_> = circle.split(" needs ").filter_map(find).collect();
    let needs =
        |pair: &[&Module]| pair[0].undefined.iter().any(|symbol| pair[1].exported.contains(&symbol.name.as_str()));
    circle.len() > 1 && circle[0].path() == circle[circle.len() - 1].path() && circle.windows(2).all(needs)
}

#[test]
fn modules_at_random() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = count("MODEST_TEST_SEED", now.subsec_nanos() as usize);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(seed as u64),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&trees(), |modules| {
        let (base, tree) = empty_tree();
        for module in &modules {
            let path = tree.dir.join(module.path() + module.ending.ending());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, encode(&module.image(), module.ending).unwrap()).unwrap();
        }
        let order: String = modules.iter().map(|module| module.path() + "\n").collect();
        fs::write(tree.dir.join("modules.order"), order).unwrap();
        match Indexes::of_tree(&tree.dir) {
            Ok(indexes) => {
                prop_assert!(run_depmod(base.path()));
                let differing = differing(&indexes, &tree);
                prop_assert!(differing.is_empty(), "{}", differing.join("\n"));
            }
            // depmod, which refuses these too, may search them for circles without end.
            Err(error) => prop_assert!(is_circle(&modules, &error.to_string()), "{error:#}"),
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}\nagain with MODEST_TEST_SEED={seed}");
    }
}
