//! What the headers of files and devices say: ELF files, superblocks, partition tables.

use modest_loader::decode::{self, Plain};
use modest_loader::elf::{Bytes, Decoded, Elf, Fault, FileBytes, Machine, NAME_BYTES, THIS_MACHINE};
use modest_loader::errno::Errno;
use modest_loader::explain::{self, FailedLoad, KernelLog};
use modest_loader::format::Format;
use modest_loader::kernel::Kernel;
use modest_loader::load::Failure;
use modest_loader::root_device::{RootSpec, SUPERBLOCK_BYTES, mount_flag};
use modest_loader::source::DecodeError;

use crate::kernel::Memory;
use crate::{Input, utf8};

/// An ELF file, for any machine: what is said of it is what another parser says, however it is read.
pub fn preflight(data: &[u8]) {
    let mut input = Input(data);
    let kernel = input.kernel();
    let file = input.0;
    let kernel = kernel.with_file("/m.ko", file);
    let opened = kernel.open(c"/m.ko").unwrap();
    let told = said(file, None);
    if let Ok(told) = &told {
        compare(file, told);
    }
    let mut plain = Plain::new(&kernel, &opened);
    let (by_file, decoded) =
        (said(FileBytes { kernel: &kernel, file: &opened }, None), said(Decoded::new(&mut plain), None));
    if kernel.fails_from.is_none_or(|from| from > file.len() as u64) {
        assert_eq!(decode::format_of(&kernel, &opened), Ok(Format::of(file)));
        assert_eq!(by_file, told);
        assert_eq!(decoded, told);
    }
    match said(file, Some(THIS_MACHINE)) {
        Err(Fault::Empty) => assert!(file.is_empty()),
        Err(Fault::NotElf(magic)) => assert_ne!(magic, *b"\x7fELF"),
        Err(Fault::Truncated { needs_bytes, has_bytes }) => {
            assert!(needs_bytes > has_bytes && has_bytes == file.len() as u64, "{needs_bytes} of {has_bytes}");
        }
        Err(Fault::Unreadable(error)) => panic!("{error}"),
        Err(fault) => assert!(!fault.to_string().is_empty()),
        Ok(own) => assert_eq!(Ok(own), told),
    }
    for failure in [Failure::Read(Errno::EIO), Failure::Decode(DecodeError::Truncated), Failure::Open(Errno::ENOENT)] {
        told_of(&kernel, failure, None);
    }
}

/// What is told of a failure: something, whatever the log, the symbols and the file say.
fn told_of(kernel: &Memory, failure: Failure, budget_bytes: Option<u64>) {
    let mut count = 0;
    let exporters = |_: &str, visit: &mut dyn FnMut(&str)| visit("a.ko");
    let load = FailedLoad { file: c"/m.ko", failure, since_us: 1000, budget_bytes, exporters: &exporters };
    explain::explain(kernel, &KernelLog::default(), &load, &mut |cause| {
        assert!(!cause.to_string().is_empty());
        count += 1;
    });
    assert!(count > 0, "nothing is told of {failure:?}");
}

/// What the kernel answered to a load, with its log, its list of symbols, its command line, and the file.
pub fn causes(data: &[u8]) {
    let mut input = Input(data);
    let kernel = input.kernel();
    let (errno, budget_bytes) = (Errno(input.byte().into()), input.number() as u64);
    let mut parts = input.parts();
    let mut part = || parts.next().unwrap_or_default();
    let kernel = kernel.with_file("/dev/kmsg", part()).with_file("/proc/kallsyms", part());
    let kernel = kernel.with_file("/proc/cmdline", part()).with_file("/proc/meminfo", part());
    let file = parts.collect::<Vec<_>>().join(crate::PART);
    let kernel = kernel.with_file("/m.ko", &file);
    told_of(&kernel, Failure::Kernel(errno), (budget_bytes != 0).then_some(budget_bytes << 6));
}

/// What was handed over, and how that ended.
type Told<T> = (Vec<T>, Result<(), Fault>);

/// All that an ELF file says of itself.
#[derive(Debug, PartialEq)]
struct Said {
    machine: Machine,
    is_signed: bool,
    name: Result<String, Fault>,
    info: Told<(String, String)>,
    versions: Told<(String, u32)>,
    undefined: Told<String>,
    sections: Told<(String, u32, Vec<u8>)>,
    symbols: Told<(String, u16, u64, u64)>,
}

fn said<B: Bytes>(bytes: B, machine: Option<Machine>) -> Result<Said, Fault> {
    let mut elf = Elf::open(bytes, machine)?;
    let (mut info, mut versions, mut undefined) = (Vec::new(), Vec::new(), Vec::new());
    let (mut headers, mut symbols) = (Vec::new(), Vec::new());
    let infos = elf.info(&mut |key, value| info.push((key.to_string(), value.to_string())));
    let versioned = elf.versions(&mut |name, crc| versions.push((name.to_string(), crc)));
    let needed = elf.undefined(&mut |name| undefined.push(name.to_string()));
    let listed = elf.sections(&mut |_, name, section| headers.push((name.to_string(), section.kind, section.range)));
    let named = elf.symbols(&mut |symbol| {
        symbols.push((symbol.name.to_string(), symbol.section, symbol.value, symbol.size_bytes));
    });
    let sections = headers.into_iter().map(|(name, kind, range)| {
        let mut start = [0; 16];
        let len = elf.read(range, 1, &mut start).unwrap_or(0);
        (name, kind, start[..len].to_vec())
    });
    let sections = (sections.collect(), listed);
    Ok(Said {
        machine: elf.machine(),
        is_signed: elf.is_signed(),
        name: elf.name(&mut [0; NAME_BYTES]).map(str::to_string),
        info: (info, infos),
        versions: (versions, versioned),
        undefined: (undefined, needed),
        sections,
        symbols: (symbols, named),
    })
}

/// Compares with what another parser says.
fn compare(file: &[u8], said: &Said) {
    // It looks at program headers too, which modules have none of.
    let Ok(parsed) = elf::ElfBytes::<elf::endian::AnyEndian>::minimal_parse(file) else { return };
    assert_eq!((parsed.ehdr.e_machine, parsed.ehdr.e_type), (said.machine.machine, elf::abi::ET_REL));
    if said.sections.1.is_ok() {
        let (headers, names) = parsed.section_headers_with_strtab().unwrap();
        let (headers, names) = (headers.unwrap(), names.unwrap());
        let expected = headers.iter().skip(1).map(|h| (names.get(h.sh_name as usize).unwrap().to_string(), h.sh_type));
        assert!(said.sections.0.iter().map(|(name, kind, _)| (name.clone(), *kind)).eq(expected));
    }
    if said.symbols.1.is_ok() {
        let (symbols, names) = parsed.symbol_table().unwrap().unwrap();
        let all: Vec<_> = symbols.iter().collect();
        let expected = all
            .iter()
            .skip(1)
            .map(|s| (names.get(s.st_name as usize).unwrap().to_string(), s.st_shndx, s.st_value, s.st_size));
        assert!(said.symbols.0.iter().cloned().eq(expected));
        let is_needed =
            |s: &&elf::symbol::Symbol| s.is_undefined() && s.st_name != 0 && s.st_bind() != elf::abi::STB_WEAK;
        let header = parsed.section_headers().unwrap().iter().find(|h| h.sh_type == elf::abi::SHT_SYMTAB).unwrap();
        let globals = all.iter().skip(header.sh_info.max(1) as usize).filter(is_needed);
        let mut expected: Vec<_> = globals.map(|s| names.get(s.st_name as usize).unwrap().to_string()).collect();
        let mut undefined = said.undefined.0.clone();
        expected.sort_unstable();
        undefined.sort_unstable();
        assert_eq!((undefined, &said.undefined.1), (expected, &Ok(())));
    }
    for (key, _) in &said.info.0 {
        assert!(!key.contains('='));
    }
    let most = file.len();
    assert!(said.info.0.len() <= most && said.versions.0.len() <= most / 64 && said.undefined.0.len() <= most / 16);
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
