//! Link arguments of the target binary alone: in `.cargo/config.toml` they would reach build scripts too.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=segments.ld");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    // Any libc will do: modest has none. A build for the host, which nobody runs, is linked as ever; but the host's own
    // target may be that of modest too.
    if !variable("CARGO_ENCODED_RUSTFLAGS").split('\x1f').any(|flag| flag.ends_with("relocation-model=static")) {
        let (target, host) = (variable("TARGET"), variable("HOST"));
        assert!(target == host, "modest for {target} takes `cargo build --config src/init/flags.toml`");
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
    let args = ["--gc-sections", "--build-id=none", "-znoexecstack", align, &segments];
    // The linker itself, or a compiler that runs one.
    if variable("RUSTC_LINKER").ends_with("lld") {
        for arg in ["-nostdlib", "--icf=all"].iter().chain(&args) {
            println!("cargo::rustc-link-arg-bins={arg}");
        }
    } else {
        for arg in ["-nostdlib", "-static"] {
            println!("cargo::rustc-link-arg-bins={arg}");
        }
        for arg in args {
            println!("cargo::rustc-link-arg-bins=-Wl,{arg}");
        }
    }
}

/// The linker's script, without the segments that would be empty.
fn segments() -> PathBuf {
    let has = |feature: &str| std::env::var_os(format!("CARGO_FEATURE_{}", feature.to_uppercase())).is_some();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("segments.ld");
    let mut text = std::fs::read_to_string(script).expect("segments.ld");
    for name in ["xz", "zstd", "pin"].iter().filter(|name| !has(name)) {
        let (header, section) = (format!("    {name} PT_LOAD FLAGS(5);\n"), format!("}} :{name}\n"));
        assert!(text.contains(&header) && text.contains(&section), "segments.ld has no segment {name}");
        text = text.replace(&header, "").replace(&section, "} :decode\n");
    }
    let script = Path::new(&std::env::var_os("OUT_DIR").expect("cargo's")).join("segments.ld");
    std::fs::write(&script, text).expect("a file in cargo's folder");
    script
}
