//! What a run does by name, by alias and by device: plans from indexes and modprobe.d, commands, coldplug and waiting.

use core::ffi::CStr;
use core::fmt;

use super::{At, CMDLINE, Done, Params, Run, Step, joined};
use crate::cmdline::Cmdline;
use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::kernel::machine::is_live;
use crate::limits::{BUSES_BYTES, CMDLINE_CONFIG_BYTES, PLUG_TRIED};
use crate::load::{self, Failure, Loaded, Request};
use crate::manifest::{Entry, Times, Wait};
use crate::name::{self, Name};
use crate::report::Time;
use crate::report::{Level, Log, shown};
use crate::resolve::config::{Config, ConfigError, Writer};
use crate::resolve::devices;
use crate::resolve::plan::{self, Action, Blacklists, PlanError};
use crate::resolve::tree::CONFIG_FOLDERS;
use crate::resolve::{self, ResolveError, Root, Tree};
use crate::text::Words;
use crate::{Path, path_of};

/// What runs the command of an `install`.
const SHELL: &CStr = c"/bin/sh";

/// Why it is not known which devices there are.
const UNREADABLE: &str = "a folder or file of /sys about devices cannot be read";

/// What the kernel command line says of modules, as commands of modprobe.d in `buf`.
// Out of line, as the pages that this is in are touched only where there is something to be said.
#[inline(never)]
pub(super) fn config<'b, L: Log>(log: &mut L, cmdline: Cmdline, buf: &'b mut [u8]) -> &'b str {
    let mut writer = Writer::new(buf);
    let mut written = writer.cmdline(cmdline.text());
    // dracut's, for which it writes such commands to a file.
    cmdline.each_listed("rd.driver.blacklist", &mut |name| {
        written = written.and_then(|()| writer.blacklist(name));
    });
    if written.is_err() {
        log.line(Level::Error, format_args!("{CMDLINE}: over CMDLINE_CONFIG_BYTES, {CMDLINE_CONFIG_BYTES}"));
    }
    writer.finish().cmdline
}

/// A module to be loaded by name or alias.
#[derive(Clone, Copy)]
struct Asked<'a> {
    name: &'a str,
    /// What is said of it beside its name.
    entry: &'a Entry<'a>,
    /// Whether it is asked for by a device, for which there need be no module.
    by_device: bool,
}

/// What is kept of a name, by FNV-1a: two of the same are one module less on one machine of millions. `-` and `_` are equal.
fn key(name: &str) -> u32 {
    name.bytes().map(name::fold).fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Hands the file of each module that exports `symbol` to `each`, by the indexes of `tree`, or else of the root.
#[inline(never)]
pub(super) fn exporters<K: Kernel>(
    kernel: &K, root: &Root, tree: Option<&Tree<K>>, symbol: &str, each: &mut dyn FnMut(&str),
) {
    #[cfg(feature = "explain")]
    match tree {
        Some(tree) => tree.exporters(symbol, each),
        None => {
            // What is wrong with the configuration is told by whoever looks up a name.
            let tree =
                resolve::tree_folder(kernel, root).map(|folder| Tree::open(kernel, &folder, &[], &mut |_, _, _| {}));
            if let Ok(Ok(tree)) = tree {
                tree.exporters(symbol, each);
            }
        }
    }
    #[cfg(not(feature = "explain"))]
    let _ = (kernel, root, tree, symbol, each);
}

impl<K: Kernel, L: Log> Run<'_, '_, K, L> {
    /// Loads a file that is where [`crate::manifest::Line::Confine`] lets it be.
    #[inline(never)]
    pub(super) fn load_beneath(&mut self, request: &Request) -> Result<Loaded, Failure> {
        let file = self.open_beneath(request.file).map_err(Failure::Open)?;
        load::load_file(self.kernel, &mut self.abilities, request, file)
    }

    /// Opens such a file; EXDEV for another.
    #[inline(never)]
    pub(super) fn open_beneath(&mut self, file: &CStr) -> Result<K::File, Errno> {
        match &self.root {
            Root::Given(root) => self.beneath(root.clone(), file),
            Root::Running => Err(Errno::EXDEV),
        }
    }

    fn beneath(&mut self, root: Path, file: &CStr) -> Result<K::File, Errno> {
        let path = file.to_bytes_with_nul().strip_prefix(root.as_bytes()).ok_or(Errno::EXDEV)?;
        // Of `/` the slash itself is the prefix.
        let path = match path.strip_prefix(b"/") {
            Some(path) => path,
            None if root.as_bytes().ends_with(b"/") => path,
            None => return Err(Errno::EXDEV),
        };
        let path = CStr::from_bytes_with_nul(path).map_err(|_| Errno::EINVAL)?;
        if self.folder.is_none() {
            self.folder = Some(self.kernel.open(&root)?);
        }
        let folder = self.folder.as_ref().ok_or(Errno::ENOENT)?;
        self.kernel.open_beneath(folder, path)
    }

    /// Loads what the kernel command line asks to be there before all others, the first time that something is to be loaded.
    #[inline(never)]
    pub(super) fn begin(&mut self) {
        if !core::mem::replace(&mut self.has_begun, true) {
            self.listed("rd.driver.pre", false);
        }
    }

    /// Loads what the kernel command line asks for beside the manifest.
    #[inline(never)]
    pub(super) fn end(&mut self) {
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

    /// Whether there is a device for an entry that is for one; tells if not.
    #[inline(never)]
    pub(super) fn has_device(&mut self, name: Name, alias: &str, optional: bool) -> bool {
        match devices::exists(self.kernel, alias) {
            Ok(true) => return true,
            Ok(false) => self.skipped(name, &format_args!("no device has the alias {alias}")),
            // Whether there is one is not known.
            Err(errno) => {
                let suffix = if optional { " (optional)" } else { "" };
                self.log.line(Level::Error, format_args!("{name}: {errno}: {UNREADABLE}{suffix}"));
                self.fails(optional);
            }
        }
        false
    }

    /// Whether a blacklist of `config` names the module; tells if so.
    pub(super) fn is_blacklisted(&mut self, name: Name, config: Config) -> bool {
        let mut written = resolve::FileName::new();
        let is_blacklisted =
            fmt::write(&mut written, format_args!("{name}")).is_ok() && config.is_blacklisted(&written);
        if is_blacklisted {
            self.skipped(name, &"blacklisted");
        }
        is_blacklisted
    }

    /// The tree of the root, opened the first time.
    fn open_tree(&mut self) -> Result<Tree<K>, ResolveError> {
        if let Some(tree) = self.tree.take() {
            return Ok(tree);
        }
        let folder = resolve::tree_folder(self.kernel, &self.root)?;
        let log = &mut *self.log;
        let mut tell = |file: &str, number: usize, error: ConfigError| match number {
            0 => log.line(Level::Error, format_args!("{file}: {error}; left out")),
            _ => log.line(Level::Error, format_args!("{file}:{number}: {error}; left out")),
        };
        Tree::open(self.kernel, &folder, &CONFIG_FOLDERS, &mut tell).map_err(ResolveError::Tree)
    }

    // Out of line: what is kept while names are looked up is needed for them alone.
    #[inline(never)]
    pub(super) fn entry_by_name(&mut self, at: At, entry: &Entry, folder: &mut Path) {
        let name = name::of(entry.module).0;
        match self.by_name(Asked { name, entry, by_device: false }) {
            Ok(true) => {}
            Ok(false) => self.fails(entry.optional),
            Err(ResolveError::NotFound { indexed }) => {
                let tree = self.tree.as_ref().filter(|_| !indexed).map(|tree| tree.folder().clone());
                match resolve::file_named(self.kernel, &self.root, tree.as_ref(), name, folder) {
                    Ok(Some(file)) => self.entry_by_file(entry, folder, &file),
                    Ok(None) => self.unresolved(at, entry, ResolveError::NotFound { indexed }),
                    Err(error) => self.unresolved(at, entry, error),
                }
            }
            Err(error) => self.unresolved(at, entry, error),
        }
    }

    /// Loads the modules that a name or an alias stands for, with what they need; whether that worked, after telling if not.
    fn by_name(&mut self, asked: Asked) -> Result<bool, ResolveError> {
        let tree = self.open_tree()?;
        let mut is_done = true;
        let result = tree.plan(self.config, Blacklists::All, asked.name, &mut |step, config| {
            let done = match asked.by_device {
                true => self.once(&tree, asked, step, config),
                false => self.planned(&tree, asked, step, config),
            };
            if done == Done::Skipped && step.is_required && !step.is_target {
                self.log.line(Level::Info, format_args!("{}: left out with what it needs", asked.name));
            }
            is_done &= done != Done::Failed || !step.is_required;
            // Without a module that it needs, another would fail by a cause less true.
            done == Done::Yes || !step.is_required
        });
        let result = result.map(|()| is_done).map_err(|error| match error {
            PlanError::NotFound => ResolveError::NotFound { indexed: tree.is_indexed() },
            error => ResolveError::Plan(error),
        });
        self.tree = Some(tree);
        result
    }

    /// Does one step of a plan for a device, if that was not done for another.
    fn once(&mut self, tree: &Tree<K>, asked: Asked, step: plan::Step, config: Config) -> Done {
        if step.action == Action::Blacklisted {
            // It may still be loaded for another that needs it.
            return self.planned(tree, asked, step, config);
        }
        let key = key(step.module.name);
        if let Some((_, done)) = self.tried.iter().find(|(tried, _)| *tried == key) {
            return *done;
        }
        let done = self.planned(tree, asked, step, config);
        self.has_tried(key, done);
        done
    }

    fn has_tried(&mut self, key: u32, done: Done) {
        if self.tried.push((key, done)).is_err() {
            self.log.line(Level::Error, format_args!("more modules for devices than PLUG_TRIED, {PLUG_TRIED}"));
        }
    }

    /// Does one step of a plan.
    fn planned(&mut self, tree: &Tree<K>, asked: Asked, step: plan::Step, config: Config) -> Done {
        let Asked { entry, by_device, .. } = asked;
        let name = Name(step.module.name);
        let optional = entry.optional || by_device || !step.is_required;
        let params = Params { module: step.module, config, entry: if step.is_target { entry.params } else { "" } };
        // What a device or a soft dependency asks for need not be there.
        let aside = if by_device || !step.is_required { Level::Debug } else { Level::Info };
        match step.action {
            // What does without it may go on.
            Action::Load(_) if self.skips(name) => Done::Yes,
            Action::Load(file) => self.step(&Step {
                folder: tree.folder(),
                file,
                params,
                path: entry.path.filter(|_| step.is_target),
                tree: Some(tree),
                size_bytes: entry.size_bytes.filter(|_| step.is_target),
                times: if step.is_target { entry.times } else { Times::default() },
                sha256: entry.sha256.filter(|_| step.is_target),
                optional,
                may_be_live: !step.is_target || by_device,
                may_be_absent: by_device || !step.is_required,
            }),
            // As modprobe: where the module is there, its command has nothing to do.
            Action::Run(_) if is_live(self.kernel, name) => {
                self.outcome.present += 1;
                Done::Yes
            }
            // It may load anything.
            Action::Run(command) if entry.sha256.is_some() && step.is_target => {
                self.tell(Level::Error, name, &format_args!("@sha256= cannot be checked: install {command}"));
                Done::Failed
            }
            Action::Run(command) => {
                let timeout_ms = entry.times.timeout_ms().filter(|_| step.is_target);
                self.command(name, command.trim_ascii(), params, timeout_ms, optional)
            }
            Action::Builtin => {
                self.outcome.present += 1;
                self.tell(if step.is_target { aside } else { Level::Debug }, name, &"built into the kernel");
                Done::Yes
            }
            Action::Absent => {
                let level = if aside == Level::Info { Level::Error } else { aside };
                self.tell(level, name, &format_args!("no such module in {}", shown(tree.folder())));
                Done::Failed
            }
            Action::Blacklisted if by_device => {
                self.tell(Level::Debug, name, &"blacklisted");
                Done::Skipped
            }
            Action::Blacklisted => {
                self.skipped(name, &"blacklisted");
                Done::Skipped
            }
        }
    }

    /// Runs the command of an `install` in place of loading the module.
    fn command(&mut self, name: Name, command: &str, params: Params, timeout_ms: Option<u32>, optional: bool) -> Done {
        if plan::blocks(command) {
            self.skipped(name, &format_args!("by install {command} in modprobe.d"));
            return Done::Yes;
        }
        if self.options.dry_run {
            self.outcome.loaded += 1;
            self.log.line(Level::Info, format_args!("{name}: would run {command}"));
            return Done::Yes;
        }
        let suffix = if optional { " (optional)" } else { "" };
        let result = self.shell(name, command, params, timeout_ms);
        let level = if matches!(result, Ok(0)) { Level::Info } else { Level::Error };
        let mut line = |what: fmt::Arguments| {
            self.log.line(level, format_args!("{name}: {what}: install {command}{suffix}"));
        };
        match result {
            // As wait4(2) has it: a signal's number, or 0 and the exit code above.
            Ok(0) => line(format_args!("command done")),
            Ok(status) if status & 0x7f == 0 => line(format_args!("exit code {} of its command", status >> 8 & 0xff)),
            Ok(status) => line(format_args!("signal {} ended its command", status & 0x7f)),
            Err(Errno::ENOENT) => line(format_args!("ENOENT: there is no {} for its command", shown(SHELL))),
            Err(Errno::ETIMEDOUT) if timeout_ms.is_some() => {
                let time = Time(timeout_ms.unwrap_or_default());
                line(format_args!("ETIMEDOUT: its command has not ended within {time}, and was killed"));
            }
            Err(errno) => line(format_args!("{errno}: its command cannot be run")),
        }
        if !matches!(result, Ok(0)) {
            return Done::Failed;
        }
        self.outcome.loaded += 1;
        Done::Yes
    }

    /// Has the shell run a command, which finds in its environment what modprobe gives it: what wait4(2) says of it.
    fn shell(&self, name: Name, command: &str, params: Params, timeout_ms: Option<u32>) -> Result<i32, Errno> {
        let module = path_of(format_args!("MODPROBE_MODULE={name}")).ok_or(Errno::ENAMETOOLONG)?;
        let command = joined(self.kernel, &|visit| visit(command))?;
        // The space behind the first part is none to the shell.
        let options = joined(self.kernel, &|visit| {
            visit("CMDLINE_OPTS=");
            params.each(visit);
        })?;
        let [command, options] = [&command, &options].map(|region| {
            CStr::from_bytes_until_nul(region.as_ref().map_or(b"\0", |r| r.as_ref())).unwrap_or_default()
        });
        self.kernel.spawn(
            &[SHELL, c"-c", command],
            &[c"PATH=/usr/sbin:/usr/bin:/sbin:/bin", c"HOME=/", c"TERM=linux", &module, options],
            timeout_ms,
        )
    }

    /// Loads the modules of the devices on `buses`, and of those that appear by it.
    #[inline(never)]
    pub(super) fn coldplug(&mut self, at: At, buses: &str) {
        self.begin();
        if self.outcome.stopped {
            return;
        }
        let fits = match &mut self.buses {
            // None named are all, to which others add nothing.
            Some(known) if known.is_empty() => true,
            known if buses.is_empty() => {
                *known = Some(Default::default());
                true
            }
            known => {
                let known = known.get_or_insert_default();
                [" ", buses].iter().all(|part| known.push_str(part).is_ok())
            }
        };
        if !fits {
            self.fails_at(at, format_args!("11: the buses of all @coldplug are over BUSES_BYTES, {BUSES_BYTES}"));
        }
        self.plug(at, buses);
    }

    /// Loads for the devices that have no driver, again for as long as that brings up something new.
    fn plug(&mut self, at: At, buses: &str) {
        match self.open_tree() {
            Ok(tree) => self.tree = Some(tree),
            Err(error) => return self.fails_at(at, format_args!("1: {error}")),
        }
        loop {
            let before = self.tried.len();
            let read = devices::each(self.kernel, buses, &mut |device| {
                if !device.is_bound {
                    self.for_device(device.alias);
                }
            });
            if let Err(errno) = read {
                return self.fails_at(at, format_args!("1: {errno}: {UNREADABLE}"));
            }
            if self.tried.len() == before || self.options.dry_run {
                return;
            }
        }
    }

    fn for_device(&mut self, alias: &str) {
        let entry = Entry { optional: true, ..Entry::new(alias) };
        let Err(error) = self.by_name(Asked { name: alias, entry: &entry, by_device: true }) else { return };
        let key = key(alias);
        match error {
            // Most devices have a driver in the kernel, or none in this image.
            ResolveError::NotFound { .. } | ResolveError::Plan(PlanError::Name) => {}
            _ if self.tried.iter().any(|(tried, _)| *tried == key) => {}
            error => {
                self.log.line(Level::Error, format_args!("{alias}: {error} (optional)"));
                self.has_tried(key, Done::Failed);
            }
        }
    }

    /// Waits for devices. What those need that appear meanwhile is loaded, if they are on a bus of a `@coldplug` before.
    #[inline(never)]
    pub(super) fn wait(&mut self, at: At, wait: &Wait) {
        self.begin();
        if self.outcome.stopped {
            return;
        }
        if self.options.dry_run {
            return self.log.line(Level::Info, format_args!("would wait for {}", wait.what));
        }
        let timeout_us = u64::from(wait.timeout_ms.unwrap_or(Wait::TIMEOUT_MS)) * 1000;
        // To hear of all that happens from before the first look on.
        let uevents = self.kernel.uevents();
        let start_us = self.kernel.now_us();
        let mut is_told = false;
        loop {
            if let Some(buses) = self.buses.clone() {
                self.plug(at, &buses);
                if self.outcome.stopped {
                    return;
                }
            }
            let kernel = self.kernel;
            let is_there = |word: &str| {
                if word.starts_with("/") {
                    crate::path(&[word.as_bytes()]).is_some_and(|path| kernel.exists(&path))
                } else {
                    // What cannot be read now may be the next time.
                    devices::exists(kernel, word) == Ok(true)
                }
            };
            let missing = Words::new(wait.what).map(|(_, word)| word).find(|word| !is_there(word));
            let waited_us = self.kernel.now_us() - start_us;
            let ms = waited_us / 1000;
            let Some(missing) = missing else {
                return self.log.line(Level::Info, format_args!("{}: there, after {ms} ms", wait.what));
            };
            if waited_us >= timeout_us {
                let optional = if wait.optional { " (optional)" } else { "" };
                self.log.line(Level::Error, format_args!("{missing}: not there after {ms} ms, {at}{optional}"));
                return self.fails(wait.optional);
            }
            if !core::mem::replace(&mut is_told, true) {
                self.log.line(Level::Info, format_args!("waiting for {missing}"));
            }
            // Up to the millisecond that it is in.
            let left_ms = (timeout_us - waited_us).div_ceil(1000);
            self.kernel.wait(uevents.as_ref(), u32::try_from(left_ms).unwrap_or(u32::MAX));
        }
    }
}

#[cfg(test)]
#[cfg(feature = "names")]
mod tests {
    use crate::cmdline::Cmdline;
    use crate::errno::Errno;
    use crate::kernel::fake::Fake;
    use crate::limits::{BUSES_BYTES, CMDLINE_BYTES, PLUG_TRIED};
    use crate::manifest::OnError;
    use crate::run::tests::Lines;
    use crate::run::{Options, Outcome, RUN_BYTES, run};

    const DEP: &[u8] = b"a.ko:\nb.ko: a.ko\nc.ko:\nbus.ko:\ndisk.ko:\n";

    fn tree(manifest: &str, config: &str) -> Fake {
        ["a", "b", "c", "bus", "disk"]
            .iter()
            .fold(Fake::default(), |fake, name| fake.with_file(&format!("/lib/modules/6.1.0-test/{name}.ko"), b""))
            .with_file("/lib/modules/6.1.0-test/modules.dep", DEP)
            .with_file(
                "/lib/modules/6.1.0-test/modules.alias",
                b"alias pci:* bus\nalias scsi:* disk\nalias usb:* none\n",
            )
            .with_file("/etc/modprobe.d/a.conf", config.as_bytes())
            .with_file("/m", manifest.as_bytes())
    }

    /// Runs with a kernel command line: the outcome, what was told, and which loads and programs were asked for.
    fn run_on(fake: &Fake, cmdline: &str) -> (Outcome, Vec<String>, Vec<String>) {
        let file = Fake::default().with_file("/c", cmdline.as_bytes());
        let mut buf = vec![0; CMDLINE_BYTES];
        let (cmdline, read, _) = Cmdline::read(&file, c"/c", &mut buf);
        read.unwrap();
        let mut log = Lines::default();
        let on_policy = |_: &OnError| {};
        let options = Options {
            manifest: c"/m",
            cmdline,
            budget_bytes: None,
            is_init: false,
            dry_run: false,
            on_policy: &on_policy,
        };
        let outcome = run(fake, &mut log, &options, &mut [0; RUN_BYTES]);
        let calls = fake.calls.take().into_iter().filter(|call| call.starts_with("finit") || call.starts_with("spawn"));
        let calls = calls.map(|call| call.replace("/lib/modules/6.1.0-test/", "").replace(" 0", "")).collect();
        (outcome, log.0, calls)
    }

    #[test]
    fn parameters_come_from_files_then_the_manifest_then_the_command_line() {
        let (outcome, _, calls) = run_on(
            &tree("b y=2\n/lib/modules/6.1.0-test/c.ko z\n", "options b x=1\noptions a o\n"),
            "b.y=3 a.p b.q=\"1 2\" c.n=4",
        );
        assert_eq!(calls, [r#"finit a.ko "o p""#, r#"finit b.ko "x=1 y=2 y=3 q=\"1 2\"""#, r#"finit c.ko "z n=4""#]);
        assert_eq!(outcome.to_string(), "3 loaded, 0 present, 0 skipped, 0 failed");
    }

    #[test]
    fn a_soft_dependency_that_fails_is_no_failure() {
        let fake = tree("c\n", "softdep c pre: none b post: bus\n").answering(&[
            Err(Errno::ENODEV),
            Ok(()),
            Ok(()),
            Err(Errno::EIO),
        ]);
        let (outcome, lines, calls) = run_on(&fake, "");
        // Without what it needs, the soft dependency itself is not left out: modprobe tries it too.
        assert_eq!(calls, ["finit a.ko \"\"", "finit b.ko \"\"", "finit c.ko \"\"", "finit bus.ko \"\""]);
        assert!(lines[0].ends_with("/a.ko (optional)"), "{lines:?}");
        assert_eq!(outcome.failed, 0);
    }

    #[test]
    fn who_boots_may_leave_modules_out() {
        let words = "modprobe.blacklist=a rd.driver.blacklist=c module_blacklist=bus modest.skip=disk";
        let manifest = "a\nc\n/lib/modules/6.1.0-test/c.ko\nbus\ndisk\nb\n";
        let (outcome, lines, calls) = run_on(&tree(manifest, "").answering(&[Err(Errno::EPERM)]), words);
        assert_eq!(outcome.to_string(), "2 loaded, 0 present, 5 skipped, 0 failed", "{lines:?}");
        // A blacklist is for what is asked for, not for what that needs.
        assert_eq!(calls, ["finit bus.ko \"\"", "finit a.ko \"\"", "finit b.ko \"\""]);
        let (outcome, ..) = run_on(&tree("bus\n", "").answering(&[Err(Errno::EPERM)]), "module_blacklist=bus2");
        assert_eq!(outcome.failed, 1);
        // What it needs is refused: it is left out, and that is no failure either.
        let (outcome, ..) = run_on(&tree("b\n", "").answering(&[Err(Errno::EPERM)]), "module_blacklist=a");
        assert_eq!(outcome.to_string(), "0 loaded, 0 present, 1 skipped, 0 failed");
    }

    #[test]
    fn the_command_line_asks_for_modules() {
        let words = "modules-load=none,c rd.driver.pre=bus rd.modules_load=disk";
        let (outcome, lines, calls) = run_on(&tree("a\n", ""), words);
        assert_eq!(calls, ["bus", "a", "disk", "c"].map(|name| format!("finit {name}.ko \"\"")));
        assert!(lines.iter().any(|line| line.ends_with("indexes, the kernel command line (optional)")), "{lines:?}");
        assert_eq!(outcome.failed, 0);
        assert_eq!(run_on(&tree("a\n", ""), "rd.driver.pre=none").0.failed, 1);
        // The policy holds for them too.
        let (outcome, _, calls) = run_on(&tree("@on-error stop\na\n", ""), "rd.driver.pre=none,bus modules-load=c");
        assert_eq!((outcome.stopped, calls.len()), (true, 0));
    }

    #[test]
    fn commands_are_run_by_the_shell_or_leave_a_module_out() {
        let config = "install a /bin/true\ninstall c /sbin/x $CMDLINE_OPTS\noptions c o=1\n";
        let fake = tree("b\nc p=2\n", config).with_file("/bin/sh", b"");
        let (outcome, lines, calls) = run_on(&fake, "");
        assert_eq!(outcome.to_string(), "2 loaded, 0 present, 1 skipped, 0 failed", "{lines:?}");
        assert_eq!(calls[0], "finit b.ko \"\"");
        assert!(calls[1].starts_with(r#"spawn ["/bin/sh", "-c", "/sbin/x $CMDLINE_OPTS"]"#), "{calls:?}");
        assert!(calls[1].ends_with(r#""MODPROBE_MODULE=c", "CMDLINE_OPTS= o=1 p=2"]"#), "{calls:?}");
        let fake = tree("c\n", config).answering(&[Err(Errno::ENOENT)]);
        let (outcome, lines, _) = run_on(&fake, "");
        assert_eq!(outcome.failed, 1);
        assert_eq!(lines, ["Error c: ENOENT: there is no /bin/sh for its command: install /sbin/x $CMDLINE_OPTS"]);
    }

    #[test]
    fn time_is_for_what_is_asked_for_and_for_its_command() {
        let fake = tree("c @timeout=5s @optional\nb @timeout=5s @retry=1\n", "install c /sbin/x\n");
        let (outcome, lines, calls) = run_on(&fake.answering(&[Err(Errno::ETIMEDOUT), Err(Errno::EBUSY)]), "");
        let told =
            "Error c: ETIMEDOUT: its command has not ended within 5 s, and was killed: install /sbin/x (optional)";
        assert_eq!(lines[0], told);
        assert!(calls[0].starts_with("spawn ") && calls[0].ends_with(" within 5000 ms"), "{calls:?}");
        // What b needs has none, and is not tried again.
        assert_eq!((&calls[1..], outcome.failed), (&["finit a.ko \"\"".to_string()][..], 1));
        let (_, _, calls) = run_on(&tree("b @timeout=7s\n", ""), "");
        assert_eq!(calls, ["finit a.ko \"\"", "finit b.ko \"\" in a child within 7000 ms"]);
    }

    #[test]
    fn what_devices_need_is_loaded_for_as_long_as_that_helps() {
        let fake = tree("@coldplug pci scsi none\n", "blacklist disk\n")
            .with_file("/sys/bus/pci/devices/0/uevent", b"MODALIAS=pci:1\n")
            .with_file("/sys/bus/pci/devices/1/uevent", b"DRIVER=x\nMODALIAS=pci:2\n")
            .with_file("/sys/bus/scsi/devices/0/uevent", b"MODALIAS=scsi:1\n")
            .with_file("/sys/bus/usb/devices/0/uevent", b"MODALIAS=usb:1\n");
        let (outcome, lines, calls) = run_on(&fake, "");
        assert_eq!(calls, ["finit bus.ko \"\""], "{lines:?}");
        assert_eq!(outcome.to_string(), "1 loaded, 0 present, 0 skipped, 0 failed");
        // What fails is told once, and not tried again; nor is a command.
        let fake = tree("@coldplug\n@wait /dev/none @timeout=200ms\n", "alias usb:* c\ninstall c x\n")
            .with_file("/sys/bus/pci/devices/0/uevent", b"MODALIAS=pci:1\n")
            .with_file("/sys/bus/scsi/devices/0/uevent", b"MODALIAS=scsi:1\n")
            .with_file("/sys/bus/usb/devices/0/uevent", b"MODALIAS=usb:1\n")
            .with_file("/sys/module/disk/initstate", b"live\n")
            .answering(&[Err(Errno::EIO)]);
        let (outcome, lines, calls) = run_on(&fake, "");
        assert_eq!(lines.iter().filter(|line| line.starts_with("Error bus: EIO")).count(), 1, "{lines:?}");
        assert_eq!(calls.len(), 2, "{calls:?}");
        assert_eq!((outcome.loaded, outcome.failed, outcome.present), (1, 1, 1));
    }

    #[test]
    fn over_the_limits_is_told() {
        let buses = "x".repeat(BUSES_BYTES);
        let (outcome, lines, _) = run_on(&tree(&format!("@coldplug {buses}\n"), ""), "");
        assert_eq!((outcome.failed, lines[0].contains("over BUSES_BYTES, 128")), (1, true), "{lines:?}");
        let (outcome, ..) = run_on(&tree(&format!("@coldplug\n@coldplug {buses}\n"), ""), "");
        assert_eq!(outcome.failed, 0);
        let (mut fake, mut alias) = (Fake::default().with_file("/m", b"@coldplug\n"), String::new());
        for i in 0..=PLUG_TRIED {
            fake =
                fake.with_file(&format!("/sys/bus/pci/devices/{i}/uevent"), format!("MODALIAS=pci:{i}\n").as_bytes());
            alias += &format!("alias pci:{i} m{i}\n");
        }
        let fake = fake.with_file("/lib/modules/6.1.0-test/modules.alias", alias.as_bytes());
        let (_, lines, _) = run_on(&fake, "");
        assert!(lines.iter().any(|line| line == "Error more modules for devices than PLUG_TRIED, 256"), "{lines:?}");
        let commas = format!("modprobe.blacklist={}", ",".repeat(CMDLINE_BYTES - 100));
        let (outcome, lines, _) = run_on(&tree("a\n", ""), &commas);
        assert_eq!((outcome.loaded, lines.len()), (1, 1), "{lines:?}");
        let long = format!("{}\n", "x".repeat(300));
        let (outcome, lines, _) = run_on(&Fake::default().with_file("/m", long.as_bytes()), "");
        assert_eq!((outcome.failed, lines[0].contains("a path is over PATH_BYTES")), (1, true), "{lines:?}");
    }

    #[test]
    fn what_is_waited_for_comes_or_not() {
        let manifest = "@wait pci:1 /dev/x\n@wait /dev/y scsi:* @timeout=50ms\n@wait /dev/z @timeout=1s @optional\n\
            a @if=pci:1\nc @if=scsi:*\n";
        let fake = tree(manifest, "")
            .with_file("/dev/x", b"")
            .with_file("/dev/y", b"")
            .with_file("/sys/bus/pci/devices/0/uevent", b"MODALIAS=pci:1\n");
        let (outcome, lines, calls) = run_on(&fake, "");
        assert!(lines[0].starts_with("Info pci:1 /dev/x: there, after "), "{lines:?}");
        assert_eq!(lines[1], "Info waiting for scsi:*");
        assert!(
            lines[2].starts_with("Error scsi:*: not there after 5") && lines[2].ends_with(" ms, /m:2"),
            "{lines:?}"
        );
        assert!(lines[4].ends_with(" ms, /m:3 (optional)"), "{lines:?}");
        assert_eq!(calls, ["finit a.ko \"\""]);
        assert_eq!(outcome.to_string(), "1 loaded, 0 present, 1 skipped, 1 failed");
    }
}
