//! Link arguments of the target binary alone: in `.cargo/config.toml` they would reach build scripts too.

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
    let segments = concat!("-T", env!("CARGO_MANIFEST_DIR"), "/segments.ld");
    for arg in ["-nostdlib", "--gc-sections", "--build-id=none", "--icf=all", "-znoexecstack", align, segments] {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
}
