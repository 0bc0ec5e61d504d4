//! The inputs that fuzzing found worth keeping, each tried once more: what was wrong once shall not be again.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use modest_fuzz::TARGETS;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz"))
}

#[test]
fn corpora_make_nothing_panic() {
    for (name, target) in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(folder().join("corpus").join(name)).unwrap() {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            // A panic names no file.
            std::panic::catch_unwind(|| target(&input)).unwrap_or_else(|_| panic!("{}", path.display()));
            count += 1;
        }
        assert!(count >= 10, "{name} has {count} inputs");
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let names = |folder: &Path| -> BTreeSet<_> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned()).collect()
    };
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).into()).collect();
    assert_eq!(names(&folder().join("fuzz_targets")), targets);
    assert_eq!(names(&folder().join("corpus")), targets);
}
