//! What a run does by name and by alias: plans from indexes and modprobe.d, and the commands of these.
//!
//! [`devices`] does so for the devices of the machine.

use core::ffi::CStr;
use core::fmt;

use super::done::Done;
use super::job::{Job, joined, text_of};
use super::repeats::Kind;
use super::state::{At, Run, optional};
use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::kernel::machine::is_live;
use crate::manifest::Entry;
use crate::name::{self, Name};
use crate::path::{self, FileName, Path};
use crate::report::{Level, Log, Time, shown};
use crate::resolve::config::{Config, ConfigError};
use crate::resolve::plan::{self, Action, Blacklists, Module, PlanError};
use crate::resolve::stems::Stems;
use crate::resolve::tree::CONFIG_FOLDERS;
use crate::resolve::{self, ResolveError, Tree};

mod asked;
mod devices;
pub(super) mod state;
#[cfg(test)]
mod tests;

use asked::Asked;
use state::Known;

/// What runs the command of an `install`.
const SHELL: &CStr = c"/bin/sh";

impl<'r, K: Kernel, L: Log> Run<'r, '_, K, L> {
    /// What is known of the module of a file that is named by its path; `None`, after a report, where a blacklist names it.
    pub(super) fn known_by_file<'n>(&mut self, name: Name<'n>) -> Option<Known<'n, K>>
    where
        'r: 'n,
    {
        let config = Config { files: "", cmdline: self.names.cmdline };
        if !config.cmdline.is_empty() && is_blacklisted(name, config) {
            self.skipped(name, &"blacklisted");
            return None;
        }
        Some(Known { module: Module::named(name.0), config, tree: None })
    }

    /// The tree of the root, opened the first time.
    fn open_tree(&mut self) -> Result<Tree<K>, ResolveError> {
        if let Some(tree) = self.names.tree.take() {
            return Ok(tree);
        }
        let folder = resolve::tree_folder(self.kernel, &self.root)?;
        let (log, repeats, shows_all) = (&mut *self.log, &mut self.repeats, self.options.dry_run);
        let mut tell = |file: &str, number: usize, error: ConfigError| match number {
            _ if !shows_all && !repeats.is_news(Kind::Config) => {}
            0 => log.line(Level::Error, format_args!("{file}: {error}; left out")),
            _ => log.line(Level::Error, format_args!("{file}:{number}: {error}; left out")),
        };
        Tree::open(self.kernel, &folder, &CONFIG_FOLDERS, &mut tell).map_err(ResolveError::Tree)
    }

    /// Loads what a name stands for.
    pub(super) fn entry_by_name(&mut self, at: At, entry: &Entry) {
        let name = name::of(entry.module).0;
        match self.by_name(Asked { name, entry, by_device: false }) {
            Ok(true) => {}
            Ok(false) => self.fails(entry.optional),
            Err(ResolveError::NotFound { indexed }) => {
                let tree = self.names.tree.as_ref().filter(|_| !indexed).map(|tree| tree.folder().clone());
                match self.file_named(tree, name) {
                    Some((folder, file)) => self.entry_by_file(entry, &folder, &file),
                    None if self.lacks_tree(entry) => self.fails(entry.optional),
                    None => self.unresolved(at, entry, ResolveError::NotFound { indexed }),
                }
            }
            Err(error) => self.unresolved(at, entry, error),
        }
    }

    /// The file of a module where no index has it, and its folder.
    fn file_named(&mut self, tree: Option<Path>, name: &str) -> Option<(Path, FileName)> {
        if self.names.stems.as_ref().is_some_and(|stems| !stems.may_have(name)) {
            return None;
        }
        let found = resolve::file_named(self.kernel, &self.root, tree.clone(), name);
        if found.is_none() && self.names.stems.is_none() {
            // Where one name is missing, others are: without memory for them each costs a look into the folders.
            self.names.stems = Stems::read(self.kernel, resolve::folders_of(&self.root, tree)).ok();
        }
        found
    }

    /// Reports it if the modules of the running kernel are not there at all.
    fn lacks_tree(&mut self, entry: &Entry) -> bool {
        let Some((folder, other)) = resolve::missing_tree(self.kernel, &self.root) else { return false };
        if !self.is_news(Kind::Name) {
            return true;
        }
        let (name, folder, optional) = (name::of(entry.module), shown(&folder), optional(entry.optional));
        if other.is_empty() {
            self.log.line(
                Level::Error,
                format_args!("{name}: {folder} is not there, nor another in /lib/modules{optional}"),
            );
        } else {
            let what = format_args!(
                "{name}: {folder} is not there, but /lib/modules/{other} is: kernel and modules are of different \
                 versions{optional}"
            );
            self.log.line(Level::Error, what);
        }
        true
    }

    /// Loads the modules that a name or an alias stands for, with what they need; whether that worked, after telling if not.
    fn by_name(&mut self, asked: Asked) -> Result<bool, ResolveError> {
        let tree = self.open_tree()?;
        let mut is_done = true;
        let result = tree.plan(self.names.cmdline, Blacklists::All, asked.name, &mut |step, config| {
            let done = match (asked.by_device, step.is_required) {
                (true, _) => self.once(&tree, asked, step, config),
                (false, true) => self.planned(&tree, asked, step, config),
                (false, false) => self.soft(&tree, asked, step, config),
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
        self.names.tree = Some(tree);
        result
    }

    /// Does one step for a soft dependency, if that did not fail for another module: a processor that lacks what it needs still does.
    fn soft(&mut self, tree: &Tree<K>, asked: Asked, step: plan::Step, config: Config) -> Done {
        let key = name::hash(step.module.name);
        if self.names.tried.contains(&(key, Done::Failed)) {
            return Done::Failed;
        }
        let done = self.planned(tree, asked, step, config);
        if done == Done::Failed {
            // Where there is no place for it, it is tried again.
            let _ = self.names.tried.push((key, done));
        }
        done
    }

    /// Does one step of a plan.
    fn planned(&mut self, tree: &Tree<K>, asked: Asked, step: plan::Step, config: Config) -> Done {
        let Asked { entry, by_device, .. } = asked;
        let name = Name(step.module.name);
        let optional = entry.optional || by_device || !step.is_required;
        // What is said of an entry is said of what it names, not of what that needs.
        let said = if step.is_target { *entry } else { Entry::new(entry.module) };
        let entry = Entry { optional, ..said };
        let known = Known { module: step.module, config, tree: Some(tree) };
        // What a device or a soft dependency asks for need not be there.
        let aside = if by_device || !step.is_required { Level::Debug } else { Level::Info };
        match step.action {
            // What does without it may go on.
            Action::Load(_) if self.skips(name) => Done::Yes,
            Action::Load(file) => self.load(&Job {
                folder: tree.folder(),
                file,
                entry,
                known,
                is_needed: !step.is_target || by_device,
                may_be_absent: by_device || !step.is_required,
            }),
            // As modprobe: where the module is there, its command has nothing to do.
            Action::Run(_) if is_live(self.kernel, name) => {
                self.outcome.present += 1;
                Done::Yes
            }
            // It may load anything.
            Action::Run(command) if entry.sha256.is_some() => {
                self.report(Level::Error, name, &format_args!("@sha256= cannot be checked: install {command}"));
                Done::Failed
            }
            Action::Run(command) => self.command(name, command.trim_ascii(), &known, &entry),
            Action::Builtin => {
                self.outcome.present += 1;
                self.report(if step.is_target { aside } else { Level::Debug }, name, &"built into the kernel");
                Done::Yes
            }
            Action::Absent => {
                let level = if aside == Level::Info { Level::Error } else { aside };
                self.report(level, name, &format_args!("no such module in {}", shown(tree.folder())));
                Done::Failed
            }
            Action::Blacklisted if by_device => {
                self.report(Level::Debug, name, &"blacklisted");
                Done::Skipped
            }
            Action::Blacklisted => {
                self.skipped(name, &"blacklisted");
                Done::Skipped
            }
            Action::Off => {
                self.skipped(Name(asked.name), &"by an alias off in modprobe.d");
                Done::Skipped
            }
        }
    }

    /// Runs the command of an `install` in place of loading the module.
    fn command(&mut self, name: Name, command: &str, known: &Known<K>, entry: &Entry) -> Done {
        if plan::blocks(command) {
            self.skipped(name, &format_args!("by install {command} in modprobe.d"));
            return Done::Yes;
        }
        if self.options.dry_run {
            self.outcome.loaded += 1;
            self.log.line(Level::Info, format_args!("{name}: would run {command}"));
            return Done::Yes;
        }
        let (timeout_ms, suffix) = (entry.times.timeout_ms(), optional(entry.optional));
        let result = self.shell(name, command, known, entry);
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
        // It may have brought files.
        self.names.stems = None;
        Done::Yes
    }

    /// Has the shell run a command, which finds in its environment what modprobe gives it: what wait4(2) says of it.
    fn shell(&self, name: Name, command: &str, known: &Known<K>, entry: &Entry) -> Result<i32, Errno> {
        let module = path::spelled(format_args!("MODPROBE_MODULE={name}")).ok_or(Errno::ENAMETOOLONG)?;
        let command = joined(self.kernel, &|visit| visit(command))?;
        // The space behind the first part is none to the shell.
        let options = joined(self.kernel, &|visit| {
            visit("CMDLINE_OPTS=");
            known.params(entry.params, visit);
        })?;
        self.kernel.spawn(
            &[SHELL, c"-c", text_of(&command)],
            &[c"PATH=/usr/sbin:/usr/bin:/sbin:/bin", c"HOME=/", c"TERM=linux", &module, text_of(&options)],
            entry.times.timeout_ms(),
        )
    }
}

/// Whether a blacklist of `config` names the module.
fn is_blacklisted(name: Name, config: Config) -> bool {
    let mut written = FileName::new();
    fmt::write(&mut written, format_args!("{name}")).is_ok() && config.is_blacklisted(&written)
}
