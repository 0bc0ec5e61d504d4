//! What `scripts/bench` runs in a guest: how much memory a program takes, and with how little a module still loads.

use core::ffi::CStr;
use core::fmt::{self, Write};

use modest_loader::errno::Errno;
use modest_loader::kernel::lines::Lines;
use modest_loader::kernel::{Kernel, machine};
use modest_loader::limits::LINE_BYTES;
use modest_loader::name::{self, Name};
use modest_loader::report::shown;
use modest_loader::sys::bench::{self, EXEC_STOP, SYSCALL_STOP, Waited};
use modest_loader::sys::{self, Fd, Linux, StringArray};
use modest_loader::text;

use crate::console;
use crate::exit::{FAILED, LOADED, usage};

/// Does what the arguments ask for, if that is one of these: the exit code.
pub fn applet(argv: StringArray) -> Option<u8> {
    match argv.iter().nth(1).map(shown) {
        Some("peak") => Some(peak(argv)),
        Some("fit") => Some(fit(argv)),
        _ => None,
    }
}

/// `modest peak PROGRAM [ARG]...`: runs it and prints the most memory that it had at the beginning or end of a system call.
///
/// Between two calls a program can only take memory, and the next call sees that; what it gives back, it gives by a call.
fn peak(argv: StringArray) -> u8 {
    let program = argv.from(2);
    if program.iter().next().is_none() {
        return usage("modest: peak takes PROGRAM [ARG]...\n");
    }
    match traced(program) {
        Ok(Peak { ended, resident_kib, own_kib }) => {
            print(format_args!("peak: {ended} rss_kib={resident_kib} anonymous_kib={own_kib}\n"));
            LOADED
        }
        Err(errno) => failed("peak", errno),
    }
}

struct Peak {
    ended: Ended,
    resident_kib: u64,
    own_kib: u64,
}

/// How a program ended: `status=0`, or `signal=9`.
struct Ended(Waited);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Waited::Exited(code) => write!(f, "status={code}"),
            Waited::Killed(signal) | Waited::Stopped(signal) => write!(f, "signal={signal}"),
        }
    }
}

fn traced(program: StringArray) -> Result<Peak, Errno> {
    let Some(pid) = bench::fork()? else {
        let _ = bench::trace_me();
        become_program(program)
    };
    let (mut resident_kib, mut own_kib, mut first) = (0, 0, true);
    loop {
        let signal = match bench::wait(pid)? {
            Waited::Stopped(SYSCALL_STOP) => 0,
            Waited::Stopped(EXEC_STOP) if first => {
                bench::trace_syscalls(pid)?;
                first = false;
                0
            }
            Waited::Stopped(signal) => signal,
            ended => return Ok(Peak { ended: Ended(ended), resident_kib, own_kib }),
        };
        if let Some((resident, own)) = machine::resident_kib(&Linux, pid) {
            resident_kib = resident_kib.max(resident);
            own_kib = own_kib.max(own);
        }
        bench::go_on(pid, signal)?;
    }
}

fn become_program(program: StringArray) -> ! {
    const CANNOT: u8 = 127;
    if let Some(path) = program.iter().next() {
        sys::execve(path, program, StringArray::EMPTY);
    }
    sys::exit(CANNOT)
}

/// `modest fit MODULE KIB PROGRAM [ARG]...`: the smallest free memory with which PROGRAM still loads MODULE, searched from
/// KIB, what cannot be less by much.
///
/// All memory but so much is taken by a file that the caller made on a ramfs, [`PIN`]. Free is what the kernel gives to anybody
/// before it looks for memory to take back: above the zones' min watermarks, and on the lists of single pages of the processors.
fn fit(argv: StringArray) -> u8 {
    let mut args = argv.iter().skip(2).map(shown);
    let program = argv.from(4);
    let (Some(module), Some(floor_kib)) = (args.next(), args.next().and_then(text::number)) else {
        return usage("modest: fit takes MODULE KIB PROGRAM [ARG]...\n");
    };
    let start_us = sys::monotonic_us();
    match Fit::new(name::of(module), program).and_then(|mut fit| Ok((fit.smallest_kib(floor_kib)?, fit.tries))) {
        Ok((found, tries)) => {
            let ms = (sys::monotonic_us() - start_us) / 1000;
            match found {
                Some(kib) => print(format_args!("fit: kib={kib} tries={tries} ms={ms}\n")),
                None => print(format_args!("fit: none tries={tries} ms={ms}\n")),
            }
            LOADED
        }
        Err(errno) => failed("fit", errno),
    }
}

/// The file that takes memory.
const PIN: &CStr = c"/pin/file";

const OOM_SCORE_ADJ: &CStr = c"/proc/self/oom_score_adj";

const PAGE_KIB: u64 = 4;

/// How near free memory is brought to what is wanted.
const NEAR_KIB: u64 = 3 * PAGE_KIB;

/// What is given back after each try, for this program and the shell.
const SPARE_PAGES: u64 = 256;

/// How long what is left of a killed program may take to end, and the kernel to give back a module's init sections.
const AFTERMATH_MS: u32 = 100;

/// Nothing more than this is tried.
const MOST_KIB: u64 = 96 << 10;

struct Fit<'n> {
    module: Name<'n>,
    program: StringArray,
    pin: Fd,
    pinned_pages: u64,
    tries: u32,
}

impl<'n> Fit<'n> {
    fn new(module: Name<'n>, program: StringArray) -> Result<Self, Errno> {
        // Out of the kernel's reach when memory is short. The shell is init, and so is it.
        sys::set(OOM_SCORE_ADJ, b"-1000")?;
        sys::set(c"/proc/sys/vm/compact_memory", b"1")?;
        let pin = sys::openat(None, PIN, sys::O_WRONLY | sys::O_APPEND)?;
        let pinned_pages = sys::fstat(&pin)?.size_bytes / (PAGE_KIB << 10);
        Ok(Fit { module, program, pin, pinned_pages, tries: 0 })
    }

    fn smallest_kib(&mut self, floor_kib: u64) -> Result<Option<u64>, Errno> {
        // Steps that double, up to where it works; then halves of the step before that.
        let (mut step, mut fails, mut works) = (floor_kib / 16, floor_kib * 7 / 8, floor_kib);
        works = loop {
            if works > MOST_KIB {
                return Ok(None);
            }
            if let Some(left) = self.try_with(works)? {
                break left;
            }
            fails = works;
            works += step;
            step *= 2;
        };
        loop {
            while works.saturating_sub(fails) > (works / 50).max(NEAR_KIB) {
                let middle = (works + fails) / 2;
                match self.try_with(middle)? {
                    Some(left) => works = left.min(works),
                    None => fails = middle,
                }
            }
            // Twice more, for not every try with the same memory ends the same.
            if self.try_with(works)?.is_some() && self.try_with(works)?.is_some() {
                return Ok(Some(works));
            }
            fails = works;
            works += (works / 50).max(NEAR_KIB);
        }
    }

    /// Whether the module loads with so much free memory, and with how much exactly.
    fn try_with(&mut self, kib: u64) -> Result<Option<u64>, Errno> {
        self.tries += 1;
        sys::set(c"/proc/sys/vm/drop_caches", b"3")?;
        let left = self.leave(kib)?;
        let Some(pid) = bench::fork()? else {
            let _ = sys::set(OOM_SCORE_ADJ, b"0");
            if let Ok(null) = sys::openat(None, c"/dev/null", sys::O_RDWR) {
                for number in 0..3 {
                    let _ = sys::dup_onto(&null, number);
                }
            }
            become_program(self.program)
        };
        let ended = bench::wait(pid)?;
        self.resize(self.pinned_pages.saturating_sub(SPARE_PAGES))?;
        let works = ended == Waited::Exited(0) && self.unload();
        sys::sleep_ms(AFTERMATH_MS);
        // A child of the program may have gone on after that was killed, with what was given back: that is no success.
        self.unload();
        Ok(works.then_some(left))
    }

    /// Unloads the module: whether it was there, and live.
    fn unload(&self) -> bool {
        let live = machine::is_live(&Linux, self.module);
        let name = modest_loader::path_of(format_args!("{}", self.module));
        live && name.is_some_and(|name| bench::delete_module(&name).is_ok())
    }

    /// Brings free memory near `kib`: what it is then.
    fn leave(&mut self, kib: u64) -> Result<u64, Errno> {
        const ROUNDS: u32 = 20;
        for _ in 0..ROUNDS {
            let free = free_kib()?;
            if free.abs_diff(kib) <= NEAR_KIB {
                return Ok(free);
            }
            let pages = free.abs_diff(kib) / PAGE_KIB;
            // The file takes more than its pages: the kernel's tree of them has 576 bytes for each 64.
            let less = self.pinned_pages.saturating_sub(pages);
            self.resize(if free < kib { less } else { self.pinned_pages + pages - pages.div_ceil(64) })?;
        }
        Err(Errno::ENOMEM)
    }

    fn resize(&mut self, pages: u64) -> Result<(), Errno> {
        static ZEROS: [u8; (PAGE_KIB << 10) as usize] = [0; (PAGE_KIB << 10) as usize];
        while self.pinned_pages < pages {
            sys::write(&self.pin, &ZEROS)?;
            self.pinned_pages += 1;
        }
        self.pinned_pages = pages;
        bench::ftruncate(&self.pin, (pages * PAGE_KIB) as usize * 1024)
    }
}

fn free_kib() -> Result<u64, Errno> {
    let zones = Linux.open(c"/proc/zoneinfo")?;
    let (mut pages, mut min) = (0, 0);
    let mut buf = [0; LINE_BYTES];
    let mut lines = Lines::new(&Linux, zones, &mut buf);
    while let Some((_, Ok(line))) = lines.next_line() {
        let line = core::str::from_utf8(line).unwrap_or_default().trim_ascii();
        let value = |name| line.strip_prefix(name).and_then(|rest: &str| text::number(rest.trim_ascii()));
        pages += value("pages free").or_else(|| value("count:")).unwrap_or(0);
        min += value("min ").unwrap_or(0);
    }
    Ok(PAGE_KIB * u64::saturating_sub(pages, min))
}

fn print(line: fmt::Arguments) {
    let mut buf = heapless::String::<128>::new();
    let _ = buf.write_fmt(line);
    console::print(buf.as_bytes());
}

fn failed(what: &str, errno: Errno) -> u8 {
    print(format_args!("{what}: {errno}\n"));
    FAILED
}
