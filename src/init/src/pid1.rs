//! The duties of PID 1: mount what is missing, load, hand over; and whatever happens, never exit.

use core::ffi::CStr;

use modest_loader::cmdline::Cmdline;
use modest_loader::errno::Errno;
use modest_loader::kernel::{machine, read_small};
use modest_loader::report::{Level, Log, shown};
use modest_loader::run::{self, HandOver, Options, Outcome};
use modest_loader::sys::{self, Linux, StringArray};

use crate::console::Console;
use crate::settings::{self, Settings};
use crate::{hand_over, panic, switch_root};

/// Whether this build can be asked for a panic, so that a test sees what that does.
const CAN_PANIC: bool = cfg!(feature = "panic-test");

/// The one main of PID 1.
pub fn main(argv: StringArray, envp: StringArray) -> ! {
    let started_us = sys::monotonic_us();
    sys::default_signals();
    let unmounted = mount_all();
    let mut console = Console::of_init();
    let mut memory = settings::memory(&mut console);
    let buf = memory.as_mut().map_or(&mut [][..], |memory| memory.as_mut());
    let (settings, buf) = Settings::read(&mut console, buf);
    let settings = settings.sealed(buf);
    console.level = settings.level();
    if let Some((path, errno)) = unmounted {
        console.line(Level::Error, format_args!("{}: {errno}: it cannot be mounted", shown(path)));
    }
    let outcome = load(&mut console, settings, buf);
    let ms = (sys::monotonic_us() - started_us) / 1000;
    console.line(Level::Info, format_args!("{outcome}, {ms} ms"));
    report_memory(&mut console);
    assert!(!CAN_PANIC || !settings.cmdline.has("modest.panic"), "as modest.panic asks for");
    let (cmdline, [argv, envp]) = match outcome.is_sealed {
        true => (settings.cmdline.sealed(), sealed_start(&mut console, [argv, envp])),
        false => (settings.cmdline, [argv, envp]),
    };
    if !outcome.stopped {
        go_on(&mut console, cmdline, &outcome, [argv, envp]);
    }
    hand_over::last_resort(&mut console, &outcome.policy, argv, envp)
}

/// The arguments and the environment that the next program gets under `@sealed`: none that the kernel command line has. Reports
/// whether it has any.
fn sealed_start(console: &mut Console, [argv, envp]: [StringArray; 2]) -> [StringArray; 2] {
    let is_usual = |word: &CStr| StringArray::KERNELS.iter().any(|usual| usual == word);
    if argv.iter().nth(1).is_some() || !envp.iter().all(is_usual) {
        let what = "@sealed: the next init gets no arguments and no environment of the kernel command line";
        console.line(Level::Info, format_args!("{what}"));
    }
    [StringArray::EMPTY, StringArray::KERNELS]
}

/// Carries out the manifest that the kernel command line names, or the usual one.
fn load(console: &mut Console, settings: Settings, buf: &mut [u8]) -> Outcome {
    let Settings { cmdline, budget_bytes } = settings;
    let manifest = match settings.manifest() {
        Ok(manifest) => manifest,
        Err(error) => {
            console.line(Level::Error, format_args!("{error}"));
            return Outcome { failed: 1, stopped: true, ..Outcome::default() };
        }
    };
    let on_policy = &panic::remember;
    let options = Options { manifest: &manifest, cmdline, budget_bytes, is_init: true, dry_run: false, on_policy };
    let printk = Printk::lift(console);
    let outcome = run::run(&Linux, console, &options, buf);
    printk.restore(console);
    outcome
}

fn report_memory(console: &mut Console) {
    if console.wants(Level::Debug)
        && let Some(own_bytes) = machine::own_bytes(&Linux)
    {
        console.line(Level::Debug, format_args!("memory: {} KiB", own_bytes.div_ceil(1024)));
    }
}

/// Runs the next init; returns only if there is none, and reports why.
fn go_on(console: &mut Console, cmdline: Cmdline, outcome: &Outcome, [argv, envp]: [StringArray; 2]) {
    match &outcome.hand_over {
        Some(HandOver::Exec(path)) => hand_over::exec(console, path, argv, envp),
        None if cmdline.value("root").is_none() => console.line(
            Level::Error,
            format_args!(
                "no next init: the manifest has no @exec or @switch-root, and the kernel command line no root="
            ),
        ),
        _ => switch_root::switch_root(console, cmdline, argv, envp),
    }
}

/// Mounts what nobody did; the last that failed.
fn mount_all() -> Option<(&'static CStr, Errno)> {
    let mut failed = None;
    let root = device(c"/");
    for &(kind, target) in &[(c"devtmpfs", c"/dev"), (c"proc", c"/proc"), (c"sysfs", c"/sys")] {
        let _ = sys::mkdir(target);
        // On a device of its own, something is mounted there already.
        if device(target) == root
            && let Err(errno) = sys::mount(kind, target, Some(kind), sys::MS_NOSUID | sys::MS_NOEXEC, None)
        {
            failed = Some((target, errno));
        }
    }
    // Without devtmpfs there are only the devices that the initramfs brought, or these.
    if sys::faccessat(c"/dev/null", 0).is_err() {
        for &(path, major, minor) in &[(c"/dev/console", 5, 1), (c"/dev/null", 1, 3), (c"/dev/kmsg", 1, 11)] {
            let _ = sys::mknod_char(path, major, minor);
        }
    }
    failed
}

fn device(path: &CStr) -> Option<u64> {
    let dir = sys::openat(None, path, sys::O_RDONLY).ok()?;
    sys::fstat(&dir).ok().map(|stat| stat.device)
}

/// The kernel's limit on lines written to `/dev/kmsg`, ten in five seconds, lifted while we are the only ones to write.
struct Printk {
    /// The setting to put back, if it was changed.
    before: Option<heapless::Vec<u8, 16>>,
}

const PRINTK_DEVKMSG: &CStr = c"/proc/sys/kernel/printk_devkmsg";

impl Printk {
    fn lift(console: &mut Console) -> Printk {
        let mut buf = [0; 16];
        // Without the file, before Linux 4.9 or without sysctl, there is nothing to lift; `on` is what we want.
        let before = read_small(&Linux, PRINTK_DEVKMSG, &mut buf).ok().filter(|before| *before != b"on");
        let before = before.and_then(|before| heapless::Vec::from_slice(before).ok());
        let is_lifted = before.is_some() && set_devkmsg(console, b"on");
        Printk { before: before.filter(|_| is_lifted) }
    }

    fn restore(self, console: &mut Console) {
        if let Some(before) = self.before {
            set_devkmsg(console, &before);
        }
    }
}

/// Whether the kernel took the setting; a line says so if not. (EINVAL is its answer where `printk.devkmsg=` is on the command line.)
fn set_devkmsg(console: &mut Console, value: &[u8]) -> bool {
    let set = sys::set(PRINTK_DEVKMSG, value);
    if let Err(errno) = set {
        console.line(
            Level::Error,
            format_args!("{}: {errno}: it is left as it was; the kernel's log may lose lines", shown(PRINTK_DEVKMSG)),
        );
    }
    set.is_ok()
}
