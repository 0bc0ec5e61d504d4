//! Every board with each of its kernels boots to the init of its root, over the modules in its file.

use std::collections::BTreeSet;

use mkmodest::disk::MARKER;
use modest_qemu::{Scenario, boards, line};

fn boots(board: &str, kernel: &str) {
    let scenario = Scenario::new(board, Some(kernel)).unwrap();
    let console = scenario.boot().unwrap().wait_for(MARKER).unwrap();
    let summary = line(&console, &format!("{} ", count_loaded(&console))).unwrap();
    assert!(summary.contains(" 0 failed,"), "{summary}");
    let release = &scenario.kernel.tree.release;
    assert!(console.contains(&format!("MODEST-ROOT pid=1 release={release} root=/dev/")), "{console}");
    for mounted in ["devtmpfs on /dev", "proc on /proc", "sysfs on /sys"] {
        assert!(console.contains(&format!("MODEST-ROOT mount: {mounted}")), "{mounted}:\n{console}");
    }
}

fn count_loaded(console: &str) -> usize {
    console.lines().filter(|line| line.starts_with("modest: ") && line.contains(": loaded by ")).count()
}

macro_rules! boots {
    ($($name:ident: $board:literal, $kernel:literal $(, $ignored:ident)?;)*) => {
        $(#[test] $(#[$ignored = "one of many boards: --include-ignored boots them all"])? fn $name() { boots($board, $kernel); })*

        #[test]
        fn each_board_and_kernel_has_its_test() {
            let tested: BTreeSet<_> = [$(($board.to_string(), $kernel.to_string())),*].into();
            let mut there = BTreeSet::new();
            for board in boards().unwrap() {
                let file = modest_qemu::project().join("boards").join(format!("{board}.toml"));
                let kernels = mkmodest::board::Board::read(&file).unwrap().kernels;
                there.extend(kernels.into_iter().map(|kernel| (board.clone(), kernel.name)));
            }
            assert_eq!(there, tested);
        }
    };
}

boots! {
    orangepi_pc: "orangepi-pc", "debian13";
    mcimx6ul_evk: "mcimx6ul-evk", "debian13";
    mcimx7d_sabre: "mcimx7d-sabre", "debian13", ignore;
    sabrelite: "sabrelite", "debian13", ignore;
    vexpress_a9: "vexpress-a9", "debian13", ignore;
    vexpress_a15: "vexpress-a15", "debian13", ignore;
    cubieboard: "cubieboard", "debian13", ignore;
    cubieboard_sata: "cubieboard-sata", "debian13", ignore;
    highbank: "highbank", "debian13";
    raspi2b: "raspi2b", "debian13", ignore;
    raspi2b_usb: "raspi2b-usb", "debian13", ignore;
    raspi3b_usb: "raspi3b-usb", "debian13";
    raspi3b: "raspi3b", "debian13";
    hifive_unleashed: "hifive-unleashed", "debian13";
    qemu_armv7: "qemu-armv7", "debian13";
    qemu_armv7_debian12: "qemu-armv7", "debian12";
    qemu_aarch64: "qemu-aarch64", "debian13";
    qemu_aarch64_debian12: "qemu-aarch64", "debian12";
    qemu_aarch64_16k: "qemu-aarch64-16k", "debian13";
    qemu_riscv64: "qemu-riscv64", "debian13";
    lowram_armv7: "lowram-armv7", "small";
    lowram_armv7_bare: "lowram-armv7", "bare";
    lowram_riscv64: "lowram-riscv64", "small";
}
