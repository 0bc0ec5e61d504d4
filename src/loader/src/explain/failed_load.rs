//! A load that failed, as whoever explains it needs it.

use core::ffi::CStr;
use core::fmt::Display;

use crate::load::Failure;

/// A load that failed.
#[allow(missing_debug_implementations)]
pub struct FailedLoad<'a> {
    /// The module's file.
    pub file: &'a CStr,
    /// What came of loading it.
    pub failure: Failure,
    /// When the load began, in µs of monotonic time; 0 where nobody looked at the clock.
    pub since_us: u64,
    /// Ceiling on the memory to explain it in, in bytes.
    pub budget_bytes: Option<u64>,
    /// Hands the files of modules that export a symbol to a visitor, as far as there is an index of them.
    pub exporters: &'a Exporters<'a>,
}

/// See [`FailedLoad::exporters`].
pub type Exporters<'e> = dyn Fn(&str, &mut dyn FnMut(&str)) + 'e;

/// Knows of no module that exports something.
pub fn no_exporters(_: &str, _: &mut dyn FnMut(&str)) {}

/// Takes what is found, as one clause for people.
pub type Report<'r> = &'r mut dyn FnMut(&dyn Display);
