//! Whether a file is a program that this machine's kernel can run, as far as a look at its beginning shows
//! (fs/binfmt_elf.c, fs/binfmt_script.c).
//!
//! Whether its mode lets it be run is for access(2) to say.

use core::ffi::CStr;
use core::fmt;

use crate::elf::THIS_MACHINE;
use crate::elf::abi::{E_MACHINE, E_TYPE, ELFCLASS32, ELFMAG, EM_386, EM_ARM, ET_DYN, ET_EXEC};
use crate::errno::Errno;
use crate::kernel::{FileKind, Kernel};
use crate::limits::PROGRAM_HEAD_BYTES;
use crate::{Path, path};

/// Why a file cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It cannot be opened or read.
    Unreadable(Errno),
    /// It is a folder, a device or the like.
    NotRegular(FileKind),
    /// It is neither an ELF program nor a script.
    NotAProgram,
    /// It is a program for a processor of this number (`e_machine`).
    OtherMachine(u16),
    /// Its interpreter is not there.
    Interpreter(Path),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Unreadable(Errno::ENOENT) => f.write_str("it is not there"),
            Unfit::Unreadable(Errno::EACCES) => f.write_str("it is not executable"),
            Unfit::Unreadable(errno) => write!(f, "{errno}: it cannot be read"),
            Unfit::NotRegular(FileKind::Directory) => f.write_str("it is a directory"),
            Unfit::NotRegular(_) => f.write_str("it is not a regular file"),
            Unfit::NotAProgram => f.write_str("it is neither an ELF program nor a script that begins with #!"),
            Unfit::OtherMachine(number) => write!(f, "it is a program for another machine (ELF machine {number})"),
            Unfit::Interpreter(path) => {
                write!(f, "its interpreter {} is not there", path.to_str().unwrap_or("?"))
            }
        }
    }
}

/// Looks at the program at `path`.
pub fn check<K: Kernel>(kernel: &K, path: &CStr) -> Result<(), Unfit> {
    let file = kernel.open(path).map_err(Unfit::Unreadable)?;
    match kernel.stat(&file).map_err(Unfit::Unreadable)?.kind {
        FileKind::Regular => {}
        kind => return Err(Unfit::NotRegular(kind)),
    }
    let mut buf = [0; PROGRAM_HEAD_BYTES];
    let head = crate::kernel::read_full(kernel, &file, &mut buf).map_err(Unfit::Unreadable)?;
    let interpreter = if let Some(line) = head.strip_prefix(b"#!") {
        script_interpreter(line)
    } else {
        check_machine(head)?;
        elf_interpreter(head)
    };
    match interpreter {
        Some(interpreter) if !kernel.exists(&interpreter) => Err(Unfit::Interpreter(interpreter)),
        _ => Ok(()),
    }
}

/// The path behind `#!`.
fn script_interpreter(line: &[u8]) -> Option<Path> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let name = line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
    path(&[name])
}

/// The 32-bit machine whose programs a 64-bit kernel of this machine may run too (CONFIG_COMPAT).
const COMPAT_MACHINE: u16 = if cfg!(target_arch = "aarch64") {
    EM_ARM
} else if cfg!(target_arch = "x86_64") {
    EM_386
} else {
    THIS_MACHINE.machine
};

fn check_machine(head: &[u8]) -> Result<(), Unfit> {
    let (Some(kind), Some(machine)) = (u16_at(head, E_TYPE.0), u16_at(head, E_MACHINE.0)) else {
        return Err(Unfit::NotAProgram);
    };
    if !head.starts_with(&ELFMAG) || !matches!(kind, ET_EXEC | ET_DYN) {
        return Err(Unfit::NotAProgram);
    }
    let is_ours = machine == THIS_MACHINE.machine || machine == COMPAT_MACHINE;
    if is_ours { Ok(()) } else { Err(Unfit::OtherMachine(machine)) }
}

/// What the program header PT_INTERP says. Where that or the path is behind `head`, nothing is known, and nothing is wrong.
fn elf_interpreter(head: &[u8]) -> Option<Path> {
    const PT_INTERP: u32 = 3;
    // e_phoff, e_phentsize and e_phnum; p_offset and p_filesz of an entry (elf(5)).
    let (headers_at, entry_bytes, count, offset, size) = match head.get(4)? {
        &ELFCLASS32 => (u32_at(head, 28)? as usize, u16_at(head, 42)?, u16_at(head, 44)?, 4, 16),
        _ => (u32_at(head, 32)? as usize, u16_at(head, 54)?, u16_at(head, 56)?, 8, 32),
    };
    let entry = (0..usize::from(count)).find_map(|i| {
        let entry = head.get(headers_at.checked_add(i * usize::from(entry_bytes))?..)?;
        (u32_at(entry, 0)? == PT_INTERP).then_some(entry)
    })?;
    let (at, len) = (u32_at(entry, offset)? as usize, u32_at(entry, size)? as usize);
    let name = CStr::from_bytes_until_nul(head.get(at..at.checked_add(len)?)?).ok()?;
    path(&[name.to_bytes()])
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The programs that the kernel itself would try in a root, in its order (init/main.c).
const INITS: [&str; 4] = ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"];

/// The inits to try: the one that is named alone, else those that the kernel would try.
pub fn inits(named: Option<&str>) -> impl Iterator<Item = &str> {
    let usual: &[&str] = if named.is_some() { &[] } else { &INITS };
    named.into_iter().chain(usual.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    /// A 64-bit program with one program header, for `interpreter`.
    fn elf(machine: u16, interpreter: &str) -> Vec<u8> {
        let mut head = vec![0; 64 + 56];
        head[..4].copy_from_slice(&ELFMAG);
        head[4] = 2;
        head[16..18].copy_from_slice(&ET_DYN.to_ne_bytes());
        head[18..20].copy_from_slice(&machine.to_ne_bytes());
        head[32..36].copy_from_slice(&64u32.to_ne_bytes());
        head[54..56].copy_from_slice(&56u16.to_ne_bytes());
        head[56..58].copy_from_slice(&1u16.to_ne_bytes());
        let text = format!("{interpreter}\0");
        head[64..68].copy_from_slice(&3u32.to_ne_bytes()); // PT_INTERP
        head[72..76].copy_from_slice(&120u32.to_ne_bytes());
        head[96..100].copy_from_slice(&(text.len() as u32).to_ne_bytes());
        head.extend_from_slice(text.as_bytes());
        head
    }

    #[test]
    fn what_cannot_run_is_said_before_it_is_tried() {
        let fake = Fake::default().with_file("/lib/ld.so", b"").with_file("/bin/sh", b"");
        let said = |bytes: &[u8]| {
            check(&fake.clone().with_file("/init", bytes), c"/init")
                .map_or_else(|unfit| unfit.to_string(), |()| "".into())
        };
        let ours = THIS_MACHINE.machine;
        assert_eq!(said(&elf(ours, "/lib/ld.so")), "");
        assert_eq!(said(&elf(COMPAT_MACHINE, "/lib/ld.so")), "");
        assert_eq!(said(&elf(ours, "/lib/none.so")), "its interpreter /lib/none.so is not there");
        assert_eq!(said(&elf(8, "/lib/ld.so")), "it is a program for another machine (ELF machine 8)");
        assert_eq!(said(b"#!/bin/sh -e\n"), "");
        assert_eq!(said(b"#! /bin/none\nx"), "its interpreter /bin/none is not there");
        for bytes in [&b""[..], b"echo\n", b"\x7fELF", &elf(ours, "")[..18]] {
            assert_eq!(said(bytes), "it is neither an ELF program nor a script that begins with #!");
        }
        assert_eq!(check(&fake, c"/none").unwrap_err().to_string(), "it is not there");
        assert_eq!(check(&fake, c"/bin").unwrap_err().to_string(), "it is a directory");
        // Nothing that is cut off is wrong for that.
        let mut far = elf(ours, "/lib/none.so");
        far[72..76].copy_from_slice(&(1u32 << 30).to_ne_bytes());
        assert_eq!(said(&far), "");
    }

    #[test]
    fn the_kernels_inits_are_tried_where_none_is_named() {
        assert_eq!(inits(Some("/a,b")).collect::<Vec<_>>(), ["/a,b"]);
        assert_eq!(inits(None).collect::<Vec<_>>(), ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"]);
    }
}
