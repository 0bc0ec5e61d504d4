//! Where the loader's lines go. What a line says is decided where it is said; where it goes, by the program.

use core::ffi::CStr;
use core::fmt::{self, Write};

use crate::errno::Errno;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A failure.
    Error,
    /// What was done.
    Info,
    /// How it was done.
    Debug,
}

/// Takes lines.
pub trait Log {
    /// Whether lines of `level` go anywhere: what only such a line needs is not even looked up otherwise.
    fn wants(&self, level: Level) -> bool;
    /// Takes one line, without its newline.
    fn line(&mut self, level: Level, text: fmt::Arguments<'_>);
}

/// Bytes as people read them: `712 B`, `24.3 KiB`, `4.2 MiB`.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = |unit: u64| (self.0 / unit, self.0 % unit * 10 / unit);
        match self.0 {
            0..0x400 => write!(f, "{} B", self.0),
            0x400..0x10_0000 => {
                let (whole, part) = tenths(1 << 10);
                write!(f, "{whole}.{part} KiB")
            }
            _ => {
                let (whole, part) = tenths(1 << 20);
                write!(f, "{whole}.{part} MiB")
            }
        }
    }
}

/// Milliseconds as people write them: `250 ms`, `5 s`.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub u32);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms % 1000 == 0 => write!(f, "{} s", ms / 1000),
            ms => write!(f, "{ms} ms"),
        }
    }
}

/// A path for people. All that we are given is UTF-8 by then, or comes out as a question mark.
pub fn shown(path: &CStr) -> &str {
    path.to_str().unwrap_or("?")
}

/// Text gathered in `N` bytes and handed on in pieces: a long line becomes several writes, never a shorter line.
pub struct Pieces<'w, const N: usize> {
    buf: heapless::Vec<u8, N>,
    write: &'w mut dyn FnMut(&[u8]),
}

impl<'w, const N: usize> Pieces<'w, N> {
    /// Hands pieces of up to `N` bytes to `write`.
    pub fn new(write: &'w mut dyn FnMut(&[u8])) -> Self {
        Pieces { buf: heapless::Vec::new(), write }
    }

    /// Hands on what is left.
    pub fn flush(&mut self) {
        if !self.buf.is_empty() {
            (self.write)(&self.buf);
            self.buf.clear();
        }
    }
}

impl<const N: usize> fmt::Write for Pieces<'_, N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.buf.push(byte).is_err() {
                self.flush();
                let _ = self.buf.push(byte);
            }
        }
        Ok(())
    }
}

/// What takes the bytes of lines: a console, a pipe, a file.
pub trait Output {
    /// Waits until it takes bytes, for at most this time or for as long as that takes: whether it does (ppoll(2)). One that
    /// is closed or broken counts as one that does.
    fn is_ready(&self, timeout_ms: Option<u32>) -> bool;
    /// Hands it some of the bytes: how many it took (write(2)).
    fn write(&self, bytes: &[u8]) -> Result<usize, Errno>;
}

/// Writes the whole of `bytes`, and waits each time for at most `timeout_ms`: how many of them the output took.
///
/// An output that is closed or broken counts as one that took all: nobody misses them there.
pub fn write_all(out: &impl Output, bytes: &[u8], timeout_ms: Option<u32>) -> usize {
    let mut done = 0;
    while done < bytes.len() && out.is_ready(timeout_ms) {
        match out.write(&bytes[done..]) {
            Ok(0) | Err(Errno::EAGAIN) => return done,
            Ok(len) => done += len,
            Err(_) => return bytes.len(),
        }
    }
    done
}

/// A piece of a line. Pipes and terminals that are ready take as much at once (PIPE_BUF; tty_io.c), and so does a record of the
/// kernel's log, which holds some 970 bytes (kernel/printk: PRINTKRB_RECORD_MAX less the prefix).
pub const PIECE_BYTES: usize = 900;

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The output took it.
    Yes,
    /// It is dropped, and it is the first in a row.
    Stops,
    /// It is dropped too.
    No,
}

/// Lines to an output that may stop taking them, as a terminal does after Ctrl-S, or a pipe that nobody reads.
///
/// The first line that the output does not take in time is dropped, and after it each one for which the output is not ready at
/// once. When it takes lines again, the first one says how many it missed.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// How long a line waits; `None` for as long as it takes.
    timeout_ms: Option<u32>,
    dropped: u32,
    /// Whether the output has only the beginning of a line.
    is_cut: bool,
}

impl Stream {
    /// A stream whose lines wait for so long.
    pub const fn new(timeout_ms: Option<u32>) -> Stream {
        Stream { timeout_ms, dropped: 0, is_cut: false }
    }

    /// Writes one line, without its newline, that begins with `name`.
    pub fn line(&mut self, out: &impl Output, name: &str, text: fmt::Arguments) -> Taken {
        if self.dropped > 0 {
            if !out.is_ready(Some(0)) {
                return self.drop_line();
            }
            let newline = if self.is_cut { "\n" } else { "" };
            let dropped = self.dropped;
            let notice = format_args!("{newline}{name}: {dropped} lines are missing here: this output took none\n");
            if !self.write(out, notice) {
                return self.drop_line();
            }
            self.dropped = 0;
        }
        if self.write(out, format_args!("{name}: {text}\n")) { Taken::Yes } else { self.drop_line() }
    }

    fn drop_line(&mut self) -> Taken {
        self.dropped = self.dropped.saturating_add(1);
        if self.dropped == 1 { Taken::Stops } else { Taken::No }
    }

    /// Writes `text` as far as the output takes it in time: whether it took all.
    fn write(&mut self, out: &impl Output, text: fmt::Arguments) -> bool {
        let (mut has_begun, mut is_taken) = (self.is_cut, true);
        let mut write = |piece: &[u8]| {
            if is_taken {
                let len = write_all(out, piece, self.timeout_ms);
                has_begun |= len > 0;
                is_taken = len == piece.len();
            }
        };
        let mut pieces = Pieces::<PIECE_BYTES>::new(&mut write);
        let _ = pieces.write_fmt(text);
        pieces.flush();
        self.is_cut = has_begun && !is_taken;
        is_taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// Takes so many bytes, and none after them.
    #[derive(Default)]
    struct Terminal {
        room_bytes: Cell<usize>,
        text: RefCell<Vec<u8>>,
        waited_ms: Cell<u32>,
    }

    impl Output for Terminal {
        fn is_ready(&self, timeout_ms: Option<u32>) -> bool {
            let is_ready = self.room_bytes.get() > 0;
            if !is_ready {
                self.waited_ms.set(self.waited_ms.get() + timeout_ms.expect("a wait for ever"));
            }
            is_ready
        }
        fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
            let len = bytes.len().min(self.room_bytes.get());
            self.room_bytes.set(self.room_bytes.get() - len);
            self.text.borrow_mut().extend_from_slice(&bytes[..len]);
            if len == 0 { Err(Errno::EAGAIN) } else { Ok(len) }
        }
    }

    #[test]
    fn an_output_that_stops_costs_one_wait_and_says_what_it_missed() {
        let terminal = Terminal::default();
        terminal.room_bytes.set(10);
        let mut stream = Stream::new(Some(500));
        let mut line = |text: &str| stream.line(&terminal, "m", format_args!("{text}"));
        assert_eq!([line("one"), line("two"), line("three")], [Taken::Yes, Taken::Stops, Taken::No]);
        assert_eq!(terminal.waited_ms.get(), 500);
        terminal.room_bytes.set(1000);
        assert_eq!([line("four"), line("five")], [Taken::Yes, Taken::Yes]);
        let says = "m: one\nm: \nm: 2 lines are missing here: this output took none\nm: four\nm: five\n";
        assert_eq!(String::from_utf8(terminal.text.take()).unwrap(), says);
    }

    #[test]
    fn an_output_that_says_ready_and_takes_nothing_ends_no_boot() {
        struct Full(Result<usize, Errno>);
        impl Output for Full {
            fn is_ready(&self, _: Option<u32>) -> bool {
                true
            }
            fn write(&self, _: &[u8]) -> Result<usize, Errno> {
                self.0
            }
        }
        assert_eq!(write_all(&Full(Err(Errno::EAGAIN)), b"xy", None), 0);
        assert_eq!(write_all(&Full(Ok(0)), b"xy", None), 0);
        assert_eq!(write_all(&Full(Err(Errno::EPIPE)), b"xy", None), 2);
    }

    #[test]
    fn sizes() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (24_900, "24.3 KiB"), (4_400_000, "4.1 MiB")]
        {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn a_long_line_loses_nothing() {
        let mut pieces = Vec::new();
        let mut write = |piece: &[u8]| pieces.push(piece.to_vec());
        let mut out = Pieces::<4>::new(&mut write);
        let middle = "cde";
        write!(out, "ab{middle}fghi").unwrap();
        out.flush();
        assert_eq!(pieces, [&b"abcd"[..], b"efgh", b"i"]);
    }
}
