//! Which module of a tree exports a symbol.

use std::collections::HashMap;
use std::fs;

use modest_loader::name;
use modest_loader::resolve::index::Index;

use super::tree::Tree;

/// Which module of a tree exports a symbol, by its `modules.symbols`.
pub struct TreeSymbols {
    binary: Vec<u8>,
    text: String,
    files: HashMap<String, String>,
}

impl TreeSymbols {
    /// Of a tree that may have neither form of it; then nothing is known.
    pub fn of(tree: &Tree) -> TreeSymbols {
        let dir = tree.index_dir();
        let files = tree.indexed("modules.dep").into_iter().map(|file| (name::of(&file).to_string(), file));
        TreeSymbols {
            binary: fs::read(dir.join("modules.symbols.bin")).unwrap_or_default(),
            text: fs::read_to_string(dir.join("modules.symbols")).unwrap_or_default(),
            files: files.collect(),
        }
    }

    /// The file of the module that exports it.
    pub fn exporter(&self, symbol: &str) -> Option<&str> {
        let key = format!("symbol:{symbol}");
        let of_binary = || Some(Index::new(&self.binary.as_slice()).ok()?.find(&key).ok()??.to_string());
        let of_text = || {
            let line =
                |line: &str| Some(line.strip_prefix("alias ")?.strip_prefix(&key)?.strip_prefix(' ')?.to_string());
            self.text.lines().find_map(line)
        };
        self.files.get(&of_binary().or_else(of_text)?).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::super::made::tree;
    use super::*;

    #[test]
    fn a_tree_tells_who_exports() {
        let files: &[(&str, &[u8])] = &[
            ("modules.dep", b"k/crc-16.ko.xz:\n"),
            ("modules.symbols", b"# Aliases\nalias symbol:crc16 crc_16\nalias symbol:gone gone\n"),
        ];
        let (_tmp, tree) = tree(files);
        let symbols = TreeSymbols::of(&tree);
        assert_eq!(symbols.exporter("crc16"), Some("k/crc-16.ko.xz"));
        assert_eq!((symbols.exporter("crc1"), symbols.exporter("gone")), (None, None));
    }
}
