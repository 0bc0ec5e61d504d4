//! The one loop: each line of the manifest in turn, each module of each entry, each failure to the policy.

use core::ffi::CStr;
use core::fmt;

use crate::Path;
use crate::cmdline::Cmdline;
use crate::errno::Errno;
use crate::explain::{self, Case, Exporters, KernelLog};
use crate::kernel::lines::{LineError, Lines};
use crate::kernel::machine::{self, is_live};
use crate::kernel::{Caller, FileKind, Kernel};
use crate::limits::{BUSES_BYTES, CMDLINE_CONFIG_BYTES, LINE_BYTES, LOW_MACHINE_BYTES, PATH_BYTES, PLUG_TRIED};
use crate::load::{self, Abilities, Failure, Loaded, Request};
use crate::load_path::LoadPath;
use crate::manifest::{Entry, Line, OnError, Times};
use crate::name::{self, Name};
use crate::pin::Pin;
use crate::report::{Level, Log, Size, shown};
use crate::resolve::config::Config;
use crate::resolve::plan::Module;
use crate::resolve::{self, ResolveError, Root, Tree};

mod names;
mod time;

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

/// Whether there is an index to name the modules that export a symbol by.
const EXPLAINS: bool = cfg!(all(feature = "explain", feature = "names"));

/// Memory that [`run`] needs, not all of which is touched.
pub const RUN_BYTES: usize = LINE_BYTES + CMDLINE_CONFIG_BYTES;

/// Carries out the manifest, with `buf`, of [`RUN_BYTES`], for its lines and what the kernel command line says of modules.
pub fn run<K: Kernel, L: Log>(kernel: &K, log: &mut L, options: &Options, buf: &mut [u8]) -> Outcome {
    let manifest = shown(options.manifest);
    let file = match kernel.open(options.manifest) {
        Ok(file) => file,
        Err(errno) => {
            log.line(Level::Error, format_args!("{manifest}: {errno}: {}", explain::of_open(errno)));
            return Outcome { failed: 1, stopped: true, ..Outcome::default() };
        }
    };
    // Of a device there might be no end, and what a FIFO will have is not there yet.
    if cfg!(feature = "names") && kernel.stat(&file).is_ok_and(|stat| stat.kind != FileKind::Regular) {
        log.line(Level::Error, format_args!("{manifest}: it is a directory, device, FIFO or socket; expected a file"));
        return Outcome { failed: 1, stopped: true, ..Outcome::default() };
    }
    let (buf, config_buf) = buf.split_at_mut(LINE_BYTES.min(buf.len()));
    // Looked at once, so that nothing more is on the way of each module.
    let has_words = cfg!(feature = "names") && options.cmdline.is_about_modules();
    let config = if has_words { names::config(log, options.cmdline, config_buf) } else { "" };
    let mut run = Run {
        kernel,
        log,
        options,
        abilities: Abilities::default(),
        budget_bytes: options.budget_bytes,
        in_child: options.is_init && machine::available_bytes(kernel).is_some_and(|bytes| bytes < LOW_MACHINE_BYTES),
        root: Root::default(),
        tree: None,
        is_confined: false,
        folder: None,
        has_words,
        config,
        has_begun: false,
        buses: None,
        tried: heapless::Vec::new(),
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
    if has_words && !run.outcome.stopped {
        run.end();
    }
    if cfg!(feature = "names") && run.tree.is_some() {
        run.tree = None;
    }
    // To drop what is not there would be a call to where all else is for names.
    let Run { outcome, tree, klog, .. } = run;
    core::mem::forget(tree);
    core::mem::forget(klog);
    outcome
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
            0 if cfg!(feature = "names") => f.write_str(self.manifest),
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
    root: Root,
    /// The tree of `root`, once a name was looked up.
    tree: Option<Tree<K>>,
    /// Whether no file outside of the root is loaded.
    is_confined: bool,
    /// The root, opened the first time that this matters.
    folder: Option<K::File>,
    /// Whether the kernel command line has words about modules.
    has_words: bool,
    /// What the kernel command line says of modules, as [`Config`] has it.
    config: &'r str,
    /// Whether what the kernel command line asks to be loaded first is.
    has_begun: bool,
    /// The buses of all `@coldplug` so far, if there was one.
    buses: Option<heapless::String<BUSES_BYTES>>,
    /// What became of each module that a device asked for, by what is kept of its name.
    tried: heapless::Vec<(u32, Done), PLUG_TRIED>,
    /// Whether loaded files are deleted.
    unlinks: bool,
    /// For failures.
    klog: KernelLog<K>,
    /// Whether the kernel is still busy with a module that was left behind.
    has_left: bool,
    outcome: Outcome,
}

/// A module's parameters.
#[derive(Clone, Copy)]
struct Params<'a> {
    module: Module<'a>,
    config: Config<'a>,
    /// Those of its entry.
    entry: &'a str,
}

impl Params<'_> {
    /// Their parts. What comes later counts: the files of modprobe.d, then the manifest, and the last word has whoever boots.
    fn each(self, visit: &mut dyn FnMut(&str)) {
        let Params { module, config: Config { files, cmdline }, entry } = self;
        if !cfg!(feature = "names") || files.is_empty() && cmdline.is_empty() {
            return visit(entry);
        }
        module.options(Config { files, cmdline: "" }).for_each(&mut *visit);
        visit(entry);
        module.options(Config { files: "", cmdline }).for_each(visit);
    }
}

/// One module file to load.
struct Step<'a, K: Kernel> {
    folder: &'a Path,
    file: &'a str,
    params: Params<'a>,
    path: Option<LoadPath>,
    size_bytes: Option<u64>,
    times: Times,
    sha256: Option<Pin<'a>>,
    /// The tree that the file is of, if that is open.
    tree: Option<&'a Tree<K>>,
    /// Whether its failure is told but is none.
    optional: bool,
    /// Whether it is no surprise if the module is there already: asking is cheaper than loading it again.
    may_be_live: bool,
    /// Whether it is no surprise if the file is not there.
    may_be_absent: bool,
}

/// What became of a module.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    /// It is there.
    Yes,
    /// It is left out, as somebody asked for.
    Skipped,
    Failed,
}

impl<K: Kernel, L: Log> Run<'_, '_, K, L> {
    // Out of line, as are the steps below: beside the buffers of another, each takes more code for its own variables.
    #[inline(never)]
    fn line(&mut self, at: At, line: Line) {
        let keep = |text: &str| crate::path(&[text.as_bytes()]);
        let kept = match line {
            Line::Empty => return,
            Line::Entry(entry) => return self.entry(at, &entry),
            Line::Coldplug(buses) if cfg!(feature = "names") => return self.coldplug(at, buses),
            Line::Wait(wait) if cfg!(feature = "names") => return self.wait(at, &wait),
            Line::Confine => return self.is_confined = true,
            // The parser makes none.
            Line::Coldplug(_) | Line::Wait(_) => return,
            // What the command line says is not for the manifest to change.
            Line::Budget(bytes) => return self.budget_bytes = self.options.budget_bytes.or(Some(bytes)),
            Line::Unlink => return self.unlinks = true,
            Line::SwitchRoot => return self.outcome.hand_over = Some(HandOver::SwitchRoot),
            Line::Root(path) => keep(path).map(|path| {
                self.root = Root::Given(path);
                if cfg!(feature = "names") {
                    // To drop what is not there would be a call, here as at the end.
                    if self.tree.is_some() {
                        self.tree = None;
                    }
                    self.folder = None;
                }
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

    /// Tells something of a module.
    fn tell(&mut self, level: Level, name: Name, what: &dyn fmt::Display) {
        self.log.line(level, format_args!("{name}: {what}"));
    }

    /// Tells of a failure of the manifest itself.
    fn fails_at(&mut self, at: At, text: fmt::Arguments) {
        self.log.line(Level::Error, format_args!("{at}:{text}"));
        self.fails(false);
    }

    /// Applies the policy to a failure that was told.
    fn fails(&mut self, optional: bool) {
        if optional {
            return;
        }
        self.outcome.failed += 1;
        // A dry run shows every failure there would be.
        self.outcome.stopped = !matches!(self.outcome.policy, Policy::Continue) && !self.options.dry_run;
    }

    #[inline(never)]
    fn entry(&mut self, at: At, entry: &Entry) {
        let name = name::of(entry.module);
        if cfg!(feature = "names") {
            if self.has_words && !self.has_begun {
                self.begin();
                if self.outcome.stopped {
                    return;
                }
            }
            if let Some(alias) = entry.device
                && !self.has_device(name, alias, entry.optional)
            {
                return;
            }
        }
        if self.skips(name) {
            return;
        }
        let mut folder = Path::new();
        match resolve::path(self.kernel, &self.root, entry.module, &mut folder) {
            Ok(true) => self.entry_by_file(entry, &folder, entry.module),
            Ok(false) if cfg!(feature = "names") => self.entry_by_name(at, entry, &mut folder),
            Ok(false) => self.unresolved(at, entry, ResolveError::Name),
            Err(error) => self.unresolved(at, entry, error),
        }
    }

    /// Loads one file of which nothing else is known.
    fn entry_by_file(&mut self, entry: &Entry, folder: &Path, file: &str) {
        let name = name::of(file);
        let config = Config { files: "", cmdline: self.config };
        if cfg!(feature = "names") && !config.cmdline.is_empty() && self.is_blacklisted(name, config) {
            return;
        }
        let params = Params { module: Module::named(name.0), config, entry: entry.params };
        let step = Step {
            folder,
            file,
            params,
            path: entry.path,
            size_bytes: entry.size_bytes,
            times: entry.times,
            sha256: entry.sha256,
            tree: None,
            optional: entry.optional,
            may_be_live: false,
            may_be_absent: false,
        };
        if self.step(&step) == Done::Failed {
            self.fails(entry.optional);
        }
    }

    fn unresolved(&mut self, at: At, entry: &Entry, error: ResolveError) {
        let name = name::of(entry.module);
        let optional = if entry.optional { " (optional)" } else { "" };
        self.log.line(Level::Error, format_args!("{name}: {error}, {at}{optional}"));
        self.fails(entry.optional);
    }

    /// Whether the command line says to leave the module out.
    fn skips(&mut self, name: Name) -> bool {
        let skips = (!cfg!(feature = "names") || self.has_words) && self.options.cmdline.lists("modest.skip", name);
        if skips {
            self.skipped(name, &"by modest.skip= on the kernel command line");
        }
        skips
    }

    fn skipped(&mut self, name: Name, why: &dyn fmt::Display) {
        self.outcome.skipped += 1;
        self.log.line(Level::Info, format_args!("{name}: skipped, {why}"));
    }

    /// Loads a file from where it may be.
    fn load_opened(&mut self, request: &Request) -> Result<Loaded, Failure> {
        if self.is_confined {
            return self.load_beneath(request);
        }
        load::load(self.kernel, &mut self.abilities, request)
    }

    /// Loads one file, and tells of it.
    #[inline(never)]
    fn step(&mut self, step: &Step<K>) -> Done {
        let Step { folder, file, .. } = *step;
        let name = name::of(file);
        let path = match resolve::absolute(folder, file) {
            Ok(path) => path,
            Err(error) => return self.fails_early(name, &error, step.optional),
        };
        let region = match joined(self.kernel, &|visit| step.params.each(visit)) {
            Ok(region) => region,
            Err(errno) if cfg!(feature = "names") => {
                return self.fails_early(name, &format_args!("{errno}: no memory for its parameters"), step.optional);
            }
            Err(errno) => return self.fails_early(name, &explain::of_kernel(errno), false),
        };
        let request = Request {
            file: &path,
            params: region.as_ref().and_then(|text| CStr::from_bytes_until_nul(text.as_ref()).ok()).unwrap_or_default(),
            path: step.path,
            size_bytes: step.size_bytes,
            budget_bytes: self.budget_bytes,
            sha256: step.sha256,
            flags: 0,
            measure: self.log.wants(Level::Info),
            caller: match step.times.timeout_ms() {
                Some(ms) => Caller::Within(ms),
                _ if self.in_child => Caller::Child,
                _ => Caller::Itself,
            },
        };
        if self.options.dry_run {
            if self.is_confined
                && let Err(errno) = self.open_beneath(request.file)
            {
                self.tell_failure(step, name, &request, 0, Failure::Open(errno), 1);
                return Done::Failed;
            }
            return self.would_load(step, name, &request);
        }
        if cfg!(feature = "names") && step.may_be_live && is_live(self.kernel, name) {
            self.outcome.present += 1;
            self.tell(Level::Debug, name, &"already loaded");
            return Done::Yes;
        }
        if self.has_left && self.is_left(step, name, &request) {
            return Done::Failed;
        }
        let start_us = if request.measure { self.kernel.now_us() } else { 0 };
        let result = self.load_opened(&request);
        let (result, tries) = match result {
            Err(failure) if step.times != Times::default() => self.again(step, name, &request, start_us, failure),
            result => (result, 1),
        };
        match result {
            Ok(loaded) => {
                self.outcome.loaded += 1;
                if request.measure {
                    let us = self.kernel.now_us() - start_us;
                    let (size, path) = (Size(loaded.file_bytes), loaded.path);
                    if tries > 1 {
                        let what = format_args!("{name}: loaded by {path}, {size}, {us} us, {tries} tries");
                        self.log.line(Level::Info, what);
                    } else {
                        self.log.line(Level::Info, format_args!("{name}: loaded by {path}, {size}, {us} us"));
                    }
                }
                self.tell_memory(name, loaded.user_bytes);
                #[cfg(feature = "explain")]
                if !request.params.is_empty() {
                    self.tell_ignored(name, &request);
                }
                self.unlink(request.file);
                Done::Yes
            }
            Err(Failure::Kernel(Errno::EEXIST)) if is_live(self.kernel, name) => {
                self.unlink(request.file);
                self.outcome.present += 1;
                self.tell(Level::Info, name, &"already loaded");
                Done::Yes
            }
            // What the person at the boot prompt asked for is no failure.
            Err(Failure::Kernel(Errno::EPERM))
                if cfg!(feature = "names")
                    && self.has_words
                    && self.options.cmdline.lists("module_blacklist", name) =>
            {
                self.skipped(name, &"by module_blacklist= on the kernel command line");
                Done::Skipped
            }
            Err(failure) => {
                let is_absent = step.may_be_absent && failure == Failure::Open(Errno::ENOENT);
                if !(cfg!(feature = "names") && is_absent) || self.log.wants(Level::Debug) {
                    self.tell_failure(step, name, &request, start_us, failure, tries);
                }
                if failure.is_left() {
                    // The call that goes on may read them.
                    core::mem::forget(region);
                }
                Done::Failed
            }
        }
    }

    /// Tells why a module's turn does not come.
    fn fails_early(&mut self, name: Name, why: &dyn fmt::Display, optional: bool) -> Done {
        if cfg!(feature = "names") && optional {
            self.tell(Level::Error, name, &format_args!("{why} (optional)"));
        } else {
            self.tell(Level::Error, name, why);
        }
        Done::Failed
    }

    /// Deletes the file of a module that is loaded, if it is to be and holds memory.
    fn unlink(&mut self, file: &CStr) {
        if self.unlinks {
            match self.kernel.unlink_from_memory(file) {
                Ok(()) | Err(Errno::EXDEV) => {}
                Err(errno) => self.log.line(Level::Error, format_args!("@unlink {}: {errno}", shown(file))),
            }
        }
    }

    /// Compares what a load was expected to take with the most that this process ever took.
    fn tell_memory(&mut self, name: Name, predicted_bytes: u64) {
        if self.log.wants(Level::Debug)
            && let Some((peak, _)) = machine::own_kib(self.kernel)
        {
            let predicted = predicted_bytes.div_ceil(1024);
            self.log.line(Level::Debug, format_args!("{name}: memory: predicted {predicted} KiB, peak {peak} KiB"));
        }
    }

    fn would_load(&mut self, step: &Step<K>, name: Name, request: &Request) -> Done {
        match load::prepare(self.kernel, &mut self.abilities, request) {
            Ok((path, format)) => {
                self.outcome.loaded += 1;
                self.tell_choice(name, path, format.name(), request);
                Done::Yes
            }
            Err(failure) => {
                self.tell_failure(step, name, request, 0, failure, 1);
                Done::Failed
            }
        }
    }

    fn tell_choice(&mut self, name: Name, path: LoadPath, format: &str, request: &Request) {
        let file = shown(request.file);
        let params = shown(request.params);
        let space = if params.is_empty() { "" } else { " " };
        self.log.line(Level::Info, format_args!("{name}: would load by {path}, {format}: {file}{space}{params}"));
    }

    #[inline(never)]
    fn tell_failure(
        &mut self, step: &Step<K>, name: Name, request: &Request, since_us: u64, failure: Failure, tries: u32,
    ) {
        let optional = if step.optional { " (optional)" } else { "" };
        let budget_bytes = self.budget_bytes;
        let (kernel, root, klog, log) = (self.kernel, &self.root, &self.klog, &mut *self.log);
        let file = shown(request.file);
        let exporters =
            |symbol: &str, each: &mut dyn FnMut(&str)| names::exporters(kernel, root, step.tree, symbol, each);
        let exporters: &Exporters = if EXPLAINS { &exporters } else { &explain::no_exporters };
        let case = Case { file: request.file, failure, since_us, budget_bytes, exporters, log: klog };
        explain::explain(kernel, &case, &mut |cause| {
            if tries > 1 {
                log.line(Level::Error, format_args!("{name}: {cause}, {tries} tries, {file}{optional}"));
            } else {
                log.line(Level::Error, format_args!("{name}: {cause}, {file}{optional}"));
            }
        });
    }

    /// Tells of parameters that the module which was loaded with them does not have.
    #[cfg(feature = "explain")]
    #[inline(never)]
    fn tell_ignored(&mut self, name: Name, request: &Request) {
        let budget_bytes = self.budget_bytes;
        let (kernel, log, file, params) = (self.kernel, &mut *self.log, shown(request.file), shown(request.params));
        explain::tell_ignored_params(kernel, request.file, budget_bytes, name, params, &mut |text| {
            log.line(Level::Error, format_args!("{name}: {text}, {file}"));
        });
    }
}

/// Hands each part of a text to a visitor.
type Parts<'a> = dyn Fn(&mut dyn FnMut(&str)) + 'a;

/// Parameters in memory of their own, with spaces between and a NUL behind, which the parsers let through in none; `None`
/// where there are none.
fn joined<K: Kernel>(kernel: &K, each: &Parts) -> Result<Option<K::Region>, Errno> {
    let mut len = 0;
    each(&mut |text| len += if text.is_empty() { 0 } else { text.len() + 1 });
    if len == 0 {
        // Most modules have none, and most of a buffer on the stack would be memory for nothing.
        return Ok(None);
    }
    let mut region = kernel.allocate(len)?;
    let mut to = region.as_mut().iter_mut();
    each(&mut |text| {
        text.bytes().zip(to.by_ref()).for_each(|(byte, to)| *to = byte);
        if !text.is_empty()
            && let Some(to) = to.next()
        {
            *to = b' ';
        }
    });
    // Behind the last is no space.
    if let Some(last) = region.as_mut().last_mut() {
        *last = 0;
    }
    Ok(Some(region))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernel::CallError;
    use crate::kernel::fake::Fake;
    use std::cell::RefCell;

    #[derive(Default)]
    pub struct Lines(pub Vec<String>);

    impl Log for Lines {
        fn wants(&self, _: Level) -> bool {
            true
        }
        fn line(&mut self, level: Level, text: fmt::Arguments<'_>) {
            self.0.push(format!("{level:?} {text}"));
        }
    }

    fn tree(manifest: &str) -> Fake {
        Fake::default()
            .with_file("/m", manifest.as_bytes())
            .with_file("/t/modules.dep", b"a.ko: b.ko\nb.ko:\nc.ko: b.ko\n")
            .with_file("/t/a.ko", b"")
            .with_file("/t/b.ko", b"")
            .with_file("/t/c.ko", b"")
    }

    fn run_on(fake: &Fake, dry_run: bool) -> (Outcome, Vec<String>) {
        let mut log = Lines::default();
        let (cmdline, on_policy) = (Cmdline::default(), |_: &OnError| {});
        let options =
            Options { manifest: c"/m", cmdline, budget_bytes: None, is_init: false, dry_run, on_policy: &on_policy };
        let outcome = run(fake, &mut log, &options, &mut [0; RUN_BYTES]);
        (outcome, log.0)
    }

    #[cfg(feature = "names")]
    fn counts(outcome: &Outcome) -> (usize, usize, usize, bool) {
        (outcome.loaded, outcome.present, outcome.failed, outcome.stopped)
    }

    #[test]
    #[cfg(feature = "names")]
    fn entries_are_loaded_in_order_with_their_dependencies() {
        let fake = tree("@root /t\na x=1 y=\"2 3\"\n/t/c.ko\n@switch-root\n");
        let (outcome, lines) = run_on(&fake, false);
        assert_eq!(counts(&outcome), (3, 0, 0, false));
        assert!(matches!(outcome.hand_over, Some(HandOver::SwitchRoot)));
        assert_eq!(lines[1], "Info a: loaded by finit, 0 B, 10 us");
        let calls = fake.calls.take();
        let loads: Vec<_> = calls.iter().filter(|c| c.starts_with("finit")).collect();
        assert_eq!(loads, ["finit /t/b.ko \"\" 0", "finit /t/a.ko \"x=1 y=\\\"2 3\\\"\" 0", "finit /t/c.ko \"\" 0"]);
    }

    #[test]
    fn loaded_files_are_deleted_from_there_on() {
        let fake = tree("/t/b.ko\n@unlink\n/t/a.ko\n/t/c.ko\n").answering(&[Ok(()), Ok(()), Err(Errno::ENODEV)]);
        run_on(&fake, false);
        let calls = fake.calls.take();
        assert_eq!(calls.iter().filter(|call| call.starts_with("unlink")).collect::<Vec<_>>(), ["unlink /t/a.ko"]);
    }

    #[test]
    #[cfg(feature = "names")]
    fn what_is_loaded_already_is_success() {
        let fake = tree("@root /t\na\n")
            .with_file("/sys/module/b/initstate", b"live\n")
            .with_file("/sys/module/a/initstate", b"live\n")
            .answering(&[Err(Errno::EEXIST)]);
        let (outcome, lines) = run_on(&fake, false);
        assert_eq!(counts(&outcome), (0, 2, 0, false));
        assert_eq!(lines, ["Debug b: already loaded", "Info a: already loaded"]);
        // Its init said EEXIST: nothing of that name is there.
        let fake = tree("/t/c.ko\n").answering(&[Err(Errno::EEXIST)]);
        let (outcome, lines) = run_on(&fake, false);
        assert_eq!(counts(&outcome), (0, 0, 1, false));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("Error c: EEXIST: its init says that something exists already, "), "{lines:?}");
    }

    #[test]
    #[cfg(feature = "names")]
    fn a_bad_line_is_told_and_the_policy_applies() {
        let (outcome, lines) = run_on(&tree("@root /t\n\nb @optionl\nb\n"), false);
        assert_eq!(counts(&outcome), (1, 0, 1, false));
        let expected = "@optional, @if=, @timeout=, @retry=, @size=, @sha256= or @path=";
        assert_eq!(lines[0], format!("Error /m:3:3: unknown attribute @optionl; expected {expected}"));
        let (outcome, _) = run_on(&tree("@root /t\n@on-error stop\nb @optionl\nb\n"), false);
        assert_eq!(counts(&outcome), (0, 0, 1, true));
        let long = format!("@root /t\n{}\nb\n", "x".repeat(LINE_BYTES));
        let (outcome, lines) = run_on(&tree(&long), false);
        assert_eq!(counts(&outcome), (1, 0, 1, false));
        assert_eq!(lines[0], "Error /m:2:4096: line too long; expected less than LINE_BYTES, 4096");
        let (outcome, lines) = run_on(&tree(&format!("@exec /{}\n", "x".repeat(PATH_BYTES))), false);
        assert_eq!((outcome.failed, outcome.hand_over.is_none()), (1, true));
        assert_eq!(lines, ["Error /m:1:1: path too long; expected less than PATH_BYTES, 512"]);
        let (outcome, lines) = run_on(&Fake::default(), false);
        assert_eq!(counts(&outcome), (0, 0, 1, true));
        assert_eq!(lines, ["Error /m: ENOENT: no such file"]);
    }

    #[test]
    #[cfg(feature = "names")]
    fn a_failed_dependency_spares_its_module() {
        let fake = tree("@root /t\na\nc @optional\n/t/none.ko @optional\n")
            .answering(&[Err(Errno::ENODEV), Err(Errno::ENODEV)]);
        let (outcome, lines) = run_on(&fake, false);
        assert_eq!(counts(&outcome), (0, 0, 1, false));
        let b = "Error b: ENODEV: its init found no device that it is for, /t/b.ko";
        assert_eq!(
            lines,
            [
                b.to_string(),
                format!("{b} (optional)"),
                "Error none: ENOENT: no such file, /t/none.ko (optional)".into()
            ]
        );
    }

    #[test]
    #[cfg(feature = "names")]
    fn a_digest_is_of_what_the_entry_names_and_the_rest_goes_on() {
        let (good, bad) = (crate::pin::digest(b"\x7fELF a"), "0".repeat(64));
        let good: String = good.iter().map(|byte| format!("{byte:02x}")).collect();
        let manifest =
            format!("@root /t\na @sha256={good} x=1\nc @sha256={bad}\n/t/a.ko @sha256={bad}\nd @sha256={good}\n");
        let fake = tree(&manifest)
            .with_file("/t/a.ko", b"\x7fELF a")
            .with_file("/t/modules.dep", b"a.ko: b.ko\nb.ko:\nc.ko: b.ko\nd.ko:\n")
            .with_file("/etc/modprobe.d/d.conf", b"install d insmod /t/b.ko\n")
            .with_file("/sys/module/b/initstate", b"live\n");
        let (outcome, lines) = run_on(&fake, false);
        assert_eq!(counts(&outcome), (1, 2, 3, false));
        let lines: Vec<_> = lines.iter().filter(|line| !line.starts_with("Debug ")).collect();
        assert!(lines[0].starts_with("Info a: loaded by "), "{lines:?}");
        let empty = "Error c: ENOEXEC: the file is empty, /t/c.ko";
        let says = format!("its SHA-256 is {}..., @sha256= says {}..., /t/a.ko", &good[..16], &bad[..16]);
        let command = "Error d: @sha256= cannot be checked: install insmod /t/b.ko";
        assert_eq!(lines[1..], [empty, &format!("Error a: {says}"), command]);
        assert_eq!(fake.images.take(), [b"\x7fELF a"]);
        assert!(!fake.calls.take().iter().any(|call| call.starts_with("finit") || call.starts_with("spawn")));
    }

    #[test]
    #[cfg(feature = "names")]
    fn a_path_that_is_too_long_may_be_optional() {
        let fake = tree(&format!("/{}/x.ko @optional\n", "y".repeat(PATH_BYTES)));
        let (outcome, lines) = run_on(&fake, false);
        assert_eq!(
            (outcome.failed, &lines[..]),
            (0, &["Error x: a path is over PATH_BYTES, 512 (optional)".into()][..])
        );
    }

    #[test]
    #[cfg(feature = "names")]
    fn a_dry_run_loads_nothing_and_shows_all() {
        let fake = tree("@root /t\n@on-error stop\nnone\na p=1\n");
        let (outcome, lines) = run_on(&fake, true);
        assert_eq!(counts(&outcome), (2, 0, 1, false));
        assert_eq!(
            lines,
            [
                "Error none: no module and no alias of that name in the tree's indexes, /m:3",
                "Info b: would load by finit, plain: /t/b.ko",
                "Info a: would load by finit, plain: /t/a.ko p=1",
            ]
        );
        assert!(!fake.calls.take().iter().any(|c| c.starts_with("finit")));
    }

    #[test]
    fn where_memory_is_scarce_pid_1_has_a_child_that_can_be_killed() {
        for (available, is_init, in_child) in [("65535", true, true), ("65535", false, false), ("65536", true, false)] {
            let fake =
                tree("/t/a.ko\n").with_file("/proc/meminfo", format!("MemAvailable: {available} kB\n").as_bytes());
            let (cmdline, on_policy) = (Cmdline::default(), |_: &OnError| {});
            let (manifest, dry_run) = (c"/m", false);
            let options = Options { manifest, cmdline, budget_bytes: None, is_init, dry_run, on_policy: &on_policy };
            run(&fake, &mut Lines::default(), &options, &mut [0; RUN_BYTES]);
            let finit = fake.calls.take().into_iter().find(|call| call.starts_with("finit")).unwrap();
            assert_eq!(finit.ends_with("in a child"), in_child, "{finit}");
        }
    }

    #[test]
    fn a_load_has_its_time() {
        const LEFT: CallError = CallError::TimedOut { timeout_ms: 5000, is_left: true };
        const TOLD: &str = "Error a: ETIMEDOUT: its init has not returned within 5 s; left behind, as nothing ends it: until a restart \
            the module can be neither used nor loaded again. Give it more @timeout=, or leave it out, /t/a.ko";
        let manifest = "/t/a.ko @timeout=5s\n/t/a.ko @optional\n/t/b.ko @timeout=5s\n";
        let fake = tree(manifest).then(LEFT).with_file("/sys/module/a/initstate", b"coming\n");
        let (outcome, lines) = run_on(&fake, false);
        assert_eq!((outcome.loaded, outcome.failed), (1, 1));
        assert_eq!(lines[0], TOLD);
        let again = "Error a: EBUSY: it was left behind, and its init has still not returned, /t/a.ko (optional)";
        assert_eq!(lines[1], again);
        let loads = |fake: &Fake| {
            let calls = fake.calls.take().into_iter();
            calls
                .filter(|call| ["finit", "init", "stream"].iter().any(|load| call.starts_with(load)))
                .collect::<Vec<_>>()
        };
        let within = "in a child within 5000 ms";
        assert_eq!(loads(&fake), ["a", "b"].map(|name| format!("finit /t/{name}.ko \"\" 0 {within}")));
        // What came back meanwhile may be loaded, or be there.
        let fake = tree(manifest).then(LEFT).with_file("/sys/module/a/initstate", b"live\n");
        assert_eq!(run_on(&fake, false).0.loaded, 2);
        // Optional, with each path; and the policy.
        for path in ["finit", "stream", "mmap", "buffer"] {
            let fake = tree(&format!("@on-error stop\n/t/x.ko @timeout=5s @optional @path={path} p=1\n/t/b.ko\n"));
            let (outcome, lines) = run_on(&fake.with_file("/t/x.ko", b"image").then(LEFT), false);
            assert_eq!((outcome.loaded, outcome.failed), (1, 0), "{lines:?}");
        }
        let (outcome, lines) = run_on(&tree("@on-error stop\n/t/a.ko @timeout=5s\n/t/b.ko\n").then(LEFT), false);
        assert_eq!((outcome.loaded, outcome.failed, outcome.stopped), (0, 1, true), "{lines:?}");
    }

    #[test]
    fn what_may_pass_is_tried_again_as_often_as_is_said() {
        let loads = |fake: &Fake| fake.calls.take().iter().filter(|call| call.starts_with("finit")).count();
        let on = |attributes: &str, answers: &[Result<(), Errno>]| {
            let fake = tree(&format!("/t/a.ko {attributes}\n")).answering(answers);
            let (outcome, lines) = run_on(&fake, false);
            (outcome.loaded, loads(&fake), lines)
        };
        let (busy, again) = (Err(Errno::EBUSY), Err(Errno::EAGAIN));
        let (loaded, tries, lines) = on("@retry=5", &[busy, again]);
        assert_eq!((loaded, tries), (1, 3), "{lines:?}");
        assert!(lines[0].starts_with("Debug a: try 1: EBUSY: ") && lines[0].ends_with("; again in 50 ms"), "{lines:?}");
        assert!(lines[1].ends_with("; again in 100 ms"), "{lines:?}");
        // The waits are in the time that it took.
        let us: u64 = lines[2].split(' ').rev().nth(3).unwrap().parse().unwrap();
        assert!(lines[2].ends_with(" us, 3 tries") && (150_000..151_000).contains(&us), "{lines:?}");
        let (loaded, tries, lines) = on("@retry=2", &[busy; 9]);
        assert_eq!((loaded, tries), (0, 3), "{lines:?}");
        assert!(lines[2].starts_with("Error a: EBUSY: ") && lines[2].ends_with(", 3 tries, /t/a.ko"), "{lines:?}");
        assert_eq!(on("", &[busy; 2]).1, 1);
        // The waits grow to one second.
        let (_, tries, lines) = on("@retry=60", &[busy; 99]);
        assert_eq!(
            (tries, lines.iter().filter(|line| line.ends_with("; again in 1 s")).count()),
            (61, 55),
            "{lines:?}"
        );
        for (answer, tries) in [
            (Errno::ENODEV, 2),
            (Errno::ENXIO, 2),
            (Errno::ENOENT, 2),
            (Errno::ETIMEDOUT, 2),
            (Errno(517), 2),
            (Errno::EIO, 1),
            (Errno::EINVAL, 1),
            (Errno::EPERM, 1),
            (Errno::ENOMEM, 1),
            (Errno::EEXIST, 1),
        ] {
            assert_eq!(on("@retry=1", &[Err(answer); 2]).1, tries, "{answer}");
        }
        let opens = |path: &str| {
            let fake = tree(&format!("{path} @retry=3\n"));
            run_on(&fake, false);
            fake.calls.take().iter().filter(|call| **call == format!("open {path}")).count()
        };
        assert_eq!(opens("/t/none.ko"), 4);
        // What was ended may be tried again, what goes on may not.
        for (is_left, tries) in [(false, 2), (true, 1)] {
            let error = CallError::TimedOut { timeout_ms: 1500, is_left };
            let fake = tree("/t/a.ko @retry=1 @timeout=1500ms\n").then(error);
            let (outcome, lines) = run_on(&fake, false);
            assert_eq!((outcome.loaded, loads(&fake)), (usize::from(!is_left), tries), "{lines:?}");
            assert!(lines[0].contains(": its init has not returned within 1500 ms; "), "{lines:?}");
        }
    }

    #[test]
    fn the_policy_is_told_as_it_is_read() {
        let told = RefCell::new(Vec::new());
        let on_policy = |policy: &OnError| told.borrow_mut().push(policy.to_string());
        let fake = tree("@on-error reboot\n@on-error exec /bin/sh\n");
        let options = Options {
            manifest: c"/m",
            cmdline: Cmdline::default(),
            budget_bytes: None,
            is_init: false,
            dry_run: false,
            on_policy: &on_policy,
        };
        let outcome = run(&fake, &mut Lines::default(), &options, &mut [0; RUN_BYTES]);
        assert_eq!(told.take(), ["reboot", "exec /bin/sh"]);
        assert!(matches!(outcome.policy, Policy::Exec(path) if path.as_c_str() == c"/bin/sh"));
    }
}
