//! Trees, made for tests.

use tempfile::TempDir;

use super::tree::Tree;
use crate::module::made::folder;

/// A tree with these files, its release 6.1.0.
pub fn tree(files: &[(&str, &[u8])]) -> (TempDir, Tree) {
    let (tmp, dir) = folder(files);
    (tmp, Tree::find(&dir).unwrap())
}
