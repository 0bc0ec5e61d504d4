//! Indexes of aliases.

use anyhow::{Result, bail};
use modest_index_writer::binary_index;
use modest_loader::limits::INDEX_KEY_BYTES;
use modest_loader::resolve::pattern::{AliasError, normalize_alias};

/// An index of aliases, each with a priority and the name of its module.
pub(crate) fn alias_index<'a>(aliases: impl Iterator<Item = (&'a str, u32, &'a str)>) -> Result<Vec<u8>> {
    let mut entries = Vec::new();
    for (alias, priority, name) in aliases {
        let mut key = heapless::String::<INDEX_KEY_BYTES>::new();
        match normalize_alias(alias, &mut key) {
            Ok(()) => entries.push((key.to_string(), priority, name.to_string())),
            // Nothing that is looked up is like it; depmod too has it in the text alone.
            Err(AliasError::Brackets) => {}
            Err(error @ AliasError::Long) => bail!("{name}: {error}: {alias}"),
        }
    }
    Ok(binary_index(entries)?)
}
