//! The loop: each line of the manifest in turn, each entry to its jobs, each failure to the policy.
//!
//! [`job`] loads one module file. [`names`] turns names, aliases and devices into jobs; a build that takes only paths has
//! `paths.rs` in its place.

use core::ffi::CStr;
use core::fmt;

use crate::Path;
use crate::cmdline::Cmdline;
use crate::errno::Errno;
use crate::explain::{self, KernelLog};
use crate::kernel::lines::{LineError, Lines};
use crate::kernel::{FileKind, Kernel, machine};
use crate::limits::{CMDLINE_CONFIG_BYTES, LINE_BYTES, LOW_MACHINE_BYTES, PATH_BYTES};
use crate::load::Abilities;
use crate::manifest::{Entry, Line, OnError};
use crate::name::{self, Name};
use crate::report::{Level, Log, shown};
use crate::resolve::{self, ResolveError, SearchRoot};

mod job;
#[cfg(feature = "names")]
mod names;
#[cfg(not(feature = "names"))]
#[path = "paths.rs"]
mod names;

use job::{Done, Job};
use names::Names;

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

/// Memory that [`run`] needs, not all of which is touched.
pub const RUN_BYTES: usize = LINE_BYTES + CMDLINE_CONFIG_BYTES;

/// Carries out the manifest, with `buf`, of [`RUN_BYTES`], for its lines and what the kernel command line says of modules.
pub fn run<K: Kernel, L: Log>(kernel: &K, log: &mut L, options: &Options, buf: &mut [u8]) -> Outcome {
    let manifest = shown(options.manifest);
    let file = match open_manifest(kernel, log, options.manifest) {
        Some(file) => file,
        None => return Outcome { failed: 1, stopped: true, ..Outcome::default() },
    };
    let (buf, config_buf) = buf.split_at_mut(LINE_BYTES.min(buf.len()));
    // Looked at once, so that nothing more is on the way of each module.
    let has_words = options.cmdline.is_about_modules();
    let names = Names::new(log, options.cmdline, config_buf, has_words);
    let mut run = Run {
        kernel,
        log,
        options,
        abilities: Abilities::default(),
        budget_bytes: options.budget_bytes,
        in_child: options.is_init && machine::available_bytes(kernel).is_some_and(|bytes| bytes < LOW_MACHINE_BYTES),
        root: SearchRoot::default(),
        is_confined: false,
        folder: None,
        has_words,
        has_begun: !has_words,
        names,
        unlinks: false,
        klog: KernelLog::default(),
        has_left: false,
        outcome: Outcome::default(),
    };
    let mut lines = Lines::new(kernel, file, buf);
    while !run.outcome.stopped {
        let Some((number, line)) = lines.next_line() else { break };
        let at = At { manifest, number };
        match line.map(Line::parse) {
            Ok(Ok(line)) => run.line(at, line),
            Ok(Err(e)) => run.fails_at(at, format_args!("{}: {}", e.column, e.problem)),
            Err(LineError::TooLong) => run
                .fails_at(at, format_args!("{LINE_BYTES}: line too long; expected less than LINE_BYTES, {LINE_BYTES}")),
            Err(LineError::Read(errno)) => run.fails_at(at, format_args!("1: {errno}: the file cannot be read on")),
        }
    }
    run.end();
    run.outcome
}

/// Opens the manifest; reports why it cannot be used.
fn open_manifest<K: Kernel, L: Log>(kernel: &K, log: &mut L, path: &CStr) -> Option<K::File> {
    let manifest = shown(path);
    let file = match kernel.open(path) {
        Ok(file) => file,
        Err(errno) => {
            log.line(Level::Error, format_args!("{manifest}: {errno}: {}", explain::of_open(errno)));
            return None;
        }
    };
    // Of a device there might be no end, and what a FIFO will have is not there yet.
    if kernel.stat(&file).is_ok_and(|stat| stat.kind != FileKind::Regular) {
        log.line(Level::Error, format_args!("{manifest}: it is a directory, device, FIFO or socket; expected a file"));
        return None;
    }
    Some(file)
}

/// A line of the manifest, for messages; line 0 is none.
#[derive(Clone, Copy)]
struct At<'a> {
    manifest: &'a str,
    number: usize,
}

/// Where a name comes from that is in no manifest.
const CMDLINE: At = At { manifest: "the kernel command line", number: 0 };

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => f.write_str(self.manifest),
            number => write!(f, "{}:{number}", self.manifest),
        }
    }
}

struct Run<'r, 'o, K: Kernel, L> {
    kernel: &'r K,
    log: &'r mut L,
    options: &'r Options<'o>,
    abilities: Abilities,
    budget_bytes: Option<u64>,
    in_child: bool,
    root: SearchRoot,
    /// Whether no file outside of the root is loaded.
    is_confined: bool,
    /// The root, opened the first time that this matters.
    folder: Option<K::File>,
    /// Whether the kernel command line has words about modules.
    has_words: bool,
    /// Whether what the kernel command line asks to be loaded first is.
    has_begun: bool,
    names: Names<'r, K>,
    /// Whether loaded files are deleted.
    unlinks: bool,
    /// For failures.
    klog: KernelLog<K>,
    /// Whether the kernel is still busy with a module that was left behind.
    has_left: bool,
    outcome: Outcome,
}

impl<K: Kernel, L: Log> Run<'_, '_, K, L> {
    fn line(&mut self, at: At, line: Line) {
        let keep = |text: &str| crate::path(&[text.as_bytes()]);
        let kept = match line {
            Line::Empty => return,
            Line::Entry(entry) => return self.entry(at, &entry),
            Line::Coldplug(buses) => return self.coldplug(at, buses),
            Line::Wait(wait) => return self.wait(at, &wait),
            Line::Confine => return self.is_confined = true,
            // What the command line says is not for the manifest to change.
            Line::Budget(bytes) => return self.budget_bytes = self.options.budget_bytes.or(Some(bytes)),
            Line::Unlink => return self.unlinks = true,
            Line::SwitchRoot => return self.outcome.hand_over = Some(HandOver::SwitchRoot),
            Line::Root(path) => keep(path).map(|path| {
                self.root = SearchRoot::Given(path);
                self.folder = None;
                self.names.forget_tree();
            }),
            Line::Exec(path) => keep(path).map(|path| self.outcome.hand_over = Some(HandOver::Exec(path))),
            Line::OnError(policy) => {
                let kept = match policy {
                    OnError::Continue => Some(Policy::Continue),
                    OnError::Stop => Some(Policy::Stop),
                    OnError::Reboot => Some(Policy::Reboot),
                    OnError::Exec(path) => keep(path).map(Policy::Exec),
                };
                kept.map(|kept| {
                    self.outcome.policy = kept;
                    (self.options.on_policy)(&policy);
                })
            }
        };
        if kept.is_none() {
            self.fails_at(at, format_args!("1: path too long; expected less than PATH_BYTES, {PATH_BYTES}"));
        }
    }

    /// Reports something of a module.
    fn report(&mut self, level: Level, name: Name, what: &dyn fmt::Display) {
        self.log.line(level, format_args!("{name}: {what}"));
    }

    /// Reports a failure of the manifest itself.
    fn fails_at(&mut self, at: At, text: fmt::Arguments) {
        self.log.line(Level::Error, format_args!("{at}:{text}"));
        self.fails(false);
    }

    /// Applies the policy to a failure that was reported.
    fn fails(&mut self, optional: bool) {
        if optional {
            return;
        }
        self.outcome.failed += 1;
        // A dry run shows every failure there would be.
        self.outcome.stopped = !matches!(self.outcome.policy, Policy::Continue) && !self.options.dry_run;
    }

    fn entry(&mut self, at: At, entry: &Entry) {
        self.begin();
        let name = name::of(entry.module);
        if self.outcome.stopped || !self.has_device(at, entry) || self.skips(name) {
            return;
        }
        match resolve::folder_of(self.kernel, &self.root, entry.module) {
            Ok(Some(folder)) => self.entry_by_file(entry, &folder, entry.module),
            Ok(None) => self.entry_by_name(at, entry),
            Err(error) => self.unresolved(at, entry, error),
        }
    }

    /// Loads one file of which nothing else is known.
    fn entry_by_file(&mut self, entry: &Entry, folder: &Path, file: &str) {
        let name = name::of(file);
        let Some(known) = self.known_by_file(name) else { return };
        let job = Job { folder, file, entry: *entry, known, may_be_live: false, may_be_absent: false };
        if self.load(&job) == Done::Failed {
            self.fails(entry.optional);
        }
    }

    /// Reports an entry that no file is known for.
    fn unresolved(&mut self, at: At, entry: &Entry, error: ResolveError) {
        let (name, optional) = (name::of(entry.module), optional(entry.optional));
        self.log.line(Level::Error, format_args!("{name}: {error}, {at}{optional}"));
        self.fails(entry.optional);
    }

    /// Whether the command line says to leave the module out.
    fn skips(&mut self, name: Name) -> bool {
        let skips = self.has_words && self.options.cmdline.lists("modest.skip", name);
        if skips {
            self.skipped(name, &"by modest.skip= on the kernel command line");
        }
        skips
    }

    fn skipped(&mut self, name: Name, why: &dyn fmt::Display) {
        self.outcome.skipped += 1;
        self.log.line(Level::Info, format_args!("{name}: skipped, {why}"));
    }

    /// Loads what the kernel command line asks to be there before all others, the first time that something is to be loaded.
    fn begin(&mut self) {
        if !core::mem::replace(&mut self.has_begun, true) {
            self.listed("rd.driver.pre", false);
        }
    }

    /// Loads what the kernel command line asks for beside the manifest.
    fn end(&mut self) {
        if self.outcome.stopped || !self.has_words {
            return;
        }
        self.begin();
        self.listed("rd.modules-load", false);
        // Meant for the root's own init too, which may have modules that are not here.
        self.listed("modules-load", true);
    }

    fn listed(&mut self, list: &'static str, optional: bool) {
        let cmdline = self.options.cmdline;
        cmdline.each_listed(list, &mut |module| {
            if !self.outcome.stopped {
                self.entry(CMDLINE, &Entry { optional, ..Entry::new(module) });
            }
        });
    }

    /// Opens a file that is where [`Line::Confine`] lets it be; EXDEV for another.
    fn open_beneath(&mut self, file: &CStr) -> Result<K::File, Errno> {
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
fn optional(optional: bool) -> &'static str {
    if optional { " (optional)" } else { "" }
}

#[cfg(test)]
pub(crate) mod tests;
