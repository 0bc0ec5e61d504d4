//! The words for a failure, and for what is wrong with the file.

use core::fmt;

use super::errnos::{of_kernel, of_open};
use crate::errno::Errno;
use crate::load::Failure;
use crate::report::Time;

/// Why a module is not loaded, as one clause for people: `ENOEXEC: built for …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause<F> {
    /// What came of loading it.
    pub failure: Failure,
    /// What is wrong with the file, if that is the cause.
    pub fault: Option<F>,
}

impl<F> From<Failure> for Cause<F> {
    /// The cause as far as the errno tells it.
    fn from(failure: Failure) -> Self {
        Cause { failure, fault: None }
    }
}

/// Whether the content of the file may be the cause.
pub fn is_about_content(failure: Failure) -> bool {
    matches!(failure, Failure::Kernel(Errno::ENOEXEC | Errno::EINVAL) | Failure::Read(_) | Failure::Decode(_))
}

impl<F: fmt::Display> fmt::Display for Cause<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (errno, meaning) = match self.failure {
            Failure::Open(errno) => (errno, of_open(errno)),
            Failure::Read(errno) => (errno, "the file cannot be read"),
            Failure::Memory(errno) => (errno, "the loader has too little memory"),
            Failure::Kernel(errno) => (errno, of_kernel(errno)),
            Failure::Decode(error) => {
                return match &self.fault {
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
        match &self.fault {
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
