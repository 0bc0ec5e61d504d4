//! What an image includes for later: on the target it is found and loaded as on the tree that it is from.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;

use cpio::newc;
use mkmodest::board::Board;
use mkmodest::image::{self, Options};
use mkmodest::kernel::Tree;
use mkmodest::kernel::modprobe::Database;
use proptest::prelude::*;

use crate::random::{Files, NAMES, for_trees};

const BOARD: &str = r#"
description = "of no modules of its own"
arch = "aarch64"
modules = []
cmdline = ""

[[kernel]]
name = "any"
build = "any"

[qemu]
program = "none"
args = []
disk = "none"
timeout-s = 1
"#;

/// Unpacks the folders and regular files of an archive.
fn unpack(mut archive: &[u8], to: &Path) {
    loop {
        let mut reader = newc::Reader::new(archive).unwrap();
        let path = to.join(reader.entry().name());
        match reader.entry().mode() >> 12 {
            _ if reader.entry().is_trailer() => return,
            0o4 => fs::create_dir(&path).unwrap(),
            0o10 => {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).unwrap();
                fs::write(&path, bytes).unwrap();
            }
            _ => {}
        }
        archive = reader.finish().unwrap();
    }
}

/// What modprobe would do for the name in the tree below `base`, in any order.
fn planned(base: &Path, config: &Path, name: &str) -> Option<BTreeSet<String>> {
    let tree = Tree::find(base).unwrap();
    let lines = Database::read(&tree, &[config], "", &mut |_| {}).unwrap().show_depends(name).ok()?;
    Some(lines.replace(base.to_str().unwrap(), "").lines().map(String::from).collect())
}

#[test]
fn what_is_included_is_found_at_random() {
    let folder = tempfile::tempdir().unwrap();
    let [board, init] = ["board.toml", "init"].map(|name| folder.path().join(name));
    fs::write(&board, BOARD).unwrap();
    fs::write(&init, "#!/bin/sh\n").unwrap();
    let board = Board::read(&board).unwrap();
    for_trees(60, |tree| {
        let files = Files::write(tree);
        let (base, config) = (files.place().base, files.place().config);
        let modules = Tree::find(base).unwrap();
        // What a manifest calls a.ko is the module a.
        for name in NAMES.iter().copied().filter(|name| !name.ends_with(".ko")) {
            // Modules whose loading a command or a blacklist forbids are not there to be found.
            let Some(on_host) = planned(base, config, name) else { continue };
            if on_host.is_empty() || on_host.iter().any(|line| line.starts_with("install ")) {
                continue;
            }
            // By force: these modules have what names are found by, and nothing that a kernel would take.
            let (include, config) = (vec![name.into()], vec![config.into()]);
            let options = Options { include, config, force: true, ..Options::new(init.clone()) };
            let image = match image::build(&board, &board.kernels[0], &modules, &options) {
                Err(error) if error.root_cause().to_string().contains("there is no module") => continue,
                image => image.unwrap(),
            };
            let target = tempfile::tempdir().unwrap();
            unpack(&image.bytes, target.path());
            let on_target = planned(target.path(), &target.path().join("etc/modprobe.d"), name);
            prop_assert_eq!(on_target, Some(on_host), "{}", name);
        }
        Ok(())
    });
}
