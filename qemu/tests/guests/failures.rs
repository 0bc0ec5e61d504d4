//! What modest says and does in a guest when modules or the manifest are not as they should be.

use modest_qemu::{Scenario, gzip, line, modules_in, unsigned};

const BOARD: &str = "qemu-aarch64";

/// Ends a manifest: the marker shows that the boot went on, and how many inits ran.
const NEXT: &str = "mount -t proc proc /proc 2>/dev/null; echo NEXT-INIT pid=$$; poweroff -f\n";

#[test]
fn every_bad_file_is_named_and_the_boot_goes_on() {
    let manifest = "# three lines, the last of them wrong\n\
        \n\
        /m/virtio_mmio.ko @optionl\n\
        /m/missing.ko\n\
        /m/riscv.ko\n\
        /m/truncated.ko\n\
        /m/empty.ko\n\
        /m\n\
        /m/text.ko\n\
        /m/stripped.ko\n\
        /m/other.ko\n\
        /m/truncated.ko.gz\n\
        /m/flipped.ko.gz\n\
        /m/missing.ko @optional\n\
        /m/virtio_mmio.ko\n\
        /m/virtio_mmio.ko\n\
        /m/crc16.ko.gz\n\
        @exec /next\n";
    let scenario = Scenario::with_manifest(BOARD, None, manifest).unwrap();
    let good = scenario.module("virtio_mmio").unwrap();
    let crc16 = gzip(&scenario.module("crc16").unwrap()).unwrap();
    let riscv = Scenario::new("qemu-riscv64", None).unwrap().module("crc16").unwrap();
    let debian12 = Scenario::new(BOARD, Some("debian12")).unwrap().module("nls_utf8").unwrap();
    let mut stripped = unsigned(&good).to_vec();
    let symbols = (0..u16::from_le_bytes([good[60], good[61]]) as usize)
        .map(|i| u64::from_le_bytes(good[40..48].try_into().unwrap()) as usize + i * 64 + 4)
        .find(|at| good[*at] == 2)
        .unwrap();
    stripped[symbols] = 1;
    let mut flipped = crc16.clone();
    let at = flipped.len() - 8;
    flipped[at] ^= 1;
    let scenario = scenario
        .file("/m/virtio_mmio.ko", good.clone())
        .file("/m/riscv.ko", riscv)
        .file("/m/truncated.ko", &good[..good.len() / 2])
        .file("/m/empty.ko", "")
        .file("/m/text.ko", "no module")
        .file("/m/stripped.ko", stripped)
        .file("/m/other.ko", debian12)
        .file("/m/truncated.ko.gz", &crc16[..crc16.len() / 2])
        .file("/m/flipped.ko.gz", flipped)
        .file("/m/crc16.ko.gz", crc16)
        .script("/next", NEXT)
        .unwrap();
    let console = scenario.boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap();
    let says = |begins: &str, says: &str| {
        let line = line(&console, begins).unwrap();
        assert!(line.contains(says), "{line}: expected {says}");
    };
    says("/etc/modest.manifest:3:19: ", "unknown attribute @optionl; expected @optional, @if=, @timeout=");
    says("missing: ENOENT: no such file, /m/missing.ko (optional)", "");
    says("riscv: ENOEXEC: ", "it was built for RISC-V (64 bits), but this machine is AArch64, /m/riscv.ko");
    says("truncated: ENOEXEC: ", "the file is truncated: it has");
    says("empty: EINVAL: ", "the file is empty, /m/empty.ko");
    says("m: ", "it is a directory, not a module, /m");
    says("text: ENOEXEC: ", "the file is not a module: it begins with 6e 6f 20 6d");
    says("stripped: ENOEXEC: ", "the kernel cannot link it: it has no symbol table");
    says("other: ENOEXEC: it was built for 6.1.0-", ", but this kernel is 6.12.");
    says("truncated: the compressed file ends too early, /m/truncated.ko.gz", "");
    says("flipped: ", "its checksum does not match, /m/flipped.ko.gz");
    says("virtio_mmio: loaded by finit", " us");
    says("virtio_mmio: already loaded", "");
    says("crc16: loaded by stream", " us");
    says("2 loaded, 1 present, 0 skipped, 11 failed", "");
}

#[test]
fn the_init_of_a_module_that_fails_runs_once() {
    // On this processor without SHA-3 instructions its init returns ENODEV; initcall_debug tells of each run.
    let manifest = "/m/sha3-ce.ko\n/n/sha3-ce.ko.gz\n/o/sha3-ce.ko @path=mmap\n@exec /next\n";
    let scenario = Scenario::with_manifest(BOARD, None, manifest).unwrap().append("initcall_debug loglevel=8");
    let module = scenario.module("sha3-ce").unwrap();
    let scenario = scenario
        .file("/n/sha3-ce.ko.gz", gzip(&module).unwrap())
        .file("/o/sha3-ce.ko", module.clone())
        .file("/m/sha3-ce.ko", module)
        .script("/next", NEXT)
        .unwrap();
    let console = scenario.boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap();
    for file in ["/m/sha3-ce.ko", "/n/sha3-ce.ko.gz", "/o/sha3-ce.ko"] {
        let says = format!("modest: sha3_ce: ENODEV: its init found no device for it, {file}\n");
        assert!(console.contains(&says), "{says}{console}");
    }
    let runs = console.lines().filter(|line| line.contains("calling ") && line.contains("[sha3_ce]")).count();
    assert_eq!(runs, 3, "one for each of the three entries:\n{console}");
}

#[test]
fn after_a_failure_the_policy_ends_the_run() {
    let manifest = "@on-error exec /next\n/m/missing.ko\n/m/virtio_mmio.ko\n@exec /never\n";
    let scenario = Scenario::with_manifest(BOARD, None, manifest).unwrap();
    let good = scenario.module("virtio_mmio").unwrap();
    let scenario = scenario.file("/m/virtio_mmio.ko", good).script("/next", NEXT).unwrap();
    let console = scenario.boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap();
    line(&console, "missing: ENOENT").unwrap();
    line(&console, "going on with /next, by @on-error exec").unwrap();
    assert!(!console.contains("virtio_mmio: loaded"), "{console}");
}

#[test]
fn five_hundred_entries() {
    // Registered and then idle: drivers of chips that this machine has not.
    let folders =
        ["fs/nls/", "drivers/media/dvb-frontends/", "drivers/media/tuners/", "sound/soc/codecs/", "net/sched/"];
    let mut scenario = Scenario::new(BOARD, Some("debian12")).unwrap();
    // libcrc32c asks for it by its algorithm, which modules.dep does not tell.
    let names = format!("crc32c_generic\n{}", modules_in(&scenario.kernel.tree, &folders).unwrap().join("\n"));
    scenario.options.manifest = Some(("names".into(), format!("{names}\n@exec /next\n").into()));
    scenario.with_disk = false;
    let image = scenario.image().unwrap();
    let files: Vec<_> = image.manifest.lines().filter(|line| line.starts_with("kernel/")).collect();
    let again = 500 - files.len();
    let entries = files.iter().chain(&files[..again]).map(|line| format!("{line}\n")).collect::<String>();
    assert_eq!(entries.lines().count(), 500);
    let manifest = format!("@root /lib/modules/{}\n{entries}@exec /next\n", scenario.kernel.tree.release);
    scenario.options.verbatim_manifest = Some(manifest.into());
    let scenario = scenario.script("/next", NEXT).unwrap();
    let console = scenario.boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap();
    line(&console, &format!("{} loaded, {again} present, 0 skipped, 0 failed", files.len())).unwrap();
}
