//! `mkmodest boot`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::args::{How, What};
use super::make::{make, summary};
use super::timed::Timed;
use crate::board::{Board, Layout};
use crate::disk;
use crate::guest::{Boot, WaitError};
use crate::kernel::KernelPackage;

/// What a shell reports of a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Boots a board in QEMU until its root says that the hand-over worked
///
/// Exit codes: 0 the marker showed, 1 QEMU ended without it, 2 something was missing or wrong, 3 the time limit came
/// first.
#[derive(clap::Args)]
pub struct Args {
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
}

/// Runs the command; returns the exit code.
pub fn run(args: Args) -> Result<u8> {
    let Args { what, how, image, disk, append, timeout_s, marker } = args;
    static INTERRUPT: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| INTERRUPT.store(true, Ordering::Relaxed))?;
    let board = Board::load(&what.board)?;
    let kernel = KernelPackage::find(&board, what.kernel.as_deref())?;
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
            let timed = Timed::new("making the root disk");
            let file = tmp.path().join("disk");
            disk::make(&file, board.qemu.disk, board.qemu.disk_size.0, &kernel.busybox())?;
            timed.done();
            Some(file)
        }
    };
    let boot = Boot { disk: disk.as_deref(), append: &append, echo: true, ..Boot::new(&board, &kernel, &initramfs) };
    watch(&boot, &marker, timeout_s.unwrap_or(board.qemu.timeout_s), &INTERRUPT)
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
