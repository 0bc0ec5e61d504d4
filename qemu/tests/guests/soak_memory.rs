//! Boots in a row of a machine with 9 to 24 MB: random sets of large modules, formats, paths and attributes. Where there is too
//! little memory for a module, that module is not loaded, and a line says so; nothing hangs, and nothing that modest does
//! makes the kernel panic.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use mkmodest::codec;
use modest_loader::format::Format;
use modest_qemu::{BIG_IS_WHOLE, Scenario, sha256};

use super::soak::{Random, in_a_row};

const BOARD: &str = "lowram-armv7";
const FORMATS: [Format; 4] = [Format::Plain, Format::Gzip, Format::Xz, Format::Zstd];
const PATHS: [&str; 5] = ["finit", "finit-compressed", "stream", "mmap", "buffer"];

/// Those of the kernel's own that are not small, after what they need.
const OTHERS: [&str; 4] = ["crc16", "mbcache", "jbd2", "ext4"];

/// What the kernel says as it starts the first program; what goes wrong before is not of its doing.
const STARTED: &str = "Run /init as init process";

/// A boot to be.
struct Boot {
    memory_kib: u64,
    /// The name and format of each file.
    files: Vec<(String, Format)>,
    /// How many entries it has, each of which is loaded, there, or reported.
    entries: usize,
    manifest: String,
    /// Whether its modest knows gzip alone.
    is_small: bool,
    compress: Format,
}

/// The image of a large module: `modest_big` under the name `modest_bNN`, which is as long wherever it stands in it.
fn large(scenario: &Scenario, name: &str) -> Vec<u8> {
    let (old, mut image) = (b"modest_big", scenario.module("modest_big").unwrap());
    let at: Vec<_> = (0..image.len()).filter(|at| image[*at..].starts_with(old)).collect();
    at.iter().for_each(|at| image[*at..*at + name.len()].copy_from_slice(name.as_bytes()));
    image
}

fn image(scenario: &Scenario, name: &str) -> Vec<u8> {
    if name.starts_with("modest_b") { large(scenario, name) } else { scenario.module(name).unwrap() }
}

/// The bytes of a module's file; encoding takes seconds, so that is done once.
fn encoded(scenario: &Scenario, name: &str, format: Format) -> Vec<u8> {
    static DONE: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let file = format!("{name}.ko{}", format.ending());
    let known = || DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bytes) = known().get(&file) {
        return bytes.clone();
    }
    let bytes = codec::encode(&image(scenario, name), format).unwrap();
    known().insert(file, bytes.clone());
    bytes
}

/// What stands before the first entry.
fn directives(random: &mut Random) -> String {
    let mut text = String::new();
    if random.below(2) == 0 {
        text.push_str("@unlink\n");
    }
    if random.below(4) == 0 {
        writeln!(text, "@budget {}", random.one_of(&["128K", "256K", "1M", "2M", "8M"])).unwrap();
    }
    text
}

/// What stands behind a file in its entry.
fn attributes(random: &mut Random, scenario: &Scenario, name: &str) -> String {
    let mut text = String::new();
    if random.below(3) == 0 {
        write!(text, " @path={}", random.one_of(&PATHS)).unwrap();
    }
    if random.below(4) == 0 {
        write!(text, " @size={}", image(scenario, name).len()).unwrap();
    }
    if random.below(5) == 0 {
        write!(text, " @sha256={}", sha256(&image(scenario, name))).unwrap();
    }
    if random.below(4) == 0 {
        text.push_str(" @timeout=30s");
    }
    text
}

fn boot_of(scenario: &Scenario, seed: u64) -> Boot {
    let mut random = Random::new(seed);
    let memory_kib = 9 * 1024 + random.below(15 * 1024 / 4 + 1) * 4;
    let mut names: Vec<_> = (0..1 + random.below(6)).map(|number| format!("modest_b{number:02}")).collect();
    if random.below(3) == 0 {
        let at = random.below(names.len() as u64 + 1) as usize;
        names.splice(at..at, OTHERS.map(String::from));
    }
    let usual = FORMATS[random.below(4) as usize];
    let mut boot = Boot {
        memory_kib,
        files: Vec::new(),
        entries: names.len(),
        manifest: format!("# boot {seed}\n{}", directives(&mut random)),
        is_small: random.below(3) == 0,
        compress: if random.below(2) == 0 { Format::Plain } else { Format::Gzip },
    };
    for name in names {
        let format = if random.below(3) == 0 { FORMATS[random.below(4) as usize] } else { usual };
        let attributes = attributes(&mut random, scenario, &name);
        writeln!(boot.manifest, "/m/{name}.ko{}{attributes}", format.ending()).unwrap();
        boot.files.push((name, format));
    }
    boot.manifest += "@exec /none\n";
    boot
}

/// What is wrong with how a boot ended that came to modest's last line: all is said, and what is loaded is whole.
fn judge(boot: &Boot, console: &str) -> Result<(), String> {
    let said = |line: &&str| line.starts_with("modest: ");
    let counts = console.lines().filter(said).find(|line| line.contains(" present, ") && line.contains(" skipped, "));
    let numbers: Vec<usize> =
        counts.iter().flat_map(|line| line.split([' ', ','])).filter_map(|word| word.parse().ok()).collect();
    let [loaded, present, 0, failed, ..] = numbers[..] else { return Err(format!("counts: {counts:?}")) };
    if loaded + present + failed != boot.entries {
        return Err(format!("{loaded} and {present} and {failed} are not {}", boot.entries));
    }
    for (name, _) in &boot.files {
        let begins = format!("modest: {name}: ");
        let is_loaded = console.contains(&format!("{begins}loaded by "));
        let is_whole = console.contains(&BIG_IS_WHOLE.replace("modest_big", name));
        if is_loaded && name.starts_with("modest_b") && !is_whole {
            return Err(format!("{name} is loaded, and not whole"));
        }
        if !is_loaded && !console.lines().filter(said).any(|line| line.starts_with(&begins)) {
            return Err(format!("nothing is said of {name}"));
        }
    }
    Ok(())
}

fn soak(seed: u64) -> Result<String, String> {
    let mut scenario = Scenario::with_manifest(BOARD, Some("small"), "").unwrap();
    let boot = boot_of(&scenario, seed);
    for (name, format) in &boot.files {
        let bytes = encoded(&scenario, name, *format);
        scenario = scenario.file(&format!("/m/{name}.ko{}", format.ending()), bytes);
    }
    scenario.options.verbatim_manifest = Some(boot.manifest.clone().into());
    scenario.options.compress = boot.compress;
    if boot.is_small {
        scenario.options.init = scenario.options.init.with_file_name("modest-gzip");
    }
    let scenario = scenario.memory(&format!("{}K", boot.memory_kib));
    let about = format!("boot {seed}, {} KiB, {} archive\n{}", boot.memory_kib, boot.compress.name(), boot.manifest);
    let ended = scenario.boot().unwrap().wait_for("modest: stopped here");
    match ended {
        Ok(console) => {
            judge(&boot, &console).map_err(|wrong| format!("{about}{wrong}\n{console}"))?;
            let kills = console.matches("invoked oom-killer").count();
            let line = console.lines().find(|line| line.contains(" present, ")).unwrap_or_default();
            Ok(format!("{} KiB: {line}; {kills} killed", boot.memory_kib))
        }
        // The kernel found no memory for what comes before any program; with less still it says nothing at all.
        Err(error) if !format!("{error:#}").contains(STARTED) => {
            Ok(format!("{} KiB: the kernel did not come to its first program", boot.memory_kib))
        }
        Err(error) => Err(format!("{about}{error:#}")),
    }
}

/// How many boots there are is in MODEST_TEST_BOOTS; a few show that it works.
#[test]
fn boots_in_a_row_with_little_memory() {
    in_a_row(6, &soak);
}
