//! Damaged modules by the hundred in guests: each is told of in one line that names the cause, and the boot goes on.
//!
//! Of each architecture `MODEST_TEST_MUTANTS` (132) are made, and loaded where the kernel takes signed modules alone, so that none
//! of them can bring it down but what modest tells can be seen; those that any kernel refuses by what their headers say are loaded
//! again where it takes all. `MODEST_TEST_SEED` makes others.

use std::collections::BTreeMap;
use std::time::Instant;

use mkmodest::check::{self, Around, Kind, Member, Report};
use mkmodest::codec::encode;
use mkmodest::module::info::ModuleInfo;
use modest_loader::elf::{Elf, Machine};
use modest_loader::format::Format;
use modest_qemu::Scenario;
use modest_qemu::damage::{Damage, Mutant, mutants, refused_by_kernel};

const BOARDS: [&str; 3] = ["qemu-aarch64", "qemu-armv7", "qemu-riscv64"];

/// Small, and of different kinds: data alone, code alone, with parameters, with an init that does something. They need no others.
const MUTATED: [&str; 5] = ["crc16", "nls_cp437", "dummy", "ts_kmp", "cordic"];

/// Untouched, and last: the kernel is as it was.
const CONTROLS: [(&str, Format); 4] =
    [("nls_utf8", Format::Plain), ("nls_ascii", Format::Gzip), ("crc7", Format::Xz), ("ts_bm", Format::Plain)];

#[test]
fn on_aarch64() {
    check("qemu-aarch64");
}

#[test]
fn on_armv7() {
    check("qemu-armv7");
}

#[test]
fn on_riscv64() {
    check("qemu-riscv64");
}

#[test]
fn those_that_the_kernel_refuses_are_told_of_on_the_build_host() {
    for board in BOARDS {
        let machine = Scenario::new(board, None).unwrap().board.arch.machine();
        let (own, others) = (images(board), others(board));
        let whole = ModuleInfo::read(&own[0]);
        assert!(whole.fault.is_none());
        let (mut refused, mut passed) = (0, 0);
        let seed = number("MODEST_TEST_SEED", 1) as u64;
        for mutant in mutants(seed, number("MODEST_TEST_MUTANTS", 500), &own, &others).unwrap() {
            let report = Report::of_file("m.ko", &mutant.file().unwrap(), true).unwrap();
            let info = report.modules.first().map(|module| &module.info);
            let is_told = report.problems.iter().any(|problem| matches!(problem.kind, Kind::Elf | Kind::File));
            let is_other = info.is_none_or(|info| info.machine != Some(machine));
            if let Some(rule) = mutant.image().and_then(|image| refused_by_kernel(image, machine)) {
                assert!(is_told || is_other, "{:?}, {}: {rule}, and nothing told", mutant.damage, mutant.what);
                refused += 1;
            }
            passed += usize::from(!is_told);
            // A set with it is looked at to the end too.
            let Some(info) = info else { continue };
            let set = [("m.ko", info), ("a.ko", &whole)].map(|(file, info)| Member { file, info, params: "x=1" });
            let problems = check::set(&set, &set, Around { machine: Some(machine), ..Around::default() });
            let is_told = problems.iter().any(|problem| problem.file == "m.ko");
            assert!(is_told || !is_other, "{:?}, {}: nothing told of the set", mutant.damage, mutant.what);
        }
        assert!(refused > 70 && passed > 30, "{board}: {refused} refused, {passed} passed");
    }
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().expect(variable))
}

fn images(board: &str) -> Vec<Vec<u8>> {
    let scenario = Scenario::new(board, None).unwrap();
    MUTATED.iter().map(|name| scenario.module(name).unwrap()).collect()
}

fn others(board: &str) -> Vec<Vec<u8>> {
    BOARDS.iter().filter(|other| **other != board).flat_map(|other| images(other)).collect()
}

fn check(board: &str) {
    let seed = number("MODEST_TEST_SEED", 1) as u64;
    let all = mutants(seed, number("MODEST_TEST_MUTANTS", 132), &images(board), &others(board)).unwrap();
    boot(board, "module.sig_enforce=1", &all);
    let machine = Scenario::new(board, None).unwrap().board.arch.machine();
    // A compressed file that decodes in spite of its damage holds what it held, or its checksum would not match.
    let is_refused = |image: &[u8]| refused_by_kernel(image, machine).is_some();
    let refused: Vec<_> = all.into_iter().filter(|m| m.image().is_none_or(is_refused)).collect();
    boot(board, "", &refused);
}

/// Boots with an entry for each mutant and each control, and judges what is said of each.
fn boot(board: &str, append: &str, mutants: &[Mutant]) {
    let mut scenario = Scenario::with_manifest(board, None, "").unwrap().memory("512").append(append);
    // Each of the kernel's lines goes to its log, where modest finds it; on this console they would only cost time.
    scenario = scenario.append("quiet loglevel=1 panic=-1");
    scenario.board.qemu.timeout_s += mutants.len() as u64;
    let controls = CONTROLS.map(|(name, format)| (encode(&scenario.module(name).unwrap(), format).unwrap(), format));
    let files = mutants.iter().map(|m| (m.file().unwrap(), m.format)).chain(controls);
    let mut manifest = String::new();
    for (number, (bytes, format)) in files.enumerate() {
        let path = format!("/m/{number:04}.ko{}", format.ending());
        manifest += &format!("{path}\n");
        scenario = scenario.file(&path, bytes);
    }
    manifest += "@exec /next\n";
    scenario.options.verbatim_manifest = Some(manifest.into());
    let machine = scenario.board.arch.machine();
    let scenario = scenario.script("/next", "echo NEXT-INIT pid=$$; poweroff -f\n").unwrap();
    let start = Instant::now();
    let console = scenario.boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap();

    let mut lines = BTreeMap::<usize, Vec<&str>>::new();
    for line in console.lines().filter_map(|line| line.strip_prefix("modest: ")) {
        if let Some((Ok(number), said)) = line.split_once(": ").map(|(name, said)| (name.parse(), said)) {
            lines.entry(number).or_default().push(said);
        }
    }
    let mut wrong = vec![];
    let (mut loaded, mut failed) = (0, 0);
    let mut causes = BTreeMap::<String, usize>::new();
    for number in 0..mutants.len() + CONTROLS.len() {
        let said = match lines.get(&number).map(Vec::as_slice) {
            Some(&[said]) => said,
            other => {
                wrong.push(format!("{number:04}: {other:?}, where one line was expected"));
                continue;
            }
        };
        let is_loaded = said.starts_with("loaded by ");
        loaded += usize::from(is_loaded);
        failed += usize::from(!is_loaded);
        let Some(mutant) = mutants.get(number) else {
            if !is_loaded {
                wrong.push(format!("{number:04}, a control: {said}"));
            }
            continue;
        };
        if is_loaded && mutant.damage == Damage::Container {
            *causes.entry("(loaded, since its image is whole)".into()).or_default() += 1;
            continue;
        }
        let path = format!(", /m/{number:04}.ko{}", mutant.format.ending());
        let cause = said.strip_suffix(&path).and_then(|said| cause_in(said, mutant, machine));
        match cause {
            Some(cause) => *causes.entry(cause).or_default() += 1,
            None => wrong.push(format!("{number:04}, {:?}, {}: {said}", mutant.damage, mutant.what)),
        }
    }
    let summary = format!("modest: {loaded} loaded, 0 present, 0 skipped, {failed} failed");
    if !console.lines().any(|line| line.starts_with(&summary)) {
        wrong.push(format!("no line begins with {summary:?}"));
    }
    let took = start.elapsed().as_secs();
    println!("{board} {append}: {} mutants, {} controls, {took} s, {loaded} loaded", mutants.len(), CONTROLS.len());
    for (cause, times) in causes {
        println!("{times:6} {cause}");
    }
    assert!(wrong.is_empty(), "{} lines are not as they should be:\n{}", wrong.len(), wrong.join("\n"));
}

/// The cause that is told of a mutant, numbers and names left out; `None` if it is not the one there is, or none.
fn cause_in(said: &str, mutant: &Mutant, machine: Machine) -> Option<String> {
    // The errno alone is no cause.
    let is_errno =
        |word: &&str| word.starts_with('E') && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let cause = said.split_once(": ").filter(|(errno, _)| is_errno(errno)).map_or(said, |(_, cause)| cause);
    let shown = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "#");
    let fault = mutant.image().and_then(|image| Elf::open(image, Some(machine)).err());
    if let Some(fault) = fault {
        // What this machine is, is another here, and with that where a machine's class is worth a word.
        let fault = fault.to_string();
        let expected = fault.split(", but this machine is ").next()?.trim_end_matches(" (32 bits)");
        return cause.starts_with(expected).then(|| shown(expected));
    }
    let known: &[&str] = match mutant.damage {
        Damage::Container => &[
            "the compressed file ",
            "the image is not as long as its file",
            "the image is larger than the machine's free memory",
            "this build cannot decode the file: ",
            "the file is not a module: it begins with ",
            "the file is empty",
            "a module with its name, ",
            "its init reports that something already exists, or a module with the name in this file is already loaded",
            "it needs ",
        ],
        _ => &[
            "its signature does not match its content: ",
            "it is not signed, and this kernel takes only signed modules",
            "its signature is malformed",
            "its signature is damaged, or its init returned this (the kernel's log would name any other cause)",
            // The names of the key and of the algorithm are in what is damaged.
            "it is signed with a key that this kernel does not have: ",
            "this kernel enforces signatures, and the module is not signed with a key that it trusts; the kernel's log \
             says: \"Loading of module with ",
        ],
    };
    known.iter().find(|known| cause.starts_with(**known)).map(|_| shown(cause))
}
