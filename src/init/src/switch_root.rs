//! From the initramfs to the real root: wait for its device, mount it, move there, run its init.

use core::ffi::CStr;
use core::fmt;

use modest_loader::cmdline::Cmdline;
use modest_loader::errno::Errno;
use modest_loader::kernel::lines::Lines;
use modest_loader::kernel::{FileKind, read_small};
use modest_loader::limits::{LINE_BYTES, PATH_BYTES, TREE_DEPTH};
use modest_loader::program;
use modest_loader::report::{Level, Log, shown};
use modest_loader::root_device::{RootSpec, SUPERBLOCK_BYTES, mount_flag};
use modest_loader::sys::{self, Fd, Linux, StringArray};
use modest_loader::{Path, path, path_of, text};

use crate::console::Console;
use crate::hand_over::exec;

/// Where the root is mounted before it becomes `/`.
const TARGET: &CStr = c"/sysroot";

/// How long the device is waited for where the command line does not say.
const DEFAULT_WAIT_S: u64 = 10;

/// How often it is looked for.
const LOOK_MS: u32 = 20;

/// Moves to the root that the kernel command line names and runs its init; returns only if that fails, and reports why.
pub fn switch_root(console: &mut Console, cmdline: Cmdline, argv: StringArray, envp: StringArray) {
    if let Err(error) = cmdline.path("root").and(cmdline.path("init")) {
        return console.line(Level::Error, format_args!("@switch-root: {error}"));
    }
    let Some(text) = cmdline.value("root") else {
        return console.line(Level::Error, format_args!("@switch-root: the kernel command line has no root="));
    };
    let spec = match RootSpec::parse(text) {
        Ok(spec) => spec,
        Err(bad) => return console.line(Level::Error, format_args!("@switch-root: {bad}")),
    };
    let mut device = Path::new();
    if !wait_for(console, cmdline, text, &spec, &mut device) || !mount(console, cmdline, &device) {
        return;
    }
    let named = cmdline.value("init");
    if !has_init(console, named) {
        // Left mounted it would only be in the way of the policy's program.
        let _ = sys::umount2(TARGET, sys::MNT_DETACH);
        return;
    }
    if let Err((what, errno)) = enter() {
        return console.line(Level::Error, format_args!("@switch-root: {what}: {errno}"));
    }
    // What no look at a file shows, the kernel's answer does: then the next is tried.
    for init in inits(named).filter(|init| fitness(init).is_ok()) {
        exec(console, &init, argv, envp);
    }
}

/// The longest wait in seconds; `None` for ever.
fn longest_wait_s(cmdline: Cmdline) -> Option<u64> {
    match (cmdline.value("rootwait"), cmdline.value("rootdelay")) {
        (Some(s), _) => Some(text::number(s).unwrap_or(DEFAULT_WAIT_S)),
        (None, _) if cmdline.has("rootwait") => None,
        (None, Some(s)) => Some(text::number(s).unwrap_or(DEFAULT_WAIT_S)),
        (None, None) => Some(DEFAULT_WAIT_S),
    }
}

/// Waits for the device of `spec` and leaves its path in `device`; whether it came, after telling when not.
fn wait_for(console: &mut Console, cmdline: Cmdline, text: &str, spec: &RootSpec, device: &mut Path) -> bool {
    let start_us = sys::monotonic_us();
    let longest_s = longest_wait_s(cmdline);
    let mut next_word_s = 1;
    loop {
        if find(spec, device).is_some() {
            let ms = (sys::monotonic_us() - start_us) / 1000;
            console.line(Level::Info, format_args!("root={text} is {}, after {ms} ms", shown(device)));
            return true;
        }
        let waited_s = (sys::monotonic_us() - start_us) / 1_000_000;
        if longest_s.is_some_and(|longest| waited_s >= longest) {
            console.line(Level::Error, format_args!("root={text}: not there after {waited_s} s; {}", BlockDevices));
            return false;
        }
        if waited_s >= next_word_s {
            console.line(Level::Info, format_args!("waiting for root={text}; {}", BlockDevices));
            next_word_s = waited_s + 10;
        }
        while sys::reap() {}
        sys::sleep_ms(LOOK_MS);
    }
}

/// Lists the block devices that there are.
struct BlockDevices;

impl fmt::Display for BlockDevices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("block devices:")?;
        let mut none = true;
        each_block_device(&mut |name| {
            none = false;
            let _ = write!(f, " {name}");
            false
        });
        if none { f.write_str(" none") } else { Ok(()) }
    }
}

/// Calls `visit` with each name in `/sys/class/block` until it says that this is the one.
fn each_block_device(visit: &mut dyn FnMut(&str) -> bool) {
    let Ok(dir) = sys::openat(None, c"/sys/class/block", sys::O_RDONLY | sys::O_DIRECTORY) else { return };
    let mut buf = [0; 1024];
    while let Ok(len @ 1..) = sys::getdents64(&dir, &mut buf) {
        for (_, name) in sys::directory_entries(&buf[..len]) {
            if visit(name.to_str().unwrap_or_default()) {
                return;
            }
        }
    }
}

fn open_device(device: &CStr) -> Option<Fd> {
    let fd = sys::openat(None, device, sys::O_RDONLY | sys::O_NONBLOCK).ok()?;
    (sys::fstat(&fd).ok()?.kind == FileKind::BlockDevice).then_some(fd)
}

/// Leaves in `device` the device of `spec`, if it is there.
fn find(spec: &RootSpec, device: &mut Path) -> Option<()> {
    if let RootSpec::Device(named) = spec {
        *device = path(&[named.as_bytes()])?;
        return open_device(device).map(drop);
    }
    let mut found = None;
    each_block_device(&mut |name| {
        found = check(spec, name, device);
        found.is_some()
    });
    found
}

/// Leaves in `device` the one that `spec` means if it is `name` or, for a partition's UUID, on it.
fn check(spec: &RootSpec, name: &str, device: &mut Path) -> Option<()> {
    *device = path(&[b"/dev/", name.as_bytes()])?;
    let fd = open_device(device)?;
    let mut read = |buf: &mut [u8], at: u64| sys::pread64(&fd, buf, at) == Ok(buf.len());
    if matches!(spec, RootSpec::Label(_) | RootSpec::Uuid(_)) {
        let mut start = [0; SUPERBLOCK_BYTES];
        return (read(&mut start, 0) && spec.is_filesystem(&start)).then_some(());
    }
    let about = |file: &str| path(&[b"/sys/class/block/", name.as_bytes(), file.as_bytes()]);
    if sys::faccessat(&about("/partition")?, 0).is_ok() {
        return None;
    }
    let mut buf = [0; 16];
    let sector = read_small(&Linux, &about("/queue/logical_block_size")?, &mut buf).ok();
    let sector_bytes = sector.and_then(|text| text::number(core::str::from_utf8(text).ok()?)).unwrap_or(512);
    let number = spec.partition(sector_bytes, &mut read)?;
    // The kernel puts a `p` between a disk's name and a partition's number where the name ends in a digit.
    let p = if name.bytes().last().is_some_and(|b| b.is_ascii_digit()) { "p" } else { "" };
    *device = path_of(format_args!("/dev/{name}{p}{number}"))?;
    open_device(device).map(drop)
}

/// Mounts `device`; whether that went well, after telling when not.
fn mount(console: &mut Console, cmdline: Cmdline, device: &CStr) -> bool {
    let mut flags = sys::MS_SILENT | if wants_writable(cmdline) { 0 } else { sys::MS_RDONLY };
    // What is no flag of mount(2) goes to the file system, in the same order.
    let mut data = Path::new();
    for word in text::fields(cmdline.value("rootflags").unwrap_or_default(), b',').filter(|word| !word.is_empty()) {
        match mount_flag(word) {
            Some(flag) => flags |= flag,
            None => {
                let comma: &[u8] = if data.as_bytes().is_empty() { b"" } else { b"," };
                if data.extend_from_bytes(comma).and_then(|()| data.extend_from_bytes(word.as_bytes())).is_err() {
                    console.line(Level::Error, format_args!("rootflags= is over PATH_BYTES, {PATH_BYTES}"));
                    return false;
                }
            }
        }
    }
    let _ = sys::mkdir(TARGET);
    let mut attempt = Attempt { device, data: &data, flags, last: None };
    let mounted = match cmdline.value("rootfstype") {
        Some(list) => text::fields(list, b',').any(|kind| attempt.mount(kind)),
        None => each_filesystem(&mut |kind| attempt.mount(kind)),
    };
    if mounted {
        return true;
    }
    let (last, name) = (attempt.last, shown(device));
    match last {
        Some((kind, Errno::ENODEV)) => console.line(
            Level::Error,
            format_args!("mounting {name}: ENODEV: this kernel has no file system {kind}, is its module loaded?"),
        ),
        Some((kind, errno)) => {
            let meaning = match errno {
                Errno::EINVAL => "no such file system on it, or rootflags= that it does not know",
                Errno::EUCLEAN | Errno::EIO => "the file system is damaged or cannot be read",
                Errno::EROFS | Errno::EACCES => "it is read-only",
                _ => "refused",
            };
            console.line(Level::Error, format_args!("mounting {name} as {kind}: {errno}: {meaning}"));
        }
        None => console.line(
            Level::Error,
            format_args!("mounting {name}: this kernel has no file system for block devices, is one's module loaded?"),
        ),
    }
    false
}

/// Whether the last of the words `ro` and `rw` is `rw`.
fn wants_writable(cmdline: Cmdline) -> bool {
    cmdline.words().filter(|word| matches!(word, ("ro" | "rw", None))).last() == Some(("rw", None))
}

struct Attempt<'a> {
    device: &'a CStr,
    data: &'a CStr,
    flags: u32,
    /// The type that came furthest, and why it failed.
    last: Option<(heapless::String<32>, Errno)>,
}

impl Attempt<'_> {
    fn mount(&mut self, kind: &str) -> bool {
        let Some(c_kind) = path(&[kind.as_bytes()]) else { return false };
        let errno = match sys::mount(self.device, TARGET, Some(&c_kind), self.flags, Some(self.data)) {
            Ok(()) => return true,
            // As the kernel does for its own root: a device that cannot be written is mounted read-only.
            Err(Errno::EACCES | Errno::EROFS) if self.flags & sys::MS_RDONLY == 0 => {
                let flags = self.flags | sys::MS_RDONLY;
                match sys::mount(self.device, TARGET, Some(&c_kind), flags, Some(self.data)) {
                    Ok(()) => return true,
                    Err(errno) => errno,
                }
            }
            Err(errno) => errno,
        };
        // Any other error tells more than that the device holds something else.
        if self.last.as_ref().is_none_or(|(_, last)| matches!(*last, Errno::EINVAL | Errno::ENODEV)) {
            self.last = heapless::String::try_from(kind).ok().map(|kind| (kind, errno));
        }
        false
    }
}

/// Tries each file system that the kernel knows and that needs a device, until one fits.
fn each_filesystem(mount: &mut dyn FnMut(&str) -> bool) -> bool {
    let Ok(file) = sys::openat(None, c"/proc/filesystems", sys::O_RDONLY) else { return false };
    let mut buf = [0; LINE_BYTES];
    let mut lines = Lines::new(&Linux, file, &mut buf);
    while let Some((_, line)) = lines.next_line() {
        let line = line.ok().and_then(|line| core::str::from_utf8(line).ok()).unwrap_or_default();
        if let Some(kind) = line.strip_prefix("\t")
            && mount(kind)
        {
            return true;
        }
    }
    false
}

/// The inits to try, in order.
fn inits(named: Option<&str>) -> impl Iterator<Item = Path> {
    program::inits(named).filter_map(|init| path(&[init.as_bytes()]))
}

/// Whether the kernel will run `init`, as far as can be seen.
fn fitness(init: &CStr) -> Result<(), program::Unfit> {
    sys::faccessat(init, sys::X_OK).map_err(program::Unfit::Unreadable)?;
    program::check(&Linux, init)
}

/// Whether the mounted root has an init that can run; reports those before it that are there and cannot, or all if none can.
///
/// Nothing is deleted by then, so that the policy's program is still there.
fn has_init(console: &mut Console, named: Option<&str>) -> bool {
    // Absolute links in the root lead to places in the root, so it must be looked at from within.
    let Ok(outside) = sys::openat(None, c"/", sys::O_RDONLY | sys::O_DIRECTORY) else { return false };
    if let Err(errno) = sys::chroot(TARGET) {
        console.line(Level::Error, format_args!("@switch-root: {errno}: the root cannot be entered"));
        return false;
    }
    let has_init = inits(named).any(|init| fitness(&init).is_ok());
    for init in inits(named) {
        match fitness(&init) {
            Ok(()) => break,
            Err(program::Unfit::Unreadable(Errno::ENOENT)) if has_init => {}
            Err(unfit) => console.line(Level::Error, format_args!("next init {} of the root: {unfit}", shown(&init))),
        }
    }
    let _ = sys::fchdir(&outside).and_then(|()| sys::chroot(c"."));
    has_init
}

/// Makes the mounted root `/`, with the mounts of the initramfs and without its files.
fn enter() -> Result<(), (&'static str, Errno)> {
    for &(from, to) in &[
        (c"/dev", c"/sysroot/dev"),
        (c"/proc", c"/sysroot/proc"),
        (c"/sys", c"/sysroot/sys"),
        (c"/run", c"/sysroot/run"),
    ] {
        if sys::mount(from, to, None, sys::MS_MOVE, None).is_err() {
            // No such folder in the root, or nothing mounted here.
            let _ = sys::umount2(from, sys::MNT_DETACH);
        }
    }
    empty_initramfs();
    sys::chdir(TARGET).map_err(|e| ("entering the root", e))?;
    sys::mount(c".", c"/", None, sys::MS_MOVE, None).map_err(|e| ("moving the root to /", e))?;
    sys::chroot(c".").map_err(|e| ("changing the root", e))?;
    sys::chdir(c"/").map_err(|e| ("entering the root", e))
}

/// Gives back the memory that the initramfs' files hold. What is on no RAM file system is nobody's to delete.
fn empty_initramfs() {
    let Ok(root) = sys::openat(None, c"/", sys::O_RDONLY | sys::O_DIRECTORY) else { return };
    if !sys::filesystem_magic(&root).is_ok_and(sys::is_memory) {
        return;
    }
    if let Ok(stat) = sys::fstat(&root) {
        empty(&root, stat.device, TREE_DEPTH);
    }
}

fn empty(dir: &Fd, device: u64, depth: usize) {
    let mut buf = [0; 512];
    while let Ok(len @ 1..) = sys::getdents64(dir, &mut buf) {
        for (kind, name) in sys::directory_entries(&buf[..len]) {
            if kind != sys::DT_DIR as u8 {
                let _ = sys::unlinkat(Some(dir), name, 0);
                continue;
            }
            let flags = sys::O_RDONLY | sys::O_DIRECTORY | sys::O_NOFOLLOW;
            let Ok(child) = sys::openat(Some(dir), name, flags) else { continue };
            // Another device is the new root, or something mounted that is not ours.
            if depth > 0 && sys::fstat(&child).is_ok_and(|stat| stat.device == device) {
                empty(&child, device, depth - 1);
                let _ = sys::unlinkat(Some(dir), name, sys::AT_REMOVEDIR);
            }
        }
    }
}
