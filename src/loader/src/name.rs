//! Module names: `-` and `_` are equal, and a file's name gives its module's.

use core::fmt;

use crate::format::Format;
use crate::text;

/// The part of a path after its last `/`.
pub fn basename(path: &str) -> &str {
    text::rsplit_once(path, b'/').map_or(path, |(_, file)| file)
}

/// A file name without `.ko` and a compression's ending, and which format the ending claims; `None` if it is no module's.
pub fn strip_ko(file: &str) -> Option<(&str, Format)> {
    [Format::Plain, Format::Gzip, Format::Xz, Format::Zstd]
        .into_iter()
        .find_map(|format| Some((file.strip_suffix(format.ending())?.strip_suffix(".ko")?, format)))
}

/// The module's name in `path`, a name or a path to a file, as the kernel would list it.
pub fn of(path: &str) -> Name<'_> {
    let file = basename(path);
    Name(strip_ko(file).map_or(file, |(stem, _)| stem))
}

/// A module's name as written; compares and prints with `_` for every `-`.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a>(pub &'a str);

impl Name<'_> {
    /// Whether this is the name as the kernel writes it; `text` with a `-` is none.
    pub fn is_written(self, text: &str) -> bool {
        self.0.bytes().map(fold).eq(text.bytes())
    }
}

/// What a byte of a name is as the kernel writes it.
pub(crate) fn fold(b: u8) -> u8 {
    if b == b'-' { b'_' } else { b }
}

/// FNV-1a of a name; `-` and `_` are equal.
#[cfg(feature = "names")]
pub(crate) fn hash(name: &str) -> u32 {
    name.bytes().map(fold).fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes().map(fold).eq(other.0.bytes().map(fold))
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some((before, after)) = text::split_once(rest, b'-') {
            f.write_str(before)?;
            f.write_str("_")?;
            rest = after;
        }
        f.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_its_module() {
        assert_eq!(of("kernel/drivers/virtio/virtio-mmio.ko.xz").to_string(), "virtio_mmio");
        assert_eq!(of("ext4").to_string(), "ext4");
        assert_eq!(of("/a.ko/b.ko").to_string(), "b");
        assert_eq!(strip_ko("a.ko.zst"), Some(("a", Format::Zstd)));
        assert_eq!(strip_ko("a.xz"), None);
        assert!(Name("snd-hda_intel") == Name("snd_hda-intel"));
        assert!(Name("a") != Name("ab"));
        assert!(Name("snd-a").is_written("snd_a") && !Name("snd-a").is_written("snd-a"));
    }
}
