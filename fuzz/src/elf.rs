//! What the headers of files and devices say: ELF files, superblocks, partition tables.

use modest_loader::decode::DecodeError;
use modest_loader::errno::Errno;
use modest_loader::explain;
use modest_loader::image::{self, Fault, Format};
use modest_loader::kernel::Kernel;
use modest_loader::load::Failure;
use modest_loader::root::{RootSpec, SUPERBLOCK_BYTES, mount_flag};

use crate::{Input, utf8};

/// A module file that was refused: what is said of it is so.
pub fn preflight(data: &[u8]) {
    let mut input = Input(data);
    let kernel = input.kernel();
    let file = input.0;
    let kernel = kernel.with_file("/m.ko", file);
    let opened = kernel.open(c"/m.ko").unwrap();
    let fault = image::examine(&kernel, &opened);
    let is_cut = kernel.read_at_most != 0 || kernel.fails_from.is_some_and(|from| from <= file.len() as u64);
    if !is_cut {
        assert_eq!(image::format_of(&kernel, &opened), Ok(Format::of(file)));
        let parsed = elf::ElfBytes::<elf::endian::AnyEndian>::minimal_parse(file);
        match fault {
            None => {
                let sections = parsed.unwrap().section_headers().unwrap();
                assert!(sections.iter().any(|section| section.sh_type == elf::abi::SHT_SYMTAB));
            }
            Some(Fault::Empty) => assert!(file.is_empty()),
            Some(Fault::NotElf(magic)) => assert_ne!(magic, *b"\x7fELF"),
            Some(Fault::Truncated { needs_bytes, has_bytes }) => {
                assert!(needs_bytes > has_bytes && has_bytes == file.len() as u64, "{fault:?}");
            }
            Some(Fault::OtherMachine(_) | Fault::NotRelocatable(_)) => assert!(file.starts_with(b"\x7fELF")),
            Some(Fault::Stripped) => {
                let has_symbols = |parsed: elf::ElfBytes<_>| {
                    parsed.section_headers().is_some_and(|sections: elf::section::SectionHeaderTable<_>| {
                        sections.iter().any(|section| section.sh_type == elf::abi::SHT_SYMTAB)
                    })
                };
                assert!(!parsed.is_ok_and(has_symbols));
            }
            Some(Fault::Unreadable(_) | Fault::NotRegular(_)) => panic!("{fault:?}"),
        }
    }
    let failures = [
        Failure::Kernel(Errno::ENOEXEC),
        Failure::Kernel(Errno(data.len())),
        Failure::Read(Errno::EIO),
        Failure::Decode(DecodeError::Truncated),
        Failure::Open(Errno::ENOENT),
    ];
    for failure in failures {
        let cause = explain::explain(&kernel, c"/m.ko", failure).to_string();
        assert!(!cause.is_empty() && !cause.contains('\n'));
    }
}

/// What `root=` names, on a device that begins with these bytes.
pub fn root(data: &[u8]) {
    let mut parts = Input(data).parts();
    let (text, device) = (utf8(parts.next().unwrap_or_default()), parts.next().unwrap_or_default());
    assert!(text.split(',').filter_map(mount_flag).all(|flag| flag < 1 << 31));
    let spec = match RootSpec::parse(text) {
        Ok(spec) => spec,
        Err(bad) => return assert!(bad.to_string().contains(text)),
    };
    let is_it = spec.is_filesystem(&device[..device.len().min(SUPERBLOCK_BYTES)]);
    assert!(!is_it || device[1080..1082] == [0x53, 0xef]);
    for sector_bytes in [512, 4096] {
        let mut reads = 0;
        let number = spec.partition(sector_bytes, &mut |buf, at| {
            reads += 1;
            let from = usize::try_from(at).ok().and_then(|at| device.get(at..));
            from.and_then(|from| from.get(..buf.len())).map(|bytes| buf.copy_from_slice(bytes)).is_some()
        });
        assert!(reads <= 257, "{reads} reads");
        match (number, spec) {
            (Some(number), RootSpec::MbrPartition { number: asked, .. }) => assert_eq!(number, asked),
            (Some(number), RootSpec::PartUuid(_)) => assert!((1..=256).contains(&number)),
            (Some(number), _) => panic!("partition {number} of {spec:?}"),
            (None, _) => {}
        }
    }
}
