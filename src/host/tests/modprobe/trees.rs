//! Debian's kernels: every module, and what devices ask for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mkmodest::board::Board;
use mkmodest::kernel::{KernelPackage, Tree};

use crate::count;
use crate::kmod::{Place, assert_same};

const BOARDS: [&str; 3] = ["qemu-aarch64", "qemu-armv7", "qemu-riscv64"];

/// The modules of a board's first kernel.
pub fn tree(board: &str) -> Tree {
    let file = format!("{}/../../boards/{board}.toml", env!("CARGO_MANIFEST_DIR"));
    KernelPackage::find(&Board::load(&file).unwrap(), None).unwrap().tree
}

/// Asks for the names in each tree that `names` tells.
fn assert_same_names(names: impl Fn(&Tree) -> Vec<String>) {
    let config = tempfile::tempdir().unwrap();
    let trees: Vec<_> = BOARDS.map(tree).into_iter().map(|tree| (names(&tree), tree)).collect();
    let places = trees.iter().map(|(names, tree)| {
        let base = tree.dir.ancestors().nth(3).unwrap();
        (Place { base, release: &tree.release, config: config.path(), texts: None, is_unordered: false }, &names[..])
    });
    assert_same(&places.collect::<Vec<_>>());
}

/// The lines of one of its files.
pub fn lines(tree: &Tree, index: &str) -> Vec<String> {
    fs::read_to_string(tree.dir.join(index)).unwrap().lines().map(String::from).collect()
}

#[test]
fn every_module_of_debians_kernels() {
    assert_same_names(|tree| {
        let files = ["modules.dep", "modules.builtin"].iter().flat_map(|index| lines(tree, index));
        files.map(|line| module_name(&line)).collect::<BTreeSet<_>>().into_iter().collect()
    });
}

#[test]
fn what_devices_ask_for_of_debians_kernels() {
    let wanted = count("MODEST_TEST_ALIASES", 2000);
    assert_same_names(|tree| {
        let patterns = lines(tree, "modules.alias").into_iter().filter_map(|line| {
            let (pattern, _module) = line.strip_prefix("alias ")?.rsplit_once(' ')?;
            Some(first_match(pattern))
        });
        let aliases: Vec<_> = patterns.collect::<BTreeSet<_>>().into_iter().collect();
        let wanted = wanted.min(aliases.len());
        (0..wanted).map(|i| aliases[i * aliases.len() / wanted].clone()).collect()
    });
}

/// The name of the module in a line of modules.dep or modules.builtin.
fn module_name(line: &str) -> String {
    let path = line.split(':').next().unwrap_or_default();
    let file = Path::new(path).file_name().unwrap_or_default().to_str().unwrap();
    file.split(".ko").next().unwrap_or_default().into()
}

/// The simplest text that the pattern matches.
fn first_match(pattern: &str) -> String {
    let (mut text, mut rest) = (String::new(), pattern.chars());
    while let Some(c) = rest.next() {
        match c {
            '*' => {}
            '?' => text.push('x'),
            '\\' => text.extend(rest.next()),
            '[' => {
                text.extend(rest.next());
                rest.by_ref().find(|c| *c == ']');
            }
            c => text.push(c),
        }
    }
    text
}

#[test]
fn the_first_match_of_a_pattern() {
    assert_eq!(first_match("usb:v0C[0-9]d?p*\\*ic[a]"), "usb:v0C0dxp*ica");
}
