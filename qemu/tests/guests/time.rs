//! Where time matters: an init that never returns, modules that come late, and the processes that PID 1 has to answer for.

use modest_qemu::{BIG_IS_WHOLE, Scenario, gzip, line};

const BOARD: &str = "lowram-armv7";

/// Ends a manifest: tells of the processes that there are besides itself and those of the kernel. It starts none, as it would reap
/// others with them.
const NEXT: &str = "\
    zombies=0 stuck=0 others=0\n\
    for file in /proc/[0-9]*/stat; do\n\
        read -r line <$file || continue\n\
        set -- ${line##*) }\n\
        case $1$2 in Z*) zombies=$((zombies + 1)) ;; D1) stuck=$((stuck + 1)) ;; ?1) others=$((others + 1)) ;; esac\n\
    done\n\
    for name in modest_hang modest_sleep; do\n\
        state=none\n\
        [ ! -e /sys/module/$name ] || read -r state </sys/module/$name/initstate\n\
        echo \"$name is $state\"\n\
    done\n\
    while read -r key value; do case $key in Sig[BI]*) echo $key $value ;; esac; done </proc/$$/status\n\
    echo NEXT-INIT pid=$$ zombies=$zombies stuck=$stuck others=$others\necho END\npoweroff -f\n";

/// With these test modules in `/m`, plain and in gzip, and more memory than the board has, for the shell.
fn scenario(kernel: &str, manifest: &str, modules: &[&str]) -> Scenario {
    let scenario = Scenario::with_manifest(BOARD, Some(kernel), manifest).unwrap().memory("64");
    let scenario = scenario.script("/next", NEXT).unwrap().link("/bin/sh", "busybox");
    modules.iter().fold(scenario, |scenario, name| {
        let image = scenario.module(name).unwrap();
        let packed = gzip(&image).unwrap();
        scenario.file(&format!("/m/{name}.ko"), image).file(&format!("/m/{name}.ko.gz"), packed)
    })
}

fn boot(scenario: Scenario) -> String {
    scenario.append("modest.debug loglevel=8").boot().unwrap().wait_for("\nEND\n").unwrap()
}

/// The load paths, each with the ending of a file and the attributes that it takes.
const PATHS: [(&str, &str, &str); 4] =
    [("finit", "", ""), ("stream", ".gz", ""), ("mmap", "", "@path=mmap"), ("buffer", ".gz", "@path=buffer")];

#[test]
fn an_init_that_never_returns_is_left_behind() {
    for (path, ending, attributes) in PATHS {
        let manifest = format!(
            "@unlink\n/m/modest_hang.ko{ending} {attributes} @timeout=1s @optional killable=0\n\
             /m/modest_hang.ko\n/m/modest_big.ko.gz\n@exec /next\n"
        );
        let console = boot(scenario("small", &manifest, &["modest_hang", "modest_big"]));
        let told = format!(
            "modest: modest_hang: ETIMEDOUT: not loaded within 1 s; nothing could end it, so it was left \
             behind: until a restart the module can be neither used nor loaded. Raise @timeout=, or leave the module out, \
             /m/modest_hang.ko{ending} (optional)\n"
        );
        assert!(console.contains(&told), "{path}: {console}");
        // Another load of it would wait for this one.
        let again = "modest: modest_hang: EBUSY: an earlier load of it was left behind, and its init has still not \
            returned, /m/modest_hang.ko\n";
        assert!(console.contains(again), "{path}: {console}");
        assert_eq!(console.matches("modest_hang: init").count(), 1, "{path}: {console}");
        // What is taken for the next is not where the image of the one before still is.
        assert!(console.contains(BIG_IS_WHOLE), "{path}: {console}");
        line(&console, "1 loaded, 0 present, 0 skipped, 1 failed").unwrap();
        assert!(console.contains("modest_hang is coming\n"), "{path}: {console}");
        // Where a thread of the worker makes the call, what is left of the process is that thread.
        let left = if path == "stream" { "zombies=1 stuck=0" } else { "zombies=0 stuck=1" };
        assert!(console.contains(&format!("NEXT-INIT pid=1 {left} others=0")), "{path}: {console}");
    }
}

#[test]
fn in_the_kernels_own_format_too() {
    let manifest = "/m/modest_hang.ko.gz @timeout=500ms @optional\n@exec /next\n";
    let console = boot(scenario("bare", manifest, &["modest_hang"]));
    line(&console, "modest_hang: ETIMEDOUT: not loaded within 500 ms; nothing could end it").unwrap();
    assert!(console.contains("NEXT-INIT pid=1 zombies=0 stuck=1 others=0"), "{console}");
}

#[test]
fn an_init_that_a_signal_ends_is_ended() {
    for (path, ending, attributes) in PATHS {
        let entry = format!("/m/modest_hang.ko{ending} {attributes} @timeout=700ms @retry=1 @optional killable=1\n");
        let manifest = format!("{entry}/m/modest_big.ko.gz\n@exec /next\n");
        let console = boot(scenario("small", &manifest, &["modest_hang", "modest_big"]));
        let told = line(&console, "modest_hang: ETIMEDOUT: not loaded within 700 ms; it was killed").unwrap();
        // The line of the first try is the other that begins so.
        assert!(told.contains(", 2 tries, /m/"), "{path}: {told}");
        line(&console, "modest_hang: try 1: ETIMEDOUT: ").unwrap();
        assert_eq!(console.matches("modest_hang: init").count(), 2, "{path}: {console}");
        assert!(console.contains(BIG_IS_WHOLE), "{path}: {console}");
        assert!(console.contains("modest_hang is none\n"), "{path}: {console}");
        assert!(console.contains("NEXT-INIT pid=1 zombies=0 stuck=0 others=0"), "{path}: {console}");
    }
}

#[test]
fn an_init_that_returns_too_late_is_reaped() {
    for ending in ["", ".gz"] {
        let manifest = format!(
            "/m/modest_sleep.ko{ending} @timeout=500ms @optional ms=2500\n\
             /m/modest_export.ko @timeout=20s\n@wait /none @timeout=4s @optional\n@exec /next\n"
        );
        let console = boot(scenario("small", &manifest, &["modest_sleep", "modest_export"]));
        line(&console, "modest_sleep: ETIMEDOUT: not loaded within 500 ms; nothing could end it").unwrap();
        line(&console, "modest_export: loaded by finit, ").unwrap();
        assert!(console.contains("modest_sleep is live\n"), "{console}");
        assert!(console.contains("NEXT-INIT pid=1 zombies=0 stuck=0 others=0"), "{console}");
    }
}

/// Killed while a worker waits for an init, while its own thread does, and while that reads the window.
#[test]
fn a_loader_that_is_killed_leaves_nothing_behind() {
    // This kernel has no timers to sleep with.
    let script = "for case in 'worker 900' 'thread 900' 'window 30' 'window 60' 'window 90'; do\n\
            set -- $case\n\
            /init load -q -m /$1 & /init load -q -m /wait$2; kill -9 $!; wait $!; echo $1: status $?\n\
            /init load -q -m /wait900\n\
            left=0\n\
            for stat in /proc/[0-9]*/stat; do read -r line <$stat; case $line in *'(init)'*) left=$((left + 1)) ;; esac; done\n\
            state=none; [ ! -e /sys/module/modest_hang ] || state=there\n\
            echo \"$1: $left left, modest_hang is $state\"\n\
        done\necho END\npoweroff -f\n";
    let mut scenario = scenario("small", "@exec /next\n", &["modest_hang", "modest_big"])
        .script("/next", script)
        .unwrap()
        .file("/worker", "/m/modest_hang.ko @timeout=60s killable=1\n")
        .file("/thread", "/m/modest_hang.ko.gz killable=1\n")
        .file("/window", "/m/modest_big.ko.gz\n");
    for ms in [30, 60, 90, 900] {
        scenario = scenario.file(&format!("/wait{ms}"), format!("@wait /none @timeout={ms}ms @optional\n"));
    }
    let console = boot(scenario);
    for (case, times) in [("worker", 1), ("thread", 1), ("window", 3)] {
        let nothing = format!("{case}: 0 left, modest_hang is none\n");
        assert_eq!(console.matches(&nothing).count(), times, "{console}");
    }
    assert_eq!(console.matches("modest_hang: init").count(), 2, "{console}");
    // SIGKILL, each time: none had ended by itself.
    assert_eq!(console.matches(": status 137\n").count(), 5, "{console}");
}

#[test]
fn the_policy_applies_to_it() {
    let manifest = "@on-error exec /next\n/m/modest_hang.ko @timeout=1s\n/m/modest_export.ko\n@exec /never\n";
    let console = boot(scenario("small", manifest, &["modest_hang", "modest_export"]));
    line(&console, "0 loaded, 0 present, 0 skipped, 1 failed").unwrap();
    line(&console, "going on with /next, by @on-error exec").unwrap();
    assert!(!console.contains("modest_export: "), "{console}");
}

#[test]
fn what_may_pass_is_tried_again() {
    let manifest = "/m/modest_errno.ko @retry=2 @optional errno=5\n\
        /m/modest_errno.ko @retry=2 @optional errno=19\n\
        /m/modest_export.ko\n\
        /m/modest_errno.ko.gz @retry=5 errno=16 times=2\n\
        @exec /next\n";
    let console = boot(scenario("small", manifest, &["modest_errno", "modest_export"]));
    let ends = |begins: &str, ends: &str| {
        let told = line(&console, begins).unwrap();
        assert!(told.ends_with(ends), "{told}");
    };
    ends("modest_errno: EIO: ", ", /m/modest_errno.ko (optional)");
    ends("modest_errno: ENODEV: ", ", 3 tries, /m/modest_errno.ko (optional)");
    ends("modest_errno: loaded by stream, ", " us, 3 tries");
    ends("modest_errno: try 2: EBUSY: ", "; again in 100 ms");
    assert_eq!(console.matches("modest_errno: init").count(), 1 + 3 + 3, "{console}");
    line(&console, "2 loaded, 0 present, 0 skipped, 0 failed").unwrap();
}

/// The command of an `install` leaves processes behind, one of which makes a file later; another ends in time only by being killed.
#[test]
fn processes_without_a_parent_are_reaped() {
    let config = "install late for i in 1 2 3; do true & done; (/init load -q -m /pause; cp /m/modest_params.ko /copy; mv /copy /late.ko) & :\n\
        install stuck mkfifo /f; cat /f & cat /f\n";
    let manifest = "late @timeout=60s\n/late.ko @retry=20 number=7\nstuck @timeout=1s @optional\n@wait /none @timeout=1s @optional\n@exec /next\n";
    let scenario = scenario("small", manifest, &["modest_params"]).file("/etc/modprobe.d/a.conf", config);
    // The sleep of this busybox makes a call that this kernel has not.
    let scenario = scenario.file("/pause", "@wait /none @timeout=1s @optional\n");
    let console = boot(scenario);
    line(&console, "late: command done: install ").unwrap();
    assert!(line(&console, "late: loaded by finit, ").unwrap().ends_with(" tries"), "{console}");
    assert!(console.contains("modest_params: flag=N number=7 "), "{console}");
    line(&console, "stuck: ETIMEDOUT: its command has not ended within 1 s, and was killed: install mkfifo").unwrap();
    assert!(console.contains("NEXT-INIT pid=1 zombies=0 stuck=0 others=0"), "{console}");
}

#[test]
fn signals_are_handed_over_as_the_kernel_has_them() {
    let first = "trap '' CHLD PIPE TERM INT\nexec /init\n";
    let scenario = scenario("small", "@exec /next\n", &[]).script("/first", first).unwrap().append("rdinit=/first");
    let console = boot(scenario);
    for set in ["SigBlk: ", "SigIgn: "] {
        let set = console.lines().find_map(|line| line.strip_prefix(set)).unwrap();
        let signals = u64::from_str_radix(set, 16).unwrap();
        // Shells ignore SIGQUIT.
        assert_eq!(signals & !(1 << 2), 0, "{console}");
    }
}
