//! Stands in for the inquiry: the cause as far as the errno and the headers of the file tell it.

use core::marker::PhantomData;

use super::cause::Cause;
use super::failed_load::{FailedLoad, Report};
use crate::kernel::Kernel;
use crate::load::Request;

/// The kernel's log, which this build does not read.
#[allow(missing_debug_implementations)]
pub struct KernelLog<K>(PhantomData<K>);

impl<K> Default for KernelLog<K> {
    fn default() -> Self {
        KernelLog(PhantomData)
    }
}

/// Finds the cause of a failure, and reports it.
pub fn explain<K: Kernel>(kernel: &K, _: &KernelLog<K>, load: &FailedLoad, report: Report) {
    report(&Cause::of(kernel, load.file, load.failure));
}

/// This build does not look for them.
pub fn report_ignored_params<K: Kernel>(_: &K, _: &Request, _: Report) {}
