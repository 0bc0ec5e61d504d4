//! Where a kernel's files are on the build host: what `scripts/kernel` and `scripts/small-kernel` left, and
//! trees of modules.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::board::{Arch, Board, KernelSpec, Origin};

/// A kernel whose files are there.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What the board says of it.
    pub spec: KernelSpec,
    /// The folder with its files.
    pub dir: PathBuf,
    /// Its modules.
    pub tree: Tree,
}

/// Modules of one kernel, as depmod indexed them.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The folder with `modules.dep`.
    pub dir: PathBuf,
    /// The kernel's release.
    pub release: String,
}

impl Kernel {
    /// Finds the files of the board's kernel of that name, or of its first.
    pub fn find(board: &Board, name: Option<&str>) -> Result<Kernel> {
        Self::find_in(&cache()?, board, name)
    }

    fn find_in(cache: &Path, board: &Board, name: Option<&str>) -> Result<Kernel> {
        let spec = board.kernel_spec(name)?;
        let dir = cache.join("kernels").join(match &spec.origin {
            Origin::Package { suite, package } => format!("{suite}-{package}"),
            Origin::Build(name) => name.clone(),
        });
        if !dir.join("done").exists() {
            let command = spec.origin.script(board.arch);
            bail!("{}: no kernel there; {command} provides it", dir.display());
        }
        let tree = Tree::find(&dir)?;
        Ok(Kernel { spec: spec.clone(), dir, tree })
    }

    /// The kernel itself, to boot.
    pub fn image(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// The device tree that the board names.
    pub fn dtb(&self) -> Option<PathBuf> {
        self.spec.dtb.as_ref().map(|dtb| self.dir.join("dtb").join(dtb))
    }

    /// A static busybox for the board.
    pub fn busybox(&self) -> PathBuf {
        self.dir.join("busybox")
    }
}

impl Origin {
    /// The command that provides it.
    pub fn script(&self, arch: Arch) -> String {
        match self {
            Origin::Package { suite, package } => format!("scripts/kernel {suite} {} {package}", arch.debian()),
            Origin::Build(name) => format!("scripts/small-kernel {name}"),
        }
    }
}

impl Tree {
    /// Finds the tree: `dir` itself, or the only one in its `lib/modules`.
    pub fn find(dir: &Path) -> Result<Tree> {
        let mut trees = Vec::new();
        if dir.join("modules.dep").exists() {
            trees.push(dir.to_path_buf());
        } else if let Ok(entries) = fs::read_dir(dir.join("lib/modules")) {
            trees.extend(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|dir| dir.is_dir()));
        }
        match &trees[..] {
            [] => bail!("{}: no modules.dep in it and no lib/modules; expected a kernel's modules", dir.display()),
            [tree] if tree.join("modules.dep").exists() => {
                let dir = fs::canonicalize(tree).with_context(|| format!("{}", tree.display()))?;
                let release = dir.file_name().unwrap_or_default().to_str().unwrap_or_default().to_string();
                Ok(Tree { dir, release })
            }
            [tree] => bail!("{}: no modules.dep; depmod makes it", tree.display()),
            trees => {
                let trees: Vec<_> = trees.iter().map(|tree| tree.display().to_string()).collect();
                bail!("{}: more than one kernel's modules; expected one of {}", dir.display(), trees.join(", "))
            }
        }
    }

    /// The folder with the modules on the target.
    pub fn target_dir(&self) -> String {
        format!("/lib/modules/{}", self.release)
    }
}

/// Where the scripts leave what they fetch and build; an empty variable counts as none, as in the shell's `${NAME:-…}`.
pub fn cache() -> Result<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
    var("MODEST_CACHE")
        .or_else(|| Some(var("XDG_CACHE_HOME")?.join("modest")))
        .or_else(|| Some(var("HOME")?.join(".cache/modest")))
        .context("none of MODEST_CACHE, XDG_CACHE_HOME and HOME is set")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::tests::{MINIMAL, board};

    #[test]
    fn a_missing_kernel_says_what_provides_it() {
        let built = MINIMAL.replacen("suite = \"trixie\"\npackage = \"linux-image-arm64\"", "build = \"tiny\"", 1);
        for (text, says) in [
            (
                MINIMAL,
                "/nowhere/kernels/trixie-linux-image-arm64: no kernel there; \
                 scripts/kernel trixie arm64 linux-image-arm64 provides it",
            ),
            (&built, "/nowhere/kernels/tiny: no kernel there; scripts/small-kernel tiny provides it"),
        ] {
            let board = board(text).unwrap();
            let error = Kernel::find_in(Path::new("/nowhere"), &board, None).unwrap_err().to_string();
            assert_eq!(error, says);
        }
    }

    #[test]
    fn a_tree_is_found_where_it_is_the_only_one() {
        let tmp = tempfile::tempdir().unwrap();
        let message = |dir: &Path| Tree::find(dir).unwrap_err().to_string();
        assert!(message(tmp.path()).ends_with("expected a kernel's modules"));
        let one = tmp.path().join("lib/modules/6.1.0");
        fs::create_dir_all(&one).unwrap();
        assert!(message(tmp.path()).ends_with("lib/modules/6.1.0: no modules.dep; depmod makes it"));
        fs::write(one.join("modules.dep"), "").unwrap();
        for dir in [tmp.path(), &one] {
            let tree = Tree::find(dir).unwrap();
            assert_eq!((tree.release.as_str(), tree.target_dir().as_str()), ("6.1.0", "/lib/modules/6.1.0"));
        }
        fs::create_dir(tmp.path().join("lib/modules/6.2.0")).unwrap();
        assert!(message(tmp.path()).contains("more than one kernel's modules"));
    }
}
