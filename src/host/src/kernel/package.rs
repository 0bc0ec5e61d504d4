//! A board's kernel on the build host: what `scripts/kernel` or `scripts/small-kernel` left, or a folder of one's own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::tree::Tree;
use crate::board::{Board, KernelSpec, Origin};

/// A kernel whose files are there.
#[derive(Clone, Debug)]
pub struct KernelPackage {
    /// What the board says of it.
    pub spec: KernelSpec,
    /// The folder with its files.
    pub dir: PathBuf,
    /// Its modules.
    pub tree: Tree,
}

impl KernelPackage {
    /// Finds the files of the board's kernel of that name, or of its first.
    pub fn find(board: &Board, name: Option<&str>) -> Result<KernelPackage> {
        Self::find_in(&cache()?, board, name)
    }

    fn find_in(cache: &Path, board: &Board, name: Option<&str>) -> Result<KernelPackage> {
        let spec = board.kernel_spec(name)?;
        let kernels = cache.join("kernels");
        let (dir, script) = match &spec.origin {
            Origin::Package { suite, package } => (
                kernels.join(format!("{suite}-{package}")),
                Some(format!("scripts/kernel {suite} {} {package}", board.arch.debian())),
            ),
            Origin::Build(name) => (kernels.join(name), Some(format!("scripts/small-kernel {name}"))),
            Origin::Folder(folder) => (board.file.parent().unwrap_or(Path::new("")).join(folder), None),
        };
        match script {
            Some(script) if !dir.join("done").exists() => {
                bail!("{}: no kernel there; {script} provides it", dir.display())
            }
            None if !dir.join("vmlinuz").exists() => {
                bail!("{}: no kernel there; expected vmlinuz and lib/modules/VERSION", dir.display())
            }
            _ => {}
        }
        let tree = Tree::find(&dir)?;
        Ok(KernelPackage { spec: spec.clone(), dir, tree })
    }

    /// The kernel itself, to boot.
    pub fn image(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// The device tree that the board names.
    pub fn dtb(&self) -> Option<PathBuf> {
        self.spec.dtb.as_ref().map(|dtb| self.dir.join("dtb").join(dtb))
    }

    /// The device tree to check with: what the board names for that, or what it boots with.
    pub fn device_tree(&self) -> Option<PathBuf> {
        let file = self.spec.device_tree.as_ref().or(self.spec.dtb.as_ref())?;
        Some(self.dir.join("dtb").join(file))
    }

    /// A static busybox for the board.
    pub fn busybox(&self) -> PathBuf {
        self.dir.join("busybox")
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
        let own = built.replace("build = \"tiny\"", "folder = \"../own\"");
        for (text, says) in [
            (
                MINIMAL,
                "/nowhere/kernels/trixie-linux-image-arm64: no kernel there; \
                 scripts/kernel trixie arm64 linux-image-arm64 provides it",
            ),
            (&built, "/nowhere/kernels/tiny: no kernel there; scripts/small-kernel tiny provides it"),
            (&own, "boards/../own: no kernel there; expected vmlinuz and lib/modules/VERSION"),
        ] {
            let board = board(text).unwrap();
            let error = KernelPackage::find_in(Path::new("/nowhere"), &board, None).unwrap_err().to_string();
            assert_eq!(error, says);
        }
    }
}
