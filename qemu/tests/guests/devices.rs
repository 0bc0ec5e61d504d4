//! Modules that are loaded by name and alias in the guest itself, for the devices that it finds and those that come later.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use modest_qemu::{Scenario, line};

/// Has QEMU's monitor plug a USB stick in, its drive `stick`.
fn plug_in(monitor: &Path) {
    let mut stream = UnixStream::connect(monitor).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
    let stick = r#""driver": "usb-storage", "drive": "stick", "bus": "usb.0""#;
    for command in [
        r#"{"execute": "qmp_capabilities"}"#.to_string(),
        format!(r#"{{"execute": "device_add", "arguments": {{{stick}}}}}"#),
    ] {
        writeln!(stream, "{command}").unwrap();
        // A greeting and events may come before the answer.
        let answer = answers.find(|line| line.contains("\"return\"") || line.contains("\"error\"")).unwrap();
        assert!(answer.contains("\"return\""), "{command}: {answer}");
    }
}

/// An image with the modules of the buses, none of which the manifest names, finds the disk and the network of the board; and
/// while it waits for another disk, a USB stick is plugged in, whose modules are asked for one by the other.
fn cold_and_hot_plugged(board: &str) {
    let manifest = "@on-error stop\n@coldplug\n@wait /dev/vda /sys/class/net/eth0 @timeout=60s\n\
        @wait /dev/sda @timeout=90s\ndummy @if=usb:v46F4*\nifb @if=usb:v1234*\n@exec /next\n";
    let files = tempfile::tempdir().unwrap();
    let (monitor, stick) = (files.path().join("monitor"), files.path().join("stick"));
    std::fs::write(&stick, vec![0; 1 << 20]).unwrap();
    let mut scenario = Scenario::with_manifest(board, None, manifest).unwrap();
    scenario.with_disk = true;
    if board == "qemu-armv7" {
        // A kernel without LPAE finds PCI only where its addresses are.
        let machine = scenario.board.qemu.args.iter_mut().find(|arg| *arg == "virt").unwrap();
        machine.push_str(",highmem=off");
    }
    let modules = ["virtio_mmio", "virtio_blk", "virtio_net", "xhci_pci", "usb_storage", "sd_mod", "dummy", "ifb"];
    scenario.options.include = modules.map(String::from).to_vec();
    scenario.args = [
        format!("-qmp unix:{},server=on,wait=off", monitor.display()),
        "-netdev user,id=net -device virtio-net-device,netdev=net -device qemu-xhci,id=usb".into(),
        format!("-drive if=none,id=stick,format=raw,file={}", stick.display()),
    ]
    .iter()
    .flat_map(|args| args.split(' ').map(String::from))
    .collect();
    let script = "echo ALL-THERE; poweroff -f\n";
    let mut running = scenario.script("/next", script).unwrap().boot().unwrap();
    let console = running.wait_for("modest: waiting for /dev/sda").unwrap();
    for module in ["virtio_blk", "virtio_net", "xhci_pci"] {
        line(&console, &format!("{module}: loaded by ")).unwrap();
    }
    line(&console, "/dev/vda /sys/class/net/eth0: there, after ").unwrap();
    assert!(!console.contains("usb_storage"), "{console}");
    plug_in(&monitor);
    let console = running.wait_for("ALL-THERE").unwrap();
    for module in ["usb_storage", "sd_mod"] {
        line(&console, &format!("{module}: loaded by ")).unwrap();
    }
    line(&console, "/dev/sda: there, after ").unwrap();
    line(&console, "dummy: loaded by ").unwrap();
    line(&console, "ifb: skipped, no device has the alias usb:v1234*").unwrap();
    line(&console, "xhci_pci: ").unwrap();
}

#[test]
fn cold_and_hot_plugged_on_aarch64() {
    cold_and_hot_plugged("qemu-aarch64");
}

#[test]
fn cold_and_hot_plugged_on_armv7() {
    cold_and_hot_plugged("qemu-armv7");
}

#[test]
fn cold_and_hot_plugged_on_riscv64() {
    cold_and_hot_plugged("qemu-riscv64");
}

#[test]
fn what_never_comes_is_a_failure_by_policy() {
    let manifest = "@on-error exec /next\n@wait /dev/none @timeout=100ms @optional\n@wait pci:v9999* @timeout=1s\n";
    let scenario = Scenario::with_manifest("qemu-aarch64", None, manifest).unwrap();
    let scenario = scenario.script("/next", "echo WENT-ON; poweroff -f\n").unwrap();
    let console = scenario.boot().unwrap().wait_for("WENT-ON").unwrap();
    assert!(
        line(&console, "/dev/none: not there after 1").unwrap().ends_with(" ms, /etc/modest.manifest:2 (optional)")
    );
    assert!(line(&console, "pci:v9999*: not there after 1").unwrap().ends_with(" ms, /etc/modest.manifest:3"));
}

#[test]
fn names_are_loaded_as_modprobe_would_and_the_command_line_has_the_last_word() {
    let manifest = "dummy numdummies=2\nmynet\nvxlan\nveth b=2\ntun\nifb\nnothing @optional\n@exec /next\n";
    let config = "options dummy numdummies=1\noptions veth a=1\nalias mynet macvlan\nsoftdep macvlan pre: nothing post: loop\n\
        install vxlan /bin/false\ninstall veth echo RAN $MODPROBE_MODULE $CMDLINE_OPTS\n";
    let mut scenario = Scenario::with_manifest("qemu-aarch64", None, manifest).unwrap();
    scenario.options.include =
        ["dummy", "macvlan", "loop", "vxlan", "veth", "tun", "ifb", "bonding"].map(String::from).to_vec();
    let words = "dummy.numdummies=3 modprobe.blacklist=tun module_blacklist=ifb rd.driver.pre=loop modules-load=none \
        rd.modules-load=bonding veth.c=3";
    let script = "mount -t sysfs s /sys 2>/dev/null; echo NET: $(ls /sys/class/net); ls -d /sys/module/loop\necho DONE; poweroff -f\n";
    let scenario = scenario.file("/etc/modprobe.d/test.conf", config).append(words);
    let scenario = scenario.script("/next", script).unwrap().link("/bin/sh", "busybox");
    let console = scenario.boot().unwrap().wait_for("DONE").unwrap();
    let order: Vec<_> = console.lines().filter_map(|line| line.strip_prefix("modest: ")).collect();
    let at = |begins: &str| {
        order.iter().position(|line| line.starts_with(begins)).unwrap_or_else(|| panic!("{begins}: {console}"))
    };
    // What the command line asks for comes first, and what else it does last.
    assert!(at("loop: loaded by") < at("dummy: loaded by"));
    assert!(at("ifb: skipped, by module_blacklist= on the kernel command line") < at("bonding: loaded by"));
    let net = console.lines().find(|line| line.starts_with("NET: ")).unwrap();
    assert!(net.contains("dummy0 dummy1 dummy2") && !net.contains("dummy3"), "{net}");
    assert!(console.contains("RAN veth a=1 b=2 c=3"), "{console}");
    at("macvlan: loaded by");
    at("veth: command done: install echo RAN");
    at("vxlan: skipped, by install /bin/false in modprobe.d");
    at("tun: skipped, blacklisted");
    at("nothing: the tree's indexes have no module and no alias of that name, /etc/modest.manifest:7 (optional)");
    at("none: the tree's indexes have no module and no alias of that name, the kernel command line (optional)");
    assert!(order.iter().any(|line| line.contains(" 3 skipped, 0 failed")), "{console}");
}
