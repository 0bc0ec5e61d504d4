//! What depmod knows of a tree, in whichever form the tree has it: a binary index, or a text.
//!
//! A text of paths is read once for [`Places`]; one of aliases from its start for each question, so it is for trees that are small or
//! have nothing else, as those of busybox's depmod, of OpenWrt and of Android. The formats: modules.dep(5), and what depmod writes.

use core::fmt;

use super::index::{Index, IndexError, Matches};
use super::pattern::{WILDCARDS, glob, literal_part, normalize_alias};
use crate::errno::Errno;
use crate::kernel::{PAGE_BYTES, Pages};
use crate::limits::INDEX_KEY_BYTES;
use crate::name;
use crate::text;

/// What is wrong with the index in the file of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableError(pub &'static str, pub IndexError);

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0, self.1)
    }
}

/// A file of a tree, to look keys up in.
#[derive(Clone, Copy, Debug)]
pub struct Table<'m> {
    /// Its name, for errors.
    file: &'static str,
    form: Form<'m>,
}

/// What a file of depmod's is made of.
#[derive(Clone, Copy, Debug)]
enum Form<'m> {
    /// `*.bin`
    Binary(&'m dyn Pages),
    /// `modules.dep` and `modules.builtin`: a path begins each line. Where the lines are, if that is known.
    Paths(&'m dyn Pages, Option<Places<'m>>),
    /// `modules.alias` and `modules.symbols`: lines of `alias PATTERN MODULE`.
    Aliases(&'m dyn Pages),
    /// `modules.builtin.modinfo`: `MODULE.alias=PATTERN` among other such words, each with a NUL behind it.
    Modinfo(&'m dyn Pages),
}

impl<'m> Table<'m> {
    /// The binary index in the file of that name, of which nothing is read yet.
    pub fn binary(file: &'static str, bytes: &'m dyn Pages) -> Table<'m> {
        Table { file, form: Form::Binary(bytes) }
    }

    /// The text in the file of that name, of which nothing is read yet.
    pub fn text(file: &'static str, bytes: &'m dyn Pages) -> Table<'m> {
        let form = match file {
            "modules.dep" | "modules.builtin" => Form::Paths(bytes, None),
            "modules.builtin.modinfo" => Form::Modinfo(bytes),
            _ => Form::Aliases(bytes),
        };
        Table { file, form }
    }

    /// The same with what [`Places::fill`] made of it, if it is a text of paths.
    pub fn with_places(self, places: &'m [u8]) -> Table<'m> {
        match self.form {
            Form::Paths(text, _) => Table { form: Form::Paths(text, Some(Places { slots: places })), ..self },
            _ => self,
        }
    }

    /// The value of the module `name`, as the kernel writes it: in `modules.dep` its line.
    pub fn find(&self, name: &str) -> Result<Option<&'m str>, TableError> {
        let found = match self.form {
            Form::Binary(bytes) => Index::new(bytes).and_then(|index| index.find(name)),
            Form::Paths(text, Some(places)) => places.line_of(text, name),
            Form::Paths(text, None) => line_of(text, name),
            Form::Aliases(_) | Form::Modinfo(_) => Ok(None),
        };
        found.map_err(|error| TableError(self.file, error))
    }

    /// The modules whose patterns match `alias`, which is normal: those of modules that come first in the tree's order first.
    pub fn matches(&self, alias: &str) -> Result<Matches<'m>, TableError> {
        let mut found = Matches::new();
        let result = match self.form {
            Form::Binary(bytes) => Index::new(bytes).and_then(|index| index.matches(alias)).map(|names| found = names),
            Form::Paths(..) => Ok(()),
            Form::Aliases(text) => whole(text).and_then(|text| {
                parts(text, b'\n', |line| {
                    // Most are of other buses.
                    if may_begin(line.get(b"alias ".len()..).unwrap_or_default(), alias.as_bytes())
                        && let Some(line) = line.strip_prefix(b"alias ")
                        && let Some(at) = line.iter().rposition(|b| *b == b' ')
                    {
                        let (pattern, name) = line.split_at(at);
                        add_match(&mut found, pattern, name.trim_ascii(), alias)?;
                    }
                    Ok(())
                })
            }),
            Form::Modinfo(text) => whole(text).and_then(|text| {
                parts(text, 0, |word| {
                    let (name, rest) = word.split_at(text::position(word, b'.').unwrap_or(0));
                    if let Some(pattern) = rest.strip_prefix(b".alias=")
                        && may_begin(pattern, alias.as_bytes())
                    {
                        add_match(&mut found, pattern, name, alias)?;
                    }
                    Ok(())
                })
            }),
        };
        result.map_err(|error| TableError(self.file, error))?;
        Ok(found)
    }
}

/// Where in a text of paths the line of each module is: a hash table of offsets, each with 1 added, in which 0 is a free slot.
#[derive(Clone, Copy, Debug)]
pub struct Places<'m> {
    slots: &'m [u8],
}

impl<'m> Places<'m> {
    /// Bytes of an offset.
    const SLOT_BYTES: usize = 4;

    /// How many bytes [`Places::fill`] takes for a text: half of the slots stay free.
    pub fn bytes_for(text: &dyn Pages) -> Result<usize, IndexError> {
        let mut lines = 0usize;
        each_part(text, b'\n', &mut |_| {
            lines += 1;
            Ok(true)
        })?;
        Ok((2 * lines).next_power_of_two() * Self::SLOT_BYTES)
    }

    /// Writes where the lines of `text` are into `slots`, which are all 0.
    pub fn fill(text: &dyn Pages, slots: &mut [u8]) -> Result<(), IndexError> {
        let mut start = 0;
        each_part(text, b'\n', &mut |line| {
            let place = u32::try_from(start + 1).map_err(|_| IndexError::Read(Errno::EFBIG))?;
            start += line.len() + 1;
            if let Some(name) = module_of(line) {
                let free = Self::slots_of(slots.len(), name).find(|at| slots[*at..*at + Self::SLOT_BYTES] == [0; 4]);
                if let Some(at) = free {
                    slots[at..at + Self::SLOT_BYTES].copy_from_slice(&place.to_ne_bytes());
                }
            }
            Ok(true)
        })
    }

    /// The bytes where the slots for a name begin, in the order to look at them.
    fn slots_of(bytes: usize, name: &str) -> impl Iterator<Item = usize> + use<> {
        let count = bytes / Self::SLOT_BYTES;
        let first = name::hash(name) as usize;
        // There are a power of two.
        (0..count).map(move |step| (first.wrapping_add(step) & (count - 1)) * Self::SLOT_BYTES)
    }

    fn line_of(self, text: &'m dyn Pages, name: &str) -> Result<Option<&'m str>, IndexError> {
        for at in Self::slots_of(self.slots.len(), name) {
            let slot = self.slots.get(at..).and_then(|slots| slots.first_chunk()).copied().unwrap_or_default();
            let Some(start) = (u32::from_ne_bytes(slot) as usize).checked_sub(1) else { break };
            let mut found = None;
            parts_from(text, start, b'\n', &mut |line| {
                found = line_for(line, name);
                Ok(false)
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// The line of `modules.dep` or `modules.builtin` for the module `name`.
fn line_of<'m>(text: &'m dyn Pages, name: &str) -> Result<Option<&'m str>, IndexError> {
    let mut found = None;
    each_part(text, b'\n', &mut |line| {
        found = line_for(line, name);
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// The line, if it is of the module `name`.
fn line_for<'m>(line: &'m [u8], name: &str) -> Option<&'m str> {
    module_of(line).filter(|module| name::Name(module).is_written(name))?;
    core::str::from_utf8(line).ok()
}

/// The name of the module of a line; one that is not text has none.
fn module_of(line: &[u8]) -> Option<&str> {
    let path = text::position(line, b':').map_or(line, |at| &line[..at]);
    let file = path.iter().rposition(|b| *b == b'/').map_or(path, |at| &path[at + 1..]);
    Some(name::of(core::str::from_utf8(file).ok()?).0)
}

/// All of a text.
fn whole(text: &dyn Pages) -> Result<&[u8], IndexError> {
    text.get(0, text.len_bytes()).map_err(IndexError::Read)
}

/// Visits the parts of a text between each `end`.
fn parts<'m>(
    mut text: &'m [u8], end: u8, mut visit: impl FnMut(&'m [u8]) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    while !text.is_empty() {
        let (part, behind) = text.split_at(text::position(text, end).unwrap_or(text.len()));
        visit(part)?;
        text = behind.get(1..).unwrap_or_default();
    }
    Ok(())
}

/// Visits the parts of a text between each `end`, until one wants no more; reads no further than that.
fn each_part<'m>(
    text: &'m dyn Pages, end: u8, visit: &mut dyn FnMut(&'m [u8]) -> Result<bool, IndexError>,
) -> Result<(), IndexError> {
    parts_from(text, 0, end, visit)
}

/// The same of the part that begins at `start` and those behind it.
fn parts_from<'m>(
    text: &'m dyn Pages, mut start: usize, end: u8, visit: &mut dyn FnMut(&'m [u8]) -> Result<bool, IndexError>,
) -> Result<(), IndexError> {
    let len = text.len_bytes();
    // As by `split`, there is a part behind the last end, if only an empty one.
    while start <= len {
        let mut stop = start;
        while stop < len {
            let page_bytes = PAGE_BYTES - stop % PAGE_BYTES;
            let page = text.get(stop, page_bytes.min(len - stop)).map_err(IndexError::Read)?;
            match text::position(page, end) {
                Some(at) => {
                    stop += at;
                    break;
                }
                None => stop += page.len(),
            }
        }
        if !visit(text.get(start, stop - start).map_err(IndexError::Read)?)? {
            break;
        }
        start = stop + 1;
    }
    Ok(())
}

/// Whether what begins with a pattern, not yet normal, may match an alias by its bytes before the first wildcard.
#[inline(always)]
fn may_begin(pattern: &[u8], alias: &[u8]) -> bool {
    // What is longer than the alias is left to the whole of the pattern.
    for (b, byte) in pattern.iter().zip(alias) {
        if name::fold(*b) != *byte {
            return WILDCARDS.contains(b);
        }
    }
    true
}

/// The same by its last bytes without a wildcard: those that it ends with, or those before a `*` at its end.
fn may_end(pattern: &[u8], alias: &[u8]) -> bool {
    let is_literal = |b: &u8| !matches!(b, b'*' | b'?' | b'[' | b']' | b'\\');
    let (pattern, is_open) = pattern.strip_suffix(b"*").map_or((pattern, false), |before| (before, true));
    let literal = &pattern[pattern.iter().rposition(|b| !is_literal(b)).map_or(0, |at| at + 1)..];
    let is_literal = |text: &[u8]| literal.iter().map(|b| name::fold(*b)).eq(text.iter().copied());
    match literal.len() {
        0 => true,
        len if is_open => alias.windows(len).any(is_literal),
        len => alias.len() >= len && is_literal(&alias[alias.len() - len..]),
    }
}

/// Adds the module `name` if its `pattern`, as the module has it, matches; one that is none to depmod never does.
fn add_match<'m>(found: &mut Matches<'m>, pattern: &'m [u8], name: &'m [u8], alias: &str) -> Result<(), IndexError> {
    // Most of one bus differ in how they end: they are known by it, without being normalized.
    if !may_end(pattern, alias.as_bytes()) || literal_part(pattern, alias.as_bytes(), name::fold).is_none() {
        return Ok(());
    }
    let (Ok(pattern), Ok(name)) = (core::str::from_utf8(pattern), core::str::from_utf8(name)) else { return Ok(()) };
    let mut normal = heapless::String::<INDEX_KEY_BYTES>::new();
    if pattern.len() > normal.capacity() {
        return Err(IndexError::LongKey);
    }
    let matches = normalize_alias(pattern, &mut normal).is_ok()
        && literal_part(normal.as_bytes(), alias.as_bytes(), |b| b).is_some_and(|(rest, text)| glob(rest, text));
    if matches { found.push(name).map_err(|_| IndexError::TooManyMatches) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_read_as_indexes_are() {
        let dep = Table::text("modules.dep", b"k/snd-a.ko.xz: k/b.ko\nk/b.ko:\n\xff.ko:\n/lib/modules/c.ko:");
        assert_eq!(dep.find("snd_a"), Ok(Some("k/snd-a.ko.xz: k/b.ko")));
        assert_eq!(dep.find("b"), Ok(Some("k/b.ko:")));
        assert_eq!(dep.find("c"), Ok(Some("/lib/modules/c.ko:")));
        assert_eq!((dep.find("snd-a"), dep.find("d")), (Ok(None), Ok(None)));
        let alias = b"# Aliases\nalias x-[a-c]* one\nalias x two\nalias x_b1 three\nalias x[-] four\nalias \nalias y\n";
        let alias = Table::text("modules.alias", alias);
        let matches = |text| alias.matches(text).map(|names| names.to_vec());
        assert_eq!(matches("x_b1"), Ok(vec!["one", "three"]));
        assert_eq!(matches("x-"), Ok(vec!["four"]));
        assert_eq!((matches("y"), matches("")), (Ok(vec![]), Ok(vec![])));
        let info = b"a.alias=p:*\0a.license=GPL\0b.parm=x\0b.alias=p:1\0";
        let info = Table::text("modules.builtin.modinfo", info);
        assert_eq!(info.matches("p:1").map(|names| names.to_vec()), Ok(vec!["a", "b"]));
        let damaged = Table::binary("modules.dep.bin", b"text").find("a").unwrap_err();
        assert_eq!(damaged.to_string(), "modules.dep.bin: it is not a binary index of depmod");
    }

    /// A text whose bytes are counted as they are asked for.
    #[derive(Debug)]
    struct Counted(String, std::cell::Cell<usize>);

    impl Pages for Counted {
        fn len_bytes(&self) -> usize {
            self.0.len()
        }
        fn get(&self, at: usize, len_bytes: usize) -> Result<&[u8], Errno> {
            self.1.set(self.1.get() + len_bytes);
            self.0.as_bytes().get(at..at + len_bytes).ok_or(Errno::EFAULT)
        }
    }

    #[test]
    fn a_line_whose_place_is_known_is_found_without_reading_the_text() {
        let name = |i: usize| format!("m{i}-{}", i * 7919 % 1000);
        let mut lines = (0..5000).map(|i| format!("kernel/{}.ko.xz: kernel/a.ko\n", name(i))).collect::<String>();
        lines += "x/m1_919.ko:\n/abs/last.ko: b.ko";
        let text = Counted(lines, Default::default());
        let mut slots = vec![0; Places::bytes_for(&text).unwrap()];
        assert_eq!(slots.len(), 4 * 16384);
        Places::fill(&text, &mut slots).unwrap();
        let (slow, fast) = (Table::text("modules.dep", &text), Table::text("modules.dep", &text).with_places(&slots));
        for i in (0..5000).step_by(97) {
            let written = name(i).replace('-', "_");
            assert_eq!(fast.find(&written), slow.find(&written));
            assert!(fast.find(&written).unwrap().is_some(), "{written}");
        }
        for other in ["last", "m1_919", "m1-919", "", "none", "kernel", "a"] {
            assert_eq!(fast.find(other), slow.find(other), "{other}");
        }
        text.1.set(0);
        for i in 0..5000 {
            fast.find(&name(i).replace('-', "_")).unwrap();
        }
        let read = text.1.get() / 5000;
        assert!(read < 3 * PAGE_BYTES, "{read} bytes a lookup");
        let mut none = vec![0; Places::bytes_for(&"").unwrap()];
        Places::fill(&"", &mut none).unwrap();
        assert_eq!(Table::text("modules.dep", &"").with_places(&none).find("a"), Ok(None));
    }

    proptest! {
        #[test]
        fn what_is_ruled_out_early_does_not_match(pattern in r"[ab_*?^\[\]\\-]{0,8}", alias in "[ab_^]{0,6}") {
            let mut normal = heapless::String::<INDEX_KEY_BYTES>::new();
            if normalize_alias(&pattern, &mut normal).is_ok() && glob(normal.as_bytes(), alias.as_bytes()) {
                prop_assert!(may_end(pattern.as_bytes(), alias.as_bytes()));
                // As in an index, a `\\` before the first wildcard is a byte.
                let is_literal = literal_part(normal.as_bytes(), alias.as_bytes(), |b| b).is_some();
                let line = [pattern.as_bytes(), b" m"].concat();
                prop_assert!(may_begin(&line, alias.as_bytes()) || !is_literal);
            }
        }
    }

    #[test]
    fn limits_are_told() {
        let many = "alias x a\n".repeat(crate::limits::ALIAS_MATCHES + 1);
        let found = Table::text("modules.alias", &many).matches("x");
        assert_eq!(found, Err(TableError("modules.alias", IndexError::TooManyMatches)));
        let long = format!("alias x{} a\n", "*".repeat(INDEX_KEY_BYTES));
        let found = Table::text("modules.alias", &long).matches("x");
        assert_eq!(found, Err(TableError("modules.alias", IndexError::LongKey)));
    }
}
