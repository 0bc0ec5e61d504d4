//! The relocations of an image.

use elf::abi::{EM_AARCH64, EM_ARM, EM_RISCV, SHT_NULL, SHT_REL, SHT_RELA};
use modest_loader::elf::{Fault, Machine};

use super::sections::{SHF_ALLOC, Sections, content};

/// SHF_RELA_LIVEPATCH (include/uapi/linux/elf.h): these relocations are not for the loader.
const SHF_RELA_LIVEPATCH: u64 = 0x0010_0000;

/// What `apply_relocations` of kernel/module/main.c and the architectures' `apply_relocate` refuse: entries of a form or
/// type that they do not know, for a symbol or a place that is not there. Of another architecture nothing is known.
pub fn check(image: &[u8], machine: Machine, sections: &Sections, symbols: u64) -> Result<(), Fault> {
    let (wanted, is_known): (u32, fn(u64) -> bool) = match (machine.machine, machine.class, machine.data) {
        (EM_ARM, 1, 1) => (SHT_REL, |kind| matches!(kind, 0..=3 | 10 | 28..=30 | 38 | 40 | 42..=50 | 57 | 59 | 63)),
        (EM_AARCH64, 2, 1) => (SHT_RELA, |kind| matches!(kind, 0 | 256..=280 | 282..=293 | 299)),
        (EM_RISCV, 2, 1) => {
            (SHT_RELA, |kind| matches!(kind, 1 | 2 | 16..=20 | 22..=28 | 33..=40 | 44 | 45 | 51..=57 | 59..=61))
        }
        _ => return Ok(()),
    };
    let entry_bytes = if wanted == SHT_REL { 8 } else { 24 };
    for (number, _, section) in sections {
        if !matches!(section.kind, SHT_REL | SHT_RELA) || section.flags & SHF_RELA_LIVEPATCH != 0 {
            continue;
        }
        let target = sections.iter().find(|(number, ..)| u32::from(*number) == section.info);
        let Some((_, _, target)) = target.filter(|(_, _, target)| target.flags & SHF_ALLOC != 0) else { continue };
        if section.kind != wanted {
            return Err(Fault::Section(*number, "relocations of another form than this architecture's"));
        }
        for entry in content(image, section.range).chunks_exact(entry_bytes) {
            let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| entry[at + i]));
            let word = |at: usize| u64::from(u32::from_le_bytes(std::array::from_fn(|i| entry[at + i])));
            let (place, symbol, kind) = match entry_bytes {
                8 => (word(0), word(4) >> 8, word(4) & 0xff),
                _ => (long(0), word(12), word(8)),
            };
            if !is_known(kind) {
                return Err(Fault::Section(*number, "a relocation of a type that the kernel does not know"));
            }
            if symbol >= symbols {
                return Err(Fault::Section(*number, "a relocation for a symbol that there is not"));
            }
            if place >= target.range.len_bytes && target.kind != SHT_NULL {
                return Err(Fault::Section(*number, "a relocation for a place that there is not"));
            }
        }
    }
    Ok(())
}
