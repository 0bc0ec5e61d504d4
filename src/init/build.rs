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

/// The linker's script, without the segments that would be empty where the file shall be as small as can be: the header of each
/// has 56 bytes.
fn segments() -> PathBuf {
    let has = |feature: &str| std::env::var_os(format!("CARGO_FEATURE_{}", feature.to_uppercase())).is_some();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("segments.ld");
    let mut text = std::fs::read_to_string(script).expect("segments.ld");
    let small: &[&str] = if has("xz") { &["pin"] } else { &["xz", "zstd", "pin"] };
    for name in small.iter().filter(|name| !has(name)) {
        let (header, section) = (format!("    {name} PT_LOAD FLAGS(5);\n"), format!("}} :{name}\n"));
        assert!(text.contains(&header) && text.contains(&section), "segments.ld has no segment {name}");
        text = text.replace(&header, "").replace(&section, "} :decode\n");
    }
    let script = Path::new(&std::env::var_os("OUT_DIR").expect("cargo's")).join("segments.ld");
    std::fs::write(&script, text).expect("a file in cargo's folder");
    script
}
