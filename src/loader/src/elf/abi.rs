//! The numbers of `elf.h` (elf(5)) that modules need, under the names they have there.
#![allow(missing_docs)]

pub const ELFMAG: [u8; 4] = *b"\x7fELF";
pub const EI_CLASS: usize = 4;
pub const EI_DATA: usize = 5;
pub const ELFCLASS32: u8 = 1;
pub const ELFCLASS64: u8 = 2;
pub const ELFDATA2LSB: u8 = 1;
pub const ELFDATA2MSB: u8 = 2;

pub const ET_REL: u16 = 1;
pub const ET_EXEC: u16 = 2;
pub const ET_DYN: u16 = 3;

pub const EM_386: u16 = 3;
pub const EM_MIPS: u16 = 8;
pub const EM_PPC: u16 = 20;
pub const EM_PPC64: u16 = 21;
pub const EM_S390: u16 = 22;
pub const EM_ARM: u16 = 40;
pub const EM_X86_64: u16 = 62;
pub const EM_AARCH64: u16 = 183;
pub const EM_RISCV: u16 = 243;
pub const EM_LOONGARCH: u16 = 258;

pub const SHT_NULL: u32 = 0;
pub const SHT_PROGBITS: u32 = 1;
pub const SHT_SYMTAB: u32 = 2;
pub const SHT_STRTAB: u32 = 3;
pub const SHT_NOBITS: u32 = 8;
pub const SHF_ALLOC: u64 = 2;

pub const SHN_UNDEF: u16 = 0;
pub const SHN_ABS: u16 = 0xfff1;

pub const STB_LOCAL: u8 = 0;
pub const STB_GLOBAL: u8 = 1;
pub const STB_WEAK: u8 = 2;

/// An offset within a structure, or a length, in bytes: of 32-bit files (`Elf32_*`), of 64-bit files (`Elf64_*`).
pub type ByClass = (usize, usize);

/// The length of `Elf32_Ehdr` and `Elf64_Ehdr`.
pub const EHDR_BYTES: ByClass = (52, 64);
pub const E_TYPE: ByClass = (16, 16);
pub const E_MACHINE: ByClass = (18, 18);
pub const E_SHOFF: ByClass = (0x20, 0x28);
pub const E_SHENTSIZE: ByClass = (0x2e, 0x3a);
pub const E_SHNUM: ByClass = (0x30, 0x3c);
pub const E_SHSTRNDX: ByClass = (0x32, 0x3e);

/// The length of `Elf32_Shdr` and `Elf64_Shdr`.
pub const SHDR_BYTES: ByClass = (40, 64);
pub const SH_NAME: ByClass = (0, 0);
pub const SH_TYPE: ByClass = (4, 4);
pub const SH_FLAGS: ByClass = (8, 8);
pub const SH_ADDR: ByClass = (0x0c, 0x10);
pub const SH_OFFSET: ByClass = (0x10, 0x18);
pub const SH_SIZE: ByClass = (0x14, 0x20);
pub const SH_LINK: ByClass = (0x18, 0x28);
pub const SH_INFO: ByClass = (0x1c, 0x2c);
pub const SH_ADDRALIGN: ByClass = (0x20, 0x30);
pub const SH_ENTSIZE: ByClass = (0x24, 0x38);

/// The length of `Elf32_Sym` and `Elf64_Sym`.
pub const SYM_BYTES: ByClass = (16, 24);
pub const ST_NAME: ByClass = (0, 0);
pub const ST_VALUE: ByClass = (4, 8);
pub const ST_SIZE: ByClass = (8, 16);
pub const ST_INFO: ByClass = (12, 4);
pub const ST_SHNDX: ByClass = (14, 6);
