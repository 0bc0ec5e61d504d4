//! Link arguments of the target binary alone: in `.cargo/config.toml` they would reach build scripts too.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=segments.ld");
    let env = std::env::var("CARGO_CFG_TARGET_ENV").unwrap_or_default();
    if env != "musl" {
        return;
    }
    // Up to a page of the file for a page less in memory, but where the file itself shall be as small as can be.
    let align = if std::env::var_os("CARGO_FEATURE_XZ").is_some() {
        "--defsym=code_align=4096"
    } else {
        "--defsym=code_align=16"
    };
    let segments = segments();
    let segments = format!("-T{}", segments.display());
    for arg in ["-nostdlib", "--gc-sections", "--build-id=none", "--icf=all", "-znoexecstack", align, &segments] {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
}

const PIN: &str = "    pin PT_LOAD FLAGS(5);\n";

/// The linker's script. The smallest build has no 56 bytes for the header of a segment that would be empty.
fn segments() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("segments.ld");
    if std::env::var_os("CARGO_FEATURE_PIN").is_some() {
        return script;
    }
    let text = std::fs::read_to_string(&script).expect("segments.ld");
    let without = text.replace(PIN, "").replace("} :pin\n", "} :zstd\n");
    assert_eq!(without.len() + PIN.len(), text.len() + 1, "segments.ld names the segment once, and its section once");
    let script = Path::new(&std::env::var_os("OUT_DIR").expect("cargo's")).join("segments.ld");
    std::fs::write(&script, without).expect("a file in cargo's folder");
    script
}
