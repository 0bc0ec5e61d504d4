//! The duties of PID 1: it works without console or kernel log, hands over, and never ends.

use std::fmt::Write;
use std::time::{Duration, Instant};

use mkmodest::disk::MARKER;
use modest_loader::format::Format;
use modest_qemu::{Scenario, line, modest};

const BOARD: &str = "qemu-aarch64";

/// Waits long enough for a kernel panic to show, or for a reboot.
const QUIET: Duration = Duration::from_secs(4);

#[test]
fn a_console_that_is_a_module_is_used_from_then_on() {
    let manifest = "/m/virtio_mmio.ko\n/m/virtio_console.ko\n/m/crc16.ko\n";
    // Debian 13 has virtio_console built in.
    let mut scenario = Scenario::with_manifest(BOARD, Some("debian12"), manifest).unwrap();
    for name in ["virtio_mmio", "virtio_console", "crc16"] {
        let bytes = scenario.module(name).unwrap();
        scenario = scenario.file(&format!("/m/{name}.ko"), bytes);
    }
    // The last console of the command line is /dev/console; until its driver is there, there is none.
    scenario.board.cmdline = "console=hvc0 panic=-1".into();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hvc");
    let chardev = format!("file,id=hvc,path={}", file.display());
    let args = ["-device", "virtio-serial-device", "-chardev", &chardev, "-device", "virtconsole,chardev=hvc"];
    scenario.args.extend(args.map(String::from));
    let _running = scenario.boot().unwrap();
    let start = Instant::now();
    let console = loop {
        let console = std::fs::read_to_string(&file).unwrap_or_default().replace('\r', "");
        if console.contains("modest: stopped here: no init") {
            break console;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{console}");
        std::thread::sleep(Duration::from_millis(100));
    };
    // What was said before is in the kernel's log, which most drivers' consoles begin with; not this one's.
    line(&console, "stopped here").unwrap();
}

/// Boots with these nodes in /dev, by a first init that becomes modest, which loads a module and goes on with this script:
/// the console until that text.
fn console_with_dev(nodes: &str, next: &str, until: &str) -> String {
    let first = format!("B=/bin/busybox; $B mount -t tmpfs dev /dev; {nodes} exec /init\n");
    let scenario = Scenario::with_manifest(BOARD, None, "/m/crc16.ko\n@exec /next\n").unwrap();
    let crc16 = scenario.module("crc16").unwrap();
    let scenario = scenario.file("/m/crc16.ko", crc16).script("/next", next).unwrap().script("/first", &first).unwrap();
    scenario.append("rdinit=/first").boot().unwrap().wait_for(until).unwrap()
}

/// Makes a console of its own to say that it is there.
const NEXT: &str =
    "B=/bin/busybox; $B mknod /c c 5 1; echo NEXT-INIT pid=$$ >/c; $B dmesg >/c; echo DMESG-END >/c; $B sleep 1000\n";

#[test]
fn without_kmsg_the_console_has_it_all() {
    let nodes = "$B mknod /dev/console c 5 1; $B mknod /dev/null c 1 3;";
    let console = console_with_dev(nodes, NEXT, "DMESG-END");
    line(&console, "crc16: loaded by finit").unwrap();
    assert!(!console.contains("] modest: crc16"), "{console}");
}

#[test]
fn without_a_console_the_kernels_log_has_it_all() {
    let nodes = "$B mknod /dev/kmsg c 1 11; $B mknod /dev/null c 1 3; exec 0<&- 1>&- 2>&-;";
    let console = console_with_dev(nodes, NEXT, "DMESG-END");
    assert!(console.contains("] modest: crc16: loaded by finit"), "{console}");
    assert!(!console.lines().any(|line| line.starts_with("modest: ")), "{console}");
}

#[test]
fn with_neither_it_goes_on_in_silence() {
    let next =
        "B=/bin/busybox; $B mknod /c c 5 1; $B ls -1 /sys/module >/c; echo NEXT-INIT pid=$$ >/c; $B sleep 1000\n";
    let nodes = "$B mknod /dev/null c 1 3; exec 0<&- 1>&- 2>&-;";
    let console = console_with_dev(nodes, next, "NEXT-INIT pid=1");
    assert!(console.lines().any(|line| line == "crc16"), "{console}");
    assert!(!console.contains("modest: "), "{console}");
}

/// Boots and expects that line to be the last, PID 1 being alive.
fn halts(scenario: &Scenario, says: &[&str]) {
    let mut running = scenario.boot().unwrap();
    let console = running.wait_for("modest: stopped here: no init to go on with").unwrap();
    for says in says {
        line(&console, says).unwrap();
    }
    assert!(running.stays_without("Kernel panic", QUIET));
}

#[test]
fn without_a_next_init_it_says_so_and_stays() {
    let missing = Scenario::with_manifest(BOARD, None, "@exec /none\n").unwrap();
    halts(&missing, &["next init /none: ENOENT: it or its interpreter is not there"]);
    let nothing = Scenario::with_manifest(BOARD, None, "# nothing\n").unwrap();
    halts(&nothing.append("root="), &["@switch-root: root= is not known"]);
    let unreadable = Scenario::with_manifest(BOARD, None, "").unwrap().append("modest.manifest=/none");
    halts(&unreadable, &["/none: ENOENT: no such file"]);
    let too_long = Scenario::with_manifest(BOARD, None, "").unwrap();
    let too_long = too_long.append(&format!("modest.manifest=/{}", "x".repeat(511)));
    halts(
        &too_long,
        &["modest.manifest= on the kernel command line has 512 bytes; expected less than PATH_BYTES, 512"],
    );
    let stop = Scenario::with_manifest(BOARD, None, "@on-error stop\n/none.ko\n@exec /init\n").unwrap();
    halts(&stop, &["none: ENOENT: no such file, /none.ko"]);
    let no_root = Scenario::with_manifest(BOARD, None, "@switch-root\n").unwrap().append("root=/dev/vdz rootwait=2");
    halts(
        &no_root,
        &["waiting for root=/dev/vdz; block devices:", "root=/dev/vdz: not there after 2 s; block devices:"],
    );
}

#[test]
fn on_error_reboot_restarts() {
    let scenario = Scenario::with_manifest(BOARD, None, "@on-error reboot\n@exec /none\n").unwrap();
    let console = scenario.boot().unwrap().wait_for_end().unwrap();
    line(&console, "restarting, by @on-error reboot").unwrap();
    assert!(console.contains("reboot: Restarting system"), "{console}");
}

#[test]
fn words_of_the_command_line() {
    let next = "echo args: $* x=$x.\necho NEXT-INIT pid=$$\npoweroff -f\n";
    let manifest = "/m/virtio-mmio.ko\n/m/crc16.ko\n@exec /next\n";
    let scenario = |append: &str| {
        let scenario = Scenario::with_manifest(BOARD, None, "@exec /none\n").unwrap();
        let (mmio, crc16) = (scenario.module("virtio_mmio").unwrap(), scenario.module("crc16").unwrap());
        let scenario = scenario.file("/m/virtio-mmio.ko", mmio).file("/m/crc16.ko", crc16).file("/my", manifest);
        let scenario = scenario.script("/next", next).unwrap().append("modest.manifest=/my x=env");
        scenario.append(append).boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap()
    };
    let console = scenario("modest.skip=other,virtio_mmio -- one two");
    assert!(console.contains("args: one two x=env."), "arguments and environment are kept:\n{console}");
    line(&console, "virtio_mmio: skipped, by modest.skip=").unwrap();
    line(&console, "1 loaded, 0 present, 1 skipped, 0 failed").unwrap();
    let console = scenario("modest.quiet");
    assert!(!console.contains("modest: "), "{console}");
    let console = scenario("modest.debug");
    line(&console, "exec /next").unwrap();
}

#[test]
fn as_a_hook_of_another_init() {
    let init = "B=/bin/busybox; export PATH=/bin; $B mount -t proc p /proc; $B mount -t sysfs s /sys\n\
        /modest load -n -m /my; echo DRY=$?\n\
        $B ls /sys/module >/before; $B grep -c crc16 /before; \n\
        /modest load -m /my; echo LOADED=$?\n\
        /modest insmod /m/dummy.ko numdummies=2 'label=two words'; echo INSMOD=$?\n\
        /modest insmod /m/ext4.ko; echo NEEDS=$?\n\
        $B ls /sys/class/net\n\
        /modest insmod /m/dummy.ko; echo AGAIN=$?\n\
        /modest insmod /m/none.ko; echo NONE=$?\n\
        /modest load -m /bad; echo BAD=$?\n\
        /modest load -m /stop; echo STOP=$?\n\
        $B unshare -p -f /modest load -m /my; echo CONTAINER=$?\n\
        $B grep -q ' /dev ' /proc/mounts || echo NOTHING-MOUNTED\n\
        /modest frobnicate 2>/dev/null; echo USAGE=$?\n\
        echo HOOK-END\n$B sleep 1000\n";
    let scenario = Scenario::with_manifest(BOARD, None, "").unwrap();
    let [crc16, dummy, ext4] = ["crc16", "dummy", "ext4"].map(|name| scenario.module(name).unwrap());
    let modest = scenario.options.init.clone();
    let tree = scenario.kernel.tree.dir.clone();
    let scenario = ["modules.dep.bin", "modules.symbols.bin"].into_iter().fold(scenario, |scenario, index| {
        let place = format!("/lib/modules/{}/{index}", tree.file_name().unwrap().display());
        scenario.file(&place, std::fs::read(tree.join(index)).unwrap())
    });
    let scenario = scenario
        .file("/m/crc16.ko", crc16)
        .file("/m/dummy.ko", dummy)
        .file("/m/ext4.ko", ext4)
        .file("/my", "/m/crc16.ko\n@exec /never\n")
        .file("/bad", "@nonsense\n")
        .file("/stop", "@on-error exec /never\n/none.ko\n/never.ko\n")
        .program("/modest", &modest)
        .unwrap()
        .script("/first", init)
        .unwrap()
        .append("rdinit=/first");
    let console = scenario.boot().unwrap().wait_for("HOOK-END").unwrap();
    line(&console, "crc16: would load by finit, plain: /m/crc16.ko").unwrap();
    line(&console, "crc16: loaded by finit").unwrap();
    line(&console, "dummy: already loaded").unwrap();
    line(&console, "none: ENOENT: no such file, /m/none.ko").unwrap();
    for code in [
        "CONTAINER=0",
        "NOTHING-MOUNTED",
        "DRY=0",
        "LOADED=0",
        "INSMOD=0",
        "AGAIN=0",
        "NEEDS=1",
        "NONE=1",
        "BAD=1",
        "STOP=3",
        "USAGE=2",
    ] {
        assert!(console.lines().any(|line| line == code), "{code}:\n{console}");
    }
    assert!(console.lines().any(|line| line.split_ascii_whitespace().any(|word| word == "dummy1")), "{console}");
    let needs = line(&console, "ext4: ENOENT: it needs the symbol `").unwrap();
    assert!(
        ["`jbd2`", "`mbcache`"].iter().any(|exporter| needs.contains(&format!("which {exporter} exports"))),
        "{needs}"
    );
    line(&console, "dummy: the kernel ignored `label`: the module has no such parameter").unwrap();
    // Quoted, the kernel takes it for one unknown parameter, not for two.
    assert!(console.contains("dummy: unknown parameter 'label' ignored"), "{console}");
    assert!(!console.contains("unknown parameter 'words'"), "{console}");
}

#[test]
fn after_a_panic_the_policy_applies() {
    let scenario = |manifest: &str| {
        let mut scenario = Scenario::with_manifest(BOARD, None, manifest).unwrap().append("modest.panic");
        scenario.options.init = modest(scenario.board.arch.target()).with_file_name("modest-gzip,panic-test");
        scenario.script("/next", "echo NEXT-INIT pid=$$\npoweroff -f\n").unwrap()
    };
    let told = "a fault of modest itself at src/init/src/pid1.rs:";
    halts(&scenario("@exec /next\n"), &[told]);
    let console = scenario("@on-error exec /next\n@exec /none\n").boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap();
    assert!(line(&console, told).unwrap().ends_with(": as modest.panic asks for"), "{console}");
}

/// A board's own manifest and root disk, with these words added to the command line.
fn with_root(words: &str) -> Scenario {
    Scenario::new(BOARD, None).unwrap().append(words)
}

#[test]
fn the_root_is_mounted_as_the_command_line_says() {
    let words = "rootfstype=squashfs,ext4 rootflags=noatime,commit=30 ro init=/sbin/init -- single";
    let console = with_root(words).boot().unwrap().wait_for(MARKER).unwrap();
    let root = console.lines().find(|line| line.starts_with("MODEST-ROOT pid=1 ")).unwrap();
    let options = root.rsplit("/ ext4 ").next().unwrap();
    for option in ["ro,", "noatime", "commit=30"] {
        assert!(options.contains(option), "{root}");
    }
    assert!(console.contains("MODEST-ROOT args: single\n"), "{console}");
}

#[test]
fn a_root_that_cannot_be_entered_is_explained() {
    halts(&with_root("init=/sbin/none"), &["next init /sbin/none of the root: it is not there"]);
    halts(&with_root("rootfstype=xfs"), &["mounting /dev/vda: ENODEV: this kernel has no file system xfs"]);
    halts(
        &with_root("rootflags=nonsense"),
        &["mounting /dev/vda as ext4: EINVAL: no such file system on it, or rootflags="],
    );
}

#[test]
fn before_anything_is_deleted_the_roots_init_is_looked_at() {
    // A folder cannot run, and the initramfs still has the program of the policy.
    let mut scenario = with_root("init=/sbin").script("/next", "echo NEXT-INIT pid=$$\npoweroff -f\n").unwrap();
    let manifest = "virtio_mmio\nvirtio_blk\next4\n@on-error exec /next\n@switch-root\n";
    scenario.options.manifest = Some(("manifest".into(), manifest.into()));
    let console = scenario.boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap();
    line(&console, "next init /sbin of the root: it is a directory").unwrap();
    line(&console, "going on with /next, by @on-error exec").unwrap();
}

#[test]
fn without_init_on_the_command_line_the_kernels_own_are_tried() {
    let first = "B=/bin/busybox; $B mount -t proc p /proc; $B mount -t sysfs s /sys; $B mount -t devtmpfs d /dev\n\
        /init load; $B mkdir /mnt; $B mount -t ext4 /dev/vda /mnt\n\
        $B mv /mnt/sbin/init /mnt/bin/init; $B mkdir /mnt/sbin/init; $B umount /mnt; exec /init\n";
    let scenario = with_root("rdinit=/first").script("/first", first).unwrap();
    let console = scenario.boot().unwrap().wait_for(MARKER).unwrap();
    line(&console, "next init /sbin/init of the root: it is a directory").unwrap();
    assert!(!console.contains("next init /etc/init"), "what is not there is no news:\n{console}");
}

/// Lines for modules that are not there, each of which fails.
fn failing_lines(count: usize) -> String {
    (0..count).map(|i| format!("/none{i}.ko\n")).collect()
}

/// A manifest of a megabyte on a machine with 16 MB: all of its lines are wrong but one.
#[test]
fn a_manifest_of_rubbish_costs_seconds() {
    let mut manifest = String::new();
    for i in 0..22_000 {
        write!(manifest, "unknown_{i}\n/none/n{i}.ko\n@directive{i}\n").unwrap();
    }
    assert!(manifest.len() > 900_000, "{}", manifest.len());
    let mut scenario =
        Scenario::with_manifest("lowram-armv7", None, &(manifest + "/m/mbcache.ko\n@exec /none\n")).unwrap();
    scenario.options.compress = Format::Gzip;
    let mbcache = scenario.module("mbcache").unwrap();
    let tree = format!("/lib/modules/{}", scenario.kernel.tree.release);
    let scenario = (0..200).fold(scenario.file("/m/mbcache.ko", mbcache), |scenario, i| {
        scenario.file(&format!("{tree}/module-{i}.ko"), "")
    });
    let console = scenario.boot().unwrap().wait_for("modest: stopped here").unwrap();
    line(&console, "mbcache: loaded by finit").unwrap();
    line(&console, "and 63000 more like those: over REPORTED_ALIKE, 1000, of a kind").unwrap();
    let end = line(&console, "1 loaded, 0 present, 0 skipped, 66000 failed, ").unwrap();
    let ms: u32 = end.rsplit_once(", ").unwrap().1.trim_end_matches(" ms").parse().unwrap();
    println!("{end}");
    assert!(ms < 20_000 && console.lines().count() < 4000, "{end}");
}

#[test]
fn the_kernels_log_keeps_all_lines_and_has_its_limit_again() {
    let next = "B=/bin/busybox; echo LOGGED=$($B dmesg | $B grep -c 'modest: none')\n\
        echo LIMIT=$($B cat /proc/sys/kernel/printk_devkmsg)\necho NEXT-INIT pid=$$\npoweroff -f\n";
    let manifest = failing_lines(40) + "@exec /next\n";
    let scenario = Scenario::with_manifest(BOARD, None, &manifest).unwrap().script("/next", next).unwrap();
    let console = scenario.boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap();
    for word in ["LOGGED=40", "LIMIT=ratelimit"] {
        assert!(console.lines().any(|line| line == word), "{word}: {console}");
    }
}

#[test]
fn a_console_that_takes_nothing_does_not_stop_the_boot() {
    // Nobody reads the pipe, which holds 64 KiB.
    let first = "B=/bin/busybox; $B mount -t devtmpfs d /dev; $B mkfifo /pipe; exec 3<>/pipe\nexec /init >/pipe 2>&1\n";
    let next = "B=/bin/busybox; $B dmesg | $B grep 'takes no lines' >/dev/console\n\
        echo NEXT-INIT pid=$$ >/dev/console\n$B poweroff -f\n";
    let long = "x".repeat(480);
    let manifest = failing_lines(100).replace("/none", &format!("/none{long}")) + "@exec /next\n";
    let scenario = Scenario::with_manifest(BOARD, None, &manifest).unwrap();
    let scenario = scenario.script("/first", first).unwrap().script("/next", next).unwrap().append("rdinit=/first");
    let console = scenario.boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap();
    assert!(console.contains("modest: the console takes no lines; this log has them"), "{console}");
}

#[test]
fn a_sealed_manifest_is_not_opened_by_the_command_line() {
    let next = "echo SEALED args: $* x=$x.\necho NEXT-INIT pid=$$\npoweroff -f\n";
    let scenario = Scenario::with_manifest(BOARD, None, "# sealed\n@sealed\n/m/crc16.ko\n@exec /next\n").unwrap();
    let crc16 = scenario.module("crc16").unwrap();
    let scenario = scenario.file("/m/crc16.ko", crc16).file("/evil", "@exec /evil\n");
    let scenario = scenario.script("/next", next).unwrap();
    let words = ["modest.manifest=/evil", "modest.quiet", "modest.skip=crc16", "crc16.x=1", "init=/evil"];
    let scenario = scenario.append(&words.join(" ")).append("x=env -- one two");
    let console = scenario.boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap();
    for word in words {
        let says = format!("/etc/modest.manifest:2: @sealed: ignored on the kernel command line: {word}");
        line(&console, &says).unwrap();
    }
    line(&console, "@sealed: the next init gets no arguments and no environment").unwrap();
    line(&console, "crc16: loaded by finit").unwrap();
    line(&console, "1 loaded, 0 present, 0 skipped, 0 failed").unwrap();
    assert!(console.lines().any(|line| line == "SEALED args: x=."), "{console}");
}

#[test]
fn a_sealed_manifest_leaves_the_words_for_the_root() {
    let mut scenario = with_root("init=/none rootfstype=ext4 ro -- single");
    let manifest = "virtio_mmio\nvirtio_blk\next4\n@switch-root\n";
    // The board has directives of its own, which come after.
    scenario.board.budget = Some(mkmodest::board::Size(8 << 20));
    scenario.options.manifest = Some(("manifest".into(), format!("@sealed\n{manifest}").into()));
    let console = scenario.boot().unwrap().wait_for(MARKER).unwrap();
    line(&console, "/etc/modest.manifest:2: @sealed: ignored on the kernel command line: init=/none").unwrap();
    assert!(console.lines().any(|line| line.contains("/ ext4 ro,")), "{console}");
    assert!(!console.contains("MODEST-ROOT args: single"), "{console}");
}
