//! From a failure to its cause: errno, what the file itself shows, and with the feature `explain` what the kernel's log, its
//! symbols and its policies say. Runs only after a failure.

use core::ffi::CStr;
use core::fmt;

use crate::elf::{Elf, Fault, FileBytes, THIS_MACHINE};
use crate::errno::{Errno, meaning};
use crate::format::Format;
use crate::kernel::{FileKind, Kernel};
use crate::load::Failure;
use crate::report::Time;
use crate::source::DecodeError;

/// There is none to look into.
#[cfg(not(feature = "explain"))]
#[allow(missing_debug_implementations)]
pub struct KernelLog<K>(core::marker::PhantomData<K>);

#[cfg(not(feature = "explain"))]
impl<K> Default for KernelLog<K> {
    fn default() -> Self {
        KernelLog(core::marker::PhantomData)
    }
}

/// This build does not look for them.
#[cfg(not(feature = "explain"))]
pub fn tell_ignored_params<K: Kernel>(
    _: &K, _: &CStr, _: Option<u64>, _: crate::name::Name, _: &str, _: &mut dyn FnMut(&dyn fmt::Display),
) {
}

#[cfg(feature = "explain")]
mod further;
#[cfg(feature = "explain")]
pub use crate::klog::KernelLog;
#[cfg(feature = "explain")]
pub use further::tell_ignored_params;

/// A failure, and what is known of the load that failed.
#[allow(missing_debug_implementations)]
pub struct Case<'a, K: Kernel> {
    /// The module's file.
    pub file: &'a CStr,
    /// What came of loading it.
    pub failure: Failure,
    /// When that began, in µs of monotonic time; 0 where nobody looked.
    pub since_us: u64,
    /// Ceiling on the memory to explain it in, in bytes.
    pub budget_bytes: Option<u64>,
    /// Hands the files of modules that export a symbol to a visitor, as far as there is an index of them.
    pub exporters: &'a Exporters<'a>,
    /// The log that tells of it, the same for all loads of a run.
    pub log: &'a KernelLog<K>,
}

/// See [`Case::exporters`].
pub type Exporters<'e> = dyn Fn(&str, &mut dyn FnMut(&str)) + 'e;

/// Knows of no module that exports something.
pub fn no_exporters(_: &str, _: &mut dyn FnMut(&str)) {}

/// Why a module is not loaded, as one clause for people: `ENOEXEC: built for …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cause {
    failure: Failure,
    fault: Option<Fault>,
}

/// Finds the cause of a failure, and tells it as one clause for people: `ENOEXEC: built for …`.
// The smallest builds know more of whom they tell if it is one function with that.
#[cfg_attr(not(feature = "explain"), inline(always))]
pub fn explain<K: Kernel>(kernel: &K, case: &Case<K>, tell: &mut dyn FnMut(&dyn fmt::Display)) {
    #[cfg(feature = "explain")]
    if let Failure::Kernel(errno) = case.failure {
        return further::explain(kernel, case, errno, tell);
    }
    tell(&cause(kernel, case.file, case.failure));
}

/// The cause as far as the file shows it.
fn cause<K: Kernel>(kernel: &K, file: &CStr, failure: Failure) -> Cause {
    // What refuses a file for its content answers with one of these; for a compressed file the headers are out of sight.
    let content =
        matches!(failure, Failure::Kernel(Errno::ENOEXEC | Errno::EINVAL) | Failure::Read(_) | Failure::Decode(_));
    let fault = if content { kernel.open(file).ok().and_then(|file| examine(kernel, &file)) } else { None };
    Cause { failure, fault }
}

fn examine<K: Kernel>(kernel: &K, file: &K::File) -> Option<Fault> {
    match crate::decode::format_of(kernel, file) {
        Ok(format) if format != Format::Plain => None,
        _ => examine_plain(kernel, file).err(),
    }
}

fn examine_plain<K: Kernel>(kernel: &K, file: &K::File) -> Result<(), Fault> {
    let stat = kernel.stat(file).map_err(DecodeError::Read)?;
    match stat.kind {
        FileKind::Regular => Elf::open(FileBytes { kernel, file }, Some(THIS_MACHINE)).map(drop),
        kind => Err(Fault::NotRegular(kind)),
    }
}

#[cfg(feature = "explain")]
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Cause { failure: *self, fault: None }.fmt(f)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (errno, meaning) = match self.failure {
            Failure::Open(Errno::EXDEV) if cfg!(feature = "names") => {
                (Errno::EXDEV, "it is outside of the @root, or a link leads there, and @confine forbids it")
            }
            Failure::Open(errno) => (errno, of_open(errno)),
            Failure::Read(errno) => (errno, "the file cannot be read"),
            Failure::Memory(errno) => (errno, "not enough memory"),
            Failure::Kernel(errno) => (errno, of_kernel(errno)),
            Failure::Decode(error) => {
                return match self.fault {
                    Some(fault) => fault.fmt(f),
                    None => error.fmt(f),
                };
            }
            Failure::Refusal(refusal) => return refusal.fmt(f),
            Failure::TimedOut { timeout_ms, is_left } => return timed_out(f, timeout_ms, is_left),
            Failure::Left => (Errno::EBUSY, "it was left behind, and its init has still not returned"),
            Failure::Mismatch(mismatch) => return mismatch.fmt(f),
        };
        match self.fault {
            Some(fault) => write!(f, "{errno}: {fault}"),
            None => write!(f, "{errno}: {meaning}"),
        }
    }
}

fn timed_out(f: &mut fmt::Formatter<'_>, timeout_ms: u32, is_left: bool) -> fmt::Result {
    let time = Time(timeout_ms);
    let left = match is_left {
        true => "left behind, as nothing ends it: until a restart the module can be neither used nor loaded again",
        false => "it was ended",
    };
    write!(
        f,
        "{ETIMEDOUT}: its init has not returned within {time}; {left}. Give it more @timeout=, or leave it out",
        ETIMEDOUT = Errno::ETIMEDOUT
    )
}

/// What an errno of open(2) means for a module file.
pub fn of_open(errno: Errno) -> &'static str {
    meaning!(errno, {
        ENOENT => "no such file",
        EACCES => "permission to read it is denied",
        ELOOP => "its symbolic links lead in a circle",
        ENOTDIR => "a part of its path is not a directory",
        ENAMETOOLONG => "its path is too long",
        EMFILE | ENFILE => "too many files are open",
        ENXIO => "it is a FIFO, socket or absent device",
        EIO => "the storage it is on does not answer",
        _ => "it cannot be opened",
    })
}

/// What an errno of init_module(2) and finit_module(2) means (kernel/module/main.c, decompress.c).
pub fn of_kernel(errno: Errno) -> &'static str {
    meaning!(errno, {
        EPERM => "not permitted (no CAP_SYS_MODULE, modules_disabled, module_blacklist= on the kernel \
                  command line, or lockdown)",
        EACCES => "a security module of the kernel forbids it",
        ENOEXEC => "not a module for this kernel (another version or configuration, or damaged)",
        EINVAL => "the kernel refuses it (a parameter's value, a symbol's checksum, a missing namespace import, or \
                   compressed data that does not decode)",
        ENOENT => "a symbol it needs is not there, load what exports it first (or its init found something missing)",
        EEXIST => "its init says that something exists already",
        EBUSY => "a module it needs, or a duplicate of it, is still being loaded or unloaded",
        EKEYREJECTED | ENOKEY | EKEYEXPIRED | EKEYREVOKED =>
            "not signed with a key that this kernel trusts, and it enforces signatures",
        EBADMSG => "its signature is malformed",
        ENOPKG => "its signature uses an algorithm that this kernel lacks",
        EOPNOTSUPP => "the kernel cannot decompress modules (or its init does not support this machine)",
        ETXTBSY => "the file is open for writing",
        EFBIG => "the file is too big",
        EFAULT => "the image could not be read to its end",
        ENOMEM => "the kernel has too little memory for it",
        EINTR => "interrupted by a signal",
        ENOSYS => "the kernel has no such call: modules are not configured (or its init said so)",
        ENODEV | ENXIO => "its init found no device that it is for",
        EIO => "reading it, or its device, failed",
        _ => "its init failed",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    #[test]
    fn the_file_speaks_before_the_errno() {
        let fake = Fake::default().with_file("/e.ko", b"").with_file("/m.ko.gz", b"\x1f\x8b");
        let text = |file, failure| {
            let mut text = String::new();
            let log = &KernelLog::default();
            let case = Case { file, failure, since_us: 0, budget_bytes: None, exporters: &no_exporters, log };
            explain(&fake, &case, &mut |cause| text = cause.to_string());
            text
        };
        assert_eq!(text(c"/e.ko", Failure::Kernel(Errno::EINVAL)), "EINVAL: the file is empty");
        assert_eq!(text(c"/e.ko", Failure::Kernel(Errno::ENODEV)), "ENODEV: its init found no device that it is for");
        assert_eq!(text(c"/none", Failure::Open(Errno::ENOENT)), "ENOENT: no such file");
        let decode = Failure::Decode(DecodeError::Truncated);
        assert_eq!(text(c"/m.ko.gz", decode), "the compressed file ends too early");
        let of_kernel = if cfg!(all(feature = "explain", feature = "gzip")) {
            "EINVAL: the compressed file ends too early"
        } else {
            "EINVAL: the kernel refuses it"
        };
        assert!(text(c"/m.ko.gz", Failure::Kernel(Errno::EINVAL)).starts_with(of_kernel));
    }
}
