//! Pages of docs/ whose commands are run here, in guests too, and whose output is compared with what they say.
//!
//! Of a page's fenced blocks
//! - `sh` is run by bash, in one script with all others, in an empty folder with the project in `modest` and mkmodest on the
//!   PATH;
//! - one that a line with nothing but a path in backquotes and a colon introduces is written to that file, which is executable
//!   if it begins with `#!`;
//! - `console` are lines that the `sh` before it has printed, in this order, maybe with others between; figures may differ.
//!
//! All others are for reading only.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use modest_qemu::{modest, project};

/// A fenced block.
struct Block<'p> {
    section: &'p str,
    /// What stands behind its first backquotes.
    kind: &'p str,
    /// The path that introduces it.
    file: Option<&'p str>,
    text: String,
}

/// The blocks of a page.
fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let (mut section, mut before) = ("", "");
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let text = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
            let file = before.strip_prefix('`').and_then(|rest| rest.strip_suffix("`:"));
            blocks.push(Block { section, kind, file, text });
        } else if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        if !line.is_empty() {
            before = line;
        }
    }
    blocks
}

/// The folder with mkmodest, as it is now.
fn mkmodest_dir() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let mut cargo = Command::new("cargo");
        let built = cargo.args(["build", "-q", "--release", "-p", "mkmodest"]).current_dir(project()).status();
        assert!(built.unwrap().success());
        target_dir().join("release")
    };
    BUILT.get_or_init(build).clone()
}

fn target_dir() -> PathBuf {
    let program = modest("any");
    fs::canonicalize(program.ancestors().nth(3).unwrap()).unwrap()
}

/// A line without what another run, architecture or release of the kernel would have differently.
fn masked(line: &str) -> String {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '_');
    let mut masked = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (word, behind) = rest.split_at(rest.find(|c| !is_inner(c)).unwrap_or(rest.len()));
        let is_number = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let has_unit = [" KiB", " us", " ms", " s", " bytes"].iter().any(|unit| behind.starts_with(unit));
        masked += match word {
            _ if word.starts_with(|c: char| c.is_ascii_digit()) && word.matches('.').count() > 1 => "RELEASE",
            _ if is_number && (has_unit || word.len() > 3) => "N",
            word => word,
        };
        let separator = behind.find(is_inner).unwrap_or(behind.len());
        masked += &behind[..separator];
        rest = &behind[separator..];
    }
    masked
}

/// Runs what stands before the first section of a page, and then that section, or all. In the page each first text of
/// `instead` is replaced by the second.
fn run(page: &str, section: Option<&str>, instead: &[(&str, &str)]) {
    let mut text = fs::read_to_string(project().join("docs").join(page)).unwrap();
    for (from, to) in instead {
        assert!(text.contains(from), "no {from} in {page}");
        text = text.replace(from, to);
    }
    let wanted = |block: &&Block| section.is_none_or(|section| [section, ""].contains(&block.section));
    let all = blocks(&text);
    let blocks: Vec<_> = all.iter().filter(wanted).collect();
    assert!(section.is_none_or(|section| blocks.iter().any(|block| block.section == section)), "no {section:?}");

    let mut script = "set -eu -o pipefail\n".to_string();
    for (number, Block { kind, file, text, .. }) in blocks.iter().enumerate() {
        match (file, *kind) {
            (Some(file), _) => {
                let mode = if text.starts_with("#!") { 755 } else { 644 };
                write!(script, "mkdir -p \"$(dirname {file})\"\ncat >{file} <<'END-OF-BLOCK'\n{text}END-OF-BLOCK\n")
                    .unwrap();
                writeln!(script, "chmod {mode} {file}").unwrap();
            }
            (None, "sh") => write!(script, "echo '@@ {number}'\n{text}").unwrap(),
            _ => {}
        }
    }
    script += "echo '@@ end'\n";

    let folder = tempfile::tempdir().unwrap();
    symlink(fs::canonicalize(project()).unwrap(), folder.path().join("modest")).unwrap();
    let path = std::env::join_paths(
        std::iter::once(mkmodest_dir()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut bash = Command::new("bash");
    // What cargo tells its tests is not for another cargo.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_") && name != "CARGO_HOME") {
            bash.env_remove(name);
        }
    }
    bash.arg("-c").arg(format!("exec 2>&1\n{script}")).current_dir(folder.path());
    let output = bash.env("PATH", path.unwrap()).env("CARGO_TARGET_DIR", target_dir()).output().unwrap();
    let output = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert!(output.ends_with("@@ end\n"), "{page}: a command failed:\n{output}");

    let mut from = "";
    let (mut ran, mut compared) = (0, 0);
    for (number, Block { kind, file, text, .. }) in blocks.iter().enumerate() {
        match *kind {
            "sh" if file.is_none() => {
                from = output.split_once(&format!("@@ {number}\n")).unwrap().1;
                ran += 1;
            }
            "console" => {
                let mut said = from.lines().take_while(|line| !line.starts_with("@@ ")).map(masked);
                for line in text.lines().filter(|line| *line != "…") {
                    let line = masked(line);
                    assert!(said.any(|said| said == line), "{page}: not said, or not there:\n{line}\nin\n{from}");
                    compared += 1;
                }
            }
            _ => {}
        }
    }
    assert!(ran > 0 && compared > 0, "{page}, {section:?}: nothing was compared");
}

/// The same page for another architecture.
const ARMV7: &[(&str, &str)] = &[
    ("qemu-aarch64", "qemu-armv7"),
    ("aarch64-unknown-linux-musl", "armv7-unknown-linux-musleabihf"),
    ("trixie arm64 linux-image-arm64", "trixie armhf linux-image-armmp"),
    // There ext4 has one more soft dependency, for processors that QEMU's is not.
    ("7 modules,", "8 modules,"),
];
const RISCV64: &[(&str, &str)] = &[
    ("qemu-aarch64", "qemu-riscv64"),
    ("aarch64-unknown-linux-musl", "riscv64gc-unknown-linux-musl"),
    ("trixie arm64 linux-image-arm64", "trixie riscv64 linux-image-riscv64"),
    // The board's disk has partitions.
    ("/dev/vda", "/dev/vda1"),
];

#[test]
fn hooks_on_aarch64() {
    run("hooks.md", None, &[]);
}

#[test]
fn hooks_on_armv7() {
    run("hooks.md", None, ARMV7);
}

#[test]
fn hooks_on_riscv64() {
    run("hooks.md", None, RISCV64);
}

#[test]
fn porting() {
    run("porting.md", None, &[]);
}

#[test]
fn from_a_script_with_insmod() {
    run("migrations.md", Some(SCRIPT), &[]);
}

#[test]
fn from_android() {
    run("migrations.md", Some(ANDROID), &[]);
}

#[test]
fn from_openwrt() {
    run("migrations.md", Some(OPENWRT), &[]);
}

#[test]
fn from_debian() {
    run("migrations.md", Some(DEBIAN), &[]);
}

const SCRIPT: &str = "From a script with insmod";
const ANDROID: &str = "From Android's modules.load";
const OPENWRT: &str = "From OpenWrt's modules.d";
const DEBIAN: &str = "From /etc/modules and modules-load.d";

#[test]
fn every_migration_has_a_test() {
    let text = fs::read_to_string(project().join("docs/migrations.md")).unwrap();
    let sections: BTreeSet<_> = blocks(&text).iter().map(|block| block.section.to_string()).collect();
    let tested = ["", SCRIPT, ANDROID, OPENWRT, DEBIAN].map(String::from);
    assert_eq!(sections, tested.into());
}

#[test]
fn figures_are_masked() {
    for (one, other) in [
        ("a: 5.7 KiB, 97007 us", "a: 12.4 KiB, 3 us"),
        ("7 loaded, 0 failed, 642 ms", "7 loaded, 0 failed, 1 ms"),
        ("crc16.ko @size=1234 x", "crc16.ko @size=99999 x"),
        ("/lib/modules/6.12.107+deb13-arm64/kernel", "/lib/modules/6.12.5-riscv64/kernel"),
    ] {
        assert_eq!(masked(one), masked(other));
    }
    for (one, other) in [("exit code 1", "exit code 3"), ("7 loaded", "8 loaded"), ("x=4", "x=5"), ("crc16", "crc32")] {
        assert_ne!(masked(one), masked(other));
    }
}
