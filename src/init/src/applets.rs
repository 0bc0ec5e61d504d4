//! What is called by hand or by another init: `load`, `insmod`, `--help`, `--version`.

use core::ffi::CStr;

use modest_loader::errno::Errno;
use modest_loader::explain::{self, FailedLoad, KernelLog};
use modest_loader::kernel::machine;
use modest_loader::limits::LINE_BYTES;
use modest_loader::load::{self, Abilities, Failure, IGNORE_MODVERSIONS, IGNORE_VERMAGIC, Request};
use modest_loader::manifest::{OnError, quote_param};
use modest_loader::name::{self, Name};
use modest_loader::report::{Level, Log, shown};
use modest_loader::run::{self, Options};
use modest_loader::sys::{self, Linux, StringArray};

use crate::console::{Console, complain, print};
use crate::exit::{FAILED, LOADED, STOPPED, WRONG_USAGE, usage};
use crate::settings::{self, Settings};
use crate::{bench, check};

const USAGE: &str = "\
Usage: modest load [-m MANIFEST] [-n] [-q] [-v]
       modest insmod [--force-vermagic|--force-modversion] FILE [PARAM]...
       modest --help | --version

load    Load the modules of MANIFEST (default /etc/modest.manifest, or modest.manifest= on the
        kernel command line). -n: print what would be done. -q: print failures only. -v: print more.
        Its hand-over, and @on-error reboot or exec, are for PID 1 alone.
insmod  Load one module file, compressed or not. The value of an argument `var=val with spaces` is quoted.
        --force-vermagic, --force-modversion: the kernel ignores what the module was built for.

Exit codes: 0 all is loaded (or was already), 1 a module or line failed, 2 wrong usage,
3 a failure stopped the run before the manifest's end.
";

const CMDLINE: &str = "
As PID 1, modest mounts /dev, /proc and /sys, loads the modules of the manifest, and hands over to the
next init. On the kernel command line: modest.manifest=FILE, modest.skip=a,b, modest.budget=SIZE,
modest.debug, modest.quiet; MODULE.PARAM=VALUE, modprobe.blacklist=a,b, rd.driver.blacklist=a,b,
module_blacklist=a,b, rd.driver.pre=a,b, rd.modules-load=a,b, modules-load=a,b.
";

/// Whether PID 1 has the arguments of an applet, as the first program of a container may, and not those of an init.
///
/// A kernel calls its first program by the path of an init, and passes on the words that it does not know.
pub fn are_asked_for(argv: StringArray) -> bool {
    let mut args = argv.iter().map(shown);
    let is_init = args.next().is_none_or(|program| name::basename(program) == "init");
    let applet = args.next();
    !is_init && matches!(applet, Some("load" | "insmod" | "check" | "--help" | "-h" | "--version" | "-V"))
}

/// Does what the arguments ask for: the exit code.
pub fn main(argv: StringArray) -> u8 {
    let mut args = argv.iter().skip(1);
    let done = match args.next().map(shown) {
        Some("load") => Some(load(args)),
        Some("insmod") => Some(insmod(args)),
        Some("check") => check::applet(args),
        Some("--help" | "-h") => Some(print_all(&[USAGE, check::HELP, CMDLINE])),
        Some("--version" | "-V") => Some(print_all(&[concat!("modest ", env!("CARGO_PKG_VERSION"), "\n")])),
        _ => bench::applet(argv),
    };
    done.unwrap_or_else(|| usage(USAGE))
}

fn print_all(texts: &[&str]) -> u8 {
    texts.iter().for_each(|text| print(text.as_bytes()));
    LOADED
}

/// What `load` is asked for.
struct LoadArgs {
    manifest: Option<&'static CStr>,
    is_dry_run: bool,
    level: Level,
}

impl LoadArgs {
    /// Reads the arguments; the exit code after reporting wrong ones.
    fn parse(mut args: impl Iterator<Item = &'static CStr>) -> Result<LoadArgs, u8> {
        let mut parsed = LoadArgs { manifest: None, is_dry_run: false, level: Level::Info };
        while let Some(arg) = args.next() {
            match shown(arg) {
                "-n" => parsed.is_dry_run = true,
                "-q" => parsed.level = Level::Error,
                "-v" => parsed.level = Level::Debug,
                "-m" => match args.next() {
                    Some(path) => parsed.manifest = Some(path),
                    None => return Err(usage("modest: -m needs the path of a manifest\n")),
                },
                _ => {
                    complain(b"modest: load takes -m MANIFEST, -n, -q and -v, not ");
                    complain(arg.to_bytes());
                    return Err(usage("\n"));
                }
            }
        }
        Ok(parsed)
    }
}

fn load(args: impl Iterator<Item = &'static CStr>) -> u8 {
    sys::ignore_sigpipe();
    let LoadArgs { manifest, is_dry_run: dry_run, level } = match LoadArgs::parse(args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    let mut console = if dry_run { Console::standard_output() } else { Console::standard_error() };
    console.level = level;
    let mut memory = settings::memory(&mut console);
    let buf = memory.as_mut().map_or(&mut [][..], |memory| memory.as_mut());
    let (settings, buf) = Settings::read(&mut console, buf);
    let settings = if manifest.is_none() { settings.sealed(buf) } else { settings };
    let named = match manifest.map_or_else(|| settings.manifest(), |_| Ok(Default::default())) {
        Ok(named) => named,
        Err(error) => {
            console.line(Level::Error, format_args!("{error}"));
            return STOPPED;
        }
    };
    let manifest = manifest.unwrap_or(&named);
    let on_policy = |_: &OnError| {};
    let Settings { cmdline, budget_bytes } = settings;
    let options = Options { manifest, cmdline, budget_bytes, is_init: false, dry_run, on_policy: &on_policy };
    let outcome = run::run(&Linux, &mut console, &options, buf);
    let would = if dry_run { "would be: " } else { "" };
    console.line(Level::Info, format_args!("{would}{outcome}"));
    match (outcome.stopped, outcome.failed) {
        (true, _) => STOPPED,
        (false, 0) => LOADED,
        _ => FAILED,
    }
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

fn insmod(mut args: impl Iterator<Item = &'static CStr>) -> u8 {
    let mut file = args.next();
    let mut flags = 0;
    while let Some(flag) = file.and_then(forced) {
        flags |= flag;
        file = args.next();
    }
    let Some(file) = file else { return usage("modest: insmod needs a file\n") };
    let mut console = Console::standard_error();
    let name = name::of(shown(file));
    let mut text = heapless::String::<LINE_BYTES>::new();
    let mut fits = true;
    for arg in args {
        let space = if text.is_empty() { "" } else { " " };
        let Ok(arg) = arg.to_str() else { return usage("modest: a parameter is not UTF-8\n") };
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
        is_scarce: false,
        budget_bytes: None,
    };
    match load::load(&Linux, &mut Abilities::default(), &request) {
        Ok(_) => {
            explain::report_ignored_params(&Linux, &request, &mut |text| {
                console.line(Level::Error, format_args!("{name}: {text}, {}", shown(file)));
            });
            LOADED
        }
        Err(Failure::Kernel(Errno::EEXIST)) if machine::is_live(&Linux, name) => {
            console.line(Level::Info, format_args!("{name}: already loaded"));
            LOADED
        }
        Err(failure) => explain(&mut console, name, file, failure),
    }
}

/// Reports why `insmod` failed: the exit code.
fn explain(console: &mut Console, name: Name, file: &CStr, failure: Failure) -> u8 {
    // What the kernel said before this program was there is not about this load.
    let since_us = match failure {
        Failure::Kernel(_) => machine::started_us(&Linux).unwrap_or(0),
        _ => 0,
    };
    let exporters = |symbol: &str, each: &mut dyn FnMut(&str)| run::exporters(&Linux, symbol, each);
    let load = FailedLoad { file, failure, since_us, budget_bytes: None, exporters: &exporters };
    explain::explain(&Linux, &KernelLog::default(), &load, &mut |cause| {
        console.line(Level::Error, format_args!("{name}: {cause}, {}", shown(file)));
    });
    FAILED
}
