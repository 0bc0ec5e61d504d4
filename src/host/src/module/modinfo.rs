//! The pairs of `.modinfo`, as far as they are needed without the rest of an image.

use anyhow::{Context, Result};
use elf::ElfBytes;
use elf::endian::AnyEndian;

/// The pairs of a module's `.modinfo`.
pub(crate) fn modinfo(image: &[u8]) -> Result<Vec<(&str, &str)>> {
    let elf = ElfBytes::<AnyEndian>::minimal_parse(image)?;
    let section = elf.section_header_by_name(".modinfo")?.context("not a module: no .modinfo in it")?;
    let (data, _) = elf.section_data(&section)?;
    let texts = data.split(|b| *b == 0).filter_map(|text| std::str::from_utf8(text).ok());
    Ok(texts.filter_map(|text| text.split_once('=')).collect())
}

/// The release of the kernel that a module's image was built for, if it tells.
pub(crate) fn release(image: &[u8]) -> Result<Option<String>> {
    let vermagic = modinfo(image)?.into_iter().find(|(key, _)| *key == "vermagic");
    Ok(vermagic.and_then(|(_, value)| Some(value.split(' ').next()?.into())))
}
