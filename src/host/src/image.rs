//! The initramfs: what is in it, and the archive it is written as (newc, Documentation/driver-api/early-userspace).

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use cpio::newc;
use modest_loader::format::Format;
use modest_loader::manifest::Line;

use crate::board::{Arch, Board, KernelSpec};
use crate::check::{self, Around, Checked, Member, Problem, Report};
use crate::codec::encode;
use crate::include::{self, Included};
use crate::kernel::Tree;
use crate::modprobe::Database;
use crate::module::{Change, ModuleFile, check_init};
use crate::plan::{Plan, Source};
use crate::strip::Refusal;
use crate::symbols::{KernelSymbols, TreeSymbols};

/// Where the target looks for its manifest.
pub const MANIFEST: &str = "/etc/modest.manifest";

/// Where the kernel looks for the first program.
pub const INIT: &str = "/init";

const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFCHR: u32 = 0o020_000;

/// What an image is made of, but for its board.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program to become `/init`.
    pub init: PathBuf,
    /// Where it is in the image: [`INIT`], or where something else is the init.
    pub init_at: String,
    /// What to change in modules.
    pub change: Change,
    /// Whether each entry of the manifest gets the digest of its module.
    pub pin: bool,
    /// How the archive is compressed.
    pub compress: Format,
    /// A manifest in place of the board's modules: its name, for messages, and its text.
    pub manifest: Option<(String, Vec<u8>)>,
    /// The text to put in place of the resolved manifest, as it is.
    pub verbatim_manifest: Option<Vec<u8>>,
    /// Modules to put in beside those that the manifest loads and what the board includes: see [`Included::add`].
    pub include: Vec<String>,
    /// Folders with files of modprobe.d.
    pub config: Vec<PathBuf>,
    /// Where the firmware is that modules ask for.
    pub firmware: Option<PathBuf>,
    /// What tells the symbols that the kernel exports.
    pub symbols: Option<Arc<KernelSymbols>>,
    /// Whether firmware that is missing from [`Options::firmware`] is a problem, whatever else is there.
    pub require_firmware: bool,
    /// Whether an image is made of modules that the kernel would refuse, too.
    pub force: bool,
    /// Further files, which replace others of the same path.
    pub extra: Vec<Extra>,
}

/// A file to add to an image.
#[derive(Clone, Debug)]
pub struct Extra {
    /// Its absolute path; folders on the way are added.
    pub path: String,
    /// Its permissions, and if it is no regular file its type.
    pub mode: u32,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl Options {
    /// Everything as the board says, modules as they are, not compressed.
    pub fn new(init: PathBuf) -> Options {
        Options {
            init,
            init_at: INIT.into(),
            change: Change::default(),
            pin: false,
            compress: Format::Plain,
            manifest: None,
            verbatim_manifest: None,
            include: Vec::new(),
            config: Vec::new(),
            firmware: None,
            symbols: None,
            require_firmware: false,
            force: false,
            extra: Vec::new(),
        }
    }

    fn config_folders(&self) -> Vec<&Path> {
        self.config.iter().map(PathBuf::as_path).collect()
    }
}

/// An initramfs.
#[derive(Clone, Debug)]
pub struct Image {
    /// What to write to a file.
    pub bytes: Vec<u8>,
    /// Its resolved manifest.
    pub manifest: String,
    /// Number of modules.
    pub modules: usize,
    /// Number of those that its manifest does not load.
    pub included: usize,
    /// Length of their files together.
    pub modules_file_bytes: u64,
    /// Length of their images together.
    pub modules_image_bytes: u64,
    /// By how much stripping made these shorter.
    pub modules_saved_bytes: u64,
    /// What a person might want to know.
    pub notes: Vec<String>,
}

/// Where a build leaves modest for that processor.
pub fn default_init(arch: Arch) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into());
    Path::new(&target).join(arch.target()).join("size/modest")
}

/// The modules of an image.
struct Contents {
    plan: Plan,
    /// First those that the manifest loads.
    files: Vec<ModuleFile>,
    loaded: usize,
    /// The manifest for the target.
    text: Vec<u8>,
    manifest: String,
    /// Whether the target looks anything up.
    has_tables: bool,
    notes: Vec<String>,
}

impl Contents {
    fn of(board: &Board, kernel: &KernelSpec, tree: &Tree, options: &Options) -> Result<Contents> {
        let source = match &options.manifest {
            Some((name, text)) => Source::manifest(board, name, text),
            None => Source::board(board, kernel),
        };
        let mut notes = Vec::new();
        let database = Database::read(tree, &options.config_folders(), "", &mut |line| notes.push(line))?;
        let plan = Plan::resolve(&source, tree, &database)?;
        let read = |file: &str| ModuleFile::read(tree, file, options.change);
        let mut files = plan.steps().map(|step| read(&step.file)).collect::<Result<Vec<_>>>()?;
        let loaded = files.len();
        let comment = format!("{}, Linux {}", board.name, tree.release);
        let manifest = plan.manifest(&comment, tree, &files, options.pin)?;
        notes.extend(plan.notes().map(String::from));
        let text = options.verbatim_manifest.clone().unwrap_or(manifest.clone().into_bytes());
        let wanted = wanted(board, kernel, options);
        let has_tables =
            !wanted.is_empty() || has_line(&text, |line| matches!(line, Line::Coldplug(_) | Line::Wait(_)));
        if has_tables {
            let mut included = Included::new(tree, &database, plan.steps().map(|step| step.file.clone()).collect());
            for (place, what) in &wanted {
                included.add(what).with_context(|| place.clone())?;
            }
            included.read(&mut files, read)?;
            notes.append(&mut included.notes);
        }
        if wanted.is_empty() && has_line(&text, |line| matches!(line, Line::Coldplug(_))) {
            notes.push("@coldplug finds no more than the manifest loads: nothing is included".into());
        }
        Ok(Contents { plan, files, loaded, text, manifest, has_tables, notes })
    }

    /// What keeps modules from being loaded, or may.
    fn problems(&self, board: &Board, tree: &Tree, options: &Options) -> Result<Vec<Problem>> {
        let steps: Vec<_> = self.plan.steps().map(|step| [step.options.as_str(), &step.params].join(" ")).collect();
        let params = steps.iter().map(String::as_str).chain(std::iter::repeat(""));
        let members = self.files.iter().zip(params);
        let members: Vec<_> =
            members.map(|(file, params)| Member { file: &file.file, facts: &file.facts, params }).collect();
        let (loaded, later) = members.split_at(self.loaded);
        let tree_symbols = TreeSymbols::of(tree);
        let around = Around {
            machine: Some(board.arch.machine()),
            release: Some(&tree.release),
            kernel: options.symbols.as_deref(),
            tree: Some(&tree_symbols),
        };
        let mut problems = check::set(loaded, later, around);
        if let Some(dir) = &options.firmware {
            let place = dir.display().to_string();
            for (i, member) in members.iter().enumerate() {
                let mut there = HashSet::new();
                for wanted in &member.facts.firmware {
                    if !firmware_files(dir, wanted)?.is_empty() {
                        there.insert(wanted.as_str());
                    }
                }
                let is_there = |wanted: &str| there.contains(wanted);
                let (wanted, is_loaded) = (&member.facts.firmware, i < self.loaded);
                let strict = options.require_firmware;
                problems.extend(check::firmware(member.file, wanted, &is_there, &place, is_loaded, strict));
            }
        }
        Ok(problems)
    }
}

/// What is wrong with the modules of the image that [`build`] would make.
pub fn check(board: &Board, kernel: &KernelSpec, tree: &Tree, options: &Options) -> Result<Report> {
    let contents = Contents::of(board, kernel, tree, options)?;
    let problems = contents.problems(board, tree, options)?;
    let modules = contents.files.into_iter().map(|ModuleFile { file, facts, .. }| Checked { file, facts, map: None });
    Ok(Report { modules: modules.collect(), problems })
}

/// Makes the image of a board with the modules of `tree`. If the kernel would refuse one of them, that is an error, which
/// tells all that is wrong; or with [`Options::force`], a note.
pub fn build(board: &Board, kernel: &KernelSpec, tree: &Tree, options: &Options) -> Result<Image> {
    let contents = Contents::of(board, kernel, tree, options)?;
    let problems = contents.problems(board, tree, options)?;
    if problems.iter().any(Problem::is_problem) && !options.force {
        let lines: String =
            problems.iter().filter(|problem| problem.is_problem()).map(|problem| format!("\n{problem}")).collect();
        bail!(
            "modules that the kernel would refuse, or not run as asked; --force makes the image all the same:{lines}"
        );
    }
    let Contents { files, loaded, text, manifest, has_tables, mut notes, .. } = contents;
    notes.extend(problems.iter().map(Problem::to_string));
    let tables = match has_tables {
        true => include::tables(tree, &files, &options.config_folders())?,
        false => Vec::new(),
    };
    for ModuleFile { file, not_stripped, .. } in &files {
        match not_stripped {
            None | Some(Refusal::Signed) => {}
            Some(refusal) => notes.push(format!("{file} is not stripped: {refusal}")),
        }
    }
    match files.iter().filter(|file| file.not_stripped == Some(Refusal::Signed)).count() {
        0 => {}
        signed => notes.push(format!("{signed} of {} modules are signed, and not stripped", files.len())),
    }

    let mut archive = Archive::default();
    let init = fs::read(&options.init).with_context(|| {
        format!("{}: expected modest, which scripts/build makes, or what --init names", options.init.display())
    })?;
    check_init(&init, board.arch).with_context(|| format!("{}", options.init.display()))?;
    archive.file(&options.init_at, 0o755, init)?;
    for dir in ["/dev", "/proc", "/sys"] {
        archive.add(dir, Node { mode: S_IFDIR | 0o755, ..Node::default() })?;
    }
    // The kernel opens the console for init before any init could make it.
    for (path, mode, device) in
        [("/dev/console", 0o600, (5, 1)), ("/dev/null", 0o666, (1, 3)), ("/dev/kmsg", 0o644, (1, 11))]
    {
        archive.add(path, Node { mode: S_IFCHR | mode, device, bytes: Vec::new() })?;
    }
    archive.file(MANIFEST, 0o644, text)?;
    for (path, bytes) in tables {
        archive.file(&path, 0o644, bytes)?;
    }
    for ModuleFile { file, bytes, .. } in &files {
        archive.file(&format!("{}/{file}", tree.target_dir()), 0o644, bytes.clone())?;
    }
    let mut missing = Vec::new();
    for wanted in files.iter().flat_map(|module| &module.facts.firmware) {
        let Some(dir) = &options.firmware else {
            if !missing.contains(wanted) {
                missing.push(wanted.clone());
            }
            continue;
        };
        for (name, path) in firmware_files(dir, wanted)? {
            let bytes = fs::read(&path).with_context(|| format!("{}", path.display()))?;
            archive.file(&format!("/lib/firmware/{name}"), 0o644, bytes)?;
        }
    }
    if !missing.is_empty() {
        notes.push(format!("firmware that modules may ask for and that is not in the image: {}", missing.join(", ")));
    }
    for Extra { path, mode, bytes } in &options.extra {
        let kind = if mode & S_IFMT == 0 { S_IFREG } else { 0 };
        archive.add(path, Node { mode: mode | kind, bytes: bytes.clone(), ..Node::default() })?;
    }
    Ok(Image {
        bytes: encode(&archive.write()?, options.compress)?,
        manifest,
        modules: files.len(),
        included: files.len() - loaded,
        modules_file_bytes: files.iter().map(|file| file.bytes.len() as u64).sum(),
        modules_image_bytes: files.iter().map(|file| file.image_bytes).sum(),
        modules_saved_bytes: files.iter().map(|file| file.saved_bytes).sum(),
        notes,
    })
}

/// What to include, each with the place that it comes from.
fn wanted<'a>(board: &'a Board, kernel: &'a KernelSpec, options: &'a Options) -> Vec<(String, &'a str)> {
    let place = format!("{}: include", board.file.display());
    let of_board = board.include(kernel).iter().map(|what| (place.clone(), what.as_str()));
    of_board.chain(options.include.iter().map(|what| ("--include".into(), what.as_str()))).collect()
}

/// Whether a manifest has such a line; bad ones are for the target to tell.
fn has_line(manifest: &[u8], is_it: impl Fn(&Line) -> bool) -> bool {
    manifest.split(|b| *b == b'\n').any(|line| Line::parse(line).is_ok_and(|line| is_it(&line)))
}

/// The files in `dir` that a module means by `wanted`, a name or a pattern: the name of each there, and its path. Compressed
/// ones stay so. What leads out of the folder is none, for the kernel too (`name_contains_dotdot` of
/// drivers/base/firmware_loader/main.c).
fn firmware_files(dir: &Path, wanted: &str) -> Result<Vec<(String, PathBuf)>> {
    if wanted.split('/').any(|part| part == "..") {
        return Ok(Vec::new());
    }
    let dir_pattern = glob::Pattern::escape(dir.to_str().with_context(|| format!("{}: not UTF-8", dir.display()))?);
    let mut found = Vec::new();
    for ending in ["", ".xz", ".zst"] {
        for path in glob::glob(&format!("{dir_pattern}/{wanted}{ending}"))? {
            let path = path?;
            if path.is_file() {
                found.push((path.strip_prefix(dir)?.to_string_lossy().into_owned(), path));
            }
        }
    }
    Ok(found)
}

/// Files by path; a folder sorts before what is in it.
#[derive(Debug, Default)]
struct Archive(BTreeMap<String, Node>);

#[derive(Debug, Default)]
struct Node {
    mode: u32,
    device: (u32, u32),
    bytes: Vec<u8>,
}

impl Archive {
    fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) -> Result<()> {
        self.add(path, Node { mode: S_IFREG | mode, bytes, ..Node::default() })
    }

    fn add(&mut self, path: &str, node: Node) -> Result<()> {
        let name = path.strip_prefix('/').with_context(|| format!("{path}: expected an absolute path"))?;
        ensure!(
            !name.split('/').any(|part| matches!(part, "" | "." | "..")),
            "{path}: expected no part that is . or .."
        );
        for (end, _) in name.match_indices('/') {
            let folder = self.0.entry(name[..end].into()).or_insert(Node { mode: S_IFDIR | 0o755, ..Node::default() });
            ensure!(folder.mode & S_IFMT == S_IFDIR, "{path}: /{} is a file, not a folder", &name[..end]);
        }
        self.0.insert(name.into(), node);
        Ok(())
    }

    fn write(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for (ino, (name, Node { mode, device, bytes })) in (1..).zip(&self.0) {
            let len = u32::try_from(bytes.len()).with_context(|| format!("/{name}: too long for an initramfs"))?;
            let nlink = if mode & S_IFMT == S_IFDIR { 2 } else { 1 };
            let header = newc::Builder::new(name).ino(ino).mode(*mode).nlink(nlink);
            let mut writer = header.rdev_major(device.0).rdev_minor(device.1).write(&mut out, len);
            writer.write_all(bytes)?;
            writer.finish()?;
        }
        newc::trailer(&mut out)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::tests::{MINIMAL, board};
    use crate::codec::decode;
    use crate::module::tests::{module, tree};
    use crate::strip::{self, Strip};
    use std::io::Read;

    /// Path, mode, device and content.
    type Listed = (String, u32, (u32, u32), Vec<u8>);

    /// Everything in an archive.
    fn entries(mut archive: &[u8]) -> Vec<Listed> {
        let mut all = Vec::new();
        loop {
            let mut reader = newc::Reader::new(archive).unwrap();
            let entry = reader.entry();
            if entry.is_trailer() {
                return all;
            }
            assert_eq!((entry.mtime(), entry.uid(), entry.gid(), entry.ino()), (0, 0, 0, all.len() as u32 + 1));
            let (name, mode, len) = (entry.name().to_string(), entry.mode(), entry.file_size());
            let device = (entry.rdev_major(), entry.rdev_minor());
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len(), len as usize);
            all.push((name, mode, device, bytes));
            archive = reader.finish().unwrap();
        }
    }

    /// Of virtio_blk, which the board gives it.
    const DEPTH: &str = "parmtype=queue_depth:uint";

    struct Fixture {
        tmp: tempfile::TempDir,
        tree: Tree,
        options: Options,
    }

    fn fixture() -> Fixture {
        let ext4 = module(&["firmware=fw/a.bin", "firmware=fw/b*.bin", "firmware=fw/none.bin"]);
        let blk = encode(&module(&["firmware=fw/a.bin", "vermagic=6.1.0 x", DEPTH]), Format::Xz).unwrap();
        let (tmp, tree) = tree(&[
            ("modules.dep", b"k/ext4.ko:\nk/virtio_blk.ko.xz: k/ext4.ko\n"),
            ("k/ext4.ko", &ext4),
            ("k/virtio_blk.ko.xz", &blk),
        ]);
        let firmware = tmp.path().join("firmware");
        fs::create_dir_all(firmware.join("fw")).unwrap();
        for name in ["a.bin.zst", "b1.bin", "b2.bin", "c.bin"] {
            fs::write(firmware.join("fw").join(name), name).unwrap();
        }
        let init = tmp.path().join("modest");
        fs::write(&init, "#!/bin/sh\n").unwrap();
        let options = Options { firmware: Some(firmware), ..Options::new(init) };
        Fixture { tmp, tree, options }
    }

    fn built(fixture: &Fixture) -> Image {
        let board = board(MINIMAL).unwrap();
        build(&board, &board.kernels[0], &fixture.tree, &fixture.options).unwrap()
    }

    #[test]
    fn an_image_has_what_the_boot_needs_and_no_more() {
        let fixture = fixture();
        let image = built(&fixture);
        let entries = entries(&image.bytes);
        let listed: Vec<_> = entries.iter().map(|(name, mode, device, _)| (name.as_str(), *mode, *device)).collect();
        let dir = |name| (name, 0o40755, (0, 0));
        let file = |name| (name, 0o100644, (0, 0));
        assert_eq!(
            listed,
            [
                dir("dev"),
                ("dev/console", 0o20600, (5, 1)),
                ("dev/kmsg", 0o20644, (1, 11)),
                ("dev/null", 0o20666, (1, 3)),
                dir("etc"),
                file("etc/modest.manifest"),
                ("init", 0o100755, (0, 0)),
                dir("lib"),
                dir("lib/firmware"),
                dir("lib/firmware/fw"),
                file("lib/firmware/fw/a.bin.zst"),
                file("lib/firmware/fw/b1.bin"),
                file("lib/firmware/fw/b2.bin"),
                dir("lib/modules"),
                dir("lib/modules/6.1.0"),
                dir("lib/modules/6.1.0/k"),
                file("lib/modules/6.1.0/k/ext4.ko"),
                file("lib/modules/6.1.0/k/virtio_blk.ko.xz"),
                dir("proc"),
                dir("sys"),
            ]
        );
        let content = |path: &str| &entries.iter().find(|(name, ..)| name == path).unwrap().3;
        assert_eq!(content("lib/firmware/fw/b1.bin"), b"b1.bin");
        assert_eq!(content("lib/modules/6.1.0/k/ext4.ko"), &fs::read(fixture.tree.dir.join("k/ext4.ko")).unwrap());
        let ext4 = content("lib/modules/6.1.0/k/ext4.ko").len();
        let blk = decode(content("lib/modules/6.1.0/k/virtio_blk.ko.xz")).unwrap().len();
        assert_eq!(
            std::str::from_utf8(content("etc/modest.manifest")).unwrap(),
            format!(
                "# b, Linux 6.1.0\n@root /lib/modules/6.1.0\n@budget 524288\n@on-error stop\nk/ext4.ko @size={ext4}\n\
                 k/virtio_blk.ko.xz @optional @size={blk} queue_depth=64\n@switch-root\n"
            )
        );
        assert_eq!((image.modules, image.modules_image_bytes), (2, (ext4 + blk) as u64));
        let missing = format!(
            "k/ext4.ko: may ask for firmware fw/none.bin, not in {}: put it there, or pass --force if the device has it already",
            fixture.options.firmware.as_ref().unwrap().display()
        );
        assert_eq!(image.notes, [missing]);
    }

    #[test]
    fn firmware_is_from_the_folder_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("firmware");
        fs::create_dir(&dir).unwrap();
        for file in ["secret", "firmware/a.bin"] {
            fs::write(tmp.path().join(file), "").unwrap();
        }
        let names =
            |wanted| -> Vec<_> { firmware_files(&dir, wanted).unwrap().into_iter().map(|(name, _)| name).collect() };
        assert_eq!(names("a*"), ["a.bin"]);
        assert!(names("../secret").is_empty() && names("x/../../s*").is_empty());
    }

    #[test]
    fn a_tree_without_indexes_makes_the_same_image() {
        let mut fixture = fixture();
        let blk = module(&["depends=ext4", "vermagic=6.1.0 x", DEPTH]);
        fs::write(fixture.tree.dir.join("k/virtio_blk.ko.xz"), encode(&blk, Format::Xz).unwrap()).unwrap();
        fs::write(fixture.tree.dir.join("k/ext4.ko"), module(&["vermagic=6.1.0 x"])).unwrap();
        let image = built(&fixture);
        fs::remove_file(fixture.tree.dir.join("modules.dep")).unwrap();
        fixture.tree = Tree::find(&fixture.tree.dir).unwrap();
        let again = built(&fixture);
        assert_eq!(again.manifest, image.manifest);
        assert!(again.bytes == image.bytes);
    }

    #[test]
    fn the_same_input_makes_the_same_bytes() {
        let mut fixture = fixture();
        fixture.options.change.format = Some(Format::Gzip);
        for format in [Format::Plain, Format::Gzip, Format::Xz, Format::Zstd] {
            fixture.options.compress = format;
            let image = built(&fixture);
            assert_eq!(Format::of(&image.bytes), format);
            let names: Vec<_> = entries(&decode(&image.bytes).unwrap()).into_iter().map(|(name, ..)| name).collect();
            assert!(names.contains(&"lib/modules/6.1.0/k/virtio_blk.ko.gz".into()), "{names:?}");
            assert!(image.manifest.contains("k/virtio_blk.ko.gz @optional"), "{}", image.manifest);
            // Nothing of a file's age or place may show.
            for file in ["k/ext4.ko", "k/virtio_blk.ko.xz"] {
                let path = fixture.tree.dir.join(file);
                let bytes = fs::read(&path).unwrap();
                fs::remove_file(&path).unwrap();
                fs::write(&path, bytes).unwrap();
            }
            assert!(built(&fixture).bytes == image.bytes);
        }
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused_but_by_force() {
        let mut fixture = fixture();
        let mut riscv = module(&["vermagic=6.1.0 x"]);
        riscv[18] = 243;
        fs::write(fixture.tree.dir.join("k/ext4.ko"), riscv).unwrap();
        let old = module(&["vermagic=5.0 x", "parmtype=q_depth:uint", "firmware=fw/none.bin", "name=virtio_blk"]);
        fs::write(fixture.tree.dir.join("k/virtio_blk.ko.xz"), encode(&old, Format::Xz).unwrap()).unwrap();
        let board = board(MINIMAL).unwrap();
        let dir = fixture.options.firmware.as_ref().unwrap().display().to_string();
        let problems = [
            "k/ext4.ko: built for RISC-V (64 bits); the board is AArch64: take it from a kernel for AArch64",
            "k/virtio_blk.ko.xz: built for Linux 5.0, not 6.1.0: take all modules from one build",
            "k/virtio_blk.ko.xz: parameter `queue_depth` unknown; it has `q_depth` (uint): write `q_depth=`",
            &format!(
                "k/virtio_blk.ko.xz: asks for firmware fw/none.bin, and none of it is in {dir}: put it there, or pass --force if \
                 the device has it already"
            ),
        ];
        let error = build(&board, &board.kernels[0], &fixture.tree, &fixture.options).unwrap_err().to_string();
        let told = "modules that the kernel would refuse, or not run as asked; --force makes the image all the same:";
        assert_eq!(error.lines().collect::<Vec<_>>(), [&[told], &problems[..]].concat());
        let report = check(&board, &board.kernels[0], &fixture.tree, &fixture.options).unwrap();
        assert_eq!(report.problems.iter().map(Problem::to_string).collect::<Vec<_>>(), problems);
        fixture.options.force = true;
        let image = built(&fixture);
        assert_eq!((image.notes, image.modules), (problems.map(String::from).into(), 2));
    }

    /// A tree with modules for later, and configuration for two of them.
    fn fixture_for_later() -> Fixture {
        let net = module(&["alias=virtio:d1v*", "depends=failover", "softdep=post: crc", "vermagic=6.1.0 x"]);
        let weak = encode(&module(&["weakdep=md5", "firmware=fw/a.bin", "vermagic=6.1.0 x"]), Format::Xz).unwrap();
        let [failover, md5, ext4, other, blk] = [""; 5].map(|_| module(&["vermagic=6.1.0 x", DEPTH]));
        let (tmp, tree) = tree(&[
            ("modules.dep", b"k/net.ko.xz: k/failover.ko\nk/failover.ko:\nk/crc.ko.xz:\nk/md5.ko:\nk/ext4.ko:\nk/other.ko:\nk/virtio_blk.ko:"),
            ("modules.alias", b"alias virtio:d1v* net\n"),
            ("modules.softdep", b"softdep net post: crc\n"),
            ("modules.builtin", b"k/builtin.ko\n"),
            ("modules.builtin.modinfo", b"builtin.alias=virtio:d2*\0"),
            ("k/net.ko.xz", &encode(&net, Format::Xz).unwrap()),
            ("k/failover.ko", &failover),
            ("k/crc.ko.xz", &weak),
            ("k/md5.ko", &md5),
            ("k/ext4.ko", &ext4),
            ("k/other.ko", &other),
            ("k/virtio_blk.ko", &blk),
        ]);
        let [config, more, firmware, init] = ["config", "more", "firmware", "modest"].map(|name| tmp.path().join(name));
        for (dir, text) in [(&config, "options net a=1\n"), (&more, "options net a=2\n")] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("net.conf"), text).unwrap();
        }
        fs::create_dir_all(firmware.join("fw")).unwrap();
        fs::write(firmware.join("fw/a.bin"), "").unwrap();
        fs::write(&init, "#!/bin/sh\n").unwrap();
        let config = vec![config, more];
        let options = Options { firmware: Some(firmware), config, ..Options::new(init) };
        Fixture { tmp, tree, options }
    }

    fn names(image: &Image) -> Vec<String> {
        let files = entries(&image.bytes).into_iter().filter(|(_, mode, ..)| mode & S_IFMT == S_IFREG);
        files.map(|(name, ..)| name.replace("lib/modules/6.1.0/", "")).collect()
    }

    /// The lines that modprobe would print on the target.
    fn on_target(image: &Image, asked: &str) -> Result<String> {
        let target = tempfile::tempdir().unwrap();
        for (name, mode, _, bytes) in entries(&image.bytes) {
            match mode & S_IFMT {
                S_IFDIR => fs::create_dir(target.path().join(name)).unwrap(),
                S_IFREG => fs::write(target.path().join(name), bytes).unwrap(),
                _ => {}
            }
        }
        let tree = Tree::find(target.path()).unwrap();
        assert_eq!(tree.index_dir(), tree.dir);
        let config = target.path().join("etc/modprobe.d");
        let lines = Database::read(&tree, &[&config], "", &mut |line| panic!("{line}")).unwrap().show_depends(asked)?;
        Ok(lines.replace(target.path().to_str().unwrap(), ""))
    }

    #[test]
    fn the_target_finds_what_is_included() {
        let mut fixture = fixture_for_later();
        let without = built(&fixture);
        let loaded = ["etc/modest.manifest", "init", "k/ext4.ko", "k/virtio_blk.ko"];
        assert_eq!((names(&without), without.included), (loaded.map(String::from).into(), 0));

        fixture.options.include = vec!["k/net.ko".into()];
        fixture.options.change.format = Some(Format::Gzip);
        let image = built(&fixture);
        assert_eq!(image.manifest, without.manifest.replace(".ko ", ".ko.gz "));
        assert_eq!((image.modules, image.included, &image.notes[..]), (6, 4, &[][..]));
        assert_eq!(
            names(&image),
            [
                "etc/modest.manifest",
                "etc/modprobe.d/net.conf",
                "init",
                "lib/firmware/fw/a.bin",
                "k/crc.ko.gz",
                "k/ext4.ko.gz",
                "k/failover.ko.gz",
                "k/md5.ko.gz",
                "k/net.ko.gz",
                "k/virtio_blk.ko.gz",
                "modules.alias.bin",
                "modules.builtin.alias.bin",
                "modules.builtin.bin",
                "modules.dep.bin",
                "modules.softdep",
                "modules.symbols.bin",
            ]
        );
        let dir = "/lib/modules/6.1.0/k";
        let net = format!("insmod {dir}/failover.ko.gz \ninsmod {dir}/net.ko.gz a=1 \ninsmod {dir}/crc.ko.gz \n");
        assert_eq!(on_target(&image, "virtio:d1v7").unwrap(), net);
        assert_eq!(on_target(&image, "virtio:d2").unwrap(), "builtin builtin\n");
        assert_eq!(on_target(&image, "ext4").unwrap(), format!("insmod {dir}/ext4.ko.gz \n"));
        assert!(on_target(&image, "other").is_err());

        // Those of the board come first; and the indexes that are made are as good.
        let mut board = board(MINIMAL).unwrap();
        board.include = std::mem::replace(&mut fixture.options.include, vec!["fail-over".into()]);
        let build = |fixture: &Fixture| build(&board, &board.kernels[0], &fixture.tree, &fixture.options);
        let error = format!("{:#}", build(&fixture).unwrap_err());
        assert!(error.starts_with("--include: fail-over: no module") && error.contains("mean failover?"), "{error}");
        fixture.options.include.clear();
        fs::remove_file(fixture.tree.dir.join("modules.dep")).unwrap();
        fixture.tree = Tree::find(&fixture.tree.dir).unwrap();
        assert!(build(&fixture).unwrap().bytes == image.bytes);
    }

    #[test]
    fn a_manifest_that_looks_for_devices_brings_indexes() {
        let mut fixture = fixture_for_later();
        let manifest = |lines: &str| Some(("m".to_string(), format!("crc\n{lines}\next4").into_bytes()));
        let note = "@coldplug finds no more than the manifest loads: nothing is included";
        for (lines, include, notes) in
            [("@coldplug virtio", "", &[note][..]), ("@wait /dev/vda", "", &[]), ("@coldplug", "net", &[])]
        {
            fixture.options.manifest = manifest(lines);
            fixture.options.include = Some(include.to_string()).into_iter().filter(|name| !name.is_empty()).collect();
            let image = built(&fixture);
            assert!(image.manifest.contains(&format!("\n{lines}\n")), "{}", image.manifest);
            assert_eq!(image.notes, notes);
            // The weak dependency of what the manifest loads.
            assert!(names(&image).contains(&"k/md5.ko".into()));
            assert_eq!(on_target(&image, "virtio:d1v7").is_ok(), !include.is_empty());
        }
        fixture.options.manifest = manifest("");
        fixture.options.include.clear();
        assert!(!names(&built(&fixture)).contains(&"modules.dep.bin".into()));
        fixture.options.verbatim_manifest = Some(b"nonsense @x\n@wait /dev/vda\n".into());
        assert!(names(&built(&fixture)).contains(&"modules.dep.bin".into()));
        drop(fixture.tmp);
    }

    #[test]
    fn stripped_modules_have_the_size_that_the_manifest_says() {
        let mut fixture = fixture();
        let whole = strip::tests::module(object::Architecture::Aarch64, "license=GPL\0vermagic=6.1.0 x\0", &[]);
        let signed = [&whole, strip::SIGNATURE_MARKER].concat();
        fs::write(fixture.tree.dir.join("k/ext4.ko"), signed).unwrap();
        fs::write(fixture.tree.dir.join("k/virtio_blk.ko.xz"), encode(&whole, Format::Xz).unwrap()).unwrap();
        fixture.options.change.strip = Some(Strip::Debug);
        // They have no more than stripping looks at.
        fixture.options.force = true;
        let image = built(&fixture);
        assert_eq!(image.notes.last().unwrap(), "1 of 2 modules are signed, and not stripped");
        let entries = entries(&image.bytes);
        let find = |path: &str| &entries.iter().find(|(name, ..)| name.ends_with(path)).unwrap().3;
        let stripped = strip::strip(&whole, Strip::Debug).unwrap();
        assert_eq!(decode(find("k/virtio_blk.ko.xz")).unwrap(), stripped);
        assert!(find("k/ext4.ko").starts_with(&whole));
        assert!(image.manifest.contains(&format!("@optional @size={} ", stripped.len())), "{}", image.manifest);
        assert_eq!(image.modules_saved_bytes, (whole.len() - stripped.len()) as u64);
        // A digest in the image is that of what is there; one that is given is that of what the tree has.
        let [is, was] = [&stripped, &whole].map(|image| crate::module::sha256(image));
        fixture.options.pin = true;
        fixture.options.change.format = Some(Format::Gzip);
        let image = built(&fixture);
        let entry = format!("k/virtio_blk.ko.gz @optional @size={} @sha256={is} ", stripped.len());
        assert!(image.manifest.contains(&entry), "{}", image.manifest);
        assert_eq!(image.manifest.lines().filter(|line| line.contains(" @sha256=")).count(), 2, "{}", image.manifest);
        fixture.options.pin = false;
        fixture.options.manifest = Some(("m".into(), format!("virtio_blk @sha256={was}\n").into()));
        let image = built(&fixture);
        assert!(image.manifest.contains(&format!(" @sha256={is}\n")), "{}", image.manifest);
        fixture.options.manifest = Some(("m".into(), format!("virtio_blk @sha256={is}\n").into()));
        let board = board(MINIMAL).unwrap();
        let error = build(&board, &board.kernels[0], &fixture.tree, &fixture.options).unwrap_err().to_string();
        assert_eq!(error, format!("k/virtio_blk.ko.xz: its SHA-256 is {was}, @sha256= says {is}"));
    }

    #[test]
    fn tests_may_add_files_and_write_the_manifest_themselves() {
        let mut fixture = fixture();
        fixture.options.verbatim_manifest = Some(b"@exec /x/y".to_vec());
        fixture.options.extra = vec![
            Extra { path: "/x/y".into(), mode: 0o700, bytes: b"#!".to_vec() },
            Extra { path: "/x/link".into(), mode: 0o120777, bytes: b"y".to_vec() },
        ];
        let entries = entries(&built(&fixture).bytes);
        let find = |path: &str| entries.iter().find(|(name, ..)| name == path).unwrap();
        assert_eq!(find("etc/modest.manifest").3, b"@exec /x/y");
        assert_eq!((find("x/y").1, find("x/link").1, find("x/link").3.as_slice()), (0o100700, 0o120777, &b"y"[..]));
        let board = board(MINIMAL).unwrap();
        let mut refused = |path: &str| {
            fixture.options.extra = vec![Extra { path: path.into(), mode: 0o644, bytes: Vec::new() }];
            build(&board, &board.kernels[0], &fixture.tree, &fixture.options).unwrap_err().to_string()
        };
        assert_eq!(refused("x"), "x: expected an absolute path");
        assert_eq!(refused("/a/../x"), "/a/../x: expected no part that is . or ..");
        assert_eq!(refused("/init/x"), "/init/x: /init is a file, not a folder");
        drop(fixture.tmp);
    }
}
