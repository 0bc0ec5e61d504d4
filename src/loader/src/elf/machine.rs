//! The machine that an ELF file is for.

use core::fmt;

use super::abi::*;

#[cfg(target_arch = "aarch64")]
const EM_CURRENT: u16 = EM_AARCH64;
#[cfg(target_arch = "arm")]
const EM_CURRENT: u16 = EM_ARM;
#[cfg(target_arch = "riscv64")]
const EM_CURRENT: u16 = EM_RISCV;
#[cfg(target_arch = "x86_64")]
const EM_CURRENT: u16 = EM_X86_64;

/// The machine that this is built for, as an ELF header names it.
pub const THIS_MACHINE: Machine = Machine {
    class: if cfg!(target_pointer_width = "64") { ELFCLASS64 } else { ELFCLASS32 },
    data: if cfg!(target_endian = "little") { ELFDATA2LSB } else { ELFDATA2MSB },
    machine: EM_CURRENT,
};

/// What an ELF file is for: `EI_CLASS`, `EI_DATA` and `e_machine` of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    /// `ELFCLASS*`: 1 for 32 bits, 2 for 64 bits.
    pub class: u8,
    /// `ELFDATA*`: 1 for little-endian, 2 for big-endian.
    pub data: u8,
    /// `EM_*`.
    pub machine: u16,
}

impl Machine {
    /// Reads it from the start of an ELF file; `None` where that is too short.
    pub(super) fn parse(bytes: &[u8]) -> Option<Machine> {
        let (class, data) = (*bytes.get(EI_CLASS)?, *bytes.get(EI_DATA)?);
        let machine = *bytes.get(E_MACHINE.0..)?.first_chunk()?;
        let machine = if data == ELFDATA2MSB { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
        Some(Machine { class, data, machine })
    }

    /// Whether its class and its byte order exist.
    pub(super) fn is_valid(self) -> bool {
        matches!(self.class, ELFCLASS32 | ELFCLASS64) && matches!(self.data, ELFDATA2LSB | ELFDATA2MSB)
    }

    pub(super) fn is_big_endian(self) -> bool {
        self.data == ELFDATA2MSB
    }

    /// The number of the two that holds for the machine's class.
    pub(super) fn pick(self, (for_32, for_64): ByClass) -> usize {
        if self.class == ELFCLASS32 { for_32 } else { for_64 }
    }
}

/// The architectures that Linux runs on.
const NAMES: [(u16, &str); 10] = [
    (EM_386, "x86"),
    (EM_MIPS, "MIPS"),
    (EM_PPC, "PowerPC"),
    (EM_PPC64, "PowerPC64"),
    (EM_S390, "S/390"),
    (EM_ARM, "Arm"),
    (EM_X86_64, "x86-64"),
    (EM_AARCH64, "AArch64"),
    (EM_RISCV, "RISC-V"),
    (EM_LOONGARCH, "LoongArch"),
];

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((_, name)) = NAMES.iter().find(|(number, _)| *number == self.machine) else {
            return write!(f, "machine {}", usize::from(self.machine));
        };
        // These three names fit either class; and a file may differ from this machine by its class alone.
        let is_ambiguous = matches!(self.machine, EM_MIPS | EM_RISCV | EM_LOONGARCH)
            || self.machine == THIS_MACHINE.machine && self.class != THIS_MACHINE.class;
        let bits = match self.class {
            ELFCLASS32 if is_ambiguous => " (32 bits)",
            ELFCLASS64 if is_ambiguous => " (64 bits)",
            _ => "",
        };
        let order = if self.is_big_endian() { " big-endian" } else { "" };
        write!(f, "{name}{bits}{order}")
    }
}
