//! Makes seeds: real modules and indexes, cut down to a few KB, and texts that have what a target knows.
//!
//!     cargo run --no-default-features --features seeds --bin seeds MODULES OUT
//!
//! MODULES is a `/lib/modules/RELEASE` of a kernel that compresses modules with xz; OUT/TARGET gets the seeds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use lzma_rust2::filter::FilterType;
use lzma_rust2::{CheckType, XzOptions, XzReader, XzWriter};
use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

const PART: &[u8] = b"\xff\xfe";

/// A kernel whose reads are whole.
const WHOLE: [u8; 3] = [0; 3];

struct Seeds {
    folder: PathBuf,
    made: BTreeMap<String, usize>,
}

impl Seeds {
    fn add(&mut self, target: &str, parts: &[&[u8]]) {
        let number = self.made.entry(target.into()).or_default();
        *number += 1;
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("seed-{number:02}")), parts.concat()).unwrap();
    }
}

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(modules), Some(folder)) = (arguments.next(), arguments.next()) else {
        panic!("usage: seeds MODULES OUT");
    };
    let mut seeds = Seeds { folder, made: BTreeMap::new() };
    texts(&mut seeds);
    names(&mut seeds, &modules);
    files(&mut seeds, &modules);
    runs(&mut seeds);
    println!("{:?}", seeds.made);
}

fn texts(seeds: &mut Seeds) {
    for manifest in [
        "# comment\n; comment\n@root /lib/modules/6.12.1\n@budget 512K\n@unlink\n@on-error continue\next4\nfs-vfat @optional\n",
        "virtio_blk queue_depth=64\nkernel/drivers/net/dummy.ko.gz @optional numdummies=2\nbrcmfmac @if=sdio:c*v02D0d*\n",
        "@coldplug mmc usb\n@wait /dev/mmcblk0p2 usb:v1* @timeout=5s @optional\n@switch-root\n@exec /sbin/init.real\n",
        "foo @size=3M @path=stream label=\"two words\" x=\"a @b\"\r\nbar @size=1 @path=finit-compressed\n@on-error exec /bin/sh\n",
        "@on-error reboot\n@on-error stop\n@coldplug\n@wait a @timeout=1m\nsnd-a.ko.zst a='1'\n",
    ] {
        seeds.add("manifest", &[&WHOLE, manifest.as_bytes()]);
        seeds.add("manifest", &[&[3, 0, 0], manifest.as_bytes()]);
    }
    for line in [
        "console=ttyS0 root=LABEL=data  rw modest.skip=a,snd-b \"x=1 2\" y=\"3 4\" rw=no -- z=1\n",
        "modprobe.blacklist=a,b-c rd.driver.blacklist=d,e module_blacklist=f rd.driver.pre=g,h modules-load=i rd.modules-load=j",
        "a.b=c a-b.c=\"d e\" \"f.g=h i\" j.k l.m=[1-2] modest.manifest=/x modest.budget=1M modest.debug a.b.c=d",
    ] {
        seeds.add("cmdline", &[&WHOLE, &[0, 4], line.as_bytes()]);
        seeds.add("cmdline", &[&[7, 0, 0], &[60, 0], line.as_bytes()]);
    }
    let mut filesystem = vec![0; 2048];
    filesystem[1080..1082].copy_from_slice(&[0x53, 0xef]);
    filesystem[1024 + 0x68..1024 + 0x88].copy_from_slice(
        b"\x12\x34\x56\x78\x12\x34\x12\x34\x12\x34\x12\x34\x56\x78\x9a\xbcdata\0\0\0\0\0\0\0\0\0\0\0\0",
    );
    let mut gpt = vec![0; 2048];
    gpt[510..512].copy_from_slice(&[0x55, 0xaa]);
    gpt[440..444].copy_from_slice(&0xdead_beefu32.to_le_bytes());
    gpt[512..520].copy_from_slice(b"EFI PART");
    (gpt[584], gpt[592], gpt[596]) = (2, 4, 128);
    gpt[1024 + 16..1024 + 32].copy_from_slice(b"\x78\x56\x34\x12\x34\x12\x34\x12\x12\x34\x12\x34\x56\x78\x9a\xbc");
    for (text, device) in [
        ("/dev/mmcblk0p2", &filesystem),
        ("LABEL=data", &filesystem),
        ("UUID=12345678-1234-1234-1234-123456789abc", &filesystem),
        ("PARTUUID=12345678-1234-1234-1234-123456789ABC", &gpt),
        ("PARTUUID=deadbeef-02", &gpt),
        ("ro,noatime,sync,dirsync,defaults,rw,nosuid,nodev,noexec,relatime,strictatime,nodiratime", &gpt),
    ] {
        seeds.add("root", &[text.as_bytes(), PART, device]);
    }
    let uevents: [&[u8]; 4] = [
        b"DRIVER=virtio-pci\nPCI_CLASS=10000\nPCI_ID=1AF4:1001\nMODALIAS=pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00\n",
        b"PRODUCT=781/5581/100\nTYPE=0/0/0\nMODALIAS=usb:v0781p5581d0100dc00dsc00dp00ic08isc06ip50in00\n",
        b"NAME=\"Keys\"\nMODALIAS=input:b0019v0000p0001e0000-e0,1,k74,ramlsfw\n",
        b"OF_NAME=sdhci\nMODALIAS=of:NmmcT(null)Cbrcm,bcm2835-sdhost\nMODALIAS=acpi:PNP0501:",
    ];
    let uevents = uevents.join(PART);
    for [buses, patterns] in [["pci usb", "pci:v*\nusb:v0781p[0-9]*"], ["", ""], ["input", "input:*k7?,*"]] {
        let asked = [buses.as_bytes(), patterns.as_bytes()].join(PART);
        seeds.add("devices", &[&WHOLE, &asked, PART, &uevents]);
        seeds.add("devices", &[&[5, 0, 0], &asked, PART, &uevents]);
    }
}

/// The lines of a tree's file that have one of these words, not too many.
fn lines(modules: &Path, file: &str, words: &[&str], most: usize) -> Vec<u8> {
    let text = fs::read(modules.join(file)).unwrap();
    let text = String::from_utf8_lossy(&text);
    let found = text.lines().filter(|line| words.iter().any(|word| line.contains(word)) && line.len() < 200).take(most);
    found.map(|line| format!("{line}\n")).collect::<String>().into_bytes()
}

fn names(seeds: &mut Seeds, modules: &Path) {
    let words = ["virtio", "ext4", "crc32c", "mbcache", "jbd2", "usb_storage", "usb-storage"];
    let dep = lines(modules, "modules.dep", &words, 24);
    let alias = lines(modules, "modules.alias", &["virtio", "fs-ext", "usb:v0781", "of:N*T*Cbrcm,bcm2835-sd"], 24);
    let symbols = lines(modules, "modules.symbols", &["virtio_check", "mb_cache"], 12);
    let builtin = lines(modules, "modules.builtin", &["loop", "unix"], 4);
    let modinfo = fs::read(modules.join("modules.builtin.modinfo")).unwrap();
    let modinfo: Vec<_> =
        modinfo.split(|byte| *byte == 0).filter(|word| word.windows(6).any(|w| w == b"alias=")).take(8).collect();
    let modinfo = modinfo.join(&0);
    let softdep = lines(modules, "modules.softdep", &["softdep"], 8);
    let asked = b"ext4\nvirtio-blk\nfs-ext4\nvirtio:d00000002v00001AF4\nusb:v0781p5581d0100dc00dsc00dp00ic08isc06ip50in00\nsymbol:mb_cache_create";
    seeds.add("tables", &[asked, PART, &dep, PART, &alias, PART, &modinfo]);
    seeds.add("tables", &[b"crc32c_generic\next4\nfs-ext3", PART, &dep, PART, &symbols, PART, &modinfo]);
    let modprobe_d: [&[u8]; 3] = [
        b"# comment\nalias net-pf-10 off\nalias my-[a-c]* ext4\noptions ext4 a=1 b=\"2 3\"\nblacklist jbd2\ninstall mbcache /bin/true\nsoftdep ext4 pre: crc32c post: virtio_blk\nremove x y\nweakdep a b\noptions virtio_blk \\\n c=d\nbad\n",
        b"install my-x /sbin/modprobe --ignore-install x $CMDLINE_OPTS\nalias fs-* ext4\nsoftdep jbd2 pre: ext4\nsoftdep virtio_blk post: jbd2 pre: mbcache\n",
        b"blacklist ext4\nalias ext4 virtio_blk\nalias virtio_blk ext4\nremove loop /bin/false\n",
    ];
    for text in modprobe_d {
        let cmdline = b"ext4.x=1 modprobe.blacklist=virtio_net virtio_blk.queue-depth=\"4 5\"";
        let parts: [&[u8]; 9] = [asked, text, &softdep, cmdline, &dep, &alias, &symbols, &builtin, &modinfo];
        seeds.add("config", &[&[0x80, 0, 2], &parts.join(PART)]);
    }
    for (file, words) in
        [("modules.dep", &words[..]), ("modules.alias", &["virtio", "fs-ext", "usb:v0781", "pci:v00001AF4"])]
    {
        for most in [3, 30] {
            let index = modest_fuzz::indexed(file, &lines(modules, file, words, most)).unwrap();
            seeds.add("index", &[&WHOLE, asked, PART, &index]);
        }
    }
}

/// The smallest modules, as ELF files.
fn smallest(modules: &Path) -> Vec<Vec<u8>> {
    fn walk(folder: &Path, found: &mut Vec<(u64, PathBuf)>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), found);
            } else if entry.path().to_string_lossy().ends_with(".ko.xz") {
                found.push((entry.metadata().unwrap().len(), entry.path()));
            }
        }
    }
    let mut found = Vec::new();
    walk(&modules.join("kernel"), &mut found);
    found.sort();
    let images = found.iter().take(2).map(|(_, path)| {
        let mut image = Vec::new();
        XzReader::new(&fs::read(path).unwrap()[..], true).read_to_end(&mut image).unwrap();
        image
    });
    images.collect()
}

/// A small module for a machine of this kind.
fn module(architecture: Architecture, endian: Endianness) -> Vec<u8> {
    let mut elf = Object::new(BinaryFormat::Elf, architecture, endian);
    let is_small = architecture.address_size().unwrap().bytes() == 4;
    let mut add = |name: &str, bytes: &[u8]| {
        let section = elf.add_section(Vec::new(), name.into(), SectionKind::ReadOnlyData);
        elf.append_section_data(section, bytes, 8);
    };
    add(".modinfo", b"name=made\0vermagic=6.1 SMP\0parm=x:a text with = in it\0");
    let mut version = [0; 64];
    version[if is_small { 4 } else { 8 }..][..14].copy_from_slice(b"module_layout\0");
    add("__versions", &version.repeat(3));
    let mut this_module = vec![0; 200];
    this_module[if is_small { 12 } else { 24 }..][..5].copy_from_slice(b"made\0");
    add(".gnu.linkonce.this_module", &this_module);
    for (name, weak) in [("printk", false), ("kmalloc", false), ("weak", true)] {
        let (kind, scope, section) = (SymbolKind::Text, SymbolScope::Unknown, SymbolSection::Undefined);
        let name = name.into();
        elf.add_symbol(Symbol { name, value: 0, size: 0, kind, scope, weak, section, flags: SymbolFlags::None });
    }
    elf.write().unwrap()
}

fn xz(data: &[u8], check: CheckType, filter: Option<FilterType>, block_bytes: Option<u64>) -> Vec<u8> {
    let mut options = XzOptions::with_preset(6);
    options.lzma_options.dict_size = 1 << 16;
    options.set_check_sum_type(check);
    options.set_block_size(block_bytes.and_then(std::num::NonZeroU64::new));
    if let Some(filter) = filter {
        options.prepend_pre_filter(filter, if filter == FilterType::Delta { 1 } else { 0 });
    }
    let mut encoder = XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn gzip(data: &[u8], level: u32, name: bool) -> Vec<u8> {
    let mut builder = flate2::GzBuilder::new();
    if name {
        builder = builder.filename("m.ko").comment("seed").extra("extra");
    }
    let mut encoder = builder.write(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8], level: i32, window_log: u32, checksum: bool, size: bool) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.include_checksum(checksum).unwrap();
    encoder.include_contentsize(size).unwrap();
    if size {
        encoder.set_pledged_src_size(Some(data.len() as u64)).unwrap();
    }
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn files(seeds: &mut Seeds, modules: &Path) {
    let images = smallest(modules);
    for image in &images {
        seeds.add("preflight", &[&WHOLE, image]);
        // What this machine would take goes further.
        let mut own = image.clone();
        let machine = modest_loader::elf::THIS_MACHINE.machine.to_le_bytes();
        own[18..20].copy_from_slice(&machine);
        seeds.add("preflight", &[&WHOLE, &own]);
        seeds.add("preflight", &[&WHOLE, &own[..own.len() / 2]]);
    }
    for made in [
        module(Architecture::X86_64, Endianness::Little),
        module(Architecture::Arm, Endianness::Little),
        module(Architecture::Mips, Endianness::Big),
        module(Architecture::PowerPc64, Endianness::Big),
    ] {
        seeds.add("preflight", &[&WHOLE, &made]);
        seeds.add("preflight", &[&WHOLE, &made, b"~Module signature appended~\n"]);
    }
    let own = module(Architecture::X86_64, Endianness::Little);
    let symbols = b"0000000000000000 T printk\n0 d jiffies\n0 T crc16\t[crc16]\n";
    let meminfo = b"MemAvailable:       6100 kB\n";
    for message in [
        "Unknown symbol kmalloc (err -2)",
        "disagrees about version of symbol module_layout",
        "module uses symbol (dma_buf_get) from namespace DMA_BUF, but does not import it.",
        "exports duplicate symbol crc16 (owned by crc16)",
        "version magic '6.1 SMP' should be '6.2 SMP'",
        "`a b' invalid for parameter `x'",
        "module is already loaded",
        "something else",
    ] {
        let log = format!(
            "6,1,1000,-;made: {message}\n4,2,2000,-;made: Unknown symbol printk (err 0)\n4,3,2000,-;made 1: no\n"
        );
        for (errno, compressed) in [(8, false), (22, false), (2, true), (17, false), (1, false)] {
            let file = if compressed { gzip(&own, 6, false) } else { own.clone() };
            let parts = [log.as_bytes(), symbols, b"module_blacklist=a module.sig_enforce", meminfo, &file];
            seeds.add("causes", &[&WHOLE, &[errno, 0, 0], &parts.join(PART)]);
        }
    }
    let log = "6,1,1000,-;usb 1-1: Direct firmware load for a/b.bin failed with error -2\n6,1,1,-;Lockdown: x: y\n6,1,1000,-;Loading of unsigned module is rejected\n";
    for errno in [126, 129, 1, 13, 12, 16] {
        let parts = [log.as_bytes(), symbols, b"made.x=1", meminfo, &own];
        seeds.add("causes", &[&WHOLE, &[errno, 0, 4], &parts.join(PART)]);
    }
    // So long that it is not kept whole while it is decoded.
    let own = module(Architecture::X86_64, Endianness::Little);
    let mut long = [&own[..64], &[0; 20_000], &own[64..]].concat();
    let sections_at = u64::from_le_bytes(*own[0x28..].first_chunk().unwrap());
    for number in 0..u64::from(own[0x3c]) {
        let at = (sections_at + number * 64 + 0x18) as usize + 20_000;
        let begin = u64::from_le_bytes(*long[at..].first_chunk().unwrap()) + 20_000;
        long[at..at + 8].copy_from_slice(&begin.to_le_bytes());
    }
    long[0x28..0x30].copy_from_slice(&(sections_at + 20_000).to_le_bytes());
    seeds.add("preflight", &[&WHOLE, &long]);
    let image = &images[0][..images[0].len().min(6000)];
    let short = &image[..700];
    let zeros = vec![0; 5000];
    let mixed = [short, &zeros, short].concat();
    for (i, data) in [image, short, &mixed, b"a"].into_iter().enumerate() {
        let control = |mode: u8| [[0, 1, 37][i % 3], 0, 0, mode];
        let many = [gzip(data, 6, false), gzip(short, 0, true), vec![0; 5]].concat();
        for file in [gzip(data, 9, true), gzip(data, 0, false), gzip(data, 1, false), many] {
            seeds.add("gzip", &[&control(1), &file]);
        }
        let many =
            [xz(data, CheckType::Crc32, None, None), xz(short, CheckType::None, None, None), vec![0; 8]].concat();
        for file in [
            xz(data, CheckType::None, None, None),
            xz(data, CheckType::Crc32, Some(FilterType::BcjArm64), None),
            xz(data, CheckType::Crc64, Some(FilterType::Delta), None),
            xz(data, CheckType::None, Some(FilterType::BcjRiscv), Some(4096)),
            xz(data, CheckType::Sha256, Some(FilterType::BcjArm), None),
            many,
        ] {
            seeds.add("xz", &[&control(1), &file]);
        }
        let skippable =
            [&b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..], &zstd(data, 3, 10, false, false), &zstd(short, 1, 10, true, true)]
                .concat();
        for file in [
            zstd(data, 19, 17, true, true),
            zstd(data, 3, 10, false, false),
            zstd(data, -5, 12, false, true),
            zstd(data, 9, 11, false, true),
            skippable,
        ] {
            seeds.add("zstd", &[&control(0), &file]);
        }
    }
}

fn runs(seeds: &mut Seeds) {
    let tree: &[&[u8]] = &[
        b"/lib/modules/6.1/modules.dep\na.ko: b.ko\nb.ko:\nc.ko.gz: b.ko\nbus.ko:\ndisk.ko:\n",
        b"/lib/modules/6.1/modules.alias\nalias pci:* bus\nalias scsi:* disk\nalias fs-c c\n",
        b"/lib/modules/6.1/modules.builtin\nkernel/loop.ko\n",
        b"/lib/modules/6.1/a.ko\n\x7fELF",
        b"/lib/modules/6.1/b.ko\n",
        b"/lib/modules/6.1/c.ko.gz\ngz:\x7fELF image",
        b"/lib/modules/6.1/bus.ko\nx",
        b"/lib/modules/6.1/disk.ko\nx",
        b"/etc/modprobe.d/a.conf\nsoftdep a pre: loop post: c\noptions b x=1\ninstall d echo $CMDLINE_OPTS\nblacklist e\nalias e a\n",
        b"/sys/bus/pci/devices/0/uevent\nMODALIAS=pci:v1\n",
        b"bus>/sys/bus/scsi/devices/1/uevent\nMODALIAS=scsi:t-0x00\n",
        b"disk>/dev/sda\n",
    ];
    for (flags, answers, manifest, cmdline) in [
        (0, [0; 8], "a x=1\nfs-c\nloop\nd y=2\ne\n@switch-root\n", "b.z=2 modest.skip=q"),
        (1, [0; 8], "c\n@on-error reboot\n/lib/modules/6.1/a.ko @path=buffer\nnone @optional\n@unlink\nb\nnone\n", ""),
        (
            3,
            [0, 1, 2, 3, 4, 5, 6, 7],
            "c\na\nb\nbus\ndisk\n@on-error exec /bin/sh\nloop\n@exec /init\n",
            "module_blacklist=bus",
        ),
        (
            0,
            [0; 8],
            "@unlink\n@coldplug\n@wait /dev/sda @timeout=2s\na @if=pci:*\nc @if=usb:*\n",
            "rd.driver.pre=b modules-load=d,none",
        ),
        (4, [0; 8], "a\nd\n@coldplug pci\n@wait scsi:*\n@on-error stop\nbad @x\nc\n", "modprobe.blacklist=b"),
        (
            24,
            [8, 2, 0, 1, 0, 0, 0, 0],
            "@root /lib/modules/6.1\n@budget 1M\nc.ko.gz @size=5\nx/c.ko.gz\nc @path=stream @size=10\n",
            "",
        ),
    ] {
        let parts = [&[manifest.as_bytes(), cmdline.as_bytes()], tree].concat();
        seeds.add("run", &[&WHOLE, &[flags], &answers, &parts.join(PART)]);
        seeds.add("run", &[&[9, 0, 0], &[flags], &answers, &parts.join(PART)]);
    }
}
