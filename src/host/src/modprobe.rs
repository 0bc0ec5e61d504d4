//! `modprobe -D` in our own words: what to load for a name, from the indexes of a tree and the files of modprobe.d.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use modest_loader::manifest::{Entry, Line};
use modest_loader::name::Name;
use modest_loader::resolve::config::{Config, Writer};
use modest_loader::resolve::index::Index;
use modest_loader::resolve::plan::{Action, Indexes, Step, plan};

/// The bytes of a tree's indexes, and the text of its configuration.
#[derive(Default)]
pub struct Database {
    folder: PathBuf,
    indexes: [Option<Vec<u8>>; 5],
    files: String,
    cmdline: String,
}

const INDEXES: [&str; 5] =
    ["modules.dep", "modules.alias", "modules.symbols", "modules.builtin", "modules.builtin.alias"];

/// A build host has the room; only what is written of it is read again.
const CONFIG_BYTES: usize = 16 << 20;

impl Database {
    /// Reads what there is of the tree `folder`, `/lib/modules/RELEASE`, and of the folders of `config`, where of files of the same
    /// name the first counts. `tell` hears of each line of them that is left out.
    pub fn read(folder: &Path, config: &[&Path], cmdline: &str, tell: &mut dyn FnMut(String)) -> Result<Database> {
        let mut database = Database { folder: folder.into(), ..Database::default() };
        for (bytes, name) in database.indexes.iter_mut().zip(INDEXES) {
            let file = folder.join(format!("{name}.bin"));
            *bytes = match fs::read(&file) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
                read => Some(read.with_context(|| file.display().to_string())?),
            };
        }
        let mut files = ["modules.softdep", "modules.weakdep"].map(|name| folder.join(name)).to_vec();
        for folder in config.iter().filter(|folder| folder.is_dir()) {
            for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
                let file = entry?.path();
                let name = file.file_name().unwrap_or_default().as_encoded_bytes();
                let is_new = files.iter().all(|other| other.file_name() != file.file_name());
                if name.ends_with(b".conf")
                    && name.len() > ".conf".len()
                    && !name.starts_with(b".")
                    && is_new
                    && file.is_file()
                {
                    files.push(file);
                }
            }
        }
        files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        let mut buf = vec![0; CONFIG_BYTES];
        let mut writer = Writer::new(&mut buf);
        for file in files {
            let Ok(bytes) = fs::read(&file) else { continue };
            let text = String::from_utf8_lossy(&bytes);
            writer.file(&text, &mut |number, error| tell(format!("{}:{number}: {error}", file.display())));
        }
        writer.cmdline(cmdline).map_err(|error| anyhow!("the kernel command line: {error}"))?;
        let config = writer.finish();
        (database.files, database.cmdline) = (config.files.into(), config.cmdline.into());
        Ok(database)
    }

    /// The lines that `modprobe -D NAME` prints.
    pub fn show_depends(&self, name: &str) -> Result<String> {
        let mut lines = String::new();
        self.steps(name, &mut |step, config| {
            // kmod puts a space behind each, for what its own command line would add.
            let options = step.options(config).flat_map(|options| [options, " "]).collect::<String>();
            match step.action {
                Action::Load(file) => writeln!(lines, "insmod {}/{file} {options}", self.folder.display())?,
                Action::Run(command) => writeln!(lines, "install {command} {options}")?,
                Action::Builtin => writeln!(lines, "builtin {}", Name(step.module.name))?,
                Action::Absent => {}
            }
            Ok(())
        })?;
        Ok(lines)
    }

    /// A manifest that loads what `names` stand for, each file once, with the tree at `root`; comments tell what it need not or
    /// must not load.
    pub fn manifest(&self, root: &str, names: &[String]) -> Result<String> {
        let (mut lines, mut seen) = (format!("{}\n", Line::Root(root)), BTreeSet::new());
        for asked in names {
            writeln!(lines, "# {asked}")?;
            self.steps(asked, &mut |step, config| {
                let name = Name(step.module.name);
                match step.action {
                    Action::Load(file) if seen.insert(file.to_string()) => {
                        let params = step.options(config).collect::<Vec<_>>().join(" ");
                        let optional = !step.is_required;
                        writeln!(
                            lines,
                            "{}",
                            Line::Entry(Entry { optional, params: params.trim(), ..Entry::new(file) })
                        )?;
                    }
                    Action::Load(_) | Action::Absent => {}
                    Action::Builtin => writeln!(lines, "# {name} is built into the kernel")?,
                    Action::Run(command) => match command.trim() {
                        "/bin/true" | "/bin/false" => {
                            writeln!(lines, "# {name} is not to be loaded: install {command}")?
                        }
                        _ => bail!("{name}: a manifest cannot have its command: install {command}"),
                    },
                }
                Ok(())
            })?;
        }
        Ok(lines)
    }

    fn steps(&self, name: &str, each: &mut dyn FnMut(Step<'_>, Config<'_>) -> Result<()>) -> Result<()> {
        let index = |at: usize| -> Result<Option<Index<'_>>> {
            let Some(bytes) = &self.indexes[at] else { return Ok(None) };
            Ok(Some(Index::new(bytes).map_err(|error| anyhow!("{}.bin: {error}", INDEXES[at]))?))
        };
        let indexes = Indexes {
            dep: index(0)?,
            alias: index(1)?,
            symbols: index(2)?,
            builtin: index(3)?,
            builtin_alias: index(4)?,
        };
        let config = Config { files: &self.files, cmdline: &self.cmdline };
        let mut result = Ok(());
        let planned = plan(indexes, config, name, &mut |step| {
            result = each(step, config);
            result.is_ok()
        });
        result?;
        planned.map_err(|error| anyhow!("{name}: {error}, in {}", self.folder.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_a_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let config = "options b x=1\nsoftdep a pre: c post: d\ninstall blocked /bin/false\ninstall other /bin/sh x\n\
            alias short a\nalias short blocked\nblacklist blocked\n";
        fs::write(folder.path().join("a.conf"), config).unwrap();
        // The indexes of such small trees are in the tests that compare with kmod.
        let database = Database::read(folder.path(), &[folder.path()], "a.y=2", &mut |line| panic!("{line}")).unwrap();
        let root = "@root /r\n";
        let manifest = |name: &str| database.manifest("/r", &[name.into()]).map_err(|error| error.to_string());
        assert_eq!(
            manifest("blocked"),
            Ok(format!("{root}# blocked\n# blocked is not to be loaded: install /bin/false\n"))
        );
        assert_eq!(manifest("short"), Ok(format!("{root}# short\n")));
        assert!(manifest("other").unwrap_err().contains("cannot have its command: install /bin/sh x"));
        assert!(manifest("none").unwrap_err().starts_with("none: no module and no alias of that name"));
    }
}
