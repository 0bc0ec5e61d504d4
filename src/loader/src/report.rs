//! Where the loader's lines go. What a line says is decided where it is said; where it goes, by the program.

use core::ffi::CStr;
use core::fmt;

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

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

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
