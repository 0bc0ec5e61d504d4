//! Patterns of aliases, as fnmatch(3) matches them, and aliases as depmod and modprobe normalize them.

use core::fmt;

/// The bytes that begin a wildcard, in the order that kmod follows them.
pub(super) const WILDCARDS: [u8; 3] = *b"*?[";

/// Whether `text` matches `pattern` as with fnmatch(3) of glibc in the C locale and with no flags: `*` stands for any
/// bytes, `?` for one, `[…]` for one of those in it, which may be ranges, `[!…]` and `[^…]` for one of the others, and
/// a byte behind `\` for itself.
///
/// Unlike in glibc, a `[` within brackets is always a byte; so `[[:alpha:]]`, `[[=a=]]` and `[[.a.]]` mean no more.
/// And a `[` whose only `]` is behind a `\` is a byte, where glibc at times takes it for a set all the same. No module of
/// Debian's has such aliases.
///
/// ```
/// # use modest_loader::resolve::pattern::matches_pattern;
/// assert!(matches_pattern("usb:v0D96p5200d00[1-9]*dc*", "usb:v0D96p5200d0042dc00"));
/// ```
pub fn matches_pattern(pattern: &str, text: &str) -> bool {
    glob(pattern.as_bytes(), text.as_bytes())
}

/// What is behind the part of `key` that has no wildcards, and behind the same part of `text`; `None` if `text` has another.
/// `fold` makes of a byte of the key what it is in an index.
pub(super) fn literal_part<'k, 't>(
    key: &'k [u8], text: &'t [u8], fold: impl Fn(u8) -> u8,
) -> Option<(&'k [u8], &'t [u8])> {
    let (literal, pattern) = key.split_at(key.iter().position(|b| WILDCARDS.contains(b)).unwrap_or(key.len()));
    let (begin, behind) = text.split_at_checked(literal.len())?;
    literal.iter().map(|b| fold(*b)).eq(begin.iter().copied()).then_some((pattern, behind))
}

pub(super) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // Most patterns are refused by this much.
    if let Some(first) = pattern.first()
        && !is_special(*first)
        && text.first() != Some(first)
    {
        return false;
    }
    follow(pattern, text, |rest| rest.is_empty())
}

/// Whether a pattern that begins with `begin` may match `text`: what to look at among those that begin alike.
pub(super) fn may_match(begin: &[u8], text: &[u8]) -> bool {
    // What is cut within brackets or behind a `\`, or that a `*` may follow, says nothing of its own.
    begin.iter().any(|b| matches!(b, b'[' | b'\\')) || follow(begin, text, |_| true)
}

/// Whether a byte is not just itself in a pattern.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'*' | b'?' | b'[' | b'\\')
}

/// Whether `pattern` matches a part of `text` from its start whose rest is one that `ends` takes.
fn follow(pattern: &[u8], text: &[u8], ends: fn(&[u8]) -> bool) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // What is behind the last `*`, and the text that it was tried on: earlier ones need no other try, for what stands
    // between them matched as early as it can.
    let mut last = None;
    loop {
        if let [b'*', behind @ ..] = pattern {
            pattern = behind;
            last = Some((behind, text));
            continue;
        }
        if pattern.is_empty() && ends(text) {
            return true;
        }
        if let Some((&byte, behind)) = text.split_first()
            && let Some(others) = match_byte(pattern, byte)
        {
            (pattern, text) = (others, behind);
            continue;
        }
        let Some((retried, [_, shorter @ ..])) = last else { return false };
        (pattern, text) = (retried, shorter);
        last = Some((retried, shorter));
    }
}

/// The pattern behind its first element, which is no `*`, if that matches `byte`.
fn match_byte(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', behind @ ..] => Some(behind),
        [b'[', set @ ..] => match_set(set, byte),
        _ => literal(pattern).and_then(|(literal, behind)| (literal == byte).then_some(behind)),
    }
}

/// What is behind the set that stands behind a `[`, if it has `byte`.
fn match_set(set: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut rest) = match set {
        [b'!' | b'^', members @ ..] => (true, members),
        _ => (false, set),
    };
    let mut is_member = false;
    let mut is_first = true;
    loop {
        match rest {
            [b']', behind @ ..] if !is_first => return (is_member != negated).then_some(behind),
            // Without an end, the bracket is a byte; to glibc only if the text's is not in the set.
            [] => return (byte == b'[' && !is_member).then_some(set),
            _ => {}
        }
        is_first = false;
        let (low, behind) = literal(rest)?;
        let (high, behind) = match behind {
            [b'-', b']', ..] => (low, behind),
            [b'-', behind @ ..] => literal(behind)?,
            _ => (low, behind),
        };
        is_member |= (low..=high).contains(&byte);
        rest = behind;
    }
}

/// The first byte of `pattern`, or the one behind a `\`, and what follows.
fn literal(pattern: &[u8]) -> Option<(u8, &[u8])> {
    let (&byte, behind) = pattern.strip_prefix(b"\\").unwrap_or(pattern).split_first()?;
    Some((byte, behind))
}

/// Why a text is no alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasError {
    /// A `[` without `]`, or a `]` without `[`.
    Brackets,
    /// It does not fit.
    Long,
}

impl fmt::Display for AliasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AliasError::Brackets => "the alias has an unmatched bracket",
            AliasError::Long => "the alias is too long",
        })
    }
}

/// Leaves in `normal` the alias `text` as indexes have it, with `_` for every `-` but those in brackets, as kmod's
/// alias_normalize (shared/util.c) makes it of keys and of what is looked up.
pub fn normalize_alias<const N: usize>(text: &str, normal: &mut heapless::String<N>) -> Result<(), AliasError> {
    normal.clear();
    let mut brackets = Brackets::default();
    for c in text.chars() {
        normal.push(brackets.underscore(c)?).map_err(|_| AliasError::Long)?;
    }
    brackets.end()
}

/// Whether a place in an alias is within brackets, where a `-` is of a range and stays.
#[derive(Default)]
pub(super) struct Brackets {
    within: bool,
}

impl Brackets {
    /// The next character, with `_` for a `-` outside.
    pub(super) fn underscore(&mut self, c: char) -> Result<char, AliasError> {
        match (self.within, c) {
            (false, ']') => return Err(AliasError::Brackets),
            (false, '[') | (true, ']') => self.within = !self.within,
            (false, '-') => return Ok('_'),
            _ => {}
        }
        Ok(c)
    }

    /// The end, where none may be open.
    pub(super) fn end(self) -> Result<(), AliasError> {
        if self.within { Err(AliasError::Brackets) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::CString;

    #[test]
    fn aliases_are_normalized_as_by_kmod() {
        let normal = |text: &str| {
            let mut normal = heapless::String::<18>::new();
            normalize_alias(text, &mut normal).map(|()| normal.to_string())
        };
        assert_eq!(normal("fs-a-b[0-9]-[!a-]-"), Ok("fs_a_b[0-9]_[!a-]_".into()));
        assert_eq!(normal("a[b[c-]d-e"), Ok("a[b[c-]d_e".into()));
        for bad in ["a]", "a[", "[]a]", "[a-b"] {
            assert_eq!(normal(bad), Err(AliasError::Brackets), "{bad}");
        }
        assert_eq!(normal("a-23456789012345678"), Err(AliasError::Long));
    }

    #[test]
    fn what_a_pattern_begins_with_rules_texts_out() {
        let text = b"of:NserialT(null)Carm,pl011Carm,primecell";
        for begin in
            ["", "of:N*T*C", "of:N*T*Carm,pl011", "of:N*T*Carm,pl011C*", "of:N*T?null?", "of:N*T*C[x", r"of:N\"]
        {
            assert!(may_match(begin.as_bytes(), text), "{begin}");
        }
        for begin in ["pci:", "of:N*T*Cb", "of:N*T*Carm,pl1", "of:N*T*Carm,pl011Carm,primecellC", "of:NserialT?null?D"]
        {
            assert!(!may_match(begin.as_bytes(), text), "{begin}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let text = "a".repeat(2000);
        assert!(!matches_pattern(&("*a".repeat(500) + "b"), &text));
        assert!(matches_pattern(&"*a".repeat(500), &text));
    }

    fn fnmatch(pattern: &str, text: &str) -> bool {
        let [pattern, text] = [pattern, text].map(|text| CString::new(text).unwrap());
        // SAFETY: both are strings with a NUL, which live on until the call is over.
        #[allow(unsafe_code)]
        let result = unsafe { libc::fnmatch(pattern.as_ptr(), text.as_ptr(), 0) };
        result == 0
    }

    fn same_as_glibc(pattern: &str, texts: &[String]) -> Result<(), TestCaseError> {
        prop_assume!(!pattern.contains(r"\]"));
        // What an open bracket means is not defined (fnmatch(3), glob(7)); no alias has one, as `normalize_alias` refuses it.
        prop_assume!(pattern.rfind('[').is_none_or(|open| pattern[open + 1..].contains(']')));
        for text in texts {
            prop_assert_eq!(matches_pattern(pattern, text), fnmatch(pattern, text), "{}", text);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn no_text_is_ruled_out_by_what_matches(pattern in r"[ab*?!^\[\]\\-]{0,10}", text in "[ab!^-]{0,6}") {
            if matches_pattern(&pattern, &text) {
                for len in 0..=pattern.len() {
                    prop_assert!(may_match(&pattern.as_bytes()[..len], text.as_bytes()), "{}", len);
                }
            }
        }

        #[test]
        fn patterns_match_as_in_glibc(
            pattern in r"[abc*?!^\[\]\\-]{0,10}",
            texts in prop::collection::vec(r"[abc!^\[\]\\-]{0,5}", 20),
        ) {
            same_as_glibc(&pattern, &texts)?;
        }

        #[test]
        fn sets_match_as_in_glibc(
            pattern in r"\[[!^]?[a-d\[\]\\-]{0,6}\][*?]?",
            texts in prop::collection::vec(r"[a-d\[\]\\-]{0,3}", 20),
        ) {
            same_as_glibc(&pattern, &texts)?;
        }
    }
}
