use super::super::pattern::{WILDCARDS, matches_pattern};
use super::*;
use modest_index_writer::binary_index;
use proptest::prelude::*;
use proptest::sample;
use std::collections::BTreeMap;

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

fn write(map: &Map) -> Vec<u8> {
    // The writer puts the last of one priority first.
    let values = |(key, values): (&String, &Vec<(u32, String)>)| {
        values.iter().rev().map(|(priority, value)| (key.clone(), *priority, value.clone())).collect::<Vec<_>>()
    };
    binary_index(map.iter().flat_map(values)).unwrap()
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
    let file = write(&map(&[("ext4", 1, "ext4.ko: jbd2.ko"), ("ext2", 0, "ext2.ko:"), ("e", 2, "b"), ("e", 1, "a")]));
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

}
