//! A file read a line at a time in fixed memory, however long the file is.

use crate::errno::Errno;
use crate::kernel::Kernel;

/// Why a line could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineError {
    /// The line is longer than the buffer; the next call goes on with the line after it.
    TooLong,
    /// The file cannot be read any further.
    Read(Errno),
}

/// The lines of an open file, in a buffer of [`crate::limits::LINE_BYTES`].
pub struct Lines<'k, 'b, K: Kernel> {
    kernel: &'k K,
    file: K::File,
    buf: &'b mut [u8],
    start: usize,
    end: usize,
    at_eof: bool,
    number: usize,
}

impl<'k, 'b, K: Kernel> Lines<'k, 'b, K> {
    /// Starts at the file's position.
    pub fn new(kernel: &'k K, file: K::File, buf: &'b mut [u8]) -> Self {
        Lines { kernel, file, buf, start: 0, end: 0, at_eof: false, number: 0 }
    }

    /// The file, read as far as it was read for lines.
    pub fn into_file(self) -> K::File {
        self.file
    }

    /// The next line without its newline, and its number, counted from 1; `None` after the last.
    pub fn next_line(&mut self) -> Option<(usize, Result<&[u8], LineError>)> {
        let mut too_long = false;
        let mut searched = self.start;
        loop {
            let newline = self.buf[searched..self.end].iter().position(|b| *b == b'\n').map(|at| searched + at);
            let last = self.at_eof && (self.start < self.end || too_long);
            if let Some(end) = newline.or(last.then_some(self.end)) {
                let start = self.start;
                self.start = (end + 1).min(self.end);
                self.number += 1;
                let line = if too_long { Err(LineError::TooLong) } else { Ok(&self.buf[start..end]) };
                return Some((self.number, line));
            }
            if self.at_eof {
                return None;
            }
            if self.start > 0 {
                self.buf.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else if self.end == self.buf.len() {
                // Nothing of such a line is used: forget what was read and go on to its end.
                too_long = true;
                self.end = 0;
            }
            searched = self.end;
            match self.kernel.read(&self.file, &mut self.buf[self.end..]) {
                Ok(n) => {
                    self.at_eof = n == 0;
                    self.end += n;
                }
                Err(errno) => {
                    self.at_eof = true;
                    self.end = self.start;
                    return Some((self.number + 1, Err(LineError::Read(errno))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use crate::limits::LINE_BYTES;

    fn collect(text: &[u8], chunk: usize) -> Vec<Result<Vec<u8>, LineError>> {
        let fake = Fake::default().with_file("/f", text).reading_at_most(chunk);
        let mut buf = [0; LINE_BYTES];
        let mut lines = Lines::new(&fake, fake.open(c"/f").unwrap(), &mut buf);
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next_line() {
            all.push(line.map(<[u8]>::to_vec));
            assert_eq!(number, all.len());
        }
        all
    }

    #[test]
    fn every_line_whatever_the_pieces() {
        for chunk in [1, 2, 3, 4096] {
            assert_eq!(collect(b"a\n\nbc\n", chunk), [Ok(b"a".to_vec()), Ok(vec![]), Ok(b"bc".to_vec())]);
            assert_eq!(collect(b"no newline", chunk), [Ok(b"no newline".to_vec())]);
            assert_eq!(collect(b"", chunk), []);
        }
    }

    #[test]
    fn a_line_over_the_limit_is_an_error_and_the_next_is_read() {
        for chunk in [1000, 4095, 4096, 5000] {
            let fits = vec![b'x'; LINE_BYTES - 1];
            let long = vec![b'x'; LINE_BYTES];
            let text = [&long[..], b"\nnext\n", &fits, b"\n", &long, &long].concat();
            let want = [Err(LineError::TooLong), Ok(b"next".to_vec()), Ok(fits), Err(LineError::TooLong)];
            assert_eq!(collect(&text, chunk), want, "reading {chunk} at a time");
        }
    }

    #[test]
    fn a_read_error_is_told_once_and_ends_the_file() {
        let fake = Fake::default().with_file("/f", b"one\ntwo").reading_at_most(4).failing_read_after(4, Errno::EIO);
        let mut buf = [0; LINE_BYTES];
        let mut lines = Lines::new(&fake, fake.open(c"/f").unwrap(), &mut buf);
        assert_eq!(lines.next_line(), Some((1, Ok(&b"one"[..]))));
        assert_eq!(lines.next_line(), Some((2, Err(LineError::Read(Errno::EIO)))));
        assert_eq!(lines.next_line(), None);
    }
}
