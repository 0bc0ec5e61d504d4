//! What is called by hand or by another init: `load`, `insmod`, `--help`, `--version`.

use core::ffi::CStr;

use modest_loader::cmdline::Cmdline;
use modest_loader::errno::{Errno, bytes};
use modest_loader::explain::{self, FailedLoad, KernelLog};
use modest_loader::kernel::{Caller, Kernel, machine};
use modest_loader::limits::{CMDLINE_BYTES, LINE_BYTES};
use modest_loader::load::{self, Abilities, Failure, IGNORE_MODVERSIONS, IGNORE_VERMAGIC, Request};
use modest_loader::manifest::{OnError, quote_param, size_bytes};
use modest_loader::name;
#[cfg(feature = "explain")]
use modest_loader::report::Pieces;
use modest_loader::report::{Level, Log, shown};
use modest_loader::run::{self, Options};
use modest_loader::sys;
use modest_loader::sys::{Fd, Linux, Region, StringArray};

use crate::console::{Console, write_all};

/// The manifest, where nothing else is said.
pub const MANIFEST: &CStr = c"/etc/modest.manifest";

const USAGE_TEXT: &str = "\
Usage: modest load [-m MANIFEST] [-n] [-q] [-v]
       modest insmod FILE [PARAM]...
       modest --help | --version

load    Load the modules of MANIFEST (default /etc/modest.manifest, or modest.manifest= on the
        kernel command line). -n: print what would be done. -q: print failures only. -v: print more.
        Its hand-over, and @on-error reboot or exec, are for PID 1 alone.
insmod  Load one module file, compressed or not. The value of an argument `var=val with spaces` is quoted.

Exit codes: 0 all is loaded (or was already), 1 a module or line failed, 2 wrong usage,
3 a failure stopped the run before the manifest's end.
";
static USAGE: [u8; USAGE_TEXT.len()] = bytes(USAGE_TEXT);

#[cfg(feature = "explain")]
const CHECK_TEXT: &str = "
modest insmod --force-vermagic|--force-modversion FILE [PARAM]... has the kernel ignore what it was built for.

modest check [--json] FILE...
Tell what module files are, and what would keep this machine's kernel from taking them. Loads nothing.
Exit codes: 0 nothing, 1 something, 2 wrong usage.
";
#[cfg(feature = "explain")]
static CHECK: [u8; CHECK_TEXT.len()] = bytes(CHECK_TEXT);

/// The smallest builds go without.
const CMDLINE_TEXT: &str = "
As PID 1, modest mounts /dev, /proc and /sys, loads the modules of the manifest, and hands over to the
next init. On the kernel command line: modest.manifest=FILE, modest.skip=a,b, modest.budget=SIZE,
modest.debug, modest.quiet; MODULE.PARAM=VALUE, modprobe.blacklist=a,b, rd.driver.blacklist=a,b,
module_blacklist=a,b, rd.driver.pre=a,b, rd.modules-load=a,b, modules-load=a,b.
";
static CMDLINE: [u8; CMDLINE_TEXT.len()] = bytes(CMDLINE_TEXT);

pub const LOADED: u8 = 0;
pub const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const STOPPED: u8 = 3;

/// Does what the arguments ask for: the exit code.
pub fn main(argv: StringArray) -> u8 {
    let mut args = argv.iter().skip(1);
    match args.next().map(shown) {
        Some("load") => load(args),
        Some("insmod") => insmod(args),
        #[cfg(feature = "explain")]
        Some("check") => check(args),
        Some("--help" | "-h") => {
            print(&USAGE);
            #[cfg(feature = "explain")]
            print(&CHECK);
            if cfg!(feature = "names") { print(&CMDLINE) } else { LOADED }
        }
        Some("--version" | "-V") => print(concat!("modest ", env!("CARGO_PKG_VERSION"), "\n").as_bytes()),
        #[cfg(feature = "bench")]
        Some("peak") => crate::bench::peak(argv),
        #[cfg(feature = "bench")]
        Some("fit") => crate::bench::fit(argv),
        _ => usage(&USAGE),
    }
}

fn print(text: &[u8]) -> u8 {
    write_all(&Fd::inherited(1), text);
    LOADED
}

pub fn usage(text: &[u8]) -> u8 {
    write_all(&Fd::inherited(2), text);
    WRONG_USAGE
}

fn load(mut args: impl Iterator<Item = &'static CStr>) -> u8 {
    sys::ignore_sigpipe();
    let mut console = Console::stream(2);
    let mut manifest = None;
    let mut dry_run = false;
    while let Some(arg) = args.next() {
        match shown(arg) {
            "-n" => dry_run = true,
            "-q" => console.level = Level::Error,
            "-v" => console.level = Level::Debug,
            "-m" => match args.next() {
                Some(path) => manifest = Some(path),
                None => return usage(b"modest: -m needs the path of a manifest\n"),
            },
            _ => {
                let _ = usage(b"modest: load takes -m MANIFEST, -n, -q and -v, not ");
                write_all(&Fd::inherited(2), arg.to_bytes());
                return usage(b"\n");
            }
        }
    }
    if dry_run {
        let level = console.level;
        console = Console::stream(1);
        console.level = level;
    }
    let mut memory = line_memory(&mut console);
    let (cmdline, buf) = read_cmdline(&mut console, memory.as_mut().map_or(&mut [], |memory| memory.as_mut()));
    let named = named_manifest(cmdline);
    let manifest = manifest.or(named.as_deref()).unwrap_or(MANIFEST);
    let on_policy = |_: &OnError| {};
    let budget_bytes = read_budget(&mut console, cmdline);
    let outcome = run::run(
        &Linux,
        &mut console,
        &Options { manifest, cmdline, budget_bytes, is_init: false, dry_run, on_policy: &on_policy },
        buf,
    );
    let would = if dry_run { "would be: " } else { "" };
    console.line(Level::Info, format_args!("{would}{outcome}"));
    match (outcome.stopped, outcome.failed) {
        (true, _) => STOPPED,
        (false, 0) => LOADED,
        _ => FAILED,
    }
}

/// Memory for [`read_cmdline`]. Not on the stack: what is not written to takes none.
pub fn line_memory(console: &mut Console) -> Option<Region> {
    let memory = Linux.allocate(CMDLINE_BYTES + run::RUN_BYTES);
    memory.map_err(|errno| console.line(Level::Error, format_args!("{errno}: not even memory to read lines"))).ok()
}

/// The kernel's command line; where it cannot be had, a line says so and it counts as empty. And what is left of `memory`.
pub fn read_cmdline<'m>(console: &mut Console, memory: &'m mut [u8]) -> (Cmdline<'m>, &'m mut [u8]) {
    let (cmdline, read, rest) = Cmdline::read(&Linux, c"/proc/cmdline", memory);
    if let Err(error) = read {
        console.line(Level::Error, format_args!("/proc/cmdline: {error}"));
    }
    (cmdline, rest)
}

/// The ceiling on memory that the kernel command line sets; where it is no size, a line says so.
pub fn read_budget(console: &mut Console, cmdline: Cmdline) -> Option<u64> {
    let text = cmdline.value("modest.budget")?;
    let budget_bytes = size_bytes(text);
    if budget_bytes.is_none() {
        console.line(Level::Error, format_args!("modest.budget={text} is not a size; expected bytes, or K, M or G"));
    }
    budget_bytes
}

/// The manifest that the kernel command line names.
pub fn named_manifest(cmdline: Cmdline) -> Option<modest_loader::Path> {
    modest_loader::path(&[cmdline.value("modest.manifest")?.as_bytes()])
}

/// The flag of finit_module(2) that an option of modprobe(8) stands for.
fn forced(option: &CStr) -> Option<u32> {
    match option.to_bytes() {
        b"--force-modversion" => Some(IGNORE_MODVERSIONS),
        b"--force-vermagic" => Some(IGNORE_VERMAGIC),
        b"-f" | b"--force" => Some(IGNORE_MODVERSIONS | IGNORE_VERMAGIC),
        _ => None,
    }
}

// Out of line, as its pages are not for those who load.
#[cfg(feature = "explain")]
#[inline(never)]
fn check(mut args: impl Iterator<Item = &'static CStr>) -> u8 {
    let mut file = args.next();
    let is_json = file == Some(c"--json");
    if is_json {
        file = args.next();
    }
    let Some(file) = file else { return usage(b"modest: check needs files\n") };
    let out = Fd::inherited(1);
    let mut problems = 0;
    for file in core::iter::once(file).chain(args) {
        let mut write = |piece: &[u8]| write_all(&out, piece);
        let mut pieces = Pieces::<512>::new(&mut write);
        problems += modest_loader::explain::check::write_report(&Linux, file, is_json, &mut pieces);
        pieces.flush();
    }
    if problems == 0 { LOADED } else { FAILED }
}

fn insmod(mut args: impl Iterator<Item = &'static CStr>) -> u8 {
    let mut file = args.next();
    let mut flags = 0;
    while cfg!(feature = "explain")
        && let Some(flag) = file.and_then(forced)
    {
        flags |= flag;
        file = args.next();
    }
    let Some(file) = file else { return usage(b"modest: insmod needs a file\n") };
    let mut console = Console::stream(2);
    let name = name::of(shown(file));
    let mut text = heapless::String::<LINE_BYTES>::new();
    let mut fits = true;
    for arg in args {
        let space = if text.is_empty() { "" } else { " " };
        let Ok(arg) = arg.to_str() else { return usage(b"modest: a parameter is not UTF-8\n") };
        fits &= text.push_str(space).is_ok() && quote_param(arg, &mut text).is_ok();
    }
    if !fits || text.push_str("\0").is_err() {
        console.line(Level::Error, format_args!("{name}: parameters over LINE_BYTES, {LINE_BYTES}"));
        return WRONG_USAGE;
    }
    let params = CStr::from_bytes_until_nul(text.as_bytes()).unwrap_or_default();
    let (path, size_bytes, sha256) = (None, None, None);
    let request = Request {
        file,
        params,
        path,
        size_bytes,
        sha256,
        flags,
        measure: false,
        measure_memory: false,
        caller: Caller::Itself,
        budget_bytes: None,
    };
    match load::load(&Linux, &mut Abilities::default(), &request) {
        Ok(_) => LOADED,
        Err(Failure::Kernel(Errno::EEXIST)) if machine::is_live(&Linux, name) => {
            console.line(Level::Info, format_args!("{name}: already loaded"));
            LOADED
        }
        Err(failure) => {
            // What the kernel said before this program was there is not about this load.
            #[cfg(feature = "explain")]
            let since_us = match failure {
                Failure::Kernel(_) => machine::started_us(&Linux).unwrap_or(0),
                _ => 0,
            };
            #[cfg(not(feature = "explain"))]
            let since_us = 0;
            let load = FailedLoad { file, failure, since_us, budget_bytes: None, exporters: &explain::no_exporters };
            explain::explain(&Linux, &KernelLog::default(), &load, &mut |cause| {
                console.line(Level::Error, format_args!("{name}: {cause}, {}", shown(file)));
            });
            FAILED
        }
    }
}
