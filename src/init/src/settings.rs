//! What the kernel command line says of this program: its manifest, its memory, how much it reports.
//!
//! What it says of modules is for the loader, of the root for `switch_root`.

use core::ffi::CStr;

use modest_loader::cmdline::{Cmdline, PathTooLong};
use modest_loader::kernel::Kernel;
use modest_loader::limits::CMDLINE_BYTES;
use modest_loader::manifest::size_bytes;
use modest_loader::path::{self, Path};
use modest_loader::report::{Level, Log};
use modest_loader::run::{self, RUN_BYTES};
use modest_loader::sys::{Linux, Region};

use crate::console::Console;

/// The manifest where nobody names another.
const MANIFEST: &CStr = c"/etc/modest.manifest";

/// The kernel command line, read.
#[derive(Clone, Copy)]
pub struct Settings<'m> {
    /// Its words; none if it cannot be read.
    pub cmdline: Cmdline<'m>,
    /// The ceiling on memory in bytes that it sets.
    pub budget_bytes: Option<u64>,
}

/// Memory for [`Settings::read`] and the run; empty if there is none, which a line says.
///
/// It is not on the stack, as it takes memory only as far as something is written to it.
pub fn memory(console: &mut Console) -> Option<Region> {
    let memory = Linux.allocate(CMDLINE_BYTES + RUN_BYTES);
    memory.map_err(|errno| console.line(Level::Error, format_args!("{errno}: not even memory to read lines"))).ok()
}

impl<'m> Settings<'m> {
    /// Reads `/proc/cmdline` into `memory`, and reports what is wrong with it; with the rest of `memory`.
    pub fn read(console: &mut Console, memory: &'m mut [u8]) -> (Settings<'m>, &'m mut [u8]) {
        let (cmdline, read, rest) = Cmdline::read(&Linux, c"/proc/cmdline", memory);
        if let Err(error) = read {
            console.line(Level::Error, format_args!("/proc/cmdline: {error}"));
        }
        let budget = cmdline.value("modest.budget");
        let budget_bytes = budget.and_then(size_bytes);
        if let (Some(text), None) = (budget, budget_bytes) {
            console.line(
                Level::Error,
                format_args!("modest.budget={text} is not a size; expected bytes, or a number with K, M or G"),
            );
        }
        (Settings { cmdline, budget_bytes }, rest)
    }

    /// The same as the usual manifest lets it be, whose lines are read with `buf`: where that is sealed, another is not looked for.
    pub fn sealed(self, buf: &mut [u8]) -> Self {
        // What else there is counts only when the manifest is carried out.
        let is_sealed = self.cmdline.is_about_modest() && run::begins_sealed(&Linux, MANIFEST, buf);
        if is_sealed { Settings { cmdline: self.cmdline.sealed(), budget_bytes: None } } else { self }
    }

    /// How much PID 1 reports.
    pub fn level(self) -> Level {
        if self.cmdline.has("modest.debug") {
            Level::Debug
        } else if self.cmdline.has("modest.quiet") {
            Level::Error
        } else {
            Level::Info
        }
    }

    /// The manifest that the kernel command line names, or the usual one.
    pub fn manifest(self) -> Result<Path, PathTooLong<'m>> {
        let named = self.cmdline.path("modest.manifest")?;
        Ok(named.or(path::joined(&[MANIFEST.to_bytes()])).unwrap_or_default())
    }
}
