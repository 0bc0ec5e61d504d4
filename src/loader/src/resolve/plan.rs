//! From what is asked for to the modules to load, in order: the answer that modprobe gives (libkmod-module.c).
//!
//! Nothing is collected: each module is handed out when its turn has come, since what decides on it is known by then.

use core::fmt::{self, Write};

use super::config::{Config, When, words_of};
use super::dep::Files;
use super::index::Matches;
use super::pattern::normalize_alias;
use super::table::{Table, TableError};
use crate::limits::{ALIAS_MATCHES, INDEX_KEY_BYTES, PLAN_DEPTH, PLAN_VISITED};
use crate::name::{self, Name};
use crate::text;

/// The indexes of a module tree; what is missing is as if it were empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Indexes<'m> {
    /// `modules.dep`
    pub dep: Option<Table<'m>>,
    /// `modules.alias`
    pub alias: Option<Table<'m>>,
    /// `modules.symbols`
    pub symbols: Option<Table<'m>>,
    /// `modules.builtin`
    pub builtin: Option<Table<'m>>,
    /// `modules.builtin.alias`
    pub builtin_alias: Option<Table<'m>>,
}

/// A module, as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'m> {
    /// Its name, as the kernel writes it or with `-`.
    pub name: &'m str,
    /// The alias that led to it. One that was asked for by two aliases counts as two.
    pub alias: Option<&'m str>,
    /// The command for just this name, where nothing but a command has it.
    pub command: Option<&'m str>,
    /// Whether an alias of something that is built in led to it: `modules.builtin` does not list all of these.
    pub is_builtin: bool,
}

impl<'m> Module<'m> {
    /// The module of that name.
    pub fn named(name: &'m str) -> Module<'m> {
        Module { name, alias: None, command: None, is_builtin: false }
    }

    fn by_alias(name: &'m str, alias: &'m str) -> Module<'m> {
        Module { name, alias: Some(alias), command: None, is_builtin: false }
    }

    /// Its name as the kernel writes it; what an alias stands for is taken as it is. Empty, and none, where that is too long.
    fn written(&self) -> NormalName {
        let mut written = NormalName::new();
        let fits = match self.alias {
            Some(_) => written.push_str(self.name).is_ok(),
            None => write!(written, "{}", Name(self.name)).is_ok(),
        };
        if !fits {
            written.clear();
        }
        written
    }

    /// The parameters that the configuration has for it, to be joined by spaces.
    pub fn options(self, config: Config<'m>) -> impl Iterator<Item = &'m str> {
        config.options(move |text| self.has_options_of(text))
    }

    /// Whether options for `text` are for it: by its name, or by the alias that it was asked for by.
    fn has_options_of(&self, text: &str) -> bool {
        match self.alias {
            // Brackets in an alias keep their `-`, which only an alias with other brackets could tell.
            Some(alias) => text == self.name || Name(text) == Name(alias),
            None => Name(self.name).is_written(text),
        }
    }
}

/// What to do for a module whose turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'m> {
    /// Load this file, a path relative to the tree.
    Load(&'m str),
    /// Run this command in its place (`install` in modprobe.d).
    Run(&'m str),
    /// Nothing: it is part of the kernel.
    Builtin,
    /// Nothing: there is no such module.
    Absent,
    /// Nothing, and of what it needs neither: a blacklist names it.
    Blacklisted,
    /// Nothing: an `alias` says `off`, as modutils had it.
    Off,
}

/// Whether the command of an `install` does nothing but keep its module out: true(1) or false(1), whatever its arguments.
pub fn blocks(command: &str) -> bool {
    let command = command.trim_ascii();
    let (program, rest) = text::split_once(command, b' ').unwrap_or((command, ""));
    let name = ["/usr/bin/", "/bin/"].into_iter().find_map(|folder| program.strip_prefix(folder)).unwrap_or(program);
    let arguments = text::split_once(rest, b'#').map_or(rest, |(before, _)| before);
    matches!(name, "true" | "false") && arguments.bytes().all(|b| !b";&|<>()`\n".contains(&b))
}

/// A module whose turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'m> {
    /// Which.
    pub module: Module<'m>,
    /// What to do.
    pub action: Action<'m>,
    /// Whether its failure is one of what was asked for; not so for a soft dependency.
    pub is_required: bool,
    /// Whether it is what was asked for.
    pub is_target: bool,
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// Nothing has that name or alias.
    NotFound,
    /// The name has brackets without a partner, or is over [`INDEX_KEY_BYTES`].
    Name,
    /// This index is damaged, or what it says is over a limit.
    Index(TableError),
    /// Over [`ALIAS_MATCHES`] modules have this alias.
    TooManyMatches,
    /// More modules have soft dependencies than [`PLAN_VISITED`].
    TooMany,
    /// Soft dependencies go deeper than [`PLAN_DEPTH`].
    TooDeep,
    /// By a `..`, a file leads out of the tree. depmod writes none.
    Outside,
}

impl From<TableError> for PlanError {
    fn from(error: TableError) -> Self {
        PlanError::Index(error)
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::NotFound => f.write_str("no module and no alias of that name"),
            PlanError::Name => f.write_str("it is not a name: it has an unmatched bracket, or is too long"),
            PlanError::Index(error) => error.fmt(f),
            PlanError::TooManyMatches => write!(f, "more modules match than ALIAS_MATCHES, {ALIAS_MATCHES}"),
            PlanError::TooMany => {
                write!(f, "more modules than PLAN_VISITED, {PLAN_VISITED}, have dependencies of their own")
            }
            PlanError::TooDeep => write!(f, "its soft dependencies are nested over PLAN_DEPTH, {PLAN_DEPTH}, deep"),
            PlanError::Outside => f.write_str(
                "modules.dep has a path with .. for it or for a module that it needs; depmod writes no such path",
            ),
        }
    }
}

/// Takes steps; `false` leaves out what else one of the modules that were asked for needs, and this itself.
pub type Each<'e, 'm> = &'e mut dyn FnMut(Step<'m>) -> bool;

/// When a module that a blacklist names is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blacklists {
    /// When it was asked for by an alias, as by modprobe.
    Aliases,
    /// However it was asked for, as by `modprobe -b`, which is what an initramfs uses.
    All,
}

/// Hands out what modprobe would do for `name`, a module or an alias.
pub fn plan<'m>(
    indexes: Indexes<'m>, config: Config<'m>, blacklists: Blacklists, name: &'m str, each: Each<'_, 'm>,
) -> Result<(), PlanError> {
    let resolver = Resolver { indexes, config };
    let asked = resolver.lookup(name)?;
    if asked.is_empty() {
        return Err(PlanError::NotFound);
    }
    for module in asked {
        let written = module.written();
        if (module.alias.is_some() || blacklists == Blacklists::All) && config.is_blacklisted(&written) {
            each(Step { module, action: Action::Blacklisted, is_required: true, is_target: true });
            continue;
        }
        let target_files = resolver.files(&written)?;
        if module.name == "off" && module.alias.is_some() && target_files.is_none() {
            each(Step { module, action: Action::Off, is_required: true, is_target: true });
            continue;
        }
        let visited = heapless::Vec::new();
        let mut walk = Walk { resolver, target: module, target_files, visited, each: &mut *each };
        match walk.probe(module, PLAN_DEPTH) {
            Ok(()) | Err(Halt::Stopped) => {}
            Err(Halt::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Resolver<'m> {
    indexes: Indexes<'m>,
    config: Config<'m>,
}

type Modules<'m> = heapless::Vec<Module<'m>, ALIAS_MATCHES>;
type NormalName = heapless::String<INDEX_KEY_BYTES>;

impl<'m> Resolver<'m> {
    /// The modules that a name or an alias stands for: what the first of these has that has any.
    fn lookup(&self, asked: &'m str) -> Result<Modules<'m>, PlanError> {
        let mut alias = NormalName::new();
        normalize_alias(asked, &mut alias).map_err(|_| PlanError::Name)?;
        let mut found = Modules::new();
        for (pattern, name) in self.config.aliases(&alias) {
            add(&mut found, Module::by_alias(name, pattern))?;
        }
        if found.is_empty()
            && let Some(files) = self.files(&alias)?
        {
            add(&mut found, Module::named(name::of(files.target()).0))?;
        }
        if found.is_empty() && alias.starts_with("symbol:") {
            self.add_matches(&mut found, self.indexes.symbols, &alias, asked)?;
        }
        if found.is_empty()
            && let Some((name, command)) = self.config.command_named(&alias)
        {
            // What is behind a dot is not part of a module's name.
            let name = text::split_once(name, b'.').map_or(name, |(name, _)| name);
            add(&mut found, Module { command, ..Module::named(name) })?;
        }
        if found.is_empty() {
            self.add_matches(&mut found, self.indexes.alias, &alias, asked)?;
        }
        if found.is_empty() && self.is_builtin(&alias)? {
            add(&mut found, Module::named(asked))?;
        }
        if found.is_empty() {
            self.add_matches(&mut found, self.indexes.builtin_alias, &alias, asked)?;
            found.iter_mut().for_each(|module| module.is_builtin = true);
        }
        Ok(found)
    }

    fn add_matches(
        &self, found: &mut Modules<'m>, index: Option<Table<'m>>, alias: &str, asked: &'m str,
    ) -> Result<(), PlanError> {
        let names: Matches<'m> = index.map_or(Ok(Matches::new()), |index| index.matches(alias))?;
        names.into_iter().try_for_each(|name| add(found, Module::by_alias(name, asked)))
    }

    /// The files of the module with this name as the kernel writes it, if it is one that was built as a file.
    fn files(&self, name: &str) -> Result<Option<Files<'m>>, PlanError> {
        match self.indexes.dep {
            Some(dep) if !name.is_empty() && !name.contains(':') => Ok(dep.find(name)?.map(Files::of_line)),
            _ => Ok(None),
        }
    }

    /// Whether the module with this name as the kernel writes it is part of the kernel.
    fn is_builtin(&self, name: &str) -> Result<bool, PlanError> {
        Ok(match self.indexes.builtin {
            _ if name.is_empty() => false,
            Some(builtin) => builtin.find(name)?.is_some(),
            None => false,
        })
    }
}

/// The modules that one with these files needs, in the order to load them.
fn needed<'m>(files: Option<Files<'m>>) -> impl Iterator<Item = Module<'m>> {
    files.into_iter().flat_map(Files::dependencies).map(|file| Module::named(name::of(file).0))
}

fn add<'m>(found: &mut Modules<'m>, module: Module<'m>) -> Result<(), PlanError> {
    found.push(module).map_err(|_| PlanError::TooManyMatches)
}

/// Why a walk ends early.
enum Halt {
    /// What the steps were handed to wants no more of it.
    Stopped,
    Error(PlanError),
}

impl From<PlanError> for Halt {
    fn from(error: PlanError) -> Halt {
        Halt::Error(error)
    }
}

/// One plan in the making.
struct Walk<'e, 'm> {
    resolver: Resolver<'m>,
    target: Module<'m>,
    target_files: Option<Files<'m>>,
    /// The modules whose dependencies are done, or being done: a circle of soft dependencies ends here.
    visited: heapless::Vec<Module<'m>, PLAN_VISITED>,
    each: Each<'e, 'm>,
}

impl<'m> Walk<'_, 'm> {
    /// What `module` needs, and then itself.
    fn probe(&mut self, module: Module<'m>, depth: usize) -> Result<(), Halt> {
        if self.visited.iter().any(|seen| is_same(seen, &module)) {
            return Ok(());
        }
        self.visited.push(module).map_err(|_| PlanError::TooMany)?;
        let depth = depth.checked_sub(1).ok_or(PlanError::TooDeep)?;
        for needed in needed(self.resolver.files(&module.written())?) {
            self.with_softdeps(needed, depth)?;
        }
        self.with_softdeps(module, depth)
    }

    /// The module between its soft dependencies.
    fn with_softdeps(&mut self, module: Module<'m>, depth: usize) -> Result<(), Halt> {
        let Resolver { config, .. } = self.resolver;
        let name = module.written();
        // kmod loads one that has soft dependencies all the same.
        if config.install(&name).is_some_and(blocks) {
            return self.step(module, &name, false);
        }
        let said = config.softdep(&name);
        let mut has_softdeps = self.softdeps(said, When::Before, depth)?;
        for asked in words_of(said, When::After) {
            has_softdeps |= !self.softdep(asked).is_empty();
        }
        self.step(module, &name, has_softdeps)?;
        self.softdeps(said, When::After, depth).map(drop)
    }

    /// What a soft dependency stands for: nothing, where it cannot be looked up.
    fn softdep(&self, asked: &'m str) -> Modules<'m> {
        self.resolver.lookup(asked).unwrap_or_default()
    }

    /// What the modules of a softdep need, and they themselves: whether there are any.
    fn softdeps(&mut self, said: &'m str, when: When, depth: usize) -> Result<bool, Halt> {
        let mut has_any = false;
        for asked in words_of(said, when) {
            for module in self.softdep(asked) {
                has_any = true;
                match self.probe(module, depth) {
                    // It may do without what a damaged index hides.
                    Err(Halt::Error(PlanError::Index(_))) => {}
                    done => done?,
                }
            }
        }
        Ok(has_any)
    }

    /// Hands out a module. Its soft dependencies stand in for a command, as they were once declared by such.
    fn step(&mut self, module: Module<'m>, name: &str, has_softdeps: bool) -> Result<(), Halt> {
        let command = module.command.or_else(|| self.resolver.config.install(name)).filter(|_| !has_softdeps);
        let action = match (command, self.resolver.files(name)?) {
            (Some(command), _) => Action::Run(command),
            (None, Some(files)) => Action::Load(files.target()),
            (None, None) if module.is_builtin || self.resolver.is_builtin(name)? => Action::Builtin,
            (None, None) => Action::Absent,
        };
        if let Action::Load(file) = action
            && text::fields(file, b'/').any(|part| part == "..")
        {
            return Err(PlanError::Outside.into());
        }
        let is_target = is_same(&module, &self.target);
        let is_required = is_target || needed(self.target_files).any(|needed| is_same(&needed, &module));
        if (self.each)(Step { module, action, is_required, is_target }) { Ok(()) } else { Err(Halt::Stopped) }
    }
}

fn is_same(a: &Module, b: &Module) -> bool {
    Name(a.name) == Name(b.name) && a.alias.map(Name) == b.alias.map(Name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::config::Writer;

    /// What is done for `name` by configuration alone; whatever is needed of indexes is held to kmod's in mkmodest's tests.
    fn steps(config: &str, name: &str) -> Result<Vec<String>, PlanError> {
        let mut buf = vec![0; 1 << 16];
        let mut writer = Writer::new(&mut buf);
        writer.file(config.as_bytes(), &mut |number, error| panic!("{number}: {error}"));
        let mut steps = Vec::new();
        plan(Indexes::default(), writer.finish(), Blacklists::Aliases, name, &mut |step| {
            let need = if step.is_required { "" } else { "?" };
            steps.push(format!("{}{need} {:?}", step.module.name, step.action));
            steps.len() < 40
        })?;
        Ok(steps)
    }

    #[test]
    fn commands_and_soft_dependencies() {
        let config =
            "install a /bin/true\ninstall b /bin/echo b\nalias x-* a\nsoftdep c pre: b none post: a\ninstall c x\n";
        assert_eq!(steps(config, "x_1").unwrap(), ["a Run(\"/bin/true\")"]);
        let want = ["b? Run(\"/bin/echo b\")", "c Absent", "a? Run(\"/bin/true\")"];
        assert_eq!(steps(config, "c").unwrap(), want);
        assert_eq!(steps(config, "none"), Err(PlanError::NotFound));
        assert_eq!(steps(config, "a["), Err(PlanError::Name));
        assert_eq!(steps(config, &"a".repeat(INDEX_KEY_BYTES + 1)), Err(PlanError::Name));
        assert_eq!(steps("alias x a\nblacklist a\ninstall a b\n", "x").unwrap(), ["a Blacklisted"]);
    }

    #[test]
    fn a_command_that_blocks_does_so_however_it_is_written_and_in_spite_of_soft_dependencies() {
        for command in ["/bin/false", "/usr/bin/true", "false", " /bin/true $CMDLINE_OPTS", "/bin/false # why; x"] {
            assert!(blocks(command), "{command}");
        }
        for command in ["/bin/false || x", "/bin/true; x", "/sbin/false", "/bin/falsely", "/bin/true `x`", ""] {
            assert!(!blocks(command), "{command}");
        }
        let config = "install a /bin/false\nsoftdep a pre: b\ninstall b x\n";
        assert_eq!(steps(config, "a").unwrap(), ["a Run(\"/bin/false\")"]);
    }

    #[test]
    fn an_alias_may_be_off() {
        assert_eq!(steps("alias net-pf-10 off\n", "net-pf-10").unwrap(), ["off Off"]);
    }

    #[test]
    fn a_built_in_that_only_an_alias_names_is_there() {
        let builtin_alias = Some(Table::text("modules.builtin.modinfo", b"debugfs.alias=fs-debugfs\0"));
        let indexes = Indexes { builtin_alias, ..Indexes::default() };
        let mut actions = Vec::new();
        let planned = plan(indexes, Config::default(), Blacklists::All, "fs-debugfs", &mut |step| {
            actions.push(step.action);
            true
        });
        assert_eq!((planned, actions), (Ok(()), vec![Action::Builtin]));
    }

    #[test]
    fn a_soft_dependency_that_cannot_be_looked_up_fails_nobody() {
        let mut buf = vec![0; 1 << 10];
        let mut writer = Writer::new(&mut buf);
        writer.file(b"softdep a pre: b c[\n", &mut |number, error| panic!("{number}: {error}"));
        let dep = Some(Table::text("modules.dep", b"a.ko:\n"));
        let builtin = Some(Table::binary("modules.builtin.bin", b"damaged"));
        let mut actions = Vec::new();
        let indexes = Indexes { dep, builtin, ..Indexes::default() };
        let planned = plan(indexes, writer.finish(), Blacklists::All, "a", &mut |step| {
            actions.push(step.action);
            true
        });
        assert_eq!((planned, actions), (Ok(()), vec![Action::Load("a.ko")]));
    }

    #[test]
    fn a_name_that_is_too_long_is_no_modules() {
        let long = "a".repeat(INDEX_KEY_BYTES + 1);
        let (config, mut buf) = (format!("alias x {long}\nalias y b-{long}\n"), vec![0; 1 << 16]);
        let mut writer = Writer::new(&mut buf);
        writer.file(config.as_bytes(), &mut |number, error| panic!("{number}: {error}"));
        // A text ends with a line that is empty, as is the name of its module; and the name may not be cut.
        let dep = Some(Table::text("modules.dep", b"b.ko:\nb_.ko:\n"));
        let builtin = Some(Table::text("modules.builtin", b"c.ko\n"));
        let indexes = Indexes { dep, builtin, ..Indexes::default() };
        let config = writer.finish();
        for name in ["x", "y"] {
            let mut actions = Vec::new();
            let planned = plan(indexes, config, Blacklists::All, name, &mut |step| {
                actions.push(step.action);
                true
            });
            assert_eq!((planned, actions), (Ok(()), vec![Action::Absent]), "{name}");
        }
    }

    /// `count` modules, each with a command, and what `softdep` says of each.
    fn many(count: usize, softdep: impl Fn(usize) -> String) -> String {
        (0..count).fold(String::new(), |mut config, i| {
            let _ = write!(config, "install m{i} x\n{}", softdep(i));
            config
        })
    }

    #[test]
    fn a_circle_ends_and_limits_are_told() {
        let circle = many(3, |i| format!("softdep m{i} pre: m{}\n", (i + 1) % 3));
        assert_eq!(steps(&circle, "m0").unwrap(), ["m2? Absent", "m1? Absent", "m0 Absent"]);
        let chain = |len: usize| {
            many(len, |i| if i + 1 < len { format!("softdep m{i} pre: m{}\n", i + 1) } else { String::new() })
        };
        assert_eq!(steps(&chain(PLAN_DEPTH), "m0").map(|steps| steps.len()), Ok(PLAN_DEPTH));
        assert_eq!(steps(&chain(PLAN_DEPTH + 1), "m0"), Err(PlanError::TooDeep));
        let star = |rays: usize| {
            let names = (1..=rays).map(|i| format!(" m{i}")).collect::<String>();
            many(rays + 1, |i| if i == 0 { format!("softdep m0 post:{names}\n") } else { String::new() })
        };
        // The fortieth step ends the plan.
        assert_eq!(steps(&star(PLAN_VISITED - 1), "m0").map(|steps| steps.len()), Ok(40));
        let mut buf = vec![0; 1 << 16];
        let mut writer = Writer::new(&mut buf);
        writer.file(star(PLAN_VISITED).as_bytes(), &mut |_, _| {});
        let planned = plan(Indexes::default(), writer.finish(), Blacklists::All, "m0", &mut |_| true);
        assert_eq!(planned, Err(PlanError::TooMany));
        let aliases = "alias x a\n".repeat(ALIAS_MATCHES + 1);
        assert_eq!(steps(&aliases, "x"), Err(PlanError::TooManyMatches));
    }
}
