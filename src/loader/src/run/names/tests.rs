use crate::cmdline::Cmdline;
use crate::errno::Errno;
use crate::kernel::fake::Fake;
use crate::limits::{BUSES_BYTES, CMDLINE_BYTES, PLUG_TRIED};
use crate::manifest::OnError;
use crate::run::tests::Lines;
use crate::run::{Options, Outcome, RUN_BYTES, run};

const DEP: &[u8] = b"a.ko:\nb.ko: a.ko\nc.ko:\nbus.ko:\ndisk.ko:\n";

fn tree(manifest: &str, config: &str) -> Fake {
    ["a", "b", "c", "bus", "disk"]
        .iter()
        .fold(Fake::default(), |fake, name| fake.with_file(&format!("/lib/modules/6.1.0-test/{name}.ko"), b""))
        .with_file("/lib/modules/6.1.0-test/modules.dep", DEP)
        .with_file("/lib/modules/6.1.0-test/modules.alias", b"alias pci:* bus\nalias scsi:* disk\nalias usb:* none\n")
        .with_file("/etc/modprobe.d/a.conf", config.as_bytes())
        .with_file("/m", manifest.as_bytes())
}

/// Runs with a kernel command line: the outcome, what was told, and which loads and programs were asked for.
fn run_on(fake: &Fake, cmdline: &str) -> (Outcome, Vec<String>, Vec<String>) {
    let file = Fake::default().with_file("/c", cmdline.as_bytes());
    let mut buf = vec![0; CMDLINE_BYTES];
    let (cmdline, read, _) = Cmdline::read(&file, c"/c", &mut buf);
    read.unwrap();
    let mut log = Lines::default();
    let on_policy = |_: &OnError| {};
    let options =
        Options { manifest: c"/m", cmdline, budget_bytes: None, is_init: false, dry_run: false, on_policy: &on_policy };
    let outcome = run(fake, &mut log, &options, &mut [0; RUN_BYTES]);
    let is_work = |call: &String| ["worker", "finit", "spawn"].iter().any(|work| call.starts_with(work));
    let calls = fake.calls.take().into_iter().filter(is_work);
    let calls = calls.map(|call| call.replace("/lib/modules/6.1.0-test/", "").replace(" 0", "")).collect();
    (outcome, log.0, calls)
}

#[test]
fn parameters_come_from_files_then_the_manifest_then_the_command_line() {
    let (outcome, _, calls) = run_on(
        &tree("b y=2\n/lib/modules/6.1.0-test/c.ko z\n", "options b x=1\noptions a o\n"),
        "b.y=3 a.p b.q=\"1 2\" c.n=4",
    );
    assert_eq!(calls, [r#"finit a.ko "o p""#, r#"finit b.ko "x=1 y=2 y=3 q=\"1 2\"""#, r#"finit c.ko "z n=4""#]);
    assert_eq!(outcome.to_string(), "3 loaded, 0 present, 0 skipped, 0 failed");
}

#[test]
fn a_soft_dependency_that_fails_is_no_failure() {
    let fake = tree("c\n", "softdep c pre: none b post: bus\n").answering(&[
        Err(Errno::ENODEV),
        Ok(()),
        Ok(()),
        Err(Errno::EIO),
    ]);
    let (outcome, lines, calls) = run_on(&fake, "");
    // Without what it needs, the soft dependency itself is not left out: modprobe tries it too.
    assert_eq!(calls, ["finit a.ko \"\"", "finit b.ko \"\"", "finit c.ko \"\"", "finit bus.ko \"\""]);
    assert!(lines[0].ends_with("/a.ko (optional)"), "{lines:?}");
    assert_eq!(outcome.failed, 0);
}

#[test]
fn a_soft_dependency_that_failed_is_not_tried_for_another_module() {
    let config = "softdep a pre: c\nsoftdep bus pre: c\nsoftdep disk pre: c\n";
    let fake = tree("a\nbus\ndisk\nc\n", config).answering(&[Err(Errno::ENODEV)]);
    let (outcome, lines, calls) = run_on(&fake, "");
    // Who asks for it by its name has it tried.
    assert_eq!(calls, ["c", "a", "bus", "disk", "c"].map(|name| format!("finit {name}.ko \"\"")), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.contains("ENODEV")).count(), 1, "{lines:?}");
    assert_eq!((outcome.loaded, outcome.failed), (4, 0));
}

#[test]
fn modules_of_another_kernel_are_named() {
    let fake = Fake::default().with_file("/m", b"a\n").with_file("/lib/modules/6.12.0/modules.dep", b"a.ko:\n");
    let (outcome, lines, _) = run_on(&fake, "");
    let says = "Error a: /lib/modules/6.1.0-test is not there, but /lib/modules/6.12.0 is: kernel and modules are of different versions";
    assert_eq!((outcome.failed, &lines[..]), (1, &[says.to_string()][..]));
}

#[test]
fn who_boots_may_leave_modules_out() {
    let words = "modprobe.blacklist=a rd.driver.blacklist=c module_blacklist=bus modest.skip=disk";
    let manifest = "a\nc\n/lib/modules/6.1.0-test/c.ko\nbus\ndisk\nb\n";
    let (outcome, lines, calls) = run_on(&tree(manifest, "").answering(&[Err(Errno::EPERM)]), words);
    assert_eq!(outcome.to_string(), "2 loaded, 0 present, 5 skipped, 0 failed", "{lines:?}");
    // A blacklist is for what is asked for, not for what that needs.
    assert_eq!(calls, ["finit bus.ko \"\"", "finit a.ko \"\"", "finit b.ko \"\""]);
    let (outcome, ..) = run_on(&tree("bus\n", "").answering(&[Err(Errno::EPERM)]), "module_blacklist=bus2");
    assert_eq!(outcome.failed, 1);
    // What it needs is refused: it is left out, and that is no failure either.
    let (outcome, ..) = run_on(&tree("b\n", "").answering(&[Err(Errno::EPERM)]), "module_blacklist=a");
    assert_eq!(outcome.to_string(), "0 loaded, 0 present, 1 skipped, 0 failed");
}

#[test]
fn the_command_line_asks_for_modules() {
    let (outcome, _, calls) = run_on(&tree("a\n", ""), "modules=none,disk,c");
    assert_eq!(calls, ["a", "disk", "c"].map(|name| format!("finit {name}.ko \"\"")));
    assert_eq!(outcome.failed, 0);
    let words = "modules-load=none,c rd.driver.pre=bus rd.modules_load=disk";
    let (outcome, lines, calls) = run_on(&tree("a\n", ""), words);
    assert_eq!(calls, ["bus", "a", "disk", "c"].map(|name| format!("finit {name}.ko \"\"")));
    assert!(
        lines.iter().any(|line| line.ends_with("alias of that name, the kernel command line (optional)")),
        "{lines:?}"
    );
    assert_eq!(outcome.failed, 0);
    assert_eq!(run_on(&tree("a\n", ""), "rd.driver.pre=none").0.failed, 1);
    // The policy holds for them too.
    let (outcome, _, calls) = run_on(&tree("@on-error stop\na\n", ""), "rd.driver.pre=none,bus modules-load=c");
    assert_eq!((outcome.stopped, calls.len()), (true, 0));
}

#[test]
fn commands_are_run_by_the_shell_or_leave_a_module_out() {
    let config = "install a /bin/true\ninstall c /sbin/x $CMDLINE_OPTS\noptions c o=1\n";
    let fake = tree("b\nc p=2\n", config).with_file("/bin/sh", b"");
    let (outcome, lines, calls) = run_on(&fake, "");
    assert_eq!(outcome.to_string(), "2 loaded, 0 present, 1 skipped, 0 failed", "{lines:?}");
    assert_eq!(calls[0], "finit b.ko \"\"");
    assert!(calls[1].starts_with(r#"spawn ["/bin/sh", "-c", "/sbin/x $CMDLINE_OPTS"]"#), "{calls:?}");
    assert!(calls[1].ends_with(r#""MODPROBE_MODULE=c", "CMDLINE_OPTS= o=1 p=2"]"#), "{calls:?}");
    let fake = tree("c\n", config).answering(&[Err(Errno::ENOENT)]);
    let (outcome, lines, _) = run_on(&fake, "");
    assert_eq!(outcome.failed, 1);
    assert_eq!(lines, ["Error c: ENOENT: there is no /bin/sh for its command: install /sbin/x $CMDLINE_OPTS"]);
}

#[test]
fn time_is_for_what_is_asked_for_and_for_its_command() {
    let fake = tree("c @timeout=5s @optional\nb @timeout=5s @retry=1\n", "install c /sbin/x\n");
    let (outcome, lines, calls) = run_on(&fake.answering(&[Err(Errno::ETIMEDOUT), Err(Errno::EBUSY)]), "");
    let told = "Error c: ETIMEDOUT: its command has not ended within 5 s, and was killed: install /sbin/x (optional)";
    assert_eq!(lines[0], told);
    assert!(calls[0].starts_with("spawn ") && calls[0].ends_with(" within 5000 ms"), "{calls:?}");
    // What b needs has none, and is not tried again.
    assert_eq!((&calls[1..], outcome.failed), (&["finit a.ko \"\"".to_string()][..], 1));
    let (_, _, calls) = run_on(&tree("b @timeout=7s\n", ""), "");
    assert_eq!(calls, ["finit a.ko \"\"", "worker within 7000 ms", "finit b.ko \"\""]);
}

#[test]
fn what_devices_need_is_loaded_for_as_long_as_that_helps() {
    let fake = tree("@coldplug pci scsi none\n", "blacklist disk\n")
        .with_file("/sys/bus/pci/devices/0/uevent", b"MODALIAS=pci:1\n")
        .with_file("/sys/bus/pci/devices/1/uevent", b"DRIVER=x\nMODALIAS=pci:2\n")
        .with_file("/sys/bus/scsi/devices/0/uevent", b"MODALIAS=scsi:1\n")
        .with_file("/sys/bus/usb/devices/0/uevent", b"MODALIAS=usb:1\n");
    let (outcome, lines, calls) = run_on(&fake, "");
    assert_eq!(calls, ["finit bus.ko \"\""], "{lines:?}");
    assert_eq!(outcome.to_string(), "1 loaded, 0 present, 0 skipped, 0 failed");
    // What fails is told once, and not tried again; nor is a command.
    let fake = tree("@coldplug\n@wait /dev/none @timeout=200ms\n", "alias usb:* c\ninstall c x\n")
        .with_file("/sys/bus/pci/devices/0/uevent", b"MODALIAS=pci:1\n")
        .with_file("/sys/bus/scsi/devices/0/uevent", b"MODALIAS=scsi:1\n")
        .with_file("/sys/bus/usb/devices/0/uevent", b"MODALIAS=usb:1\n")
        .with_file("/sys/module/disk/initstate", b"live\n")
        .answering(&[Err(Errno::EIO)]);
    let (outcome, lines, calls) = run_on(&fake, "");
    assert_eq!(lines.iter().filter(|line| line.starts_with("Error bus: EIO")).count(), 1, "{lines:?}");
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert_eq!((outcome.loaded, outcome.failed, outcome.present), (1, 1, 1));
}

#[test]
fn an_alias_is_looked_up_once() {
    let device = |fake: Fake, i: usize| {
        let name = ["disk:1", "scsi:1", "pci:1", "usb:9"][i % 4];
        fake.with_file(&format!("/sys/bus/pci/devices/{i}/uevent"), format!("MODALIAS={name}\n").as_bytes())
    };
    // Each lookup of an alias reports the blacklist.
    let fake = (0..20).fold(tree("@coldplug\n@wait /dev/none @timeout=200ms\n", "blacklist disk\n"), device);
    let (_, lines, calls) = run_on(&fake, "");
    assert_eq!(lines.iter().filter(|line| *line == "Debug disk: blacklisted").count(), 1, "{lines:?}");
    assert_eq!(calls, ["finit bus.ko \"\""]);
    // Another root may have what the first has not.
    let fake = (0..20).fold(tree("@coldplug\n@root /r\n@coldplug\n", ""), device);
    let fake = fake
        .with_file("/r/modules.dep", b"u.ko:\n")
        .with_file("/r/modules.alias", b"alias usb:9 u\n")
        .with_file("/r/u.ko", b"");
    let (_, lines, calls) = run_on(&fake, "");
    assert_eq!(calls.last().map(|call| call.starts_with("finit /r/u.ko")), Some(true), "{calls:?} {lines:?}");
}

#[test]
fn over_the_limits_is_told() {
    let buses = "x".repeat(BUSES_BYTES);
    let (outcome, lines, _) = run_on(&tree(&format!("@coldplug {buses}\n"), ""), "");
    assert_eq!((outcome.failed, lines[0].contains("over BUSES_BYTES, 128")), (1, true), "{lines:?}");
    let (outcome, ..) = run_on(&tree(&format!("@coldplug\n@coldplug {buses}\n"), ""), "");
    assert_eq!(outcome.failed, 0);
    let (mut fake, mut alias) = (Fake::default().with_file("/m", b"@coldplug\n"), String::new());
    for i in 0..PLUG_TRIED + 20 {
        fake = fake.with_file(&format!("/sys/bus/pci/devices/{i}/uevent"), format!("MODALIAS=pci:{i}\n").as_bytes());
        alias += &format!("alias pci:{i} m{i}\n");
    }
    let fake = fake.with_file("/lib/modules/6.1.0-test/modules.alias", alias.as_bytes());
    let (_, lines, _) = run_on(&fake, "");
    let says = |line: &&String| *line == "Error more modules for devices than PLUG_TRIED, 256";
    assert_eq!(lines.iter().filter(says).count(), 1, "{lines:?}");
    let commas = format!("modprobe.blacklist={}", ",".repeat(CMDLINE_BYTES - 100));
    let (outcome, lines, _) = run_on(&tree("a\n", ""), &commas);
    assert_eq!((outcome.loaded, lines.len()), (1, 1), "{lines:?}");
}

#[test]
fn what_is_waited_for_comes_or_not() {
    let manifest = "@wait pci:1 /dev/x\n@wait /dev/y scsi:* @timeout=50ms\n@wait /dev/z @timeout=1s @optional\n\
        a @if=pci:1\nc @if=scsi:*\n";
    let fake = tree(manifest, "")
        .with_file("/dev/x", b"")
        .with_file("/dev/y", b"")
        .with_file("/sys/bus/pci/devices/0/uevent", b"MODALIAS=pci:1\n");
    let (outcome, lines, calls) = run_on(&fake, "");
    assert!(lines[0].starts_with("Info pci:1 /dev/x: there, after "), "{lines:?}");
    assert_eq!(lines[1], "Info waiting for scsi:*");
    assert!(lines[2].starts_with("Error scsi:*: not there after 5") && lines[2].ends_with(" ms, /m:2"), "{lines:?}");
    assert!(lines[4].ends_with(" ms, /m:3 (optional)"), "{lines:?}");
    assert_eq!(calls, ["finit a.ko \"\""]);
    assert_eq!(outcome.to_string(), "1 loaded, 0 present, 1 skipped, 1 failed");
}

#[test]
fn a_sealed_manifest_heeds_no_word_about_modules() {
    let words = "modest.skip=a modprobe.blacklist=b c.p=1 rd.driver.pre=disk module_blacklist=bus root=/dev/a";
    let manifest = "# ours\n\n@sealed\nb\nc\nbus\n";
    let answers = [Ok(()), Ok(()), Ok(()), Err(Errno::EPERM)];
    let (outcome, lines, calls) = run_on(&tree(manifest, "").answering(&answers), words);
    assert_eq!(calls, ["a", "b", "c", "bus"].map(|name| format!("finit {name}.ko \"\"")));
    assert_eq!((outcome.loaded, outcome.failed, outcome.is_sealed), (3, 1, true));
    for (line, word) in lines.iter().zip(words.split(' ').take(5)) {
        assert_eq!(*line, format!("Info /m:3: @sealed: ignored on the kernel command line: {word}"));
    }
    assert_eq!(lines.iter().filter(|line| line.contains("@sealed")).count(), 5, "{lines:?}");
    // What it does not have is not reported.
    let (outcome, lines, _) = run_on(&tree("@sealed\na\n", ""), "root=/dev/a quiet");
    assert!(outcome.is_sealed && !lines.iter().any(|line| line.contains("@sealed")), "{lines:?}");
}

#[test]
fn a_seal_comes_before_all_others() {
    let (outcome, lines, _) = run_on(&tree("a\n@sealed\nb\n", ""), "modest.skip=b");
    assert_eq!((outcome.skipped, outcome.failed, outcome.is_sealed), (1, 1, false));
    let says = "Error /m:2:1: @sealed after another line; expected it before all others";
    assert!(lines.iter().any(|line| line == says), "{lines:?}");
}

#[test]
fn what_is_wrong_a_thousand_times_is_counted_and_the_rest_is_loaded() {
    let mut manifest = String::new();
    for i in 0..2000 {
        manifest += &format!("unknown{i}\n/none/n{i}.ko\n@x{i}\n");
    }
    let (outcome, lines, calls) = run_on(&tree(&(manifest + "a\n"), ""), "");
    assert_eq!((outcome.loaded, outcome.failed), (1, 6000));
    assert_eq!(calls, ["finit a.ko \"\""]);
    assert_eq!(lines.last().unwrap(), "Error and 3000 more like those: over REPORTED_ALIKE, 1000, of a kind");
    assert_eq!(lines.len(), 3 * 1000 + 1 + 1);
}

#[test]
fn a_name_that_no_folder_has_costs_no_look_into_it() {
    let manifest: String = (0..1000).map(|i| format!("unknown{i}\n")).collect();
    let fake = Fake::default()
        .with_file("/m", (manifest + "@root /t\nb\nother\n").as_bytes())
        .with_file("/lib/modules/6.1.0-test/a.ko", b"")
        .with_file("/t/b.ko", b"");
    let listed = |fake: &Fake| {
        let is_list = |call: &&String| ["list /t/", "list /lib/modules/6.1.0-test/"].contains(&call.as_str());
        fake.calls.borrow().iter().filter(is_list).count()
    };
    let file = Fake::default().with_file("/c", b"");
    let mut buf = vec![0; CMDLINE_BYTES];
    let (cmdline, ..) = Cmdline::read(&file, c"/c", &mut buf);
    let on_policy = |_: &OnError| {};
    let options =
        Options { manifest: c"/m", cmdline, budget_bytes: None, is_init: false, dry_run: false, on_policy: &on_policy };
    let outcome = run(&fake, &mut Lines::default(), &options, &mut [0; RUN_BYTES]);
    assert_eq!((outcome.loaded, outcome.failed), (1, 1001));
    assert!(listed(&fake) < 10, "{}", listed(&fake));
}

#[test]
fn many_files_of_modprobe_d_are_wrong_as_one_is() {
    let fake = (0..1200)
        .fold(tree("a\n", ""), |fake, i| fake.with_file(&format!("/etc/modprobe.d/n{i}.conf"), b"nonsense a\n"));
    let (outcome, lines, _) = run_on(&fake, "");
    assert_eq!((outcome.loaded, lines.len()), (1, 1000 + 1 + 1), "{lines:?}");
    assert_eq!(lines.last().unwrap(), "Error and 200 more like those: over REPORTED_ALIKE, 1000, of a kind");
}
