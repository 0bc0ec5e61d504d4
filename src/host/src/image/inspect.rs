//! Whether the modules that an initramfs's manifest loads can be loaded. Nothing of an image is written anywhere by its name
//! but indexes of modules and configuration.

use std::fs;

use anyhow::{Context, Result};
use modest_loader::format::Format;
use modest_loader::manifest::{Entry, Line};
use modest_loader::name;
use modest_loader::resolve::plan::{Action, Blacklists};
use tempfile::TempDir;

use super::initramfs::Initramfs;
use super::places::{CONFIG, MANIFEST};
use crate::check::{self, Around, Checked, Kind, Member, Problem, Report};
use crate::codec::decode;
use crate::kernel::modprobe::Database;
use crate::kernel::{KernelSymbols, Tree, TreeSymbols};
use crate::module::info::ModuleInfo;

impl Initramfs {
    /// What is wrong with the modules: with those that the manifest loads in its order, with the others as they are there for
    /// later.
    pub fn check(&self, symbols: Option<&KernelSymbols>) -> Result<Report> {
        let mut set = Loaded { image: self, files: Vec::new(), problems: Vec::new() };
        let root = set.manifest()?;
        let loaded = set.files.len();
        let in_libraries = self.below("lib").chain(self.below("usr/lib"));
        for (path, _) in in_libraries.filter(|(path, _)| name::strip_ko(path).is_some()) {
            set.add(format!("/{path}"), String::new());
        }
        let Loaded { files, mut problems, .. } = set;
        let read: Vec<_> = files.iter().map(|(file, _)| self.info(file, &mut problems)).collect();
        let members = |range: std::ops::Range<usize>| {
            let members = range.filter_map(|i| {
                let (file, params) = &files[i];
                Some(Member { file, info: read[i].as_ref()?, params })
            });
            members.collect::<Vec<_>>()
        };
        let (loaded, later) = (members(0..loaded), members(loaded..files.len()));
        let tree = TreeSymbols::of(&root.tree);
        let release = Some(root.tree.release.as_str()).filter(|release| !release.is_empty());
        let around = Around { machine: None, release, kernel: symbols, tree: Some(&tree) };
        problems.extend(check::set(&loaded, &later, around));
        let firmware = self.firmware();
        let is_there = |wanted: &str| {
            firmware.iter().any(|path| *path == wanted || glob::Pattern::new(wanted).is_ok_and(|w| w.matches(path)))
        };
        for Member { file, info, .. } in loaded {
            problems.extend(check::firmware(file, &info.firmware, &is_there, "the image", false, false));
        }
        let checked =
            |((file, _), info): ((String, _), Option<_>)| Checked { file, info: info.unwrap_or_default(), map: None };
        Ok(Report { modules: files.into_iter().zip(read).map(checked).collect(), problems })
    }

    /// What a module's file tells; `None` if it is not to be decompressed, which is a problem.
    fn info(&self, file: &str, problems: &mut Vec<Problem>) -> Option<ModuleInfo> {
        let bytes = self.file(file).map(|(_, bytes)| bytes).unwrap_or_default();
        match decode(bytes) {
            Ok(image) => Some(ModuleInfo::read(&image)),
            Err(error) => {
                let cause = format!("not to be decompressed as {}: {error}", Format::of(bytes).name());
                problems.push(Problem::new(Kind::File, file, cause, "take the file as it was built"));
                None
            }
        }
    }

    /// The names of all firmware files, without what tells their compression.
    fn firmware(&self) -> Vec<&str> {
        let files = self.below("lib").chain(self.below("usr/lib"));
        let firmware = files.filter_map(|(path, _)| {
            let path = path.strip_prefix("usr/").unwrap_or(path);
            let path = path.strip_prefix("lib/firmware/")?;
            Some([".xz", ".zst"].iter().find_map(|ending| path.strip_suffix(ending)).unwrap_or(path))
        });
        firmware.collect()
    }
}

/// A folder that names are looked up in, with its indexes.
struct Root {
    /// Its path in the image.
    dir: String,
    /// A copy of the indexes alone.
    tree: Tree,
    database: Option<Database>,
    _copy: TempDir,
}

impl Root {
    fn of(image: &Initramfs, dir: &str) -> Result<Root> {
        let copy = tempfile::Builder::new().prefix("mkmodest-").tempdir()?;
        let release = dir.trim_end_matches('/').strip_prefix("/lib/modules/").unwrap_or_default();
        let tree_dir = copy.path().join("tree");
        let config = copy.path().join("config");
        fs::create_dir(&tree_dir)?;
        fs::create_dir(&config)?;
        let mut has_indexes = false;
        for (folder, into) in [(dir.trim_matches('/'), &tree_dir), (CONFIG.trim_matches('/'), &config)] {
            for (path, bytes) in image.below(folder) {
                let file = &path[folder.len() + 1..];
                let is_wanted = match into == &config {
                    true => file.ends_with(".conf"),
                    false => file.starts_with("modules."),
                };
                if is_wanted && !file.contains('/') {
                    fs::write(into.join(file), bytes).with_context(|| path.to_string())?;
                    has_indexes |= file.starts_with("modules.dep");
                }
            }
        }
        let tree = Tree::new(tree_dir, release);
        let database = match has_indexes {
            true => Some(Database::read(&tree, &[&config], "", &mut |_| {})?),
            false => None,
        };
        Ok(Root { dir: dir.trim_end_matches('/').into(), tree, database, _copy: copy })
    }
}

/// What to do about a module that is not there.
const MISSING: &str = "put it into the image, or leave it out of the manifest";

/// What a manifest loads: each file with its parameters.
struct Loaded<'i> {
    image: &'i Initramfs,
    files: Vec<(String, String)>,
    problems: Vec<Problem>,
}

impl Loaded<'_> {
    fn problem(&mut self, place: &str, cause: String, remedy: &str) {
        self.problems.push(Problem::new(Kind::Manifest, place, cause, remedy));
    }

    /// Adds a file, if it is not among them.
    fn add(&mut self, file: String, params: String) {
        let Some((file, _)) = self.image.file(&file) else { return };
        if !self.files.iter().any(|(other, _)| *other == file) {
            self.files.push((file, params.trim().into()));
        }
    }

    /// Adds what the manifest loads; returns the folder that it is in at its end.
    fn manifest(&mut self) -> Result<Root> {
        let image = self.image;
        let roots = image.roots();
        let mut root = Root::of(image, roots.first().map_or("/", String::as_str))?;
        if let Some((file, text)) = image.file(MANIFEST) {
            for (i, line) in text.split(|b| *b == b'\n').enumerate() {
                let place = format!("{file}:{}", i + 1);
                match Line::parse(line) {
                    Err(error) => self.problem(&place, error.problem.to_string(), "correct the line"),
                    Ok(Line::Root(dir)) => root = Root::of(image, dir)?,
                    Ok(Line::Entry(entry)) => self.entry(&place, &root, &entry),
                    Ok(_) => {}
                }
            }
        }
        Ok(root)
    }

    fn entry(&mut self, place: &str, root: &Root, entry: &Entry) {
        let Entry { module, params, .. } = *entry;
        if module.contains('/') {
            let path = if module.starts_with('/') { module.to_string() } else { format!("{}/{module}", root.dir) };
            return self.add_or_miss(place, path, params.into());
        }
        let asked = name::of(module);
        let Some(database) = &root.database else {
            let endings =
                [".ko", ".ko.gz", ".ko.xz", ".ko.zst"].map(|ending| format!("{}/{}{ending}", root.dir, asked.0));
            match endings.into_iter().find(|path| self.image.file(path).is_some()) {
                Some(path) => self.add(path, params.into()),
                None => self.problem(place, format!("there is no module {module}, and there are no indexes"), MISSING),
            }
            return;
        };
        let (mut planned, mut wrong) = (Vec::new(), None);
        let result = database.plan(Blacklists::All, asked.0, &mut |step, config| {
            match step.action {
                Action::Load(file) => {
                    let options = step.module.options(config).collect::<Vec<_>>().join(" ");
                    let own = if step.is_target { params } else { "" };
                    planned.push((format!("{}/{file}", root.dir), format!("{options} {own}")));
                }
                Action::Absent if step.is_required => wrong = Some(format!("there is no module {}", step.module.name)),
                _ => {}
            }
            true
        });
        if let Some(cause) = wrong.or(result.err().map(|error| format!("{module}: {error}"))) {
            self.problem(place, cause, MISSING);
        }
        for (file, params) in planned {
            self.add_or_miss(place, file, params);
        }
    }

    /// Adds a file of the image; that it is not there is a problem of `place`.
    fn add_or_miss(&mut self, place: &str, file: String, params: String) {
        match self.image.file(&file) {
            Some(_) => self.add(file, params),
            None => self.problem(place, format!("there is no file {file}"), MISSING),
        }
    }
}
