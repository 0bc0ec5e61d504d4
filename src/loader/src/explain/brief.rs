//! Stands in for the inquiry: the cause as far as the errno and the first bytes of the file tell it.

use core::ffi::CStr;
use core::marker::PhantomData;

use super::cause::{Cause, is_about_content};
use super::failed_load::{FailedLoad, Report};
use crate::format::Format;
use crate::kernel::{FileKind, Kernel};
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
    let fault = if is_about_content(load.failure) { fault(kernel, load.file) } else { None };
    report(&Cause { failure: load.failure, fault });
}

/// What the first bytes of the file show.
fn fault<K: Kernel>(kernel: &K, path: &CStr) -> Option<&'static str> {
    let file = kernel.open(path).ok()?;
    let stat = kernel.stat(&file).ok()?;
    let mut magic = [0; 4];
    let read = kernel.read_at(&file, &mut magic, 0).unwrap_or(0);
    match (stat.kind, stat.size_bytes, Format::of(&magic[..read])) {
        (FileKind::Regular, 0, _) => Some("the file is empty"),
        (FileKind::Regular, _, Format::Plain) if magic != *b"\x7fELF" => {
            Some("the file does not begin with the magic number of ELF, so it is not a module")
        }
        (FileKind::Regular, ..) => None,
        _ => Some("the file is not a regular file, so it is not a module"),
    }
}

/// This build does not look for them.
pub fn report_ignored_params<K: Kernel>(_: &K, _: &Request, _: Report) {}
