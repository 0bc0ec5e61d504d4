//! `mkmodest`: the command line of the library. Reads arguments, prints results, chooses the exit code; nothing else.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use mkmodest::board::{self, Board, Layout, Origin};
use mkmodest::check::Report;
use mkmodest::cli::{Choice, Cli, Cmd, How, What};
use mkmodest::disk;
use mkmodest::guest::{Boot, WaitError};
use mkmodest::image::{self, Image, Options};
use mkmodest::initramfs::Initramfs;
use mkmodest::kernel::{Kernel, Tree};
use mkmodest::modprobe::Database;
use mkmodest::module::Change;
use mkmodest::plan::{Plan, Source};
use mkmodest::symbols::KernelSymbols;
use modest_loader::format::Format;
use modest_loader::name::strip_ko;

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
                lines.extend(kernels.iter().filter_map(|kernel| match &kernel.origin {
                    Origin::Package { suite, package } => {
                        Some(format!("kernel {suite} {} {package}", board.arch.debian()))
                    }
                    Origin::Build(name) => Some(format!("build {name}")),
                    Origin::Folder(_) => None,
                }));
            }
            lines.iter().for_each(|line| println!("{line}"));
            Ok(0)
        }
        Cmd::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "mkmodest", &mut std::io::stdout());
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
        init_at: how.init_at.clone(),
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
