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
    let unsigned = "EKEYREJECTED: not signed, and this kernel takes signed modules alone";
    for (fake, errno, log, want) in [
        (
            &good,
            E::ENOENT,
            "m: Unknown symbol crc16 (err -2)",
            "ENOENT: needs the symbol `crc16`, which nothing loaded exports; `crc16` does (kernel/lib/crc16.ko.xz): \
             load it before",
        ),
        (
            &good,
            E::ENOENT,
            "m: Unknown symbol none (err -2)\n4,3,1000001,-;m: Unknown symbol nix (err -2)",
            "ENOENT: needs the symbol `none` (and 1 more), which neither this kernel nor a loaded module exports",
        ),
        (
            &good,
            E::ENOENT,
            "m: Unknown symbol taken (err -2)",
            "ENOENT: needs the symbol `taken`, which `x` has, but does not export",
        ),
        (
            &good,
            E::ENOENT,
            "m: Unknown symbol printk (err -2)",
            "ENOENT: needs the symbol `printk`, which this kernel has, but does not export to modules",
        ),
        (
            &other,
            E::ENOENT,
            "m: Unknown symbol taken (err -2)",
            "ENOENT: needs the symbol `taken`, which is for modules of a GPL license alone; its own is \"Proprietary\"",
        ),
        (
            &other,
            E::ENOENT,
            "m: Unknown symbol none (err -2)",
            "ENOENT: built for 6.2.0, this kernel is 6.1.0-test, which has no symbol `none`",
        ),
        (
            &other,
            E::ENOEXEC,
            "m: disagrees about version of symbol module_layout",
            "ENOEXEC: built for 6.2.0, this kernel is 6.1.0-test",
        ),
        (&other, E::ENOEXEC, "x", "ENOEXEC: built for 6.2.0, this kernel is 6.1.0-test"),
        (
            &good,
            E::ENOEXEC,
            "m: version magic '6.1.0-test SMP' should be '6.1.0-test '",
            "ENOEXEC: built for a kernel of \"6.1.0-test SMP\", this one is of \"6.1.0-test \"",
        ),
        (
            &good,
            E::EINVAL,
            "m: disagrees about version of symbol printk\n4,3,1000001,-;m: Unknown symbol printk (err -22)",
            "EINVAL: the checksum of the symbol `printk` is another here than it was built with: take the module from \
             the build of this very kernel",
        ),
        (
            &good,
            E::EINVAL,
            "m: module uses symbol (a) from namespace B, but does not import it.",
            "EINVAL: uses the symbol `a` of the namespace B without importing that (MODULE_IMPORT_NS in its source)",
        ),
        (
            &good,
            E::ENOEXEC,
            "m: exports duplicate symbol a (owned by b)",
            "ENOEXEC: exports the symbol `a`, which `b` exports already: only one of them can be loaded",
        ),
        (
            &good,
            E::EINVAL,
            "m: `abc' invalid for parameter `queue_depth'",
            "EINVAL: its parameter `queue_depth` (uint) does not take the value `abc`",
        ),
        (&good, E::EINVAL, "m: module is already loaded", "EINVAL: a module of its name is built into this kernel"),
        (&good, E::EKEYREJECTED, "Loading of unsigned module is rejected", unsigned),
        (
            &good,
            E::ENOENT,
            "dev 1: Direct firmware load for a.bin failed with error -2",
            // The log is silent about symbols; the list of symbols is not.
            "ENOENT: needs the symbol `crc16`, which nothing loaded exports; `crc16` does (kernel/lib/crc16.ko.xz): \
             load it before",
        ),
        (
            &good,
            E::ENODEV,
            "dev 1: Direct firmware load for a.bin failed with error -2",
            "ENODEV: the firmware a.bin cannot be loaded (error -2): put it below /lib/firmware of the initramfs, or \
             load the module later",
        ),
        (
            &good,
            E::ENODEV,
            "m: no chip at 0x48",
            "ENODEV: its init found no device that it is for; the kernel's log: \"no chip at 0x48\"",
        ),
        (&good, E::ENODEV, "x", "ENODEV: its init found no device that it is for"),
        (&good, E::EINVAL, "m: no such mode", "EINVAL: in the kernel's log it says: \"no such mode\""),
        (
            &signed,
            E::EKEYREJECTED,
            "Loading of module with unavailable key is rejected",
            "EKEYREJECTED: signed with a key that this kernel does not have: take the module from the build of this \
             very kernel",
        ),
        (
            &signed,
            E::EKEYREJECTED,
            "x\n15,3,1000000,-;modest: looks here for the cause of a failure",
            "EKEYREJECTED: its signature is not that of what it holds: it was changed after it was signed",
        ),
        (
            &signed,
            E::EKEYREJECTED,
            "x",
            "EKEYREJECTED: not signed with a key that this kernel trusts, and it enforces signatures",
        ),
    ] {
        assert_eq!(reported(fake, errno, log), want, "{log}");
    }
}

#[test]
fn the_machine_shows_what_forbids_it() {
    let with =
        |path: &str, content: &str| Fake::default().with_file("/m.ko", &made(GOOD)).with_file(path, content.as_bytes());
    let coming = "EBUSY: another load of it is under way, and its init has not returned yet";
    for (fake, errno, want) in [
        (
            with("/proc/cmdline", "quiet module_blacklist=x,m"),
            E::EPERM,
            "EPERM: blocked by module_blacklist= on the kernel command line",
        ),
        (
            with("/proc/sys/kernel/modules_disabled", "1\n"),
            E::EPERM,
            "EPERM: kernel.modules_disabled is 1: nothing can be loaded until the machine restarts",
        ),
        (
            with("/proc/self/status", "Name:\tx\nCapEff:\t000001fffffeffff\n"),
            E::EPERM,
            "EPERM: this process lacks CAP_SYS_MODULE",
        ),
        (
            with("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
            E::EPERM,
            "EPERM: the kernel is locked down: it takes signed modules alone",
        ),
        (with("/sys/module/b/initstate", "coming\n"), E::EBUSY, "EBUSY: needs `b`, whose init has not returned yet"),
        (with("/sys/module/m/initstate", "coming\n"), E::EBUSY, coming),
        (
            with("/sys/module/m/initstate", "live\n"),
            E::EEXIST,
            "EEXIST: a module of its name, `m`, is loaded already, from another file",
        ),
        (
            with("/proc/meminfo", "MemAvailable: 2048 kB\n"),
            E::ENOMEM,
            "ENOMEM: not enough memory: the machine has 2.0 MiB left, and loading takes up to twice the image",
        ),
    ] {
        assert_eq!(reported(&fake, errno, "x"), want);
    }
    // Nothing of that is so.
    let fake = with("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
        .with_file("/proc/self/status", b"CapEff:\t0000000000010000\n")
        .with_file("/proc/sys/kernel/modules_disabled", b"0\n");
    assert!(reported(&fake, E::EPERM, "x").starts_with("EPERM: not permitted (no CAP_SYS_MODULE, "));
}

#[test]
fn what_nothing_else_shows_is_what_is_left() {
    let signed = [&made(GOOD)[..], b"~Module signature appended~\n"].concat();
    let fake = Fake::default().with_file("/m.ko", &signed);
    assert_eq!(
        reported(&fake, E::EINVAL, "x\n15,3,1000000,-;modest: looks here for the cause of a failure"),
        "EINVAL: its signature is damaged, or its init says so (other causes would be in the kernel's log)"
    );
    assert_eq!(reported(&fake, E::EINVAL, "m: no"), "EINVAL: in the kernel's log it says: \"no\"");
    let empty = Fake::default().with_file("/m.ko", b"");
    assert_eq!(
        reported(&empty, E::EEXIST, "x"),
        "EEXIST: its init says that something exists already, or a module of the name that is in it is loaded"
    );
}

#[test]
fn without_a_log_the_errno_speaks() {
    let fake = Fake::default();
    let failure = Failure::Kernel(E::ENOENT);
    let load = FailedLoad { file: c"/m.ko", failure, since_us: 0, budget_bytes: None, exporters: &no_exporters };
    let mut text = String::new();
    explain(&fake, &KernelLog::default(), &load, &mut |cause| text = cause.to_string());
    assert!(text.starts_with("ENOENT: a symbol it needs is not there"), "{text}");
}
