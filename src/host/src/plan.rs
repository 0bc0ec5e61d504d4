//! From a board's modules, or a manifest's, to the files of an image in the order to load them, and to its manifest.
//!
//! Names are resolved by the target's own code. What the files hold does not matter here.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, anyhow, bail, ensure};
use modest_loader::limits::{LINE_BYTES, PATH_BYTES};
use modest_loader::load::LoadPath;
use modest_loader::manifest::{Entry, Line};
use modest_loader::name;
use modest_loader::resolve::{self, ResolveError, Resolved, Root};
use modest_loader::sys::Linux;

use crate::board::{Board, KernelSpec};
use crate::did_you_mean;
use crate::kernel::Tree;
use crate::module::ModuleFile;

/// What is to be loaded, unresolved: the lines of a manifest, each with the place that it comes from.
#[derive(Clone, Debug)]
pub struct Source {
    lines: Vec<(String, Vec<u8>)>,
    hand_over: String,
}

impl Source {
    /// What the board says.
    pub fn board(board: &Board, kernel: &KernelSpec) -> Source {
        let place = board.file.display().to_string();
        let modules =
            board.modules(kernel).iter().map(|module| (format!("{place}: modules"), module.line.clone().into()));
        Source { lines: directives(board).chain(modules).collect(), hand_over: board.hand_over().into() }
    }

    /// What a manifest says, in place of the board's modules. The board's directives hold where it has none.
    pub fn manifest(board: &Board, name: &str, text: &[u8]) -> Source {
        let lines = text.split(|b| *b == b'\n').enumerate();
        let lines = lines.map(|(i, line)| (format!("{name}:{}", i + 1), line.to_vec()));
        Source { lines: directives(board).chain(lines).collect(), hand_over: board.hand_over().into() }
    }
}

fn directives(board: &Board) -> impl Iterator<Item = (String, Vec<u8>)> {
    board.directives().map(|line| (board.file.display().to_string(), line.into_bytes()))
}

/// A resolved manifest, but for what only the files themselves tell.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    rows: Vec<Row>,
    /// What a person might want to know.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug)]
enum Row {
    Directive(String),
    Module(Step),
}

/// One file to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its path below the tree.
    pub file: String,
    /// Whether nothing but optional modules needs it.
    pub optional: bool,
    /// The load path to use.
    pub path: Option<LoadPath>,
    /// Its parameters.
    pub params: String,
}

impl Plan {
    /// Resolves what `source` says, with the modules of `tree`.
    pub fn resolve(source: &Source, tree: &Tree) -> Result<Plan> {
        let mut plan = Plan::default();
        let mut hands_over = false;
        for (place, line) in &source.lines {
            let line = Line::parse(line).map_err(|e| anyhow!("{place}:{}: {}", e.column, e.problem))?;
            hands_over |= matches!(line, Line::Exec(_) | Line::SwitchRoot);
            match line {
                Line::Empty => {}
                Line::Entry(entry) => plan.entry(tree, &entry).with_context(|| place.clone())?,
                Line::Root(_) => plan.notes.push(format!("{place}: {line}: left out, {} is used", tree.dir.display())),
                directive => plan.rows.push(Row::Directive(directive.to_string())),
            }
        }
        if !hands_over {
            plan.rows.push(Row::Directive(source.hand_over.clone()));
        }
        Ok(plan)
    }

    fn entry(&mut self, tree: &Tree, entry: &Entry) -> Result<()> {
        let root = modest_loader::path(&[tree.dir.as_os_str().as_bytes()]);
        let root = root.with_context(|| format!("{}: over PATH_BYTES, {PATH_BYTES}", tree.dir.display()))?;
        let in_tree = format!("{}/", tree.target_dir());
        let module = entry.module.strip_prefix(&in_tree).unwrap_or(entry.module);
        ensure!(!module.starts_with('/'), "{module} is not in {in_tree}; expected a name or a path below that");
        let (mut folder, mut buf) = (modest_loader::Path::new(), resolve::Buffer::new());
        match resolve::resolve(&Linux, &Root::Given(root), module, &mut folder, &mut buf) {
            Ok(Resolved::Builtin) => {
                let name = name::of(module);
                let params = match entry.params {
                    "" => String::new(),
                    params => format!("; {params} belongs on the kernel command line, as {name}.{params}"),
                };
                self.notes.push(format!("{name} is built into the kernel{params}"));
            }
            Ok(Resolved::Files(files)) => {
                for file in files.dependencies() {
                    self.add(Step { file: file.into(), optional: entry.optional, path: None, params: String::new() })?;
                }
                let file = files.target().to_string();
                if !tree.dir.join(&file).is_file() {
                    let known = indexed(tree, "modules.dep");
                    bail!(
                        "no file {file} in {}{}",
                        tree.dir.display(),
                        did_you_mean(&file, known.iter().map(|k| &**k))
                    );
                }
                self.add(Step { file, optional: entry.optional, path: entry.path, params: entry.params.into() })?;
            }
            Err(error @ ResolveError::NotFound { .. }) => {
                let files = ["modules.dep", "modules.builtin"].iter().flat_map(|index| indexed(tree, index));
                let names: BTreeSet<_> = files.map(|file| name::of(&file).to_string()).collect();
                let near = did_you_mean(&name::of(module).to_string(), names.iter().map(String::as_str));
                bail!("{module}: {error} of {}{near}", tree.dir.display());
            }
            Err(error) => bail!("{module}: {error}"),
        }
        Ok(())
    }

    /// Adds a file; one that is there already stays where it is, and becomes what both ask for.
    fn add(&mut self, new: Step) -> Result<()> {
        let mut steps =
            self.rows.iter_mut().filter_map(|row| if let Row::Module(step) = row { Some(step) } else { None });
        let Some(old) = steps.find(|step| step.file == new.file) else {
            self.rows.push(Row::Module(new));
            return Ok(());
        };
        old.optional &= new.optional;
        if !new.params.is_empty() {
            let name = name::of(&new.file);
            let same = old.params.is_empty() || old.params == new.params;
            ensure!(same, "{name} is listed twice, with parameters {:?} and {:?}", old.params, new.params);
            old.params = new.params;
        }
        old.path = new.path.or(old.path);
        Ok(())
    }

    /// The files to load, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.rows.iter().filter_map(|row| if let Row::Module(step) = row { Some(step) } else { None })
    }

    /// The manifest, with `files` being those of [`Plan::steps`].
    pub fn manifest(&self, comment: &str, tree: &Tree, files: &[ModuleFile]) -> Result<String> {
        let root = tree.target_dir();
        let mut text = format!("# {comment}\n");
        emit(&mut text, &Line::Root(&root))?;
        let mut files = files.iter();
        for row in &self.rows {
            let step = match row {
                Row::Directive(line) => {
                    emit(&mut text, &Line::parse(line.as_bytes()).map_err(|e| anyhow!("{line}: {}", e.problem))?)?;
                    continue;
                }
                Row::Module(step) => step,
            };
            let ModuleFile { file, image_bytes, .. } = files.next().context("as many files as steps")?;
            // The target's path ends in a NUL.
            ensure!(root.len() + 1 + file.len() < PATH_BYTES, "{root}/{file}: over PATH_BYTES, {PATH_BYTES}");
            let Step { optional, path, params, .. } = step;
            let size_bytes = Some(*image_bytes);
            let entry = Entry { module: file, optional: *optional, path: *path, size_bytes, params };
            emit(&mut text, &Line::Entry(entry))?;
        }
        Ok(text)
    }
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

/// The files that an index of the tree names.
fn indexed(tree: &Tree, index: &str) -> Vec<String> {
    let text = fs::read_to_string(tree.dir.join(index)).unwrap_or_default();
    text.lines().filter_map(|line| Some(line.split(':').next()?.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::tests::{MINIMAL, board};
    use crate::module::tests::tree;
    use proptest::prelude::*;

    const DEP: &[u8] = b"k/mbcache.ko:\nk/jbd2.ko: k/crc.ko\nk/crc.ko:\nk/ext4.ko: k/mbcache.ko k/jbd2.ko k/crc.ko\n\
        k/virtio_blk.ko:\n";
    const FILES: [(&str, &[u8]); 7] = [
        ("modules.dep", DEP),
        ("modules.builtin", b"k/virtio_pci.ko\n"),
        ("k/mbcache.ko", b""),
        ("k/jbd2.ko", b""),
        ("k/crc.ko", b""),
        ("k/ext4.ko", b""),
        ("k/virtio_blk.ko", b""),
    ];

    fn resolved(manifest: &str) -> Result<(Plan, String)> {
        let (_tmp, tree) = tree(&FILES);
        let board = board(MINIMAL).unwrap();
        let plan = Plan::resolve(&Source::manifest(&board, "m", manifest.as_bytes()), &tree)?;
        let file = |step: &Step| ModuleFile {
            file: format!("{}.gz", step.file),
            bytes: Vec::new(),
            image_bytes: 7,
            saved_bytes: 0,
            not_stripped: None,
            firmware: Vec::new(),
            other_release: None,
        };
        let files: Vec<_> = plan.steps().map(file).collect();
        let text = plan.manifest("x", &tree, &files)?;
        Ok((plan, text))
    }

    #[test]
    fn a_board_becomes_a_manifest_without_names() {
        let (_tmp, tree) = tree(&FILES);
        let board = board(MINIMAL).unwrap();
        let plan = Plan::resolve(&Source::board(&board, &board.kernels[0]), &tree).unwrap();
        let files: Vec<_> = plan.steps().map(|step| step.file.as_str()).collect();
        assert_eq!(files, ["k/crc.ko", "k/jbd2.ko", "k/mbcache.ko", "k/ext4.ko", "k/virtio_blk.ko"]);
        let missing = Plan::resolve(&Source::board(&board, &board.kernels[1]), &tree).unwrap_err();
        let missing = format!("{missing:#}");
        assert!(missing.starts_with("boards/b.toml: modules: xfs: no module of that name"), "{missing}");
    }

    #[test]
    fn directives_are_kept_in_place_and_files_come_once() {
        let (plan, text) = resolved(
            "@root /elsewhere\next4 @optional\n@on-error reboot\n\njbd2.ko @path=mmap a=1\nk/crc.ko\n# comment\n\
             virtio-pci force=1\n@exec /bin/x",
        )
        .unwrap();
        assert_eq!(
            text,
            "# x\n@root /lib/modules/6.1.0\n@budget 524288\n@on-error stop\nk/crc.ko.gz @size=7\n\
             k/jbd2.ko.gz @path=mmap @size=7 a=1\nk/mbcache.ko.gz @optional @size=7\nk/ext4.ko.gz @optional @size=7\n\
             @on-error reboot\n@exec /bin/x\n"
        );
        assert!(plan.notes[0].starts_with("m:1: @root /elsewhere: left out, "), "{:?}", plan.notes);
        let built_in =
            "virtio_pci is built into the kernel; force=1 belongs on the kernel command line, as virtio_pci.force=1";
        assert_eq!(plan.notes[1..], [built_in]);
        let (_, text) = resolved("/lib/modules/6.1.0/k/crc.ko").unwrap();
        assert!(text.ends_with("k/crc.ko.gz @size=7\n@switch-root\n"), "{text}");
    }

    #[test]
    fn what_cannot_be_resolved_is_named_with_its_place() {
        for (manifest, says) in [
            ("\next5", "m:2: ext5: no module of that name in modules.dep or modules.builtin of /"),
            ("virtio_blok", "did you mean virtio_blk or virtio_pci?"),
            ("k/ext5.ko", "did you mean k/ext4.ko"),
            ("/k/ext4.ko", "m:1: /k/ext4.ko is not in /lib/modules/6.1.0/"),
            ("ext4 @optionl", "m:1:6: unknown attribute @optionl"),
            ("crc a=1\ncrc a=2", "m:2: crc is listed twice, with parameters \"a=1\" and \"a=2\""),
        ] {
            let error = format!("{:#}", resolved(manifest).unwrap_err());
            assert!(error.contains(says), "{says} not in: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn dependencies_come_first_and_nothing_twice(
            edges in prop::collection::vec((0usize..8, 0usize..8), 0..14),
            entries in prop::collection::vec((0usize..8, any::<bool>()), 1..8),
        ) {
            // An edge goes from a module to one of a lower number, so what a module needs is closed and ordered by number.
            let mut needs = vec![BTreeSet::new(); 8];
            for module in 0..8 {
                for (from, to) in &edges {
                    if *from == module && *to < module {
                        let further = needs[*to].clone();
                        needs[module].extend(further);
                        needs[module].insert(*to);
                    }
                }
            }
            let line = |(i, needs): (usize, &BTreeSet<usize>)| {
                let needs: String = needs.iter().rev().map(|n| format!(" m{n}.ko")).collect();
                format!("m{i}.ko:{needs}\n")
            };
            let dep: String = needs.iter().enumerate().map(line).collect();
            let names: Vec<_> = (0..8).map(|i| format!("m{i}.ko")).collect();
            let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
            files.push(("modules.dep", dep.as_bytes()));
            let (_tmp, tree) = tree(&files);
            let optional = |o: bool| if o { " @optional" } else { "" };
            let manifest: String = entries.iter().map(|(i, o)| format!("m{i}{}\n", optional(*o))).collect();
            let plan = Plan::resolve(&Source::manifest(&board(MINIMAL).unwrap(), "m", manifest.as_bytes()), &tree).unwrap();

            let steps: Vec<_> = plan.steps().collect();
            let position = |i: usize| steps.iter().position(|step| step.file == names[i]);
            for (i, needs) in needs.iter().enumerate() {
                let of_entry = |(entry, optional): &(usize, bool)| (*entry == i || tests_needs(&edges, *entry, i)).then_some(*optional);
                let asked: Vec<bool> = entries.iter().filter_map(of_entry).collect();
                prop_assert_eq!(position(i).is_some(), !asked.is_empty());
                prop_assert!(steps.iter().filter(|step| step.file == names[i]).count() <= 1);
                if let Some(at) = position(i) {
                    prop_assert!(needs.iter().all(|need| position(*need).is_some_and(|before| before < at)));
                    prop_assert_eq!(steps[at].optional, asked.iter().all(|optional| *optional));
                }
            }
        }
    }

    /// Whether `module` needs `other`, by walking the edges.
    fn tests_needs(edges: &[(usize, usize)], module: usize, other: usize) -> bool {
        let mut direct = edges.iter().filter(|(from, to)| *from == module && to < from).map(|(_, to)| *to);
        direct.any(|to| to == other || tests_needs(edges, to, other))
    }
}
