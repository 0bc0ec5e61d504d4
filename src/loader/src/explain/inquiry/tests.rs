use super::*;
use crate::elf::made::Made;
use crate::explain::no_exporters;
use crate::kernel::fake::Fake;
use Errno as E;

const GOOD: &[&str] = &["license=GPL", "vermagic=6.1.0-test SMP", "depends=a,b", "parmtype=queue_depth:uint"];
const OTHER: &[&str] = &["license=Proprietary", "vermagic=6.2.0 SMP"];

fn made(info: &[&str]) -> Vec<u8> {
    Made { name: "m", info, needs: &[("printk", 1), ("crc16", 2)], ..Made::default() }.image()
}

/// What is reported of an errno, with these messages in the kernel's log.
fn reported(fake: &Fake, errno: Errno, log: &str) -> String {
    let exporters = |symbol: &str, each: &mut dyn FnMut(&str)| {
        if symbol == "crc16" {
            each("kernel/lib/crc16.ko.xz");
        }
    };
    let mut text = None;
    let failure = Failure::Kernel(errno);
    let load = FailedLoad { file: c"/m.ko", failure, since_us: 900_000, budget_bytes: None, exporters: &exporters };
    let log = format!("6,1,5,-;m: Unknown symbol old (err -2)\n4,2,1000000,-;{log}\n");
    let fake = fake.clone().with_file("/dev/kmsg", log.as_bytes());
    explain(&fake, &KernelLog::default(), &load, &mut |cause| {
        assert!(text.replace(cause.to_string()).is_none(), "reported twice");
    });
    text.unwrap()
}

#[test]
fn the_log_and_the_file_show_the_cause() {
    let good = Fake::default()
        .with_file("/m.ko", &made(GOOD))
        .with_file("/proc/kallsyms", b"0 D init_task\n0 D printk\n0 T taken\t[x]\n");
    let other = Fake::default().with_file("/m.ko", &made(OTHER)).with_file("/proc/kallsyms", b"0 T crc16\n0 T taken\n");
    let marked = [&made(GOOD)[..], b"~Module signature appended~\n"].concat();
    let signed = Fake::default().with_file("/m.ko", &marked);
    let unsigned = "EKEYREJECTED: it is not signed, and this kernel takes only signed modules";
    for (fake, errno, log, want) in [
        (
            &good,
            E::ENOENT,
            "m: Unknown symbol crc16 (err -2)",
            "ENOENT: it needs the symbol `crc16`, which `crc16` exports (kernel/lib/crc16.ko.xz): load that first",
        ),
        (
            &good,
            E::ENOENT,
            "m: Unknown symbol none (err -2)\n4,3,1000001,-;m: Unknown symbol nix (err -2)",
            "ENOENT: it needs the symbol `none` (and 1 more), which neither this kernel nor a loaded module exports",
        ),
        (
            &good,
            E::ENOENT,
            "m: Unknown symbol taken (err -2)",
            "ENOENT: it needs the symbol `taken`, which `x` has but does not export",
        ),
        (
            &good,
            E::ENOENT,
            "m: Unknown symbol printk (err -2)",
            "ENOENT: it needs the symbol `printk`, which this kernel has but does not export",
        ),
        (
            &other,
            E::ENOENT,
            "m: Unknown symbol taken (err -2)",
            "ENOENT: it needs the symbol `taken`, which only modules with a GPL license may use; its own is \
             \"Proprietary\"",
        ),
        (
            &other,
            E::ENOENT,
            "m: Unknown symbol none (err -2)",
            "ENOENT: it was built for 6.2.0, but this kernel is 6.1.0-test, which has no symbol `none`",
        ),
        (
            &other,
            E::ENOEXEC,
            "m: disagrees about version of symbol module_layout",
            "ENOEXEC: it was built for 6.2.0, but this kernel is 6.1.0-test",
        ),
        (&other, E::ENOEXEC, "x", "ENOEXEC: it was built for 6.2.0, but this kernel is 6.1.0-test"),
        (
            &good,
            E::ENOEXEC,
            "m: version magic '6.1.0-test SMP' should be '6.1.0-test '",
            "ENOEXEC: it was built for a kernel of \"6.1.0-test SMP\", but this one is of \"6.1.0-test \"",
        ),
        (
            &good,
            E::EINVAL,
            "m: disagrees about version of symbol printk\n4,3,1000001,-;m: Unknown symbol printk (err -22)",
            "EINVAL: this kernel's checksum of the symbol `printk` is not the one that it was built with: take the \
                 module from this kernel's own build",
        ),
        (
            &good,
            E::EINVAL,
            "m: module uses symbol (a) from namespace B, but does not import it.",
            "EINVAL: it uses the symbol `a`, but does not import its namespace B (MODULE_IMPORT_NS in its source)",
        ),
        (
            &good,
            E::ENOEXEC,
            "m: exports duplicate symbol a (owned by b)",
            "ENOEXEC: it exports the symbol `a`, which `b` already exports: load only one of them",
        ),
        (
            &good,
            E::EINVAL,
            "m: `abc' invalid for parameter `queue_depth'",
            "EINVAL: its parameter `queue_depth` (uint) does not take the value `abc`",
        ),
        (&good, E::EINVAL, "m: module is already loaded", "EINVAL: a module with its name is built into this kernel"),
        (
            &signed,
            E::EINVAL,
            "decompression failed with status 6",
            "EINVAL: the kernel's decoder does not take this file, and its log says: \"decompression failed with status \
                 6\". Use @path=stream or @path=buffer, or compress the module as the kernel's build does",
        ),
        (&good, E::EKEYREJECTED, "Loading of unsigned module is rejected", unsigned),
        (
            &good,
            E::ENOENT,
            "dev 1: Direct firmware load for a.bin failed with error -2",
            // The log is silent about symbols; the list of symbols is not.
            "ENOENT: it needs the symbol `crc16`, which `crc16` exports (kernel/lib/crc16.ko.xz): load that first",
        ),
        (
            &good,
            E::ENODEV,
            "dev 1: Direct firmware load for a.bin failed with error -2",
            "ENODEV: the kernel could not load the firmware a.bin (error -2): put it into /lib/firmware of the \
                 initramfs, or load the module later",
        ),
        (
            &good,
            E::ENODEV,
            "m: no chip at 0x48",
            "ENODEV: its init found no device for it; the kernel's log says: \"no chip at 0x48\"",
        ),
        (&good, E::ENODEV, "x", "ENODEV: its init found no device for it"),
        (&good, E::EINVAL, "m: no such mode", "EINVAL: the kernel's log says: \"no such mode\""),
        (
            &signed,
            E::EKEYREJECTED,
            "Loading of module with unavailable key is rejected",
            "EKEYREJECTED: it is signed with a key that this kernel does not have: take the module from this \
                 kernel's own build",
        ),
        (
            &signed,
            E::EKEYREJECTED,
            "x\n15,3,1000000,-;modest: looks here for the cause of a failure",
            "EKEYREJECTED: its signature does not match its content: the file was changed after it was signed",
        ),
        (
            &signed,
            E::EKEYREJECTED,
            "x",
            "EKEYREJECTED: this kernel enforces signatures, and the module is not signed with a key that it trusts",
        ),
    ] {
        assert_eq!(reported(fake, errno, log), want, "{log}");
    }
}

#[test]
fn the_machine_shows_what_forbids_it() {
    let with =
        |path: &str, content: &str| Fake::default().with_file("/m.ko", &made(GOOD)).with_file(path, content.as_bytes());
    let coming = "EBUSY: another load of it is under way, and its init has not returned";
    for (fake, errno, want) in [
        (
            with("/proc/cmdline", "quiet module_blacklist=x,m"),
            E::EPERM,
            "EPERM: module_blacklist= on the kernel command line blocks it",
        ),
        (
            with("/proc/sys/kernel/modules_disabled", "1\n"),
            E::EPERM,
            "EPERM: kernel.modules_disabled is 1: the kernel loads no module until the machine restarts",
        ),
        (
            with("/proc/self/status", "Name:\tx\nCapEff:\t000001fffffeffff\n"),
            E::EPERM,
            "EPERM: this process lacks CAP_SYS_MODULE",
        ),
        (
            with("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
            E::EPERM,
            "EPERM: the kernel is locked down: it takes only signed modules",
        ),
        (with("/sys/module/b/initstate", "coming\n"), E::EBUSY, "EBUSY: it needs `b`, whose init has not returned yet"),
        (with("/sys/module/m/initstate", "coming\n"), E::EBUSY, coming),
        (
            with("/sys/module/m/initstate", "live\n"),
            E::EEXIST,
            "EEXIST: a module with its name, `m`, is already loaded from another file",
        ),
        (
            with("/proc/meminfo", "MemAvailable: 2048 kB\n"),
            E::ENOMEM,
            "ENOMEM: the machine has 2.0 MiB of memory left, and loading takes up to twice the image",
        ),
    ] {
        assert_eq!(reported(&fake, errno, "x"), want);
    }
    // Nothing of that is so.
    let fake = with("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
        .with_file("/proc/self/status", b"CapEff:\t0000000000010000\n")
        .with_file("/proc/sys/kernel/modules_disabled", b"0\n");
    assert!(reported(&fake, E::EPERM, "x").starts_with("EPERM: the kernel does not permit it (no CAP_SYS_MODULE, "));
}

#[test]
fn what_nothing_else_shows_is_what_is_left() {
    let signed = [&made(GOOD)[..], b"~Module signature appended~\n"].concat();
    let fake = Fake::default().with_file("/m.ko", &signed);
    assert_eq!(
        reported(&fake, E::EINVAL, "x\n15,3,1000000,-;modest: looks here for the cause of a failure"),
        "EINVAL: its signature is damaged, or its init returned this (the kernel's log would name any other cause)"
    );
    assert_eq!(reported(&fake, E::EINVAL, "m: no"), "EINVAL: the kernel's log says: \"no\"");
    let empty = Fake::default().with_file("/m.ko", b"");
    assert_eq!(
        reported(&empty, E::EEXIST, "x"),
        "EEXIST: its init reports that something already exists, or a module with the name in this file is already loaded"
    );
}

/// As the kernel leaves a file of an initramfs for which memory ran out.
#[test]
fn a_file_that_was_not_written_whole_is_named() {
    let zeros = "the file ends in zeros: it was not written whole. The kernel leaves such files where it has too little \
        memory to unpack the initramfs";
    let mut half = made(GOOD);
    let len = half.len();
    half[len / 2..].fill(0);
    let fake = Fake::default().with_file("/m.ko", &half);
    assert_eq!(reported(&fake, E::ENOEXEC, "x"), format!("ENOEXEC: {zeros}"));
    assert_eq!(reported(&fake, E::ETXTBSY, "x"), format!("ETXTBSY: {zeros}"));
    let whole = Fake::default().with_file("/m.ko", &made(GOOD));
    assert!(reported(&whole, E::ETXTBSY, "x").starts_with("ETXTBSY: the file is open for writing"));
    let compressed = [&b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..], &[0; 100]].concat();
    let fake = Fake::default().with_file("/m.ko", &compressed);
    assert_eq!(reported(&fake, E::EINVAL, "x"), format!("EINVAL: {zeros}"));
    let failure = Failure::Decode(DecodeError::Truncated);
    let load = FailedLoad { file: c"/m.ko", failure, since_us: 0, budget_bytes: None, exporters: &no_exporters };
    let mut text = String::new();
    explain(&fake, &KernelLog::default(), &load, &mut |cause| text = cause.to_string());
    assert_eq!(text, zeros);
}

#[test]
fn without_a_log_the_errno_speaks() {
    let fake = Fake::default();
    let failure = Failure::Kernel(E::ENOENT);
    let load = FailedLoad { file: c"/m.ko", failure, since_us: 0, budget_bytes: None, exporters: &no_exporters };
    let mut text = String::new();
    explain(&fake, &KernelLog::default(), &load, &mut |cause| text = cause.to_string());
    assert!(text.starts_with("ENOENT: a symbol that it needs is missing"), "{text}");
}
