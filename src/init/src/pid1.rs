//! The duties of PID 1: mount what is missing, load, hand over; and whatever happens, never exit.

use core::ffi::CStr;
use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

use modest_loader::Path;
use modest_loader::errno::Errno;
use modest_loader::explain;
use modest_loader::kernel::machine;
use modest_loader::kernel::read_small;
use modest_loader::limits::PATH_BYTES;
use modest_loader::manifest::OnError;
use modest_loader::report::{Level, Log, shown};
use modest_loader::run::{self, HandOver, Options, Policy};
use modest_loader::sys::{self, Linux, Reboot, StringArray};

use crate::applets::{MANIFEST, line_memory, named_manifest, read_budget, read_cmdline};
use crate::console::Console;
use crate::switch_root;

/// The one main of PID 1.
pub fn main(argv: StringArray, envp: StringArray) -> ! {
    let started_us = sys::monotonic_us();
    sys::default_signals();
    let unmounted = mount_all();
    let mut console = Console::of_init();
    let mut memory = line_memory(&mut console);
    let (cmdline, buf) = read_cmdline(&mut console, memory.as_mut().map_or(&mut [], |memory| memory.as_mut()));
    if cmdline.has("modest.debug") {
        console.level = Level::Debug;
    } else if cmdline.has("modest.quiet") {
        console.level = Level::Error;
    }
    if let Some((path, errno)) = unmounted {
        console.line(Level::Error, format_args!("{}: {errno}: cannot be mounted", shown(path)));
    }
    let printk = Printk::unlimited();

    let budget_bytes = read_budget(&mut console, cmdline);
    let named = named_manifest(cmdline);
    let manifest = named.as_deref().unwrap_or(MANIFEST);
    let options = Options { manifest, cmdline, budget_bytes, is_init: true, dry_run: false, on_policy: &remember };
    let outcome = run::run(&Linux, &mut console, &options, buf);
    let ms = (sys::monotonic_us() - started_us) / 1000;
    console.line(Level::Info, format_args!("{outcome}, {ms} ms"));
    if console.wants(Level::Debug)
        && let Some(own_bytes) = machine::own_bytes(&Linux)
    {
        console.line(Level::Debug, format_args!("memory: {} KiB", own_bytes.div_ceil(1024)));
    }

    #[cfg(feature = "panic-test")]
    assert!(!cmdline.has("modest.panic"), "as modest.panic asks for");

    printk.restore();
    if !outcome.stopped {
        match &outcome.hand_over {
            Some(HandOver::Exec(path)) => exec(&mut console, path, argv, envp),
            None if cmdline.value("root").is_none() => console.line(
                Level::Error,
                format_args!(
                    "no next init: {} has no @exec or @switch-root, and the kernel command line no root=",
                    shown(manifest)
                ),
            ),
            _ => switch_root::switch_root(&mut console, cmdline, argv, envp),
        }
    }
    last_resort(&mut console, &outcome.policy, argv, envp)
}

/// Runs `path` in place of this program; returns only when that fails, which it tells.
pub fn exec(console: &mut Console, path: &CStr, argv: StringArray, envp: StringArray) {
    console.line(Level::Debug, format_args!("exec {}", shown(path)));
    // The next init shall find no zombies that it knows nothing of.
    while sys::reap() {}
    let errno = sys::execve(path, argv, envp);
    let meaning = match errno {
        Errno::ENOENT => "it or its interpreter is not there",
        Errno::EACCES => "it is not an executable file",
        Errno::ENOEXEC => "it is no program for this machine",
        Errno::E2BIG => "it would get too many arguments",
        other => explain::of_open(other),
    };
    console.line(Level::Error, format_args!("next init {}: {errno}: {meaning}", shown(path)));
}

/// What is left when there is no next init: the declared policy, and with none, a message that stays.
fn last_resort(console: &mut Console, policy: &Policy, argv: StringArray, envp: StringArray) -> ! {
    match policy {
        Policy::Reboot => {
            console.line(Level::Error, format_args!("restarting, by @on-error reboot"));
            let errno = sys::reboot(Reboot::Restart);
            console.line(Level::Error, format_args!("restarting: {errno}"));
        }
        Policy::Exec(path) => {
            console.line(Level::Error, format_args!("going on with {}, by @on-error exec", shown(path)));
            exec(console, path, argv, envp);
        }
        Policy::Continue | Policy::Stop => {}
    }
    halt(console)
}

/// Waits for ever, with a message on the console, and on one that appears later.
fn halt(console: &mut Console) -> ! {
    let mut told = false;
    loop {
        let there = console.find();
        if !told {
            console.line(
                Level::Error,
                format_args!("stopped here: no init to go on with (see above). Restart the machine."),
            );
            told = there;
        }
        while sys::reap() {}
        sys::sleep_ms(1000);
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
    before: heapless::Vec<u8, 16>,
}

const PRINTK_DEVKMSG: &CStr = c"/proc/sys/kernel/printk_devkmsg";

impl Printk {
    fn unlimited() -> Printk {
        let mut buf = [0; 16];
        let before = read_small(&Linux, PRINTK_DEVKMSG, &mut buf).unwrap_or_default();
        let printk = Printk { before: heapless::Vec::from_slice(before).unwrap_or_default() };
        set(b"on");
        printk
    }

    fn restore(self) {
        set(&self.before);
    }
}

fn set(value: &[u8]) {
    if let Ok(fd) = sys::openat(None, PRINTK_DEVKMSG, sys::O_WRONLY) {
        let _ = sys::write(&fd, value);
    }
}

// The policy that a panic applies. It has no context to take it from, so this is the program's one global.
static POLICY: AtomicU8 = AtomicU8::new(CONTINUE);
static POLICY_PATH: [AtomicU8; PATH_BYTES] = [const { AtomicU8::new(0) }; PATH_BYTES];
const CONTINUE: u8 = 0;
const REBOOT: u8 = 1;
const EXEC: u8 = 2;

fn remember(policy: &OnError) {
    let kind = match policy {
        OnError::Continue | OnError::Stop => CONTINUE,
        OnError::Reboot => REBOOT,
        OnError::Exec(path) => {
            let bytes = path.bytes().chain(core::iter::once(0));
            for (to, byte) in POLICY_PATH.iter().zip(bytes) {
                to.store(byte, Ordering::Relaxed);
            }
            EXEC
        }
    };
    POLICY.store(kind, Ordering::Relaxed);
}

fn remembered() -> Policy {
    match POLICY.load(Ordering::Relaxed) {
        REBOOT => Policy::Reboot,
        EXEC => {
            let mut path = Path::new();
            for byte in POLICY_PATH.iter().map(|b| b.load(Ordering::Relaxed)).take_while(|b| *b != 0) {
                let _ = path.extend_from_bytes(&[byte]);
            }
            Policy::Exec(path)
        }
        _ => Policy::Continue,
    }
}

/// What a panic of this program does: tells of itself, then as PID 1 the policy.
pub fn panicked(info: &core::panic::PanicInfo) -> ! {
    let is_init = sys::getpid() == 1;
    let mut console = if is_init { Console::of_init() } else { Console::stream(2) };
    tell_panic(&mut console, info);
    if is_init {
        last_resort(&mut console, &remembered(), StringArray::EMPTY, StringArray::EMPTY)
    }
    sys::exit(101)
}

fn tell_panic(console: &mut Console, info: &core::panic::PanicInfo) {
    struct Where<'a>(&'a core::panic::PanicInfo<'a>);
    impl fmt::Display for Where<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0.location() {
                Some(at) => write!(f, "{}:{}", at.file(), at.line() as usize),
                None => f.write_str("an unknown place"),
            }
        }
    }
    console.line(Level::Error, format_args!("a fault of modest itself at {}: {}", Where(info), info.message()));
}
