//! What an ELF module file says of itself (elf(5), `elf_validity_check` and `load_module` of kernel/module/main.c), read a few
//! bytes at a time, every offset checked.
//!
//! Nothing here is needed to load a good module. It serves the explanation of a refused one, and checks before a load.

use core::fmt;

use crate::kernel::{FileKind, Kernel};
use crate::source::DecodeError;
use crate::text;
use crate::{
    limits::{ELF_KEPT_BYTES, ELF_NAMES, INFO_BYTES, SYMBOL_BYTES},
    source::Source,
};

/// The bytes of an image, in whatever order they are asked for.
pub trait Bytes {
    /// How many there are.
    fn len_bytes(&mut self) -> Result<u64, DecodeError>;
    /// Fills `buf` with those from `at` on: how many, fewer only where they end.
    fn read_at(&mut self, buf: &mut [u8], at: u64) -> Result<usize, DecodeError>;
}

impl<B: Bytes + ?Sized> Bytes for &mut B {
    fn len_bytes(&mut self) -> Result<u64, DecodeError> {
        (**self).len_bytes()
    }

    fn read_at(&mut self, buf: &mut [u8], at: u64) -> Result<usize, DecodeError> {
        (**self).read_at(buf, at)
    }
}

impl Bytes for &[u8] {
    fn len_bytes(&mut self) -> Result<u64, DecodeError> {
        Ok(self.len() as u64)
    }

    fn read_at(&mut self, buf: &mut [u8], at: u64) -> Result<usize, DecodeError> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

/// The bytes of a file that is not compressed.
pub struct FileBytes<'k, K: Kernel> {
    /// What reads it.
    pub kernel: &'k K,
    /// The open file.
    pub file: &'k K::File,
}

impl<K: Kernel> Bytes for FileBytes<'_, K> {
    fn len_bytes(&mut self) -> Result<u64, DecodeError> {
        self.kernel.stat(self.file).map(|stat| stat.size_bytes).map_err(DecodeError::Read)
    }

    fn read_at(&mut self, buf: &mut [u8], at: u64) -> Result<usize, DecodeError> {
        crate::decode::read_full_at(self.kernel, self.file, buf, at)
    }
}

/// The bytes that a decoder makes, of which the last are kept: asked for earlier ones it begins anew.
pub struct Decoded<'s> {
    source: &'s mut dyn Source,
    kept: [u8; ELF_KEPT_BYTES],
    /// Where what is kept begins in the image, and how much it is.
    start: u64,
    filled: usize,
    len_bytes: Option<u64>,
}

impl<'s> Decoded<'s> {
    /// Of a source at its start.
    pub fn new(source: &'s mut dyn Source) -> Self {
        Decoded { source, kept: [0; ELF_KEPT_BYTES], start: 0, filled: 0, len_bytes: None }
    }

    /// Decodes more; `false` at the end.
    fn advance(&mut self) -> Result<bool, DecodeError> {
        if self.len_bytes == Some(self.start + self.filled as u64) {
            return Ok(false);
        }
        let half = self.kept.len() / 2;
        if self.filled == self.kept.len() {
            self.kept.copy_within(half.., 0);
            self.filled = half;
            self.start += half as u64;
        }
        let wanted = half - self.filled % half;
        let read = self.source.read(&mut self.kept[self.filled..self.filled + wanted])?;
        self.filled += read;
        if read < wanted {
            self.len_bytes = Some(self.start + self.filled as u64);
        }
        Ok(read > 0)
    }
}

impl Bytes for Decoded<'_> {
    fn len_bytes(&mut self) -> Result<u64, DecodeError> {
        loop {
            match self.len_bytes {
                Some(len_bytes) => return Ok(len_bytes),
                None => self.advance()?,
            };
        }
    }

    fn read_at(&mut self, buf: &mut [u8], at: u64) -> Result<usize, DecodeError> {
        if at < self.start {
            self.source.rewind()?;
            (self.start, self.filled) = (0, 0);
        }
        let mut done = 0;
        while done < buf.len() {
            let from = at.saturating_add(done as u64) - self.start;
            let kept = usize::try_from(from).ok().and_then(|from| self.kept[..self.filled].get(from..));
            let kept = kept.unwrap_or_default();
            if kept.is_empty() {
                if !self.advance()? {
                    break;
                }
                continue;
            }
            let len = kept.len().min(buf.len() - done);
            buf[done..done + len].copy_from_slice(&kept[..len]);
            done += len;
        }
        Ok(done)
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
        // Of these three, the name leaves it open; and what is this very machine but for the class is another.
        let is_open = matches!(self.machine, 8 | 243 | 258)
            || self.machine == THIS_MACHINE.machine && self.class != THIS_MACHINE.class;
        let bits = match self.class {
            1 if is_open => " (32 bits)",
            2 if is_open => " (64 bits)",
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
    Unreadable(DecodeError),
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
    /// What is wrong with the ELF header.
    Header(&'static str),
    /// What is wrong with the section header of that number.
    Section(u16, &'static str),
    /// No section of this name.
    Lacks(&'static str),
    /// What is wrong with the names and values in a section.
    Content(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unreadable(error) => error.fmt(f),
            Fault::NotRegular(FileKind::Directory) => f.write_str("it is a directory, not a module"),
            Fault::NotRegular(_) => f.write_str("it is a device, FIFO or socket, not a module"),
            Fault::Empty => f.write_str("the file is empty"),
            Fault::NotElf([a, b, c, d]) => {
                write!(f, "not a module: it begins with {a:02x} {b:02x} {c:02x} {d:02x}, not with the magic of ELF")
            }
            Fault::OtherMachine(machine) => write!(f, "built for {machine}; this machine is {THIS_MACHINE}"),
            Fault::NotRelocatable(2 | 3) => f.write_str("it is a program or a shared library, not a module"),
            Fault::NotRelocatable(kind) => write!(f, "its ELF type is {kind}, not a module's (1)"),
            Fault::Truncated { needs_bytes, has_bytes } => {
                write!(f, "the file is truncated: it has {has_bytes} bytes, and its headers speak of {needs_bytes}")
            }
            Fault::Stripped => f.write_str("the module is stripped: it has no symbol table, so it cannot be linked"),
            Fault::Header(what) => write!(f, "its ELF header is damaged: {what}"),
            Fault::Section(number, what) => write!(f, "its section header {} is damaged: {what}", usize::from(*number)),
            Fault::Lacks(section) => {
                write!(f, "it has no section {section}: an object file that modpost did not make a module")
            }
            Fault::Content(what) => write!(f, "the module is damaged: {what}"),
        }
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Fault {
        Fault::Unreadable(error)
    }
}

/// Length of the longest ELF header, and of the longest section header.
const HEADER_BYTES: usize = 64;

/// Sections of an ELF file that matter, by their types.
const SHT_NULL: u32 = 0;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_NOBITS: u32 = 8;
const SHF_ALLOC: u64 = 2;

/// A field of one of the headers: of a 32-bit file, of a 64-bit file.
type At = (usize, usize);

/// Bytes of one of the headers, read as the file's class and byte order say.
struct Fields<'a> {
    bytes: &'a [u8],
    machine: Machine,
}

impl Fields<'_> {
    fn at(&self, (at32, at64): At) -> usize {
        if self.machine.class == 1 { at32 } else { at64 }
    }

    fn bytes<const N: usize>(&self, at: At) -> Option<[u8; N]> {
        self.bytes.get(self.at(at)..)?.first_chunk().copied()
    }

    fn is_big(&self) -> bool {
        self.machine.data == 2
    }

    fn half(&self, at: At) -> Option<u16> {
        let bytes = self.bytes(at)?;
        Some(if self.is_big() { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn word(&self, at: At) -> Option<u32> {
        let bytes = self.bytes(at)?;
        Some(if self.is_big() { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// An offset, an address or a length.
    fn long(&self, at: At) -> Option<u64> {
        if self.machine.class == 1 {
            return self.word(at).map(u64::from);
        }
        let bytes = self.bytes(at)?;
        Some(if self.is_big() { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }
}

impl Machine {
    /// As the start of an ELF file says it.
    fn parse(bytes: &[u8]) -> Option<Machine> {
        let (class, data) = (*bytes.get(4)?, *bytes.get(5)?);
        let machine = *bytes.get(18..)?.first_chunk()?;
        let machine = if data == 2 { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
        Some(Machine { class, data, machine })
    }
}

/// A part of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Where it begins.
    pub at: u64,
    /// Its length in bytes.
    pub len_bytes: u64,
}

/// A section header (elf(5), Elf64_Shdr).
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Section {
    /// Where its name is in the names.
    name_at: u32,
    pub kind: u32,
    pub flags: u64,
    /// A module's have none.
    address: u64,
    pub range: Range,
    pub link: u32,
    pub info: u32,
    pub align: u64,
    entry_bytes: u64,
}

impl Section {
    fn parse(fields: &Fields) -> Option<Section> {
        let kind = fields.word((4, 4))?;
        let range = Range { at: fields.long((0x10, 0x18))?, len_bytes: fields.long((0x14, 0x20))? };
        Some(Section {
            name_at: fields.word((0, 0))?,
            kind,
            flags: fields.long((8, 8))?,
            address: fields.long((0x0c, 0x10))?,
            range,
            link: fields.word((0x18, 0x28))?,
            info: fields.word((0x1c, 0x2c))?,
            align: fields.long((0x20, 0x30))?,
            entry_bytes: fields.long((0x24, 0x38))?,
        })
    }
}

/// An image whose headers hold what they promise.
#[derive(Debug)]
pub struct Elf<B> {
    bytes: B,
    machine: Machine,
    sections_at: u64,
    section_bytes: u16,
    sections: u16,
    parts: Parts,
}

/// What of an image has a meaning.
#[derive(Debug, Default)]
struct Parts {
    /// The names of sections.
    names: Range,
    symbols: Range,
    /// Number of the first symbol that is not local.
    first_global: u32,
    /// The names of symbols.
    strings: Range,
    modinfo: Range,
    versions: Range,
    this_module: Range,
    is_signed: bool,
}

/// What ends a file with a signature (include/linux/module_signature.h, MODULE_SIG_STRING).
const SIGNED: &[u8] = b"~Module signature appended~\n";

impl<B: Bytes> Elf<B> {
    /// Reads the headers of an image for `machine`; for any that is known where it is `None`.
    pub fn open(mut bytes: B, machine: Option<Machine>) -> Result<Elf<B>, Fault> {
        let has_bytes = bytes.len_bytes()?;
        if has_bytes == 0 {
            return Err(Fault::Empty);
        }
        let mut buf = [0; HEADER_BYTES];
        let len = bytes.read_at(&mut buf, 0)?;
        if buf[..4] != *b"\x7fELF" {
            return Err(Fault::NotElf([buf[0], buf[1], buf[2], buf[3]]));
        }
        let truncated = |needs_bytes| Fault::Truncated { needs_bytes, has_bytes };
        let read = &buf[..len];
        let found = Machine::parse(read).ok_or(truncated(HEADER_BYTES as u64))?;
        if !matches!(found.class, 1 | 2) || !matches!(found.data, 1 | 2) {
            return Err(Fault::Header("its class or byte order is none there is"));
        }
        if machine.is_some_and(|machine| machine != found) {
            return Err(Fault::OtherMachine(found));
        }
        let fields = Fields { bytes: read, machine: found };
        let header = || {
            Some((
                fields.half((16, 16))?,
                fields.long((0x20, 0x28))?,
                fields.half((0x2e, 0x3a))?,
                fields.half((0x30, 0x3c))?,
                fields.half((0x32, 0x3e))?,
            ))
        };
        let (kind, sections_at, section_bytes, sections, names_in) = header().ok_or(truncated(HEADER_BYTES as u64))?;
        if kind != 1 {
            return Err(Fault::NotRelocatable(kind.into()));
        }
        // Read with another step than theirs, what they say of places would be nonsense.
        if usize::from(section_bytes) != fields.at((40, 64)) {
            return Err(Fault::Header("its section headers have another length than they should"));
        }
        let sections_end =
            sections_at.checked_add(u64::from(section_bytes) * u64::from(sections)).ok_or(truncated(u64::MAX))?;
        if sections_end > has_bytes {
            return Err(truncated(sections_end));
        }
        if !(1..sections).contains(&names_in) {
            return Err(Fault::Header("no section has the names of sections"));
        }
        let mut elf = Elf { bytes, machine: found, sections_at, section_bytes, sections, parts: Parts::default() };
        let mut symbols = None;
        for number in 0..sections {
            let section = elf.header_of(number)?.ok_or(truncated(sections_end))?;
            let end = section.range.at.saturating_add(section.range.len_bytes);
            if section.kind != SHT_NOBITS && end > has_bytes {
                // The headers stand behind the sections: a file that lost its end has lost them first.
                if sections_at > HEADER_BYTES as u64 {
                    return Err(Fault::Section(number, "it reaches beyond the end of the file"));
                }
                return Err(truncated(end));
            }
            if section.kind == SHT_SYMTAB {
                if symbols.is_some() {
                    return Err(Fault::Section(number, "a second symbol table"));
                }
                symbols = Some(section);
            }
        }
        let Some(symbols) = symbols else { return Err(Fault::Stripped) };
        elf.find(symbols, names_in)?;
        Ok(elf)
    }

    /// A section's header; `None` where the file ends within it.
    fn header_of(&mut self, number: u16) -> Result<Option<Section>, Fault> {
        let mut buf = [0; HEADER_BYTES];
        let at = self.sections_at + u64::from(number) * u64::from(self.section_bytes);
        let len = self.bytes.read_at(&mut buf, at)?;
        Ok(Section::parse(&Fields { bytes: &buf[..len], machine: self.machine }))
    }
}

impl<B: Bytes> Elf<B> {
    /// Looks for the sections that have a meaning by their names, and makes sure that what names things is text.
    fn find(&mut self, symbols: Section, names_in: u16) -> Result<(), Fault> {
        if self
            .header_of(0)?
            .is_some_and(|first| (u64::from(first.kind), first.range.len_bytes, first.address) != (0, 0, 0))
        {
            return Err(Fault::Section(0, "it should be none"));
        }
        self.parts.names = self.strings_in(names_in)?;
        self.parts.symbols = symbols.range;
        self.parts.first_global = symbols.info;
        if symbols.entry_bytes != self.symbol_bytes() || !symbols.range.len_bytes.is_multiple_of(self.symbol_bytes()) {
            return Err(Fault::Content("its symbols have another length than they should"));
        }
        match u16::try_from(symbols.link).ok().filter(|link| (1..self.sections).contains(link)) {
            Some(link) => self.parts.strings = self.strings_in(link)?,
            None => return Err(Fault::Content("its symbols have no names")),
        }
        let mut found = (None, None, None);
        for number in 1..self.sections {
            let Some(section) = self.header_of(number)?.filter(|section| section.kind != SHT_NULL) else { continue };
            if u64::from(section.name_at) >= self.parts.names.len_bytes {
                return Err(Fault::Section(number, "its name is not among the names of sections"));
            }
            // No longer than the longest of those sought, and its end: the longer ones are none of them.
            let mut name = [0; 32];
            let part = match self.name_in(self.parts.names, section.name_at, &mut name) {
                Ok(name) => name,
                Err(Fault::Content(_)) => continue,
                Err(fault) => return Err(fault),
            };
            let place = match part {
                ".modinfo" => &mut found.0,
                "__versions" => &mut found.1,
                ".gnu.linkonce.this_module" => &mut found.2,
                _ => continue,
            };
            if section.kind == SHT_NOBITS {
                return Err(Fault::Section(number, "it has no content"));
            }
            // Of `__versions` the kernel takes the first; modules have one of each.
            if place.is_some() {
                return Err(Fault::Section(number, "there is another of its name"));
            }
            if part == ".gnu.linkonce.this_module" && section.flags & SHF_ALLOC == 0 {
                return Err(Fault::Section(number, "it is not to be kept in memory"));
            }
            *place = Some(section.range);
        }
        self.parts.modinfo = found.0.unwrap_or_default();
        self.parts.versions = found.1.unwrap_or_default();
        self.parts.this_module = found.2.ok_or(Fault::Lacks(".gnu.linkonce.this_module"))?;
        let mut end = [0; SIGNED.len()];
        if let Some(at) = self.bytes.len_bytes()?.checked_sub(SIGNED.len() as u64) {
            self.bytes.read_at(&mut end, at)?;
            self.parts.is_signed = end == *SIGNED;
        }
        Ok(())
    }

    /// The strings of a section: text between NULs.
    fn strings_in(&mut self, number: u16) -> Result<Range, Fault> {
        let section = self.header_of(number)?.filter(|section| section.kind == SHT_STRTAB);
        let range = section.ok_or(Fault::Section(number, "it should be one of strings"))?.range;
        let mut last = [1];
        let Some(last_at) = range.len_bytes.checked_sub(1) else {
            return Err(Fault::Section(number, "it should be one of strings, and is empty"));
        };
        self.bytes.read_at(&mut last, range.at + last_at)?;
        match last {
            [0] => Ok(range),
            _ => Err(Fault::Section(number, "its last string has no end")),
        }
    }

    /// The name at `at` in `strings`.
    fn name_in<'b>(&mut self, strings: Range, at: u32, buf: &'b mut [u8]) -> Result<&'b str, Fault> {
        let left = strings.len_bytes.checked_sub(at.into()).filter(|left| *left > 0);
        let left = left.ok_or(Fault::Content("a name is not among its names"))?;
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let len = self.bytes.read_at(&mut buf[..len], strings.at + u64::from(at))?;
        text_before_nul(&buf[..len]).ok_or(Fault::Content("a name is no text, or has no end"))
    }

    fn symbol_bytes(&self) -> u64 {
        if self.machine.class == 1 { 16 } else { 24 }
    }

    /// What the image is for.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Whether a signature is appended to it, of which nothing is said.
    pub fn is_signed(&self) -> bool {
        self.parts.is_signed
    }

    /// Hands each pair of `.modinfo` to `each`: key, value.
    pub fn info(&mut self, each: &mut dyn FnMut(&str, &str)) -> Result<(), Fault> {
        let mut buf = [0; INFO_BYTES];
        let Range { mut at, len_bytes } = self.parts.modinfo;
        let end = at + len_bytes;
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(buf.len());
            let len = self.bytes.read_at(&mut buf[..len], at)?;
            let mut done = 0;
            while let Some(len) = buf[done..len].iter().position(|b| *b == 0) {
                let pair = core::str::from_utf8(&buf[done..done + len]).ok();
                if let Some((key, value)) = pair.and_then(|pair| text::split_once(pair, b'=')) {
                    each(key, value);
                }
                done += len + 1;
            }
            if done == 0 {
                return Err(Fault::Content("a text in .modinfo is over INFO_BYTES, or has no end"));
            }
            at += done as u64;
        }
        Ok(())
    }

    /// Its name, as the kernel will list it.
    pub fn name<'b>(&mut self, buf: &'b mut [u8; NAME_BYTES]) -> Result<&'b str, Fault> {
        // struct module (include/linux/module.h): a state, a list, the name.
        let at = if self.machine.class == 1 { 12 } else { 24 };
        let len = self.parts.this_module.len_bytes.saturating_sub(at).min(buf.len() as u64) as usize;
        let len = self.bytes.read_at(&mut buf[..len], self.parts.this_module.at + at)?;
        let name = text_before_nul(&buf[..len]).filter(|name| !name.is_empty());
        name.ok_or(Fault::Content("its name in .gnu.linkonce.this_module is none"))
    }

    /// Hands each symbol that it needs the CRC of to `each`: name, CRC (struct modversion_info).
    pub fn versions(&mut self, each: &mut dyn FnMut(&str, u32)) -> Result<(), Fault> {
        let Range { at, len_bytes } = self.parts.versions;
        let mut buf = [0; VERSION_BYTES];
        for i in 0..len_bytes / VERSION_BYTES as u64 {
            self.bytes.read_at(&mut buf, at + i * VERSION_BYTES as u64)?;
            let crc = Fields { bytes: &buf, machine: self.machine }.long((0, 0)).unwrap_or(0);
            let name = text_before_nul(&buf[if self.machine.class == 1 { 4 } else { 8 }..]);
            each(name.ok_or(Fault::Content("a name in __versions is no text, or has no end"))?, crc as u32);
        }
        Ok(())
    }

    /// The symbols from the number `from` on, as far as `buf` takes them.
    fn symbols_from<'b>(&mut self, from: u64, buf: &'b mut [u8]) -> Result<&'b [u8], Fault> {
        let left = (self.parts.symbols.len_bytes / self.symbol_bytes()).saturating_sub(from);
        let fit = buf.len() as u64 / self.symbol_bytes();
        let len = (left.min(fit) * self.symbol_bytes()) as usize;
        let len = self.bytes.read_at(&mut buf[..len], self.parts.symbols.at + from * self.symbol_bytes())?;
        Ok(&buf[..len])
    }

    /// Hands each symbol that must be there when it is linked to `each`, in no order. Weak ones need not be.
    pub fn undefined(&mut self, each: &mut dyn FnMut(&str)) -> Result<(), Fault> {
        let symbol_bytes = self.symbol_bytes() as usize;
        let mut buf = [0; 504];
        // The first is none.
        let mut next = u64::from(self.parts.first_global.max(1));
        // Each in the order of the file, so that a compressed one need not be decoded anew for each name.
        let mut names = heapless::Vec::<u32, ELF_NAMES>::new();
        loop {
            let read = self.symbols_from(next, &mut buf)?;
            let room = names.capacity() - names.len();
            for bytes in read.chunks_exact(symbol_bytes).take(room) {
                let symbol = SymbolFields::parse(&Fields { bytes, machine: self.machine });
                next += 1;
                if symbol.is_some_and(|symbol| symbol.is_needed()) {
                    let name = symbol.map_or(0, |symbol| symbol.name_at);
                    let at = names.iter().position(|other| *other > name).unwrap_or(names.len());
                    let _ = names.insert(at, name);
                }
            }
            let is_last = read.is_empty();
            if is_last || names.is_full() {
                let mut name = [0; SYMBOL_BYTES];
                for at in &names {
                    each(self.name_in(self.parts.strings, *at, &mut name)?);
                }
                names.clear();
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Hands each section to `each`, but for the first, which is none: its number, its name, its header.
    pub fn sections(&mut self, each: &mut dyn FnMut(u16, &str, Section)) -> Result<(), Fault> {
        let mut name = [0; SYMBOL_BYTES];
        for number in 1..self.sections {
            let Some(section) = self.header_of(number)? else { break };
            each(number, self.name_in(self.parts.names, section.name_at, &mut name)?, section);
        }
        Ok(())
    }

    /// Hands each symbol to `each`. Where the image is decoded as it is read, this decodes it again and again.
    pub fn symbols(&mut self, each: &mut dyn FnMut(&Symbol)) -> Result<(), Fault> {
        let symbol_bytes = self.symbol_bytes() as usize;
        let (mut buf, mut name) = ([0; 504], [0; SYMBOL_BYTES]);
        let mut next = 1;
        loop {
            let read = self.symbols_from(next, &mut buf)?;
            if read.is_empty() {
                return Ok(());
            }
            for bytes in read.chunks_exact(symbol_bytes) {
                next += 1;
                let Some(fields) = SymbolFields::parse(&Fields { bytes, machine: self.machine }) else { continue };
                let SymbolFields { name_at, info, section, value, size_bytes } = fields;
                let name = self.name_in(self.parts.strings, name_at, &mut name)?;
                each(&Symbol { name, info, section, value, size_bytes });
            }
        }
    }

    /// The bytes of a part of the image, from `at` on in it: as many as there are.
    pub fn read(&mut self, range: Range, at: u64, buf: &mut [u8]) -> Result<usize, Fault> {
        let left = usize::try_from(range.len_bytes.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = left.min(buf.len());
        Ok(self.bytes.read_at(&mut buf[..len], range.at.saturating_add(at))?)
    }
}

/// Bytes of a module's name with its NUL, at most: MODULE_NAME_LEN (include/linux/module.h).
pub const NAME_BYTES: usize = 64;

/// Bytes of a struct modversion_info (include/linux/module.h).
const VERSION_BYTES: usize = 64;

fn text_before_nul(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|b| *b == 0)?;
    core::str::from_utf8(&bytes[..end]).ok()
}

/// A symbol (elf(5), Elf64_Sym).
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Symbol<'n> {
    pub name: &'n str,
    /// Binding and type.
    pub info: u8,
    /// The number of its section; [`Symbol::UNDEFINED`], [`Symbol::ABSOLUTE`].
    pub section: u16,
    pub value: u64,
    pub size_bytes: u64,
}

impl Symbol<'_> {
    /// SHN_UNDEF
    pub const UNDEFINED: u16 = 0;
    /// SHN_ABS
    pub const ABSOLUTE: u16 = 0xfff1;
}

#[derive(Clone, Copy)]
struct SymbolFields {
    name_at: u32,
    info: u8,
    section: u16,
    value: u64,
    size_bytes: u64,
}

impl SymbolFields {
    fn parse(fields: &Fields) -> Option<SymbolFields> {
        let [info] = fields.bytes((12, 4))?;
        Some(SymbolFields {
            name_at: fields.word((0, 0))?,
            info,
            section: fields.half((14, 6))?,
            value: fields.long((4, 8))?,
            size_bytes: fields.long((8, 16))?,
        })
    }

    fn is_needed(self) -> bool {
        const STB_WEAK: u8 = 2;
        self.section == Symbol::UNDEFINED && self.name_at != 0 && self.info >> 4 != STB_WEAK
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const BIG: Machine = Machine { class: 1, data: 2, machine: 8 };

    /// What a module for tests says of itself.
    pub struct Made<'a> {
        pub machine: Machine,
        pub name: &'a str,
        pub info: &'a [&'a str],
        /// What it needs, each with its CRC.
        pub needs: &'a [(&'a str, u32)],
    }

    impl Default for Made<'_> {
        fn default() -> Self {
            Made { machine: THIS_MACHINE, name: "made", info: &[], needs: &[] }
        }
    }

    impl Made<'_> {
        fn number(&self, len: usize, value: u64) -> Vec<u8> {
            let mut bytes = value.to_le_bytes()[..len].to_vec();
            if self.machine.data == 2 {
                bytes.reverse();
            }
            bytes
        }

        /// Its image: the header, the sections' content in their order, the sections' headers.
        pub fn image(&self) -> Vec<u8> {
            let is_small = self.machine.class == 1;
            let long = if is_small { 4 } else { 8 };
            let n = |len, value: u64| self.number(len, value);
            let mut strings = vec![0];
            let mut named = |name: &str| {
                let at = strings.len() as u64;
                strings.extend_from_slice(name.as_bytes());
                strings.push(0);
                at
            };
            let symbol = |name: u64, info: u64| match is_small {
                true => [n(4, name), n(4, 0), n(4, 0), n(1, info), n(1, 0), n(2, 0)].concat(),
                false => [n(4, name), n(1, info), n(1, 0), n(2, 0), n(8, 0), n(8, 0)].concat(),
            };
            // None, a local one, a weak one, and what is needed.
            let mut symbols = [symbol(0, 0), symbol(named("local"), 0), symbol(named("weak"), 0x20)].concat();
            for (name, _) in self.needs.iter().rev() {
                symbols.extend(symbol(named(name), 0x10));
            }
            let versions = self.needs.iter().flat_map(|(name, crc)| {
                let mut version = n(long, (*crc).into());
                version.extend_from_slice(name.as_bytes());
                version.resize(64, 0);
                version
            });
            let mut this_module = vec![0; if is_small { 12 } else { 24 }];
            this_module.extend_from_slice(self.name.as_bytes());
            this_module.resize(300, 0);
            let info: Vec<u8> = self.info.iter().flat_map(|pair| [pair.as_bytes(), b"\0"].concat()).collect();
            let names = "\0.modinfo\0__versions\0.gnu.linkonce.this_module\0.symtab\0.strtab\0.shstrtab\0";
            let entry = if is_small { 16 } else { 24 };
            let sections: [(&str, u64, Vec<u8>, u64); 7] = [
                ("", 0, vec![], 0),
                (".modinfo", 1, info, 0),
                ("__versions", 1, versions.collect(), 0),
                (".gnu.linkonce.this_module", 1, this_module, 0),
                (".symtab", 2, symbols, entry),
                (".strtab", 3, strings, 0),
                (".shstrtab", 3, names.as_bytes().to_vec(), 0),
            ];
            let header_bytes = if is_small { 52 } else { 64 };
            let (mut content, mut headers) = (vec![], vec![]);
            for (name, kind, bytes, entry) in sections {
                let name_at = if name.is_empty() { 0 } else { names.find(&format!("\0{name}\0")).unwrap() + 1 };
                let at = if kind == 0 { 0 } else { (header_bytes + content.len()) as u64 };
                let link = if kind == 2 { 5 } else { 0 };
                let flags = if kind == 1 { 2 } else { 0 };
                headers.extend([n(4, name_at as u64), n(4, kind), n(long, flags), n(long, 0), n(long, at)].concat());
                headers.extend([n(long, bytes.len() as u64), n(4, link), n(4, 2), n(long, 1), n(long, entry)].concat());
                content.extend(bytes);
            }
            let mut elf = b"\x7fELF".to_vec();
            elf.extend([self.machine.class, self.machine.data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            elf.extend([n(2, 1), n(2, self.machine.machine.into()), n(4, 1), n(long, 0), n(long, 0)].concat());
            elf.extend([n(long, (header_bytes + content.len()) as u64), n(4, 0), n(2, header_bytes as u64)].concat());
            elf.extend([n(2, 0), n(2, 0), n(2, headers.len() as u64 / 7), n(2, 7), n(2, 6)].concat());
            [elf, content, headers].concat()
        }
    }

    fn fault(bytes: &[u8]) -> Option<Fault> {
        Elf::open(bytes, Some(THIS_MACHINE)).err()
    }

    const INFO: &[&str] = &["name=made", "vermagic=6.1.0 SMP", "parm=x:text, with = in it"];
    const NEEDS: &[(&str, u32)] = &[("one", 1), ("two", 0x8765_4321), ("module_layout", 3)];

    #[test]
    fn the_first_symbol_is_none() {
        let mut elf = Made { needs: NEEDS, ..Made::default() }.image();
        let header = elf.len() - 3 * 64;
        let symbols = u64::from_le_bytes(*elf[header + 0x18..].first_chunk().unwrap()) as usize;
        elf[header + 0x2c] = 0;
        elf[symbols..symbols + 4].fill(0xff);
        let mut names = vec![];
        Elf::open(&elf[..], None).unwrap().undefined(&mut |name| names.push(name.to_string())).unwrap();
        assert_eq!(names.len(), NEEDS.len() + 1, "{names:?}");
    }

    #[test]
    fn headers_of_another_length_are_no_truncation() {
        let mut elf = Made::default().image();
        // The last one ends where the file does.
        elf[0x3a] = 20;
        let at = elf.len() as u64 - 7 * 20;
        elf[0x28..0x30].copy_from_slice(&at.to_le_bytes());
        assert!(matches!(fault(&elf), Some(Fault::Header(_))), "{:?}", fault(&elf));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = Made::default().image();
        assert_eq!(fault(&good), None);
        assert_eq!(fault(b""), Some(Fault::Empty));
        assert_eq!(fault(b"<htm"), Some(Fault::NotElf(*b"<htm")));
        let changed = |at: usize, value: u8| {
            let mut elf = good.clone();
            elf[at] = value;
            fault(&elf)
        };
        let riscv = Machine { class: 2, data: 1, machine: 243 };
        assert_eq!(changed(18, 243), Some(Fault::OtherMachine(riscv)));
        assert_eq!(riscv.to_string(), "RISC-V (64 bits)");
        assert_eq!(changed(16, 3), Some(Fault::NotRelocatable(3)));
        let header = |number: usize| good.len() - 7 * 64 + number * 64;
        assert_eq!(changed(header(4) + 4, 1), Some(Fault::Stripped));
        for len in 1..good.len() {
            let fault = fault(&good[..len]);
            assert!(matches!(fault, Some(Fault::Truncated { .. } | Fault::NotElf(_))), "{len}: {fault:?}");
        }
        assert_eq!(changed(header(1) + 4, 2), Some(Fault::Section(4, "a second symbol table")));
        assert_eq!(changed(header(3), 2), Some(Fault::Lacks(".gnu.linkonce.this_module")));
        assert_eq!(changed(header(3), 200), Some(Fault::Section(3, "its name is not among the names of sections")));
        assert_eq!(changed(header(5) - 1, 1), Some(Fault::Content("its symbols have another length than they should")));
        assert_eq!(changed(header(4) + 0x28, 9), Some(Fault::Content("its symbols have no names")));
        assert_eq!(changed(header(0) + 0x20, 1), Some(Fault::Section(0, "it should be none")));
        assert_eq!(changed(header(3) + 8, 0), Some(Fault::Section(3, "it is not to be kept in memory")));
        assert_eq!(changed(header(2), 1), Some(Fault::Section(2, "there is another of its name")));
        assert_eq!(changed(0x3e, 0), Some(Fault::Header("no section has the names of sections")));
        let far = Some(Fault::Section(1, "it reaches beyond the end of the file"));
        assert_eq!((changed(header(1) + 0x1f, 0xff), changed(header(1) + 0x22, 0xff)), (far, far));
        assert_eq!(changed(0x3c, 0), Some(Fault::Header("no section has the names of sections")));
        let length = Some(Fault::Header("its section headers have another length than they should"));
        assert_eq!((changed(0x3a, 63), changed(0x3b, 1)), (length, length));
        let none = Some(Fault::Header("its class or byte order is none there is"));
        assert_eq!((changed(4, 0), changed(5, 3)), (none, none));
        let first = Some(Fault::Section(0, "it should be none"));
        assert_eq!(
            (changed(header(0) + 4, 1), changed(header(0) + 0x10, 1), changed(header(0) + 0x20, 1)),
            (first, first, first)
        );
        assert_eq!(changed(header(3) + 8, 0), Some(Fault::Section(3, "it is not to be kept in memory")));
        assert_eq!(changed(header(3) + 4, 0), Some(Fault::Lacks(".gnu.linkonce.this_module")));
        let second = "there is another of its name";
        assert_eq!(changed(header(2), 1), Some(Fault::Section(2, second)));
        // Who reads it as this machine does, sees what it is not.
        let other = changed(4, 3 - THIS_MACHINE.class).unwrap().to_string();
        assert!(["(32 bits)", "(64 bits)"].iter().any(|bits| other.contains(bits)), "{other}");
        assert_eq!(changed(header(0) - 1, 1), Some(Fault::Section(6, "its last string has no end")));
    }

    type Said = (String, Vec<(String, String)>, Vec<(String, u32)>, Vec<String>);

    fn said<B: Bytes>(elf: &mut Elf<B>) -> Said {
        let (mut info, mut versions, mut needs) = (vec![], vec![], vec![]);
        elf.info(&mut |key, value| info.push((key.into(), value.into()))).unwrap();
        elf.versions(&mut |name, crc| versions.push((name.into(), crc))).unwrap();
        elf.undefined(&mut |name| needs.push(name.into())).unwrap();
        needs.sort();
        (elf.name(&mut [0; NAME_BYTES]).unwrap().into(), info, versions, needs)
    }

    #[test]
    fn a_module_says_what_it_is_and_needs() {
        let machines = [THIS_MACHINE, BIG];
        for machine in machines {
            let image = Made { machine, info: INFO, needs: NEEDS, ..Made::default() }.image();
            let mut elf = Elf::open(&image[..], None).unwrap();
            let (name, info, versions, needs) = said(&mut elf);
            assert_eq!((name.as_str(), elf.is_signed()), ("made", false));
            assert_eq!(info[2], ("parm".into(), "x:text, with = in it".into()));
            assert_eq!(versions, NEEDS.iter().map(|(name, crc)| (name.to_string(), *crc)).collect::<Vec<_>>());
            assert_eq!(needs, ["module_layout", "one", "two"]);
            let mut symbols = vec![];
            elf.symbols(&mut |symbol| symbols.push(symbol.name.to_string())).unwrap();
            assert_eq!(symbols, ["local", "weak", "module_layout", "two", "one"]);
            let mut sections = vec![];
            elf.sections(&mut |number, name, section| sections.push((number, name.to_string(), section.kind))).unwrap();
            assert_eq!(sections[3], (4, ".symtab".into(), SHT_SYMTAB));
            let signed = [&image[..], SIGNED].concat();
            assert!(Elf::open(&signed[..], None).unwrap().is_signed());
        }
        assert_eq!(
            Elf::open(&Made { machine: BIG, ..Made::default() }.image()[..], Some(THIS_MACHINE)).err(),
            Some(Fault::OtherMachine(BIG))
        );
    }

    #[test]
    #[cfg(feature = "gzip")]
    fn a_compressed_module_says_the_same() {
        use crate::kernel::fake::Fake;
        use std::io::Write;
        // More than is kept, and more names than are looked up together.
        let names: Vec<_> = (0..600).map(|i| format!("symbol_{}", i * 7919 % 600)).collect();
        let needs: Vec<_> = names.iter().map(|name| (name.as_str(), 7)).collect();
        let image = Made { needs: &needs, info: INFO, ..Made::default() }.image();
        assert!(image.len() > 3 * ELF_KEPT_BYTES);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&image).unwrap();
        let fake = Fake::default().with_file("/m.ko.gz", &encoder.finish().unwrap()).reading_at_most(1000);
        let file = fake.open(c"/m.ko.gz").unwrap();
        let mut window = vec![0; crate::decode::gzip::WINDOW_BYTES];
        let mut source = crate::decode::gzip::Gzip::new(&fake, &file, &mut window);
        let mut elf = Elf::open(Decoded::new(&mut source), Some(THIS_MACHINE)).unwrap();
        assert_eq!(said(&mut elf), said(&mut Elf::open(&image[..], None).unwrap()));
        let mut bytes = [0; 100];
        assert_eq!(elf.bytes.read_at(&mut bytes, u64::MAX - 3).unwrap(), 0);
        assert_eq!(elf.bytes.read_at(&mut bytes, image.len() as u64 - 50).unwrap(), 50);
        assert_eq!(bytes[..50], image[image.len() - 50..]);
    }
}
