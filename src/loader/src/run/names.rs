//! What a run does by name, by alias and by device: plans from indexes and modprobe.d, commands, coldplug and waiting.

use core::ffi::CStr;
use core::fmt;

use super::{At, CMDLINE, Done, Params, Run, Step, joined};
use crate::cmdline::Cmdline;
use crate::devices;
use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::limits::BUSES_BYTES;
use crate::manifest::{Entry, Wait};
use crate::name::{self, Name};
use crate::report::{Level, Log, shown};
use crate::resolve::config::{Config, ConfigError, Writer};
use crate::resolve::plan::{self, Action, Blacklists, PlanError};
use crate::resolve::tree::CONFIG_FOLDERS;
use crate::resolve::{self, ResolveError, Tree};
use crate::text::Words;
use crate::{Path, path_of};

/// What runs the command of an `install`.
const SHELL: &CStr = c"/bin/sh";

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
    if let Err(error) = written {
        log.line(Level::Error, format_args!("{CMDLINE}: {error}"));
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
    /// As in [`Step`].
    quiet: bool,
}

impl<K: Kernel, L: Log> Run<'_, '_, K, L> {
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
        cmdline.each_listed(list, &mut |module| self.entry(CMDLINE, &Entry { optional, ..Entry::new(module) }));
    }

    /// Whether there is a device for an entry that is for one; tells if not.
    #[inline(never)]
    pub(super) fn has_device(&mut self, name: Name, alias: &str) -> bool {
        let is_there = devices::exists(self.kernel, alias);
        if !is_there {
            self.skipped(name, &format_args!("no device has the alias {alias}"));
        }
        is_there
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
        match self.by_name(Asked { name, entry, by_device: false, quiet: false }) {
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
        let result = tree.plan(self.config, Blacklists::All, asked.name, &mut |step| {
            let done = self.planned(&tree, asked, step);
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

    /// Does one step of a plan.
    fn planned(&mut self, tree: &Tree<K>, asked: Asked, step: plan::Step) -> Done {
        let Asked { entry, by_device, quiet, .. } = asked;
        let name = Name(step.module.name);
        let optional = entry.optional || by_device || !step.is_required;
        let config = tree.config(self.config);
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
                size_bytes: entry.size_bytes.filter(|_| step.is_target),
                optional,
                may_be_live: !step.is_target || by_device,
                may_be_absent: by_device || !step.is_required,
                quiet,
            }),
            Action::Run(command) => self.command(name, command.trim_ascii(), params, optional),
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
    fn command(&mut self, name: Name, command: &str, params: Params, optional: bool) -> Done {
        if matches!(command, "/bin/true" | "/bin/false") {
            self.skipped(name, &format_args!("by install {command} in modprobe.d"));
            return Done::Yes;
        }
        if self.options.dry_run {
            self.outcome.loaded += 1;
            self.log.line(Level::Info, format_args!("{name}: would run {command}"));
            return Done::Yes;
        }
        let suffix = if optional { " (optional)" } else { "" };
        let result = self.shell(name, command, params);
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
            Err(errno) => line(format_args!("{errno}: its command cannot be run")),
        }
        if !matches!(result, Ok(0)) {
            return Done::Failed;
        }
        self.outcome.loaded += 1;
        Done::Yes
    }

    /// Has the shell run a command, which finds in its environment what modprobe gives it: what wait4(2) says of it.
    fn shell(&self, name: Name, command: &str, params: Params) -> Result<i32, Errno> {
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
        )
    }

    /// Loads the modules of the devices on `buses`, and of those that appear by it.
    #[inline(never)]
    pub(super) fn coldplug(&mut self, at: At, buses: &str) {
        self.begin();
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
        self.plug(buses);
    }

    /// Loads for the devices that have no driver, again for as long as that helps any.
    fn plug(&mut self, buses: &str) {
        let mut quiet = false;
        loop {
            let before = self.outcome.loaded;
            // As one list names a bus that another makes, each round is on its own.
            devices::each(self.kernel, buses, &mut |device| {
                if !device.is_bound {
                    self.for_device(device.alias, quiet);
                }
            });
            if self.outcome.loaded == before || self.options.dry_run {
                return;
            }
            // What failed is told once, though it may work the next time.
            quiet = true;
        }
    }

    fn for_device(&mut self, alias: &str, quiet: bool) {
        let entry = Entry { optional: true, ..Entry::new(alias) };
        match self.by_name(Asked { name: alias, entry: &entry, by_device: true, quiet }) {
            // Most devices have a driver in the kernel, or none in this image.
            Ok(_) | Err(ResolveError::NotFound { .. } | ResolveError::Plan(PlanError::Name)) => {}
            Err(error) if quiet => self.log.line(Level::Debug, format_args!("{alias}: {error}")),
            Err(error) => self.log.line(Level::Error, format_args!("{alias}: {error} (optional)")),
        }
    }

    /// Waits for devices. What those need that appear meanwhile is loaded, if they are on a bus of a `@coldplug` before.
    #[inline(never)]
    pub(super) fn wait(&mut self, at: At, wait: &Wait) {
        self.begin();
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
                self.plug(&buses);
            }
            let kernel = self.kernel;
            let is_there = |word: &str| {
                if word.starts_with("/") {
                    crate::path(&[word.as_bytes()]).is_some_and(|path| kernel.exists(&path))
                } else {
                    devices::exists(kernel, word)
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
