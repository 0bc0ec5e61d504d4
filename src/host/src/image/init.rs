//! The program that becomes the init of an image.

use anyhow::{Result, ensure};
use elf::ElfBytes;
use elf::endian::AnyEndian;
use modest_loader::elf::Machine;

use crate::board::Arch;

/// Checks that a program will run on the board without a library; a script is taken as it is.
pub fn check_init(bytes: &[u8], arch: Arch) -> Result<()> {
    let Some(machine) = machine(bytes) else {
        ensure!(bytes.starts_with(b"#!"), "neither an ELF file nor a script");
        return Ok(());
    };
    ensure!(machine == arch.machine(), "built for {machine}; the board is {}", arch.machine());
    let elf = ElfBytes::<AnyEndian>::minimal_parse(bytes)?;
    let is_dynamic = elf.segments().is_some_and(|table| table.iter().any(|s| s.p_type == elf::abi::PT_INTERP));
    ensure!(!is_dynamic, "dynamically linked; expected a static program");
    Ok(())
}

fn machine(bytes: &[u8]) -> Option<Machine> {
    let machine = u16::from_le_bytes(*bytes.get(18..)?.first_chunk()?);
    bytes.starts_with(b"\x7fELF").then_some(Machine { class: bytes[4], data: bytes[5], machine })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::made::module;

    #[test]
    fn an_init_must_run_alone() {
        let mut program = module(&[]);
        check_init(&program, Arch::Aarch64).unwrap();
        check_init(b"#!/bin/sh\n", Arch::Aarch64).unwrap();
        let says = |bytes: &[u8], arch| check_init(bytes, arch).unwrap_err().to_string();
        assert_eq!(says(&program, Arch::Armv7), "built for AArch64; the board is Arm");
        assert_eq!(says(b"text", Arch::Armv7), "neither an ELF file nor a script");
        // A program header of type PT_INTERP, where the section headers are.
        program[0x20] = 64;
        program[0x36] = 56;
        program[0x38] = 1;
        program[64] = 3;
        assert_eq!(says(&program, Arch::Aarch64), "dynamically linked; expected a static program");
    }
}
