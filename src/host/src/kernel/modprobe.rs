//! What modprobe would do for a name, from the indexes of a tree and the files of modprobe.d, by the target's own code.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use modest_loader::limits::{CMDLINE_CONFIG_BYTES, PATH_BYTES};
use modest_loader::name::Name;
use modest_loader::resolve::config::{Config, Writer};
use modest_loader::resolve::plan::{Action, Blacklists, PlanError, Step};
use modest_loader::resolve::{ResolveError, Tree};
use modest_loader::sys::Linux;

use super::tree;

/// A tree's indexes and configuration, and what is on a kernel command line.
pub struct Database {
    folder: PathBuf,
    tree: Tree<Linux>,
    cmdline: String,
}

impl Database {
    /// Reads what there is of the tree's indexes, and of the folders of `config`, where of files of the same name the first
    /// counts. `tell` hears of each line of them that is left out.
    pub fn read(tree: &tree::Tree, config: &[&Path], cmdline: &str, tell: &mut dyn FnMut(String)) -> Result<Database> {
        let folder = tree.index_dir();
        let path = modest_loader::path::joined(&[folder.as_os_str().as_bytes()]);
        let path = path.with_context(|| format!("{}: over PATH_BYTES, {PATH_BYTES}", folder.display()))?;
        let config = config.iter().map(|folder| CString::new(folder.as_os_str().as_bytes()));
        let config = config.collect::<Result<Vec<_>, _>>()?;
        let config: Vec<_> = config.iter().map(|folder| folder.as_c_str()).collect();
        let mut tell = |file: &str, number: usize, error| match number {
            0 => tell(format!("{file}: {error}; left out")),
            _ => tell(format!("{file}:{number}: {error}; left out")),
        };
        let opened = Tree::open(&Linux, &path, &config, &mut tell)
            .map_err(|error| anyhow!("{}: {}", folder.display(), ResolveError::Tree(error)))?;
        let mut buf = vec![0; CMDLINE_CONFIG_BYTES.max(8 * cmdline.len())];
        let mut writer = Writer::new(&mut buf);
        writer.cmdline(cmdline).map_err(|error| anyhow!("the kernel command line: {error}"))?;
        Ok(Database { folder: tree.dir.clone(), tree: opened, cmdline: writer.finish().cmdline.into() })
    }

    /// The lines that `modprobe -D NAME` prints.
    pub fn show_depends(&self, name: &str) -> Result<String> {
        let mut lines = String::new();
        let planned = self.plan(Blacklists::Aliases, name, &mut |step, config| {
            // kmod puts a space behind each, for what its own command line would add.
            let options = step.module.options(config).flat_map(|options| [options, " "]).collect::<String>();
            lines += &match step.action {
                Action::Load(file) => format!("insmod {}/{file} {options}\n", self.folder.display()),
                Action::Run(command) => format!("install {command} {options}\n"),
                Action::Builtin => format!("builtin {}\n", Name(step.module.name)),
                Action::Absent | Action::Blacklisted | Action::Off => String::new(),
            };
            true
        });
        planned.map_err(|error| anyhow!("{name}: {error}, in {}", self.folder.display()))?;
        Ok(lines)
    }

    /// Hands out what to do for `name`, as [`Tree::plan`] does, each step with the configuration that its options are in.
    pub fn plan<'d>(
        &'d self, blacklists: Blacklists, name: &'d str, each: &mut dyn FnMut(Step<'d>, Config<'d>) -> bool,
    ) -> Result<(), PlanError> {
        self.tree.plan(&self.cmdline, blacklists, name, each)
    }

    /// The names that configuration has as weak dependencies of the module `name`, as the kernel writes it.
    pub fn weakdeps<'d>(&'d self, name: &str) -> impl Iterator<Item = &'d str> + use<'d> {
        let own: Vec<_> = self.tree.config("").weakdeps(name).collect();
        own.into_iter()
    }
}
