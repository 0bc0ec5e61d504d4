//! What becomes of a run when one of its system calls fails: each call that the program makes, the first times that it makes
//! it, with each of some errnos, by strace's fault injection.
//!
//! Whatever fails, the program must neither crash nor hang, must not call loaded what is not, and must say why it fails. What it
//! does beyond that is in `faults.txt`, a letter for each fault, so that a change shows.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mkmodest::codec::encode;
use modest_index_writer::binary_index;
use modest_loader::format::Format;
use modest_loader::limits::LOW_MACHINE_BYTES;
use modest_qemu::modest;

const HOST: &str = "x86_64-unknown-linux-musl";

/// As `inject=` and the program name them; a letter for each is in the table's rows, in this order.
const ERRNOS: [&str; 7] = ["ENOMEM", "EIO", "EINTR", "EAGAIN", "EPERM", "ENOSYS", "EMFILE"];

/// How often a call is made before its failing is no news any more.
const TIMES: usize = 12;

/// Calls that no kernel lets fail, whatever is wrong with it; close(2) may return an error, but has closed the file then, while
/// an injected one has not.
const NEVER_FAIL: [&str; 4] = ["close", "exit", "exit_group", "getpid"];

/// Whether a call may be refused so. Waiting for a child that there is can only be interrupted; and not to wait for it
/// would leave it in our memory.
fn can_fail(call: &str, errno: &str) -> bool {
    call != "wait4" || errno == "EINTR"
}

/// What a run must not take longer than; without a fault the longest takes a tenth of a second.
const LIMIT: Duration = Duration::from_secs(20);

/// The folder that all is in. Its name is in no table.
const DIR: &str = "MODEST_FAULTS_DIR";

const LEGEND: &str = "\
# What becomes of a run of modest when a system call fails: see faults.rs, which compares.
#
# .  as without the fault
# ~  all is loaded, and said in other lines, of which none names the errno
# !  all is loaded, and a line names the errno
# F  not all is loaded, and a line names the errno
# f  not all is loaded, and a line names another cause
# o  not all is loaded, and a line names the errno and says that it is optional, or left out
# S  the run ended early, and a line names the errno
# s  the run ended early, and a line names another cause
# -  the line that tells is what could not be written
# and nothing where a kernel has no such answer
";

/// One way to run the program.
struct Case {
    name: &'static str,
    /// The manifest, with `$D` for the folder; none means `args`.
    manifest: &'static str,
    args: &'static [&'static str],
    /// What `inject=` has instead of the calls that load modules, which no test may really make.
    loads: &'static str,
    is_init: bool,
    /// Whether the child processes are looked at; a shell's calls are its own matter.
    follows: bool,
    /// In KiB.
    available: u64,
}

const CASE: Case = Case {
    name: "",
    manifest: "",
    args: &[],
    loads: "finit_module,init_module:retval=0",
    is_init: false,
    follows: true,
    available: 4 << 20,
};

const CASES: [Case; 22] = [
    Case { name: "finit", manifest: "$D/a.ko\n$D/b.ko p=1\n$D/a.ko\n", ..CASE },
    Case { name: "gzip-stream", manifest: "$D/a.ko.gz @path=stream\n", ..CASE },
    Case { name: "gzip-buffer", manifest: "$D/a.ko.gz @path=buffer\n", ..CASE },
    Case { name: "xz-stream", manifest: "$D/a.ko.xz @path=stream\n", ..CASE },
    Case { name: "xz-buffer", manifest: "$D/a.ko.xz @path=buffer\n", ..CASE },
    // The kernel's own format is xz.
    Case { name: "chosen", manifest: "$D/a.ko.xz\n$D/a.ko.gz\n", ..CASE },
    Case { name: "mmap", manifest: "$D/a.ko @path=mmap\n", ..CASE },
    Case { name: "name", manifest: "@root $D/t\na p=1\nalias-c\n", ..CASE },
    Case { name: "text", manifest: "@root $D/text\na\nalias-c\n", ..CASE },
    Case { name: "default-root", manifest: "m/a.ko\na\n", ..CASE },
    Case { name: "coldplug", manifest: "@root $D/t\n@coldplug one\n", ..CASE },
    Case { name: "if", manifest: "@root $D/t\na @if=x:none\n$D/b.ko @if=x:c*\n", ..CASE },
    Case { name: "wait", manifest: "@wait /none @timeout=60ms @optional\n@wait $D/a.ko x:c\n", ..CASE },
    Case { name: "install", manifest: "@root $D/t\ncommand\n", follows: false, ..CASE },
    Case { name: "unlink", manifest: "@unlink\n$D/u/a.ko\n", ..CASE },
    Case { name: "present", manifest: "$D/there.ko\n", loads: "finit_module:error=EEXIST", ..CASE },
    Case { name: "refused", manifest: "$D/a.ko\n", loads: "finit_module:error=ENOEXEC", ..CASE },
    Case { name: "insmod", args: &["insmod", "$D/a.ko", "p=1 2"], ..CASE },
    Case { name: "insmod-gzip", args: &["insmod", "$D/a.ko.gz"], ..CASE },
    Case { name: "init", manifest: "@root $D/t\na\n$D/a.ko.gz\n@exec $D/next\n", is_init: true, ..CASE },
    Case { name: "init-low", manifest: "$D/a.ko\n@exec $D/next\n", is_init: true, available: 60_000, ..CASE },
    Case {
        name: "init-policy",
        manifest: "@on-error exec $D/next\n$D/none.ko\n@exec $D/none\n",
        is_init: true,
        ..CASE
    },
];

/// What the namespaces are like before the test is run in them: nothing of the machine's own is reached.
const NAMESPACES: &str = r#"
mount -t tmpfs none "$MODEST_FAULTS_DIR"
cd "$MODEST_FAULTS_DIR"
mkdir dev etc sys run kernel none
mknod dev/null c 1 3; mknod dev/zero c 1 5; mknod dev/console c 1 3; : >dev/kmsg
echo on >kernel/printk_devkmsg
echo console=none >cmdline
: >meminfo
mount --bind kernel /proc/sys/kernel
mount --bind cmdline /proc/cmdline
mount --bind meminfo /proc/meminfo
for folder in dev etc sys run; do mount --bind $folder /$folder; done
for folder in /usr/local/lib/modprobe.d /usr/lib/modprobe.d /lib/modprobe.d /lib/modules; do
    [ ! -d $folder ] || mount --bind none $folder
done
exec "$@"
"#;

/// What a run came to.
#[derive(Debug)]
struct Run {
    status: ExitStatus,
    /// Its lines, but for times.
    said: String,
    /// The calls that load modules and succeeded.
    loads: usize,
    /// The parameters of all those calls.
    params: BTreeSet<String>,
    is_over_time: bool,
}

/// A system call's name, the which-th time, and the errno.
type Fault<'f> = Option<(&'f str, usize, &'f str)>;

fn dir() -> PathBuf {
    PathBuf::from(std::env::var_os(DIR).expect("the folder that the namespaces were made for"))
}

impl Case {
    /// Makes the folder of this case, with its manifest, for one of several workers: its number is in the paths.
    fn prepare(&self, worker: usize) -> PathBuf {
        let dir = dir().join(format!("w{worker}"));
        std::fs::create_dir_all(dir.join("u")).unwrap();
        let all = super_dir();
        let text = self.manifest.replace("$D/u", dir.join("u").to_str().unwrap()).replace("$D", &all);
        std::fs::write(dir.join("manifest"), text).unwrap();
        dir
    }

    /// Runs it, with all its calls in the log if there is no fault.
    fn run(&self, worker: usize, fault: Fault) -> (Run, String) {
        let dir = self.prepare(worker);
        let (log, out, console) = (dir.join("log"), dir.join("out"), dir.join("console"));
        let said = || [&out, &console].map(|file| std::fs::read_to_string(file).unwrap_or_default()).concat();
        std::fs::write(dir.join("u/a.ko"), ELF).unwrap();
        // Two loads of one name are told apart by nothing: the injection of a fault takes the place of the case's own.
        let mut command = if self.is_init { Command::new("unshare") } else { Command::new("strace") };
        if self.is_init {
            command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c"]);
            // A console of its own, to be read here.
            std::fs::write(&console, "").unwrap();
            command.arg("mount --bind \"$0\" /dev/console && exec \"$@\"").arg(&console).args(["strace", "-D"]);
        }
        command.args(["-s", "64", "-o"]).arg(&log);
        if self.follows {
            command.arg("-f");
        }
        command.arg("-e").arg(format!("inject={}", self.loads));
        if self.available < LOW_MACHINE_BYTES >> 10 {
            // What this machine has free is not for the table.
            command.args(["-e", "inject=sysinfo:error=ENOSYS"]);
        }
        if let Some((call, nth, errno)) = fault {
            let is_load = ["finit_module", "init_module"].contains(&call);
            // Of those that load none may get through to the kernel, so that all fail.
            let when = if is_load { "1+".into() } else { nth.to_string() };
            command.args(["-e", &format!("trace=finit_module,init_module,sysinfo,{call}")]);
            command.args(["-e", &format!("inject={call}:error={errno}:when={when}")]);
        }
        command.arg(modest(HOST));
        let args: Vec<_> = self.args.iter().map(|arg| arg.replace("$D", &super_dir())).collect();
        match (self.is_init, self.manifest) {
            (true, _) => _ = command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").args(["init"]),
            (false, "") => _ = command.args(args),
            (false, _) => _ = command.args(["load", "-m"]).arg(dir.join("manifest")),
        }
        let file = std::fs::File::create(&out).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let start = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let (status, is_over_time) = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break (status, false);
            }
            let is_over_time = start.elapsed() > LIMIT;
            let is_halted = self.is_init && said().contains("stopped here");
            if is_over_time || is_halted {
                child.kill().unwrap();
                break (child.wait().unwrap(), is_over_time);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let trace = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
        let is_done = |line: &&str| line.contains("init_module") && line.contains(" = 0 (INJECTED)");
        let loads = trace.lines().filter(is_done).count();
        let said = without_times(&said());
        let said = said.replace(dir.to_str().unwrap(), "$W").replace(&super_dir(), "$D");
        let of_load = |line: &str| {
            let parts: Vec<_> = line.split_once("init_module(")?.1.split('"').collect();
            Some(parts.get(1..parts.len() - 1)?.join("\""))
        };
        // One that asks whether the kernel has the call is none.
        let params = trace.lines().filter(|line| !line.contains("finit_module(-1")).filter_map(of_load).collect();
        (Run { status, said, loads, params, is_over_time }, trace)
    }

    /// The calls that the program makes, and how often, up to [`TIMES`].
    fn calls(&self, trace: &str) -> BTreeMap<String, usize> {
        let mut of_each: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut is_first = true;
        for line in trace.lines() {
            // With -f each line begins with a process's number.
            let (pid, rest) = if self.follows { line.split_once(' ').unwrap() } else { ("", line) };
            let Some((name, _)) = rest.trim_start().split_once('(') else { continue };
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                continue;
            }
            if name == "execve" {
                // The first starts the program; if there is another, it ends what is the program's.
                if !std::mem::take(&mut is_first) {
                    *of_each.entry((pid, name)).or_default() += 1;
                    break;
                }
                continue;
            }
            *of_each.entry((pid, name)).or_default() += 1;
        }
        let mut calls = BTreeMap::new();
        for ((_, name), times) in of_each {
            let most = calls.entry(name.to_string()).or_insert(0);
            *most = TIMES.min(times).max(*most);
        }
        calls.retain(|name, _| !NEVER_FAIL.contains(&name.as_str()));
        // All of them at once.
        for load in ["finit_module", "init_module"] {
            calls.entry(load.into()).and_modify(|times| *times = 1);
        }
        calls
    }

    /// The letter for a run, compared with the one without a fault; an error is what must never be.
    fn judge(&self, base: &Run, run: &Run, (call, errno): (&str, &str)) -> Result<char, String> {
        let is_told = |word: &str| run.said.split(|c: char| !c.is_ascii_alphanumeric()).any(|said| said == word);
        if run.is_over_time {
            return Err("hangs".into());
        }
        if run.said.contains("a fault of modest itself") {
            return Err("panics".into());
        }
        let hands_over = run.said.contains("NEXT-INIT");
        let is_halted = run.said.contains("stopped here");
        if self.is_init && !hands_over && !is_halted {
            return Err("PID 1 ends".into());
        }
        if !self.is_init && run.status.signal().is_some() {
            return Err("crashes".into());
        }
        // strace ends by the same signal as what it runs, and with its exit code.
        let code = if self.is_init { i32::from(is_halted) * 3 } else { run.status.code().unwrap() };
        let base_code = if self.is_init { 0 } else { base.status.code().unwrap() };
        let (loaded, base_loaded) = (count(&run.said), count(&base.said));
        // What commands did counts as loaded too.
        let by_commands = base_loaded.unwrap_or(0).saturating_sub(base.loads);
        if loaded.is_some_and(|loaded| loaded > run.loads + by_commands) {
            return Err("counts as loaded what is not".into());
        }
        if ![0, 1, 3].contains(&code) {
            return Err(format!("exit code {code}"));
        }
        let is_all = run.loads >= base.loads && (loaded.is_none() || loaded == base_loaded);
        let names_it = is_told(errno);
        if code == 0 && base_code == 0 && !self.is_init && !is_all {
            let is_aside = [" (optional)\n", "; left out\n"].iter().any(|end| run.said.contains(end));
            if names_it && is_aside {
                return Ok('o');
            }
            return Err("success, and not all is loaded".into());
        }
        if base_code != 0 && code == 0 {
            return Err("success, and the kernel refused the module".into());
        }
        // Of a call that loads nothing, nobody sees the parameters.
        if run.loads > 0 && !run.params.is_subset(&base.params) && !names_it {
            return Err(format!("loads with other parameters, {:?}, and does not say why", run.params));
        }
        if run.said == base.said && code == base_code {
            return Ok('.');
        }
        if call == "write" && base.said.starts_with(&run.said) || is_subset(&run.said, &base.said) {
            return Ok('-');
        }
        // A failure without any word is none that anybody could mend.
        let has_new_line = run.said.lines().any(|line| !base.said.lines().any(|other| other == line));
        if !has_new_line {
            return Err("fails without a line that says why".into());
        }
        Ok(match (is_all && code == base_code, code == 3, names_it) {
            (true, _, false) => '~',
            (true, _, true) => '!',
            (_, false, true) => 'F',
            (_, false, false) => 'f',
            (_, true, true) => 'S',
            (_, true, false) => 's',
        })
    }
}

/// Whether each line is one of the other's too, and some of those are missing.
fn is_subset(lines: &str, of: &str) -> bool {
    let all: BTreeSet<_> = of.lines().collect();
    lines.lines().all(|line| all.contains(line)) && lines.len() < of.len()
}

fn super_dir() -> String {
    dir().to_str().unwrap().into()
}

/// How many modules the last line says to be loaded.
fn count(said: &str) -> Option<usize> {
    said.lines().find_map(|line| line.strip_prefix("modest: ")?.split_once(" loaded, ")?.0.parse().ok())
}

/// Without the numbers before `us` and `ms`.
fn without_times(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for i in 1..words.len() {
        let is_unit = ["us", "ms", "us\nmodest:", "ms\nmodest:"].contains(&words[i]) || words[i].starts_with("ms,");
        let is_unit = is_unit || words[i].starts_with("us\n") || words[i].starts_with("ms\n");
        if is_unit && words[i - 1].bytes().all(|b| b.is_ascii_digit()) {
            words[i - 1] = "#";
        }
    }
    words.join(" ")
}

/// What begins as a module does.
const ELF: &[u8] = &{
    let mut bytes = [0; 70_000];
    let magic = *b"\x7fELF\x02\x01\x01";
    let mut i = 0;
    while i < magic.len() {
        bytes[i] = magic[i];
        i += 1;
    }
    bytes
};

/// Makes what all cases share.
fn fill(dir: &Path) {
    let write = |path: &str, bytes: &[u8]| {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    write("a.ko", ELF);
    write("b.ko", ELF);
    write("a.ko.gz", &encode(ELF, Format::Gzip).unwrap());
    write("a.ko.xz", &encode(ELF, Format::Xz).unwrap());
    for tree in ["t", "text"] {
        for module in ["a", "b", "c"] {
            write(&format!("{tree}/{module}.ko"), ELF);
        }
    }
    let dep = [("a", "a.ko: b.ko"), ("b", "b.ko:"), ("c", "c.ko:"), ("command", "command.ko:")];
    let alias = [("alias_c", "c"), ("x:c*", "c")];
    let index = |entries: &[(&str, &str)]| {
        binary_index(entries.iter().map(|(key, value)| (key.to_string(), 0, value.to_string()))).unwrap()
    };
    write("t/modules.dep.bin", &index(&dep));
    write("t/modules.alias.bin", &index(&alias));
    write("t/modules.builtin.bin", &index(&[("inside", "")]));
    write("t/modules.softdep", b"softdep a pre: c\n");
    let lines = |entries: &[(&str, &str)], before: &str| {
        entries.iter().map(|(key, value)| format!("{before}{key}{value}\n")).collect::<String>()
    };
    write("text/modules.dep", lines(&dep.map(|(_, line)| ("", line)), "").as_bytes());
    write("text/modules.alias", b"alias alias-c c\nalias x:c* c\n");
    write("etc/modprobe.d/a.conf", b"options a q=2\ninstall command exit 0\n");
    write("sys/bus/one/devices/0/uevent", b"MODALIAS=x:c1\n");
    write("sys/bus/one/devices/1/uevent", b"DRIVER=y\nMODALIAS=x:c\n");
    write("sys/module/compression", b"xz\n");
    write("there.ko", ELF);
    write("sys/module/there/initstate", b"live\n");
    // Without a call of the shell's that a fault could be for: it comes after all of the program's own.
    write("next", b"#!/bin/sh\necho NEXT-INIT\n");
    std::os::unix::fs::symlink("next", dir.join("run/next")).unwrap();
    let next = dir.join("next");
    let mut mode = std::fs::metadata(&next).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(&next, mode).unwrap();
}

/// The rows of a case, what must never be, and how many runs that took.
fn rows(case: &Case) -> (String, Vec<String>, usize) {
    // What is in /proc belongs to all, so the cases are run one after the other, and their faults side by side.
    std::fs::write(dir().join("meminfo"), format!("MemAvailable: {} kB\n", case.available)).unwrap();
    if case.is_init {
        std::fs::create_dir_all(dir().join("etc")).unwrap();
        let manifest = case.manifest.replace("$D", &super_dir());
        std::fs::write(dir().join("etc/modest.manifest"), manifest).unwrap();
    }
    let (base, trace) = case.run(0, None);
    println!("{}: {:?} {} loads\n{}", case.name, base.status, base.loads, base.said);
    let calls = case.calls(&trace);
    assert!(calls.len() >= 2, "{}: {trace}\n{}", case.name, base.said);
    let faults: Vec<(&str, usize, &str)> = calls
        .iter()
        .flat_map(|(call, times)| (1..=*times).map(move |nth| (call.as_str(), nth)))
        .flat_map(|(call, nth)| ERRNOS.map(|errno| (call, nth, errno)))
        .collect();
    let next = Mutex::new(0..faults.len());
    let letters = Mutex::new(vec!['?'; faults.len()]);
    let wrong = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get());
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (base, faults, next, letters, wrong) = (&base, &faults, &next, &letters, &wrong);
            scope.spawn(move || {
                loop {
                    let Some(at) = next.lock().unwrap().next() else { return };
                    let fault @ (call, nth, errno) = faults[at];
                    if !can_fail(call, errno) {
                        letters.lock().unwrap()[at] = ' ';
                        continue;
                    }
                    let (run, _) = case.run(worker, Some(fault));
                    let judged = case.judge(base, &run, (call, errno));
                    if std::env::var_os("MODEST_FAULTS_SHOW").is_some() {
                        println!("== {} {call} {nth} {errno}: {judged:?}\n{}", case.name, run.said);
                    }
                    match judged {
                        Ok(letter) => letters.lock().unwrap()[at] = letter,
                        Err(what) => {
                            let said = &run.said;
                            let line = format!("{} {call} {nth} {errno}: {what}\n{said}", case.name);
                            wrong.lock().unwrap().push(line);
                        }
                    }
                }
            });
        }
    });
    let letters = letters.into_inner().unwrap();
    // What is the same each time is said once.
    let mut rows: Vec<(&str, usize, usize, String)> = Vec::new();
    for (row, letters) in faults.chunks(ERRNOS.len()).zip(letters.chunks(ERRNOS.len())) {
        let ((call, nth, _), letters) = (row[0], letters.iter().collect::<String>());
        match rows.last_mut() {
            Some((of, _, last, same)) if (*of, &*same) == (call, &letters) => *last = nth,
            _ => rows.push((call, nth, nth, letters)),
        }
    }
    let rows = rows.iter().map(|(call, first, last, letters)| {
        let times = if first == last { first.to_string() } else { format!("{first}-{last}") };
        format!("{:<13}{call:<16}{times:<6}{}\n", case.name, letters.trim_end())
    });
    let rows = rows.collect::<String>();
    (rows, wrong.into_inner().unwrap(), faults.len())
}

/// Runs this very test again, where it can do no harm.
fn in_namespaces(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let who = Command::new("id").arg("-u").output().unwrap();
    let mut command = Command::new(if who.stdout == b"0\n" { "env" } else { "sudo" });
    if who.stdout != b"0\n" {
        command.args(["--preserve-env", "--non-interactive"]);
    }
    command.args([
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-euc",
        NAMESPACES,
        "sh",
    ]);
    command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("faults::{test}"), "--nocapture"])
        .env(DIR, dir.path());
    let output = command.output().expect("unshare of util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // A name that is no test's would run none.
    assert!(said.contains("1 passed"), "{said}");
    println!("{said}");
}

#[test]
fn whatever_call_fails_the_outcome_is_honest() {
    if std::env::var_os(DIR).is_none() {
        return in_namespaces("whatever_call_fails_the_outcome_is_honest");
    }
    fill(&dir());
    let only = std::env::var("MODEST_FAULTS_CASE").unwrap_or_default();
    let mut table = format!("{LEGEND}#\n# {:<11}{:<16}{:<6}{}\n", "case", "call", "which", ERRNOS.join(" "));
    let (mut wrong, mut runs) = (Vec::new(), 0);
    for case in CASES.iter().filter(|case| case.name.contains(&only)) {
        let (rows, of_case, of_runs) = rows(case);
        table += &rows;
        runs += of_runs;
        wrong.extend(of_case);
    }
    let now = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.txt");
    std::fs::write(&now, &table).unwrap();
    assert!(wrong.is_empty(), "{} of the runs:\n{}", wrong.len(), wrong.join("\n"));
    let expected = include_str!("faults.txt");
    let is_wanted =
        |line: &&str| only.is_empty() || line.starts_with('#') || line.split(' ').next().unwrap().contains(&only);
    let expected: Vec<_> = expected.lines().filter(is_wanted).collect();
    let got: Vec<_> = table.lines().collect();
    let differ: Vec<_> = got.iter().filter(|line| !expected.contains(line)).collect();
    let gone: Vec<_> = expected.iter().filter(|line| !got.contains(line)).collect();
    println!("{} runs with a fault", runs);
    assert!(got == expected, "now, in {}:\n{differ:#?}\nexpected:\n{gone:#?}", now.display());
}

#[test]
fn odd_bytes_on_the_kernel_command_line_spoil_nothing_else() {
    if std::env::var_os(DIR).is_none() {
        return in_namespaces("odd_bytes_on_the_kernel_command_line_spoil_nothing_else");
    }
    fill(&dir());
    let case = &CASES[0];
    std::fs::write(dir().join("meminfo"), "MemAvailable: 4000000 kB\n").unwrap();
    for (cmdline, says) in [
        (&b"\xff\xfe modest.skip=none a.p=\xff\n"[..], ""),
        (b"a\0b\0modest.skip=none\n", ""),
        (b"\x1b[2J \r \x01 = == \" modest.skip=b\n", ""),
        (b"modest.budget=\xff modest.budget=-1\n", "modest.budget=-1 is not a size"),
        (b"modprobe.blacklist=\xff,,\xc3\x28 .=. a.= .p=1\n", ""),
        (&[b'x'; 5000], "/proc/cmdline: over CMDLINE_BYTES, 4096"),
        (b"", ""),
    ] {
        std::fs::write(dir().join("cmdline"), cmdline).unwrap();
        let (run, _) = case.run(0, None);
        let all = run.status.success() && run.said.contains("modest: 3 loaded, 0 present, 0 skipped, 0 failed");
        assert!(all && run.loads == 3 && run.said.contains(says), "{}: {run:?}", cmdline.escape_ascii());
    }
}
