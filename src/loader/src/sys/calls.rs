//! One safe function for each system call, with the kernel's name, and the types that these take and return.

use core::ffi::CStr;
use core::mem::{ManuallyDrop, MaybeUninit};

use linux_raw_sys::{general as nr, net, netlink};

use super::{arch, gate};
use crate::errno::Errno;
use crate::kernel::{FileKind, Stat};
use crate::report::Output;

pub use nr::{
    AT_REMOVEDIR, DT_DIR, MNT_DETACH, MS_DIRSYNC, MS_MOVE, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOSUID,
    MS_RDONLY, MS_RELATIME, MS_SILENT, MS_STRICTATIME, MS_SYNCHRONOUS, O_APPEND, O_CLOEXEC, O_DIRECTORY, O_NOCTTY,
    O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, X_OK,
};

/// An open file descriptor, closed when dropped.
#[derive(Debug)]
pub struct Fd(pub(super) i32);

impl Drop for Fd {
    fn drop(&mut self) {
        let _ = call(nr::__NR_close, [self.0 as usize]);
    }
}

impl Fd {
    /// Standard error, or whatever else is open at `number` and not ours to close.
    pub const fn inherited(number: i32) -> ManuallyDrop<Fd> {
        ManuallyDrop::new(Fd(number))
    }

    /// Leaves it open for as long as this process lives.
    pub fn leave_open(self) {
        let _ = ManuallyDrop::new(self);
    }

    /// Whether it is standard input, output or error, 0 to 2.
    pub fn is_standard(&self) -> bool {
        (0..=2).contains(&self.0)
    }
}

/// A mapped region of memory, unmapped when dropped.
#[derive(Debug)]
pub struct Region {
    pub(super) at: *mut u8,
    pub(super) len: usize,
}

impl Drop for Region {
    fn drop(&mut self) {
        let _ = call(nr::__NR_munmap, [self.at as usize, self.len]);
    }
}

impl Region {
    /// No memory.
    pub(super) const NONE: Region = Region { at: core::ptr::dangling_mut(), len: 0 };
}

impl AsRef<[u8]> for Region {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: mmap gave this range to this value alone.
        unsafe { core::slice::from_raw_parts(self.at, self.len) }
    }
}

impl AsMut<[u8]> for Region {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: mmap gave this range to this value alone, readable and writable.
        unsafe { core::slice::from_raw_parts_mut(self.at, self.len) }
    }
}

/// The one gate: every system call whose arguments are numbers or point into live slices and C strings.
pub(super) fn call<const N: usize>(number: u32, args: [usize; N]) -> Result<usize, Errno> {
    let arg = |i: usize| args.get(i).copied().unwrap_or(0);
    // Few arguments are the rule: passing only those makes the callers smaller.
    if N <= 3 {
        call3(number, arg(0), arg(1), arg(2))
    } else {
        call6(number, [arg(0), arg(1), arg(2), arg(3), arg(4), arg(5)])
    }
}

#[inline(never)]
fn call3(number: u32, a: usize, b: usize, c: usize) -> Result<usize, Errno> {
    call6(number, [a, b, c, 0, 0, 0])
}

#[inline(never)]
fn call6(number: u32, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: private to this file, whose functions pass pointers and lengths of live, correctly typed memory.
    result(unsafe { gate::syscall(number, args) })
}

/// What a system call returned.
pub(super) fn result(result: usize) -> Result<usize, Errno> {
    // The last page of addresses is never valid: the kernel returns -errno there.
    match (result as isize).wrapping_neg() {
        errno @ 1..=4095 => Err(Errno(errno as usize)),
        _ => Ok(result),
    }
}

/// As [`call`], again for as long as a signal interrupts it.
pub(super) fn call_restarting<const N: usize>(number: u32, args: [usize; N]) -> Result<usize, Errno> {
    loop {
        match call(number, args) {
            Err(Errno::EINTR) => continue,
            done => return done,
        }
    }
}

pub(super) const AT_FDCWD: usize = nr::AT_FDCWD as isize as usize;

pub(super) fn at(dir: Option<&Fd>) -> usize {
    dir.map_or(AT_FDCWD, |fd| fd.0 as usize)
}

pub(super) fn opt(text: Option<&CStr>) -> usize {
    text.map_or(0, |t| t.as_ptr() as usize)
}

/// openat(2), close-on-exec.
pub fn openat(dir: Option<&Fd>, path: &CStr, flags: u32) -> Result<Fd, Errno> {
    let fd = call_restarting(nr::__NR_openat, [at(dir), path.as_ptr() as usize, (flags | O_CLOEXEC) as usize])?;
    Ok(Fd(fd as i32))
}

/// read(2).
pub fn read(fd: &Fd, buf: &mut [u8]) -> Result<usize, Errno> {
    call_restarting(nr::__NR_read, [fd.0 as usize, buf.as_mut_ptr() as usize, buf.len()])
}

/// pread(2).
pub fn pread64(fd: &Fd, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
    call_restarting(nr::__NR_pread64, arch::pread64_args(fd.0 as usize, buf.as_mut_ptr() as usize, buf.len(), offset))
}

/// write(2), once: the kernel may take less than all.
pub fn write(fd: &Fd, buf: &[u8]) -> Result<usize, Errno> {
    call_restarting(nr::__NR_write, [fd.0 as usize, buf.as_ptr() as usize, buf.len()])
}

impl Output for Fd {
    fn is_ready(&self, timeout_ms: Option<u32>) -> bool {
        let asked = nr::pollfd { fd: self.0, events: nr::POLLOUT as i16, revents: 0 };
        // Where the question fails, the write says why.
        ppoll([asked], timeout_ms).map_or(true, |[is_ready]| is_ready)
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        write(self, bytes)
    }
}

/// Writes a value to a file of `/proc` or `/sys`, in one write(2) as these demand; EIO if the kernel took only a part.
///
/// Strings of `/proc/sys` want a newline at their end (kernel/printk/printk.c, devkmsg_sysctl_set_loglvl); nothing there
/// minds one.
pub fn set(path: &CStr, value: &[u8]) -> Result<(), Errno> {
    let mut line = heapless::Vec::<u8, { crate::limits::SETTING_BYTES }>::new();
    line.extend_from_slice(value).and_then(|()| line.extend_from_slice(b"\n")).map_err(|_| Errno::E2BIG)?;
    let len = write(&openat(None, path, O_WRONLY)?, &line)?;
    if len == line.len() { Ok(()) } else { Err(Errno::EIO) }
}

/// fstat(2).
// The fields' types are not the same on all architectures.
#[allow(clippy::unnecessary_cast)]
pub fn fstat(fd: &Fd) -> Result<Stat, Errno> {
    let mut st = MaybeUninit::<arch::Stat>::zeroed();
    call(arch::FSTAT, [fd.0 as usize, st.as_mut_ptr() as usize])?;
    // SAFETY: zeroed integers are valid, and the kernel filled the structure.
    let st = unsafe { st.assume_init() };
    Ok(Stat {
        kind: match st.st_mode as u32 & nr::S_IFMT {
            nr::S_IFREG => FileKind::Regular,
            nr::S_IFDIR => FileKind::Directory,
            nr::S_IFBLK => FileKind::BlockDevice,
            _ => FileKind::Other,
        },
        size_bytes: st.st_size as u64,
        device: st.st_dev as u64,
    })
}

/// faccessat(2).
pub fn faccessat(path: &CStr, mode: u32) -> Result<(), Errno> {
    call(nr::__NR_faccessat, [AT_FDCWD, path.as_ptr() as usize, mode as usize]).map(drop)
}

pub(super) fn mmap(fd: Option<&Fd>, len: usize, prot: u32, flags: u32) -> Result<Region, Errno> {
    let fd = fd.map_or(usize::MAX, |fd| fd.0 as usize);
    let at = call(arch::MMAP, [0, len, prot as usize, flags as usize, fd])?;
    Ok(Region { at: at as *mut u8, len })
}

/// uname(2): the release, as written in `/lib/modules`.
// Characters are signed on some architectures.
#[allow(clippy::unnecessary_cast)]
pub fn uname_release(buf: &mut [u8; 65]) -> Result<&str, Errno> {
    let mut name = MaybeUninit::<linux_raw_sys::system::new_utsname>::zeroed();
    call(nr::__NR_uname, [name.as_mut_ptr() as usize])?;
    // SAFETY: zeroed characters are valid, and the kernel filled the structure.
    let name = unsafe { name.assume_init() };
    for (to, from) in buf.iter_mut().zip(name.release) {
        *to = from as u8;
    }
    let len = buf.iter().position(|b| *b == 0).unwrap_or(buf.len());
    core::str::from_utf8(&buf[..len]).map_err(|_| Errno::EILSEQ)
}

/// clock_gettime(2) of CLOCK_MONOTONIC, in µs.
pub fn monotonic_us() -> u64 {
    let mut now = nr::__kernel_timespec { tv_sec: 0, tv_nsec: 0 };
    let clock = nr::CLOCK_MONOTONIC as usize;
    if call(arch::CLOCK_GETTIME, [clock, &raw mut now as usize]).is_ok() {
        return now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000;
    }
    // 32-bit kernels before 5.1 only know the old call.
    let mut now = nr::__kernel_old_timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = call(arch::CLOCK_GETTIME_OLD, [clock, &raw mut now as usize]);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// clock_nanosleep(2) on CLOCK_MONOTONIC; returns early when a signal comes.
pub fn sleep_ms(ms: u32) {
    let clock = nr::CLOCK_MONOTONIC as usize;
    let (sec, nsec) = (ms / 1000, ms % 1000 * 1_000_000);
    let time = nr::__kernel_timespec { tv_sec: sec as _, tv_nsec: nsec as _ };
    if let Err(Errno::ENOSYS) = call(arch::CLOCK_NANOSLEEP, [clock, 0, &raw const time as usize]) {
        let time = nr::__kernel_old_timespec { tv_sec: sec as _, tv_nsec: nsec as _ };
        let _ = call(arch::CLOCK_NANOSLEEP_OLD, [clock, 0, &raw const time as usize]);
    }
}

/// pipe2(2): the end to read from, and the end to write to.
pub(super) fn pipe() -> Result<(Fd, Fd), Errno> {
    let mut fds = [-1; 2];
    call(nr::__NR_pipe2, [&raw mut fds as usize, O_CLOEXEC as usize])?;
    Ok((Fd(fds[0]), Fd(fds[1])))
}

/// ppoll(2), for this time or for ever: which of them has something to read, or has ended.
pub(super) fn poll<const N: usize>(fds: [&Fd; N], timeout_ms: Option<u32>) -> Result<[bool; N], Errno> {
    ppoll(fds.map(|fd| nr::pollfd { fd: fd.0, events: nr::POLLIN as i16, revents: 0 }), timeout_ms)
}

/// ppoll(2), for this time or for ever: which of them has what it is asked for, or has ended. A signal does not end it: the
/// kernel leaves in the time what is left of it.
pub(super) fn ppoll<const N: usize>(mut fds: [nr::pollfd; N], timeout_ms: Option<u32>) -> Result<[bool; N], Errno> {
    let (sec, nsec) = timeout_ms.map_or((0, 0), |ms| (ms / 1000, ms % 1000 * 1_000_000));
    let mut time = nr::__kernel_timespec { tv_sec: sec as _, tv_nsec: nsec as _ };
    let mut old_time = nr::__kernel_old_timespec { tv_sec: sec as _, tv_nsec: nsec as _ };
    let at = |time: usize| if timeout_ms.is_some() { time } else { 0 };
    let list = &raw mut fds as usize;
    match call_restarting(arch::PPOLL, [list, N, at(&raw mut time as usize), 0, 0]) {
        // 32-bit kernels before 5.1 only know the old call, and small ones since then only the new.
        Err(Errno::ENOSYS) => call_restarting(arch::PPOLL_OLD, [list, N, at(&raw mut old_time as usize), 0, 0])?,
        polled => polled?,
    };
    Ok(fds.map(|fd| fd.revents != 0))
}

/// socket(2) and bind(2): what the kernel tells of devices, to read without blocking.
pub(super) fn uevents() -> Result<Fd, Errno> {
    let kind = (net::SOCK_DGRAM | O_CLOEXEC | O_NONBLOCK) as usize;
    let protocol = netlink::NETLINK_KOBJECT_UEVENT as usize;
    let fd = Fd(call(nr::__NR_socket, [net::AF_NETLINK as usize, kind, protocol])? as i32);
    // The first group has the kernel's messages, the second those of udev.
    let group = 1;
    let address = netlink::sockaddr_nl { nl_family: net::AF_NETLINK as _, nl_pad: 0, nl_pid: 0, nl_groups: group };
    call(nr::__NR_bind, [fd.0 as usize, &raw const address as usize, size_of_val(&address)])?;
    Ok(fd)
}

/// sysinfo(2): `freeram`, in bytes.
// Words are as long as on the architecture.
#[allow(clippy::unnecessary_cast)]
pub(super) fn free_bytes() -> u64 {
    let mut info = MaybeUninit::<linux_raw_sys::system::sysinfo>::zeroed();
    let _ = call(nr::__NR_sysinfo, [info.as_mut_ptr() as usize]);
    // SAFETY: zeroed integers are valid, and what the kernel fills are integers.
    let info = unsafe { info.assume_init() };
    info.freeram as u64 * u64::from(info.mem_unit)
}

/// getpid(2).
pub fn getpid() -> u32 {
    call(nr::__NR_getpid, []).unwrap_or(0) as u32
}

/// exit_group(2).
pub fn exit(code: u8) -> ! {
    loop {
        let _ = call(nr::__NR_exit_group, [code as usize]);
    }
}

/// mkdirat(2), mode 0755.
pub fn mkdir(path: &CStr) -> Result<(), Errno> {
    call(nr::__NR_mkdirat, [AT_FDCWD, path.as_ptr() as usize, 0o755]).map(drop)
}

/// mknodat(2) of a character device, mode 0600.
pub fn mknod_char(path: &CStr, major: u32, minor: u32) -> Result<(), Errno> {
    let mode = (nr::S_IFCHR | 0o600) as usize;
    call(nr::__NR_mknodat, [AT_FDCWD, path.as_ptr() as usize, mode, (major << 8 | minor) as usize]).map(drop)
}

/// unlinkat(2).
pub fn unlinkat(dir: Option<&Fd>, path: &CStr, flags: u32) -> Result<(), Errno> {
    call(nr::__NR_unlinkat, [at(dir), path.as_ptr() as usize, flags as usize]).map(drop)
}

/// getdents64(2): raw entries, to be read by [`directory_entries`].
pub fn getdents64(fd: &Fd, buf: &mut [u8]) -> Result<usize, Errno> {
    let args = [fd.0 as usize, buf.as_mut_ptr() as usize, buf.len()];
    // The smallest builds list no folder that a network could be behind.
    call_restarting(nr::__NR_getdents64, args)
}

/// The entries in what [`getdents64`] filled, but for `.` and `..`: type (`DT_DIR`, …) and name.
pub fn directory_entries(mut buf: &[u8]) -> impl Iterator<Item = (u8, &CStr)> {
    // struct linux_dirent64: u64 inode, i64 offset, u16 record length, u8 type, then the name with its NUL.
    core::iter::from_fn(move || {
        let record = u16::from_ne_bytes(*buf.get(16..18)?.first_chunk()?) as usize;
        let (entry, rest) = buf.split_at_checked(record)?;
        buf = rest;
        Some((*entry.get(18)?, CStr::from_bytes_until_nul(entry.get(19..)?).ok()?))
    })
    .filter(|(_, name)| *name != c"." && *name != c"..")
}

/// mount(2).
pub fn mount(source: &CStr, target: &CStr, kind: Option<&CStr>, flags: u32, data: Option<&CStr>) -> Result<(), Errno> {
    call(nr::__NR_mount, [source.as_ptr() as usize, target.as_ptr() as usize, opt(kind), flags as usize, opt(data)])
        .map(drop)
}

/// umount2(2).
pub fn umount2(target: &CStr, flags: u32) -> Result<(), Errno> {
    call(nr::__NR_umount2, [target.as_ptr() as usize, flags as usize]).map(drop)
}

/// chroot(2).
pub fn chroot(path: &CStr) -> Result<(), Errno> {
    call(nr::__NR_chroot, [path.as_ptr() as usize]).map(drop)
}

/// chdir(2).
pub fn chdir(path: &CStr) -> Result<(), Errno> {
    call(nr::__NR_chdir, [path.as_ptr() as usize]).map(drop)
}

/// fchdir(2).
pub fn fchdir(fd: &Fd) -> Result<(), Errno> {
    call(nr::__NR_fchdir, [fd.0 as usize]).map(drop)
}

/// dup3(2) without close-on-exec, onto a fixed number such as 0, 1 or 2.
pub fn dup_onto(fd: &Fd, number: i32) -> Result<(), Errno> {
    if fd.0 == number {
        return Ok(());
    }
    call(nr::__NR_dup3, [fd.0 as usize, number as usize]).map(drop)
}

/// The type of the file system that `fd` is on (`RAMFS_MAGIC`, …), by fstatfs(2).
pub fn filesystem_magic(fd: &Fd) -> Result<u32, Errno> {
    // f_type is the first word of struct statfs on each of our architectures; 128 bytes hold any of them.
    let mut buf = [0usize; 16];
    call(nr::__NR_fstatfs, [fd.0 as usize, buf.as_mut_ptr() as usize])?;
    Ok(buf[0] as u32)
}

/// Whether a file system of that type keeps its files in memory (ramfs, tmpfs: `linux/magic.h`).
pub fn is_memory(magic: u32) -> bool {
    matches!(magic, 0x8584_58f6 | 0x0102_1994)
}

/// rt_sigaction(2): a signal does what it does by default, or is ignored; whether it was ignored before.
pub(crate) fn ignore(signal: u32, is_ignored: bool) -> bool {
    // struct sigaction of the kernel begins with the handler, SIG_DFL 0 or SIG_IGN 1; the rest is flags and a set, of which none are.
    let (new, mut old) = ([usize::from(is_ignored), 0, 0, 0, 0], [0usize; 5]);
    let _ = call(nr::__NR_rt_sigaction, [signal as usize, &raw const new as usize, &raw mut old as usize, SIGNALS / 8]);
    old[0] == 1
}

/// The number of signals; a set of them has a bit for each.
pub(super) const SIGNALS: usize = 64;

/// Has each signal do what it does by default, and lets each through (rt_sigprocmask(2)): who starts a program may have left both in
/// another state, and it would be handed on.
pub fn default_signals() {
    for signal in 1..=SIGNALS as u32 {
        ignore(signal, false);
    }
    const SIG_SETMASK: usize = 2;
    let none = 0u64;
    let _ = call(nr::__NR_rt_sigprocmask, [SIG_SETMASK, &raw const none as usize, 0, SIGNALS / 8]);
}

/// Has a write to a pipe that nobody reads fail, and not end this program.
pub fn ignore_sigpipe() {
    ignore(nr::SIGPIPE, true);
    // If this were ignored, what became of a child could not be asked.
    ignore(nr::SIGCHLD, false);
}

/// wait4(2) for any child, without blocking: reaps one zombie. `false` when there was none.
pub fn reap() -> bool {
    matches!(call(nr::__NR_wait4, [usize::MAX, 0, nr::WNOHANG as usize]), Ok(pid) if pid > 0)
}

/// wait4(2) for one child: its status.
pub(super) fn wait(pid: usize) -> Result<i32, Errno> {
    let mut status = 0;
    call_restarting(nr::__NR_wait4, [pid, &raw mut status as usize, 0, 0])?;
    Ok(status)
}

/// What reboot(2) shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reboot {
    /// LINUX_REBOOT_CMD_RESTART.
    Restart,
    /// LINUX_REBOOT_CMD_POWER_OFF.
    PowerOff,
}

/// sync(2), then reboot(2); returns only when refused.
pub fn reboot(how: Reboot) -> Errno {
    let command: u32 = match how {
        Reboot::Restart => 0x0123_4567,
        Reboot::PowerOff => 0x4321_fedc,
    };
    let _ = call(nr::__NR_sync, []);
    let magic = [0xfee1_dead, 0x2812_1969];
    call(nr::__NR_reboot, [magic[0], magic[1], command as usize]).err().unwrap_or(Errno::EINVAL)
}

/// A null-terminated array of C strings, as the kernel hands `argv` and `envp` to a program.
#[derive(Clone, Copy, Debug)]
pub struct StringArray(pub(super) *const *const core::ffi::c_char);

impl StringArray {
    /// No strings.
    pub const EMPTY: StringArray = StringArray(&raw const NULL.0[0]);

    /// The environment of the first program, where the kernel command line adds nothing (init/main.c).
    pub const KERNELS: StringArray = StringArray(&raw const KERNELS.0[0]);

    /// # Safety
    /// `at` points to an array of C strings that ends in a null pointer; both live, unchanged, as long as the process.
    pub const unsafe fn new(at: *const *const core::ffi::c_char) -> StringArray {
        StringArray(at)
    }

    /// The strings, in order.
    pub fn iter(self) -> impl Iterator<Item = &'static CStr> {
        let mut next = self.0;
        core::iter::from_fn(move || {
            // SAFETY: by the contract of `new`, `next` is within the array, and its end is never passed.
            unsafe {
                let text = *next;
                if text.is_null() {
                    return None;
                }
                next = next.add(1);
                Some(CStr::from_ptr(text))
            }
        })
    }
}

struct Strings<const N: usize>([*const core::ffi::c_char; N]);
// SAFETY: null pointers and such to constants, never written.
unsafe impl<const N: usize> Sync for Strings<N> {}
static NULL: Strings<1> = Strings([core::ptr::null()]);
static KERNELS: Strings<3> = Strings([c"HOME=/".as_ptr(), c"TERM=linux".as_ptr(), core::ptr::null()]);

/// execve(2) of `path` with `argv` whose first element is replaced by `path` itself; returns only when refused.
///
/// More than [`crate::limits::EXEC_ARGS`] arguments are E2BIG.
pub fn execve(path: &CStr, argv: StringArray, envp: StringArray) -> Errno {
    let mut args = [core::ptr::null(); crate::limits::EXEC_ARGS + 1];
    args[0] = path.as_ptr();
    for (i, text) in argv.iter().enumerate().skip(1) {
        if i >= crate::limits::EXEC_ARGS {
            return Errno::E2BIG;
        }
        args[i] = text.as_ptr();
    }
    call(nr::__NR_execve, [path.as_ptr() as usize, args.as_ptr() as usize, envp.0 as usize])
        .err()
        .unwrap_or(Errno::ENOEXEC)
}

/// How a file is opened to be read. Without O_NONBLOCK, a FIFO in place of a file would hang us in open.
pub(super) const READING: u32 = O_RDONLY | O_NONBLOCK | O_NOCTTY;

/// openat2(2), close-on-exec, of what is below `dir` (RESOLVE_BENEATH).
pub(super) fn openat2_beneath(dir: &Fd, path: &CStr, flags: u32) -> Result<Fd, Errno> {
    // struct open_how: u64 flags, mode and resolve, on all architectures.
    let how = [u64::from(flags | O_CLOEXEC), 0, u64::from(nr::RESOLVE_BENEATH)];
    let args = [dir.0 as usize, path.as_ptr() as usize, &raw const how as usize, size_of_val(&how)];
    let mut tries = 3;
    loop {
        match call_restarting(nr::__NR_openat2, args) {
            // Something was renamed meanwhile.
            Err(Errno::EAGAIN) if tries > 0 => tries -= 1,
            opened => return Ok(Fd(opened? as i32)),
        }
    }
}

/// As [`openat2_beneath`], a component after the other, none of which may be a link.
pub(super) fn open_without_links(dir: &Fd, path: &CStr) -> Result<Fd, Errno> {
    let mut folder: Option<Fd> = None;
    let mut rest = path.to_bytes();
    loop {
        let at = rest.iter().position(|byte| *byte == b'/');
        let (name, behind) = at.map_or((rest, None), |at| (&rest[..at], Some(&rest[at + 1..])));
        if name == b".." {
            return Err(Errno::EXDEV);
        }
        let name = crate::path::joined(&[if name.is_empty() { b"." } else { name }]).ok_or(Errno::ENAMETOOLONG)?;
        // O_DIRECTORY is not asked for: it would have the same errno for a link as for a file.
        let opened = openat(Some(folder.as_ref().unwrap_or(dir)), &name, READING | O_NOFOLLOW);
        let opened = opened.map_err(|errno| if errno == Errno::ELOOP { Errno::EXDEV } else { errno })?;
        match behind {
            Some(behind) => rest = behind,
            None => return Ok(opened),
        }
        folder = Some(opened);
    }
}
