//! Cutting text at ASCII characters, without the tables and panics that `str`'s general ways bring into a small binary.

/// `text` before and from the byte offset `at`; where that is no boundary, all of it and nothing.
pub fn cut(text: &str, at: usize) -> (&str, &str) {
    text.split_at_checked(at).unwrap_or((text, ""))
}

/// Where the first `byte` is, looked for a word at a time: for long texts.
pub fn position(bytes: &[u8], byte: u8) -> Option<usize> {
    const WORD: usize = size_of::<usize>();
    const ONES: usize = usize::MAX / 255;
    let pattern = ONES * usize::from(byte);
    let (words, rest) = bytes.as_chunks::<WORD>();
    for (at, word) in words.iter().enumerate() {
        let word = usize::from_le_bytes(*word) ^ pattern;
        // The lowest of these bits is that of the first byte that is 0; those above may be wrong.
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            return Some(at * WORD + zeros.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|b| *b == byte).map(|at| words.len() * WORD + at)
}

/// `text` before and after the first ASCII `byte` in it.
pub fn split_once(text: &str, byte: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|b| b == byte)?;
    Some((cut(text, at).0, cut(text, at + 1).1))
}

/// `text` before and after the last ASCII `byte` in it.
pub fn rsplit_once(text: &str, byte: u8) -> Option<(&str, &str)> {
    let at = text.bytes().rposition(|b| b == byte)?;
    Some((cut(text, at).0, cut(text, at + 1).1))
}

/// The parts of `text` between each ASCII `byte`.
pub fn fields(text: &str, byte: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest?;
        let (field, after) = split_once(text, byte).map_or((text, None), |(field, after)| (field, Some(after)));
        rest = after;
        Some(field)
    })
}

/// The value of a decimal number of digits alone, without a sign.
pub fn number(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.bytes().try_fold(0u64, |value, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// The words of a line, each with its byte offset. A word ends at white space outside double quotes (lib/cmdline.c).
#[derive(Clone, Debug)]
pub struct Words<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    /// The words of `line`.
    pub fn new(line: &'a str) -> Self {
        Words { line, at: 0 }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = cut(self.line, self.at).1;
        let start = self.at + rest.bytes().position(|b| !b.is_ascii_whitespace())?;
        let end = end_of_word(self.line.bytes().skip(start), |b| b.is_ascii_whitespace());
        self.at = end.map_or(self.line.len(), |len| start + len);
        Some((start, cut(cut(self.line, self.at).0, start).1))
    }
}

/// Where the word that begins here ends: at the first space outside of double quotes, if there is one.
pub fn end_of_word(mut bytes: impl Iterator<Item = u8>, is_space: impl Fn(u8) -> bool) -> Option<usize> {
    let mut quoted = false;
    bytes.position(|b| {
        quoted ^= b == b'"';
        is_space(b) && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_end_at_spaces_outside_quotes() {
        let words: Vec<_> = Words::new("  a \tb=\"x y\"z  \"c d").collect();
        assert_eq!(words, [(2, "a"), (5, "b=\"x y\"z"), (15, "\"c d")]);
        assert!(Words::new(" \t ").next().is_none());
    }

    proptest! {
        #[test]
        fn a_byte_is_where_it_is(bytes in prop::collection::vec(prop::sample::select(vec![0, 1, 9, 10, 11, 0x8a, 0xff]), 0..40)) {
            prop_assert_eq!(position(&bytes, 10), bytes.iter().position(|b| *b == 10));
        }

        #[test]
        fn as_str_does_it(text in "[a-c,=ä]{0,12}") {
            prop_assert_eq!(split_once(&text, b'='), text.split_once('='));
            prop_assert_eq!(rsplit_once(&text, b'='), text.rsplit_once('='));
            prop_assert!(fields(&text, b',').eq(text.split(',')));
        }

        #[test]
        fn numbers_as_parse_does(text in "[0-9]{0,22}") {
            prop_assert_eq!(number(&text), text.parse().ok());
        }
    }
}
