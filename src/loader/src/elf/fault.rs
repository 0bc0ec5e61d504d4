//! Why a file is not a module that this kernel could take.

use core::fmt;

use super::abi::{ET_DYN, ET_EXEC};
use super::machine::{Machine, THIS_MACHINE};
use crate::kernel::FileKind;
use crate::source::DecodeError;

/// What makes a file no module that this kernel could take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Fault {
    Unreadable(DecodeError),
    NotRegular(FileKind),
    Empty,
    /// It ends in zeros, which no module does, and is damaged.
    EndsInZeros,
    NotElf([u8; 4]),
    OtherMachine(Machine),
    NotRelocatable(u16),
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
            Fault::EndsInZeros => f.write_str(
                "the file ends in zeros: it was not written whole. The kernel leaves such files where it has too \
                 little memory to unpack the initramfs",
            ),
            Fault::NotElf([a, b, c, d]) => {
                write!(
                    f,
                    "the file is not a module: it begins with {a:02x} {b:02x} {c:02x} {d:02x}, not with the ELF magic"
                )
            }
            Fault::OtherMachine(machine) => write!(f, "it was built for {machine}, but this machine is {THIS_MACHINE}"),
            Fault::NotRelocatable(ET_EXEC | ET_DYN) => f.write_str("it is a program or a shared library, not a module"),
            Fault::NotRelocatable(kind) => write!(f, "its ELF type is {}; a module's is 1", usize::from(*kind)),
            Fault::Truncated { needs_bytes, has_bytes } => {
                write!(f, "the file is truncated: it has {has_bytes} bytes, but its headers refer to {needs_bytes}")
            }
            Fault::Stripped => {
                f.write_str("the kernel cannot link it: it has no symbol table (strip it with --strip-debug only)")
            }
            Fault::Header(what) => write!(f, "its ELF header is damaged: {what}"),
            Fault::Section(number, what) => write!(f, "its section header {} is damaged: {what}", usize::from(*number)),
            Fault::Lacks(section) => {
                write!(f, "it has no section {section}: it is an object file that modpost has not made a module")
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
