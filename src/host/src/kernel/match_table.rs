//! What the drivers in a kernel are for, read from the kernel itself.
//!
//! No file says it: `modules.builtin.modinfo` has no aliases of device trees up to Linux 6.12. The tables are in the kernel as
//! drivers have them, `struct of_device_id` of include/linux/mod_devicetable.h.

use std::collections::BTreeSet;

/// The lengths of the entry's `name` and `type` together, and of its `compatible`.
const NAME_AND_TYPE: usize = 64;
const COMPATIBLE: usize = 128;

/// The texts in a kernel that are as `compatible` in such a table: alone between zeros, where `name` and `type` are empty.
/// Those of other structures may be among them.
pub(crate) fn compatible_texts(kernel: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut at = NAME_AND_TYPE;
    while let Some(entry) = kernel.get(at..at + COMPATIBLE) {
        if entry[0] == 0 {
            at += 4;
            continue;
        }
        let is_free = || kernel[at - NAME_AND_TYPE..at].iter().all(|b| *b == 0);
        if let Some(text) = text(entry).filter(|_| is_free()) {
            found.insert(text.to_string());
            at += COMPATIBLE;
        } else {
            at += 4;
        }
    }
    found
}

/// The text at the beginning, if all behind it is zero.
fn text(entry: &[u8]) -> Option<&str> {
    let len = entry.iter().position(|b| *b == 0)?;
    let is_rest_zero = entry[len..].iter().all(|b| *b == 0);
    let text = str::from_utf8(&entry[..len]).ok().filter(|_| is_rest_zero)?;
    text.bytes().all(|b| b.is_ascii_graphic()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_found_and_texts_among_others_are_not() {
        let entry = |compatible: &str| {
            let mut bytes = vec![0; NAME_AND_TYPE];
            bytes.extend(compatible.bytes());
            bytes.resize(NAME_AND_TYPE + COMPATIBLE, 0);
            bytes.extend(0xffff_8000_1234_5678u64.to_le_bytes());
            bytes
        };
        let kernel =
            [b"text\0not,this\0".to_vec(), vec![0; 2], entry("x,mmc"), entry("y,gpio-2"), vec![0; 300]].concat();
        assert_eq!(compatible_texts(&kernel).into_iter().collect::<Vec<_>>(), ["x,mmc", "y,gpio-2"]);
        assert!(compatible_texts(b"short").is_empty());
    }
}
