//! Modules that are in an image for later, which its manifest does not load, and what the target finds them by.
//!
//! They are for devices (`@coldplug`, `@wait`) and for what the kernel itself asks for. What each needs comes with it, as
//! modprobe would load it; weak dependencies too, which nothing loads but something may ask for (modprobe.d(5)).

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use modest_loader::name::{self, Name};
use modest_loader::resolve::plan::{Action, Blacklists, PlanError, blocks};
use modest_loader::resolve::tree::is_config;

use super::places::CONFIG;
use super::plan::{check_length, not_planned};
use super::several::matching;
use crate::kernel::depmod::Indexes;
use crate::kernel::files::order;
use crate::kernel::modprobe::Database;
use crate::kernel::{Tree, builtin_files};
use crate::module::file::ModuleFile;

/// The modules of an image, as paths below the tree.
pub struct Included<'a> {
    tree: &'a Tree,
    database: &'a Database,
    /// Those that the tree has.
    known: Vec<String>,
    /// Those of the image: first those that the manifest loads.
    files: Vec<String>,
    seen: HashSet<String>,
    /// What a person might want to know.
    pub notes: Vec<String>,
}

impl<'a> Included<'a> {
    /// Of an image with a manifest that loads `files`.
    pub fn new(tree: &'a Tree, database: &'a Database, files: Vec<String>) -> Included<'a> {
        let (known, seen) = (tree.indexed("modules.dep"), files.iter().cloned().collect());
        Included { tree, database, known, files, seen, notes: Vec::new() }
    }

    /// Adds a module by its name or an alias, or where `what` has a `/`, those that it means as a folder or as a pattern
    /// ([`matching`]); and all that modprobe would load for them. What is built into the kernel is there already.
    pub fn add(&mut self, what: &str) -> Result<()> {
        if !what.contains('/') && !what.starts_with('=') {
            return self.add_asked(name::of(what).0);
        }
        let found = matching(self.tree, &self.known, what)?;
        found.iter().try_for_each(|name| self.add_asked(name))
    }

    fn add_asked(&mut self, name: &str) -> Result<()> {
        match self.add_planned(name).map_err(|error| not_planned(self.tree, name, error))? {
            Some(absent) => bail!("{name}: there is no module {absent}"),
            None => Ok(()),
        }
    }

    /// Adds what modprobe would load for `name`; returns a module that is missing, if one that it needs is.
    fn add_planned(&mut self, name: &str) -> Result<Option<String>, PlanError> {
        let mut absent = None;
        let database = self.database;
        database.plan(Blacklists::Aliases, name, &mut |step, _| {
            let name = Name(step.module.name);
            match step.action {
                Action::Load(file) => self.add_file(file.into()),
                Action::Run(command) if blocks(command) => {
                    self.note(format!("{name} is not included: install {command}"));
                }
                Action::Run(command) => {
                    let file = self.known.iter().find(|file| name::of(file) == name).cloned();
                    file.into_iter().for_each(|file| self.add_file(file));
                    self.note(format!("{name} is loaded by a command, which is not included: install {command}"));
                }
                Action::Blacklisted => self.note(format!("{name} is not included: it is blacklisted")),
                Action::Off => self.note(format!("{name} is not included: an alias is off")),
                Action::Absent if step.is_required => absent = Some(name.to_string()),
                Action::Builtin | Action::Absent => {}
            }
            true
        })?;
        Ok(absent)
    }

    fn add_file(&mut self, file: String) {
        if self.seen.insert(file.clone()) {
            self.files.push(file);
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Reads the modules, behind those that are in `modules`, which the manifest loads; and the weak dependencies of all that
    /// the tree has.
    pub fn read(&mut self, modules: &mut Vec<ModuleFile>, read: impl Fn(&str) -> Result<ModuleFile>) -> Result<()> {
        let mut at = 0;
        // The list grows by what the modules on it bring.
        while let Some(file) = self.files.get(at) {
            if at == modules.len() {
                let module = read(file)?;
                check_length(&self.tree.target_dir(), &module.file)?;
                modules.push(module);
            }
            self.add_weak(&modules[at])?;
            at += 1;
        }
        ensure!(at == modules.len(), "as many files as the manifest loads");
        Ok(())
    }

    /// Adds the weak dependencies that a module tells, or modprobe.d; they need not exist.
    fn add_weak(&mut self, module: &ModuleFile) -> Result<()> {
        let name = name::of(&module.file).to_string();
        let own = module.info.weakdeps.iter().flat_map(|names| names.split_ascii_whitespace());
        for weak in own.chain(self.database.weakdeps(&name)) {
            match self.add_planned(weak) {
                Ok(_) | Err(PlanError::NotFound | PlanError::Name) => {}
                Err(error) => return Err(not_planned(self.tree, weak, error)),
            }
        }
        Ok(())
    }
}

/// What the target looks modules up in, files with their paths: indexes of `modules` and of what is built into the kernel,
/// and what is in the folders of `config`, of those of one name the first.
pub fn tables(tree: &Tree, modules: &[ModuleFile], config: &[&Path]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files: Vec<_> = modules.iter().map(|module| (module.file.as_str(), module.bytes.as_slice())).collect();
    // As they are found in a tree: which comes first counts where several have an alias.
    files.sort_by_key(|(file, _)| *file);
    let indexes = Indexes::of_files(&files, &order(&tree.dir)?)?.files()?;
    let indexes = indexes.into_iter().chain(builtin_files(tree.index_dir())?);
    let tables = indexes.map(|(name, bytes)| (format!("{}/{name}", tree.target_dir()), bytes));
    let config = config_files(config)?.into_iter().map(|(name, bytes)| (format!("{CONFIG}/{name}"), bytes));
    Ok(tables.chain(config).collect())
}

/// The files that modprobe would read in `folders`, by their names.
fn config_files(folders: &[&Path]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for folder in folders {
        // One that is not there has no files, as on the target.
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.with_context(|| folder.display().to_string())?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if is_config(name) && path.is_file() && !files.contains_key(name) {
                let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
                files.insert(name.to_string(), bytes);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::made::tree;
    use crate::module::info::ModuleInfo;

    const DEP: &[u8] =
        b"kernel/net/a/a.ko.xz: kernel/lib/l.ko\nkernel/lib/l.ko:\nkernel/net/b-c.ko: kernel/net/a/a.ko.xz \
        kernel/lib/l.ko\nkernel/fs/f.ko:\nkernel/fs/s.ko:\nkernel/lib/w.ko: kernel/lib/l.ko\n";
    const CONF: &[u8] = b"blacklist f\nalias fs-f f\nalias fs-none none\nsoftdep f pre: s gone\ninstall s /bin/false\n\
        install w modprobe --ignore-install w\nweakdep f* fs-s w gone x[\nalias fs-s s\n";

    fn included(files: &[&str], what: &[&str]) -> Result<(Vec<String>, Vec<String>)> {
        let (_tmp, tree) = tree(&[("modules.dep", DEP), ("modules.builtin", b"k/built-in.ko\n"), ("c/a.conf", CONF)]);
        let database = Database::read(&tree, &[&tree.dir.join("c")], "", &mut |line| panic!("{line}"))?;
        let files: Vec<_> = files.iter().map(|file| file.to_string()).collect();
        let mut included = Included::new(&tree, &database, files.clone());
        what.iter().try_for_each(|what| included.add(what))?;
        let module = |file: &str| ModuleFile {
            file: file.into(),
            bytes: Vec::new(),
            image_bytes: 0,
            sha256: String::new(),
            original_sha256: String::new(),
            saved_bytes: 0,
            not_stripped: None,
            info: ModuleInfo {
                weakdeps: if file.ends_with("l.ko") { vec!["b_c".into()] } else { Vec::new() },
                ..ModuleInfo::default()
            },
        };
        let mut modules = files.iter().map(|file| module(file)).collect();
        included.read(&mut modules, |file| Ok(module(file)))?;
        let files: Vec<_> = modules.into_iter().map(|module| module.file).collect();
        Ok((files, included.notes))
    }

    #[test]
    fn what_is_included_brings_what_it_needs() {
        let all = ["kernel/lib/l.ko", "kernel/net/a/a.ko.xz", "kernel/net/b-c.ko"];
        for what in [
            "b-c",
            "b_c.ko",
            "kernel/net/*",
            "kernel/net",
            "kernel/net/",
            "=net",
            "/lib/modules/6.1.0/kernel/net/?-c.ko",
            "*/b-c.ko",
        ] {
            assert_eq!(included(&[], &[what]).unwrap(), (all.map(String::from).into(), vec![]), "{what}");
        }
        // What the manifest loads stays first, and brings its own.
        let (files, _) = included(&["kernel/net/a/a.ko.xz"], &["kernel/net/a/a.ko"]).unwrap();
        assert_eq!(files, ["kernel/net/a/a.ko.xz", "kernel/lib/l.ko", "kernel/net/b-c.ko"]);
        assert_eq!(included(&[], &["built_in"]).unwrap(), (vec![], vec![]));
    }

    #[test]
    fn configuration_counts() {
        let (files, notes) = included(&[], &["f", "fs-f"]).unwrap();
        let with_weak = ["fs/f", "lib/l", "lib/w", "net/a/a", "net/b-c"];
        let mut sorted: Vec<_> =
            files.iter().map(|file| file["kernel/".len()..].split(".ko").next().unwrap()).collect();
        sorted.sort();
        assert_eq!((sorted, files[0].as_str()), (with_weak.into(), "kernel/fs/f.ko"));
        assert_eq!(
            notes,
            [
                "s is not included: install /bin/false",
                "f is not included: it is blacklisted",
                "w is loaded by a command, which is not included: install modprobe --ignore-install w",
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (what, says) in [
            ("b-d", "b-d: no module and no alias of that name in /"),
            ("build_in", "did you mean built_in?"),
            ("fs-none", "fs-none: there is no module none"),
            ("kernel/ne", "kernel/ne: matches no module in /"),
            ("kernel/fs/ff.ko", "kernel/fs/ff.ko: matches no module in /"),
            ("kernel/fs/ff.ko", "did you mean kernel/fs/f.ko or "),
            ("kernel/[", "kernel/[: Pattern syntax error"),
        ] {
            let error = format!("{:#}", included(&[], &[what]).unwrap_err());
            assert!(error.contains(says), "{says} not in: {error}");
        }
    }

    #[test]
    fn the_first_file_of_a_name_is_taken() {
        let files = [("a/x.conf", "1"), ("b/x.conf", "2"), ("b/y.conf", "3"), ("b/.z.conf", "4"), ("b/z", "5")];
        let files: Vec<_> = files.iter().map(|(file, text)| (*file, text.as_bytes())).collect();
        let (_tmp, tree) = tree(&files);
        let folders = ["none", "a", "b"].map(|folder| tree.dir.join(folder));
        let found = config_files(&folders.each_ref().map(|folder| folder.as_path())).unwrap();
        assert!(found.into_iter().eq([("x.conf".into(), b"1".into()), ("y.conf".into(), b"3".into())]));
    }
}
