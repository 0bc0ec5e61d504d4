//! Lines that a manifest may bring about in any number: of each kind the first are reported, and the rest are counted. A manifest
//! of a megabyte, the wrong file perhaps, would else hold the boot up for as long as a serial line takes for its errors.

use crate::limits::REPORTED_ALIKE;
use crate::report::{Level, Log};

/// What such a line says.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A line of the manifest is wrong.
    Line,
    /// A name leads to no file.
    Name,
    /// A module is not loaded.
    Failure,
    /// A module is there.
    Present,
    /// A module is left out.
    Skipped,
    /// A line of modprobe.d, or all of a file, is.
    #[cfg(feature = "names")]
    Config,
}

/// How many kinds there are.
const KINDS: usize = 6;

/// How many lines of each kind there were.
#[derive(Default)]
pub(super) struct Repeats {
    of_kind: [usize; KINDS],
    /// Those that were only counted.
    unreported: usize,
}

impl Repeats {
    /// Whether one more of that kind is to be reported.
    // Out of line: there are many that ask.
    #[inline(never)]
    pub fn is_news(&mut self, kind: Kind) -> bool {
        let count = &mut self.of_kind[kind as usize];
        *count += 1;
        let is_news = *count <= REPORTED_ALIKE;
        self.unreported += usize::from(!is_news);
        is_news
    }

    /// Reports how many were only counted.
    pub fn report(&self, log: &mut impl Log) {
        if self.unreported > 0 {
            let what = format_args!(
                "and {} more like those: over REPORTED_ALIKE, {REPORTED_ALIKE}, of a kind",
                self.unreported
            );
            log.line(Level::Error, what);
        }
    }
}
