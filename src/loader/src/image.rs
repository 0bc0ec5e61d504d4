//! What a module file is: its format by magic, and what its ELF header says (elf(5), the kernel's `elf_validity_check`).
//!
//! Nothing here is needed to load a good module. It serves the choice of a path for a compressed one, and the explanation
//! of a refused one.

use core::fmt;

use crate::errno::Errno;
use crate::kernel::{FileKind, Kernel};
use crate::text;

/// How a file holds its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The machine this is built for, as an ELF header says it: class, byte order, `e_machine`.
pub const THIS_MACHINE: Machine = Machine {
    class: if cfg!(target_pointer_width = "64") { 2 } else { 1 },
    data: if cfg!(target_endian = "little") { 1 } else { 2 },
    machine: if cfg!(target_arch = "arm") {
        40
    } else if cfg!(target_arch = "aarch64") {
        183
    } else if cfg!(target_arch = "riscv64") {
        243
    } else {
        62
    },
};

/// What an ELF file is for: `EI_CLASS`, `EI_DATA` and `e_machine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// 1 for 32 bits, 2 for 64 bits.
    pub class: u8,
    /// 1 for little-endian, 2 for big-endian.
    pub data: u8,
    /// `EM_*`.
    pub machine: u16,
}

/// `EM_*` of architectures that Linux runs on, and their names in the same order.
const MACHINES: [u16; 10] = [3, 8, 20, 21, 22, 40, 62, 183, 243, 258];
const MACHINE_NAMES: &str = "x86,MIPS,PowerPC,PowerPC64,S/390,Arm,x86-64,AArch64,RISC-V,LoongArch";

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = MACHINES.iter().position(|number| *number == self.machine);
        let Some(name) = at.and_then(|at| text::fields(MACHINE_NAMES, b',').nth(at)) else {
            return write!(f, "machine {}", usize::from(self.machine));
        };
        // Of these three, the name leaves it open.
        let bits = match (self.machine, self.class) {
            (8 | 243 | 258, 1) => " (32 bits)",
            (8 | 243 | 258, 2) => " (64 bits)",
            _ => "",
        };
        let order = if self.data == 2 { " big-endian" } else { "" };
        write!(f, "{name}{bits}{order}")
    }
}

/// What makes a file no module that this kernel could take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Fault {
    Unreadable(Errno),
    NotRegular(FileKind),
    Empty,
    NotElf([u8; 4]),
    OtherMachine(Machine),
    NotRelocatable(usize),
    /// The file ends before the bytes that its headers name.
    Truncated {
        needs_bytes: u64,
        has_bytes: u64,
    },
    /// No symbol table: the kernel cannot link it.
    Stripped,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unreadable(errno) => write!(f, "the file cannot be read ({errno})"),
            Fault::NotRegular(FileKind::Directory) => f.write_str("it is a directory, not a module"),
            Fault::NotRegular(_) => f.write_str("it is a device, FIFO or socket, not a module"),
            Fault::Empty => f.write_str("the file is empty"),
            Fault::NotElf([a, b, c, d]) => {
                write!(f, "not a module: it begins with {a:02x} {b:02x} {c:02x} {d:02x}, not with the magic of ELF")
            }
            Fault::OtherMachine(machine) => write!(f, "built for {machine}; this machine is {THIS_MACHINE}"),
            Fault::NotRelocatable(2 | 3) => f.write_str("it is a program or a shared library, not a module"),
            Fault::NotRelocatable(kind) => write!(f, "its ELF type is {kind}, not that of a module (1, ET_REL)"),
            Fault::Truncated { needs_bytes, has_bytes } => {
                write!(f, "the file is truncated: it has {has_bytes} bytes, and its headers speak of {needs_bytes}")
            }
            Fault::Stripped => f.write_str("the module is stripped: it has no symbol table, so it cannot be linked"),
        }
    }
}

/// What matters of an ELF header.
struct Header {
    kind: u16,
    sections_at: u64,
    section_bytes: u16,
    sections: u16,
}

/// The fields of a header of this machine's class and byte order; `None` past its end.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    fn half(&self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_ne_bytes)
    }

    /// An offset or a length.
    fn word(&self, at: usize) -> Option<u64> {
        self.bytes(at).map(|bytes| usize::from_ne_bytes(bytes) as u64)
    }
}

/// One of two offsets, by this machine's class.
const fn at(at32: usize, at64: usize) -> usize {
    if THIS_MACHINE.class == 1 { at32 } else { at64 }
}

/// Length of the longest ELF header.
const HEADER_BYTES: usize = 64;

impl Machine {
    /// As the start of an ELF file says it.
    fn parse(bytes: &[u8]) -> Option<Machine> {
        let (class, data) = (*bytes.get(4)?, *bytes.get(5)?);
        let machine = Fields(bytes).bytes(18)?;
        let machine = if data == 2 { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
        Some(Machine { class, data, machine })
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Header> {
        let fields = Fields(bytes);
        Some(Header {
            kind: fields.half(16)?,
            sections_at: fields.word(at(0x20, 0x28))?,
            section_bytes: fields.half(at(0x2e, 0x3a))?,
            sections: fields.half(at(0x30, 0x3c))?,
        })
    }
}

/// The format that the first bytes of `file` tell.
pub fn format_of<K: Kernel>(kernel: &K, file: &K::File) -> Result<Format, Errno> {
    let mut magic = [0; Format::MAGIC_BYTES];
    let len = kernel.read_at(file, &mut magic, 0)?;
    Ok(Format::of(&magic[..len]))
}

/// Looks for what is wrong with a plain module file; `None` when nothing that the headers show is.
pub fn examine<K: Kernel>(kernel: &K, file: &K::File) -> Option<Fault> {
    examine_fallible(kernel, file).err()
}

fn examine_fallible<K: Kernel>(kernel: &K, file: &K::File) -> Result<(), Fault> {
    let stat = kernel.stat(file).map_err(Fault::Unreadable)?;
    if stat.kind != FileKind::Regular {
        return Err(Fault::NotRegular(stat.kind));
    }
    if stat.size_bytes == 0 {
        return Err(Fault::Empty);
    }
    let has_bytes = stat.size_bytes;
    let read = |buf: &mut [u8], at: u64| kernel.read_at(file, buf, at).map_err(Fault::Unreadable);
    let mut buf = [0; HEADER_BYTES];
    let len = read(&mut buf, 0)?;
    if buf[..4] != *b"\x7fELF" {
        return Err(Fault::NotElf([buf[0], buf[1], buf[2], buf[3]]));
    }
    let truncated = |needs_bytes| Fault::Truncated { needs_bytes, has_bytes };
    let machine = Machine::parse(&buf[..len]).ok_or(truncated(HEADER_BYTES as u64))?;
    if machine != THIS_MACHINE {
        return Err(Fault::OtherMachine(machine));
    }
    let header = Header::parse(&buf[..len]).ok_or(truncated(HEADER_BYTES as u64))?;
    if header.kind != 1 {
        return Err(Fault::NotRelocatable(header.kind.into()));
    }
    let sections_end = header
        .sections_at
        .checked_add(u64::from(header.section_bytes) * u64::from(header.sections))
        .ok_or(truncated(u64::MAX))?;
    if sections_end > has_bytes {
        return Err(truncated(sections_end));
    }
    let mut has_symbols = false;
    for i in 0..u64::from(header.sections) {
        let len = read(&mut buf, header.sections_at + i * u64::from(header.section_bytes))?;
        let fields = Fields(&buf[..len]);
        let section = || {
            let kind = u32::from_ne_bytes(fields.bytes(4)?);
            Some((kind, fields.word(at(0x10, 0x18))?, fields.word(at(0x14, 0x20))?))
        };
        let (kind, start, len) = section().ok_or(truncated(sections_end))?;
        const SHT_SYMTAB: u32 = 2;
        const SHT_NOBITS: u32 = 8;
        has_symbols |= kind == SHT_SYMTAB;
        let end = start.saturating_add(len);
        if kind != SHT_NOBITS && end > has_bytes {
            return Err(truncated(end));
        }
    }
    if has_symbols { Ok(()) } else { Err(Fault::Stripped) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    fn fault(bytes: &[u8]) -> Option<Fault> {
        let fake = Fake::default().with_file("/m.ko", bytes);
        examine(&fake, &fake.open(c"/m.ko").unwrap())
    }

    /// A relocatable file for this machine with a symbol table of 24 bytes behind its two section headers.
    fn module() -> Vec<u8> {
        let mut elf = vec![0; 64 + 128 + 24];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[16] = 1;
        elf[18..20].copy_from_slice(&THIS_MACHINE.machine.to_le_bytes());
        elf[0x28] = 64;
        elf[0x3a] = 64;
        elf[0x3c] = 2;
        elf[128 + 4] = 2;
        elf[128 + 0x18] = 192;
        elf[128 + 0x20] = 24;
        elf
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(fault(&module()), None);
        assert_eq!(fault(b""), Some(Fault::Empty));
        assert_eq!(fault(b"<htm"), Some(Fault::NotElf(*b"<htm")));
        let changed = |at: usize, value: u8| {
            let mut elf = module();
            elf[at] = value;
            fault(&elf)
        };
        let riscv = Machine { class: 2, data: 1, machine: 243 };
        assert_eq!(changed(18, 243), Some(Fault::OtherMachine(riscv)));
        assert_eq!(riscv.to_string(), "RISC-V (64 bits)");
        assert_eq!(changed(16, 3), Some(Fault::NotRelocatable(3)));
        assert_eq!(changed(128 + 4, 3), Some(Fault::Stripped));
        assert_eq!(
            changed(0x2f, 0xff).unwrap().to_string(),
            "the file is truncated: it has 216 bytes, and its headers speak of 18374686479671623872"
        );
        for len in 1..module().len() {
            let fault = fault(&module()[..len]);
            assert!(matches!(fault, Some(Fault::Truncated { .. } | Fault::NotElf(_))), "{len}: {fault:?}");
        }
    }

    #[test]
    fn the_magic_tells_the_format() {
        assert_eq!(Format::of(b"\x1f\x8b\x08"), Format::Gzip);
        assert_eq!(Format::of(b"\xfd7zXZ\0"), Format::Xz);
        assert_eq!(Format::of(b"\x28\xb5\x2f\xfd\x04"), Format::Zstd);
        assert_eq!(Format::of(b"\x7fELF"), Format::Plain);
        assert_eq!(Format::of(b""), Format::Plain);
    }
}
