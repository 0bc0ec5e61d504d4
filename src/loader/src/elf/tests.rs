use super::made::Made;
use super::*;

const BIG: Machine = Machine { class: ELFCLASS32, data: ELFDATA2MSB, machine: EM_MIPS };

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
    let riscv = Machine { class: ELFCLASS64, data: ELFDATA2LSB, machine: EM_RISCV };
    assert_eq!(changed(18, 243), Some(Fault::OtherMachine(riscv)));
    assert_eq!(riscv.to_string(), "RISC-V (64 bits)");
    assert_eq!(changed(16, 3), Some(Fault::NotRelocatable(3)));
    let header = |number: usize| good.len() - 7 * 64 + number * 64;
    assert_eq!(changed(header(4) + 4, 1), Some(Fault::Stripped));
    for zeros_from in 1..header(4) {
        let mut elf = good.clone();
        elf[zeros_from..].fill(0);
        assert_eq!(fault(&elf), Some(Fault::EndsInZeros), "{zeros_from}");
    }
    for len in 1..good.len() {
        let fault = fault(&good[..len]);
        assert!(matches!(fault, Some(Fault::Truncated { .. } | Fault::NotElf(_))), "{len}: {fault:?}");
    }
    assert_eq!(changed(header(1) + 4, 2), Some(Fault::Section(4, "it is a second symbol table")));
    assert_eq!(changed(header(3), 2), Some(Fault::Lacks(".gnu.linkonce.this_module")));
    assert_eq!(changed(header(3), 200), Some(Fault::Section(3, "its name is outside the table of names")));
    assert_eq!(changed(header(5) - 1, 1), Some(Fault::Content("its symbols have the wrong length")));
    assert_eq!(changed(header(4) + 0x28, 9), Some(Fault::Content("its symbols have no names")));
    assert_eq!(changed(header(0) + 0x20, 1), Some(Fault::Section(0, "it should be empty")));
    assert_eq!(changed(header(3) + 8, 0), Some(Fault::Section(3, "it is not marked to be loaded")));
    assert_eq!(changed(header(2), 1), Some(Fault::Section(2, "another section has the same name")));
    assert_eq!(changed(0x3e, 0), Some(Fault::Header("no section holds the names of sections")));
    let far = Some(Fault::Section(1, "it reaches beyond the end of the file"));
    assert_eq!((changed(header(1) + 0x1f, 0xff), changed(header(1) + 0x22, 0xff)), (far, far));
    assert_eq!(changed(0x3c, 0), Some(Fault::Header("no section holds the names of sections")));
    let length = Some(Fault::Header("its section headers have the wrong length"));
    assert_eq!((changed(0x3a, 63), changed(0x3b, 1)), (length, length));
    let none = Some(Fault::Header("its class or byte order does not exist"));
    assert_eq!((changed(4, 0), changed(5, 3)), (none, none));
    let first = Some(Fault::Section(0, "it should be empty"));
    assert_eq!(
        (changed(header(0) + 4, 1), changed(header(0) + 0x10, 1), changed(header(0) + 0x20, 1)),
        (first, first, first)
    );
    assert_eq!(changed(header(3) + 8, 0), Some(Fault::Section(3, "it is not marked to be loaded")));
    assert_eq!(changed(header(3) + 4, 0), Some(Fault::Lacks(".gnu.linkonce.this_module")));
    let second = "another section has the same name";
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
    use crate::kernel::Kernel;
    use crate::kernel::fake::Fake;
    use crate::limits::ELF_KEPT_BYTES;
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
