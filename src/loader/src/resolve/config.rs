//! The configuration of modprobe.d(5), and what the kernel command line says of modules, as one text in a buffer.
//!
//! Each command is a record there, its module's name with `_` for `-`, wrapped lines joined. A record begins with its kind and its
//! lengths, so a question steps from one to the next and looks only into those of its kind: it is asked several times for each module.
//! A bad line is told and left out, as kmod does it (libkmod-config.c).

use crate::errno::Errno;
use crate::limits::{CONFIG_BYTES, CONFIG_ERRORS};
use crate::text;

use super::pattern::{Brackets, matches_pattern};

/// Commands of all files in their order, then those of the kernel command line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Config<'c> {
    /// Those of files.
    pub files: &'c str,
    /// Those of the kernel command line.
    pub cmdline: &'c str,
}

/// Writes a [`Config`]'s text into a buffer.
pub struct Writer<'b> {
    buf: &'b mut [u8],
    len: usize,
    /// Where what is from the command line begins.
    cmdline_at: Option<usize>,
}

/// Why a line is left out, or all of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// No such command, or a word is missing, or a name has brackets without a partner.
    Line,
    /// The buffer is full.
    Full,
    /// It is not UTF-8.
    NotUtf8,
    /// The file cannot be read.
    Read(Errno),
    /// So many more lines are left out.
    More(usize),
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            ConfigError::Read(errno) => return write!(f, "{errno}: the file cannot be read"),
            ConfigError::More(lines) => return write!(f, "{lines} more lines"),
            ConfigError::Line => "not a command of modprobe.d, or incomplete",
            ConfigError::Full => "the configuration is over CONFIG_BYTES",
            ConfigError::NotUtf8 => "not UTF-8",
        })
    }
}

/// What a command is, by the byte that its record begins with: a bit of its own in the byte that a text begins with, which says
/// of which kinds there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Alias = 1 << 0,
    Blacklist = 1 << 1,
    Install = 1 << 2,
    Options = 1 << 3,
    Remove = 1 << 4,
    Softdep = 1 << 5,
    /// Nothing is loaded for it; images bring what it names.
    Weakdep = 1 << 6,
}

impl Kind {
    /// All, each with its name in a file.
    const ALL: [(Kind, &str); 7] = [
        (Kind::Alias, "alias"),
        (Kind::Blacklist, "blacklist"),
        (Kind::Install, "install"),
        (Kind::Options, "options"),
        (Kind::Remove, "remove"),
        (Kind::Softdep, "softdep"),
        (Kind::Weakdep, "weakdep"),
    ];
}

/// A command: the name or pattern that it is for, and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Command<'c> {
    module: &'c str,
    rest: &'c str,
}

/// Bytes of a length in a record, seven bits each, so that the text stays UTF-8: enough for any buffer of [`CONFIG_BYTES`].
const LENGTH_BYTES: usize = 3;

/// What a record begins with: its kind, the length of all that follows, that of the module's name, which comes first.
const HEAD_BYTES: usize = 1 + 2 * LENGTH_BYTES;

const _: () = assert!(CONFIG_BYTES < 1 << (7 * LENGTH_BYTES));

/// A length as it stands in a record.
fn written(bytes: usize) -> [u8; LENGTH_BYTES] {
    [14, 7, 0].map(|shift| (bytes >> shift & 0x7f) as u8)
}

/// The length of which the last bytes of `head` are [`written`].
#[inline(always)]
fn length(head: [u8; 4]) -> usize {
    let bits = u32::from_be_bytes(head) as usize;
    bits >> 2 & 0x7f << 14 | bits >> 1 & 0x7f << 7 | bits & 0x7f
}

/// What stands behind the first byte of a text, if it has a command of that kind.
fn records(kind: Kind, text: &str) -> &str {
    match text.as_bytes() {
        [kinds, ..] if kinds & kind as u8 != 0 => text::cut(text, 1).1,
        _ => "",
    }
}

/// The first command of that kind in records, and what is behind it.
fn first_of<'c>(kind: Kind, mut text: &'c str) -> Option<(Command<'c>, &'c str)> {
    loop {
        // For most records, this and the next is all that is done.
        let head = *text.as_bytes().first_chunk::<4>()?;
        let (record, behind) = text.split_at_checked(HEAD_BYTES + length(head))?;
        if head[0] == kind as u8 {
            let module_bytes = length(*record.as_bytes()[LENGTH_BYTES..].first_chunk()?);
            let (module, rest) = text::cut(record, HEAD_BYTES).1.split_at_checked(module_bytes)?;
            return Some((Command { module, rest }, behind));
        }
        text = behind;
    }
}

/// What separates words, as isspace(3) has it but for the newline. kmod cuts commands at the first two alone, so that in a file
/// from Windows a blacklist names a module that ends with a carriage return.
const BLANK: [u8; 5] = [b' ', b'\t', 0x0b, 0x0c, b'\r'];

/// The first word of `line`, and what follows the one character behind it.
fn word(line: &str) -> Option<(&str, &str)> {
    let at = line.bytes().position(|b| !BLANK.contains(&b))?;
    let line = text::cut(line, at).1;
    let end = line.bytes().position(|b| BLANK.contains(&b)).unwrap_or(line.len());
    let (word, rest) = text::cut(line, end);
    Some((word, text::cut(rest, 1.min(rest.len())).1))
}

/// Puts `_` in place of `-` as in aliases; `None` if that is none.
fn underscores(name: &mut [u8]) -> Option<()> {
    let mut brackets = Brackets::default();
    for byte in name {
        // What is not ASCII stays as it is.
        *byte = brackets.underscore(char::from(*byte)).ok()? as u8;
    }
    brackets.end().ok()
}

impl<'b> Writer<'b> {
    /// Writes to the start of `buf`.
    pub fn new(buf: &'b mut [u8]) -> Self {
        Writer { buf, len: 0, cmdline_at: None }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), ConfigError> {
        let end = self.len.checked_add(bytes.len()).ok_or(ConfigError::Full)?;
        self.buf.get_mut(self.len..end).ok_or(ConfigError::Full)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Adds the commands of a file. A backslash joins a line with the next, and elsewhere stands for nothing. `report` gets the
    /// number, counted from 1, of each of the first [`CONFIG_ERRORS`] lines that are left out, and at last how many more there are.
    pub fn file(&mut self, text: &[u8], report: &mut dyn FnMut(usize, ConfigError)) {
        let (mut rest, mut number, mut errors) = (text, 1, 0);
        while !rest.is_empty() {
            let mut is_escaped = false;
            let end = rest.iter().position(|b| {
                let ends = *b == b'\n' && !is_escaped;
                is_escaped = *b == b'\\' && !is_escaped;
                ends
            });
            let (line, behind) = rest.split_at(end.unwrap_or(rest.len()));
            let added = core::str::from_utf8(line).map_err(|_| ConfigError::NotUtf8).and_then(|line| self.joined(line));
            if let Err(error) = added {
                errors += 1;
                if errors <= CONFIG_ERRORS {
                    report(number, error);
                }
            }
            number += 1 + line.iter().filter(|b| **b == b'\n').count();
            rest = behind.get(1..).unwrap_or_default();
        }
        if errors > CONFIG_ERRORS {
            report(0, ConfigError::More(errors - CONFIG_ERRORS));
        }
    }

    /// Adds a line after taking the backslashes out.
    fn joined(&mut self, line: &str) -> Result<(), ConfigError> {
        if !line.contains('\\') {
            return self.line(line);
        }
        // It is put together at the end of the buffer.
        let split = self.buf.len().checked_sub(line.len()).filter(|at| *at >= self.len).ok_or(ConfigError::Full)?;
        let (buf, joined) = self.buf.split_at_mut(split);
        let (mut len, mut is_escaped) = (0, false);
        for byte in line.bytes() {
            let starts = byte == b'\\' && !is_escaped;
            if !(starts || is_escaped && byte == b'\n') {
                joined[len] = byte;
                len += 1;
            }
            is_escaped = starts;
        }
        let mut writer = Writer { buf, len: self.len, cmdline_at: self.cmdline_at };
        let added = writer.line(core::str::from_utf8(&joined[..len]).map_err(|_| ConfigError::NotUtf8)?);
        self.len = writer.len;
        added
    }

    /// Adds a logical line of a file; an empty one and a comment add nothing.
    fn line(&mut self, line: &str) -> Result<(), ConfigError> {
        if line.starts_with("#") {
            return Ok(());
        }
        let line = line.strip_suffix('\r').unwrap_or(line);
        let Some((name, rest)) = word(line) else { return Ok(()) };
        let (module, rest) = word(rest).ok_or(ConfigError::Line)?;
        let kind = match name {
            "alias" => return self.command(Kind::Alias, module, word(rest).ok_or(ConfigError::Line)?.0),
            "blacklist" => return self.command(Kind::Blacklist, module, ""),
            _ if rest.is_empty() => return Err(ConfigError::Line),
            "options" => Kind::Options,
            "install" => Kind::Install,
            "remove" => Kind::Remove,
            "softdep" => Kind::Softdep,
            "weakdep" => Kind::Weakdep,
            _ => return Err(ConfigError::Line),
        };
        self.command(kind, module, rest)
    }

    /// Adds a command as a whole, or nothing.
    fn command(&mut self, kind: Kind, module: &str, rest: &str) -> Result<(), ConfigError> {
        let start = self.len;
        let done = self.try_command(kind, module, rest);
        if done.is_err() {
            self.len = start;
        }
        done
    }

    fn try_command(&mut self, kind: Kind, module: &str, rest: &str) -> Result<(), ConfigError> {
        self.head(kind, module.len(), rest.len())?;
        for (part, is_name) in [(module, true), (rest, kind == Kind::Alias)] {
            let start = self.len;
            self.push(part.as_bytes())?;
            let part = &mut self.buf[start..self.len];
            if is_name {
                underscores(part).ok_or(ConfigError::Line)?;
            } else if kind == Kind::Options {
                part.iter_mut().filter(|byte| **byte == b'\t').for_each(|byte| *byte = b' ');
            }
        }
        Ok(())
    }

    /// Adds what a record begins with.
    fn head(&mut self, kind: Kind, module_bytes: usize, rest_bytes: usize) -> Result<(), ConfigError> {
        let start = self.cmdline_at.unwrap_or(0);
        if self.len == start {
            self.push(&[0])?;
        }
        self.buf[start] |= kind as u8;
        self.push(&[kind as u8])?;
        self.push(&written(module_bytes + rest_bytes))?;
        self.push(&written(module_bytes))
    }

    /// Adds what the kernel command line says of modules: `module.param`, `module.param=value`, `modprobe.blacklist=a,b`.
    ///
    /// A word is for a module if it has one dot before its `=`. A quote may stand around the whole word or anywhere in
    /// the value; spaces are part of a value only.
    pub fn cmdline(&mut self, line: &str) -> Result<(), ConfigError> {
        self.cmdline_at.get_or_insert(self.len);
        // kmod's ends there too; within a value it would begin another command here.
        let mut line = text::split_once(line, b'\n').map_or(line, |(first, _)| first);
        while let Some((word, is_closed, rest)) = quoted_word(line) {
            line = rest;
            if is_closed {
                self.parameter(word)?;
            }
        }
        Ok(())
    }

    /// Adds a `blacklist` of what counts as the kernel command line. A name that is none is left out.
    pub fn blacklist(&mut self, name: &str) -> Result<(), ConfigError> {
        self.cmdline_at.get_or_insert(self.len);
        if name.bytes().any(|b| b.is_ascii_whitespace()) {
            return Ok(());
        }
        match self.command(Kind::Blacklist, name, "") {
            Err(ConfigError::Line) => Ok(()),
            added => added,
        }
    }

    fn parameter(&mut self, word: &str) -> Result<(), ConfigError> {
        let (is_quoted, word) = word.strip_prefix('"').map_or((false, word), |word| (true, word));
        let (name, value) = text::split_once(word, b'=').map_or((word, None), |(name, value)| (name, Some(value)));
        let Some((module, param)) = text::split_once(name, b'.') else { return Ok(()) };
        if name.bytes().any(|b| b == b'"' || b.is_ascii_whitespace()) || param.bytes().any(|b| b == b'.') {
            return Ok(());
        }
        if module == "modprobe"
            && param == "blacklist"
            && let Some(value) = value
        {
            // As it is written: `-` and quotes are part of the name, which then is no module's.
            let quoted = is_quoted.then(|| text::split_once(value, b',').map_or("", |(_, rest)| rest));
            let mut names = text::fields(quoted.unwrap_or(value), b',').filter(|name| !name.is_empty());
            return names.try_for_each(|name| self.whole(Kind::Blacklist, name, &[]));
        }
        // As `module.param="value"`, whose closing quote is there.
        let quote = if is_quoted { "\"" } else { "" };
        let rest: &[&str] = match value {
            Some(value) => &[param, "=", quote, value],
            None => &[param],
        };
        let start = self.len;
        self.whole(Kind::Options, module, rest)?;
        let name_at = self.len - rest.iter().map(|part| part.len()).sum::<usize>() - module.len();
        if underscores(&mut self.buf[name_at..name_at + module.len()]).is_none() {
            self.len = start;
        }
        Ok(())
    }

    /// Adds a command as it is, as a whole, or nothing: half a value would be another one.
    fn whole(&mut self, kind: Kind, module: &str, rest: &[&str]) -> Result<(), ConfigError> {
        let start = self.len;
        let head = self.head(kind, module.len(), rest.iter().map(|part| part.len()).sum());
        let done = head.and_then(|()| [module].iter().chain(rest).try_for_each(|part| self.push(part.as_bytes())));
        if done.is_err() {
            self.len = start;
        }
        done
    }

    /// The text as far as it got.
    pub fn finish(self) -> Config<'b> {
        let text = self.buf.get(..self.len).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or_default();
        let (files, cmdline) = text::cut(text, self.cmdline_at.unwrap_or(self.len));
        Config { files, cmdline }
    }
}

/// The next word of a command line, whether each of its quotes has a partner, and what is behind it. Quotes protect spaces.
fn quoted_word(line: &str) -> Option<(&str, bool, &str)> {
    let is_space = |b: u8| matches!(b, b' ' | b'\t'..=b'\r');
    let start = line.bytes().position(|b| !is_space(b))?;
    let line = text::cut(line, start).1;
    let (word, rest) = text::cut(line, text::end_of_word(line.bytes(), is_space).unwrap_or(line.len()));
    Some((word, word.bytes().filter(|b| *b == b'"').count() % 2 == 0, rest))
}

impl<'c> Config<'c> {
    fn commands(self, kind: Kind) -> impl Iterator<Item = Command<'c>> {
        let mut texts = [self.files, self.cmdline].map(|text| records(kind, text));
        core::iter::from_fn(move || {
            texts.iter_mut().find_map(|text| {
                let (command, behind) = first_of(kind, text).unzip();
                *text = behind.unwrap_or_default();
                command
            })
        })
    }

    /// The pattern and the module of each `alias` whose pattern matches `name`, in order.
    pub fn aliases(self, name: &str) -> impl Iterator<Item = (&'c str, &'c str)> {
        let found = self.commands(Kind::Alias).filter(move |alias| matches_pattern(alias.module, name));
        found.map(|alias| (alias.module, alias.rest))
    }

    /// Whether a `blacklist` names the module.
    pub fn is_blacklisted(self, name: &str) -> bool {
        self.commands(Kind::Blacklist).any(|command| command.module == name)
    }

    /// The parameters of each `options` for a module by one of the names that `is_it` knows, in order.
    pub fn options(self, is_it: impl Fn(&str) -> bool) -> impl Iterator<Item = &'c str> {
        let found = self.commands(Kind::Options).filter(move |command| is_it(command.module));
        found.map(|command| command.rest).filter(|rest| !rest.is_empty())
    }

    /// The first `install` for the module.
    pub fn install(self, name: &str) -> Option<&'c str> {
        self.commands(Kind::Install).find(|command| matches_pattern(command.module, name)).map(|command| command.rest)
    }

    /// The name of the first `install` that has just this name, and its command; or else of the first such `remove`.
    pub fn command_named(self, name: &str) -> Option<(&'c str, Option<&'c str>)> {
        let install = self.commands(Kind::Install).find(|command| command.module == name);
        let remove = || self.commands(Kind::Remove).find(|command| command.module == name);
        install.map(|command| (command.module, Some(command.rest))).or_else(|| Some((remove()?.module, None)))
    }

    /// What `weakdep` commands name for a module, which is as the kernel writes it.
    pub fn weakdeps(self, name: &str) -> impl Iterator<Item = &'c str> {
        let found = self.commands(Kind::Weakdep).filter(move |command| matches_pattern(command.module, name));
        found.flat_map(|command| command.rest.split_ascii_whitespace())
    }

    /// What the first `softdep` for the module says, which [`words_of`] takes apart; empty if no `softdep` is for it.
    pub fn softdep(self, name: &str) -> &'c str {
        let first = self.commands(Kind::Softdep).find(|command| matches_pattern(command.module, name));
        first.map_or("", |command| command.rest)
    }
}

/// Hands each command of `text`, one of those of a [`Config`], to `visit`: its kind's name, its module's, and the rest.
pub fn each_command<'c>(text: &'c str, visit: &mut dyn FnMut(&'static str, &'c str, &'c str)) {
    let mut rest = text::cut(text, 1.min(text.len())).1;
    while let Some(first) = rest.bytes().next()
        && let Some((kind, name)) = Kind::ALL.into_iter().find(|(kind, _)| *kind as u8 == first)
        && let Some((command, behind)) = first_of(kind, rest)
    {
        visit(name, command.module, command.rest);
        rest = behind;
    }
}

/// The modules that a softdep names: those before its module, or those after.
pub fn words_of(softdep: &str, when: When) -> impl Iterator<Item = &str> {
    // kmod takes a single space before the first word for a part of it.
    let first = match softdep.as_bytes() {
        [a, b, ..] => a.is_ascii_whitespace() && !b.is_ascii_whitespace(),
        _ => false,
    };
    let mut now = None;
    softdep.split_ascii_whitespace().skip(first.into()).filter(move |word| match *word {
        "pre:" => {
            now = Some(When::Before);
            false
        }
        "post:" => {
            now = Some(When::After);
            false
        }
        _ => now == Some(when),
    })
}

/// Which of a module's soft dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// `pre:`
    Before,
    /// `post:`
    After,
}

/// The commands of a text of records, one to a line, as a file would have them.
#[cfg(test)]
pub(crate) fn lines_of(text: &str) -> String {
    let mut lines = String::new();
    each_command(text, &mut |kind, module, rest| lines += &format!("{kind} {module} {rest}\n"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_of<'b>(buf: &'b mut [u8], file: &str, cmdline: &str) -> (Config<'b>, Vec<(usize, ConfigError)>) {
        let mut errors = Vec::new();
        let mut writer = Writer::new(buf);
        writer.file(file.as_bytes(), &mut |number, error| errors.push((number, error)));
        assert_eq!(writer.cmdline(cmdline), Ok(()));
        (writer.finish(), errors)
    }

    #[test]
    fn lines_are_joined_and_bad_ones_are_told_by_number() {
        let file = "# alias a b\n\nalias a-[x-y] \\\n  b-c more\noptions\t d\te=\\1\n\nnonsense a\nalias a\nblacklist a]\nblacklist e-f";
        let mut buf = [0; 200];
        let (config, errors) = config_of(&mut buf, file, "");
        assert_eq!(lines_of(config.files), "alias a_[x-y] b_c\noptions d e=1\nblacklist e_f \n");
        assert_eq!(errors, [7, 8, 9].map(|number| (number, ConfigError::Line)));
    }

    #[test]
    fn a_file_from_windows_counts_and_one_bad_line_spoils_no_other() {
        let mut buf = [0; 200];
        let mut errors = Vec::new();
        let mut writer = Writer::new(&mut buf);
        let file = b"blacklist loop\r\noptions a x=1\r\nblacklist\x0bb\nblacklist \xff\nblacklist c\n";
        writer.file(file, &mut |number, error| errors.push((number, error)));
        assert_eq!(lines_of(writer.finish().files), "blacklist loop \noptions a x=1\nblacklist b \nblacklist c \n");
        assert_eq!(errors, [(4, ConfigError::NotUtf8)]);
    }

    #[test]
    fn what_is_wrong_a_thousand_times_is_counted() {
        let mut errors = Vec::new();
        let file = "nonsense a\n".repeat(1000);
        Writer::new(&mut [0; 100]).file(file.as_bytes(), &mut |number, error| errors.push((number, error)));
        let mut expected: Vec<_> = (1..=CONFIG_ERRORS).map(|number| (number, ConfigError::Line)).collect();
        expected.push((0, ConfigError::More(1000 - CONFIG_ERRORS)));
        assert_eq!(errors, expected);
    }

    #[test]
    fn what_does_not_fit_is_told_and_left_out_whole() {
        let mut buf = [0; 30];
        let (config, errors) = config_of(&mut buf, "blacklist abc\noptions abc long=parameter\nblacklist d\n", "");
        assert_eq!(lines_of(config.files), "blacklist abc \nblacklist d \n");
        assert_eq!(errors, [(2, ConfigError::Full)]);
    }

    #[test]
    fn half_a_word_of_the_command_line_is_none() {
        let line = "a.b=12345 modprobe.blacklist=,,c,d";
        for len in 0..60 {
            let mut buf = [0; 60];
            let mut writer = Writer::new(&mut buf[..len]);
            let written = writer.cmdline(line);
            let config = writer.finish();
            let lines = lines_of(config.cmdline);
            let lines: Vec<_> = lines.split_inclusive('\n').collect();
            let all = ["options a b=12345\n", "blacklist c \n", "blacklist d \n"];
            assert_eq!(lines, all[..lines.len()], "{len}");
            assert_eq!(written.is_ok(), lines.len() == 3);
        }
    }

    #[test]
    fn a_question_steps_over_commands_of_other_kinds() {
        let long = "x".repeat(20_000);
        let file =
            format!("softdep a pre: b\nweakdep a c\nalias y* a\noptions {long} {long}\ninstall a z\nremove b w\n");
        let mut buf = vec![0; 50_000];
        let (config, errors) = config_of(&mut buf, &file, "b.c=d");
        assert_eq!(errors, []);
        assert_eq!(config.aliases("yy").collect::<Vec<_>>(), [("y*", "a")]);
        assert_eq!((config.install("a"), config.softdep("a"), config.softdep("b")), (Some("z"), "pre: b", ""));
        assert_eq!(config.options(|module| module == long).collect::<Vec<_>>(), [&long]);
        assert_eq!(config.options(|module| module == "b").collect::<Vec<_>>(), ["c=d"]);
        assert_eq!(config.command_named("b"), Some(("b", None)));
        // Nothing but the writer makes a text; one that is cut has no more commands.
        for len in 0..config.files.len() - 1 {
            let cut = Config { files: &config.files[..len], cmdline: "" };
            assert_eq!(cut.command_named("b"), None);
        }
    }

    #[test]
    fn a_blacklist_names_one_module() {
        let mut buf = [0; 100];
        let mut writer = Writer::new(&mut buf);
        for name in ["a b", "\n", "c\ninstall d e", "f]", "g-h"] {
            assert_eq!(writer.blacklist(name), Ok(()));
        }
        assert_eq!(lines_of(writer.finish().cmdline), "blacklist g_h \n");
    }

    #[test]
    fn the_command_line_ends_at_its_newline() {
        let mut buf = [0; 100];
        let (config, _) = config_of(&mut buf, "", "a.b=1 \"a.c=\ninstall a /bin/false \"\nblacklist a\n");
        assert_eq!(lines_of(config.cmdline), "options a b=1\n");
    }

    #[test]
    fn the_command_line_comes_after_files() {
        let mut buf = [0; 400];
        let line =
            "quiet m-n.a m_n.b=\"1 2\" \"m.c=3 4\" m.d.e=5 m\"x\".f=6 modprobe.blacklist=p,q-r root=/dev/a.b -- m.g=7";
        let (config, _) = config_of(&mut buf, "options m_n z=9\n", line);
        let options = |name| config.options(|text| text == name).collect::<Vec<_>>();
        assert_eq!(options("m_n"), ["z=9", "a", "b=\"1 2\""]);
        assert_eq!(options("m"), ["c=\"3 4\"", "g=7"]);
        assert_eq!(["p", "q_r", "q-r"].map(|name| config.is_blacklisted(name)), [true, false, true]);
    }
}
