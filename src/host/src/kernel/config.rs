//! A kernel's configuration, as its build left it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use memchr::memmem;
use modest_loader::format::Format;

use super::package::KernelPackage;
use super::tree::Tree;
use crate::codec::first_stream;

/// What a kernel was built with.
#[derive(Clone, Debug, Default)]
pub struct KernelConfig {
    /// Where it was read, for messages.
    pub file: PathBuf,
    values: HashMap<String, String>,
}

impl KernelConfig {
    /// Reads lines `CONFIG_NAME=VALUE`.
    pub fn parse(file: &Path, text: &str) -> KernelConfig {
        let option = |line: &str| {
            let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
            Some((name.to_string(), value.trim().to_string()))
        };
        KernelConfig { file: file.into(), values: text.lines().filter_map(option).collect() }
    }

    /// Reads a file of that form, or what a kernel with `CONFIG_IKCONFIG` has of it in itself.
    pub fn read(file: &Path) -> Result<Option<KernelConfig>> {
        let bytes = fs::read(file).with_context(|| file.display().to_string())?;
        let text = match str::from_utf8(&bytes) {
            Ok(text) => Some(text.to_string()),
            Err(_) => in_kernel(&bytes),
        };
        let config = text.map(|text| Self::parse(file, &text));
        Ok(config.filter(|config| !config.values.is_empty()))
    }

    /// The configuration of the kernel of `tree`, if it is beside the modules, where a build or a distribution leaves it, or in the
    /// kernel.
    pub fn find(tree: &Tree, kernel: Option<&KernelPackage>) -> Result<Option<KernelConfig>> {
        let release = &tree.release;
        let root = tree.dir.ancestors().nth(3).unwrap_or(&tree.dir);
        let beside =
            [tree.dir.join("config"), tree.dir.join("build/.config"), root.join(format!("boot/config-{release}"))];
        let own = kernel
            .map(|kernel| [kernel.dir.join("config"), kernel.dir.join(format!("config-{release}")), kernel.image()]);
        for file in beside.into_iter().chain(own.into_iter().flatten()).filter(|file| file.is_file()) {
            if let Some(config) = Self::read(&file)? {
                return Ok(Some(config));
            }
        }
        Ok(None)
    }

    /// Whether an option is on, in the kernel or as a module.
    pub fn has(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| value == "y" || value == "m")
    }

    /// Whether the kernel has an option in itself.
    pub fn is_builtin(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| value == "y")
    }
}

/// The configuration in a kernel that is not compressed: gzip behind a mark (kernel/configs.c).
fn in_kernel(kernel: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"IKCFG_ST";
    let at = memmem::find(kernel, MARK)? + MARK.len();
    String::from_utf8(first_stream(&kernel[at..], Format::Gzip).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::encode;

    #[test]
    fn it_is_read_from_a_file_and_from_a_kernel() {
        let text = "#\n# CONFIG_RD_XZ is not set\nCONFIG_RD_GZIP=y\nCONFIG_EXT4_FS=m\nCONFIG_X=\"y\"\n";
        let file = tempfile::NamedTempFile::new().unwrap();
        let kernel =
            [&b"\xff\xfeMZ IKCFG_ST"[..], &encode(text.as_bytes(), Format::Gzip).unwrap(), b"IKCFG_ED\xff"].concat();
        for bytes in [text.as_bytes(), &kernel] {
            fs::write(file.path(), bytes).unwrap();
            let config = KernelConfig::read(file.path()).unwrap().unwrap();
            let has = ["RD_GZIP", "RD_XZ", "EXT4_FS", "X"].map(|name| config.has(name));
            assert_eq!((has, config.is_builtin("EXT4_FS")), ([true, false, true, false], false));
        }
        fs::write(file.path(), b"\xffno configuration").unwrap();
        assert!(KernelConfig::read(file.path()).unwrap().is_none());
    }
}
