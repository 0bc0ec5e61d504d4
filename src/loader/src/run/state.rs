//! What a run knows while it goes on, and how it reports.

use core::ffi::CStr;
use core::fmt;

use super::names::state::Names;
use super::repeats::{Kind, Repeats};
use crate::cmdline::Cmdline;
use crate::errno::Errno;
use crate::explain::KernelLog;
use crate::kernel::Kernel;
use crate::load::Abilities;
use crate::manifest::{Entry, OnError};
use crate::name::{self, Name};
use crate::path::Path;
use crate::report::{Level, Log};
use crate::resolve::{ResolveError, SearchRoot};

/// [`OnError`] that outlives its line.
#[derive(Clone, Debug, Default)]
pub enum Policy {
    /// See [`OnError::Continue`].
    #[default]
    Continue,
    /// See [`OnError::Stop`].
    Stop,
    /// See [`OnError::Reboot`].
    Reboot,
    /// See [`OnError::Exec`].
    Exec(Path),
}

/// Where the boot goes on when all entries are done.
#[derive(Clone, Debug)]
pub enum HandOver {
    /// To this program.
    Exec(Path),
    /// To the init of the root that the kernel command line names.
    SwitchRoot,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Modules put into the kernel.
    pub loaded: usize,
    /// Modules that were there, or are built in.
    pub present: usize,
    /// Modules left out: by the kernel command line, a blacklist, an `install` of /bin/true or /bin/false, or for want of a device.
    pub skipped: usize,
    /// Failures, those of optional entries not among them.
    pub failed: usize,
    /// Whether a failure ended the run before the manifest's end.
    pub stopped: bool,
    /// Whether the manifest begins with `@sealed`.
    pub is_sealed: bool,
    /// What the last `@exec` or `@switch-root` says.
    pub hand_over: Option<HandOver>,
    /// What the last `@on-error` says.
    pub policy: Policy,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { loaded, present, skipped, failed, .. } = self;
        write!(f, "{loaded} loaded, {present} present, {skipped} skipped, {failed} failed")
    }
}

/// What a run is told from outside the manifest.
pub struct Options<'o> {
    /// The manifest's path.
    pub manifest: &'o CStr,
    /// The kernel's command line.
    pub cmdline: Cmdline<'o>,
    /// Ceiling on the loader's own memory in bytes, whatever the manifest says.
    pub budget_bytes: Option<u64>,
    /// Whether this process is PID 1, which the kernel cannot kill.
    pub is_init: bool,
    /// Prints what would be done instead of doing it.
    pub dry_run: bool,
    /// Hears of the policy as soon as it is known, for the case that the program itself fails.
    pub on_policy: &'o dyn Fn(&OnError),
}

/// A line of the manifest, for messages; line 0 is none.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub manifest: &'a str,
    pub number: usize,
}

/// Where a name comes from that is in no manifest.
pub(super) const CMDLINE: At = At { manifest: "the kernel command line", number: 0 };

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => f.write_str(self.manifest),
            number => write!(f, "{}:{number}", self.manifest),
        }
    }
}

pub(super) struct Run<'r, 'o, K: Kernel, L> {
    pub kernel: &'r K,
    pub log: &'r mut L,
    pub options: &'r Options<'o>,
    /// What was reported so far.
    pub repeats: Repeats,
    /// Whether a line of the manifest was carried out.
    pub has_lines: bool,
    pub abilities: Abilities,
    pub budget_bytes: Option<u64>,
    pub root: SearchRoot,
    /// Whether no file outside of the root is loaded.
    pub is_confined: bool,
    /// The root, opened the first time that this matters.
    pub folder: Option<K::File>,
    /// Whether the kernel command line has words about modules.
    pub has_words: bool,
    /// Whether it says which modules to leave out.
    pub has_skips: bool,
    /// Whether what the kernel command line asks to be loaded first is.
    pub has_begun: bool,
    pub names: Names<'r, K>,
    /// Whether loaded files are deleted.
    pub unlinks: bool,
    /// For failures.
    pub klog: KernelLog<K>,
    /// Whether the kernel is still busy with a module that was left behind.
    pub has_left: bool,
    /// Whether modules are likely to be there already, so that asking comes before loading.
    pub asks_first: bool,
    pub outcome: Outcome,
}

impl<K: Kernel, L: Log> Run<'_, '_, K, L> {
    /// Reports something of a module.
    pub(super) fn report(&mut self, level: Level, name: Name, what: &dyn fmt::Display) {
        self.log.line(level, format_args!("{name}: {what}"));
    }

    /// Reports a failure of the manifest itself.
    pub(super) fn fails_at(&mut self, at: At, text: fmt::Arguments) {
        if self.is_news(Kind::Line) {
            self.log.line(Level::Error, format_args!("{at}:{text}"));
        }
        self.fails(false);
    }

    /// Whether one more line of that kind is to be reported, and not only counted. A dry run shows all.
    pub(super) fn is_news(&mut self, kind: Kind) -> bool {
        self.options.dry_run || self.repeats.is_news(kind)
    }

    /// Applies the policy to a failure that was reported.
    pub(super) fn fails(&mut self, optional: bool) {
        if optional {
            return;
        }
        self.outcome.failed += 1;
        // A dry run shows every failure there would be.
        self.outcome.stopped = !matches!(self.outcome.policy, Policy::Continue) && !self.options.dry_run;
    }

    /// Reports an entry that no file is known for.
    pub(super) fn unresolved(&mut self, at: At, entry: &Entry, error: ResolveError) {
        if self.is_news(Kind::Name) {
            let (name, optional) = (name::of(entry.module), optional(entry.optional));
            self.log.line(Level::Error, format_args!("{name}: {error}, {at}{optional}"));
        }
        self.fails(entry.optional);
    }

    /// Whether the command line says to leave the module out.
    pub(super) fn skips(&mut self, name: Name) -> bool {
        let skips = self.has_skips && self.options.cmdline.lists("modest.skip", name);
        if skips {
            self.skipped(name, &"by modest.skip= on the kernel command line");
        }
        skips
    }

    pub(super) fn skipped(&mut self, name: Name, why: &dyn fmt::Display) {
        self.outcome.skipped += 1;
        if self.is_news(Kind::Skipped) {
            self.log.line(Level::Info, format_args!("{name}: skipped, {why}"));
        }
    }

    /// Opens a file that is where [`crate::manifest::Line::Confine`] lets it be; EXDEV for another.
    pub(super) fn open_beneath(&mut self, file: &CStr) -> Result<K::File, Errno> {
        let SearchRoot::Given(root) = &self.root else { return Err(Errno::EXDEV) };
        let path = file.to_bytes_with_nul().strip_prefix(root.as_bytes()).ok_or(Errno::EXDEV)?;
        // Of `/` the slash itself is the prefix.
        let path = match path.strip_prefix(b"/") {
            Some(path) => path,
            None if root.as_bytes().ends_with(b"/") => path,
            None => return Err(Errno::EXDEV),
        };
        let path = CStr::from_bytes_with_nul(path).map_err(|_| Errno::EINVAL)?;
        if self.folder.is_none() {
            self.folder = Some(self.kernel.open(root)?);
        }
        let folder = self.folder.as_ref().ok_or(Errno::ENOENT)?;
        self.kernel.open_beneath(folder, path)
    }
}

/// What follows the report of a failure that is ignored.
pub(super) fn optional(optional: bool) -> &'static str {
    if optional { " (optional)" } else { "" }
}
