//! Modules go through the window as they are: Debian's are signed, so the kernel itself verifies every byte that it got.

use std::fmt::Write;

use mkmodest::codec;
use modest_loader::format::Format;
use modest_qemu::{Scenario, gzip, line, modules_in};

/// How many modules of a tree are loaded. What differs between architectures is the window, which gzip fills as well as any format
/// does; the decoders are the same code, so many modules on one architecture show what they can.
fn modules(board: &str, format: Format) -> usize {
    if format == Format::Gzip || board == "qemu-aarch64" { 200 } else { 20 }
}

const NEXT: &str = "mount -t proc p /proc 2>/dev/null; mount -t sysfs s /sys 2>/dev/null\n\
    echo TAINTED=$(cat /sys/module/*/taint | tr -d '\\n') ALL=$(ls -1d /sys/module/*/initstate | wc -l)\n";

const END: &str = "echo NEXT-INIT pid=$$; poweroff -f\n";

/// What the kernel made of each module: source version where it has one, size, every section with its place in a page; then the
/// same after loading the plain files by finit, and whether that is the same.
const COMPARE: &str = "seen() { for m in /sys/module/*/initstate; do m=${m%/initstate}; \
    echo $m/sections $m/srcversion $m/coresize $m/taint; done | xargs grep -rs '' | \
    sed 's/0x[0-9a-f]*\\(...\\)$/\\1/' | sort >$1; }\n\
    seen /stream\n\
    while m=$(awk '$3 == 0 { print $1 }' /proc/modules) && [ -n \"$m\" ]; do rmmod $m; done\n\
    /init load -q -m /etc/finit\n\
    seen /finit\n\
    cmp /stream /finit && echo SAME=$(grep -c /coresize: /finit),$(grep -c /sections/ /finit)\n";

/// Real modules that register themselves and are idle then: character sets, and drivers of chips that no guest has.
fn idle_modules(scenario: &Scenario, count: usize) -> Vec<String> {
    let folders = ["fs/nls/", "drivers/media/tuners/", "drivers/media/dvb-frontends/", "sound/soc/codecs/"];
    modules_in(&scenario.kernel.tree, &folders).unwrap().into_iter().take(count).collect()
}

fn flipped_at(file: &[u8], at: usize) -> Vec<u8> {
    let mut file = file.to_vec();
    file[at] ^= 0x10;
    file
}

fn all_load_by_stream(board: &str, format: Format) {
    // The image is in memory.
    let mut scenario = Scenario::new(board, None).unwrap().memory("768");
    scenario.with_disk = false;
    // Each module is decoded twice and loaded twice, on an emulated processor.
    scenario.board.qemu.timeout_s = 600;
    let names = idle_modules(&scenario, modules(board, format));
    scenario.options.change.format = (format != Format::Xz).then_some(format);
    scenario.options.manifest = Some(("names".into(), format!("{}\n@exec /next\n", names.join("\n")).into()));
    let built = scenario.image().unwrap();
    let root = scenario.kernel.tree.target_dir();
    let (mut flipped, mut streamed, mut plain) = (String::new(), String::new(), format!("@root {root}\n"));
    let mut files = Vec::new();
    for entry in built.manifest.lines().filter(|line| line.starts_with("kernel/")) {
        let path = entry.split(' ').next().unwrap();
        let (stem, _) = path.split_once(".ko").unwrap();
        assert!(path.ends_with(&format!(".ko{}", format.ending())), "{entry}");
        writeln!(streamed, "{entry} @path=stream").unwrap();
        let name = stem.rsplit('/').next().unwrap();
        let image = scenario.module(name).unwrap();
        let good = codec::encode(&image, format).unwrap();
        // One bit in a hundred thousand means nothing, such as one in the code of a length that does not occur.
        let bad = (good.len() / 2..)
            .map(|at| flipped_at(&good, at))
            .find(|bad| codec::decode(bad).ok().as_ref() != Some(&image));
        let bad = bad.unwrap();
        writeln!(flipped, "/flipped/{name}.ko{} @path=stream", format.ending()).unwrap();
        files.push((format!("/flipped/{name}.ko{}", format.ending()), bad));
        writeln!(plain, "/plain/{name}.ko @path=finit").unwrap();
        files.push((format!("/plain/{name}.ko"), image));
    }
    let modules = streamed.lines().count();
    assert!(modules >= names.len());
    let manifest = format!("@root {root}\n{flipped}@unlink\n{streamed}@exec /next\n");
    scenario.options.verbatim_manifest = Some(manifest.into());
    let scenario = files.into_iter().fold(scenario, |scenario, (path, bytes)| scenario.file(&path, bytes));
    let scenario = scenario.file("/etc/finit", plain).script("/next", &[NEXT, COMPARE, END].concat()).unwrap();
    let console = scenario.boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap();
    line(&console, &format!("{modules} loaded, 0 present, 0 skipped, {modules} failed")).unwrap();
    let by_stream = console.lines().filter(|line| line.contains(": loaded by stream, ")).count();
    assert_eq!(by_stream, modules);
    let refused = console.lines().filter(|line| line.contains(", /flipped/")).collect::<Vec<_>>();
    assert_eq!(refused.len(), modules);
    let causes = ["the compressed file is corrupt: ", "is not as long as its file"];
    for line in refused {
        assert!(causes.iter().any(|cause| line.contains(cause)), "{line}");
    }
    // A module whose signature does not fit what the kernel has of it is refused, and one without taints.
    assert!(console.contains(&format!("TAINTED= ALL={modules}\n")), "{console}");
    let same = console.lines().find_map(|line| line.strip_prefix("SAME=")).unwrap_or_else(|| panic!("{console}"));
    let (versions, sections) = same.trim().split_once(',').unwrap();
    assert!(
        versions.parse::<usize>().unwrap() > modules / 2 && sections.parse::<usize>().unwrap() > 10 * modules,
        "{same}"
    );
}

#[test]
fn aarch64_gzip() {
    all_load_by_stream("qemu-aarch64", Format::Gzip);
}

#[test]
fn aarch64_zstd() {
    all_load_by_stream("qemu-aarch64", Format::Zstd);
}

#[test]
fn aarch64_xz() {
    all_load_by_stream("qemu-aarch64", Format::Xz);
}

#[test]
fn aarch64_pages_of_16_kib() {
    all_load_by_stream("qemu-aarch64-16k", Format::Gzip);
}

#[test]
fn armv7_gzip() {
    all_load_by_stream("qemu-armv7", Format::Gzip);
}

#[test]
fn armv7_zstd() {
    all_load_by_stream("qemu-armv7", Format::Zstd);
}

#[test]
fn armv7_xz() {
    all_load_by_stream("qemu-armv7", Format::Xz);
}

#[test]
fn riscv64_gzip() {
    all_load_by_stream("qemu-riscv64", Format::Gzip);
}

#[test]
fn riscv64_zstd() {
    all_load_by_stream("qemu-riscv64", Format::Zstd);
}

#[test]
fn riscv64_xz() {
    all_load_by_stream("qemu-riscv64", Format::Xz);
}

/// Each is refused by its cause, and then the module itself loads.
fn bad_files(board: &str, bomb: Option<Vec<u8>>) {
    let mut files = vec!["flipped.gz", "cut.gz", "lying.gz", "flipped.xz", "cut.xz"];
    files.extend(bomb.as_ref().map(|_| "bomb.gz"));
    let entries = files.iter().map(|file| format!("/m/nls_utf8.ko.{file} @path=stream\n")).collect::<String>();
    let budget = "@budget 100K\n/m/nls_utf8.ko.gz @path=stream\n@budget 1M\n/m/nls_utf8.ko.gz @path=stream\n";
    let manifest = format!("{entries}{budget}@exec /next\n");
    let scenario = Scenario::with_manifest(board, None, &manifest).unwrap();
    let image = scenario.module("nls_utf8").unwrap();
    let (gz, xz) = (gzip(&image).unwrap(), codec::encode(&image, Format::Xz).unwrap());
    let mut lying = gz.clone();
    let len_at = lying.len() - 4;
    lying[len_at..].copy_from_slice(&(image.len() as u32 + 4096).to_le_bytes());
    let scenario = scenario
        .file("/m/nls_utf8.ko.flipped.gz", flipped_at(&gz, gz.len() / 2))
        .file("/m/nls_utf8.ko.cut.gz", &gz[..gz.len() / 2])
        .file("/m/nls_utf8.ko.lying.gz", lying)
        .file("/m/nls_utf8.ko.bomb.gz", bomb.unwrap_or_default())
        .file("/m/nls_utf8.ko.flipped.xz", flipped_at(&xz, xz.len() / 2))
        .file("/m/nls_utf8.ko.cut.xz", &xz[..xz.len() / 2])
        .file("/m/nls_utf8.ko.gz", gz)
        .script("/next", &[NEXT, END].concat())
        .unwrap();
    let console = scenario.boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap();
    for file in &files {
        let told = console.lines().find(|line| line.contains(&format!("/m/nls_utf8.ko.{file}")));
        let told = told.unwrap_or_else(|| panic!("{board}: {file}: {console}"));
        let causes = [
            "compressed file is corrupt",
            "ends too early",
            "is not as long as its file",
            "larger than the machine's free memory",
        ];
        assert!(causes.iter().any(|cause| told.contains(cause)), "{board}: {told}");
    }
    let refused = "memory, but @budget allows 100 KiB, /m/nls_utf8.ko.gz";
    assert!(console.contains(refused), "{board}: {console}");
    line(&console, "nls_utf8: loaded by stream").unwrap();
    line(&console, &format!("1 loaded, 0 present, 0 skipped, {} failed", files.len() + 1)).unwrap();
    assert!(console.contains("TAINTED= ALL=1\n"), "{board}: {console}");
}

#[test]
fn aarch64_bad_files() {
    // 1 GiB of zeros in 1 MB, told to be 4 MiB.
    let mut bomb = zeros(1 << 30);
    let len_at = bomb.len() - 4;
    bomb[len_at..].copy_from_slice(&(4u32 << 20).to_le_bytes());
    bad_files("qemu-aarch64", Some(bomb));
}

#[test]
fn armv7_bad_files() {
    bad_files("qemu-armv7", None);
}

#[test]
fn riscv64_bad_files() {
    bad_files("qemu-riscv64", None);
}

/// As many zeros in gzip, made a piece at a time.
fn zeros(len: usize) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let piece = vec![0; 1 << 20];
    for _ in 0..len >> 20 {
        encoder.write_all(&piece).unwrap();
    }
    encoder.finish().unwrap()
}
