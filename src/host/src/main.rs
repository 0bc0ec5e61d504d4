//! `mkmodest`: the command line of the library. Reads arguments, prints results, chooses the exit code; nothing else.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use mkmodest::board::{self, Board, Layout, Origin};
use mkmodest::check::Report;
use mkmodest::disk;
use mkmodest::guest::{Boot, WaitError};
use mkmodest::image::{self, Image, Options};
use mkmodest::initramfs::Initramfs;
use mkmodest::kernel::{Kernel, Tree};
use mkmodest::modprobe::Database;
use mkmodest::module::Change;
use mkmodest::plan::{Plan, Source};
use mkmodest::strip::Strip;
use mkmodest::symbols::KernelSymbols;
use modest_loader::image::Format;
use modest_loader::name::strip_ko;

/// Makes initramfs images with modest as their init, and boots them in QEMU.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Makes an initramfs: modest, the resolved manifest, its modules, what is included, and their firmware
    Image {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        how: How,
        /// Where to write it [default: modest-BOARD.cpio, with the ending of its compression]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Boots a board in QEMU until its root says that the hand-over worked
    ///
    /// Exit codes: 0 the marker showed, 1 QEMU ended without it, 2 something was missing or wrong, 3 the time limit came
    /// first.
    Boot {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        how: How,
        /// Boots this initramfs instead of making one
        #[arg(long, value_name = "FILE")]
        image: Option<PathBuf>,
        /// Attaches this disk instead of making one; the guest writes to it
        #[arg(long, value_name = "FILE")]
        disk: Option<PathBuf>,
        /// Adds this to the kernel's command line
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, allow_hyphen_values = true)]
        append: String,
        /// How long the boot may take, in seconds [default: what the board says]
        #[arg(long, value_name = "N")]
        timeout_s: Option<u64>,
        /// The text on the console that means success
        #[arg(long, value_name = "TEXT", default_value = disk::MARKER)]
        marker: String,
    },
    /// Prints what to load for modules and aliases, in order, as modprobe resolves them
    Plan {
        /// A folder of modules, or one with one lib/modules/VERSION; depmod need not have run [default: the tree of --board]
        #[arg(long, value_name = "DIR", required_unless_present = "board")]
        modules: Option<PathBuf>,
        /// The board whose kernel's modules are meant
        #[arg(long, value_name = "BOARD")]
        board: Option<String>,
        /// Which of the board's kernels [default: its first]; with --modules, which VERSION of the folder's lib/modules
        #[arg(long, value_name = "NAME")]
        kernel: Option<String>,
        /// A folder with files of modprobe.d; of files of the same name the first counts
        #[arg(long, value_name = "DIR")]
        config: Vec<PathBuf>,
        /// What is on the kernel command line
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, allow_hyphen_values = true)]
        cmdline: String,
        /// As a manifest, or as the lines that `modprobe -D` prints
        #[arg(long, value_name = "FORMAT", default_value = "manifest",
            value_parser = PossibleValuesParser::new(["manifest", "modprobe"]))]
        format: String,
        /// Modules or aliases
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Tells what modules are, and what the kernel would refuse about them (docs/checks.md)
    ///
    /// Of module files: each by itself. Of an initramfs: the modules that its manifest loads, in its order, and those for
    /// later. Of a board: the modules of the image that `mkmodest image` would make. Exit codes: 0 nothing keeps a module from
    /// being loaded, 1 something does, 2 something was missing or wrong.
    Check {
        /// Files of modules, an initramfs, or a board
        #[arg(required = true, value_name = "FILE|IMAGE|BOARD")]
        what: Vec<String>,
        /// Which of the board's kernels [default: its first]
        #[arg(long, value_name = "NAME")]
        kernel: Option<String>,
        #[command(flatten)]
        choice: Choice,
        /// Of module files, prints where the kernel puts sections and symbols
        #[arg(long)]
        map: bool,
        /// Prints all as JSON
        #[arg(long)]
        json: bool,
    },
    /// Prints what a board's image is made of: `target TARGET`, `kernel SUITE ARCHITECTURE PACKAGE`, `build NAME`
    ///
    /// Each is a line of its own; scripts/build, scripts/kernel and scripts/small-kernel take what follows the word.
    Needs {
        /// Boards, by name or file [default: all, with all of their kernels]
        boards: Vec<String>,
        /// Which of the boards' kernels [default: their first]
        #[arg(long, value_name = "NAME")]
        kernel: Option<String>,
    },
}

#[derive(Args)]
struct What {
    /// A board's name, looked up in ./boards or $MODEST_BOARDS, or the path of a board file
    board: String,
    /// Which of the board's kernels [default: its first]
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
}

/// Which modules are meant.
#[derive(Args)]
struct Choice {
    /// Modules of another kernel: a folder of them, or one with one lib/modules/VERSION; depmod need not have run
    #[arg(long, value_name = "DIR")]
    kernel_modules: Option<PathBuf>,
    /// Adds a module for later and what it needs, beside what the manifest loads and the board includes (docs/images.md):
    /// a name, an alias, or with a / in it a pattern of paths in the tree
    #[arg(long, value_name = "NAME")]
    include: Vec<String>,
    /// A folder with files of modprobe.d; of files of the same name the first counts
    #[arg(long, value_name = "DIR")]
    config: Vec<PathBuf>,
    /// Adds the firmware that modules name, as far as it is in this folder
    #[arg(long, value_name = "DIR")]
    firmware: Option<PathBuf>,
    /// Refuses modules for any file of theirs that --firmware lacks, not only if it has none of theirs
    #[arg(long, requires = "firmware")]
    require_firmware: bool,
    /// Takes modules and directives from this manifest instead of the board
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// What the kernel itself exports: a Module.symvers, a System.map or a kernel [default: what is beside the modules, or the
    /// board's kernel]
    #[arg(long, value_name = "FILE")]
    symbols: Option<PathBuf>,
}

#[derive(Args)]
struct How {
    #[command(flatten)]
    choice: Choice,
    /// Makes an image of modules that the kernel would refuse, too; what is wrong is told
    #[arg(long)]
    force: bool,
    /// The program to become /init [default: target/TARGET/size/modest]
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// The format of modules in the image
    #[arg(long, value_name = "FORMAT", default_value = "keep", value_parser = modules_as())]
    modules_as: Wanted,
    /// Leaves out of unsigned modules what the kernel does not use; =btf, the types for BPF too (docs/strip.md)
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "debug",
        value_parser = strip())]
    strip: Option<Strip>,
    /// Gives each entry the digest of its module, without which the target does not load it
    #[arg(long)]
    pin: bool,
    /// The compression of the image
    #[arg(long, value_name = "FORMAT", default_value = "none", value_parser = compress())]
    compress: Format,
}

/// A format to change to, if any.
#[derive(Clone, Copy)]
struct Wanted(Option<Format>);

fn modules_as() -> impl TypedValueParser<Value = Wanted> {
    PossibleValuesParser::new(["keep", "plain", "gzip", "xz", "zstd"]).map(|name| {
        Wanted(match name.as_str() {
            "plain" => Some(Format::Plain),
            "gzip" => Some(Format::Gzip),
            "xz" => Some(Format::Xz),
            "zstd" => Some(Format::Zstd),
            _ => None,
        })
    })
}

fn strip() -> impl TypedValueParser<Value = Strip> {
    PossibleValuesParser::new(["debug", "btf"]).map(|name| match name.as_str() {
        "btf" => Strip::Btf,
        _ => Strip::Debug,
    })
}

fn compress() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(["none", "gzip", "xz", "zstd"]).map(|name| match name.as_str() {
        "gzip" => Format::Gzip,
        "xz" => Format::Xz,
        "zstd" => Format::Zstd,
        _ => Format::Plain,
    })
}

/// What a shell reports of a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("mkmodest: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Cmd) -> Result<u8> {
    match command {
        Cmd::Image { what, how, output } => {
            let board = Board::load(&what.board)?;
            let (tree, image) = make(&board, &what, &how)?;
            let ending = match how.compress {
                Format::Plain => "",
                compressed => compressed.ending(),
            };
            let output = output.unwrap_or(format!("modest-{}.cpio{ending}", board.name).into());
            std::fs::write(&output, &image.bytes).with_context(|| format!("{}", output.display()))?;
            println!("{}, Linux {}: {}", board.name, tree.release, summary(&image));
            println!("{}", output.display());
            Ok(0)
        }
        Cmd::Boot { what, how, image, disk, append, timeout_s, marker } => {
            static INTERRUPT: AtomicBool = AtomicBool::new(false);
            ctrlc::set_handler(|| INTERRUPT.store(true, Ordering::Relaxed))?;
            let board = Board::load(&what.board)?;
            let kernel = Kernel::find(&board, what.kernel.as_deref())?;
            let tmp = tempfile::Builder::new().prefix("mkmodest-").tempdir()?;
            let initramfs = match image {
                Some(image) => image,
                None => {
                    let (tree, image) = make(&board, &what, &how)?;
                    eprintln!("mkmodest: {}, Linux {}: {}", board.name, tree.release, summary(&image));
                    let file = tmp.path().join("initramfs");
                    std::fs::write(&file, &image.bytes)?;
                    file
                }
            };
            let disk = match disk {
                Some(disk) => Some(disk),
                None if board.qemu.disk == Layout::None => None,
                None => {
                    let _step = Step::new("making the root disk");
                    let file = tmp.path().join("disk");
                    disk::make(&file, board.qemu.disk, board.qemu.disk_size.0, &kernel.busybox())?;
                    Some(file)
                }
            };
            let boot =
                Boot { disk: disk.as_deref(), append: &append, echo: true, ..Boot::new(&board, &kernel, &initramfs) };
            watch(&boot, &marker, timeout_s.unwrap_or(board.qemu.timeout_s), &INTERRUPT)
        }
        Cmd::Plan { modules, board, kernel, config, cmdline, format, names } => {
            let tree = match (modules, board) {
                (Some(dir), _) => {
                    Tree::find(&kernel.map_or(dir.clone(), |kernel| dir.join("lib/modules").join(kernel)))?
                }
                (None, board) => Kernel::find(&Board::load(&board.unwrap_or_default())?, kernel.as_deref())?.tree,
            };
            let config: Vec<_> = config.iter().map(PathBuf::as_path).collect();
            let database = Database::read(&tree, &config, &cmdline, &mut |line| eprintln!("{line}"))?;
            if format == "modprobe" {
                for name in &names {
                    print!("{}", database.show_depends(name)?);
                }
            } else {
                print!("{}", Plan::resolve(&Source::names(&names), &tree, &database)?.listing(&tree)?);
            }
            Ok(0)
        }
        Cmd::Check { what, kernel, choice, map, json } => {
            let mut reports = Vec::new();
            for what in &what {
                reports.push(checked(what, kernel.as_deref(), &choice, map)?);
            }
            let (modules, problems) = reports.into_iter().map(|report| (report.modules, report.problems)).unzip();
            let (modules, problems): (Vec<Vec<_>>, Vec<Vec<_>>) = (modules, problems);
            let report = Report { modules: modules.concat(), problems: problems.concat() };
            match json {
                true => println!("{}", serde_json::to_string_pretty(&report)?),
                false => tell(&what, &report),
            }
            Ok(report.has_problem().into())
        }
        Cmd::Needs { boards, kernel } => {
            let all = boards.is_empty();
            let mut lines = BTreeSet::new();
            for name in if all { board::names(&board::dir())? } else { boards } {
                let board = Board::load(&name)?;
                lines.insert(format!("target {}", board.arch.target()));
                let kernels =
                    if all { board.kernels.iter().collect() } else { vec![board.kernel_spec(kernel.as_deref())?] };
                lines.extend(kernels.iter().map(|kernel| match &kernel.origin {
                    Origin::Package { suite, package } => format!("kernel {suite} {} {package}", board.arch.debian()),
                    Origin::Build(name) => format!("build {name}"),
                }));
            }
            lines.iter().for_each(|line| println!("{line}"));
            Ok(0)
        }
    }
}

/// The modules that are meant, and what the image is to be made of but for its init.
fn chosen(board: &Board, kernel_name: Option<&str>, choice: &Choice, init: PathBuf) -> Result<(Tree, Options)> {
    let (tree, kernel) = match &choice.kernel_modules {
        Some(dir) => (Tree::find(dir)?, None),
        None => {
            let kernel = Kernel::find(board, kernel_name)?;
            (kernel.tree.clone(), Some(kernel))
        }
    };
    let symbols = match &choice.symbols {
        Some(file) => Some(KernelSymbols::read(file)?),
        None => {
            let (symbols, notes) = KernelSymbols::find(&tree, kernel.as_ref());
            notes.iter().for_each(|note| eprintln!("mkmodest: {note}"));
            symbols
        }
    };
    let read = |file: &Path| std::fs::read(file).with_context(|| format!("{}", file.display()));
    let named = |file: &PathBuf| Ok::<_, anyhow::Error>((file.display().to_string(), read(file)?));
    let options = Options {
        manifest: choice.manifest.as_ref().map(named).transpose()?,
        include: choice.include.clone(),
        config: choice.config.clone(),
        firmware: choice.firmware.clone(),
        require_firmware: choice.require_firmware,
        symbols: symbols.map(Arc::new),
        ..Options::new(init)
    };
    Ok((tree, options))
}

fn make(board: &Board, what: &What, how: &How) -> Result<(Tree, Image)> {
    let _step = Step::new("making the image");
    let kernel_name = what.kernel.as_deref();
    let init = how.init.clone().unwrap_or_else(|| image::default_init(board.arch));
    let (tree, options) = chosen(board, kernel_name, &how.choice, init)?;
    let options = Options {
        change: Change { format: how.modules_as.0, strip: how.strip },
        pin: how.pin,
        compress: how.compress,
        force: how.force,
        ..options
    };
    let image = image::build(board, board.kernel_spec(kernel_name)?, &tree, &options)?;
    for note in &image.notes {
        eprintln!("mkmodest: {note}");
    }
    Ok((tree, image))
}

/// Checks a module's file, an initramfs or a board, whichever `what` is.
fn checked(what: &str, kernel_name: Option<&str>, choice: &Choice, map: bool) -> Result<Report> {
    let path = Path::new(what);
    if what.ends_with(".toml") || !path.exists() && !what.contains('/') && strip_ko(what).is_none() {
        let board = Board::load(what)?;
        let (tree, options) = chosen(&board, kernel_name, choice, PathBuf::new())?;
        return image::check(&board, board.kernel_spec(kernel_name)?, &tree, &options);
    }
    let bytes = std::fs::read(path).with_context(|| what.to_string())?;
    if strip_ko(what).is_some() || !Initramfs::is_one(&bytes) {
        return Ok(Report::of_file(what, &bytes, map));
    }
    let symbols = choice.symbols.as_deref().map(KernelSymbols::read).transpose()?;
    Initramfs::read(&bytes).and_then(|image| image.check(symbols.as_ref())).with_context(|| what.to_string())
}

/// Prints a report for people: of modules that were named all, of a set what is wrong with it.
fn tell(what: &[String], report: &Report) {
    for module in &report.modules {
        if what.contains(&module.file) {
            print!("{module}");
        }
    }
    for problem in &report.problems {
        println!("{}: {problem}", if problem.is_problem() { "problem" } else { "warning" });
    }
    let problems = report.problems.iter().filter(|problem| problem.is_problem()).count();
    let warnings = report.problems.len() - problems;
    println!("{} modules, {problems} problems, {warnings} warnings", report.modules.len());
}

fn watch(boot: &Boot, marker: &str, timeout_s: u64, interrupt: &AtomicBool) -> Result<u8> {
    // How long a signal may go unnoticed.
    const SLICE: Duration = Duration::from_millis(100);
    // A board that can power off has done so by then; the others never will.
    const GRACE: Duration = Duration::from_secs(1);
    let start = Instant::now();
    let mut guest = boot.spawn()?;
    loop {
        match guest.wait_for(marker, SLICE) {
            Ok(_) => {
                let _ = guest.wait_for_end(GRACE);
                eprintln!("mkmodest: {marker} after {:.1} s", start.elapsed().as_secs_f32());
                return Ok(0);
            }
            Err(WaitError::Ended { status, .. }) => {
                eprintln!("mkmodest: QEMU ended ({status}) without {marker}");
                return Ok(1);
            }
            Err(WaitError::TimedOut { .. }) if interrupt.load(Ordering::Relaxed) => return Ok(INTERRUPTED),
            Err(WaitError::TimedOut { .. }) if start.elapsed() >= Duration::from_secs(timeout_s) => {
                eprintln!("mkmodest: no {marker} within {timeout_s} s");
                return Ok(3);
            }
            Err(WaitError::TimedOut { .. }) => {}
        }
    }
}

fn summary(image: &Image) -> String {
    let kib = |bytes: u64| format!("{} KiB", bytes.div_ceil(1024));
    let Image { bytes, modules, included, modules_file_bytes, modules_image_bytes, modules_saved_bytes, .. } = image;
    let (files, images) = (kib(*modules_file_bytes), kib(*modules_image_bytes));
    let saved = match *modules_saved_bytes {
        0 => String::new(),
        saved => format!(", {} less by --strip", kib(saved)),
    };
    let later = match included {
        0 => String::new(),
        included => format!(" ({included} for later)"),
    };
    format!("{modules} modules{later} of {files} ({images} uncompressed{saved}), image {}", kib(bytes.len() as u64))
}

/// A step that may take long: told at once to a person, else only if it did.
struct Step(&'static str, Instant);

impl Step {
    fn new(name: &'static str) -> Step {
        if std::io::stderr().is_terminal() {
            eprintln!("mkmodest: {name}");
        }
        Step(name, Instant::now())
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let seconds = self.1.elapsed().as_secs_f32();
        if seconds > 1.0 {
            eprintln!("mkmodest: {} took {seconds:.1} s", self.0);
        }
    }
}
