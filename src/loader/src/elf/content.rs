//! What the parts of an image say.

use super::abi::{ByClass, SHN_ABS, SHN_UNDEF};
use super::headers::{Fields, SymbolFields};
use super::{Bytes, Elf, Fault, Machine, Range, Section, text_before_nul};
use crate::limits::{ELF_NAMES, INFO_BYTES, SYMBOL_BYTES};
use crate::text;

/// Bytes of a module's name with its NUL, at most: MODULE_NAME_LEN (include/linux/module.h).
pub const NAME_BYTES: usize = 64;

/// Bytes of a struct modversion_info (include/linux/module.h).
const VERSION_BYTES: usize = 64;

/// Where the name is in a struct module (include/linux/module.h): behind its state and the two pointers of a list.
const MODULE_NAME: ByClass = (12, 24);

/// Where the name is in a struct modversion_info: behind the CRC, an unsigned long.
const VERSION_NAME: ByClass = (4, 8);

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
    pub const UNDEFINED: u16 = SHN_UNDEF;
    /// SHN_ABS
    pub const ABSOLUTE: u16 = SHN_ABS;
}

impl<B: Bytes> Elf<B> {
    /// What the image is for.
    pub fn machine(&self) -> Machine {
        self.header.machine
    }

    /// Whether a signature is appended to it. What that is worth is not looked at.
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
                return Err(Fault::Content("a text in .modinfo is longer than INFO_BYTES or has no end"));
            }
            at += done as u64;
        }
        Ok(())
    }

    /// Hands the kernel release that it was built for, the first word of its vermagic, to `each`.
    pub fn release(&mut self, each: &mut dyn FnMut(&str)) -> Result<(), Fault> {
        self.info(&mut |key, value| {
            if key == "vermagic" {
                each(text::split_once(value, b' ').map_or(value, |(release, _)| release));
            }
        })
    }

    /// Hands the name of each module that it needs to `each`.
    pub fn depends(&mut self, each: &mut dyn FnMut(&str)) -> Result<(), Fault> {
        self.info(&mut |key, value| {
            if key == "depends" {
                text::fields(value, b',').filter(|needed| !needed.is_empty()).for_each(&mut *each);
            }
        })
    }

    /// Hands each of its parameters to `each`: name, type.
    pub fn params(&mut self, each: &mut dyn FnMut(&str, &str)) -> Result<(), Fault> {
        self.info(&mut |key, value| {
            if let ("parmtype", Some((name, kind))) = (key, text::split_once(value, b':')) {
                each(name, kind);
            }
        })
    }

    /// Its name, as the kernel will list it.
    pub fn name<'b>(&mut self, buf: &'b mut [u8; NAME_BYTES]) -> Result<&'b str, Fault> {
        let at = self.header.machine.pick(MODULE_NAME) as u64;
        let len = self.parts.this_module.len_bytes.saturating_sub(at).min(buf.len() as u64) as usize;
        let len = self.bytes.read_at(&mut buf[..len], self.parts.this_module.at + at)?;
        let name = text_before_nul(&buf[..len]).filter(|name| !name.is_empty());
        name.ok_or(Fault::Content(".gnu.linkonce.this_module holds no name"))
    }

    /// Hands each symbol that it needs the CRC of to `each`: name, CRC (struct modversion_info).
    pub fn versions(&mut self, each: &mut dyn FnMut(&str, u32)) -> Result<(), Fault> {
        let Range { at, len_bytes } = self.parts.versions;
        let mut buf = [0; VERSION_BYTES];
        for i in 0..len_bytes / VERSION_BYTES as u64 {
            self.bytes.read_at(&mut buf, at + i * VERSION_BYTES as u64)?;
            let crc = Fields { bytes: &buf, machine: self.header.machine }.long((0, 0)).unwrap_or(0);
            let name = text_before_nul(&buf[self.header.machine.pick(VERSION_NAME)..]);
            each(name.ok_or(Fault::Content("a name in __versions is not text or has no end"))?, crc as u32);
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
                let symbol = SymbolFields::parse(&Fields { bytes, machine: self.header.machine });
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
        for number in 1..self.header.sections {
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
                let Some(fields) = SymbolFields::parse(&Fields { bytes, machine: self.header.machine }) else {
                    continue;
                };
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
