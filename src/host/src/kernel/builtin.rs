//! Indexes of what is built into a kernel.

use std::path::Path;

use anyhow::{Context, Result};
use modest_index_writer::binary_index;
use modest_loader::name;

use super::aliases::alias_index;
use super::files::read_if_there;

/// An index, made of the bytes of another file.
type Make = fn(&[u8]) -> Result<Vec<u8>>;

/// The indexes of what is built into the kernel, by their names: those in `dir`, or what stands in for them there.
pub fn builtin_files(dir: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    const FILES: [(&str, &str, Make); 2] = [
        ("modules.builtin.bin", "modules.builtin", |text| builtin_bin(str::from_utf8(text)?)),
        ("modules.builtin.alias.bin", "modules.builtin.modinfo", builtin_alias_bin),
    ];
    let mut files = Vec::new();
    for (name, source, make) in FILES {
        let source = dir.join(source);
        let bytes = match read_if_there(&dir.join(name))? {
            Some(bytes) => Some(bytes),
            None => read_if_there(&source)?
                .map(|bytes| make(&bytes).with_context(|| source.display().to_string()))
                .transpose()?,
        };
        files.extend(bytes.map(|bytes| (name, bytes)));
    }
    Ok(files)
}

/// The bytes of `modules.builtin.bin`, from the text of `modules.builtin`.
pub fn builtin_bin(builtin: &str) -> Result<Vec<u8>> {
    Ok(binary_index(builtin.lines().map(|path| (name::of(path).to_string(), 0, String::new())))?)
}

/// The bytes of `modules.builtin.alias.bin`, from those of `modules.builtin.modinfo`.
pub fn builtin_alias_bin(modinfo: &[u8]) -> Result<Vec<u8>> {
    alias_index(builtin_aliases(modinfo).map(|(alias, module)| (alias, 0, module)))
}

/// The aliases in the bytes of `modules.builtin.modinfo`, each with its module.
pub(crate) fn builtin_aliases(modinfo: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let texts = modinfo.split(|b| *b == 0).filter_map(|text| str::from_utf8(text).ok());
    texts.filter_map(|text| {
        let (key, alias) = text.split_once('=')?;
        Some((alias, key.strip_suffix(".alias")?))
    })
}
