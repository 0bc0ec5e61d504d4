//! What the guest tests share: a boot described in a few words, and what its console said.
//!
//! A test passes only on a text that the guest wrote, within a time limit, never because nothing bad was seen.

pub mod damage;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mkmodest::board::{Board, Layout};
use mkmodest::device_tree::{Devices, Drivers};
use mkmodest::guest::{self, Guest};
use mkmodest::image::{self, Extra, Image, Options};
use mkmodest::kernel::{KernelPackage, Tree};
use mkmodest::{codec, disk};
use modest_loader::format::Format;

/// The project's folder.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a command to its end, which must be a good one: what it wrote to its standard output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; scripts/setup installs it"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Copies the project's files to a folder: what git has, and what is new; where there is no repository, all but what builds make.
pub fn copy_project(to: &Path) -> Result<()> {
    let copy = "{ git ls-files -z --cached --others --exclude-standard 2>/dev/null ||
        find . \\( -name target -o -name .git \\) -prune -o -type f -print0; } | tar -c --null -T - | tar -x -C \"$0\"";
    let status = Command::new("sh").args(["-c", copy]).arg(to).current_dir(project()).status()?;
    ensure!(status.success(), "the project cannot be copied to {}: {status}", to.display());
    Ok(())
}

/// The built program for a target.
pub fn modest(target: &str) -> PathBuf {
    let dir = std::env::var_os("CARGO_TARGET_DIR").map_or(project().join("target"), PathBuf::from);
    dir.join(target).join("size/modest")
}

/// The names of all boards.
pub fn boards() -> Result<Vec<String>> {
    mkmodest::board::names(&project().join("boards"))
}

/// A boot to be.
pub struct Scenario {
    /// The board.
    pub board: Board,
    /// Its kernel.
    pub kernel: KernelPackage,
    /// What the image is made of.
    pub options: Options,
    /// What is added to the kernel's command line.
    pub append: String,
    /// What is added to QEMU's arguments.
    pub args: Vec<String>,
    /// Whether the root disk is attached.
    pub with_disk: bool,
}

/// What loads the module in [`Scenario::big`].
#[derive(Clone, Copy, Debug)]
pub enum Loader<'a> {
    /// modest as init, by a manifest with these attributes.
    Modest(&'a str),
    /// This program as init, which is called as insmod is.
    Insmod(&'a Path),
    /// The same, called by a script of busybox that is init.
    InsmodByScript(&'a Path),
}

/// What `modest_big`, a module of 3 MB, says when every byte of it arrived.
pub const BIG_IS_WHOLE: &str = "modest_big: 800 chips, sum 3109318550, expected 3109318550";

/// A boot that was started, with its files.
pub struct Running {
    guest: Guest,
    limit: Duration,
    _files: tempfile::TempDir,
}

impl Scenario {
    /// A board as it is, with its first kernel or the one named.
    pub fn new(board: &str, kernel: Option<&str>) -> Result<Scenario> {
        let board = Board::read(&project().join("boards").join(format!("{board}.toml")))?;
        let kernel = KernelPackage::find(&board, kernel)?;
        let drivers = Drivers::read(&kernel.tree, None)?;
        let devices = match kernel.device_tree() {
            Some(file) => Devices::load(&file, drivers)?,
            None => Devices::without_tree(drivers),
        };
        let options = Options { devices: Some(Arc::new(devices)), ..Options::new(modest(board.arch.target())) };
        Ok(Scenario { board, kernel, options, append: String::new(), args: Vec::new(), with_disk: true })
    }

    /// As [`Scenario::new`], with this manifest, taken to the guest as it is, and no modules but those added.
    pub fn with_manifest(board: &str, kernel: Option<&str>, manifest: &str) -> Result<Scenario> {
        let mut scenario = Scenario::new(board, kernel)?;
        scenario.options.manifest = Some(("none".into(), Vec::new()));
        scenario.options.verbatim_manifest = Some(manifest.into());
        scenario.with_disk = false;
        Ok(scenario)
    }

    /// The board with 16 MB, and in its memory nothing but `modest_big` and what loads it. However that ends, the machine
    /// ends too.
    pub fn big(kernel: &str, format: Format, loader: Loader) -> Result<Scenario> {
        let mut scenario = Scenario::with_manifest("lowram-armv7", Some(kernel), "")?;
        let image = scenario.module("modest_big")?;
        let file = format!("/modest_big.ko{}", format.ending());
        match loader {
            Loader::Modest(attributes) => {
                let entry = format!("{file} @size={} {attributes}", image.len());
                let manifest = format!("@unlink\n@on-error reboot\n{entry}\n@exec /none\n");
                scenario.options.verbatim_manifest = Some(manifest.into());
                scenario = scenario.append("modest.debug");
            }
            Loader::Insmod(program) => {
                scenario = scenario.program("/insmod", program)?.link("/init", "insmod");
                scenario = scenario.append(&format!("rdinit=/insmod -- {file}"));
            }
            Loader::InsmodByScript(program) => {
                let script = format!("/insmod {file}\necho \"insmod: exit code $?\"\n/bin/busybox poweroff -f\n");
                scenario = scenario.script("/init", &script)?;
                // The shell is in the image already.
                scenario = if program == scenario.kernel.busybox() {
                    scenario.link("/insmod", "bin/busybox")
                } else {
                    scenario.program("/insmod", program)?
                };
            }
        }
        Ok(scenario.file(&file, codec::encode(&image, format)?))
    }

    /// Adds a file.
    pub fn file(self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.extra(path, 0o644, bytes)
    }

    /// Adds a symbolic link.
    pub fn link(self, path: &str, to: &str) -> Self {
        self.extra(path, 0o120_777, to)
    }

    /// Adds a FIFO.
    pub fn fifo(self, path: &str) -> Self {
        self.extra(path, 0o010_644, "")
    }

    /// Adds a program.
    pub fn program(self, path: &str, from: &Path) -> Result<Self> {
        let bytes = std::fs::read(from).with_context(|| format!("{}", from.display()))?;
        Ok(self.extra(path, 0o755, bytes))
    }

    fn extra(mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.options.extra.push(Extra { path: path.into(), mode, bytes: bytes.into() });
        self
    }

    /// Adds a shell script for busybox, which is added too.
    pub fn script(self, path: &str, text: &str) -> Result<Self> {
        let busybox = self.kernel.busybox();
        // The kernel panics when init ends, and what it wrote last may still be in the terminal's buffer.
        let end = if path == "/next" { "\nsleep 2\n" } else { "" };
        Ok(self.program("/bin/busybox", &busybox)?.extra(path, 0o755, format!("#!/bin/busybox sh\n{text}{end}")))
    }

    /// Adds words to the kernel's command line.
    pub fn append(mut self, words: &str) -> Self {
        self.append = format!("{} {words}", self.append);
        self
    }

    /// Gives the machine this much memory, written as after QEMU's `-m`.
    pub fn memory(mut self, size: &str) -> Self {
        let args = &mut self.board.qemu.args;
        let at = args.iter().position(|arg| arg == "-m").expect("a board whose memory can be chosen");
        args[at + 1] = size.into();
        self
    }

    /// The image of a module of the kernel's tree, not compressed: its file's name begins with `NAME.ko`.
    pub fn module(&self, name: &str) -> Result<Vec<u8>> {
        let tree = &self.kernel.tree;
        codec::decode(&std::fs::read(tree.dir.join(module_file(tree, name)?))?)
    }

    /// Makes the image to boot with.
    pub fn image(&self) -> Result<Image> {
        image::build(&self.board, &self.kernel.spec, &self.kernel.tree, &self.options)
    }

    /// Starts it.
    pub fn boot(&self) -> Result<Running> {
        let files = tempfile::tempdir()?;
        let initramfs = files.path().join("initramfs");
        std::fs::write(&initramfs, self.image()?.bytes)?;
        let qemu = &self.board.qemu;
        let disk = files.path().join("disk");
        let with_disk = self.with_disk && qemu.disk != Layout::None;
        if with_disk {
            disk::make(&disk, qemu.disk, qemu.disk_size.0, &self.kernel.busybox())?;
        }
        let args: Vec<_> = self.args.iter().map(String::as_str).collect();
        let boot = guest::Boot {
            disk: with_disk.then_some(&disk),
            append: &self.append,
            args: &args,
            ..guest::Boot::new(&self.board, &self.kernel, &initramfs)
        };
        let limit = Duration::from_secs(qemu.timeout_s);
        Ok(Running { guest: boot.spawn()?, limit, _files: files })
    }
}

impl Running {
    /// Waits for a text on the console within the board's time limit: the console so far.
    pub fn wait_for(&mut self, text: &str) -> Result<String> {
        self.guest.wait_for(text, self.limit).with_context(|| format!("waiting for {text:?}"))
    }

    /// Waits until the guest ends by itself: its whole console.
    pub fn wait_for_end(&mut self) -> Result<String> {
        self.guest.wait_for_end(self.limit).context("waiting for the end")
    }

    /// Whether the guest still runs, saying nothing new but what holds no `text`, after this time.
    pub fn stays_without(&mut self, text: &str, time: Duration) -> bool {
        matches!(self.guest.wait_for(text, time), Err(guest::WaitError::TimedOut { .. }))
    }
}

/// The files of all modules of a kernel's tree, by their paths in it.
pub fn module_files(tree: &Tree) -> Result<Vec<String>> {
    let index = std::fs::read_to_string(tree.dir.join("modules.dep"))?;
    Ok(index.lines().filter_map(|line| Some(line.split(':').next()?.to_string())).collect())
}

/// The one of a module: its name begins with `NAME.ko`.
pub fn module_file(tree: &Tree, name: &str) -> Result<String> {
    let is_it = |path: &String| path.rsplit('/').next().is_some_and(|file| file.starts_with(&format!("{name}.ko")));
    let file = module_files(tree)?.into_iter().find(is_it);
    file.with_context(|| format!("no module {name} in {}", tree.dir.display()))
}

/// The names of the modules of a kernel's tree that are in one of these folders.
pub fn modules_in(tree: &Tree, folders: &[&str]) -> Result<Vec<String>> {
    let files = module_files(tree)?.into_iter().filter(|file| folders.iter().any(|folder| file.contains(folder)));
    Ok(files.filter_map(|file| Some(file.rsplit('/').next()?.split(".ko").next()?.to_string())).collect())
}

/// `bytes` in gzip.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    codec::encode(bytes, Format::Gzip)
}

/// The digest of an image, as `@sha256=` has it.
pub fn sha256(image: &[u8]) -> String {
    modest_loader::pin::digest(image).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The one line of `console` that modest wrote and that begins so.
pub fn line<'c>(console: &'c str, begins: &str) -> Result<&'c str> {
    let mut lines = console.lines().filter_map(|line| line.strip_prefix("modest: ")).filter(|l| l.starts_with(begins));
    let line = lines.next().with_context(|| format!("no line of modest begins with {begins:?} in:\n{console}"))?;
    anyhow::ensure!(lines.next().is_none(), "more than one line of modest begins with {begins:?} in:\n{console}");
    Ok(line)
}

/// A module's image without the signature behind it (the kernel's `struct module_signature`), if it has one.
pub fn unsigned(image: &[u8]) -> &[u8] {
    const MARKER: &[u8] = b"~Module signature appended~\n";
    let Some(signed) = image.strip_suffix(MARKER) else { return image };
    // The structure's last field is the signature's length, most significant byte first.
    let (rest, info) = signed.split_at(signed.len() - 12);
    let len = u32::from_be_bytes(info[8..].try_into().unwrap_or_default());
    &rest[..rest.len() - len as usize]
}
