//! A flattened device tree, read into nodes.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};

use super::file::{Event, events};

/// Where a node is in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(usize);

/// A device tree; its first node is the root.
#[derive(Clone, Debug, Default)]
pub struct DeviceTree {
    nodes: Vec<Node>,
    phandles: HashMap<u32, NodeId>,
}

/// A node.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its name with its unit address.
    pub name: String,
    /// The node that it is in.
    pub parent: Option<NodeId>,
    properties: Vec<(String, Vec<u8>)>,
}

impl DeviceTree {
    /// Reads a file.
    pub fn load(file: &Path) -> Result<DeviceTree> {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        Self::read(&bytes).with_context(|| {
            format!("{}: not a device tree that can be read; expected a .dtb, as dtc writes it", file.display())
        })
    }

    /// Reads the bytes of a file. What is behind the tree's own end does not count.
    pub fn read(bytes: &[u8]) -> Result<DeviceTree> {
        let mut tree = DeviceTree::default();
        let mut open = None;
        events(bytes, &mut |event| match event {
            Event::Begin(name) => {
                let id = NodeId(tree.nodes.len());
                tree.nodes.push(Node { name: name.into(), parent: open, properties: Vec::new() });
                open = Some(id);
            }
            Event::Property(name, value) => {
                let Some(id) = open else { return };
                tree.nodes[id.0].properties.push((name.into(), value.into()));
                if let ("phandle" | "linux,phandle", Some(phandle)) = (name, value.first_chunk()) {
                    tree.phandles.insert(u32::from_be_bytes(*phandle), id);
                }
            }
            Event::End => open = open.and_then(|id: NodeId| tree.nodes[id.0].parent),
        })?;
        Ok(tree)
    }

    /// All nodes, each behind the one that it is in.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// The root of all.
    pub fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// The node, the one that it is in, and so on up to the root.
    pub fn up(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        std::iter::successors(Some(id), |id| self[*id].parent)
    }

    /// The node that a phandle means.
    pub fn phandle(&self, phandle: u32) -> Option<NodeId> {
        self.phandles.get(&phandle).copied()
    }

    /// Whether a node and all that it is in are enabled (`of_device_is_available`).
    pub fn is_enabled(&self, id: NodeId) -> bool {
        self.up(id).all(|id| self[id].text("status").is_none_or(|status| matches!(status, "okay" | "ok")))
    }

    /// The path of a node, as the kernel names it.
    pub fn path(&self, id: NodeId) -> String {
        let mut names: Vec<_> = self.up(id).map(|id| self[id].name.as_str()).collect();
        names.reverse();
        match names.join("/") {
            root if root.is_empty() => "/".into(),
            path => path,
        }
    }

    /// The enabled node of that name, path or alias of `/aliases`.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        let of_alias = || {
            let aliases = self.ids().find(|id| self.path(*id) == "/aliases")?;
            self[aliases].text(name).map(String::from)
        };
        let is_it = |id: &NodeId| self[*id].name == name || (name.starts_with('/') && self.path(*id) == name);
        let found = self.ids().filter(|id| self.is_enabled(*id)).find(is_it);
        found.or_else(|| of_alias().and_then(|path| self.ids().find(|id| self.path(*id) == path)))
    }
}

impl std::ops::Index<NodeId> for DeviceTree {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }
}

impl Node {
    /// The properties, in their order.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.properties.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// What a property holds.
    pub fn property(&self, name: &str) -> Option<&[u8]> {
        self.properties().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Whether there is such a property.
    pub fn has(&self, name: &str) -> bool {
        self.property(name).is_some()
    }

    /// A property as a number.
    pub fn number(&self, name: &str) -> Option<u32> {
        Some(u32::from_be_bytes(*self.property(name)?.first_chunk()?))
    }

    /// A property as numbers of 32 bits.
    pub fn numbers(&self, name: &str) -> Vec<u32> {
        let words = self.property(name).unwrap_or_default().chunks_exact(4);
        words.map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]])).collect()
    }

    /// A property as texts, without those that are empty or not UTF-8.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        let texts = self.property(name).unwrap_or_default().split(|b| *b == 0);
        texts.filter_map(|text| str::from_utf8(text).ok()).filter(|text| !text.is_empty())
    }

    /// A property as a text, of several the first.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts(name).next()
    }

    /// What it is compatible with, the most special first.
    pub fn compatible(&self) -> impl Iterator<Item = &str> {
        self.texts("compatible")
    }

    /// Its modalias, as the kernel makes it (`of_modalias` of drivers/of/module.c); `None` for a node without `compatible`.
    pub fn modalias(&self) -> Option<String> {
        let name = self.name.split('@').next().unwrap_or_default();
        let kind = self.text("device_type").unwrap_or_default();
        let compatible: String =
            self.compatible().map(|compatible| format!("C{}", compatible.replace(' ', "_"))).collect();
        (!compatible.is_empty()).then(|| format!("of:N{name}T{kind}{compatible}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_tree::made::{dtb, tree};

    const BOARD: &str = "soc { compatible = s:simple-bus
        mmc@1 { compatible = s:x,mmc-2|x,mmc; device_type = s:block; phandle = n:7 }
        mmc@2 { status = s:disabled; card { compatible = s:mmc card } } }
        aliases { mmc0 = s:/soc/mmc@1 }";

    #[test]
    fn nodes_have_the_names_and_modaliases_that_the_kernel_gives_them() {
        let tree = tree(BOARD);
        let mmc = tree.find("mmc@1").unwrap();
        assert_eq!(tree.path(mmc), "/soc/mmc@1");
        assert_eq!(tree[mmc].modalias().unwrap(), "of:NmmcTblockCx,mmc-2Cx,mmc");
        assert_eq!((tree.find("/soc/mmc@1"), tree.find("mmc0"), tree.phandle(7)), (Some(mmc), Some(mmc), Some(mmc)));
        assert_eq!(tree.path(tree.root()), "/");
        assert_eq!(tree[tree.root()].modalias(), None);
        let card = tree.ids().find(|id| tree[*id].name == "card").unwrap();
        assert_eq!(tree[card].modalias().unwrap(), "of:NcardTCmmc_card");
        assert_eq!((tree.is_enabled(mmc), tree.is_enabled(card), tree.find("card")), (true, false, None));
    }

    #[test]
    fn a_bad_file_is_an_error_that_says_what_is_bad() {
        let good = dtb(BOARD);
        let says = |bytes: &[u8]| format!("{:#}", DeviceTree::read(bytes).unwrap_err());
        assert_eq!(says(&good[..3]), "3 bytes, which are not even its header");
        assert_eq!(says(&[&b"\x7fELF"[..], &[0; 36]].concat()), "it begins with 0x7f454c46, not with 0xd00dfeed");
        let cut = says(&good[..good.len() - 1]);
        assert_eq!(cut, format!("cut off: it has {} bytes, its header says {}", good.len() - 1, good.len()));
        DeviceTree::read(&[&good[..], b"behind"].concat()).unwrap();
        // Each byte of the structure in turn: an error, or another tree; never a panic.
        for at in 8..good.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= change;
                let _ = DeviceTree::read(&bad);
            }
        }
        let deep = "n { ".repeat(70) + &"} ".repeat(70);
        assert_eq!(says(&dtb(&deep)), "at byte 568: more than 64 nodes in each other");
    }

    #[test]
    fn a_file_is_named_in_its_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = format!("{:#}", DeviceTree::load(file.path()).unwrap_err());
        let starts = format!("{}: not a device tree that can be read; expected a .dtb", file.path().display());
        assert!(error.starts_with(&starts), "{error}");
    }
}
