//! A kernel's modules on the build host, and what they are looked up in.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use modest_loader::resolve::index::Index;
use tempfile::TempDir;

use super::builtin::builtin_files;
use super::depmod::Indexes;
use super::files::module_files;
use crate::codec::decode;
use crate::module::modinfo::release;

/// Modules of one kernel, and their indexes.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The folder with the modules.
    pub dir: PathBuf,
    /// The kernel's release.
    pub release: String,
    /// Indexes, where depmod left none in `dir`.
    made: Option<Arc<TempDir>>,
    /// Why which files are in none of these indexes, a line for each.
    pub passed_over: Vec<String>,
}

impl Tree {
    /// The tree of that folder, which has indexes itself.
    pub fn new(dir: impl Into<PathBuf>, release: impl Into<String>) -> Tree {
        Tree { dir: dir.into(), release: release.into(), made: None, passed_over: Vec::new() }
    }

    /// Finds the tree: `dir` itself, or the only one in its `lib/modules` or `usr/lib/modules`. Where depmod left no
    /// indexes, they are made.
    pub fn find(dir: &Path) -> Result<Tree> {
        let dir = fs::canonicalize(dir).with_context(|| dir.display().to_string())?;
        if has_indexes(&dir) {
            return Ok(Self::with_indexes(dir));
        }
        match &versions(&dir)[..] {
            [] => Self::without_indexes(dir),
            [version] => {
                let version = fs::canonicalize(version).with_context(|| version.display().to_string())?;
                if has_indexes(&version) { Ok(Self::with_indexes(version)) } else { Self::without_indexes(version) }
            }
            versions => {
                let versions: Vec<_> = versions.iter().map(|version| version.display().to_string()).collect();
                bail!("{}: more than one kernel's modules; expected one of {}", dir.display(), versions.join(", "))
            }
        }
    }

    fn with_indexes(dir: PathBuf) -> Tree {
        let release = file_name(&dir);
        Tree::new(dir, release)
    }

    fn without_indexes(dir: PathBuf) -> Result<Tree> {
        let files = module_files(&dir)?;
        let Some(first) = files.first() else {
            bail!("{}: no modules in it and no lib/modules; expected a kernel's modules", dir.display());
        };
        let release = if is_version(&dir) {
            file_name(&dir)
        } else {
            // One that is damaged does not tell.
            let told = files.iter().find_map(|file| release_of(&dir.join(file)).ok());
            told.map_or_else(|| release_of(&dir.join(first)), Ok)?
        };
        let made = tempfile::Builder::new().prefix("mkmodest-").tempdir()?;
        let indexes = Indexes::of_tree(&dir)?;
        let weakdep = ("modules.weakdep", indexes.weakdep().into_bytes());
        for (name, bytes) in indexes.files()?.into_iter().chain(builtin_files(&dir)?).chain([weakdep]) {
            let path = made.path().join(name);
            fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        }
        Ok(Tree { dir, release, made: Some(Arc::new(made)), passed_over: indexes.passed_over().to_vec() })
    }

    /// The folder with the indexes: depmod's, or those made in their place, which last as long as the tree.
    pub fn index_dir(&self) -> &Path {
        self.made.as_ref().map_or(&self.dir, |made| made.path())
    }

    /// The modules in `index`, `modules.dep` or `modules.builtin`: their paths, or if only names are known, these.
    pub fn indexed(&self, index: &str) -> Vec<String> {
        let dir = self.index_dir();
        if let Ok(text) = fs::read_to_string(dir.join(index)) {
            return text.lines().filter_map(|line| Some(line.split(':').next()?.to_string())).collect();
        }
        let mut modules = Vec::new();
        let bytes = fs::read(dir.join(format!("{index}.bin"))).unwrap_or_default();
        // One that is damaged is told by whoever looks something up in it.
        let _ = Index::new(&bytes).map(|index| {
            index.each(&mut |name, line| {
                modules.push(line.split(':').find(|path| !path.is_empty()).unwrap_or(name).into())
            })
        });
        modules
    }

    /// The folder with the modules on the target.
    pub fn target_dir(&self) -> String {
        format!("/lib/modules/{}", self.release)
    }
}

/// Whether depmod left indexes; a text alone, as that of busybox's depmod, is read as the target reads it.
fn has_indexes(dir: &Path) -> bool {
    ["modules.dep", "modules.dep.bin"].iter().any(|index| dir.join(index).exists())
}

/// The folders of kernels in `lib/modules` and `usr/lib/modules` of `dir`, or in `dir` if it is such a folder.
fn versions(dir: &Path) -> Vec<PathBuf> {
    let all = match dir.ends_with("lib/modules") {
        true => vec![dir.to_path_buf()],
        false => OF_ROOT.iter().filter_map(|path| place_in(dir, path, Path::new("/"))).collect(),
    };
    let entries = all.iter().flat_map(|all| fs::read_dir(all).into_iter().flatten());
    let is_dir = |path: &PathBuf| path.is_dir();
    let versions = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_dir);
    let mut versions: Vec<_> = versions.filter_map(|version| fs::canonicalize(version).ok()).collect();
    versions.sort();
    // `lib` is often a link to `usr/lib`.
    versions.dedup();
    versions
}

/// Where modules are in a root folder.
const OF_ROOT: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// The folder that `path` is in the root folder `root`. Links lead where they do for a program whose root that is. If that
/// is not there, they lead where they do on this machine, whose own root is `machine`: a person may have made them to a
/// kernel elsewhere, but never to the modules of the machine's own kernel.
fn place_in(root: &Path, path: &str, machine: &Path) -> Option<PathBuf> {
    let elsewhere = || {
        let place = fs::canonicalize(root.join(path)).ok().filter(|place| place.is_dir())?;
        let is_own = |own: &&str| fs::canonicalize(machine.join(own)).is_ok_and(|own| own == place);
        (!OF_ROOT.iter().any(is_own)).then_some(place)
    };
    below(root, path).or_else(elsewhere)
}

/// The folder that `path` is in the root folder `root`, as a program whose root that is would find it: no link on the way
/// leads out.
fn below(root: &Path, path: &str) -> Option<PathBuf> {
    // As many as the kernel follows (path_resolution(7)).
    let mut links = 40;
    let mut place = PathBuf::new();
    let mut rest: Vec<_> = path.split('/').rev().map(PathBuf::from).collect();
    while let Some(part) = rest.pop() {
        match part.components().next() {
            Some(Component::ParentDir) => drop(place.pop()),
            Some(Component::RootDir) => place.clear(),
            _ => place.push(part),
        }
        let Ok(target) = fs::read_link(root.join(&place)) else { continue };
        links -= 1;
        if links == 0 {
            return None;
        }
        place.pop();
        rest.extend(target.components().rev().map(|part| PathBuf::from(part.as_os_str())));
    }
    Some(root.join(place)).filter(|place| place.is_dir())
}

/// Whether a folder is named as the kernel whose modules it has.
fn is_version(dir: &Path) -> bool {
    dir.parent().is_some_and(|parent| parent.ends_with("lib/modules"))
}

fn file_name(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_str().unwrap_or_default().into()
}

/// The release that a module was built for.
fn release_of(module: &Path) -> Result<String> {
    let read =
        || release(&decode(&fs::read(module)?)?)?.context("no vermagic in it; expected a folder lib/modules/VERSION");
    read().with_context(|| module.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::made::module;

    #[test]
    fn a_tree_is_found_where_it_is_the_only_one() {
        let tmp = tempfile::tempdir().unwrap();
        let message = |dir: &Path| Tree::find(dir).unwrap_err().to_string();
        assert!(message(tmp.path()).ends_with("expected a kernel's modules"));
        let one = tmp.path().join("lib/modules/6.1.0");
        fs::create_dir_all(&one).unwrap();
        assert!(message(tmp.path()).contains("lib/modules/6.1.0: no modules in it"));
        for index in ["modules.dep", "modules.dep.bin"] {
            fs::write(one.join(index), "").unwrap();
            for dir in [tmp.path(), &tmp.path().join("lib/modules"), &one] {
                let tree = Tree::find(dir).unwrap();
                assert_eq!((tree.release.as_str(), tree.target_dir().as_str()), ("6.1.0", "/lib/modules/6.1.0"));
                assert_eq!(tree.index_dir(), tree.dir);
            }
            fs::remove_file(one.join(index)).unwrap();
        }
        let usr = tmp.path().join("usr/lib/modules");
        fs::create_dir_all(usr.join("6.2.0")).unwrap();
        assert!(message(tmp.path()).contains("more than one kernel's modules"));
        fs::write(usr.join("6.2.0/modules.dep"), "").unwrap();
        fs::remove_dir_all(tmp.path().join("lib")).unwrap();
        assert_eq!(Tree::find(tmp.path()).unwrap().release, "6.2.0");
        // A link of a root to a place in that root, whatever the machine has there.
        let link = |to: &str, from: &str| std::os::unix::fs::symlink(to, tmp.path().join(from)).unwrap();
        link("/usr/lib", "lib");
        assert_eq!(Tree::find(tmp.path()).unwrap().release, "6.2.0");
        for to in ["x", "../../../../../usr/lib", "./x"] {
            fs::remove_file(tmp.path().join("lib")).unwrap();
            link(to, "lib");
            let _ = fs::remove_file(tmp.path().join("x"));
            link("/usr/lib", "x");
            assert_eq!(below(tmp.path(), "lib/modules"), Some(usr.clone()), "{to}");
        }
        fs::remove_file(tmp.path().join("x")).unwrap();
        link("lib", "x");
        fs::remove_file(tmp.path().join("lib")).unwrap();
        link("x", "lib");
        assert_eq!(below(tmp.path(), "lib/modules"), None, "a loop");
        fs::create_dir(usr.join("6.3.0")).unwrap();
        assert!(message(tmp.path()).contains("more than one kernel's modules"));
    }
    #[test]
    fn a_link_may_lead_to_a_kernel_elsewhere_but_not_to_the_machines_own() {
        let tmp = tempfile::tempdir().unwrap();
        let [root, elsewhere, machine] = ["root", "elsewhere", "machine"].map(|name| tmp.path().join(name));
        for lib in [&elsewhere.join("lib"), &machine.join("usr/lib")] {
            fs::create_dir_all(lib.join("modules/6.1.0")).unwrap();
            fs::write(lib.join("modules/6.1.0/modules.dep"), "").unwrap();
        }
        fs::create_dir(&root).unwrap();
        let linked_to = |to: &Path| {
            let _ = fs::remove_file(root.join("lib"));
            std::os::unix::fs::symlink(to, root.join("lib")).unwrap();
            place_in(&root, "lib/modules", &machine)
        };
        let there = fs::canonicalize(elsewhere.join("lib/modules")).unwrap();
        assert_eq!(linked_to(&elsewhere.join("lib")), Some(there.clone()));
        assert_eq!(linked_to(Path::new("../elsewhere/lib")), Some(there));
        assert_eq!(Tree::find(&root).unwrap().release, "6.1.0");
        assert_eq!(linked_to(&machine.join("usr/lib")), None);
        // What is in the root comes first.
        let own = root.join("usr/lib/modules");
        fs::create_dir_all(&own).unwrap();
        assert_eq!(linked_to(Path::new("/usr/lib")), Some(own));
    }

    #[test]
    fn indexes_are_made_where_there_are_none() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("modules");
        fs::create_dir_all(dir.join("k")).unwrap();
        fs::write(dir.join("k/a.ko"), module(&[])).unwrap();
        let error = format!("{:#}", Tree::find(&dir).unwrap_err());
        assert!(error.ends_with("k/a.ko: no vermagic in it; expected a folder lib/modules/VERSION"), "{error}");
        fs::write(dir.join("k/a.ko"), module(&["vermagic=6.3.0 SMP", "weakdep=b"])).unwrap();
        fs::write(dir.join("k/b.ko"), module(&["vermagic=6.2.0 SMP", "depends=a"])).unwrap();
        fs::write(dir.join("0.ko"), b"no module").unwrap();
        fs::write(dir.join("modules.builtin"), "k/c-d.ko\n").unwrap();
        let tree = Tree::find(&dir).unwrap();
        assert_eq!(tree.release, "6.3.0");
        assert_eq!(
            (tree.indexed("modules.dep"), tree.indexed("modules.builtin")),
            (vec!["k/a.ko".into(), "k/b.ko".into()], vec!["c_d".into()])
        );
        let [why] = &tree.passed_over[..] else { panic!("{:?}", tree.passed_over) };
        assert!(why.contains("/0.ko: "), "{why}");
        fs::remove_file(dir.join("0.ko")).unwrap();
        let made = tree.index_dir().to_path_buf();
        let other = tree.clone();
        drop(tree);
        let weakdep = fs::read_to_string(other.index_dir().join("modules.weakdep")).unwrap();
        assert!(weakdep.ends_with("\nweakdep a b\n"), "{weakdep}");
        drop(other);
        assert!(!made.exists());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);

        let version = tmp.path().join("lib/modules/6.4.0");
        fs::create_dir_all(version.parent().unwrap()).unwrap();
        fs::rename(&dir, &version).unwrap();
        assert_eq!(Tree::find(tmp.path()).unwrap().release, "6.4.0");
    }
}
