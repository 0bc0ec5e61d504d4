//! The loop: each line of the manifest in turn, each entry to its jobs, each failure to the policy.
//!
//! `job` loads one module file. `names` turns names, aliases and devices into jobs; a build that takes only paths has
//! `paths/` in its place. What all of them share is in `state`.

use core::ffi::CStr;

use crate::explain::{self, KernelLog};
use crate::kernel::lines::{LineError, Lines};
use crate::kernel::{FileKind, Kernel};
use crate::limits::{CMDLINE_CONFIG_BYTES, LINE_BYTES, PATH_BYTES};
use crate::load::Abilities;
use crate::manifest::{Entry, Line, OnError};
use crate::name;
use crate::path::{self, Path};
use crate::report::{Level, Log, shown};
use crate::resolve::{self, SearchRoot};

mod done;
mod job;
#[cfg(feature = "names")]
mod names;
#[cfg(not(feature = "names"))]
#[path = "paths/mod.rs"]
mod names;
mod repeats;
mod state;

pub use state::{HandOver, Options, Outcome, Policy};

use done::Done;
use job::Job;
use names::state::Names;
use repeats::Repeats;
use state::{At, CMDLINE, Run};

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
        has_lines: false,
        repeats: Repeats::default(),
        abilities: Abilities::default(),
        budget_bytes: options.budget_bytes,
        root: SearchRoot::default(),
        is_confined: false,
        folder: None,
        has_words,
        has_skips: options.cmdline.has_list("modest.skip"),
        has_begun: !has_words,
        names,
        unlinks: false,
        klog: KernelLog::default(),
        has_left: false,
        asks_first: !options.is_init,
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
            Err(LineError::Read(errno)) => {
                run.fails_at(at, format_args!("1: {errno}: the file cannot be read any further"))
            }
        }
    }
    run.end();
    run.repeats.report(run.log);
    run.outcome
}

/// Hands the file of each module of the running kernel's tree that exports `symbol` to `each`: what a
/// [`FailedLoad`](crate::explain::FailedLoad) without a run asks.
pub fn exporters<K: Kernel>(kernel: &K, symbol: &str, each: &mut dyn FnMut(&str)) {
    names::state::exporters_below(kernel, &SearchRoot::Running, symbol, each);
}

/// Whether `@sealed` is the first line of a manifest that is not empty; its lines are read with `buf`.
pub fn begins_sealed<K: Kernel>(kernel: &K, manifest: &CStr, buf: &mut [u8]) -> bool {
    let Ok(file) = kernel.open(manifest) else { return false };
    if !kernel.stat(&file).is_ok_and(|stat| stat.kind == FileKind::Regular) {
        return false;
    }
    let mut lines = Lines::new(kernel, file, buf);
    while let Some((_, line)) = lines.next_line() {
        match line.map(Line::parse) {
            Ok(Ok(Line::Empty)) => {}
            line => return matches!(line, Ok(Ok(Line::Sealed))),
        }
    }
    false
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

impl<K: Kernel, L: Log> Run<'_, '_, K, L> {
    fn line(&mut self, at: At, line: Line) {
        let is_first = !self.has_lines;
        self.has_lines |= !matches!(line, Line::Empty);
        let keep = |text: &str| path::joined(&[text.as_bytes()]);
        let kept = match line {
            Line::Empty => return,
            Line::Sealed if !is_first => {
                return self.fails_at(at, format_args!("1: @sealed after another line; expected it before all others"));
            }
            Line::Sealed => return self.seal(at),
            Line::Entry(entry) => return self.entry(at, &entry),
            Line::Coldplug(buses) => return self.coldplug(at, buses),
            Line::Wait(wait) => return self.wait(at, &wait),
            Line::Confine => return self.is_confined = true,
            // What the command line says is not for the manifest to change.
            Line::Budget(bytes) => {
                let of_cmdline = self.options.budget_bytes.filter(|_| !self.outcome.is_sealed);
                return self.budget_bytes = of_cmdline.or(Some(bytes));
            }
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

    /// From the first line on, heeds no word of the kernel command line. (Those for the root are for others.)
    fn seal(&mut self, at: At) {
        self.options.cmdline.each_ignored(&mut |word| {
            self.log.line(Level::Info, format_args!("{at}: @sealed: ignored on the kernel command line: {word}"));
        });
        (self.has_words, self.has_skips, self.has_begun, self.budget_bytes) = (false, false, true, None);
        self.names.seal();
        self.outcome.is_sealed = true;
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
        let job = Job { folder, file, entry: *entry, known, is_needed: false, may_be_absent: false };
        if self.load(&job) == Done::Failed {
            self.fails(entry.optional);
        }
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
        // Alpine's word.
        self.listed("modules", true);
    }

    fn listed(&mut self, list: &'static str, optional: bool) {
        let cmdline = self.options.cmdline;
        cmdline.each_listed(list, &mut |module| {
            if !self.outcome.stopped {
                self.entry(CMDLINE, &Entry { optional, ..Entry::new(module) });
            }
        });
    }
}

#[cfg(test)]
pub(crate) mod tests;
