//! The words for a failure, and what the headers of the file add to them.

use core::ffi::CStr;
use core::fmt;

use super::errnos::{of_kernel, of_open};
use crate::elf::{Elf, Fault, FileBytes, THIS_MACHINE};
use crate::errno::Errno;
use crate::format::Format;
use crate::kernel::{FileKind, Kernel};
use crate::load::Failure;
use crate::report::Time;
use crate::source::DecodeError;

/// Why a module is not loaded, as one clause for people: `ENOEXEC: built for …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What came of loading it.
    pub failure: Failure,
    /// What is wrong with the file, if that is the cause.
    pub fault: Option<Fault>,
}

impl From<Failure> for Cause {
    /// The cause as far as the errno tells it.
    fn from(failure: Failure) -> Cause {
        Cause { failure, fault: None }
    }
}

impl Cause {
    /// The cause as far as the errno and the headers of `file` tell it.
    pub fn of<K: Kernel>(kernel: &K, file: &CStr, failure: Failure) -> Cause {
        // The answers to a file with the wrong content. Of a compressed file the headers are out of sight.
        let is_about_content =
            matches!(failure, Failure::Kernel(Errno::ENOEXEC | Errno::EINVAL) | Failure::Read(_) | Failure::Decode(_));
        let file = if is_about_content { kernel.open(file).ok() } else { None };
        Cause { failure, fault: file.and_then(|file| examine(kernel, &file)) }
    }
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

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (errno, meaning) = match self.failure {
            Failure::Open(errno) => (errno, of_open(errno)),
            Failure::Read(errno) => (errno, "the file cannot be read"),
            Failure::Memory(errno) => (errno, "the loader has too little memory"),
            Failure::Kernel(errno) => (errno, of_kernel(errno)),
            Failure::Decode(error) => {
                return match self.fault {
                    Some(fault) => fault.fmt(f),
                    None => error.fmt(f),
                };
            }
            Failure::Refusal(refusal) => return refusal.fmt(f),
            Failure::TimedOut { timeout_ms, is_left } => return timed_out(f, timeout_ms, is_left),
            Failure::Left => {
                (Errno::EBUSY, "an earlier load of it was left behind, and its init has still not returned")
            }
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
        true => {
            "nothing could end it, so it was left behind: until a restart the module can be neither used nor loaded"
        }
        false => "it was killed",
    };
    write!(
        f,
        "{ETIMEDOUT}: not loaded within {time}; {left}. Raise @timeout=, or leave the module out",
        ETIMEDOUT = Errno::ETIMEDOUT
    )
}
