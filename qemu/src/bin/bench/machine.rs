//! How little memory a machine may have for each loader to get a module of 3 MB into the kernel.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mkmodest::guest::WaitError;
use mkmodest::kernel::cache;
use modest_loader::image::Format;
use modest_qemu::{BIG_IS_WHOLE, Loader, Scenario, modest};

/// The steps in which the memory of a machine is tried, and from where to where: below, no kernel of this size boots.
const STEP_KIB: u32 = 128;
const FROM_KIB: u32 = 8 << 10;
const TO_KIB: u32 = 32 << 10;
/// The machine whose console is kept.
const SHOWN_KIB: u32 = 16 << 10;
/// A kernel that has too little memory to say so says nothing: a boot takes 2 s.
const LIMIT_S: u64 = 30;

struct Contender<'a> {
    name: &'a str,
    loader: Loader<'a>,
    program: &'a Path,
    formats: &'a [Format],
}

pub fn run() -> Result<()> {
    let kernel = Scenario::new("lowram-armv7", None)?.kernel;
    let (modest, busybox) = (modest("armv7-unknown-linux-musleabihf"), kernel.busybox());
    let kmod = cache()?.join("peers/kmod-armhf/kmod");
    let all = [Format::Plain, Format::Gzip, Format::Xz];
    let contenders = [
        Contender { name: "modest", loader: Loader::Modest(""), program: &modest, formats: &all },
        Contender { name: "kmod", loader: Loader::Insmod(&kmod), program: &kmod, formats: &all[..2] },
        Contender {
            name: "kmod, by a script",
            loader: Loader::InsmodByScript(&kmod),
            program: &kmod,
            formats: &all[..2],
        },
        Contender { name: "busybox", loader: Loader::Insmod(&busybox), program: &busybox, formats: &all },
        Contender {
            name: "busybox, by a script",
            loader: Loader::InsmodByScript(&busybox),
            program: &busybox,
            formats: &all,
        },
    ];
    let (mut table, mut consoles) = (String::new(), String::new());
    for Contender { name, loader, program, formats } in contenders {
        let kib = fs::metadata(program).with_context(|| format!("{}", program.display()))?.len() >> 10;
        write!(table, "| {name} | {kib} KiB |")?;
        for format in all {
            if !formats.contains(&format) {
                table += " – |";
                continue;
            }
            let mut scenario = Scenario::big("small", format, loader)?;
            scenario.board.qemu.timeout_s = LIMIT_S;
            let smallest = smallest(&mut scenario)?;
            eprintln!("{name}, .ko{}: {smallest} KiB", format.ending());
            write!(table, " {smallest} |")?;
            if format == Format::Gzip {
                let (_, console) = boot(&mut scenario, SHOWN_KIB)?;
                write!(consoles, "\n{name}:\n```\n{}```\n", relevant(&console))?;
            }
        }
        table += "\n";
    }
    crate::write_section("machine", &format!("{TEXT}{table}\n{CONSOLES}{consoles}"))
}

const TEXT: &str = "\
## How small a machine may be

";
const CONSOLES: &str = "\
### With 16 MB

";

/// The least memory with which it loads the module, in KiB.
fn smallest(scenario: &mut Scenario) -> Result<u32> {
    let (mut fails, mut loads) = (FROM_KIB, TO_KIB);
    let (is_loaded, console) = boot(scenario, loads)?;
    ensure!(is_loaded, "not even with {loads} KiB:\n{console}");
    while loads - fails > STEP_KIB {
        let middle = (fails + loads) / 2 / STEP_KIB * STEP_KIB;
        match boot(scenario, middle)?.0 {
            true => loads = middle,
            false => fails = middle,
        }
    }
    Ok(loads)
}

/// Whether the module says that it is there, all of it, and the console.
fn boot(scenario: &mut Scenario, memory_kib: u32) -> Result<(bool, String)> {
    scenario.args = vec!["-m".into(), format!("{memory_kib}K")];
    let console = match scenario.boot()?.wait_for_end() {
        Ok(console) => console,
        Err(error) => match error.downcast()? {
            WaitError::Ended { console, .. } | WaitError::TimedOut { console } => console,
        },
    };
    Ok((console.contains(BIG_IS_WHOLE), console))
}

/// What the program said, and the kernel of it and its memory.
fn relevant(console: &str) -> String {
    const KERNEL: [&str; 6] =
        ["Memory: ", "Run /", "modest_big: ", "invoked oom-killer", "Out of memory", "Kernel panic"];
    let is_kept =
        |line: &&str| !line.is_empty() && (!line.starts_with('[') || KERNEL.iter().any(|part| line.contains(part)));
    console.lines().filter(is_kept).flat_map(|line| [line, "\n"]).collect()
}
