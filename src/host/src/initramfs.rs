//! Reads initramfs images: what is in them, and whether the modules that their manifest loads can be.
//!
//! One or more archives (newc, Documentation/driver-api/early-userspace/buffer-format.rst), each compressed or not, one
//! behind another, as the kernel takes them. Nothing of them is written anywhere by its name but indexes of modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use modest_loader::format::Format;
use modest_loader::manifest::{Entry, Line};
use modest_loader::name;
use modest_loader::resolve::plan::{Action, Blacklists, blocks};
use tempfile::TempDir;

use crate::check::{self, Around, Kind, Member, Problem, Report};
use crate::codec::decode;
use crate::facts::Facts;
use crate::image::MANIFEST;
use crate::kernel::Tree;
use crate::modprobe::Database;
use crate::symbols::{KernelSymbols, TreeSymbols, stream};

/// What is in an image.
#[derive(Clone, Debug, Default)]
pub struct Initramfs {
    /// By path, without the first `/`.
    nodes: BTreeMap<String, Node>,
}

#[derive(Clone, Debug)]
enum Node {
    File(Vec<u8>),
    Link(String),
    /// A folder, a device.
    Other,
}

/// Length of the header of a file in an archive: a magic and thirteen numbers.
const HEADER_BYTES: usize = 6 + 13 * 8;

impl Initramfs {
    /// Whether a file may be one, by how it begins.
    pub fn is_one(bytes: &[u8]) -> bool {
        is_archive(bytes) || Format::of(bytes) != Format::Plain
    }

    /// Reads an image.
    pub fn read(bytes: &[u8]) -> Result<Initramfs> {
        let mut image = Initramfs::default();
        image.add(bytes, 0)?;
        ensure!(!image.nodes.is_empty(), "no archive in it; expected an initramfs (newc)");
        Ok(image)
    }

    fn add(&mut self, bytes: &[u8], depth: usize) -> Result<()> {
        // No kernel looks for an archive in more than one compression.
        ensure!(depth < 3, "compressed more than once");
        let mut rest = bytes;
        while let Some(start) = rest.iter().position(|b| *b != 0) {
            rest = &rest[start..];
            if is_archive(rest) {
                rest = self.add_archive(rest).context("archive")?;
                continue;
            }
            match Format::of(rest) {
                Format::Plain if self.nodes.is_empty() => bail!("no archive in it; expected an initramfs (newc)"),
                Format::Plain => bail!("behind the archive there is something that is none"),
                format => {
                    let mut inner = Vec::new();
                    stream(&mut rest, format, &mut inner)
                        .with_context(|| format!("not to be decompressed as {}", format.name()))?;
                    self.add(&inner, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// Adds an archive's files; returns what is behind it.
    fn add_archive<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8]> {
        let mut at = 0;
        // Of several names for one file the last has the content.
        let mut names_of = BTreeMap::<(u32, u32, u32), Vec<String>>::new();
        loop {
            let header = bytes.get(at..at + HEADER_BYTES).context("it is truncated")?;
            ensure!(is_archive(header), "its file at {at} has no header");
            let field = |i: usize| {
                let text = str::from_utf8(&header[6 + i * 8..14 + i * 8]).ok();
                text.and_then(|text| u32::from_str_radix(text, 16).ok()).context("a header has no number")
            };
            let (ino, mode, links, size) = (field(0)?, field(1)?, field(4)?, field(6)? as usize);
            let device = (field(7)?, field(8)?, ino);
            let name_bytes = field(11)? as usize;
            let name = bytes.get(at + HEADER_BYTES..at + HEADER_BYTES + name_bytes).context("it is truncated")?;
            let name = name.split(|b| *b == 0).next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            let data_at = (at + HEADER_BYTES + name_bytes).next_multiple_of(4);
            let data = bytes.get(data_at..data_at + size).context("it is truncated")?;
            at = (data_at + size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                return Ok(bytes.get(at..).unwrap_or_default());
            }
            let name = name.trim_start_matches("./").trim_matches('/').to_string();
            let node = match mode & 0o170_000 {
                0o100_000 => Node::File(data.to_vec()),
                0o120_000 => Node::Link(String::from_utf8_lossy(data).into_owned()),
                _ => Node::Other,
            };
            if links > 1 && matches!(node, Node::File(_)) {
                let names = names_of.entry(device).or_default();
                names.push(name.clone());
                if !data.is_empty() {
                    for name in names {
                        self.nodes.insert(name.clone(), node.clone());
                    }
                    continue;
                }
            }
            self.nodes.insert(name, node);
        }
    }

    /// A file by its absolute path, through links: the path without them, and what it holds.
    pub fn file(&self, path: &str) -> Option<(String, &[u8])> {
        /// MAXSYMLINKS (include/linux/namei.h).
        const LINKS: usize = 40;
        let mut parts: Vec<String> = path.rsplit('/').map(String::from).collect();
        let (mut done, mut links) = (Vec::<String>::new(), 0);
        while let Some(part) = parts.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            if let Some(Node::Link(target)) = self.nodes.get(&done.join("/")) {
                links += 1;
                if links > LINKS {
                    return None;
                }
                done.pop();
                if target.starts_with('/') {
                    done.clear();
                }
                parts.extend(target.rsplit('/').map(String::from));
            }
        }
        let path = done.join("/");
        match self.nodes.get(&path)? {
            Node::File(bytes) => Some((format!("/{path}"), bytes)),
            _ => None,
        }
    }

    /// The paths of all files below a folder, without the first `/`.
    fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let files = self.nodes.iter().filter_map(|(path, node)| match node {
            Node::File(bytes) => Some((path.as_str(), bytes.as_slice())),
            _ => None,
        });
        files.filter(move |(path, _)| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
    }

    /// The folders with modules, as absolute paths: `/lib/modules/VERSION`.
    fn roots(&self) -> BTreeSet<String> {
        let modules = self.nodes.keys().filter(|path| name::strip_ko(path).is_some());
        let versions = modules.filter_map(|path| {
            let at = path.find("lib/modules/")?;
            // A module that is in lib/modules itself is of no version that its path tells.
            let (version, _) = path[at + "lib/modules/".len()..].split_once('/')?;
            Some(format!("/{}lib/modules/{version}", &path[..at]))
        });
        versions.collect()
    }

    /// What is wrong with the modules: with those that the manifest loads in its order, with the others as they are there for
    /// later.
    pub fn check(&self, symbols: Option<&KernelSymbols>) -> Result<Report> {
        let mut set = Loaded { image: self, files: Vec::new(), problems: Vec::new() };
        let roots = self.roots();
        let mut root = Root::of(self, roots.first().map_or("/", String::as_str))?;
        if let Some((file, text)) = self.file(MANIFEST) {
            for (i, line) in text.split(|b| *b == b'\n').enumerate() {
                let place = format!("{file}:{}", i + 1);
                match Line::parse(line) {
                    Err(error) => set.problem(&place, error.problem.to_string(), "correct the line"),
                    Ok(Line::Root(dir)) => root = Root::of(self, dir)?,
                    Ok(Line::Entry(entry)) => set.entry(&place, &root, &entry),
                    Ok(_) => {}
                }
            }
        }
        let loaded = set.files.len();
        for (path, _) in
            self.below("lib").chain(self.below("usr/lib")).filter(|(path, _)| name::strip_ko(path).is_some())
        {
            set.add(format!("/{path}"), String::new());
        }
        let Loaded { files, mut problems, .. } = set;
        let mut read = Vec::new();
        for (file, params) in files {
            let bytes = self.file(&file).map(|(_, bytes)| bytes).unwrap_or_default();
            match decode(bytes) {
                Ok(image) => read.push((file, Facts::read(&image), params)),
                Err(error) => {
                    let cause = format!("not to be decompressed as {}: {error}", Format::of(bytes).name());
                    problems.push(Problem::new(Kind::File, &file, cause, "take the file as it was built"));
                    let fault = Facts { fault: None, ..Facts::default() };
                    read.push((file, fault, params));
                }
            }
        }
        let is_whole = |(_, facts, _): &&(String, Facts, String)| facts.machine.is_some() || facts.fault.is_some();
        let member = |(file, facts, params): &'_ (String, Facts, String)| (file.clone(), facts.clone(), params.clone());
        let owned: Vec<_> = read.iter().filter(is_whole).map(member).collect();
        let kept = read[..loaded].iter().filter(is_whole).count();
        let members: Vec<_> = owned.iter().map(|(file, facts, params)| Member { file, facts, params }).collect();
        let (loaded, later) = members.split_at(kept);
        let tree = TreeSymbols::of(&root.tree);
        let release = Some(root.tree.release.as_str()).filter(|release| !release.is_empty());
        problems.extend(check::set(
            loaded,
            later,
            Around { machine: None, release, kernel: symbols, tree: Some(&tree) },
        ));
        let firmware: Vec<_> = self
            .below("lib")
            .chain(self.below("usr/lib"))
            .filter_map(|(path, _)| {
                let path = path.strip_prefix("usr/").unwrap_or(path);
                let path = path.strip_prefix("lib/firmware/")?;
                Some([".xz", ".zst"].iter().find_map(|ending| path.strip_suffix(ending)).unwrap_or(path))
            })
            .collect();
        let is_there = |wanted: &str| {
            firmware.iter().any(|path| *path == wanted || glob::Pattern::new(wanted).is_ok_and(|w| w.matches(path)))
        };
        for Member { file, facts, .. } in loaded {
            problems.extend(check::firmware(file, &facts.firmware, &is_there, "the image", false, false));
        }
        let modules = read.into_iter().map(|(file, facts, _)| check::Checked { file, facts, map: None });
        Ok(Report { modules: modules.collect(), problems })
    }
}

fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"070701") || bytes.starts_with(b"070702")
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
        for (folder, into) in [(dir.trim_matches('/'), &tree_dir), ("etc/modprobe.d", &config)] {
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

    fn entry(&mut self, place: &str, root: &Root, entry: &Entry) {
        const MISSING: &str = "put it into the image, or leave it out of the manifest";
        let Entry { module, params, .. } = *entry;
        if module.contains('/') {
            let path = if module.starts_with('/') { module.to_string() } else { format!("{}/{module}", root.dir) };
            match self.image.file(&path) {
                Some((file, _)) => self.add(file, params.into()),
                None => self.problem(place, format!("there is no file {path}"), MISSING),
            }
            return;
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
                Action::Run(command) if !blocks(command) => {}
                _ => {}
            }
            true
        });
        if let Some(cause) = wrong.or(result.err().map(|error| format!("{module}: {error}"))) {
            self.problem(place, cause, MISSING);
        }
        for (file, params) in planned {
            match self.image.file(&file) {
                Some(_) => self.add(file, params),
                None => self.problem(place, format!("there is no file {file}"), MISSING),
            }
        }
    }
}
