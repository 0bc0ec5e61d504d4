//! Files that are none, text that is none, and paths that lead where they should not: each is refused in time, with its cause.

use std::fmt::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use modest_qemu::{Scenario, line, modest};

const HOST: &str = "x86_64-unknown-linux-musl";

/// Much more than any of it takes; what blocks or reads without end does not end at all.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs modest, under another program if there is one: exit code and what it said.
fn run(under: &[&str], args: &[&str]) -> (i32, String) {
    let mut words = under.to_vec();
    let program = modest(HOST);
    words.push(program.to_str().unwrap());
    words.extend(args);
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command.stdout(out.reopen().unwrap()).stderr(out.reopen().unwrap());
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    loop {
        let said = || String::from_utf8(std::fs::read(out.path()).unwrap()).unwrap();
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code().unwrap_or_else(|| panic!("{args:?}: {status}: {}", said())), said());
        }
        if start.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("{args:?} does not end: {}", said());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Things that are no files, by their names in `dir`, each with the words of which one is in any error about it.
fn make_odd(dir: &Path) -> Vec<&'static str> {
    let made = Command::new("mkfifo").arg(dir.join("fifo")).status().unwrap();
    assert!(made.success());
    std::fs::create_dir(dir.join("folder")).unwrap();
    drop(UnixListener::bind(dir.join("socket")).unwrap());
    symlink("none", dir.join("dangling")).unwrap();
    symlink("circle", dir.join("circle")).unwrap();
    for device in ["zero", "full", "tty"] {
        symlink(Path::new("/dev").join(device), dir.join(device)).unwrap();
    }
    vec!["fifo", "folder", "socket", "dangling", "circle", "zero", "full", "tty"]
}

#[test]
fn what_is_no_file_is_no_manifest_no_module_and_no_index() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("manifest");
    let load = |text: &str| {
        std::fs::write(&manifest, text).unwrap();
        run(&[], &["load", "-m", manifest.to_str().unwrap()])
    };
    for odd in make_odd(dir.path()) {
        let path = dir.path().join(odd);
        let path = path.to_str().unwrap();

        let (code, said) = run(&[], &["load", "-m", path]);
        let says =
            ["it is a directory, device, FIFO or socket", "ENOENT: no such file", "ELOOP: ", "ENXIO: it is a FIFO"];
        assert!(code == 3 && said.contains(&format!("modest: {path}: ")), "{odd}: {code} {said}");
        assert!(says.iter().any(|says| said.contains(says)), "{odd}: {said}");

        for ending in ["", ".ko", ".ko.gz", ".ko.xz"] {
            let named = format!("{path}-named{ending}");
            symlink(path, &named).unwrap();
            for attributes in ["", "@path=mmap", "@path=buffer", "@path=stream", "@size=1M @path=buffer"] {
                let (code, said) = load(&format!("{named} {attributes}\n"));
                assert_eq!(code, 1, "{named} {attributes}: {said}");
                let (cause, end) = said.split_once(&format!(", {named}\n")).unwrap_or_else(|| panic!("{odd}: {said}"));
                assert!(cause.split(": ").count() >= 3 || cause.contains("@path="), "{cause}");
                assert_eq!(end, "modest: 0 loaded, 0 present, 0 skipped, 1 failed\n");
            }
            let (code, said) = run(&[], &["insmod", &named]);
            assert!(code == 1 && said.ends_with(&format!(", {named}\n")), "{named}: {said}");
        }

        for index in ["modules.dep", "modules.dep.bin", "modules.alias", "modules.builtin.modinfo"] {
            let tree = dir.path().join(format!("{odd}-{index}"));
            std::fs::create_dir(&tree).unwrap();
            symlink(path, tree.join(index)).unwrap();
            let (code, said) = load(&format!("@root {}\na\n", tree.display()));
            // What is not there is no index; of everything else the name is told.
            let says =
                if odd == "dangling" { "no modules.dep to look it up in".into() } else { format!("a: {index}: ") };
            assert!(code == 1 && said.contains(&says), "{odd} {index}: {said}");
        }
    }
}

#[test]
fn text_that_is_none_is_named_by_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("m");
    let name = manifest.display();
    let load = |bytes: &[u8]| {
        std::fs::write(&manifest, bytes).unwrap();
        run(&[], &["load", "-n", "-m", manifest.to_str().unwrap()])
    };
    let utf_16: Vec<u8> = "\u{feff}/none.ko\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, at, says) in [
        (&b"\n/none\0.ko\n"[..], "2:6", "control character 0x00"),
        (b"# ok\r\n/none.ko\r\n", "2:9", "carriage return; expected lines that end in a newline alone"),
        (b"\xef\xbb\xbf/none.ko\n", "1:1", "byte order mark"),
        (&utf_16, "1:1", "byte order mark"),
        (b"\n\n/none.ko a=\xff\n", "3:12", "not UTF-8"),
        (b"/none.ko a=\x1b[2J", "1:12", "control character 0x1b"),
        (&[b'x'; 1 << 20], "1:4096", "line too long"),
        (&[0xff; 1 << 20], "1:4096", "line too long"),
    ] {
        let (code, said) = load(bytes);
        assert!(code == 1 && said.contains(&format!("modest: {name}:{at}: {says}")), "{at}: {said}");
        assert!(said.is_ascii(), "{said}");
    }
    for (text, lines) in [("\n".repeat(1_000_000), 1_000_001), ("# comment\n".repeat(100_000), 100_001)] {
        let (code, said) = load(format!("{text}@oops").as_bytes());
        assert!(code == 1 && said.contains(&format!("{name}:{lines}:1: unknown directive @oops")), "{said}");
    }
    // Without a newline at its end.
    let file = dir.path().join("a.ko");
    std::fs::write(&file, "\x7fELF").unwrap();
    let (code, said) = load(file.to_str().unwrap().as_bytes());
    assert!(code == 0 && said.contains("1 loaded, 0 present, 0 skipped, 0 failed"), "{said}");

    let (code, said) = run(&[], &["insmod", file.to_str().unwrap(), &"x".repeat(5000)]);
    assert!(code == 2 && said.contains("a: parameters over LINE_BYTES, 4096"), "{said}");
}

#[test]
fn confined_to_the_root_nothing_outside_of_it_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(path("t/k")).unwrap();
    for file in ["out.ko", "t/a.ko", "t/k/b.ko", "t/odd.ko"] {
        std::fs::write(path(file), "\x7fELF").unwrap();
    }
    symlink("k/b.ko", path("t/inner.ko")).unwrap();
    symlink("../out.ko", path("t/outer.ko")).unwrap();
    symlink("../a.ko", path("t/k/up.ko")).unwrap();
    symlink(path("t/a.ko"), path("t/absolute.ko")).unwrap();
    symlink("..", path("t/above")).unwrap();
    std::fs::write(path("t/modules.dep"), "a.ko: k/b.ko\nk/b.ko:\nouter.ko:\nodd.ko: ../out.ko\n../out.ko:\n").unwrap();
    let root = path("t");
    let (root, manifest) = (root.to_str().unwrap(), path("m"));
    let load = |under: &[&str], confine: &str, entry: &str| {
        std::fs::write(&manifest, format!("@root {root}\n{confine}\n{entry}\n")).unwrap();
        run(under, &["load", "-n", "-m", manifest.to_str().unwrap()])
    };
    let without_openat2 =
        ["strace", "-qq", "-e", "trace=openat2", "-e", "inject=openat2:error=ENOSYS", "-o", "/dev/null"];
    let inside = ["./a.ko", "k/b.ko", "./inner.ko", "k/up.ko", "a", &format!("{root}/a.ko")];
    let outside = [
        "./outer.ko",
        "../out.ko",
        "k/../../out.ko",
        "above/out.ko",
        "./absolute.ko",
        "outer",
        &path("out.ko").display().to_string(),
        &format!("{root}x/a.ko"),
    ];
    for under in [&[][..], &without_openat2] {
        for entry in inside {
            let (code, said) = load(under, "@confine", entry);
            // Before Linux 5.6 no link is followed.
            let is_link = ["./inner.ko", "k/up.ko"].contains(&entry) && !under.is_empty();
            assert_eq!(code, i32::from(is_link), "{under:?} {entry}: {said}");
            assert_eq!(
                said.contains("EXDEV: @confine forbids it: the file is outside of @root"),
                is_link,
                "{entry}: {said}"
            );
        }
        for entry in outside {
            let (code, said) = load(under, "@confine", entry);
            let line = said.lines().find(|line| {
                line.contains(": EXDEV: @confine forbids it: the file is outside of @root, or a link leads there")
            });
            assert!(
                code == 1 && line.is_some_and(|line| line.contains("out") || line.contains("a")),
                "{entry}: {said}"
            );
            assert!(said.ends_with("would be: 0 loaded, 0 present, 0 skipped, 1 failed\n"), "{entry}: {said}");
        }
    }
    for entry in &outside[..outside.len() - 1] {
        let (code, said) = load(&[], "", entry);
        assert!(code == 0 && said.contains(": would load by finit, plain: "), "{entry}: {said}");
    }
    // With or without: depmod makes no such index.
    for (confine, entry) in [("", "odd"), ("", "out"), ("@confine", "odd"), ("@confine", "out")] {
        let (code, said) = load(&[], confine, entry);
        assert!(code == 1 && said.contains(&format!("{entry}: modules.dep has a path with .. for it")), "{said}");
    }
    let (code, said) = load(&[], "@confine", "./none.ko");
    assert!(code == 1 && said.contains("none: ENOENT: no such file"), "{said}");
}

#[test]
fn confined_a_module_costs_no_call_more() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.ko"), "").unwrap();
    let (manifest, log) = (dir.path().join("m"), dir.path().join("log"));
    std::fs::write(&manifest, format!("@root {}\n@confine\n./a.ko\n./a.ko\n", dir.path().display())).unwrap();
    let under = ["strace", "-o", log.to_str().unwrap(), "-e", "inject=finit_module:retval=0"];
    let (code, said) = run(&under, &["load", "-q", "-m", manifest.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    let log = std::fs::read_to_string(log).unwrap();
    let calls: Vec<_> = log.lines().filter_map(|line| Some(line.split_once('(')?.0)).collect();
    let first = calls.iter().position(|call| *call == "openat2").unwrap();
    // As without: it asks whether the module is there, and loads it.
    let module = ["openat", "openat2", "finit_module", "close"];
    assert_eq!(calls[first - 1..first + 7], [module, module].concat(), "{log}");
    assert!(log.contains("RESOLVE_BENEATH"), "{log}");
}

#[test]
fn pid_1_meets_all_of_them_and_still_hands_over() {
    let mut manifest = String::from("\u{feff}# edited elsewhere\ncrlf\r\n");
    for odd in ["fifo", "folder", "dangling", "circle", "zero"] {
        writeln!(manifest, "/odd/{odd}\n/odd/{odd} @path=buffer").unwrap();
    }
    manifest += "@root /zero-tree\nsome\n@root /fifo-tree\nsome\n@root /tree\ncrc16\n@confine\n/m/crc16.ko\n./out.ko\n";
    manifest += "@root /m\n./crc16.ko\n@exec /next\n";
    let scenario = Scenario::with_manifest("qemu-aarch64", None, &manifest).unwrap();
    let crc16 = scenario.module("crc16").unwrap();
    let console = scenario
        .file("/m/crc16.ko", crc16)
        .fifo("/odd/fifo")
        .file("/odd/folder/file", "")
        .link("/odd/dangling", "none")
        .link("/odd/circle", "circle")
        .link("/odd/zero", "/dev/zero")
        .link("/zero-tree/modules.dep", "/dev/zero")
        .fifo("/fifo-tree/modules.dep.bin")
        .file("/tree/modules.dep", "../m/crc16.ko:\n")
        .link("/tree/out.ko", "/m/crc16.ko")
        .fifo("/etc/modprobe.d/fifo.conf")
        .link("/etc/modprobe.d/zero.conf", "/dev/zero")
        .link("/etc/modprobe.d/circle.conf", "circle.conf")
        .file("/etc/modprobe.d/folder.conf/x", "")
        .file("/etc/modprobe.d/text.conf", b"\xff\xfe\0\0".to_vec())
        .script("/next", "echo NEXT-INIT pid=$$; poweroff -f\n")
        .unwrap()
        .boot()
        .unwrap()
        .wait_for("NEXT-INIT pid=1")
        .unwrap();
    for begins in [
        "/etc/modest.manifest:1:1: byte order mark",
        "/etc/modest.manifest:2:5: carriage return",
        "some: modules.dep: it is a directory, device, FIFO or socket",
        "some: modules.dep.bin: it is a directory, device, FIFO or socket",
        "crc16: modules.dep has a path with ..",
        "/etc/modprobe.d/circle.conf: ELOOP",
        "/etc/modprobe.d/text.conf:1: not UTF-8",
        "crc16: EXDEV: @confine forbids it: the file is outside of @root",
        "out: EXDEV: @confine forbids it: the file is outside of @root",
        "crc16: loaded by finit",
        "1 loaded, 0 present, 0 skipped, 17 failed",
    ] {
        line(&console, begins).unwrap();
    }
    for odd in ["fifo", "folder", "dangling", "circle", "zero"] {
        let lines = console.lines().filter(|line| line.starts_with(&format!("modest: {odd}: ")));
        assert_eq!(lines.filter(|line| line.ends_with(&format!(", /odd/{odd}"))).count(), 2, "{odd}: {console}");
    }
}

#[test]
fn an_output_that_takes_nothing_does_not_keep_it() {
    const O_NONBLOCK: i32 = 0o4000;
    let dir = tempfile::tempdir().unwrap();
    let (pipe, manifest) = (dir.path().join("pipe"), dir.path().join("manifest"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // More than the 64 KiB that a pipe holds.
    std::fs::write(&manifest, "/none/of/this/name.ko\n".repeat(2000)).unwrap();
    for flags in [0, O_NONBLOCK] {
        let full = std::fs::File::options().read(true).write(true).custom_flags(flags).open(&pipe).unwrap();
        let mut command = Command::new(modest(HOST));
        let mut child = command.arg("load").arg("-m").arg(&manifest).stderr(full.try_clone().unwrap()).spawn().unwrap();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > LIMIT {
                child.kill().unwrap();
                panic!("it does not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(1));
    }
}

/// A disk with a tree of text indexes, in one of which a sector cannot be read: the disk, and QEMU's arguments for it.
fn disk_with_a_bad_sector(dir: &Path, tree: &Path, bad: &str) -> Vec<String> {
    const MARK: &str = "softdep marked-as-bad pre: none\n";
    let content = dir.join("content");
    std::fs::create_dir_all(content.join("extra")).unwrap();
    std::fs::copy(tree.join("extra/modest_params.ko"), content.join("extra/modest_params.ko")).unwrap();
    // Each longer than what the kernel reads ahead of its first page.
    let filler = ["extra/none.ko: \n", "softdep none pre: none\n"].map(|line| line.repeat(20_000));
    for (file, line, last) in
        [("modules.dep", &filler[0], "extra/modest_params.ko:\n"), ("modules.softdep", &filler[1], "")]
    {
        let mark = if file == bad { MARK } else { "" };
        std::fs::write(content.join(file), format!("{line}{mark}{line}{last}")).unwrap();
    }
    let disk = dir.join("disk");
    let mut mke2fs = Command::new("/usr/sbin/mke2fs");
    modest_qemu::run(mke2fs.args(["-q", "-t", "ext4", "-d"]).arg(&content).arg(&disk).arg("32M"));
    let bytes = std::fs::read(&disk).unwrap();
    let sector = bytes.windows(MARK.len()).position(|window| window == MARK.as_bytes()).unwrap() / 512;
    let error = format!(r#"{{"event":"none","iotype":"read","sector":{sector},"errno":5,"once":false}}"#);
    let image = format!(r#"{{"driver":"file","filename":"{}"}}"#, disk.display());
    let debug = format!(r#"{{"driver":"blkdebug","node-name":"bad","image":{image},"inject-error":[{error}]}}"#);
    let raw = r#"{"driver":"raw","node-name":"root","file":"bad","read-only":true}"#;
    ["-blockdev", &debug, "-blockdev", raw, "-device", "virtio-blk-device,drive=root"].map(String::from).to_vec()
}

#[test]
fn a_bad_sector_under_a_text_is_an_error_with_its_name() {
    let first = "B=/bin/busybox; $B mount -t proc p /proc; $B mount -t sysfs s /sys; $B mount -t devtmpfs d /dev\n\
        /init load -m /etc/modest.manifest; $B mkdir /mnt; $B mount -t ext4 -o ro /dev/vda /mnt; exec /init\n";
    let says_of = [
        ("modules.softdep", "/mnt/modules.softdep: EIO: the file cannot be read; left out", 1),
        ("modules.dep", "modest_params: modules.dep: EIO: ", 0),
    ];
    for (bad, says, loaded) in says_of {
        let dir = tempfile::tempdir().unwrap();
        let mut scenario = Scenario::new("lowram-armv7", None).unwrap().memory("64");
        scenario.args = disk_with_a_bad_sector(dir.path(), &scenario.kernel.tree.dir, bad);
        scenario.with_disk = false;
        let scenario = scenario.script("/first", first).unwrap().append("rdinit=/first modest.manifest=/bad");
        let scenario = scenario.file("/bad", "@root /mnt\nmodest_params\n@exec /none\n");
        let console = scenario.boot().unwrap().wait_for("modest: stopped here").unwrap();
        assert!(console.contains("I/O error"), "{console}");
        line(&console, says).unwrap();
        line(&console, &format!("{loaded} loaded, 0 present, 0 skipped, {} failed", 1 - loaded)).unwrap();
    }
}
