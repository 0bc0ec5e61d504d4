//! depmod's binary indexes (`modules.dep.bin`, `modules.alias.bin`, `modules.symbols.bin`, `modules.builtin.bin`,
//! `modules.builtin.alias.bin`), read in place: a lookup touches the few pages that its key leads to.
//!
//! The format is described in kmod's libkmod/libkmod-index.c. Its numbers are big-endian. A header has magic, version
//! and the root's offset; behind it are the nodes of a trie. A node's offset says in its upper bits which parts it has,
//! of a prefix, children and values; a child is chosen by the byte of the key behind the prefix. Depending on its
//! version, depmod writes a node before or behind its children; no node has two parents.

use core::fmt;

use crate::errno::Errno;
use crate::kernel::{PAGE_BYTES, Pages};
use crate::limits::{ALIAS_MATCHES, INDEX_DEPTH, INDEX_KEY_BYTES};

/// What an index begins with.
pub const MAGIC: u32 = 0xb007_f457;
/// Indexes of another major version are of another format; minor ones have not been used.
pub const MAJOR: u32 = 2;

/// The part of a node's offset that is one.
pub const OFFSET: u32 = (1 << 28) - 1;
/// Says in a node's offset that it begins with a prefix.
pub const HAS_PREFIX: u32 = 1 << 31;
/// Says in a node's offset that it ends with values.
pub const HAS_VALUES: u32 = 1 << 30;
/// Says in a node's offset that children stand in it.
pub const HAS_CHILDREN: u32 = 1 << 29;

/// The bytes that begin a wildcard, in the order that kmod follows them.
const WILDCARDS: [u8; 3] = *b"*?[";

/// An index, read where it is.
#[derive(Clone, Copy, Debug)]
pub struct Index<'m> {
    bytes: &'m dyn Pages,
    root: u32,
}

/// Why an index does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexError {
    /// It does not begin as one.
    NotAnIndex,
    /// Its version, the major one in the upper half.
    Version(u32),
    /// What stands at `offset` cannot be.
    Damaged {
        /// Bytes from the file's start.
        offset: usize,
    },
    /// A key is over [`INDEX_KEY_BYTES`].
    LongKey,
    /// Nodes are nested over [`INDEX_DEPTH`].
    TooDeep,
    /// Over [`ALIAS_MATCHES`] values match.
    TooManyMatches,
    /// The file cannot be read.
    Read(Errno),
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IndexError::NotAnIndex => f.write_str("it is no binary index of depmod's"),
            IndexError::Version(version) => {
                let (major, minor) = (version >> 16, version & 0xffff);
                write!(f, "the index has version {major}.{minor}; only version {MAJOR} is known")
            }
            IndexError::Damaged { offset } => {
                write!(f, "the index is damaged at byte {offset} (depmod makes a new one)")
            }
            IndexError::LongKey => write!(f, "a key of the index is over INDEX_KEY_BYTES, {INDEX_KEY_BYTES}"),
            IndexError::TooDeep => write!(f, "the index is nested over INDEX_DEPTH, {INDEX_DEPTH}"),
            IndexError::Read(errno) => write!(f, "{errno}: the index cannot be read"),
            IndexError::TooManyMatches => write!(f, "more match than ALIAS_MATCHES, {ALIAS_MATCHES}"),
        }
    }
}

/// The values of the keys that match.
pub type Matches<'m> = heapless::Vec<&'m str, ALIAS_MATCHES>;

impl<'m> Index<'m> {
    /// The index that `bytes` hold, all of a file.
    pub fn new(bytes: &'m dyn Pages) -> Result<Index<'m>, IndexError> {
        let mut header = Reader { bytes, at: 0 };
        match header.number() {
            Ok(MAGIC) => {}
            Err(error @ IndexError::Read(_)) => return Err(error),
            _ => return Err(IndexError::NotAnIndex),
        }
        let version = header.number()?;
        if version >> 16 != MAJOR {
            return Err(IndexError::Version(version));
        }
        Ok(Index { bytes, root: header.number()? })
    }

    /// The first value of exactly this `key`, that of the lowest priority, as with kmod's index_mm_search.
    ///
    /// ```
    /// # use modest_loader::resolve::index::Index;
    /// let file = b"\xb0\x07\xf4\x57\0\x02\0\x01\xc0\0\0\x0cext4\0\0\0\0\x01\0\0\0\0kernel/fs/ext4/ext4.ko:\0";
    /// let index = Index::new(file).unwrap();
    /// assert_eq!(index.find("ext4"), Ok(Some("kernel/fs/ext4/ext4.ko:")));
    /// assert_eq!(index.find("ext"), Ok(None));
    /// ```
    pub fn find(&self, key: &str) -> Result<Option<&'m str>, IndexError> {
        let mut rest = key.as_bytes();
        let mut node = self.node(self.root)?;
        while let Some(here) = node {
            let Some(behind) = rest.strip_prefix(here.prefix) else { break };
            let Some((&byte, behind)) = behind.split_first() else {
                return Ok(here.values()?.next()?.map(|(_, value)| value));
            };
            rest = behind;
            node = self.child(&here, byte)?;
        }
        Ok(None)
    }

    /// The values of all keys that match `text` as patterns, in the order of kmod's index_mm_searchwild: those of lower
    /// priority first, and among equal ones what is found last.
    ///
    /// What stands in a key before its first `*`, `?` or `[` is taken as it is, as by kmod, even a `\`; the rest as by
    /// [`matches_pattern`]. Unlike kmod, no key is found twice where `text` has such characters itself.
    pub fn matches(&self, text: &str) -> Result<Matches<'m>, IndexError> {
        let mut found = Found::default();
        let mut rest = text.as_bytes();
        let mut node = self.node(self.root)?;
        while let Some(here) = node {
            let literal_bytes = here.prefix.iter().position(|b| WILDCARDS.contains(b)).unwrap_or(here.prefix.len());
            let Some((literal, pattern)) = here.prefix.split_at_checked(literal_bytes) else { break };
            let Some(behind) = rest.strip_prefix(literal) else { break };
            if !pattern.is_empty() {
                self.patterns(&[], Node { prefix: pattern, ..here }, behind, &mut found)?;
                break;
            }
            for wildcard in WILDCARDS {
                if let Some(child) = self.child(&here, wildcard)? {
                    self.patterns(&[wildcard], child, behind, &mut found)?;
                }
            }
            let Some((&byte, behind)) = behind.split_first() else {
                found.add(&mut here.values()?)?;
                break;
            };
            if WILDCARDS.contains(&byte) {
                break;
            }
            rest = behind;
            node = self.child(&here, byte)?;
        }
        Ok(found.values)
    }

    /// Adds to `found` the values of `top` and the nodes below whose keys, with `begin` before them, match `text`.
    fn patterns(&self, begin: &[u8], top: Node<'m>, text: &[u8], found: &mut Found<'m>) -> Result<(), IndexError> {
        self.walk(begin, top, &mut |key, values| if glob(key, text) { found.add(values) } else { Ok(()) })
    }

    /// Visits each key with each of its values, lesser keys first, but what begins with another key before that.
    pub fn each(&self, visit: &mut dyn FnMut(&str, &'m str)) -> Result<(), IndexError> {
        let Some(root) = self.node(self.root)? else { return Ok(()) };
        self.walk(&[], root, &mut |key, values| {
            let key = core::str::from_utf8(key).map_err(|_| values.reader.damaged())?;
            while let Some((_, value)) = values.next()? {
                visit(key, value);
            }
            Ok(())
        })
    }

    /// Visits `top` and all nodes below that have values, a node behind its children, each with its key behind `begin`.
    fn walk(&self, begin: &[u8], top: Node<'m>, visit: &mut Visit<'_, 'm>) -> Result<(), IndexError> {
        let mut key = heapless::Vec::<u8, INDEX_KEY_BYTES>::from_slice(begin).map_err(|_| IndexError::LongKey)?;
        let mut path = heapless::Vec::<Step, INDEX_DEPTH>::new();
        // As no node has two parents, to read more than the whole file is to go in circles.
        let mut unread = self.bytes.len_bytes();
        let mut read = |bytes: usize, offset| {
            unread = unread.checked_sub(bytes).ok_or(IndexError::Damaged { offset })?;
            Ok(())
        };
        let mut entered = Some(top);
        loop {
            if let Some(node) = entered.take() {
                read(node.bytes, node.offset)?;
                key.extend_from_slice(node.prefix).map_err(|_| IndexError::LongKey)?;
                path.push(Step { node, key_bytes: key.len() }).map_err(|_| IndexError::TooDeep)?;
            }
            let Some(Step { node, key_bytes }) = path.last_mut() else { return Ok(()) };
            key.truncate(*key_bytes);
            if let Some((byte, child)) = node.next_child() {
                entered = self.node(child)?;
                if entered.is_some() {
                    key.push(byte).map_err(|_| IndexError::LongKey)?;
                }
                continue;
            }
            if node.has_values {
                let mut values = node.values()?;
                visit(&key, &mut values)?;
                read(values.reader.at - node.behind.at, node.offset)?;
            }
            path.pop();
        }
    }

    /// The node at `offset`, which says also what it has; `None` where a child is left out.
    fn node(&self, offset: u32) -> Result<Option<Node<'m>>, IndexError> {
        let start = (offset & OFFSET) as usize;
        let mut reader = Reader { bytes: self.bytes, at: start };
        // An index without entries has a root without bytes, at its end.
        if start > self.bytes.len_bytes() {
            return Err(reader.damaged());
        }
        if start == 0 {
            return Ok(None);
        }
        let prefix = if offset & HAS_PREFIX != 0 { reader.text()? } else { &[] };
        let (mut first, mut children): (u8, &[u8]) = (0, &[]);
        if offset & HAS_CHILDREN != 0 {
            let last;
            [first, last] = *reader.chunk()?;
            // Keys are ASCII.
            let between = last.checked_sub(first).filter(|_| last.is_ascii()).ok_or(reader.damaged())?;
            children = reader.take((usize::from(between) + 1) * SLOT_BYTES)?;
        }
        let has_values = offset & HAS_VALUES != 0;
        Ok(Some(Node { offset: start, bytes: reader.at - start, prefix, first, children, has_values, behind: reader }))
    }

    /// The child of `node` for the `byte` behind its prefix.
    fn child(&self, node: &Node<'m>, byte: u8) -> Result<Option<Node<'m>>, IndexError> {
        let slot = byte.checked_sub(node.first).and_then(|slot| {
            let from = node.children.get(usize::from(slot) * SLOT_BYTES..)?;
            from.first_chunk()
        });
        slot.map_or(Ok(None), |slot| self.node(u32::from_be_bytes(*slot)))
    }
}

/// What [`Index::walk`] calls for each node, with its key.
type Visit<'v, 'm> = dyn FnMut(&[u8], &mut Values<'m>) -> Result<(), IndexError> + 'v;

/// A node on the way from the top to where a walk is.
struct Step<'m> {
    /// Its children are those still to come.
    node: Node<'m>,
    /// Length of the key that ends here.
    key_bytes: usize,
}

/// Bytes of a child's offset.
const SLOT_BYTES: usize = 4;

#[derive(Clone, Copy)]
struct Node<'m> {
    offset: usize,
    /// How much of the file it takes, without its values.
    bytes: usize,
    prefix: &'m [u8],
    /// The byte of the first child.
    first: u8,
    /// The offsets of the children, for one byte after the other.
    children: &'m [u8],
    has_values: bool,
    /// Where the values are, if there are any.
    behind: Reader<'m>,
}

impl<'m> Node<'m> {
    fn values(&self) -> Result<Values<'m>, IndexError> {
        let mut reader = self.behind;
        let left = if self.has_values { reader.number()? } else { 0 };
        Ok(Values { left, reader })
    }

    /// Takes the first of the children: its byte and where it is.
    fn next_child(&mut self) -> Option<(u8, u32)> {
        let (slot, others) = self.children.split_first_chunk::<SLOT_BYTES>()?;
        let byte = self.first;
        self.children = others;
        self.first = byte.wrapping_add(1);
        Some((byte, u32::from_be_bytes(*slot)))
    }
}

/// The values of a node, each with its priority.
struct Values<'m> {
    left: u32,
    reader: Reader<'m>,
}

impl<'m> Values<'m> {
    fn next(&mut self) -> Result<Option<(u32, &'m str)>, IndexError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let priority = self.reader.number()?;
        let value = core::str::from_utf8(self.reader.text()?).map_err(|_| self.reader.damaged())?;
        Ok(Some((priority, value)))
    }
}

/// Values in kmod's order, and the priority of each.
#[derive(Default)]
struct Found<'m> {
    values: Matches<'m>,
    priorities: heapless::Vec<u32, ALIAS_MATCHES>,
}

impl<'m> Found<'m> {
    fn add(&mut self, values: &mut Values<'m>) -> Result<(), IndexError> {
        while let Some((priority, value)) = values.next()? {
            let at = self.priorities.partition_point(|&before| before < priority);
            self.priorities.insert(at, priority).map_err(|_| IndexError::TooManyMatches)?;
            self.values.insert(at, value).map_err(|_| IndexError::TooManyMatches)?;
        }
        Ok(())
    }
}

/// A place in the file, from where it is read on.
#[derive(Clone, Copy, Debug)]
struct Reader<'m> {
    bytes: &'m dyn Pages,
    at: usize,
}

impl<'m> Reader<'m> {
    fn damaged(&self) -> IndexError {
        IndexError::Damaged { offset: self.at }
    }

    fn take(&mut self, bytes: usize) -> Result<&'m [u8], IndexError> {
        let end = self.at.checked_add(bytes).filter(|end| *end <= self.bytes.len_bytes()).ok_or(self.damaged())?;
        let taken = self.bytes.get(self.at, bytes).map_err(IndexError::Read)?;
        self.at = end;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<&'m [u8; N], IndexError> {
        let damaged = self.damaged();
        self.take(N)?.first_chunk().ok_or(damaged)
    }

    fn number(&mut self) -> Result<u32, IndexError> {
        self.chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// What stands before the next NUL, which is read too.
    fn text(&mut self) -> Result<&'m [u8], IndexError> {
        let mut behind = *self;
        loop {
            // No page more than it takes.
            let page_end = (behind.at | (PAGE_BYTES - 1)) + 1;
            let piece_bytes = page_end.min(self.bytes.len_bytes()).saturating_sub(behind.at);
            if piece_bytes == 0 {
                return Err(self.damaged());
            }
            let start = behind.at;
            if let Some(len) = behind.take(piece_bytes)?.iter().position(|&b| b == 0) {
                let text = self.take(start + len - self.at)?;
                self.at += 1;
                return Ok(text);
            }
        }
    }
}

/// Whether `text` matches `pattern` as with fnmatch(3) of glibc in the C locale and with no flags: `*` stands for any
/// bytes, `?` for one, `[…]` for one of those in it, which may be ranges, `[!…]` and `[^…]` for one of the others, and
/// a byte behind `\` for itself.
///
/// Unlike in glibc, a `[` within brackets is always a byte; so `[[:alpha:]]`, `[[=a=]]` and `[[.a.]]` mean no more.
/// And a `[` whose only `]` is behind a `\` is a byte, where glibc at times takes it for a set all the same. No module of
/// Debian's has such aliases.
///
/// ```
/// # use modest_loader::resolve::index::matches_pattern;
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
        if let Some((&byte, behind)) = text.split_first() {
            if let Some(others) = match_byte(pattern, byte) {
                (pattern, text) = (others, behind);
                continue;
            }
        } else if pattern.is_empty() {
            return true;
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
            AliasError::Brackets => "the alias has a bracket without its other",
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
    use proptest::sample;
    use std::collections::BTreeMap;
    use std::ffi::CString;

    /// Keys, each with its values by priority.
    type Map = BTreeMap<String, Vec<(u32, String)>>;

    fn map(entries: &[(&str, u32, &str)]) -> Map {
        let mut map = Map::new();
        for &(key, priority, value) in entries {
            map.entry(key.into()).or_default().push((priority, value.into()));
        }
        sorted(map)
    }

    fn sorted(mut map: Map) -> Map {
        map.values_mut().for_each(|values| values.sort_by_key(|&(priority, _)| priority));
        map
    }

    /// Writes the node of all `entries`, whose first `at` bytes are said by the nodes above, behind its children.
    fn write_node(file: &mut Vec<u8>, entries: &[(&String, &Vec<(u32, String)>)], at: usize) -> u32 {
        let [(first, values), ..] = entries else { return file.len() as u32 };
        let last = entries.last().unwrap().0;
        let common = first.bytes().zip(last.bytes()).skip(at).take_while(|(a, b)| a == b).count();
        let end = at + common;
        let (own, below) = entries.split_at(usize::from(first.len() == end));
        let children: BTreeMap<u8, u32> = below
            .chunk_by(|(a, _), (b, _)| a.as_bytes()[end] == b.as_bytes()[end])
            .map(|entries| (entries[0].0.as_bytes()[end], write_node(file, entries, end + 1)))
            .collect();
        let mut offset = file.len() as u32;
        if common > 0 {
            offset |= HAS_PREFIX;
            file.extend_from_slice(&[&first.as_bytes()[at..end], &[0]].concat());
        }
        if let (Some((&first, _)), Some((&last, _))) = (children.first_key_value(), children.last_key_value()) {
            offset |= HAS_CHILDREN;
            file.extend_from_slice(&[first, last]);
            for byte in first..=last {
                file.extend_from_slice(&children.get(&byte).unwrap_or(&0).to_be_bytes());
            }
        }
        if !own.is_empty() {
            offset |= HAS_VALUES;
            file.extend_from_slice(&(values.len() as u32).to_be_bytes());
            for (priority, value) in *values {
                file.extend_from_slice(&[&priority.to_be_bytes(), value.as_bytes(), &[0]].concat());
            }
        }
        offset
    }

    fn write(map: &Map) -> Vec<u8> {
        let mut file = [MAGIC, MAJOR << 16 | 1, 0].map(u32::to_be_bytes).concat();
        let root = write_node(&mut file, &map.iter().collect::<Vec<_>>(), 0);
        file[8..12].copy_from_slice(&root.to_be_bytes());
        file
    }

    fn all(index: Index) -> Result<Vec<(String, String)>, IndexError> {
        let mut entries = Vec::new();
        index.each(&mut |key, value| entries.push((key.into(), value.into())))?;
        Ok(entries)
    }

    fn matches<'m>(file: &'m Vec<u8>, text: &str) -> Result<Vec<&'m str>, IndexError> {
        Ok(Index::new(file)?.matches(text)?.to_vec())
    }

    /// A key before its first wildcard, and from there.
    fn halves(key: &str) -> (&str, &str) {
        key.split_at(key.find(['*', '?', '[']).unwrap_or(key.len()))
    }

    /// As kmod goes through a tree: less before the first wildcard comes first, then `*`, `?`, `[` and the text itself;
    /// what is longer comes before what it begins with.
    fn kmod_order(key: &str) -> impl Ord + use<> {
        let (literal, pattern) = halves(key);
        let rank = WILDCARDS.iter().position(|&b| pattern.as_bytes().first() == Some(&b)).unwrap_or(3);
        (literal.len(), rank, [pattern.as_bytes(), &[0xff]].concat())
    }

    /// Tries every key.
    fn naive<'a>(map: &'a Map, text: &str) -> Vec<&'a str> {
        let mut keys: Vec<_> = map.iter().collect();
        keys.retain(|(key, _)| {
            let (literal, pattern) = halves(key);
            text.strip_prefix(literal).is_some_and(|rest| matches_pattern(pattern, rest))
        });
        keys.sort_by_key(|(key, _)| kmod_order(key));
        let mut found: Vec<_> = keys.into_iter().flat_map(|(_, values)| values).collect();
        found.reverse();
        found.sort_by_key(|(priority, _)| *priority);
        found.into_iter().map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn a_key_has_its_first_value() {
        let file =
            write(&map(&[("ext4", 1, "ext4.ko: jbd2.ko"), ("ext2", 0, "ext2.ko:"), ("e", 2, "b"), ("e", 1, "a")]));
        let index = Index::new(&file).unwrap();
        for (key, value) in [("ext4", Some("ext4.ko: jbd2.ko")), ("ext2", Some("ext2.ko:")), ("e", Some("a"))] {
            assert_eq!(index.find(key), Ok(value));
        }
        for key in ["", "ext", "ext3", "ext44", "f", "ä"] {
            assert_eq!(index.find(key), Ok(None), "{key}");
        }
        let pair = |key: &str, value: &str| (key.to_string(), value.to_string());
        let each = [pair("ext2", "ext2.ko:"), pair("ext4", "ext4.ko: jbd2.ko"), pair("e", "a"), pair("e", "b")];
        assert_eq!(all(index).unwrap(), each);
    }

    #[test]
    fn an_empty_index_has_nothing() {
        let file = write(&Map::new());
        assert_eq!(file.len(), 12);
        let index = Index::new(&file).unwrap();
        assert_eq!((index.find(""), index.matches("a"), all(index)), (Ok(None), Ok(Matches::new()), Ok(vec![])));
    }

    #[test]
    fn matches_come_as_kmod_sorts_them() {
        let file = write(&map(&[
            ("usb:v1*", 5, "star"),
            ("usb:v?2", 5, "mark"),
            ("usb:v[1-3]2", 5, "set"),
            ("usb:v12", 5, "text"),
            ("usb:*", 9, "late"),
            ("*", 1, "early"),
            ("usb:v13", 0, "other"),
        ]));
        assert_eq!(matches(&file, "usb:v12").unwrap(), ["early", "text", "star", "set", "mark", "late"]);
        let escapes = write(&map(&[(r"a\b*", 0, "before"), (r"a*\b", 0, "behind")]));
        assert_eq!(matches(&escapes, "ab").unwrap(), ["behind"]);
        assert_eq!(matches(&escapes, r"a\b").unwrap(), ["before", "behind"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = write(&map(&[("ab", 0, "x"), ("ac", 0, "y")]));
        let changed = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            Index::new(&bad).and_then(all).unwrap_err()
        };
        assert_eq!(changed(0, 0), IndexError::NotAnIndex);
        assert_eq!(Index::new(&&good[..3]).unwrap_err(), IndexError::NotAnIndex);
        assert_eq!(Index::new(&&good[..10]).unwrap_err(), IndexError::Damaged { offset: 8 });
        assert_eq!(changed(5, 3).to_string(), "the index has version 3.1; only version 2 is known");
        assert_eq!(changed(9, 1), IndexError::Damaged { offset: 1 << 16 | usize::from(good[11]) });
        assert_eq!(changed(20, 0xff), IndexError::Damaged { offset: 22 });

        let long = write(&map(&[(&"k".repeat(INDEX_KEY_BYTES), 0, "x")]));
        assert_eq!(all(Index::new(&long).unwrap()).map(|all| all.len()), Ok(1));
        let long = write(&map(&[(&"k".repeat(INDEX_KEY_BYTES + 1), 0, "x")]));
        assert_eq!(all(Index::new(&long).unwrap()), Err(IndexError::LongKey));

        let nested = |depth| (0..depth).map(|len| ("*".repeat(len), vec![(0, String::new())])).collect();
        assert_eq!(all(Index::new(&write(&nested(INDEX_DEPTH))).unwrap()).map(|all| all.len()), Ok(INDEX_DEPTH));
        assert_eq!(all(Index::new(&write(&nested(INDEX_DEPTH + 1))).unwrap()), Err(IndexError::TooDeep));

        let many = |count| Map::from([("a*".to_string(), vec![(0, "x".to_string()); count])]);
        assert_eq!(matches(&write(&many(ALIAS_MATCHES)), "a").unwrap().len(), ALIAS_MATCHES);
        assert_eq!(matches(&write(&many(ALIAS_MATCHES + 1)), "a"), Err(IndexError::TooManyMatches));
    }

    #[test]
    fn going_in_circles_ends() {
        // A root that is its own child, once alone, and once in so large a file that the key runs over first.
        let root = (HAS_CHILDREN | 12).to_be_bytes();
        let header = [MAGIC, MAJOR << 16, HAS_CHILDREN | 12].map(u32::to_be_bytes).concat();
        let mut file = [&header, &b"**"[..], &root].concat();
        assert_eq!(all(Index::new(&file).unwrap()), Err(IndexError::Damaged { offset: 12 }));
        assert_eq!(matches(&file, "a"), Err(IndexError::Damaged { offset: 12 }));
        file.resize(1 << 16, 0);
        assert_eq!(all(Index::new(&file).unwrap()), Err(IndexError::TooDeep));

        // Each node is the child of the one above for every byte: 128 to the power of their number are the ways down.
        let mut file = header;
        for _ in 0..INDEX_DEPTH - 1 {
            let next = HAS_CHILDREN | (file.len() as u32 + 2 + 128 * 4);
            file.extend_from_slice(&[0, 127]);
            file.extend_from_slice(&next.to_be_bytes().repeat(128));
        }
        file.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
        assert!(matches!(all(Index::new(&file).unwrap()), Err(IndexError::Damaged { .. })));
    }

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
        for text in texts {
            prop_assert_eq!(matches_pattern(pattern, text), fnmatch(pattern, text), "{}", text);
        }
        Ok(())
    }

    fn maps() -> impl Strategy<Value = Map> {
        let values = prop::collection::vec((0u32..3, "[x-z]{0,2}"), 1..3);
        prop::collection::btree_map("[ab*?\\[\\]\\\\-]{0,6}|[ab]{0,4}", values, 0..12).prop_map(sorted)
    }

    proptest! {
        #[test]
        fn what_is_written_is_found(map in maps(), texts in prop::collection::vec("[ab*\\[\\\\]{0,5}", 8)) {
            let file = write(&map);
            let index = Index::new(&file).unwrap();
            for text in texts.iter().chain(map.keys()) {
                prop_assert_eq!(index.find(text).unwrap(), map.get(text).map(|values| values[0].1.as_str()));
                prop_assert_eq!(matches(&file, text).unwrap(), naive(&map, text), "{}", text);
            }
            let mut entries = all(index).unwrap();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            let mut pairs = Vec::new();
            for (key, values) in &map {
                pairs.extend(values.iter().map(|(_, value)| (key.clone(), value.clone())));
            }
            prop_assert_eq!(entries, pairs);
        }

        #[test]
        fn damage_makes_no_panic(
            map in maps(),
            text in "[ab]{0,5}",
            damage in prop::collection::vec((any::<sample::Index>(), any::<u8>()), 1..5),
            len in prop::option::of(any::<sample::Index>()),
        ) {
            let mut file = write(&map);
            for (at, byte) in damage {
                let at = at.index(file.len());
                file[at] = byte;
            }
            file.truncate(len.map_or(file.len(), |len| len.index(file.len())));
            if let Ok(index) = Index::new(&file) {
                let _ = (index.find(&text), index.matches(&text), all(index));
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
