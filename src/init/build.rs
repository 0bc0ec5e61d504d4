//! Link arguments of the target binary alone: in `.cargo/config.toml` they would reach build scripts too.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=link.ld");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    // Any libc will do: modest has none. A build for the host, which nobody runs, is linked as usual; but the host's own
    // target may be that of modest too.
    if !variable("CARGO_ENCODED_RUSTFLAGS").split('\x1f').any(|flag| flag.ends_with("relocation-model=static")) {
        let (target, host) = (variable("TARGET"), variable("HOST"));
        assert!(target == host, "modest for {target} takes `cargo build --config src/init/flags.toml`");
        return;
    }
    let script = concat!("-T", env!("CARGO_MANIFEST_DIR"), "/link.ld");
    let args = ["--gc-sections", "--build-id=none", "-znoexecstack", script];
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
