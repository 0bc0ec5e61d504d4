//! Link arguments of the target binary alone: in `.cargo/config.toml` they would reach build scripts too.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let env = std::env::var("CARGO_CFG_TARGET_ENV").unwrap_or_default();
    if env != "musl" {
        return;
    }
    // Code and constants share one segment: fewer pages to map and to touch.
    for arg in ["-nostdlib", "--gc-sections", "--no-rosegment", "--build-id=none", "--icf=all", "-znoexecstack"] {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
}
