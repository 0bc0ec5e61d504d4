//! Where lines go: as PID 1 to the console and the kernel's log, else to standard error (or standard output).

use core::fmt::{self, Write};
use core::mem::ManuallyDrop;

use modest_loader::report::{self, Level, Log, PIECE_BYTES, Pieces, Stream, Taken};
use modest_loader::sys::{self, Fd};

/// The name that every line of output begins with.
const NAME: &str = "modest";

/// How long a line waits for a console that takes nothing. The slowest serial line, 9600 baud, takes the 4 KiB of a driver's
/// buffer in this time; whoever typed Ctrl-S shall not stop the boot.
const CONSOLE_TIMEOUT_MS: u32 = 5000;

/// Takes the lines of the program.
pub struct Console {
    // The console is left open for the next init.
    out: Option<ManuallyDrop<Fd>>,
    stream: Stream,
    kmsg: Option<Fd>,
    /// Whether `out` is the console, which may appear as modules are loaded.
    is_init: bool,
    /// The most detailed level that is wanted.
    pub level: Level,
}

impl Console {
    /// Standard error. As that may be the console of a boot too, it waits no longer than the console does.
    pub fn standard_error() -> Console {
        Console {
            out: Some(Fd::inherited(2)),
            stream: Stream::new(Some(CONSOLE_TIMEOUT_MS)),
            kmsg: None,
            is_init: false,
            level: Level::Info,
        }
    }

    /// Standard output, for what somebody asked to read: it waits for the reader.
    pub fn standard_output() -> Console {
        Console { out: Some(Fd::inherited(1)), stream: Stream::new(None), ..Console::standard_error() }
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
            fd.leave_open();
        }
        let kmsg = sys::openat(None, c"/dev/kmsg", sys::O_WRONLY).ok();
        let mut console = Console { out, kmsg, is_init: true, ..Console::standard_error() };
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
        if self.stream.line(&**fd, NAME, text) == Taken::Stops {
            self.write_kmsg(b"<4>", format_args!("the console takes no lines; this log has them"));
        }
    }

    /// Adds a record to the kernel's log, with its priority (Documentation/ABI/testing/dev-kmsg).
    fn write_kmsg(&self, priority: &[u8], text: fmt::Arguments) {
        let Some(fd) = &self.kmsg else { return };
        let mut write = |piece: &[u8]| {
            let mut record = heapless::Vec::<u8, { PIECE_BYTES + 3 }>::new();
            let _ = record.extend_from_slice(priority);
            let _ = record.extend_from_slice(piece);
            let _ = sys::write(fd, &record);
        };
        let mut pieces = Pieces::<PIECE_BYTES>::new(&mut write);
        let _ = write!(pieces, "{NAME}: {text}");
        pieces.flush();
    }
}

impl Log for Console {
    fn wants(&self, level: Level) -> bool {
        level <= self.level
    }

    fn line(&mut self, level: Level, text: fmt::Arguments<'_>) {
        if !self.wants(level) {
            return;
        }
        self.find();
        // Where the console has the line, the kernel shall only keep it (KERN_DEBUG), not print it there again.
        let priority = match level {
            Level::Error if self.out.is_none() => b"<3>",
            Level::Info if self.out.is_none() => b"<6>",
            _ => b"<7>",
        };
        self.write_out(text);
        self.write_kmsg(priority, text);
    }
}

/// Writes to standard output what somebody asked to read, and waits for the reader.
pub fn print(bytes: &[u8]) {
    report::write_all(&*Fd::inherited(1), bytes, None);
}

/// Writes to standard error, as far as it takes it in time.
pub fn complain(bytes: &[u8]) {
    report::write_all(&*Fd::inherited(2), bytes, Some(CONSOLE_TIMEOUT_MS));
}
