//! The Yocto layer: its recipe's cargo steps, run as oe-core's classes run them, make a program that boots; and what its class makes of a rootfs
//! boots too.
//!
//! What the recipe says is read from it. What the classes say is repeated here: cargo.bbclass, cargo_common.bbclass, rust-common.bbclass and
//! rust-target-config.bbclass of oe-core, and of bitbake the crate fetcher. What OE has and this machine has not is made as it is there: the
//! target's core library, which libstd-rs installs, by a toolchain with the sources of it; the compiler is Debian's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use elf::ElfBytes;
use elf::abi::{PT_DYNAMIC, PT_INTERP};
use elf::endian::AnyEndian;
use mkmodest::disk::{self, MARKER};
use mkmodest::guest;
use mkmodest::image::Initramfs;
use modest_qemu::{Scenario, line, project, sha256};

/// The releases whose classes differ in how they run cargo.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Release {
    /// 5.0: `BUILD_MODE`, and no `PACKAGECONFIG`.
    Scarthgap,
    /// 6.0: `BUILD_MODE`.
    Wrynose,
    /// After 6.0: `CARGO_PROFILE`.
    Master,
}

/// A machine to build for.
struct Machine {
    /// The board that shows it, and its kernel.
    board: &'static str,
    release: Release,
    /// `TARGET_ARCH`, which is an override too.
    arch: &'static str,
    /// `RUST_HOST_SYS`.
    triple: &'static str,
    /// Debian's compiler.
    gcc: &'static str,
    /// What the target specification has beside what all have, as JSON.
    spec: &'static str,
}

/// qemuarm64's tune, cortexa57.
const AARCH64: Machine = Machine {
    board: "qemu-aarch64",
    release: Release::Wrynose,
    arch: "aarch64",
    triple: "aarch64-poky-linux-gnu",
    gcc: "aarch64-linux-gnu-gcc",
    spec: r#""data-layout": "e-m:e-p270:32:32-p271:32:32-p272:64:64-i8:8:32-i16:16:32-i64:64-i128:128-n32:64-S128-Fn32",
        "max-atomic-width": 128, "target-pointer-width": 64, "arch": "aarch64", "cpu": "generic",
        "features": "+v8a""#,
};

/// qemuarm's tune, cortexa15thf-neon.
const ARMV7: Machine = Machine {
    board: "qemu-armv7",
    release: Release::Scarthgap,
    arch: "arm",
    triple: "armv7-poky-linux-gnueabihf",
    gcc: "arm-linux-gnueabihf-gcc",
    spec: r#""data-layout": "e-m:e-p:32:32-Fi8-i64:64-v128:64:128-a:0:32-n32-S64",
        "max-atomic-width": 64, "target-pointer-width": 32, "arch": "arm", "cpu": "generic", "abi": "eabihf",
        "features": "+vfp2,+neon,+v7,+thumb2,+thumb-mode,+a15", "llvm-floatabi": "hard""#,
};

/// qemuriscv64's.
const RISCV64: Machine = Machine {
    board: "qemu-riscv64",
    release: Release::Master,
    arch: "riscv64",
    triple: "riscv64-poky-linux-gnu",
    gcc: "riscv64-linux-gnu-gcc",
    spec: r#""data-layout": "e-m:e-p:64:64-i64:64-i128:128-n32:64-S128",
        "max-atomic-width": 64, "target-pointer-width": 64, "arch": "riscv64", "cpu": "generic-rv64",
        "features": "+m,+a,+f,+d,+c,+zicsr,+zifencei", "llvm-abiname": "lp64d""#,
};

impl Machine {
    /// The target specification, as do_rust_gen_targets writes it.
    fn specification(&self) -> String {
        format!(
            r#"{{ "llvm-target": "{}", {}, "target-c-int-width": 32, "target-endian": "little", "os": "linux", "env": "gnu",
            "vendor": "unknown", "target-family": "unix", "linker": "{}", "default-uwtable": true, "dynamic-linking": true,
            "executables": true, "linker-is-gnu": true, "linker-flavor": "gcc", "has-rpath": true,
            "has-thread-local": true, "position-independent-executables": true, "panic-strategy": "unwind" }}"#,
            self.triple, self.spec, self.gcc
        )
    }

    fn overrides(&self) -> [&str; 2] {
        ["class-target", self.arch]
    }
}

fn layer() -> PathBuf {
    project().join("packaging/yocto/meta-modest")
}

fn recipes() -> PathBuf {
    layer().join("recipes-core/modest")
}

/// Variables, as far as bitbake's language is used here.
struct Metadata {
    variables: BTreeMap<String, String>,
    overrides: Vec<String>,
}

impl Metadata {
    fn new(overrides: &[&str]) -> Metadata {
        Metadata { variables: BTreeMap::new(), overrides: overrides.iter().map(|name| name.to_string()).collect() }
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.insert(name.into(), value.into());
    }

    /// Reads the assignments of a file, without those of files that it requires.
    fn read(&mut self, file: &Path) {
        let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let text = text.replace("\\\n", "");
        let mut in_function = false;
        for line in text.lines() {
            in_function = (in_function && line != "}") || line.ends_with("() {");
            let assigned = [" ??= ", " ?= ", " += ", " = "].iter().find_map(|op| Some((*op, line.split_once(op)?)));
            let Some((op, (name, value))) = assigned.filter(|_| !in_function && !line.starts_with([' ', '#'])) else {
                continue;
            };
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or_else(|| panic!("{line}"));
            match op {
                " = " if name.contains(":append") => {
                    *self.variables.entry(name.into()).or_default() += value;
                }
                " += " => {
                    let old = self.variables.entry(name.into()).or_default();
                    *old = format!("{old} {value}");
                }
                " ??= " | " ?= " if self.variables.contains_key(name) => {}
                _ => self.set(name, value),
            }
        }
    }

    /// A variable, with what is appended to it, expanded.
    fn get(&self, name: &str) -> String {
        let mut value = self.variables.get(name).unwrap_or_else(|| panic!("nothing sets {name}")).clone();
        let with_override = self.overrides.iter().map(|o| format!("{name}:append:{o}"));
        for append in [format!("{name}:append")].into_iter().chain(with_override) {
            value += self.variables.get(&append).map_or("", String::as_str);
        }
        self.expand(&value)
    }

    fn expand(&self, text: &str) -> String {
        let Some((before, rest)) = text.split_once("${") else { return text.into() };
        let (name, after) = rest.split_once('}').unwrap_or_else(|| panic!("{text}"));
        format!("{before}{}{}", self.get(name), self.expand(after))
    }

    /// `PACKAGECONFIG_CONFARGS`: what base.bbclass makes of `PACKAGECONFIG`.
    fn package_config(&self) -> String {
        let names = self.get("PACKAGECONFIG");
        let args = names.split_whitespace().map(|name| self.get(&format!("PACKAGECONFIG[{name}]")));
        args.map(|value| value.split(',').next().unwrap_or_default().to_string()).collect::<Vec<_>>().join(" ")
    }
}

/// The recipe of modest, read.
fn recipe(overrides: &[&str]) -> Metadata {
    let mut metadata = Metadata::new(overrides);
    metadata.set("RUSTFLAGS", "${RUSTLIB} ${RUST_DEBUG_REMAP}");
    metadata.read(&recipes().join("modest.inc"));
    metadata.read(&recipes().join("modest_0.1.0.bb"));
    metadata
}

/// The file's crates: name and version as one, and checksum.
fn crates() -> BTreeMap<String, String> {
    let text = fs::read_to_string(recipes().join("modest-crates.inc")).unwrap();
    let uris = text.lines().filter_map(|line| line.trim().strip_prefix("crate://")?.strip_suffix(" \\"));
    let sum = |name: &str| {
        let begin = format!("SRC_URI[{name}.sha256sum] = \"");
        let line = text.lines().find_map(|line| line.strip_prefix(&begin)?.strip_suffix('"'));
        line.unwrap_or_else(|| panic!("no checksum of {name}")).to_string()
    };
    uris.map(|uri| {
        let [_, name, version] = uri.split('/').collect::<Vec<_>>()[..] else { panic!("{uri}") };
        let name = format!("{name}-{version}");
        (name.clone(), sum(&name))
    })
    .collect()
}

/// Where the crates of Cargo.lock are, as they came from the registry.
fn registry_caches() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"))).expect("a home");
    let mut fetch = Command::new("cargo");
    ran(fetch.args(["fetch", "-q", "--locked", "--manifest-path"]).arg(project().join("Cargo.toml")));
    let caches = fs::read_dir(home.join("registry/cache")).unwrap();
    caches.map(|cache| cache.unwrap().path()).collect()
}

/// Unpacks the crates of the recipe, and no others, into `dir`, as bitbake's fetcher does.
fn unpack_crates(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let caches = registry_caches();
    let crates = crates();
    assert!(crates.len() > 50, "{crates:?}");
    for (name, checksum) in crates {
        let files = caches.iter().map(|cache| cache.join(format!("{name}.crate")));
        let file = files.filter(|file| file.exists()).find(|file| sha256(&fs::read(file).unwrap()) == checksum);
        let file = file.unwrap_or_else(|| panic!("{name}: no file with the checksum that the recipe has"));
        ran(Command::new("tar").arg("-xzf").arg(file).arg("-C").arg(dir));
        let json = format!(r#"{{"files": {{}}, "package": "{checksum}"}}"#);
        fs::write(dir.join(name).join(".cargo-checksum.json"), json).unwrap();
    }
}

fn ran(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; scripts/setup installs what is needed"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    output
}

fn write_program(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs Debian's cargo, in a folder of its own, with nothing of this process's environment but what makes it run.
fn cargo(dir: &Path) -> Command {
    let mut command = Command::new("/usr/bin/cargo");
    command.current_dir(dir).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", dir);
    // OE's compiler is patched to take target specifications without this.
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}

/// What libstd-rs installs, as far as it is needed: a folder with the core library for this target.
fn core_library(machine: &Machine, specifications: &Path) -> PathBuf {
    let target_dir = std::env::var_os("CARGO_TARGET_DIR").map_or(project().join("target"), PathBuf::from);
    let dir = target_dir.join("yocto").join(machine.triple);
    fs::create_dir_all(dir.join("src")).unwrap();
    let dir = fs::canonicalize(dir).unwrap();
    fs::write(dir.join("Cargo.toml"), "[package]\nname = \"nothing\"\nedition = \"2024\"\n[workspace]\n").unwrap();
    fs::write(dir.join("src/lib.rs"), "#![no_std]\n").unwrap();
    let mut build = cargo(&dir);
    build.args(["build", "--release", "--message-format=json", "-Zbuild-std=core", "--target", machine.triple]);
    build.arg("--target-dir").arg(dir.join("target")).env("RUST_TARGET_PATH", specifications);
    // As its recipe has them; the second is OE's patch.
    build.env("RUSTFLAGS", "-Cembed-bitcode=yes -Zunstable-options");
    let output = String::from_utf8(ran(&mut build).stdout).unwrap();
    let rlibs = dir.join("rustlib");
    let _ = fs::remove_dir_all(&rlibs);
    fs::create_dir(&rlibs).unwrap();
    let files: Vec<_> = output.split('"').filter(|text| text.ends_with(".rlib")).map(Path::new).collect();
    for name in ["libcore-", "libcompiler_builtins-"] {
        let is_it = |file: &Path| file.file_name().unwrap().to_string_lossy().starts_with(name);
        let file = files.iter().find(|file| is_it(file)).unwrap_or_else(|| panic!("no {name}*.rlib in {files:?}"));
        fs::copy(file, rlibs.join(file.file_name().unwrap())).unwrap();
    }
    rlibs
}

/// The value of a variable that a task exports in double quotes, as the shell understands it.
fn exported(value: &str) -> String {
    let output = ran(Command::new("sh").arg("-c").arg(format!("printf %s \"{value}\"")));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs do_configure and do_compile of the recipe in `work`: the program that do_install takes.
fn compile(machine: &Machine, work: &Path) -> PathBuf {
    let at = |name: &str| work.join(name).display().to_string();
    for folder in ["rust-targets", "wrapper", "build", "cargo_home"] {
        fs::create_dir_all(work.join(folder)).unwrap();
    }
    let specification = work.join("rust-targets").join(format!("{}.json", machine.triple));
    fs::write(specification, machine.specification()).unwrap();
    let core = core_library(machine, &work.join("rust-targets"));

    let mut recipe = recipe(&machine.overrides());
    let vendor = at("cargo_home/bitbake");
    unpack_crates(Path::new(&vendor));
    let source = fs::canonicalize(project()).unwrap().display().to_string();
    for (name, value) in [
        ("B", at("build")),
        ("CARGO_VENDORING_DIRECTORY", vendor.clone()),
        ("CARGO_MANIFEST_PATH", format!("{source}/Cargo.toml")),
        ("RUST_HOST_SYS", machine.triple.into()),
        ("RUSTLIB", format!("-L {}", core.display())),
        ("RUST_DEBUG_REMAP", format!("--remap-path-prefix={}=/usr/src/debug/modest/0.1.0", work.display())),
        ("CARGO_TARGET_SUBDIR", "${RUST_HOST_SYS}/${BUILD_DIR}".into()),
    ] {
        recipe.set(name, value);
    }
    recipe.set("PACKAGECONFIG_CONFARGS", recipe.package_config());
    let (mode, build_dir) = match machine.release {
        Release::Scarthgap | Release::Wrynose => ("${BUILD_MODE}", "${BUILD_DIR}"),
        Release::Master => ("--profile=${CARGO_PROFILE}", "${CARGO_PROFILE}"),
    };
    let flags = format!("-v --frozen --target ${{RUST_HOST_SYS}} {mode} --manifest-path=${{CARGO_MANIFEST_PATH}}");
    recipe.set("CARGO_BUILD_FLAGS", flags);
    recipe.set("CARGO_TARGET_SUBDIR", format!("${{RUST_HOST_SYS}}/{build_dir}"));

    let ldflags = "-Wl,-O1 -Wl,--hash-style=gnu -Wl,--as-needed -Wl,-z,relro,-z,now";
    let wrappers = [("target", machine.gcc, ldflags), ("build", "gcc", "-Wl,-O1")];
    for (of, gcc, ldflags) in wrappers {
        let file = |what: &str| work.join(format!("wrapper/{of}-rust-{what}"));
        let ccld = format!("#!/bin/sh\nexec {gcc} -fstack-protector-strong -O2 -pipe {ldflags} \"$@\"\n");
        write_program(&file("ccld"), &ccld);
        write_program(&file("cc"), &format!("#!/bin/sh\nexec {gcc} \"$@\"\n"));
    }
    let config = format!(
        "[source.bitbake]\ndirectory = \"{vendor}\"\n[source.crates-io]\nreplace-with = \"bitbake\"\n\
         local-registry = \"/nonexistent\"\n[http]\nmultiplexing = false\ncainfo = \"/nonexistent\"\n\
         [target.{}]\nlinker = \"{}\"\n[target.x86_64-unknown-linux-gnu]\nlinker = \"{}\"\n\
         [build]\ntarget-dir = \"{}\"\n[term]\nprogress.when = 'always'\nprogress.width = 80\n",
        machine.triple,
        at("wrapper/target-rust-ccld"),
        at("wrapper/build-rust-ccld"),
        at("build/target"),
    );
    let config_name = if machine.release == Release::Scarthgap { "config" } else { "config.toml" };
    fs::write(work.join("cargo_home").join(config_name), config).unwrap();

    let mut build = cargo(&work.join("build"));
    build.arg("build").args(recipe.get("CARGO_BUILD_FLAGS").split_whitespace());
    if machine.release != Release::Scarthgap {
        build.args(recipe.get("PACKAGECONFIG_CONFARGS").split_whitespace());
    }
    let rustflags = exported(&recipe.get("RUSTFLAGS"));
    build.env("RUSTFLAGS", format!("{rustflags} -Zunstable-options")).env("LDFLAGS", ldflags);
    build.env("CARGO_HOME", work.join("cargo_home")).env("RUST_TARGET_PATH", work.join("rust-targets"));
    for (prefix, of) in [("", "target"), ("TARGET_", "target"), ("HOST_", "build")] {
        build.env(format!("{prefix}CC"), at(&format!("wrapper/{of}-rust-cc")));
        build.env(format!("{prefix}CFLAGS"), "-O2 -pipe -fstack-protector-strong -D_FORTIFY_SOURCE=2");
        build.env(format!("{prefix}AR"), "ar");
    }
    build.env("CRATE_CC_NO_DEFAULTS", "1").env("PKG_CONFIG_ALLOW_CROSS", "1").env("RUST_BACKTRACE", "1");
    ran(&mut build);
    // What the recipe's do_install installs.
    work.join("build/target").join(recipe.get("CARGO_TARGET_SUBDIR")).join("modest")
}

fn builds_and_boots(machine: &Machine) {
    let work = tempfile::Builder::new().prefix("modest-yocto-").tempdir().unwrap();
    let program = compile(machine, work.path());
    let bytes = fs::read(&program).unwrap();
    println!("size of modest for {}: {} bytes", machine.triple, bytes.len());
    let file = ElfBytes::<AnyEndian>::minimal_parse(&bytes).unwrap();
    // No dependency on a libc, and nothing for do_package to strip.
    let segments: Vec<_> = file.segments().unwrap().iter().collect();
    assert!(!segments.iter().any(|s| [PT_INTERP, PT_DYNAMIC].contains(&s.p_type)), "not static: {segments:?}");
    assert!(file.symbol_table().unwrap().is_none(), "not stripped");
    // What do_package_qa refuses as buildpaths.
    let path = work.path().as_os_str().as_encoded_bytes();
    assert!(!bytes.windows(path.len()).any(|part| part == path), "{} is in the program", work.path().display());

    let mut scenario = Scenario::new(machine.board, Some("debian13")).unwrap();
    scenario.options.init = program;
    all_are_loaded(&scenario.boot().unwrap().wait_for(MARKER).unwrap());
}

/// Checks that modest loaded modules, and did not fail with any.
fn all_are_loaded(console: &str) {
    let loaded = console.lines().filter(|l| l.starts_with("modest: ") && l.contains(": loaded by ")).count();
    let summary = line(console, &format!("{loaded} loaded, ")).unwrap();
    assert!(loaded >= 5 && summary.contains(" 0 failed,"), "{summary}");
}

#[test]
fn aarch64_as_wrynose_builds_it() {
    builds_and_boots(&AARCH64);
}

#[test]
fn armv7_as_scarthgap_builds_it() {
    builds_and_boots(&ARMV7);
}

#[test]
fn riscv64_as_master_builds_it() {
    builds_and_boots(&RISCV64);
}

/// The variables of `text` that are quoted and begin with `-`: options of a compiler.
fn options(text: &str) -> Vec<String> {
    let quoted = text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| {
        let line = line.replace("\\\"", "\u{1}");
        line.split('"').skip(1).step_by(2).map(|part| part.replace('\u{1}', "\"")).collect::<Vec<_>>()
    });
    quoted.filter(|text| text.starts_with('-')).collect()
}

#[test]
fn the_recipe_has_the_features_and_flags_of_the_project() {
    let text = fs::read_to_string(project().join("src/init/Cargo.toml")).unwrap();
    let features = text.split_once("[features]\n").unwrap().1.split_once("\n[").unwrap().0;
    let features = features.lines().filter_map(|line| line.split_once(" = "));
    let recipe = recipe(&["aarch64"]);
    for (name, needs) in features {
        match name {
            "default" => {
                let needs: Vec<_> = needs.split('"').skip(1).step_by(2).collect();
                assert_eq!(recipe.get("PACKAGECONFIG"), needs.join(" "));
            }
            // For tests alone.
            "bench" | "panic-test" => assert!(!recipe.variables.contains_key(&format!("PACKAGECONFIG[{name}]"))),
            _ => assert_eq!(recipe.get(&format!("PACKAGECONFIG[{name}]")), format!("--features {name}")),
        }
    }

    let config = fs::read_to_string(project().join("src/init/flags.toml")).unwrap();
    let of = |cfg: &str| options(config.split("[target.").find(|text| text.starts_with(cfg)).unwrap());
    let wanted = [of("'cfg(target_os = \"linux\")'"), of("'cfg(target_arch = \"aarch64\")'")].concat();
    assert_eq!(wanted.len(), 7, "{wanted:?}");
    let mut recipe = recipe;
    for name in ["RUSTLIB", "RUST_DEBUG_REMAP", "CARGO_VENDORING_DIRECTORY"] {
        recipe.set(name, "");
    }
    let flags = exported(&recipe.get("RUSTFLAGS"));
    for option in wanted {
        assert!(flags.split_whitespace().any(|flag| flag == option), "{option} in {flags}");
    }
}

/// What bitbake makes of the function of modest.inc and of its licence, for this `MODEST_GIT`.
fn parsed(git: &str, has_spdx: bool) -> String {
    let text = fs::read_to_string(recipes().join("modest.inc")).unwrap();
    let body = text.split_once("\npython () {\n").unwrap().1.split_once("\n}\n").unwrap().0;
    let licence = text.lines().find_map(|line| line.strip_prefix("LICENSE = ")).unwrap();
    let (before, rest) = licence.trim_matches('"').split_once("${@").unwrap();
    let (expression, after) = rest.split_once('}').unwrap();
    // decodeurl and SkipRecipe as lib/bb has them.
    let code = format!(
        "import os, sys, types\n\
         class SkipRecipe(Exception): pass\n\
         def decodeurl(url):\n    \
             location, *words = url.split(';')\n    \
             scheme, rest = location.split('://')\n    \
             host, slash, path = rest.partition('/')\n    \
             return scheme, host, slash + path, '', '', dict(word.split('=') for word in words)\n\
         bb = types.SimpleNamespace(fetch2=types.SimpleNamespace(decodeurl=decodeurl),\n    \
             parse=types.SimpleNamespace(SkipRecipe=SkipRecipe))\n\
         oe = types.SimpleNamespace({})\n\
         class D:\n    def getVar(self, name):\n        return sys.argv[1] if name == 'MODEST_GIT' else None\n\
         def check(d):\n{body}\n\
         print('{before}' + ({expression}) + '{after}')\n\
         try:\n    check(D())\n\
         except SkipRecipe as reason:\n    print(reason)\n",
        if has_spdx { "spdx_license=1" } else { "" }
    );
    String::from_utf8(ran(Command::new("python3").args(["-c", &code, git])).stdout).unwrap()
}

#[test]
fn outside_of_git_the_recipes_are_skipped_with_a_reason() {
    let tmp = tempfile::tempdir().unwrap();
    let url = |folder: &Path| format!("git://{};protocol=file;usehead=1;nobranch=1", folder.display());
    let told = parsed(&url(tmp.path()), false);
    let reason = format!(
        "{} is no git repository: set MODEST_GIT to the URL of one that has modest, and MODEST_SRCREV to a commit\n",
        tmp.path().display()
    );
    assert_eq!(told, format!("MIT | Apache-2.0\n{reason}"));
    // A work tree of its own has a file of that name.
    fs::write(tmp.path().join(".git"), "gitdir: x\n").unwrap();
    for git in [url(tmp.path()), "git://example.org/modest;protocol=https;branch=main".into()] {
        assert_eq!(parsed(&git, true), "MIT OR Apache-2.0\n");
    }
}

/// The class's command for the archive, and the value of `modest_board` for these variables.
fn class_command(metadata: &Metadata) -> String {
    let class = fs::read_to_string(layer().join("classes-recipe/modest_initramfs.bbclass")).unwrap();
    let (before, after) = class.split_once("\nmodest_cpio() {\n").unwrap();
    let command = after.split_once("\n}\n").unwrap().0;
    let function = &before[before.find("def modest_board(d):").unwrap()..];
    let code = format!(
        "import os\n{function}\nclass D:\n    def getVar(self, name):\n        return os.environ[name]\n\
         print(modest_board(D()))\n"
    );
    let mut python = Command::new("python3");
    let names = ["TARGET_ARCH", "SUMMARY", "MODEST_MODULES", "MODEST_HAND_OVER", "MODEST_ON_ERROR", "MODEST_BUDGET"];
    let variables = names.map(|name| (name, metadata.get(name)));
    let board = String::from_utf8(ran(python.arg("-c").arg(code).env_clear().envs(variables)).stdout).unwrap();
    let (begin, end) = command.split_once("${@modest_board(d)}").unwrap();
    format!("set -e\n{}{}{}\n", metadata.expand(begin), board.trim_end(), metadata.expand(end))
}

#[test]
fn the_class_makes_an_initramfs_of_a_rootfs_that_boots() {
    let scenario = Scenario::new("qemu-aarch64", Some("debian13")).unwrap();
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name).display().to_string();
    let rootfs = work.path().join("rootfs");
    let folders = ["sbin", "lib/modules", "lib/modprobe.d", "etc/modprobe.d"].map(|name| rootfs.join(name));
    folders.iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
    fs::copy(&scenario.options.init, rootfs.join("sbin/modest")).unwrap();
    let tree = &scenario.kernel.tree;
    std::os::unix::fs::symlink(fs::canonicalize(&tree.dir).unwrap(), rootfs.join("lib/modules").join(&tree.release))
        .unwrap();
    fs::write(rootfs.join("etc/modprobe.d/loop.conf"), "options loop max_loop=3\n").unwrap();
    fs::write(rootfs.join("lib/modprobe.d/ext4.conf"), "softdep ext4 pre: dummy\n").unwrap();

    let mut metadata = Metadata::new(&["aarch64"]);
    metadata.read(&layer().join("classes-recipe/modest_initramfs.bbclass"));
    metadata.read(&layer().join("recipes-core/images/modest-initramfs-sample.bb"));
    let modules = format!("{} loop", metadata.get("MODEST_MODULES"));
    for (name, value) in [
        ("IMAGE_ROOTFS", at("rootfs")),
        ("WORKDIR", at("")),
        ("IMGDEPLOYDIR", at("")),
        ("IMAGE_BASENAME", "sample".into()),
        ("IMAGE_NAME", "sample-qemuarm64".into()),
        ("TARGET_ARCH", "aarch64".into()),
        ("sysconfdir", "/etc".into()),
        ("nonarch_base_libdir", "/lib".into()),
        ("base_sbindir", "/sbin".into()),
        ("root_prefix", String::new()),
        ("MODEST_MODULES", modules),
        ("MODEST_BUDGET", "2M".into()),
        ("MODEST_ON_ERROR", "stop".into()),
        ("MODEST_INCLUDE", "*/usb-storage.ko".into()),
        ("MODEST_ARGS", "--pin".into()),
    ] {
        metadata.set(name, value);
    }
    let target_dir = std::env::var_os("CARGO_TARGET_DIR").map_or(project().join("target"), PathBuf::from);
    let mkmodest = fs::canonicalize(target_dir.join("debug/mkmodest")).expect("mkmodest, which scripts/test builds");
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", mkmodest.parent().unwrap().display());
    let mut shell = Command::new("sh");
    // A folder where a pattern would match.
    ran(shell.current_dir(work.path()).env("PATH", path).arg("-c").arg(class_command(&metadata)));

    let initramfs = work.path().join("sample-qemuarm64.cpio");
    let image = Initramfs::read(&fs::read(&initramfs).unwrap()).unwrap();
    let (_, manifest) = image.file("etc/modest.manifest").unwrap();
    let manifest = std::str::from_utf8(manifest).unwrap();
    for part in ["@budget 2097152", "@on-error stop", "@switch-root", "max_loop=3", "@sha256="] {
        assert!(manifest.contains(part), "no {part} in:\n{manifest}");
    }
    // What is included is not loaded by the manifest.
    assert!(!manifest.contains("usb-storage"), "{manifest}");
    let (_, index) = image.file(&format!("lib/modules/{}/modules.dep.bin", tree.release)).unwrap();
    assert!(index.windows(11).any(|part| part == b"usb-storage"));
    let disk = work.path().join("disk");
    let qemu = &scenario.board.qemu;
    disk::make(&disk, qemu.disk, qemu.disk_size.0, &scenario.kernel.busybox()).unwrap();
    let boot = guest::Boot { disk: Some(&disk), ..guest::Boot::new(&scenario.board, &scenario.kernel, &initramfs) };
    let console = boot.spawn().unwrap().wait_for(MARKER, Duration::from_secs(qemu.timeout_s)).unwrap();
    all_are_loaded(&console);
    for name in ["dummy", "ext4", "loop", "virtio_blk"] {
        line(&console, &format!("{name}: loaded by ")).unwrap();
    }
}
