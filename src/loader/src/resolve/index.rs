//! depmod's binary indexes (`modules.dep.bin`, `modules.alias.bin`, `modules.symbols.bin`, `modules.builtin.bin`,
//! `modules.builtin.alias.bin`), read in place: a lookup touches the few pages that its key leads to.
//!
//! The format is described in kmod's libkmod/libkmod-index.c. Its numbers are big-endian. A header has magic, version
//! and the root's offset; behind it are the nodes of a trie. A node's offset says in its upper bits which parts it has,
//! of a prefix, children and values; a child is chosen by the byte of the key behind the prefix. Depending on its
//! version, depmod writes a node before or behind its children; no node has two parents.

use core::fmt;

use super::pattern::{WILDCARDS, glob, may_match};
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
            IndexError::NotAnIndex => f.write_str("it is not a binary index of depmod"),
            IndexError::Version(version) => {
                let (major, minor) = (version >> 16, version & 0xffff);
                write!(f, "the index has version {major}.{minor}; only version {MAJOR} is known")
            }
            IndexError::Damaged { offset } => {
                write!(f, "the index is damaged at byte {offset} (run depmod to make a new one)")
            }
            IndexError::LongKey => write!(f, "a key of the index is over INDEX_KEY_BYTES, {INDEX_KEY_BYTES}"),
            IndexError::TooDeep => write!(f, "the index is nested over INDEX_DEPTH, {INDEX_DEPTH}"),
            IndexError::Read(errno) => write!(f, "{errno}: the index cannot be read"),
            IndexError::TooManyMatches => write!(f, "more modules match than ALIAS_MATCHES, {ALIAS_MATCHES}"),
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
    /// [`super::pattern::matches_pattern`]. Unlike kmod, no key is found twice where `text` has such characters itself.
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
        // A device tree's aliases begin alike, all thousands of them: what `text` does not begin with is not entered.
        let enters = |key: &[u8]| may_match(key, text);
        self.walk(begin, top, &enters, &mut |key, values| if glob(key, text) { found.add(values) } else { Ok(()) })
    }

    /// Visits each key with each of its values, lesser keys first, but what begins with another key before that.
    pub fn each(&self, visit: &mut dyn FnMut(&str, &'m str)) -> Result<(), IndexError> {
        let Some(root) = self.node(self.root)? else { return Ok(()) };
        self.walk(&[], root, &|_| true, &mut |key, values| {
            let key = core::str::from_utf8(key).map_err(|_| values.reader.damaged())?;
            while let Some((_, value)) = values.next()? {
                visit(key, value);
            }
            Ok(())
        })
    }

    /// Visits `top` and all nodes below that have values, a node behind its children, each with its key behind `begin`; none below
    /// a key that `enters` does not let in.
    fn walk(
        &self, begin: &[u8], top: Node<'m>, enters: &dyn Fn(&[u8]) -> bool, visit: &mut Visit<'_, 'm>,
    ) -> Result<(), IndexError> {
        let mut key = heapless::Vec::<u8, INDEX_KEY_BYTES>::from_slice(begin).map_err(|_| IndexError::LongKey)?;
        let mut path = heapless::Vec::<PathNode, INDEX_DEPTH>::new();
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
                let node = if enters(&key) { node } else { node.emptied() };
                path.push(PathNode { node, key_bytes: key.len() }).map_err(|_| IndexError::TooDeep)?;
            }
            let Some(PathNode { node, key_bytes }) = path.last_mut() else { return Ok(()) };
            key.truncate(*key_bytes);
            if let Some((byte, child)) = node.next_child() {
                if child & OFFSET != 0 {
                    key.push(byte).map_err(|_| IndexError::LongKey)?;
                    // Not even read, where it does not matter.
                    entered = if enters(&key) { self.node(child)? } else { None };
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
struct PathNode<'m> {
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
    /// The same without children and values.
    fn emptied(self) -> Self {
        Node { children: &[], has_values: false, ..self }
    }

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

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
