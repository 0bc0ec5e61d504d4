//! The package for Buildroot (packaging/buildroot): the commands that its makefile has, run as Buildroot runs them, and boots of what
//! comes of them.
//!
//! | here | stands for |
//! |---|---|
//! | [`MAKEFILE`]: the few variables that modest.mk uses | Buildroot's makefiles |
//! | the project's files, `cargo vendor`, a new .cargo/config.toml | the download, with support/download/cargo-post-process |
//! | Debian's cross compilers | its toolchain |
//! | Debian's Rust, with a `core` that it builds | host-rust-bin |
//! | ld.lld | the rust-lld of host-rust-bin |
//! | the modules of a Debian kernel | target/lib/modules |
//! | target/debug/mkmodest | host-modest |

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use mkmodest::disk::MARKER;
use modest_qemu::{Scenario, copy_project, project, run};

/// What Buildroot defines, and the steps of a package in its order. The environment of cargo is that of package/pkg-cargo.mk of
/// Buildroot 2026.08, for a configuration that says nothing of optimization and debugging.
const MAKEFILE: &str = r#"
comma := ,
qstrip = $(strip $(subst ",,$(1)))
UPPERCASE = $(shell echo '$(1)' | tr a-z.- A-Z__)
INSTALL = install
TARGET_MAKE_ENV = PATH="$(HOST_DIR)/bin:/usr/bin:/bin"
TARGET_CONFIGURE_OPTS = CC="$(TARGET_CROSS)gcc" LD="$(TARGET_CROSS)ld" CFLAGS="-Os -g0" LDFLAGS=""
TRIPLE := $(call UPPERCASE,$(RUSTC_TARGET_NAME))
PKG_CARGO_ENV = CARGO_HOME=$(CARGO_HOME_EMPTY) CARGO_BUILD_TARGET="$(RUSTC_TARGET_NAME)" \
	__CARGO_TEST_CHANNEL_OVERRIDE_DO_NOT_USE_THIS="nightly" CARGO_UNSTABLE_HOST_CONFIG="true" \
	CARGO_UNSTABLE_TARGET_APPLIES_TO_HOST="true" CARGO_TARGET_APPLIES_TO_HOST="false" \
	CARGO_HOST_RUSTFLAGS="" CARGO_TARGET_$(TRIPLE)_LINKER=$(TARGET_CROSS)gcc \
	$(foreach p,DEV RELEASE,CARGO_PROFILE_$(p)_INCREMENTAL="false" CARGO_PROFILE_$(p)_CODEGEN_UNITS="16" \
		CARGO_PROFILE_$(p)_SPLIT_DEBUGINFO="off" CARGO_PROFILE_$(p)_OPT_LEVEL="2" CARGO_PROFILE_$(p)_LTO="false" \
		CARGO_PROFILE_$(p)_DEBUG="0" CARGO_PROFILE_$(p)_DEBUG_ASSERTIONS="false" \
		CARGO_PROFILE_$(p)_OVERFLOW_CHECKS="false") \
	$(if $(filter arm%,$(RUSTC_TARGET_NAME)),CARGO_TARGET_$(TRIPLE)_RUSTFLAGS="-Clink-arg=-Wl$(comma)--allow-multiple-definition")

# In .config, which is included; a variable of the command line would override the package's.
BR2_ROOTFS_POST_IMAGE_SCRIPT = "$(USER_SCRIPTS)"

include $(BR2_EXTERNAL_MODEST_PATH)/package/modest/modest.mk

$(BUILD_DIR)/.stamp_built:
	$(MODEST_BUILD_CMDS)
$(BUILD_DIR)/.stamp_target_installed:
	$(MODEST_INSTALL_TARGET_CMDS)
$(BUILD_DIR)/.stamp_images_installed:
	$(if $(filter YES,$(MODEST_INSTALL_IMAGES)),$(MODEST_INSTALL_IMAGES_CMDS))
target-post-image:
	set -e; $(foreach s,$(call qstrip,$(BR2_ROOTFS_POST_IMAGE_SCRIPT)), \
		TARGET_DIR=$(TARGET_DIR) BINARIES_DIR=$(BINARIES_DIR) HOST_DIR=$(HOST_DIR) $(s) $(BINARIES_DIR);)
print-%:
	@echo '$($*)'
"#;

fn package() -> PathBuf {
    project().join("packaging/buildroot").canonicalize().unwrap()
}

/// The options in Config.in of the package, with those that are on by default first.
fn options() -> (BTreeSet<String>, BTreeSet<String>) {
    let text = fs::read_to_string(package().join("package/modest/Config.in")).unwrap();
    let entries = text.split("\nconfig BR2_PACKAGE_MODEST_").skip(1);
    let bools = entries.filter(|entry| entry.contains("\n\tbool "));
    let (on, off): (Vec<_>, Vec<_>) = bools.partition(|entry| entry.contains("\n\tdefault y\n"));
    let names = |entries: Vec<&str>| entries.iter().map(|e| e.lines().next().unwrap().to_string()).collect();
    (names(on), names(off))
}

/// Calls `make` for these targets in an environment with nothing of whoever runs the tests.
fn make(variables: &[String], targets: &[String]) -> String {
    let makefile = tempfile::NamedTempFile::new().unwrap();
    fs::write(&makefile, MAKEFILE).unwrap();
    let mut command = Command::new("make");
    command.env_clear().env("PATH", "/usr/bin:/bin").args(["-s", "-f"]).arg(makefile.path());
    command.arg(format!("BR2_EXTERNAL_MODEST_PATH={}", package().display()));
    command.args(options().0.iter().map(|option| format!("BR2_PACKAGE_MODEST_{option}=y")));
    run(command.args(variables).args(targets))
}

#[test]
fn it_offers_the_features_of_the_crate_with_their_defaults() {
    let text = fs::read_to_string(project().join("src/init/Cargo.toml")).unwrap();
    let (_, features) = text.split_once("\n[features]\n").unwrap();
    let (features, _) = features.split_once("\n\n").unwrap();
    let features = features.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(" = ").unwrap());
    let (default, others): (Vec<_>, Vec<_>) = features.partition(|(name, _)| *name == "default");
    let default: BTreeSet<_> = default[0].1.split('"').skip(1).step_by(2).collect();

    let chosen = make(&[], &["print-MODEST_FEATURES".into()]);
    assert_eq!(chosen.split_whitespace().collect::<BTreeSet<_>>(), default);
    let all: Vec<_> = options().1.iter().map(|option| format!("BR2_PACKAGE_MODEST_{option}=y")).collect();
    let offered = make(&all, &["print-MODEST_FEATURES".into()]);
    // These are for measurements and tests.
    let others = others.iter().map(|(name, _)| *name).filter(|name| !["bench", "panic-test"].contains(name));
    assert_eq!(offered.split_whitespace().collect::<BTreeSet<_>>(), others.collect());
}

#[test]
fn its_version_is_that_of_the_crate() {
    assert_eq!(make(&[], &["print-MODEST_VERSION".into()]).trim(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_initramfs_brings_its_script() {
    let own = package().join("board/modest/post-image.sh").display().to_string();
    let run_with = |initramfs: &str, scripts: &str| {
        let variables = [format!("BR2_PACKAGE_MODEST_INITRAMFS={initramfs}"), format!("USER_SCRIPTS={scripts}")];
        let commands = make(&[&variables[..], &["-n".into()]].concat(), &["target-post-image".into()]);
        let scripts = commands.split_whitespace().filter(|word| word.ends_with(".sh")).map(String::from);
        scripts.collect::<Vec<_>>()
    };
    assert_eq!(run_with("y", ""), [own.as_str()]);
    assert_eq!(run_with("y", "/a.sh /b.sh"), [own.as_str(), "/a.sh", "/b.sh"]);
    assert_eq!(run_with("y", &format!("/a.sh {own}")), ["/a.sh", own.as_str()]);
    assert_eq!(run_with("", "/a.sh"), ["/a.sh"]);
}

#[test]
fn licences_of_both_packages_are_listed() {
    for package in ["MODEST", "HOST_MODEST"] {
        let files = make(&[], &[format!("print-{package}_LICENSE_FILES")]);
        assert_eq!(files.trim(), "LICENSE-APACHE LICENSE-MIT", "{package}");
    }
}

/// The source as Buildroot extracts it: the project's files, with all crates vendored.
fn source() -> &'static Path {
    static SOURCE: OnceLock<PathBuf> = OnceLock::new();
    SOURCE.get_or_init(|| {
        // Nothing would remove a temporary folder that lasts as long as the program.
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("buildroot-source");
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir_all(&dir).unwrap();
        copy_project(&dir).unwrap();
        let mut vendor = Command::new("cargo");
        vendor.args(["vendor", "--manifest-path", "Cargo.toml", "--locked", "VENDOR"]).current_dir(&dir);
        let config = run(&mut vendor);
        assert!(config.contains("vendored-sources"), "{config}");
        fs::write(dir.join(".cargo/config.toml"), config).unwrap();
        dir
    })
}

/// Puts a `rustc` and a `cargo` that have the target's `core` into `bin`.
fn rust(target: &str, bin: &Path) {
    let with = |name: &str, command: String| {
        let file = bin.join(name);
        fs::write(&file, format!("#!/bin/sh\nexec {command} \"$@\"\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    };
    with("rustc", format!("/usr/bin/rustc --sysroot {}", debian_sysroot(target).display()));
    with("cargo", "/usr/bin/cargo".into());
}

/// What host-rust-bin would be unpacked from for this target, made of the sources that Debian has: `core` with its bitcode, unwind
/// tables and optimization as Rust's own builds have it. It is kept for the next time.
fn debian_sysroot(target: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let version = run(Command::new("/usr/bin/rustc").arg("--version"));
    let name = format!("rust-{}", version.split_whitespace().nth(1).unwrap());
    let sysroot = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let rustlib = sysroot.join("lib/rustlib");
    if rustlib.join(target).exists() {
        return sysroot;
    }
    fs::create_dir_all(&rustlib).unwrap();
    let about = run(Command::new("/usr/bin/rustc").arg("-vV"));
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    if !rustlib.join(host).exists() {
        symlink(Path::new("/usr/lib/rustlib").join(host), rustlib.join(host)).unwrap();
    }
    let dir = tempfile::tempdir_in(&sysroot).unwrap();
    fs::create_dir(dir.path().join("src")).unwrap();
    fs::write(dir.path().join("src/lib.rs"), "#![no_std]\n").unwrap();
    fs::write(dir.path().join("Cargo.toml"), "[package]\nname = \"empty\"\nedition = \"2024\"\n[workspace]\n").unwrap();
    let mut build = Command::new("/usr/bin/cargo");
    build.args(["build", "-q", "--release", "-Zbuild-std=core", "--target", target]).current_dir(&dir);
    build.env("PATH", "/usr/bin:/bin").env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTUP_TOOLCHAIN");
    build.env("CARGO_TARGET_DIR", dir.path().join("target")).env("RUSTFLAGS", "-Cembed-bitcode=yes");
    run(&mut build);
    let libraries = dir.path().join("lib");
    fs::create_dir_all(libraries.join("lib")).unwrap();
    for file in fs::read_dir(dir.path().join("target").join(target).join("release/deps")).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        if name.ends_with(".rlib") && !name.starts_with("libempty") {
            fs::rename(file.path(), libraries.join("lib").join(name)).unwrap();
        }
    }
    fs::rename(libraries, rustlib.join(target)).unwrap();
    sysroot
}

/// An output folder of Buildroot, in which modest is built and installed for a board.
struct Output {
    dir: tempfile::TempDir,
    board: &'static str,
    variables: Vec<String>,
}

impl Output {
    fn new(board: &'static str, target: &str, cross: &str) -> Output {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for folder in ["host/bin", "host/share/modest", "target/lib/modules", "images", "cargo-home"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let build = dir.path().join("build");
        run(Command::new("cp").arg("-al").arg(source()).arg(&build));
        let host = dir.path().join("host");
        rust(target, &host.join("bin"));
        symlink("/usr/bin/ld.lld", host.join("bin/rust-lld")).unwrap();
        let targets = std::env::var_os("CARGO_TARGET_DIR").map_or(project().join("target"), PathBuf::from);
        let mkmodest = targets.join("debug/mkmodest");
        symlink(mkmodest.canonicalize().expect("scripts/test makes it"), host.join("bin/mkmodest")).unwrap();
        symlink(build.join("boards"), host.join("share/modest/boards")).unwrap();
        let tree = Scenario::new(board, None).unwrap().kernel.tree;
        symlink(&tree.dir, dir.path().join("target/lib/modules").join(&tree.release)).unwrap();
        let variables = [
            ("RUSTC_TARGET_NAME", target.to_string()),
            ("TARGET_CROSS", cross.to_string()),
            ("LINUX_VERSION_PROBED", tree.release.clone()),
            ("BUILD_DIR", build.display().to_string()),
            ("HOST_DIR", host.display().to_string()),
            ("TARGET_DIR", dir.path().join("target").display().to_string()),
            ("BINARIES_DIR", dir.path().join("images").display().to_string()),
            ("CARGO_HOME_EMPTY", dir.path().join("cargo-home").display().to_string()),
            ("LINUX_DIR", "/none".into()),
            ("BR2_PACKAGE_MODEST_INITRAMFS", "y".into()),
            ("BR2_PACKAGE_MODEST_BOARD", format!("\"{board}\"")),
        ];
        let variables = variables.map(|(name, value)| format!("{name}={value}")).to_vec();
        Output { dir, board, variables }
    }

    fn with(mut self, variables: &[&str]) -> Output {
        self.variables.extend(variables.iter().map(|variable| variable.to_string()));
        self
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Builds, installs and makes the image: the image.
    fn image(&self) -> Vec<u8> {
        let build = self.path("build");
        for step in [".stamp_built", ".stamp_target_installed", ".stamp_images_installed"] {
            make(&self.variables, &[build.join(step).display().to_string()]);
        }
        make(&self.variables, &["target-post-image".into()]);
        let program = fs::read(self.path("target/sbin/modest")).unwrap();
        println!("size of modest for {}, Buildroot: {} bytes", self.board, program.len());
        assert_eq!(program, fs::read(self.path("images/modest")).unwrap());
        let build = build.display().to_string();
        let has = |text: &str| program.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!has(&build), "{build} is in the program");
        fs::read(self.path("images/modest.cpio")).unwrap()
    }

    /// Boots the image to the root's marker: the console.
    fn boot(&self) -> String {
        let mut boot = Command::new(self.path("host/bin/mkmodest"));
        boot.args(["boot", self.board, "--marker", MARKER, "--image"]).arg(self.path("images/modest.cpio"));
        let console = run(boot.current_dir(project()));
        assert!(console.contains(MARKER), "{console}");
        let counts = console.lines().find(|line| line.contains(" 0 skipped, 0 failed, ")).expect(&console);
        assert!(!counts.contains(" 0 loaded"), "{console}");
        console
    }
}

fn has(image: &[u8], text: &str) -> bool {
    image.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Linked by the compiler, as where Buildroot compiles Rust itself; then by Rust's linker.
#[test]
fn aarch64_boots_what_buildroot_makes() {
    let output = Output::new("qemu-aarch64", "aarch64-unknown-linux-gnu", "aarch64-linux-gnu-");
    assert!(!has(&output.image(), "@budget 524288\n"));
    output.boot();
    let output = output.with(&["BR2_PACKAGE_HOST_RUST_BIN=y", "BR2_PACKAGE_MODEST_BUDGET=\"512K\""]);
    assert!(has(&output.image(), "@budget 524288\n"));
    output.boot();
}

/// With a manifest; and that manifest in the target, where there is no initramfs.
#[test]
fn armv7_boots_what_buildroot_makes() {
    let output = Output::new("qemu-armv7", "armv7-unknown-linux-gnueabihf", "arm-linux-gnueabihf-");
    let manifest = output.path("my.manifest");
    fs::write(&manifest, "virtio_mmio\nvirtio_blk\next4\ncrc16\n@switch-root\n").unwrap();
    let manifest = format!("BR2_PACKAGE_MODEST_MANIFEST=\"{}\"", manifest.display());
    let output = output.with(&[&manifest, "BR2_PACKAGE_MODEST_BUDGET=\"1M\""]);
    assert!(has(&output.image(), "@budget 1048576\n"));
    assert!(!output.path("target/etc/modest.manifest").exists());
    assert!(output.boot().contains("modest: crc16: loaded by "));

    let output = output.with(&["BR2_PACKAGE_MODEST_INITRAMFS="]);
    make(&output.variables, &[output.path("build/.stamp_target_installed").display().to_string()]);
    let installed = fs::read_to_string(output.path("target/etc/modest.manifest")).unwrap();
    assert_eq!(installed, "@budget 1M\nvirtio_mmio\nvirtio_blk\next4\ncrc16\n@switch-root\n");
}

#[test]
fn riscv64_boots_what_buildroot_makes() {
    let output = Output::new("qemu-riscv64", "riscv64gc-unknown-linux-gnu", "riscv64-linux-gnu-");
    let output = output.with(&["BR2_PACKAGE_MODEST_IMAGE_OPTS=\"--pin --compress gzip\""]);
    assert_eq!(output.image()[..2], [0x1f, 0x8b]);
    assert!(output.boot().contains(": loaded by stream, "));
}
