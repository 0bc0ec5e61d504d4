//! Writes binary indexes (`modules.dep.bin` and others) byte by byte as depmod(8) does; [`modest_loader::resolve::index`]
//! describes the format and reads it.
//!
//! This is a crate of its own, since mkmodest needs it, and so do the loader's tests and fuzzing, which build without
//! mkmodest.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use modest_loader::resolve::index::{HAS_CHILDREN, HAS_PREFIX, HAS_VALUES, MAGIC, MAJOR, OFFSET};

/// Why an index cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// This key is not ASCII, and a node has 128 children at most.
    NotAscii(String),
    /// This key or its value holds a NUL, which ends texts in an index.
    #[allow(missing_docs)]
    Nul { key: String, value: String },
    /// The file would be longer than its offsets reach.
    TooLong,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            WriteError::NotAscii(key) => write!(f, "a key of an index that is not ASCII: {key}"),
            WriteError::Nul { key, value } => write!(f, "a NUL in an index: {key:?} {value:?}"),
            WriteError::TooLong => write!(f, "an index over {OFFSET} bytes"),
        }
    }
}

impl Error for WriteError {}

/// The bytes of an index with these keys, each with a priority and a value. Of the values of a key, the one with the
/// lowest priority comes first; of those with the same priority, the last.
pub fn binary_index(entries: impl IntoIterator<Item = (String, u32, String)>) -> Result<Vec<u8>, WriteError> {
    let mut keys = BTreeMap::<String, Vec<(u32, String)>>::new();
    for (key, priority, value) in entries {
        if !key.is_ascii() {
            return Err(WriteError::NotAscii(key));
        }
        if key.contains('\0') || value.contains('\0') {
            return Err(WriteError::Nul { key, value });
        }
        let values = keys.entry(key).or_default();
        values.insert(values.partition_point(|(before, _)| *before < priority), (priority, value));
    }
    let mut file = [MAGIC, MAJOR << 16 | 1, 0].map(u32::to_be_bytes).concat();
    // The root never has a prefix.
    let root = write_node(&mut file, &keys.iter().collect::<Vec<_>>(), 0, 0);
    if file.len() > OFFSET as usize {
        return Err(WriteError::TooLong);
    }
    file[8..12].copy_from_slice(&root.to_be_bytes());
    Ok(file)
}

/// A key, and its values by priority.
type Entry<'a> = (&'a String, &'a Vec<(u32, String)>);

/// Writes the node of `entries` behind its children, and returns its offset. Their keys are the same up to `end`; what is
/// before `start` the nodes above say, and the rest is the prefix.
fn write_node(file: &mut Vec<u8>, entries: &[Entry], start: usize, end: usize) -> u32 {
    let (own, below) = entries.split_at(usize::from(entries.first().is_some_and(|(key, _)| key.len() == end)));
    let byte = |entry: &Entry| entry.0.as_bytes()[end];
    let children: Vec<_> = below
        .chunk_by(|a, b| byte(a) == byte(b))
        .map(|entries| (byte(&entries[0]), write_node(file, entries, end + 1, common(entries, end + 1))))
        .collect();
    let mut offset = file.len() as u32;
    if let [(key, _), ..] = entries
        && start < end
    {
        offset |= HAS_PREFIX;
        file.extend(&key.as_bytes()[start..end]);
        file.push(0);
    }
    if let ([(first, _), ..], [.., (last, _)]) = (&children[..], &children[..]) {
        offset |= HAS_CHILDREN;
        file.extend([first, last]);
        let mut slots = vec![0; usize::from(last - first) + 1];
        children.iter().for_each(|(byte, child)| slots[usize::from(byte - first)] = *child);
        file.extend(slots.into_iter().flat_map(u32::to_be_bytes));
    }
    if let [(_, values)] = own {
        offset |= HAS_VALUES;
        file.extend((values.len() as u32).to_be_bytes());
        for (priority, value) in *values {
            file.extend(priority.to_be_bytes());
            file.extend(value.as_bytes());
            file.push(0);
        }
    }
    offset
}

/// Up to where the keys of `entries`, sorted and the same up to `at`, are the same.
fn common(entries: &[Entry], at: usize) -> usize {
    let ([(first, _), ..], [.., (last, _)]) = (entries, entries) else { return at };
    at + first.bytes().zip(last.bytes()).skip(at).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(entries: &[(&str, u32, &str)]) -> Result<Vec<u8>, WriteError> {
        binary_index(entries.iter().map(|(key, priority, value)| (key.to_string(), *priority, value.to_string())))
    }

    #[test]
    fn an_index_is_as_depmod_writes_it() {
        let header = b"\xb0\x07\xf4\x57\0\x02\0\x01";
        assert_eq!(index(&[]).unwrap(), [&header[..], &[0, 0, 0, 12]].concat());
        let child = b"bc\0\0\0\0\x02\0\0\0\x01x\0\0\0\0\x02y\0";
        let root = b"aa\xc0\0\0\x0c";
        let file = [&header[..], &[0x20, 0, 0, 31], child, root].concat();
        assert_eq!(index(&[("abc", 2, "y"), ("abc", 1, "x")]).unwrap(), file);
    }

    #[test]
    fn what_an_index_cannot_hold_is_named() {
        assert_eq!(index(&[("ä", 0, "")]).unwrap_err().to_string(), "a key of an index that is not ASCII: ä");
        assert_eq!(index(&[("a", 0, "x\0y")]).unwrap_err().to_string(), r#"a NUL in an index: "a" "x\0y""#);
    }
}
