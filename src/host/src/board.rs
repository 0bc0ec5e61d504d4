//! Board files: `boards/NAME.toml`, one board each, checked whole when read.
//!
//! Only what a board file says belongs here; the files that it leads to are found in [`crate::kernel`].

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use modest_loader::elf::Machine;
use modest_loader::manifest::{Entry, Line, quote_comments, size_bytes};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::words::did_you_mean;

/// A board file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Board {
    /// The board's name: that of its file.
    #[serde(skip)]
    pub name: String,
    /// The file, for messages.
    #[serde(skip)]
    pub file: PathBuf,
    /// One line for people.
    pub description: String,
    /// What its processor executes.
    pub arch: Arch,
    /// The modules to load, in order.
    pub modules: Vec<Module>,
    /// Further modules to put into images: names, aliases, or patterns of paths in the tree.
    #[serde(default)]
    pub include: Vec<String>,
    /// Whether images also get the modules of suppliers that the device tree names, first in order: they do if that is not
    /// said, but [`crate::image::check`] then tells what the file lacks.
    pub suppliers: Option<bool>,
    /// The device that brings the root: the name, path or alias of its node in the device tree.
    pub root_device: Option<String>,
    /// The kernel's command line.
    pub cmdline: String,
    /// `@on-error` of the manifest.
    pub on_error: Option<OnError>,
    /// What the manifest ends with.
    #[serde(default)]
    pub hand_over: HandOver,
    /// `@budget` of the manifest.
    pub budget: Option<Size>,
    /// The kernels it can run; the first is the default.
    #[serde(rename = "kernel")]
    pub kernels: Vec<KernelSpec>,
    /// How QEMU shows it.
    pub qemu: Qemu,
}

/// A kernel that a board can run.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "KernelTable")]
pub struct KernelSpec {
    /// What `--kernel` calls it.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// The device tree to boot with, below the kernel's `dtb`; that of QEMU itself if none.
    pub dtb: Option<PathBuf>,
    /// The device tree to check with, below the kernel's `dtb`, where the board boots with one of its own.
    pub device_tree: Option<PathBuf>,
    /// The modules to load, in place of the board's.
    pub modules: Option<Vec<Module>>,
    /// The further modules to put into images, in place of the board's.
    pub include: Option<Vec<String>>,
    /// What is added to the board's command line.
    pub cmdline_extra: String,
}

/// Where a kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Debian has it: what `scripts/kernel` takes.
    #[allow(missing_docs)]
    Package { suite: String, package: String },
    /// It is built: the name that `scripts/small-kernel` takes.
    Build(String),
    /// It is in this folder, relative to the board file's.
    Folder(PathBuf),
}

/// A kernel as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct KernelTable {
    name: String,
    suite: Option<String>,
    package: Option<String>,
    build: Option<String>,
    folder: Option<PathBuf>,
    dtb: Option<PathBuf>,
    device_tree: Option<PathBuf>,
    modules: Option<Vec<Module>>,
    include: Option<Vec<String>>,
    #[serde(default)]
    cmdline_extra: String,
}

impl TryFrom<KernelTable> for KernelSpec {
    type Error = String;

    fn try_from(table: KernelTable) -> Result<Self, String> {
        let KernelTable { name, suite, package, build, folder, dtb, device_tree, modules, include, cmdline_extra } =
            table;
        let origin = match (suite, package, build, folder) {
            (Some(suite), Some(package), None, None) => Origin::Package { suite, package },
            (None, None, Some(name), None) => Origin::Build(name),
            (None, None, None, Some(folder)) => Origin::Folder(folder),
            _ => return Err(format!("kernel {name}: expected one of suite and package, build, or folder")),
        };
        Ok(KernelSpec { name, origin, dtb, device_tree, modules, include, cmdline_extra })
    }
}

/// How QEMU shows a board.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Qemu {
    /// The emulator.
    pub program: String,
    /// The machine: its arguments.
    pub args: Vec<String>,
    /// How the root disk is laid out.
    pub disk: Layout,
    /// Arguments that attach the root disk, `{disk}` in them being its file.
    #[serde(default)]
    pub disk_args: Vec<String>,
    /// Length of the root disk.
    #[serde(default = "default_disk_size")]
    pub disk_size: Size,
    /// How long a boot may take.
    pub timeout_s: u64,
}

fn default_disk_size() -> Size {
    Size(64 << 20)
}

/// What a board's processor executes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Arch {
    Aarch64,
    Armv7,
    Riscv64,
}

impl Arch {
    /// All of them.
    pub const ALL: [Arch; 3] = [Arch::Aarch64, Arch::Armv7, Arch::Riscv64];

    /// Its name in a board file.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Aarch64 => "aarch64",
            Arch::Armv7 => "armv7",
            Arch::Riscv64 => "riscv64",
        }
    }

    /// QEMU's program for it.
    pub fn qemu(self) -> &'static str {
        match self {
            Arch::Aarch64 => "qemu-system-aarch64",
            Arch::Armv7 => "qemu-system-arm",
            Arch::Riscv64 => "qemu-system-riscv64",
        }
    }

    /// Debian's name of it.
    pub fn debian(self) -> &'static str {
        match self {
            Arch::Aarch64 => "arm64",
            Arch::Armv7 => "armhf",
            Arch::Riscv64 => "riscv64",
        }
    }

    /// Rust's name of the target that modest is built for.
    pub fn target(self) -> &'static str {
        match self {
            Arch::Aarch64 => "aarch64-unknown-linux-musl",
            Arch::Armv7 => "armv7-unknown-linux-musleabihf",
            Arch::Riscv64 => "riscv64gc-unknown-linux-musl",
        }
    }

    /// What the ELF header of a program or module for it says.
    pub fn machine(self) -> Machine {
        let (class, machine) = match self {
            Arch::Aarch64 => (2, 183),
            Arch::Armv7 => (1, 40),
            Arch::Riscv64 => (2, 243),
        };
        Machine { class, data: 1, machine }
    }
}

/// How a root disk is laid out.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// The file system is on the whole disk.
    Plain,
    /// One partition of a GUID partition table.
    Gpt,
    /// One primary partition of a DOS partition table.
    Mbr,
    /// There is no disk.
    None,
}

/// A module of a board: its name or path alone, or a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The manifest's line for it.
    pub line: String,
}

/// A number of bytes: written as text that may end in `K`, `M` or `G`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Size(pub u64);

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        size_bytes(&text).map(Size).ok_or(format!("{text} is not a size; expected a number with K, M or G"))
    }
}

/// A failure policy: the text after `@on-error`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct OnError(String);

impl TryFrom<String> for OnError {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parsed(&format!("@on-error {text}"))?;
        Ok(OnError(text))
    }
}

/// How the boot goes on: the manifest's directive for it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct HandOver(String);

impl TryFrom<String> for HandOver {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match parsed(&text)? {
            Line::SwitchRoot | Line::Exec(_) => Ok(HandOver(text)),
            _ => Err(format!("{text} hands over to nothing; expected @switch-root or @exec PATH")),
        }
    }
}

impl Default for HandOver {
    fn default() -> Self {
        HandOver(Line::SwitchRoot.to_string())
    }
}

/// Reads what is written into the manifest as the target will.
fn parsed(line: &str) -> Result<Line<'_>, String> {
    Line::parse(line.as_bytes()).map_err(|e| e.problem.to_string())
}

/// Parameters as a manifest can hold them.
pub(crate) fn quoted(params: &str) -> String {
    let mut quoted = String::new();
    quote_comments(params, &mut quoted).expect("a string takes any text");
    quoted
}

impl<'de> Deserialize<'de> for Module {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            name: String,
            #[serde(default)]
            params: String,
            #[serde(default)]
            optional: bool,
        }
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Table;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a module's name or path, or a table with name, params and optional")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<Table, E> {
                Ok(Table { name: name.into(), params: String::new(), optional: false })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Table, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map))
            }
        }
        let Table { name, params, optional } = deserializer.deserialize_any(NameOrTable)?;
        let line = Line::Entry(Entry { optional, params: &quoted(params.trim()), ..Entry::new(&name) });
        let text = line.to_string();
        match parsed(&text) {
            Ok(read) if read == line => Ok(Module { line: text }),
            Ok(_) => Err(D::Error::custom(format!("{name:?} with params {params:?} is not one module"))),
            Err(problem) => Err(D::Error::custom(problem)),
        }
    }
}

impl Board {
    /// Reads a board by its name, from `$MODEST_BOARDS` or `./boards`, or by its file, whose name ends in `.toml`.
    pub fn load(board: &str) -> Result<Board> {
        if board.ends_with(".toml") {
            return Self::read(Path::new(board));
        }
        let dir = dir();
        let file = dir.join(format!("{board}.toml"));
        if !file.exists() {
            let known = names(&dir).with_context(|| format!("no board {board}"))?;
            let near = did_you_mean(board, known.iter().map(String::as_str));
            bail!("no board {board} in {}{near}; it has: {}", dir.display(), known.join(", "));
        }
        Self::read(&file)
    }

    /// Reads a board file.
    pub fn read(file: &Path) -> Result<Board> {
        let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
        Self::parse(file, &text)
    }

    fn parse(file: &Path, text: &str) -> Result<Board> {
        let mut board: Board = match toml::from_str(text) {
            Ok(board) => board,
            Err(e) => bail!("{}: {}{}", file.display(), e.to_string().trim_end(), nearest_key(e.message())),
        };
        board.name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        board.file = file.into();
        if board.kernels.is_empty() {
            bail!("{}: kernel: expected at least one", file.display());
        }
        let attaches = board.qemu.disk_args.iter().any(|arg| arg.contains("{disk}"));
        if attaches != (board.qemu.disk != Layout::None) {
            bail!("{}: qemu.disk-args: expected {{disk}} in it if and only if disk is not \"none\"", file.display());
        }
        Ok(board)
    }

    /// The board's kernel of that name, or its first.
    pub fn kernel_spec(&self, name: Option<&str>) -> Result<&KernelSpec> {
        let Some(name) = name else { return Ok(&self.kernels[0]) };
        self.kernels.iter().find(|kernel| kernel.name == name).with_context(|| {
            let known: Vec<_> = self.kernels.iter().map(|kernel| kernel.name.as_str()).collect();
            format!("{}: no kernel {name}; it has: {}", self.file.display(), known.join(", "))
        })
    }

    /// The directives that the manifest begins with.
    pub fn directives(&self) -> impl Iterator<Item = String> {
        let budget = self.budget.map(|Size(bytes)| Line::Budget(bytes).to_string());
        let on_error = self.on_error.as_ref().map(|OnError(policy)| format!("@on-error {policy}"));
        budget.into_iter().chain(on_error)
    }

    /// The directive that the manifest ends with.
    pub fn hand_over(&self) -> &str {
        &self.hand_over.0
    }

    /// The modules to load with that kernel.
    pub fn modules<'a>(&'a self, kernel: &'a KernelSpec) -> &'a [Module] {
        kernel.modules.as_deref().unwrap_or(&self.modules)
    }

    /// The further modules to put into images with that kernel.
    pub fn include<'a>(&'a self, kernel: &'a KernelSpec) -> &'a [String] {
        kernel.include.as_deref().unwrap_or(&self.include)
    }
}

/// Where boards are looked up by name.
pub fn dir() -> PathBuf {
    std::env::var_os("MODEST_BOARDS").unwrap_or("boards".into()).into()
}

/// The boards in a folder.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("{}", dir.display()))?;
    let file_names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<_> = file_names.filter_map(|name| Some(name.strip_suffix(".toml")?.to_string())).collect();
    names.sort();
    Ok(names)
}

/// serde's message quotes the unknown word first, and then the known ones.
fn nearest_key(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    match quoted.next().filter(|_| message.starts_with("unknown ")) {
        Some(word) => did_you_mean(word, quoted),
        None => String::new(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A board with all that must be said.
    pub const MINIMAL: &str = r#"
description = "for tests"
arch = "aarch64"
modules = ["ext4", { name = "virtio_blk", params = "queue_depth=64", optional = true }]
cmdline = "panic=-1"
on-error = "stop"
budget = "512K"

[[kernel]]
name = "debian13"
suite = "trixie"
package = "linux-image-arm64"

[[kernel]]
name = "debian12"
suite = "bookworm"
package = "linux-image-arm64"
modules = ["xfs"]

[qemu]
program = "qemu-system-aarch64"
args = ["-M", "virt"]
disk = "plain"
disk-args = ["-drive", "file={disk}"]
timeout-s = 9
"#;

    pub fn board(text: &str) -> Result<Board> {
        Board::parse(Path::new("boards/b.toml"), text)
    }

    #[test]
    fn a_board_is_read_whole() {
        let board = board(MINIMAL).unwrap();
        assert_eq!((board.name.as_str(), board.arch, board.hand_over()), ("b", Arch::Aarch64, "@switch-root"));
        assert!(board.directives().eq(["@budget 524288", "@on-error stop"]));
        let lines = |kernel| {
            let kernel = board.kernel_spec(kernel).unwrap();
            board.modules(kernel).iter().map(|module| module.line.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(lines(None), ["ext4", "virtio_blk @optional queue_depth=64"]);
        assert_eq!(lines(Some("debian12")), ["xfs"]);
        assert_eq!((board.qemu.disk_size, board.qemu.timeout_s), (Size(64 << 20), 9));
        let error = board.kernel_spec(Some("debian11")).unwrap_err().to_string();
        assert_eq!(error, "boards/b.toml: no kernel debian11; it has: debian13, debian12");
    }

    #[test]
    fn a_kernel_includes_in_place_of_the_board() {
        let include = |text: &str| {
            let board = board(text).unwrap();
            board.kernels.iter().map(|kernel| board.include(kernel).to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(include(MINIMAL), [vec![""; 0], vec![]]);
        let text = MINIMAL.replace("cmdline =", "include = [\"usb-storage\", \"kernel/net/*\"]\ncmdline =");
        let text = text.replace("modules = [\"xfs\"]", "include = [\"f2fs\"]");
        assert_eq!(include(&text), [vec!["usb-storage", "kernel/net/*"], vec!["f2fs"]]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_what_was_meant() {
        for (from, to, says) in [
            (
                "cmdline =",
                "cmdlin =",
                &["boards/b.toml: ", "line 5", "unknown field `cmdlin`", "did you mean cmdline?"][..],
            ),
            ("timeout-s", "timeout_s", &["line 25", "did you mean timeout-s"]),
            ("params =", "param =", &["line 4", "unknown field `param`", "did you mean params?"]),
            ("suite = \"trixie\"", "suit = \"trixie\"", &["unknown field `suit`", "did you mean suite?"]),
            (
                "suite = \"trixie\"\n",
                "",
                &["line 9", "kernel debian13: expected one of suite and package, build, or folder"],
            ),
            (
                "suite = \"trixie\"",
                "suite = \"trixie\"\nbuild = \"x\"",
                &["line 9", "expected one of suite and package, build, or folder"],
            ),
            ("package = \"linux-image-arm64\"\n\n", "folder = \"x\"\n\n", &["line 9", "expected one of"]),
            ("suite = \"trixie\"", "biuld = \"x\"", &["unknown field `biuld`", "did you mean build?"]),
            ("\"aarch64\"", "\"aarch46\"", &["line 3", "unknown variant `aarch46`", "did you mean aarch64?"]),
            ("\"stop\"", "\"explode\"", &["line 6", "explode is not a policy"]),
            ("\"512K\"", "\"512X\"", &["line 7", "512X is not a size"]),
            ("queue_depth=64", "label=\\\"x", &["line 4", "quote that is never closed"]),
            ("queue_depth=64", "@x", &["line 4", "unknown attribute @x"]),
            ("\"ext4\"", "\"ext4 mbcache\"", &["line 4", "is not one module"]),
            ("\"ext4\"", "\"#ext4\"", &["line 4", "is not one module"]),
            ("\"ext4\"", "4", &["line 4", "expected a module's name"]),
            ("arch =", "hand-over = \"ext4\"\narch =", &["line 3", "expected @switch-root or @exec PATH"]),
            ("file={disk}", "file=x", &["qemu.disk-args: expected {disk}"]),
        ] {
            let text = MINIMAL.replace(from, to);
            assert_ne!(text, MINIMAL);
            let error = board(&text).unwrap_err().to_string();
            for part in says {
                assert!(error.contains(part), "{part} not in: {error}");
            }
        }
    }

    #[test]
    fn every_board_of_the_project_is_one() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../boards");
        let names = names(&dir).unwrap();
        assert!(names.contains(&"qemu-aarch64".to_string()), "{names:?}");
        for name in names {
            let board = Board::read(&dir.join(format!("{name}.toml"))).unwrap();
            assert_eq!(board.name, name);
        }
    }
}
