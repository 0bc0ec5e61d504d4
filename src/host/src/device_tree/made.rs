//! Device trees, made for tests from a text.

use super::tree::DeviceTree;

/// The tree of [`dtb`].
pub fn tree(text: &str) -> DeviceTree {
    DeviceTree::read(&dtb(text)).unwrap()
}

/// The bytes of a device tree of which `text` says what is in the root: `NAME { … }` is a node, `NAME = s:TEXT|TEXT` a
/// property of texts, `NAME = n:1,2` one of numbers, up to a `;`, the line's end or a brace.
pub fn dtb(text: &str) -> Vec<u8> {
    let (mut structure, mut strings) = (Vec::new(), Vec::new());
    begin(&mut structure, "");
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}', ';', '\n']).or((!rest.is_empty()).then_some(rest.len())) {
        let said = rest[..at].trim();
        match rest[at..].chars().next() {
            Some('{') => begin(&mut structure, said),
            end => {
                property(&mut structure, &mut strings, said);
                if end == Some('}') {
                    structure.extend(2u32.to_be_bytes());
                }
            }
        }
        rest = rest.get(at + 1..).unwrap_or_default();
    }
    structure.extend([2u32, 9].iter().flat_map(|token| token.to_be_bytes()));
    let len = (40 + 16 + structure.len() + strings.len()) as u32;
    let strings_at = (40 + 16 + structure.len()) as u32;
    let header = [
        0xd00d_feed,
        len,
        56,
        strings_at,
        40,
        17,
        16,
        0,
        strings.len() as u32,
        structure.len() as u32,
        // The end of the list of reserved memory.
        0,
        0,
        0,
        0,
    ];
    let header = header.iter().flat_map(|word| word.to_be_bytes());
    header.chain(structure).chain(strings).collect()
}

fn begin(structure: &mut Vec<u8>, name: &str) {
    structure.extend(1u32.to_be_bytes());
    structure.extend(name.bytes().chain([0]));
    pad(structure);
}

fn pad(structure: &mut Vec<u8>) {
    structure.resize(structure.len().next_multiple_of(4), 0);
}

fn property(structure: &mut Vec<u8>, strings: &mut Vec<u8>, said: &str) {
    if said.is_empty() {
        return;
    }
    let (name, value) = said.split_once('=').map_or((said, ""), |(name, value)| (name.trim(), value.trim()));
    let value: Vec<u8> = match value.split_at_checked(2) {
        Some(("s:", texts)) => texts.replace('|', "\0").bytes().chain([0]).collect(),
        Some(("n:", numbers)) => {
            numbers.split(',').flat_map(|n| n.trim().parse::<u32>().unwrap().to_be_bytes()).collect()
        }
        _ => Vec::new(),
    };
    structure.extend([3, value.len() as u32, strings.len() as u32].iter().flat_map(|word| word.to_be_bytes()));
    strings.extend(name.bytes().chain([0]));
    structure.extend(value);
    pad(structure);
}
