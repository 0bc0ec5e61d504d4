//! The program as a file, and the system calls it makes on the build host.

use std::process::{Command, Output};

use elf::ElfBytes;
use elf::abi::{PF_W, PF_X, PT_DYNAMIC, PT_GNU_STACK, PT_INTERP};
use elf::endian::AnyEndian;
use modest_qemu::{Scenario, modest};

const TARGETS: [&str; 4] = [
    "aarch64-unknown-linux-musl",
    "armv7-unknown-linux-musleabihf",
    "riscv64gc-unknown-linux-musl",
    "x86_64-unknown-linux-musl",
];

const HOST: &str = "x86_64-unknown-linux-musl";

/// The builds that guests boot, by the name of the file behind `modest`: all features, and the fewest.
const BUILDS: [&str; 2] = ["", "-gzip"];

/// The most that a build may take, in bytes: it is in every initramfs, and beside a bootloader in flash.
fn most_bytes(target: &str, build: &str) -> usize {
    match (build, target) {
        ("", "armv7-unknown-linux-musleabihf") => 216 << 10,
        ("", _) => 256 << 10,
        _ => 88 << 10,
    }
}

#[test]
fn it_is_small_static_and_has_no_page_both_writable_and_executable() {
    for (target, build) in TARGETS.iter().flat_map(|target| BUILDS.map(|build| (target, build))) {
        let file = modest(target).with_file_name(format!("modest{build}"));
        let bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}; scripts/test makes it", file.display()));
        println!("size of modest{build} for {target}: {} bytes", bytes.len());
        // The host's build serves these tests alone; its instructions are the longest.
        let most = most_bytes(target, build);
        assert!(*target == HOST || bytes.len() <= most, "{target}: {} bytes are over {most}", bytes.len());
        let file = ElfBytes::<AnyEndian>::minimal_parse(&bytes).unwrap();
        let segments: Vec<_> = file.segments().unwrap().iter().collect();
        for segment in &segments {
            assert!(![PT_INTERP, PT_DYNAMIC].contains(&segment.p_type), "{target}: not static: {segment:?}");
            assert!(segment.p_flags & (PF_W | PF_X) != PF_W | PF_X, "{target}: writable code: {segment:?}");
        }
        let stack = segments.iter().find(|s| s.p_type == PT_GNU_STACK);
        assert!(stack.is_some_and(|s| s.p_flags & PF_X == 0), "{target}: executable stack");
        assert!(file.dynamic().unwrap().is_none(), "{target}: dynamic section");
    }
}

/// Runs modest under strace with these options: its output, and its system calls, without the execve that starts it.
fn strace(options: &[&str], args: &[&str]) -> (Output, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut command = Command::new("strace");
    command.args(["-f", "-o"]).arg(&log).args(options).arg(modest(HOST)).args(args);
    let output = command.output().expect("strace, which scripts/setup installs");
    let log = std::fs::read_to_string(log).unwrap();
    let calls = log.lines().map(|line| line.split_once(' ').unwrap().1.trim_start().to_string());
    (output, calls.filter(|call| !call.starts_with("execve(") && !call.starts_with("+++")).collect())
}

fn names(calls: &[String]) -> Vec<&str> {
    calls.iter().map(|call| call.split('(').next().unwrap()).collect()
}

#[test]
fn a_module_costs_open_finit_and_close() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.ko");
    std::fs::write(&file, "").unwrap();
    // The call itself is left out: success as the kernel would report it.
    let loaded = ["-e", "inject=finit_module:retval=0"];
    let (output, calls) = strace(&loaded, &["insmod", file.to_str().unwrap()]);
    assert!(output.status.success(), "{calls:?}");
    assert_eq!(names(&calls), ["getpid", "openat", "finit_module", "close", "exit_group"]);
    let (output, calls) = strace(&loaded, &["insmod", file.to_str().unwrap(), "a=b c"]);
    assert!(output.status.success(), "{calls:?}");
    // Whether the kernel took the parameter is asked afterwards.
    assert_eq!(names(&calls)[..5], ["getpid", "openat", "finit_module", "close", "faccessat"]);
    assert!(calls[2].contains(r#""a=\"b c\"", 0)"#), "{}", calls[2]);

    let manifest = dir.path().join("manifest");
    std::fs::write(&manifest, format!("{0}\n{0}\n", file.display())).unwrap();
    let (output, calls) = strace(&loaded, &["load", "-q", "-m", manifest.to_str().unwrap()]);
    assert!(output.status.success(), "{calls:?}");
    // Only PID 1 takes it for granted that the module is not there.
    let module = ["openat", "openat", "finit_module", "close"];
    let names = names(&calls);
    let first = names.iter().position(|name| *name == "finit_module").unwrap() - 2;
    assert!(calls[first].contains("/sys/module/m/initstate"), "{calls:?}");
    assert_eq!(names[first..first + 8], [module, module].concat(), "{calls:?}");
}

#[test]
fn where_time_is_limited_a_worker_loads() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.ko");
    std::fs::write(&file, "").unwrap();
    let manifest = dir.path().join("manifest");
    std::fs::write(&manifest, format!("{0} @timeout=20s\n{0}\n", file.display())).unwrap();
    let (output, calls) =
        strace(&["-e", "inject=finit_module:retval=0"], &["load", "-q", "-m", manifest.to_str().unwrap()]);
    assert!(output.status.success(), "{calls:?}");
    let of = |name: &str| calls.iter().filter(|call| call.starts_with(&format!("{name}("))).count();
    assert_eq!((of("clone"), of("pipe2"), of("finit_module"), of("wait4"), of("kill")), (1, 1, 2, 1, 0), "{calls:?}");
}

#[test]
fn a_closed_standard_error_stops_no_loading() {
    let dir = tempfile::tempdir().unwrap();
    let (log, file, manifest) = (dir.path().join("log"), dir.path().join("m.ko"), dir.path().join("manifest"));
    std::fs::write(&file, "").unwrap();
    std::fs::write(&manifest, format!("/none.ko\n{}\n", file.display())).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new("strace");
    command.args(["-o"]).arg(&log).args(["-e", "inject=finit_module:retval=0"]).arg(modest(HOST));
    // This program ignores SIGPIPE, as Rust has it; its children begin with the default.
    let status = command.args(["load", "-m"]).arg(&manifest).stderr(writer).status().unwrap();
    let log = std::fs::read_to_string(&log).unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    let refused = log.find("EPIPE").unwrap_or_else(|| panic!("{log}"));
    assert!(log[refused..].contains("finit_module("), "{log}");
}

#[test]
fn a_missing_file_costs_one_open_a_look_for_other_endings_and_a_line() {
    let (output, calls) = strace(&[], &["insmod", "/none.ko"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "modest: none: ENOENT: no such file, /none.ko\n");
    let names = names(&calls);
    assert_eq!(names[..2], ["getpid", "openat"]);
    // `.ko`, and the three formats that it may be compressed in.
    assert_eq!(names[2..6], ["faccessat"; 4]);
    assert!(names[6..].iter().all(|name| ["ppoll", "write", "close", "exit_group"].contains(name)), "{names:?}");
}

#[test]
fn a_dry_run_opens_and_reads_and_prints() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    file("modules.dep", "a.ko: b.ko\nb.ko:\n");
    file("a.ko", "\x7fELF");
    file("b.ko", "\x7fELF");
    let manifest = file("m", &format!("@root {}\na x=1\nc\n", dir.path().display()));
    let (output, calls) = strace(&[], &["load", "-n", "-m", &manifest]);
    assert_eq!(output.status.code(), Some(1));
    let dir = dir.path().display();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!(
            "modest: b: would load by finit, plain: {dir}/b.ko\n\
             modest: a: would load by finit, plain: {dir}/a.ko x=1\n\
             modest: c: the tree's indexes have no module and no alias of that name, {manifest}:3\n\
             modest: would be: 2 loaded, 0 present, 0 skipped, 1 failed\n"
        )
    );
    // Memory is for lines, for the index and what modprobe.d says, and for the parameters of the one module that has any.
    // And two signals are not as they may have been left. For the name that is not found, it asks whether the tree is there.
    let expected = [
        "getpid",
        "rt_sigaction",
        "openat",
        "fstat",
        "getdents64",
        "read",
        "pread64",
        "close",
        "faccessat",
        "ppoll",
        "write",
        "exit_group",
    ];
    let others = names(&calls).into_iter().filter(|name| !expected.contains(name));
    let (mapped, unmapped): (Vec<_>, Vec<_>) = others.partition(|name| *name == "mmap");
    assert!(unmapped.iter().all(|name| *name == "munmap") && unmapped.len() == mapped.len(), "{calls:?}");
}

#[test]
fn without_the_file_it_says_what_is_wrong_with_the_call() {
    for (args, code) in [(&["insmod"][..], 2), (&["load", "-m"], 2), (&["load", "x"], 2), (&[], 2), (&["--help"], 0)] {
        let output = Command::new(modest(HOST)).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(output.stdout.len() + output.stderr.len() > 0, "{args:?}");
    }
}

#[test]
fn a_name_costs_few_pages_of_each_index() {
    // The most pages, of some 200 and 350: two or three for each of the five modules, and one way through the aliases.
    const MOST: [(&str, usize); 5] =
        [("dep.bin", 16), ("alias.bin", 6), ("symbols.bin", 0), ("builtin.bin", 0), ("builtin.alias.bin", 0)];
    let tree = Scenario::new("qemu-aarch64", None).unwrap().kernel.tree;
    let manifest = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&manifest, format!("@root {}\next4\n", tree.dir.display())).unwrap();
    let (output, calls) = strace(&["-y", "-s0"], &["load", "-n", "-m", manifest.path().to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("would be: 5 loaded, 0 present, 0 skipped, 0 failed"), "{told}");
    for (table, most) in MOST {
        let file = format!("/modules.{table}>");
        let of_it: Vec<_> = calls.iter().filter(|call| call.contains(&file)).collect();
        let pages = of_it.iter().filter(|call| call.starts_with("pread64(")).count();
        println!("pages read of modules.{table}: {pages}");
        assert!(pages <= most && (pages > 0) == (most > 0), "{of_it:?}");
        assert!(of_it.iter().all(|call| !call.starts_with("read(") && !call.starts_with("mmap(")), "{of_it:?}");
    }
}
