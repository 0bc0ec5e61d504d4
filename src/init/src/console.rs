//! Where lines go: as PID 1 to the console and the kernel's log, else to standard error (or standard output).

use core::fmt::{self, Write};
use core::mem::ManuallyDrop;

use modest_loader::errno::Errno;
use modest_loader::report::{Level, Log, Pieces};
use modest_loader::sys::{self, Fd};

use crate::NAME;

/// Takes the lines of the program.
pub struct Console {
    // The console is left open for the next init.
    out: Option<ManuallyDrop<Fd>>,
    kmsg: Option<Fd>,
    /// Whether `out` is the console, which may appear as modules are loaded.
    is_init: bool,
    /// The most detailed level that is wanted.
    pub level: Level,
}

/// A record of the kernel's log holds some 970 bytes (kernel/printk: PRINTKRB_RECORD_MAX less the prefix).
const KMSG_BYTES: usize = 900;

impl Console {
    /// The streams of a program that another one started; 1 and 2 as usual.
    pub fn stream(number: i32) -> Console {
        Console { out: Some(Fd::inherited(number)), kmsg: None, is_init: false, level: Level::Info }
    }

    /// The console and the kernel's log, as far as they are there.
    pub fn of_init() -> Console {
        // The kernel opened /dev/console for us if it was in the initramfs and had a driver by then.
        let inherited = Fd::inherited(2);
        let out = sys::fstat(&inherited).is_ok().then_some(inherited);
        // A console that appears later takes these numbers: nothing else may have them by then.
        while let Ok(fd) = sys::openat(None, c"/", sys::O_RDONLY) {
            if !fd.is_standard() {
                break;
            }
            core::mem::forget(fd);
        }
        let kmsg = sys::openat(None, c"/dev/kmsg", sys::O_WRONLY).ok();
        let mut console = Console { out, kmsg, is_init: true, level: Level::Info };
        console.find();
        console
    }

    /// Whether a console is there; looks for it again if not.
    pub fn find(&mut self) -> bool {
        if self.out.is_none() && self.is_init {
            self.out = sys::openat(None, c"/dev/console", sys::O_RDWR | sys::O_NOCTTY).ok().map(ManuallyDrop::new);
            if let Some(fd) = &self.out {
                // The next init expects its console there.
                for number in 0..3 {
                    let _ = sys::dup_onto(fd, number);
                }
            }
        }
        self.out.is_some()
    }

    fn write_out(&mut self, text: fmt::Arguments) {
        let Some(fd) = &self.out else { return };
        in_pieces(format_args!("{text}\n"), &mut |piece| write_all(fd, piece));
    }

    fn write_kmsg(&mut self, level: Level, text: fmt::Arguments) {
        let Some(fd) = &self.kmsg else { return };
        // Where the console has the line, the kernel shall only keep it (KERN_DEBUG), not print it there again.
        let priority = match level {
            Level::Error if self.out.is_none() => b"<3>",
            Level::Info if self.out.is_none() => b"<6>",
            _ => b"<7>",
        };
        in_pieces(text, &mut |piece| {
            let mut record = heapless::Vec::<u8, { KMSG_BYTES + 3 }>::new();
            let _ = record.extend_from_slice(priority);
            let _ = record.extend_from_slice(piece);
            let _ = sys::write(fd, &record);
        });
    }
}

/// Hands the line to `write`, in as many pieces as it takes.
fn in_pieces(text: fmt::Arguments, write: &mut dyn FnMut(&[u8])) {
    let mut pieces = Pieces::<KMSG_BYTES>::new(write);
    let _ = write!(pieces, "{NAME}: {text}");
    pieces.flush();
}

impl Log for Console {
    fn wants(&self, level: Level) -> bool {
        level <= self.level
    }

    fn line(&mut self, level: Level, text: fmt::Arguments<'_>) {
        if self.wants(level) {
            self.find();
            self.write_out(text);
            self.write_kmsg(level, text);
        }
    }
}

/// Writes the whole of `bytes`, as far as the file takes them: output that nobody takes must not stop a boot.
pub fn write_all(fd: &Fd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match sys::write(fd, bytes) {
            Ok(0) => return,
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::EAGAIN) => sys::sleep_ms(1),
            Err(_) => return,
        }
    }
}
