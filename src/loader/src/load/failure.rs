//! Why a module is not loaded. The words for it are in `explain`.

use super::choose::Refusal;
use crate::errno::Errno;
use crate::kernel::{StreamError, WorkerError};
use crate::pin::Mismatch;
use crate::source::DecodeError;

/// Why a module is not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The file cannot be opened.
    Open(Errno),
    /// The file cannot be read.
    Read(Errno),
    /// No memory can be mapped.
    Memory(Errno),
    /// The file does not decode.
    Decode(DecodeError),
    /// No path can take it.
    Refusal(Refusal),
    /// The image is not the one that the manifest means.
    Mismatch(Mismatch),
    /// The kernel refused the module, or its init did.
    Kernel(Errno),
    /// It was not loaded in its time: the load was ended, or is left behind in a process that nothing ends.
    TimedOut {
        /// The time that it had.
        timeout_ms: u32,
        /// Whether the load goes on.
        is_left: bool,
    },
    /// The kernel is still busy with the module, which was left behind.
    Left,
}

impl Failure {
    /// Whether the load goes on.
    pub fn is_left(self) -> bool {
        match self {
            Failure::TimedOut { is_left, .. } => is_left,
            _ => false,
        }
    }

    /// Whether it may pass by itself, so that trying again can help:
    /// - a file that is not there yet;
    /// - EBUSY: what the module needs is still being initialised, or a duplicate of it (kernel/module/main.c);
    /// - EAGAIN, ETIMEDOUT: its init says so;
    /// - ENODEV, ENXIO, EPROBE_DEFER: its init found no device, or not what that needs. What a driver's probe says does not reach the
    ///   init, and is tried again by the kernel itself (drivers/base/dd.c), but for `platform_driver_probe`: ENODEV, once and for all;
    /// - ENOENT: its init found no firmware, or somebody else has yet to load what exports a symbol.
    ///
    /// What the kernel finds in the file stays so, as do permission and parameters.
    pub fn may_pass(self) -> bool {
        /// Of `linux/errno.h`: not for user space, but an init may return it.
        const EPROBE_DEFER: Errno = Errno(517);
        const PASSING: [Errno; 7] =
            [Errno::EBUSY, Errno::EAGAIN, Errno::ETIMEDOUT, Errno::ENODEV, Errno::ENXIO, EPROBE_DEFER, Errno::ENOENT];
        match self {
            Failure::Open(errno) => errno == Errno::ENOENT,
            Failure::Kernel(errno) => PASSING.contains(&errno),
            Failure::TimedOut { is_left, .. } => !is_left,
            _ => false,
        }
    }
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Failure {
        match error {
            WorkerError::Start(errno) => Failure::Memory(errno),
            WorkerError::Killed => Failure::Kernel(Errno::ENOMEM),
            WorkerError::TimedOut { timeout_ms, is_left } => Failure::TimedOut { timeout_ms, is_left },
        }
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Failure {
        match error {
            StreamError::Memory(errno) => Failure::Memory(errno),
            StreamError::Source(error) => error.into(),
            StreamError::Call(errno) => Failure::Kernel(errno),
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Failure {
        match error {
            DecodeError::Read(errno) => Failure::Read(errno),
            DecodeError::Mismatch(mismatch) => Failure::Mismatch(mismatch),
            error => Failure::Decode(error),
        }
    }
}
