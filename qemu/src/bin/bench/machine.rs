//! How little memory a machine may have for each loader to get a module of 3 MB into the kernel.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mkmodest::guest::WaitError;
use mkmodest::kernel::cache;
use modest_loader::format::Format;
use modest_qemu::{BIG_IS_WHOLE, Loader, Scenario, modest};

/// The steps in which the memory of a machine is tried, and from where to where: below, no kernel of this size boots.
const STEP_KIB: u32 = 128;
const FROM_KIB: u32 = 8 << 10;
const TO_KIB: u32 = 32 << 10;
/// The machine whose console is kept.
const SHOWN_KIB: u32 = 16 << 10;
/// A kernel that has too little memory to say so says nothing: another boot takes 2 s.
const LIMIT_S: u64 = 60;

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
        Contender {
            name: "modest, `@path=buffer`",
            loader: Loader::Modest("@path=buffer"),
            program: &modest,
            formats: &all[1..],
        },
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
    let (mut table, mut consoles) =
        ("| loader | program | .ko | .ko.gz | .ko.xz |\n|---|---|---|---|---|\n".to_string(), String::new());
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
                let (is_loaded, console) = boot(&mut scenario, SHOWN_KIB)?;
                let ends = if is_loaded { "loaded" } else { "not loaded" };
                write!(consoles, "\n{name}: {ends}\n```\n{}```\n", relevant(&console))?;
            }
        }
        table += "\n";
    }
    crate::write_section("machine", &format!("{TEXT}{table}{CONSOLES}{consoles}"))
}

const TEXT: &str = "\
## How small a machine may be

The smallest machine, in KiB of memory, that loads a module of 3 MB: the board `lowram-armv7` with its kernel `small`,
which has userfaultfd and leaves decompression to user space, and QEMU's `-m` in steps of 128K. One step more or less
is chance. The initramfs has the module (`qemu/modules/big_main.c`) and the loader, and nothing else. modest is init,
with a manifest. The others are init too, which takes the least memory and does nothing but load; or a busybox script
calls them, which is how people use them. The module counts as loaded when it has checked all of its tables and says so
itself.

kmod is version 34, as small as possible: `scripts/peer-kmod` builds it with only zlib, static, with musl. (Debian's
own, with its libraries, is 7 MB and cannot read gzip.) busybox is Debian 13's `busybox-static`. `scripts/bench
machine` measures this and writes this section.

";
const CONSOLES: &str = "
modest decompresses a piece of the image while the kernel copies the piece before. The others first decompress all of
it into memory of their own; the kernel's copy and the laid-out module come on top: three times the module. So does
modest on a kernel without userfaultfd, as `@path=buffer` shows. A plain file needs no decompression, so only the sizes
of the programs differ; but the whole file is in the initramfs.

### With 16 MB

The consoles of a 16 MB machine with the module in gzip: what the program wrote, and the kernel's lines about it and
about memory. When an insmod that is init exits, the kernel panics with its exit code.
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
    match scenario.boot()?.wait_for_end() {
        Ok(console) => Ok((console.contains(BIG_IS_WHOLE), console)),
        // No machine at all, or the wait was too short.
        Err(error) => match error.downcast_ref() {
            Some(WaitError::TimedOut { console }) if console.is_empty() => Ok((false, String::new())),
            _ => Err(error),
        },
    }
}

/// What the program said, and the kernel of it and its memory.
fn relevant(console: &str) -> String {
    const KERNEL: [&str; 6] =
        ["Memory: ", "Run /", "modest_big: ", "invoked oom-killer", "Out of memory", "Kernel panic"];
    let is_kept =
        |line: &&str| !line.is_empty() && (!line.starts_with('[') || KERNEL.iter().any(|part| line.contains(part)));
    console.lines().filter(is_kept).flat_map(|line| [line, "\n"]).collect()
}
