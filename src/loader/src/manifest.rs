//! The manifest's grammar, both ways: the build host writes lines with [`Line`]'s `Display`, the target reads them with
//! [`Line::parse`].
//!
//! One rule: what begins with `@` is for modest, everything else is what `insmod` would be given. A word that begins with
//! `#` begins a comment. So `/etc/modules`, `modules-load.d/*.conf`, Android's `modules.load` and OpenWrt's `modules.d/*`
//! are manifests as they are.

use core::fmt;

use crate::limits::RETRIES;
use crate::load_path::LoadPath;
use crate::pin::Pin;
use crate::text::{self, Words};

/// One line of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Nothing: a blank line, or a comment alone (`#` or `;` first).
    Empty,
    /// `@root DIR`: from here on, names and relative paths are looked up here.
    Root(&'a str),
    /// `@budget SIZE`: from here on, the limit of the loader's own memory, in bytes.
    Budget(u64),
    /// `@on-error …`: from here on, what a failure does.
    OnError(OnError<'a>),
    /// `@unlink`: from here on, delete a module's file in the initramfs once the module is loaded.
    Unlink,
    /// `@confine`: from here on, load no file from outside the root.
    Confine,
    /// `@sealed`, before all others: heed nothing of the kernel command line but the words for the root.
    Sealed,
    /// `@exec PATH`: the next init, when all entries are done.
    Exec(&'a str),
    /// `@switch-root`: mount the root that the kernel command line names, and run its init.
    SwitchRoot,
    /// `@coldplug BUS…`: load modules for the devices on these buses, and for devices that appear meanwhile.
    Coldplug(&'a str),
    /// `@wait …`: go on when these files and devices are there.
    Wait(Wait<'a>),
    /// A module to load.
    Entry(Entry<'a>),
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait<'a> {
    /// Words: each a path, or an alias that may have wildcards.
    pub what: &'a str,
    /// `@timeout=`: the longest wait; without it, [`Wait::TIMEOUT_MS`].
    pub timeout_ms: Option<u32>,
    /// `@optional`: it is not a failure if they do not appear.
    pub optional: bool,
}

impl Wait<'_> {
    /// The longest wait by default; as long as for the root.
    pub const TIMEOUT_MS: u32 = 10_000;
}

/// What a failure does to the rest of the boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError<'a> {
    /// Goes on with the next entry.
    #[default]
    Continue,
    /// Loads nothing more and does not hand over.
    Stop,
    /// Restarts the machine.
    Reboot,
    /// Runs this program in place of the next init.
    Exec(&'a str),
}

/// A module to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// A name, or with a `/` a path, absolute or relative to the root.
    pub module: &'a str,
    /// `@optional`: a failure is reported but ignored.
    pub optional: bool,
    /// `@path=`: use only this load path.
    pub path: Option<LoadPath>,
    /// `@size=`: the image's uncompressed length in bytes.
    pub size_bytes: Option<u64>,
    /// `@sha256=`: the digest of the uncompressed image.
    pub sha256: Option<Pin<'a>>,
    /// `@if=`: load only if a device has this alias, which may have wildcards.
    pub device: Option<&'a str>,
    /// `@timeout=` and `@retry=`.
    pub times: Times,
    /// Its parameters, as the kernel reads them.
    pub params: &'a str,
}

/// How long a load may take, and how often it is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    timeout_ms: Option<u32>,
    retries: u8,
}

impl Times {
    /// At most `timeout_ms` for each try, and after a failure at most `retries` more tries.
    pub fn new(timeout_ms: Option<u32>, retries: u8) -> Times {
        Times { timeout_ms, retries }
    }

    /// `@timeout=`: the longest time that one try may take, the module's init included.
    pub fn timeout_ms(self) -> Option<u32> {
        self.timeout_ms
    }

    /// `@retry=`: the most further tries, where these may help.
    pub fn retries(self) -> u8 {
        self.retries
    }

    /// Reads the value of `@timeout=`. Returns whether there was one before.
    #[inline(never)]
    fn read_timeout<'a>(&mut self, value: &'a str) -> Result<bool, Problem<'a>> {
        let ms = time_ms(value).filter(|ms| *ms > 0).ok_or(Problem::Not(value, Expected::Limit))?;
        Ok(self.timeout_ms.replace(ms).is_some())
    }

    /// Reads the value of `@retry=`. Returns whether there was one before.
    #[inline(never)]
    fn read_retries<'a>(&mut self, value: &'a str) -> Result<bool, Problem<'a>> {
        let retries = text::number(value).and_then(|n| u8::try_from(n).ok()).filter(|n| (1..=RETRIES).contains(n));
        let retries = retries.ok_or(Problem::Not(value, Expected::Retries))?;
        Ok(core::mem::replace(&mut self.retries, retries) > 0)
    }
}

impl<'a> Entry<'a> {
    /// An entry without attributes and parameters.
    pub fn new(module: &'a str) -> Self {
        Entry {
            module,
            optional: false,
            path: None,
            size_bytes: None,
            sha256: None,
            device: None,
            times: Times::default(),
            params: "",
        }
    }
}

/// What is wrong with a line, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError<'a> {
    /// Column of the offending character, counted from 1, in characters.
    pub column: usize,
    /// What was found there.
    pub problem: Problem<'a>,
}

/// What can be wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Problem<'a> {
    NotUtf8,
    ByteOrderMark,
    Control(u8),
    UnknownDirective(&'a str),
    UnknownAttribute(&'a str),
    LateAttribute(&'a str),
    RepeatedAttribute(&'a str),
    NoValue(&'a str),
    UnexpectedValue(&'a str),
    UnexpectedWord(&'a str),
    Not(&'a str, Expected),
    OpenQuote,
}

/// What a word should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Expected {
    Path,
    Size,
    LoadPath,
    Policy,
    Time,
    Bus,
    Limit,
    Retries,
    Digest,
}

impl Expected {
    fn text(self) -> &'static str {
        match self {
            Expected::Path => "a path; expected one that begins with /",
            Expected::Size => "a size; expected bytes, or a number with K, M or G",
            Expected::LoadPath => "a load path; expected finit, finit-compressed, stream, mmap or buffer",
            Expected::Policy => "a policy; expected continue, stop, reboot or exec PATH",
            Expected::Time => "a time; expected a number with ms, s or m",
            Expected::Bus => "a bus; expected a name in /sys/bus or /sys/class",
            Expected::Limit => "a limit; expected a time above 0, a number with ms, s or m",
            Expected::Retries => "a number of tries; expected 1 to RETRIES, 60",
            Expected::Digest => "a SHA-256; expected 64 hex digits",
        }
    }
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NotUtf8 => write!(f, "not UTF-8; expected text"),
            Problem::ByteOrderMark => f.write_str("byte order mark; expected UTF-8 that begins without one"),
            Problem::Control(b'\r') => write!(f, "carriage return; expected lines that end in a newline alone"),
            Problem::Control(byte) => write!(f, "control character 0x{byte:02x}; expected text"),
            Problem::UnknownDirective(word) => {
                write!(
                    f,
                    "unknown directive {word}; expected @root, @budget, @unlink, @confine, @sealed, @coldplug, @wait, @on-error, @exec or @switch-root"
                )
            }
            Problem::UnknownAttribute(word) => {
                write!(
                    f,
                    "unknown attribute {word}; expected @optional, @if=, @timeout=, @retry=, @size=, @sha256= or @path="
                )
            }
            Problem::LateAttribute(word) => {
                write!(f, "{word} after a parameter; expected attributes before parameters")
            }
            Problem::RepeatedAttribute(word) => write!(f, "{word} a second time; expected it once"),
            Problem::NoValue(word) => write!(f, "{word} has no value; expected one"),
            Problem::UnexpectedValue(word) => write!(f, "{word} takes no value"),
            Problem::UnexpectedWord(word) => write!(f, "unexpected {word}; expected the end of the line"),
            Problem::Not(word, what) => write!(f, "{word} is not {}", what.text()),
            Problem::OpenQuote => write!(f, "quote that is never closed; expected another \""),
        }
    }
}

impl<'a> Line<'a> {
    /// Reads one line, without its newline.
    // Out of line: the caller's frame is large, which makes each access to a variable longer.
    #[inline(never)]
    pub fn parse(line: &'a [u8]) -> Result<Self, ParseError<'a>> {
        let result = match core::str::from_utf8(line) {
            _ if begins_with_mark(line) => Err((0, Problem::ByteOrderMark)),
            Ok(text) => Self::parse_text(text),
            Err(e) => Err((e.valid_up_to(), Problem::NotUtf8)),
        };
        result.map_err(|(at, problem)| {
            // What is before `at` is UTF-8: each character has one byte that continues none.
            let column = line.iter().take(at).filter(|b| **b & 0xc0 != 0x80).count() + 1;
            ParseError { column, problem }
        })
    }

    fn parse_text(line: &'a str) -> Result<Self, (usize, Problem<'a>)> {
        let line = before_comment(line);
        let control = line.bytes().enumerate().find(|(_, b)| b.is_ascii_control() && *b != b'\t');
        let mut words = Words::new(line);
        let Some((at, first)) = words.next() else { return Ok(Line::Empty) };
        if first.as_bytes()[0] == b';' {
            return Ok(Line::Empty);
        }
        if let Some((at, byte)) = control {
            return Err((at, Problem::Control(byte)));
        }
        if first.as_bytes()[0] == b'@' {
            match first {
                "@coldplug" => Self::parse_coldplug(line, words),
                "@wait" => Self::parse_wait(line, (at, first), words),
                _ => Self::parse_directive(at, first, words),
            }
        } else {
            Self::parse_entry(line, first, words)
        }
    }

    #[inline(never)]
    fn parse_directive(at: usize, first: &'a str, mut words: Words<'a>) -> Result<Self, (usize, Problem<'a>)> {
        let mut value = || words.next().ok_or((at, Problem::NoValue(first)));
        let line = match first {
            "@root" => value().and_then(path).map(Line::Root)?,
            "@budget" => {
                let (at, word) = value()?;
                Line::Budget(size_bytes(word).ok_or((at, Problem::Not(word, Expected::Size)))?)
            }
            "@on-error" => Line::OnError(match value()? {
                (_, "continue") => OnError::Continue,
                (_, "stop") => OnError::Stop,
                (_, "reboot") => OnError::Reboot,
                (_, "exec") => value().and_then(path).map(OnError::Exec)?,
                (at, word) => return Err((at, Problem::Not(word, Expected::Policy))),
            }),
            "@exec" => value().and_then(path).map(Line::Exec)?,
            "@unlink" => Line::Unlink,
            "@confine" => Line::Confine,
            "@sealed" => Line::Sealed,
            "@switch-root" => Line::SwitchRoot,
            _ => return Err((at, Problem::UnknownDirective(first))),
        };
        match words.next() {
            Some((at, word)) => Err((at, Problem::UnexpectedWord(word))),
            None => Ok(line),
        }
    }

    /// A build without names refuses the line, whatever it says.
    #[cfg(not(feature = "names"))]
    fn parse_coldplug(_: &'a str, _: Words<'a>) -> Result<Self, (usize, Problem<'a>)> {
        Ok(Line::Coldplug(""))
    }

    /// Likewise.
    #[cfg(not(feature = "names"))]
    fn parse_wait(_: &'a str, _: (usize, &'a str), _: Words<'a>) -> Result<Self, (usize, Problem<'a>)> {
        Ok(Line::Wait(Wait { what: "", timeout_ms: None, optional: false }))
    }

    #[cfg(feature = "names")]
    #[inline(never)]
    fn parse_coldplug(line: &'a str, mut words: Words<'a>) -> Result<Self, (usize, Problem<'a>)> {
        let buses = words.clone().next().map_or("", |(at, _)| text::cut(line, at).1.trim_ascii_end());
        match words.find(|(_, word)| word.bytes().any(|b| matches!(b, b'@' | b'/' | b'"'))) {
            Some((at, word)) => Err((at, Problem::Not(word, Expected::Bus))),
            None => Ok(Line::Coldplug(buses)),
        }
    }

    #[cfg(feature = "names")]
    #[inline(never)]
    fn parse_wait(line: &'a str, first: (usize, &'a str), words: Words<'a>) -> Result<Self, (usize, Problem<'a>)> {
        let mut wait = Wait { what: "", timeout_ms: None, optional: false };
        // From the first thing to be waited for to the end of the last.
        let (mut from, mut to) = (None, 0);
        let mut attributes_at = None;
        for (at, word) in words {
            let repeated = match text::split_once(word, b'=') {
                Some(("@timeout", value)) => {
                    let time = time_ms(value).ok_or((at, Problem::Not(value, Expected::Time)))?;
                    wait.timeout_ms.replace(time).is_some()
                }
                None if word == "@optional" => core::mem::replace(&mut wait.optional, true),
                _ if word.as_bytes()[0] == b'@' => return Err((at, Problem::UnexpectedWord(word))),
                _ if attributes_at.is_some() => return Err((at, Problem::UnexpectedWord(word))),
                _ => {
                    from.get_or_insert(at);
                    to = at + word.len();
                    continue;
                }
            };
            if repeated {
                return Err((at, Problem::RepeatedAttribute(word)));
            }
            attributes_at = Some(at);
        }
        let from = from.ok_or((first.0, Problem::NoValue(first.1)))?;
        wait.what = text::cut(text::cut(line, to).0, from).1;
        Ok(Line::Wait(wait))
    }

    #[inline(never)]
    fn parse_entry(line: &'a str, module: &'a str, words: Words<'a>) -> Result<Self, (usize, Problem<'a>)> {
        let mut entry = Entry::new(module);
        let mut params_at = None;
        if let Some(quote) = open_quote(line) {
            return Err((quote, Problem::OpenQuote));
        }
        for (at, word) in words {
            if word.as_bytes()[0] != b'@' {
                params_at.get_or_insert(at);
                continue;
            }
            if params_at.is_some() {
                return Err((at, Problem::LateAttribute(word)));
            }
            let (attribute, value) = text::split_once(word, b'=').map_or((word, None), |(a, v)| (a, Some(v)));
            let needed = || value.filter(|v| !v.is_empty()).ok_or((at, Problem::NoValue(attribute)));
            let repeated = match attribute {
                "@optional" if value.is_some() => return Err((at, Problem::UnexpectedValue(attribute))),
                "@optional" => core::mem::replace(&mut entry.optional, true),
                "@size" => {
                    let value = needed()?;
                    let size = size_bytes(value).ok_or((at, Problem::Not(value, Expected::Size)))?;
                    entry.size_bytes.replace(size).is_some()
                }
                "@sha256" => {
                    let value = needed()?;
                    let value_at = at + attribute.len() + 1;
                    let not = |digits| (value_at + digits, Problem::Not(value, Expected::Digest));
                    entry.sha256.replace(Pin::parse(value).map_err(not)?).is_some()
                }
                "@if" => entry.device.replace(needed()?).is_some(),
                "@path" => {
                    let value = needed()?;
                    let path = LoadPath::from_name(value).ok_or((at, Problem::Not(value, Expected::LoadPath)))?;
                    entry.path.replace(path).is_some()
                }
                "@timeout" => entry.times.read_timeout(needed()?).map_err(|problem| (at, problem))?,
                "@retry" => entry.times.read_retries(needed()?).map_err(|problem| (at, problem))?,
                _ => return Err((at, Problem::UnknownAttribute(word))),
            };
            if repeated {
                return Err((at, Problem::RepeatedAttribute(attribute)));
            }
        }
        if let Some(at) = params_at {
            entry.params = text::cut(line, at).1.trim_ascii_end();
        }
        Ok(Line::Entry(entry))
    }
}

/// Whether a line begins with a byte order mark: that of UTF-8, or of UTF-16 either way round.
fn begins_with_mark(line: &[u8]) -> bool {
    let marks: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];
    marks.iter().any(|mark| line.starts_with(mark))
}

/// A line without its comment, which the first word that begins with `#` outside double quotes begins.
fn before_comment(line: &str) -> &str {
    let comment = Words::new(line).find(|(_, word)| word.as_bytes()[0] == b'#');
    comment.map_or(line, |(at, _)| text::cut(line, at).0)
}

fn path<'a>((at, word): (usize, &'a str)) -> Result<&'a str, (usize, Problem<'a>)> {
    if word.as_bytes()[0] == b'/' { Ok(word) } else { Err((at, Problem::Not(word, Expected::Path))) }
}

/// The offset of the double quote in `text` that has no partner.
fn open_quote(text: &str) -> Option<usize> {
    let mut quotes = text.bytes().enumerate().filter(|(_, b)| *b == b'"').map(|(at, _)| at);
    while let Some(open) = quotes.next() {
        if quotes.next().is_none() {
            return Some(open);
        }
    }
    None
}

/// Reads a size: bytes, or a number with `K`, `M` or `G` for powers of 1024.
pub fn size_bytes(text: &str) -> Option<u64> {
    let (digits, unit) = text::cut(text, text.len().checked_sub(1)?);
    let (digits, shift) = match unit {
        "K" | "k" => (digits, 10),
        "M" | "m" => (digits, 20),
        "G" | "g" => (digits, 30),
        _ => (text, 0),
    };
    text::number(digits)?.checked_mul(1 << shift)
}

/// Reads a time: a number with `ms`, `s` or `m`.
pub fn time_ms(text: &str) -> Option<u32> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text::cut(text, digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    u32::try_from(text::number(digits)?.checked_mul(unit_ms)?).ok()
}

impl fmt::Display for OnError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnError::Continue => f.write_str("continue"),
            OnError::Stop => f.write_str("stop"),
            OnError::Reboot => f.write_str("reboot"),
            OnError::Exec(path) => write!(f, "exec {path}"),
        }
    }
}

/// The line as [`Line::parse`] reads it back, without a newline.
impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Empty => Ok(()),
            Line::Root(path) => write!(f, "@root {path}"),
            Line::Budget(bytes) => write!(f, "@budget {bytes}"),
            Line::OnError(policy) => write!(f, "@on-error {policy}"),
            Line::Exec(path) => write!(f, "@exec {path}"),
            Line::Unlink => f.write_str("@unlink"),
            Line::Confine => f.write_str("@confine"),
            Line::Sealed => f.write_str("@sealed"),
            Line::SwitchRoot => f.write_str("@switch-root"),
            Line::Coldplug("") => f.write_str("@coldplug"),
            Line::Coldplug(buses) => write!(f, "@coldplug {buses}"),
            Line::Wait(Wait { what, timeout_ms, optional }) => {
                write!(f, "@wait {what}")?;
                if let Some(ms) = timeout_ms {
                    write!(f, " @timeout={ms}ms")?;
                }
                f.write_str(if *optional { " @optional" } else { "" })
            }
            Line::Entry(entry) => {
                f.write_str(entry.module)?;
                if entry.optional {
                    f.write_str(" @optional")?;
                }
                if let Some(path) = entry.path {
                    write!(f, " @path={path}")?;
                }
                if let Some(size) = entry.size_bytes {
                    write!(f, " @size={size}")?;
                }
                if let Some(pin) = entry.sha256 {
                    write!(f, " @sha256={pin}")?;
                }
                if let Some(device) = entry.device {
                    write!(f, " @if={device}")?;
                }
                if let Some(ms) = entry.times.timeout_ms() {
                    write!(f, " @timeout={ms}ms")?;
                }
                if entry.times.retries() > 0 {
                    write!(f, " @retry={}", entry.times.retries())?;
                }
                if !entry.params.is_empty() {
                    write!(f, " {}", entry.params)?;
                }
                Ok(())
            }
        }
    }
}

/// Writes an argument of a command line as the kernel expects it: the value in `var=val with spaces` gets double quotes, as
/// busybox's insmod does it; an argument that has quotes already stays as it is.
pub fn quote_param(argument: &str, out: &mut impl fmt::Write) -> fmt::Result {
    let needs = argument.bytes().any(|b| b.is_ascii_whitespace()) && argument.bytes().all(|b| b != b'"');
    match text::split_once(argument, b'=') {
        _ if !needs => out.write_str(argument),
        Some((name, value)) => [name, "=\"", value, "\""].into_iter().try_for_each(|part| out.write_str(part)),
        None => ["\"", argument, "\""].into_iter().try_for_each(|part| out.write_str(part)),
    }
}

/// Writes parameters so that a manifest can hold them: a word that begins with `#`, which would begin a comment, gets
/// double quotes, which the kernel removes (`next_arg` of lib/cmdline.c). A word that has quotes already stays as it is,
/// since quotes cannot be nested.
pub fn quote_comments(params: &str, out: &mut impl fmt::Write) -> fmt::Result {
    let mut written = 0;
    for (at, word) in Words::new(params) {
        if word.starts_with('#') && !word.contains('"') {
            write!(out, "{}\"{word}\"", text::cut(text::cut(params, at).0, written).1)?;
            written = at + word.len();
        }
    }
    out.write_str(text::cut(params, written).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(line: &str) -> Entry<'_> {
        match Line::parse(line.as_bytes()) {
            Ok(Line::Entry(entry)) => entry,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_manifest_to_begin_with_is_one() {
        let mut lines = 0;
        for line in include_str!("../../../docs/modest.manifest").lines() {
            // A directive that is commented out, as in `#@budget`, must be valid too.
            let line = if line.starts_with("#@") { &line[1..] } else { line };
            lines += usize::from(Line::parse(line.as_bytes()).unwrap() != Line::Empty);
        }
        assert_eq!(lines, 9);
    }

    #[test]
    fn lines_of_every_kind() {
        let parse = |text: &'static str| Line::parse(text.as_bytes()).unwrap();
        for empty in ["", "   ", "\t", "#", "# x @y \"", "; z", "  # indented", "#glued", "# \r\u{7}"] {
            assert_eq!(parse(empty), Line::Empty);
        }
        assert_eq!(parse("@root /lib/modules/6.12.1"), Line::Root("/lib/modules/6.12.1"));
        assert_eq!(parse("@budget 512K"), Line::Budget(512 << 10));
        assert_eq!(parse("@on-error exec /bin/sh "), Line::OnError(OnError::Exec("/bin/sh")));
        assert_eq!(parse("@on-error reboot"), Line::OnError(OnError::Reboot));
        assert_eq!(parse("@unlink"), Line::Unlink);
        assert_eq!(parse("@confine"), Line::Confine);
        assert_eq!(parse("@sealed"), Line::Sealed);
        assert_eq!(parse("@switch-root"), Line::SwitchRoot);
        assert_eq!(parse("@exec /sbin/init.real"), Line::Exec("/sbin/init.real"));
        assert_eq!(parse("@coldplug"), Line::Coldplug(""));
        assert_eq!(parse("@coldplug pci  virtio "), Line::Coldplug("pci  virtio"));
        let wait = |what, timeout_ms, optional| Line::Wait(Wait { what, timeout_ms, optional });
        assert_eq!(parse("@wait /dev/vda"), wait("/dev/vda", None, false));
        let all = "@wait usb:v0781*  /dev/sda @timeout=5s @optional";
        assert_eq!(parse(all), wait("usb:v0781*  /dev/sda", Some(5000), true));
    }

    #[test]
    fn entries_are_what_insmod_would_be_given() {
        assert_eq!(entry("ext4"), Entry::new("ext4"));
        assert_eq!(entry("\tvirtio_blk queue_depth=64  ").params, "queue_depth=64");
        let dummy = entry("kernel/drivers/net/dummy.ko.gz @optional numdummies=2");
        assert!(dummy.optional && dummy.params == "numdummies=2");
        assert_eq!(entry("foo @size=3M label=\"two words\" x=\"a @b\"").params, "label=\"two words\" x=\"a @b\"");
        assert_eq!(entry("foo @size=3M").size_bytes, Some(3 << 20));
        assert_eq!(entry("foo @path=mmap").path, Some(LoadPath::Mmap));
        let times = Times::new(Some(1500), RETRIES);
        assert_eq!(entry("foo @timeout=1500ms @retry=60 a=1"), Entry { times, params: "a=1", ..Entry::new("foo") });
        assert_eq!(entry("foo @if=usb:v1*d[0-9]* a=1").device, Some("usb:v1*d[0-9]*"));
    }

    #[test]
    fn a_word_that_begins_with_a_number_sign_begins_a_comment() {
        let parse = |text: &'static str| Line::parse(text.as_bytes()).unwrap();
        for (with, without) in [
            ("ext4 # the root", "ext4"),
            ("ext4\t#the root", "ext4"),
            ("foo @optional # @optional", "foo @optional"),
            ("foo @size=3M a=1  # a quote \" that is never closed", "foo @size=3M a=1"),
            ("foo # a bell \u{7} and a carriage return\r", "foo"),
            ("@budget 512K # 513", "@budget 512K"),
            ("@unlink #", "@unlink"),
            ("@on-error exec /bin/sh # or reboot", "@on-error exec /bin/sh"),
            ("@coldplug # all", "@coldplug"),
            ("@coldplug mmc  usb # not pci", "@coldplug mmc  usb"),
            ("@wait /dev/vda # /dev/vdb", "@wait /dev/vda"),
            ("@wait /dev/vda @timeout=5s # @optional", "@wait /dev/vda @timeout=5s"),
        ] {
            assert_eq!(parse(with), parse(without), "{with}");
        }
        for (line, params) in [
            ("foo a=#1", "a=#1"),
            ("foo a#b c# d", "a#b c# d"),
            ("foo a=\"x # y\" # z", "a=\"x # y\""),
            ("foo \"#x\" \"# y\"", "\"#x\" \"# y\""),
            // Single quotes are characters like any other, to the kernel too.
            ("foo a='x # y'", "a='x"),
        ] {
            assert_eq!(entry(line).params, params, "{line}");
        }
        assert_eq!(entry("a#b.ko").module, "a#b.ko");
        // The column of an error does not depend on the comment.
        for (line, column) in
            [("@root # /lib", 1), ("foo @if= # a", 5), ("foo a=\"x # y", 7), ("@switch-root / # x", 14)]
        {
            assert_eq!(Line::parse(line.as_bytes()).unwrap_err().column, column, "{line}");
        }
    }

    #[test]
    fn parameters_that_would_begin_a_comment_are_quoted() {
        for (params, quoted) in [
            ("", ""),
            (" a=1  b#c ", " a=1  b#c "),
            ("#x", "\"#x\""),
            ("a=1 #x  #\tb=\"c #d\" ", "a=1 \"#x\"  \"#\"\tb=\"c #d\" "),
            ("#a=\"b c\"", "#a=\"b c\""),
        ] {
            let mut out = String::new();
            quote_comments(params, &mut out).unwrap();
            assert_eq!(out, quoted);
        }
    }

    #[test]
    fn errors_name_column_and_what_was_expected() {
        for (line, column, says) in [
            ("\u{feff}@root /x", 1, "byte order mark"),
            ("@confine /x", 10, "unexpected /x"),
            ("@rot /x", 1, "unknown directive @rot; expected @root,"),
            ("  @root", 3, "@root has no value"),
            ("@root lib", 7, "lib is not a path"),
            ("@budget 5X", 9, "5X is not a size"),
            ("@budget +5", 9, "+5 is not a size"),
            ("@budget 99999999999G", 9, "is not a size"),
            ("@on-error explode", 11, "explode is not a policy"),
            ("@on-error exec", 1, "@on-error has no value"),
            ("@switch-root /x", 14, "unexpected /x"),
            ("ext4 @optionl", 6, "unknown attribute @optionl"),
            ("ext4 a=1 @optional", 10, "expected attributes before parameters"),
            ("ext4 @optional @optional", 16, "a second time"),
            ("ext4 @optional=1", 6, "takes no value"),
            ("ext4 @size=", 6, "@size has no value"),
            ("ext4 @path=fast", 6, "fast is not a load path"),
            ("ext4 @if=", 6, "@if has no value"),
            ("ext4 @timeout=5", 6, "5 is not a limit; expected a time above 0, a number with ms, s or m"),
            ("ext4 @timeout=0s", 6, "0s is not a limit"),
            ("ext4 @retry=0", 6, "0 is not a number of tries; expected 1 to RETRIES, 60"),
            ("ext4 @retry=61", 6, "61 is not a number of tries"),
            ("ext4 @retry=1 @retry=1", 15, "@retry a second time"),
            ("ext4 @timeout=1s @timeout=1s", 18, "@timeout a second time"),
            ("ext4 @sha256=", 6, "@sha256 has no value"),
            ("ext4 @sha256", 6, "@sha256 has no value"),
            ("ä @sha256=0123", 15, "0123 is not a SHA-256; expected 64 hex digits"),
            ("@coldplug pci a/b", 15, "a/b is not a bus"),
            ("@wait @timeout=5s", 1, "@wait has no value"),
            ("@wait /a @timeout=5", 10, "5 is not a time"),
            ("@wait /a @timeout=99999999m", 10, "99999999m is not a time"),
            ("@wait /a @optional /b", 20, "unexpected /b"),
            ("@wait /a @optional @optional", 20, "a second time"),
            ("@wait /a @size=3", 10, "unexpected @size=3"),
            ("ä a=\"x", 5, "quote that is never closed"),
            ("ext4\r", 5, "carriage return"),
            ("ext4 a\0b", 7, "control character 0x00"),
        ] {
            let e = Line::parse(line.as_bytes()).expect_err(line);
            assert_eq!(e.column, column, "{line}");
            assert!(e.problem.to_string().contains(says), "{line}: {}", e.problem);
        }
        for utf_16 in [b"\xff\xfee\0x\0t\0", b"\xfe\xff\0e\0x\0t"] {
            let error = Line::parse(utf_16).unwrap_err();
            assert_eq!((error.column, error.problem), (1, Problem::ByteOrderMark));
        }
        assert_eq!(Line::parse(b"ab\xff"), Err(ParseError { column: 3, problem: Problem::NotUtf8 }));
    }

    #[test]
    fn a_digest_has_64_hex_digits() {
        let digits = "0123456789abcdefABCDEF".repeat(3)[..64].to_string();
        let line = format!("ext4 @sha256={digits} a=1");
        assert_eq!(entry(&line).sha256.unwrap().to_string(), digits);
        assert_eq!(Line::Entry(entry(&line)).to_string(), line);
        // The column of the first character that is wrong, or of what is missing.
        for (digits, column) in [
            (digits[..63].to_string(), 14 + 63),
            (format!("{digits}0"), 14 + 64),
            (digits.replacen('3', "g", 1), 14 + 3),
            (digits.replacen('3', "é", 1), 14 + 3),
            (format!("0x{}", &digits[2..]), 14 + 1),
        ] {
            let line = format!("ext4 @sha256={digits} a=1");
            let e = Line::parse(line.as_bytes()).unwrap_err();
            assert_eq!((e.column, e.problem), (column, Problem::Not(&digits, Expected::Digest)));
        }
        let twice = format!("ext4 @sha256={digits} @sha256={digits}");
        let e = Line::parse(twice.as_bytes()).unwrap_err();
        assert_eq!((e.column, e.problem), (14 + 65, Problem::RepeatedAttribute("@sha256")));
    }

    #[test]
    fn a_foreign_manifest_is_taken_as_it_is() {
        let android = "kernel/drivers/tty/serial/8250/8250.ko\nzram.ko\n";
        let debian = "# /etc/modules: kernel modules to load at boot time.\n\nloop max_loop=64\nvfat    # for \"boot\n";
        let openwrt = "nf_conntrack\nip6_tables\nsch_fq_codel limit=1000 \n";
        let systemd = "; comment\n# other\nvirtio-net\n";
        for text in [android, debian, openwrt, systemd] {
            for line in text.lines() {
                Line::parse(line.as_bytes()).unwrap_or_else(|e| panic!("{line}: {e:?}"));
            }
        }
    }

    #[test]
    fn only_the_value_of_an_argument_is_quoted() {
        let quoted = |argument: &str| {
            let mut out = String::new();
            quote_param(argument, &mut out).unwrap();
            out
        };
        assert_eq!(quoted("a=1"), "a=1");
        assert_eq!(quoted("var=val with spaces"), "var=\"val with spaces\"");
        assert_eq!(quoted("var=\"val with spaces\""), "var=\"val with spaces\"");
        assert_eq!(quoted("a=b=c d"), "a=\"b=c d\"");
        assert_eq!(quoted("two words"), "\"two words\"");
        assert_eq!(quoted(""), "");
    }

    fn line_parts() -> impl Strategy<Value = (u8, String, bool, Option<u64>, Option<usize>, Vec<String>)> {
        let word = "[a-z0-9_./-]{1,20}";
        let param = "[a-z_.]{1,8}(=([a-z0-9,:@#]{0,6}|\"[a-z @#;=]{0,9}\"))?";
        (0u8..12, word, any::<bool>(), any::<Option<u64>>(), any::<Option<usize>>(), prop::collection::vec(param, 0..4))
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_read_back((kind, word, optional, size, path, params) in line_parts()) {
            let params = params.join(" ");
            let absolute = format!("/{word}");
            let digits = format!("{:064x}", size.unwrap_or(7));
            let line = match kind {
                0 => Line::Root(&absolute),
                1 => Line::Budget(size.unwrap_or(0)),
                2 => Line::OnError(OnError::Exec(&absolute)),
                3 => Line::Exec(&absolute),
                4 => Line::OnError(OnError::Stop),
                5 => Line::SwitchRoot,
                6 if optional => Line::Unlink,
                6 if size.is_some() => Line::Sealed,
                6 => Line::Confine,
                7 => Line::Coldplug(if optional { "pci usb" } else { "" }),
                8 => Line::Wait(Wait { what: &absolute, timeout_ms: size.map(|size| size as u32), optional }),
                _ => Line::Entry(Entry {
                    module: &word,
                    optional,
                    path: path.map(|i| LoadPath::ALL[i % LoadPath::ALL.len()]),
                    size_bytes: size,
                    sha256: optional.then(|| Pin::parse(&digits).unwrap()),
                    device: optional.then_some("pci:v*"),
                    times: Times::new(size.map(|size| (size as u32).max(1)), path.map_or(0, |i| i as u8 % (RETRIES + 1))),
                    params: &params,
                }),
            };
            let text = line.to_string();
            prop_assert_eq!(Line::parse(text.as_bytes()), Ok(line), "{}", text);
        }

        #[test]
        fn no_line_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(line) = Line::parse(&bytes) {
                let text = line.to_string();
                prop_assert_eq!(Line::parse(text.as_bytes()), Ok(line), "{}", text);
            }
        }
    }
}
