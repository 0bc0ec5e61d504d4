//! What depmod knows of a tree, in whichever form the tree has it: a binary index, or a text.
//!
//! A text is read from its start for each question, so it is for trees that are small or have nothing else, as those of busybox's
//! depmod, of OpenWrt and of Android. The formats: modules.dep(5), and what depmod writes.

use core::fmt;

use super::index::{Index, IndexError, Matches};
use super::pattern::{glob, literal_part, normalize_alias};
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
    /// `modules.dep` and `modules.builtin`: a path begins each line.
    Paths(&'m dyn Pages),
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
            "modules.dep" | "modules.builtin" => Form::Paths(bytes),
            "modules.builtin.modinfo" => Form::Modinfo(bytes),
            _ => Form::Aliases(bytes),
        };
        Table { file, form }
    }

    /// The value of the module `name`, as the kernel writes it: in `modules.dep` its line.
    pub fn find(&self, name: &str) -> Result<Option<&'m str>, TableError> {
        let found = match self.form {
            Form::Binary(bytes) => Index::new(bytes).and_then(|index| index.find(name)),
            Form::Paths(text) => line_of(text, name),
            Form::Aliases(_) | Form::Modinfo(_) => Ok(None),
        };
        found.map_err(|error| TableError(self.file, error))
    }

    /// The modules whose patterns match `alias`, which is normal: those of modules that come first in the tree's order first.
    pub fn matches(&self, alias: &str) -> Result<Matches<'m>, TableError> {
        let mut found = Matches::new();
        let result = match self.form {
            Form::Binary(bytes) => Index::new(bytes).and_then(|index| index.matches(alias)).map(|names| found = names),
            Form::Paths(_) => Ok(()),
            Form::Aliases(text) => each_part(text, b'\n', &mut |line| {
                if let Some(line) = line.strip_prefix(b"alias ")
                    && let Some(at) = line.iter().rposition(|b| *b == b' ')
                {
                    let (pattern, name) = line.split_at(at);
                    add_match(&mut found, pattern, name.trim_ascii(), alias)?;
                }
                Ok(true)
            }),
            Form::Modinfo(text) => each_part(text, 0, &mut |word| {
                let dot = word.iter().position(|b| *b == b'.').unwrap_or(0);
                let (name, rest) = word.split_at(dot);
                if let Some(pattern) = rest.strip_prefix(b".alias=") {
                    add_match(&mut found, pattern, name, alias)?;
                }
                Ok(true)
            }),
        };
        result.map_err(|error| TableError(self.file, error))?;
        Ok(found)
    }
}

/// The line of `modules.dep` or `modules.builtin` for the module `name`.
fn line_of<'m>(text: &'m dyn Pages, name: &str) -> Result<Option<&'m str>, IndexError> {
    let mut found = None;
    each_part(text, b'\n', &mut |line| {
        // A line that is not text has no module's name.
        found = core::str::from_utf8(line).ok().filter(|line| {
            let path = text::split_once(line, b':').map_or(*line, |(path, _)| path);
            name::of(path).is_written(name)
        });
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// Visits the parts of a text between each `end`, until one wants no more; reads no further than that.
fn each_part<'m>(
    text: &'m dyn Pages, end: u8, visit: &mut dyn FnMut(&'m [u8]) -> Result<bool, IndexError>,
) -> Result<(), IndexError> {
    let (len, mut start) = (text.len_bytes(), 0);
    // As by `split`, there is a part behind the last end, if only an empty one.
    while start <= len {
        let mut stop = start;
        while stop < len {
            let page_bytes = PAGE_BYTES - stop % PAGE_BYTES;
            let page = text.get(stop, page_bytes.min(len - stop)).map_err(IndexError::Read)?;
            match page.iter().position(|byte| *byte == end) {
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

/// Adds the module `name` if its `pattern`, as the module has it, matches; one that is none to depmod never does.
fn add_match<'m>(found: &mut Matches<'m>, pattern: &'m [u8], name: &'m [u8], alias: &str) -> Result<(), IndexError> {
    // Most are of other buses: they are known by their first bytes, without being normalized.
    if literal_part(pattern, alias.as_bytes(), name::fold).is_none() {
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

    #[test]
    fn limits_are_told() {
        let many = "alias x a\n".repeat(crate::limits::ALIAS_MATCHES + 1);
        let found = Table::text("modules.alias", &many).matches("x");
        assert_eq!(found, Err(TableError("modules.alias", IndexError::TooManyMatches)));
        let long = format!("alias x*{} a\n", "y".repeat(INDEX_KEY_BYTES));
        let found = Table::text("modules.alias", &long).matches("x");
        assert_eq!(found, Err(TableError("modules.alias", IndexError::LongKey)));
    }
}
