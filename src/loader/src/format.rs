//! How a module file holds its image: plain or compressed, by its magic. What the image says of itself is for [`crate::elf`].

/// How a file holds its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Not compressed.
    Plain,
    /// gzip (RFC 1952).
    Gzip,
    /// xz (The .xz File Format 1.2).
    Xz,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Format {
    /// The first bytes of a file that [`Format::of`] wants.
    pub const MAGIC_BYTES: usize = 6;

    /// The format that a file's first bytes tell; [`Format::Plain`] for all others.
    pub fn of(magic: &[u8]) -> Format {
        const MAGICS: [(Format, &[u8]); 3] =
            [(Format::Gzip, b"\x1f\x8b"), (Format::Xz, b"\xfd7zXZ\0"), (Format::Zstd, b"\x28\xb5\x2f\xfd")];
        MAGICS.iter().find(|(_, start)| magic.starts_with(start)).map_or(Format::Plain, |(format, _)| *format)
    }

    /// What such a file's name ends in, after `.ko`.
    pub fn ending(self) -> &'static str {
        match self {
            Format::Plain => "",
            Format::Gzip => ".gz",
            Format::Xz => ".xz",
            Format::Zstd => ".zst",
        }
    }

    /// As `/sys/module/compression` names it, and people do.
    pub fn name(self) -> &'static str {
        match self {
            Format::Plain => "plain",
            Format::Gzip => "gzip",
            Format::Xz => "xz",
            Format::Zstd => "zstd",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_magic_tells_the_format() {
        assert_eq!(Format::of(b"\x1f\x8b\x08"), Format::Gzip);
        assert_eq!(Format::of(b"\xfd7zXZ\0"), Format::Xz);
        assert_eq!(Format::of(b"\x28\xb5\x2f\xfd\x04"), Format::Zstd);
        assert_eq!(Format::of(b"\x7fELF"), Format::Plain);
        assert_eq!(Format::of(b""), Format::Plain);
    }
}
