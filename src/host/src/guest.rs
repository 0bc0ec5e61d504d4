//! A board in QEMU: starts it, listens to its console, ends it.
//!
//! No QEMU outlives its [`Guest`], nor the thread that started it, however either ends.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::board::{Board, Layout};
use crate::kernel::KernelPackage;
use crate::program::program;

/// What to boot, and how.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// The board.
    pub board: &'a Board,
    /// The kernel.
    pub kernel: &'a KernelPackage,
    /// The initramfs.
    pub initramfs: &'a Path,
    /// The root disk, attached as the board says.
    pub disk: Option<&'a Path>,
    /// What to add to the kernel's command line.
    pub append: &'a str,
    /// What to add to QEMU's arguments.
    pub args: &'a [&'a str],
    /// Whether the console goes to standard output too.
    pub echo: bool,
}

impl<'a> Boot<'a> {
    /// A boot without a disk, quietly.
    pub fn new(board: &'a Board, kernel: &'a KernelPackage, initramfs: &'a Path) -> Self {
        Boot { board, kernel, initramfs, disk: None, append: "", args: &[], echo: false }
    }

    /// The kernel's command line.
    pub fn cmdline(&self) -> String {
        let parts = [&self.board.cmdline, &self.kernel.spec.cmdline_extra, self.append];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// Starts QEMU.
    pub fn spawn(&self) -> Result<Guest> {
        let qemu = &self.board.qemu;
        // setpriv becomes QEMU, which the kernel then kills when the thread that started it is gone.
        let mut command = Command::new(program("setpriv", "util-linux")?);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program(&qemu.program, "qemu-system-arm or qemu-system-misc")?);
        command.args(&qemu.args);
        command.args(["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot"]);
        command.arg("-kernel").arg(self.kernel.image()).arg("-initrd").arg(self.initramfs);
        command.args(["-append", &self.cmdline()]);
        if let Some(dtb) = self.kernel.dtb() {
            command.arg("-dtb").arg(dtb);
        }
        if let Some(disk) = self.disk.filter(|_| qemu.disk != Layout::None) {
            // QEMU's options separate by commas, and take two for one.
            let disk = disk.to_str().with_context(|| format!("{}: not UTF-8", disk.display()))?.replace(',', ",,");
            command.args(qemu.disk_args.iter().map(|arg| arg.replace("{disk}", &disk)));
        }
        command.args(self.args);
        let mut qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("setpriv: cannot be run")?;
        let console = Arc::new(Console::default());
        console.state().open = 2;
        pump(qemu.stdout.take().context("piped")?, console.clone(), self.echo);
        pump(qemu.stderr.take().context("piped")?, console.clone(), self.echo);
        Ok(Guest { qemu, console })
    }
}

/// A running QEMU, killed when dropped.
#[derive(Debug)]
pub struct Guest {
    qemu: Child,
    console: Arc<Console>,
}

/// Why a text did not show on the console; holds all that did.
#[derive(Debug)]
pub enum WaitError {
    /// QEMU ended without it.
    Ended {
        /// How QEMU ended.
        status: ExitStatus,
        /// The console.
        console: String,
    },
    /// The time limit came first.
    TimedOut {
        /// The console.
        console: String,
    },
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LAST_LINES: usize = 30;
        let console = match self {
            WaitError::Ended { status, console } => {
                write!(f, "QEMU ended ({status}) before the text showed")?;
                console
            }
            WaitError::TimedOut { console } => {
                f.write_str("the time limit came before the text showed")?;
                console
            }
        };
        let lines: Vec<_> = console.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        write!(f, "; the console ended with:\n{}", last.join("\n"))
    }
}

impl std::error::Error for WaitError {}

impl Guest {
    /// Waits until `text` shows on the console: the console so far.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String, WaitError> {
        let deadline = Instant::now() + limit;
        let mut state = self.console.state();
        loop {
            let console = state.text();
            if console.contains(text) {
                return Ok(console);
            }
            if state.open == 0 {
                drop(state);
                return Err(WaitError::Ended { status: self.end(), console });
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Err(WaitError::TimedOut { console });
            };
            (state, _) = self.console.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until QEMU ends by itself: all of the console.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<String, WaitError> {
        // A console has no NUL: those of its bytes are left out.
        match self.wait_for("\0", limit) {
            Err(WaitError::Ended { console, .. }) | Ok(console) => Ok(console),
            Err(timed_out) => Err(timed_out),
        }
    }

    /// The console so far.
    pub fn console(&self) -> String {
        self.console.state().text()
    }

    /// How QEMU ends, which has closed its output.
    fn end(&mut self) -> ExitStatus {
        const LIMIT: Duration = Duration::from_secs(1);
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            if let Ok(Some(status)) = self.qemu.try_wait() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.reap()
    }

    fn reap(&mut self) -> ExitStatus {
        let _ = self.qemu.kill();
        self.qemu.wait().unwrap_or_default()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.reap();
    }
}

/// What came from QEMU, of its console and its messages.
#[derive(Debug, Default)]
struct Console {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// Streams that may still say something.
    open: u8,
}

impl Console {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

fn pump(mut from: impl Read + Send + 'static, console: Arc<Console>, echo: bool) {
    std::thread::spawn(move || {
        let mut buf = [0; 4096];
        loop {
            let len = match from.read(&mut buf) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => read.unwrap_or(0),
            };
            if echo {
                let mut out = io::stdout().lock();
                let _ = out.write_all(&buf[..len]).and_then(|()| out.flush());
            }
            let mut state = console.state();
            state.bytes.extend(buf[..len].iter().filter(|b| !matches!(b, b'\r' | 0)));
            state.open -= u8::from(len == 0);
            console.changed.notify_all();
            if len == 0 {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::tests::{MINIMAL, board};
    use crate::kernel::Tree;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// Starts a shell script in place of QEMU.
    fn spawn(script: &str, kernel_extra: &str) -> (tempfile::TempDir, Guest) {
        let tmp = tempfile::tempdir().unwrap();
        let mut board = board(MINIMAL).unwrap();
        let program = tmp.path().join("qemu");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        board.qemu.program = program.to_str().unwrap().into();
        let tree = Tree::new("/t", "6.1.0");
        let mut kernel = KernelPackage { spec: board.kernels[0].clone(), dir: "/k".into(), tree };
        kernel.spec.cmdline_extra = kernel_extra.into();
        kernel.spec.dtb = Some("a/b.dtb".into());
        let boot = Boot {
            disk: Some(Path::new("/d,1")),
            append: "x=1",
            args: &["-more"],
            ..Boot::new(&board, &kernel, Path::new("/i"))
        };
        let guest = boot.spawn().unwrap();
        (tmp, guest)
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn qemu_is_told_what_the_board_says() {
        let (_tmp, mut guest) = spawn("echo \"$@\"; cat", "y=2");
        let console = guest.wait_for_end(LONG).unwrap();
        assert_eq!(
            console,
            "-M virt -display none -serial stdio -monitor none -no-reboot -kernel /k/vmlinuz -initrd /i \
             -append panic=-1 y=2 x=1 -dtb /k/dtb/a/b.dtb -drive file=/d,,1 -more\n"
        );
    }

    #[test]
    fn a_text_is_waited_for_until_qemu_ends_or_the_time_is_over() {
        let (_tmp, mut guest) =
            spawn("printf 'a\\r\\n\\377b\\0c'; sleep 0.1; echo ' done'; sleep 0.5; echo oops >&2; exit 3", "");
        assert_eq!(guest.wait_for("bc do", LONG).unwrap().lines().next(), Some("a"));
        match guest.wait_for("never", LONG).unwrap_err() {
            WaitError::Ended { status, console } => {
                assert_eq!(status.code(), Some(3));
                assert!(console.contains("\u{fffd}bc done") && console.contains("oops"), "{console}");
            }
            other => panic!("{other}"),
        }
        let (_tmp, mut guest) = spawn("echo started; exec sleep 60", "");
        guest.wait_for("started", LONG).unwrap();
        let error = guest.wait_for("never", Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().ends_with("the console ended with:\nstarted"), "{error}");
        assert!(matches!(error, WaitError::TimedOut { .. }));
        assert!(guest.wait_for_end(Duration::from_millis(50)).is_err());
    }

    fn is_running(pid: &str) -> bool {
        Path::new("/proc").join(pid).exists()
    }

    #[test]
    fn nothing_is_left_running() {
        let start = || {
            let (tmp, mut guest) = spawn("echo pid $$ end; exec sleep 60", "");
            let console = guest.wait_for("end", LONG).unwrap();
            (tmp, guest, console.split(' ').nth(1).unwrap().to_string())
        };
        let (_tmp, guest, pid) = start();
        assert!(is_running(&pid));
        drop(guest);
        assert!(!is_running(&pid));
        // The thread ends without dropping its guest.
        let (pid, guest) = std::thread::spawn(move || {
            let (_tmp, guest, pid) = start();
            (pid, guest)
        })
        .join()
        .unwrap();
        let mut guest = std::mem::ManuallyDrop::new(guest);
        guest.wait_for_end(LONG).unwrap();
        assert!(!is_running(&pid));
    }
}
