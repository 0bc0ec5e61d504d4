//! From a board's modules, a manifest's or a list of names, to the files to load in order, and to the manifest that says so.
//!
//! Names are resolved by the target's own code. What the files hold does not matter here.

use std::collections::BTreeSet;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use modest_loader::limits::{LINE_BYTES, PATH_BYTES};
use modest_loader::load_path::LoadPath;
use modest_loader::manifest::{Entry, Line, Times};
use modest_loader::name::{self, Name};
use modest_loader::pin::Pin;
use modest_loader::resolve::config::Config;
use modest_loader::resolve::plan::{self, Action, Blacklists, PlanError};

use super::several::{Missing, matching, means_several, module_in, together};
use crate::board::{Board, KernelSpec, quoted};
use crate::kernel::Tree;
use crate::kernel::modprobe::Database;
use crate::module::file::{ModuleFile, is_below};
use crate::words::did_you_mean;

/// What is to be loaded, unresolved: the lines of a manifest, each with the place that it comes from.
#[derive(Clone, Debug)]
pub struct Source {
    lines: Vec<(String, Vec<u8>)>,
    /// What comes last where no line hands over.
    hand_over: Option<String>,
    blacklists: Blacklists,
    /// Whether entries are left out that the tree has no module for.
    allow_missing: bool,
}

impl Source {
    /// What the board says.
    pub fn board(board: &Board, kernel: &KernelSpec) -> Source {
        let place = board.file.display().to_string();
        let modules =
            board.modules(kernel).iter().map(|module| (format!("{place}: modules"), module.line.clone().into()));
        Source::of_board(board, modules.collect())
    }

    /// What a manifest says, in place of the board's modules. The board's directives hold where it has none.
    pub fn manifest(board: &Board, name: &str, text: &[u8]) -> Source {
        let lines = text.split(|b| *b == b'\n').enumerate();
        Source::of_board(board, lines.map(|(i, line)| (format!("{name}:{}", i + 1), line.to_vec())).collect())
    }

    fn of_board(board: &Board, lines: Vec<(String, Vec<u8>)>) -> Source {
        let place = board.file.display().to_string();
        let directives = board.directives().map(|line| (place.clone(), line.into_bytes()));
        let lines = directives.chain(lines).collect();
        Source { lines, hand_over: Some(board.hand_over().into()), blacklists: Blacklists::All, allow_missing: false }
    }

    /// The same, with these modules before all others.
    pub fn with_first(mut self, names: &[String]) -> Source {
        let is_entry = |line: &[u8]| matches!(Line::parse(line), Ok(Line::Entry(_)));
        let at = self.lines.iter().position(|(_, line)| is_entry(line)).unwrap_or(self.lines.len());
        let first = names.iter().map(|name| ("suppliers of the device tree".into(), name.clone().into()));
        self.lines.splice(at..at, first);
        self
    }

    /// The same; with `allow`, entries that the tree has no module for are left out with a note, as optional ones are.
    pub fn allow_missing(mut self, allow: bool) -> Source {
        self.allow_missing = allow;
        self
    }

    /// These modules and aliases, as modprobe would be asked for them.
    pub fn names(names: &[String]) -> Source {
        let lines = names.iter().map(|name| (name.clone(), name.clone().into())).collect();
        Source { lines, hand_over: None, blacklists: Blacklists::Aliases, allow_missing: false }
    }
}

/// A resolved manifest, but for what only the files themselves tell.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
enum Row {
    Directive(String),
    /// What a person might want to know.
    Note(String),
    Module(ModuleLine),
}

/// One file to load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleLine {
    /// Its path below the tree.
    pub file: String,
    /// Whether nothing but optional modules needs it.
    pub optional: bool,
    /// The load path to use.
    pub path: Option<LoadPath>,
    /// What it may take.
    pub times: Times,
    /// The digest that the entry has for it.
    pub sha256: Option<String>,
    /// The alias of a device without which nothing needs it.
    pub device: Option<String>,
    /// Its parameters in modprobe.d.
    pub options: String,
    /// Its parameters in the entry, which come after those.
    pub params: String,
}

impl Plan {
    /// Resolves what `source` says, with the modules of `tree` and what `database` says of them.
    pub fn resolve(source: &Source, tree: &Tree, database: &Database) -> Result<Plan> {
        let mut plan = Plan::default();
        let mut errors = Vec::new();
        let mut hands_over = false;
        for (place, line) in &source.lines {
            let line = Line::parse(line).map_err(|e| anyhow!("{place}:{}: {}", e.column, e.problem))?;
            hands_over |= matches!(line, Line::Exec(_) | Line::SwitchRoot);
            match line {
                Line::Empty => {}
                Line::Entry(entry) => {
                    let added = plan.entry(tree, database, source.blacklists, &entry);
                    match added.with_context(|| place.clone()) {
                        Err(error) if error.is::<Missing>() && (entry.optional || source.allow_missing) => {
                            plan.note(format!("{error:#}; left out"));
                        }
                        added => errors.extend(added.err()),
                    }
                }
                // Before all others, whatever the board adds.
                Line::Sealed => plan.rows.insert(0, Row::Directive(line.to_string())),
                Line::Root(_) => plan.note(format!("{place}: {line}: left out, {} is used", tree.dir.display())),
                directive => plan.rows.push(Row::Directive(directive.to_string())),
            }
        }
        together(errors)?;
        if !hands_over {
            plan.rows.extend(source.hand_over.clone().map(Row::Directive));
        }
        Ok(plan)
    }

    fn note(&mut self, note: String) {
        self.rows.push(Row::Note(note));
    }

    fn entry(&mut self, tree: &Tree, database: &Database, blacklists: Blacklists, entry: &Entry) -> Result<()> {
        let in_tree = format!("{}/", tree.target_dir());
        let module = entry.module.strip_prefix(&in_tree).unwrap_or(entry.module);
        ensure!(!module.starts_with('/'), "{module} is not in {in_tree}; expected a name or a path below that");
        let device = entry.device.map(String::from);
        let step = ModuleLine { optional: entry.optional, device, ..ModuleLine::default() };
        if means_several(tree, module) {
            return self.entries(tree, database, blacklists, &Entry { module, ..*entry });
        }
        if module.contains('/') {
            ensure!(is_below(module), "{module} leads out of {in_tree}; expected a path below that");
            if !tree.dir.join(module).is_file() {
                let known = tree.indexed("modules.dep");
                let near = did_you_mean(module, known.iter().map(|k| &**k));
                bail!(Missing(format!("no file {module} in {}{near}", tree.dir.display())));
            }
            let (path, times, sha256) = (entry.path, entry.times, entry.sha256.map(|pin| pin.to_string()));
            return self.add(ModuleLine {
                file: module.into(),
                path,
                times,
                sha256,
                params: entry.params.into(),
                ..step
            });
        }
        let mut result = Ok(());
        let planned = database.plan(blacklists, name::of(module).0, &mut |planned, config| {
            if planned.is_target && matches!(planned.action, Action::Builtin) {
                result = one_to_a_line(tree, entry);
            }
            if result.is_ok() {
                result = self.planned(entry, &step, planned, config);
            }
            result.is_ok()
        });
        result?;
        planned.map_err(|error| not_planned(tree, module, error))
    }

    /// Adds all modules that an entry means, as if each had a line of its own.
    fn entries(&mut self, tree: &Tree, database: &Database, blacklists: Blacklists, entry: &Entry) -> Result<()> {
        let what = entry.module;
        let has_own = !entry.params.is_empty() || entry.sha256.is_some() || entry.size_bytes.is_some();
        ensure!(!has_own, "{what} means several modules; parameters and digests belong to an entry of each");
        for name in matching(tree, &tree.indexed("modules.dep"), what)? {
            self.entry(tree, database, blacklists, &Entry { module: &name, ..*entry })?;
        }
        Ok(())
    }

    /// Adds what one step of modprobe's comes to, with `entry` being what asks for it and `step` what that says of all of them.
    fn planned(&mut self, entry: &Entry, step: &ModuleLine, planned: plan::Step, config: Config) -> Result<()> {
        let name = Name(planned.module.name);
        let is_target = planned.is_target;
        match planned.action {
            Action::Load(file) => {
                let options = planned.module.options(config).collect::<Vec<_>>().join(" ").trim().to_string();
                let mut step = ModuleLine { file: file.into(), options, ..step.clone() };
                step.optional |= !planned.is_required;
                if is_target {
                    (step.path, step.times, step.params) = (entry.path, entry.times, entry.params.into());
                    step.sha256 = entry.sha256.map(|pin| pin.to_string());
                }
                return self.add(step);
            }
            Action::Builtin if is_target => {
                let params = match entry.params {
                    "" => String::new(),
                    params => format!("; {params} belongs on the kernel command line, as {name}.{params}"),
                };
                self.note(format!("{name} is built into the kernel{params}"));
            }
            Action::Run(command) if plan::blocks(command) => {
                self.note(format!("{name} is not to be loaded: install {command}"));
            }
            Action::Run(command) => bail!("{name}: a manifest cannot have its command: install {command}"),
            Action::Blacklisted => self.note(format!("{name} is blacklisted")),
            Action::Off => self.note(format!("{} is off, by an alias", entry.module)),
            Action::Absent if planned.is_required => {
                bail!(Missing(format!("{}: there is no module {name}", entry.module)))
            }
            Action::Builtin | Action::Absent => {}
        }
        Ok(())
    }

    /// Adds a file; one that is there already stays where it is, and becomes what both ask for.
    fn add(&mut self, new: ModuleLine) -> Result<()> {
        ensure!(is_below(&new.file), "{} in modules.dep is not below its tree", new.file);
        let mut steps =
            self.rows.iter_mut().filter_map(|row| if let Row::Module(step) = row { Some(step) } else { None });
        let Some(old) = steps.find(|step| step.file == new.file) else {
            self.rows.push(Row::Module(new));
            return Ok(());
        };
        old.optional &= new.optional;
        if old.device != new.device {
            old.device = None;
        }
        if !new.params.is_empty() {
            let name = name::of(&new.file);
            let same = old.params.is_empty() || old.params == new.params;
            ensure!(same, "{name} is listed twice, with parameters {:?} and {:?}", old.params, new.params);
            old.params = new.params;
        }
        if old.options.is_empty() {
            old.options = new.options;
        }
        if let (Some(old), Some(new_one)) = (&old.sha256, &new.sha256) {
            let same = old.eq_ignore_ascii_case(new_one);
            ensure!(same, "{} is listed twice, with @sha256={old} and @sha256={new_one}", name::of(&new.file));
        }
        old.sha256 = old.sha256.take().or(new.sha256);
        old.path = new.path.or(old.path);
        if new.times != Times::default() {
            old.times = new.times;
        }
        Ok(())
    }

    /// The files to load, in order.
    pub fn steps(&self) -> impl Iterator<Item = &ModuleLine> {
        self.rows.iter().filter_map(|row| if let Row::Module(step) = row { Some(step) } else { None })
    }

    /// What a person might want to know.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(|row| if let Row::Note(note) = row { Some(note.as_str()) } else { None })
    }

    /// The manifest, with `files` being those of [`Plan::steps`]; with `pin`, each has its digest. A digest in an entry must be
    /// that of the tree's file.
    pub fn manifest(&self, comment: &str, tree: &Tree, files: &[ModuleFile], pin: bool) -> Result<String> {
        Ok(format!("# {comment}\n{}", self.text(tree, Some((files, pin)))?))
    }

    /// The manifest without what the files tell, but with what a person might want to know.
    pub fn listing(&self, tree: &Tree) -> Result<String> {
        self.text(tree, None)
    }

    fn text(&self, tree: &Tree, files: Option<(&[ModuleFile], bool)>) -> Result<String> {
        let root = tree.target_dir();
        let mut text = String::new();
        let is_sealed = |row: &Row| matches!(row, Row::Directive(line) if *line == Line::Sealed.to_string());
        let (sealed, rows) = self.rows.split_at(self.rows.iter().take_while(|row| is_sealed(row)).count());
        if !sealed.is_empty() {
            emit(&mut text, &Line::Sealed)?;
        }
        emit(&mut text, &Line::Root(&root))?;
        let (read, pin) = files.unwrap_or_default();
        let mut read = read.iter();
        for row in rows {
            let step = match row {
                Row::Directive(line) => {
                    emit(&mut text, &Line::parse(line.as_bytes()).map_err(|e| anyhow!("{line}: {}", e.problem))?)?;
                    continue;
                }
                Row::Note(note) => {
                    if files.is_none() {
                        text += &format!("# {note}\n");
                    }
                    continue;
                }
                Row::Module(step) => step,
            };
            // A file's name changes with its format, its digest with what is left out of it.
            let (file, size_bytes, sha256) = match files {
                Some(_) => {
                    let module = read.next().context("as many files as steps")?;
                    check_digest(step, module)?;
                    let sha256 = (pin || step.sha256.is_some()).then_some(&module.sha256);
                    (&module.file, Some(module.image_bytes), sha256)
                }
                None => (&step.file, None, step.sha256.as_ref()),
            };
            check_length(&root, file)?;
            let ModuleLine { optional, path, times, ref device, ref options, ref params, .. } = *step;
            let (params, device) = (quoted(&[options.as_str(), params].join(" ")), device.as_deref());
            let params = params.trim();
            let sha256 = match sha256 {
                Some(digest) => Some(Pin::parse(digest).map_err(|_| anyhow!("{digest}: expected a SHA-256"))?),
                None => None,
            };
            emit(
                &mut text,
                &Line::Entry(Entry { module: file, optional, path, size_bytes, sha256, device, times, params }),
            )?;
        }
        Ok(text)
    }
}

/// What to tell of a name that `error` is said of.
pub(crate) fn not_planned(tree: &Tree, name: &str, error: PlanError) -> Error {
    let dir = tree.dir.display();
    if error != PlanError::NotFound {
        return anyhow!("{name}: {error}, in {dir}");
    }
    let files = ["modules.dep", "modules.builtin"].iter().flat_map(|index| tree.indexed(index));
    let names: BTreeSet<_> = files.map(|file| name::of(&file).to_string()).collect();
    let near = did_you_mean(&name::of(name).to_string(), names.iter().map(String::as_str));
    Missing(format!("{name}: {error} in {dir}{near}")).into()
}

/// Checks that the parameters of a module that is built in are not modules: several in a line.
fn one_to_a_line(tree: &Tree, entry: &Entry) -> Result<()> {
    match module_in(tree, entry.params) {
        Some(other) => bail!("{} and {other} are modules in a line; write one module to a line", entry.module),
        None => Ok(()),
    }
}

/// Checks that a module of the tree is the one that its entry means.
fn check_digest(step: &ModuleLine, module: &ModuleFile) -> Result<()> {
    let ModuleFile { original_sha256: is, .. } = module;
    let Some(says) = &step.sha256 else { return Ok(()) };
    ensure!(is.eq_ignore_ascii_case(says), "{}: its SHA-256 is {is}, @sha256= says {says}", step.file);
    Ok(())
}

/// Checks that the target can name a module's file.
pub(crate) fn check_length(root: &str, file: &str) -> Result<()> {
    // Its path ends in a NUL.
    ensure!(root.len() + 1 + file.len() < PATH_BYTES, "{root}/{file}: over PATH_BYTES, {PATH_BYTES}");
    Ok(())
}

/// Writes a line, if the target reads it as it is meant.
fn emit(text: &mut String, line: &Line) -> Result<()> {
    let written = line.to_string();
    let read = Line::parse(written.as_bytes());
    ensure!(read == Ok(*line), "{written:?} would be read as {read:?}");
    ensure!(written.len() < LINE_BYTES, "{written}: over LINE_BYTES, {LINE_BYTES}");
    text.push_str(&written);
    text.push('\n');
    Ok(())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
