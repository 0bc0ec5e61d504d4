use super::*;
use crate::cmdline::Cmdline;
use crate::errno::Errno;
use crate::kernel::WorkerError;
use crate::kernel::fake::Fake;
use core::fmt;
use std::cell::RefCell;

#[derive(Default)]
pub struct Lines(pub Vec<String>);

impl Log for Lines {
    fn wants(&self, _: Level) -> bool {
        true
    }
    fn line(&mut self, level: Level, text: fmt::Arguments<'_>) {
        self.0.push(format!("{level:?} {text}"));
    }
}

fn tree(manifest: &str) -> Fake {
    Fake::default()
        .with_file("/m", manifest.as_bytes())
        .with_file("/t/modules.dep", b"a.ko: b.ko\nb.ko:\nc.ko: b.ko\n")
        .with_file("/t/a.ko", b"")
        .with_file("/t/b.ko", b"")
        .with_file("/t/c.ko", b"")
}

fn run_on(fake: &Fake, dry_run: bool) -> (Outcome, Vec<String>) {
    run_as(false, fake, dry_run)
}

fn run_as(is_init: bool, fake: &Fake, dry_run: bool) -> (Outcome, Vec<String>) {
    let mut log = Lines::default();
    let (cmdline, on_policy) = (Cmdline::default(), |_: &OnError| {});
    let options = Options { manifest: c"/m", cmdline, budget_bytes: None, is_init, dry_run, on_policy: &on_policy };
    let outcome = run(fake, &mut log, &options, &mut [0; RUN_BYTES]);
    (outcome, log.0)
}

#[cfg(feature = "names")]
fn counts(outcome: &Outcome) -> (usize, usize, usize, bool) {
    (outcome.loaded, outcome.present, outcome.failed, outcome.stopped)
}

#[test]
#[cfg(feature = "names")]
fn entries_are_loaded_in_order_with_their_dependencies() {
    let fake = tree("@root /t\na x=1 y=\"2 3\"\n/t/c.ko\n@switch-root\n");
    let (outcome, lines) = run_on(&fake, false);
    assert_eq!(counts(&outcome), (3, 0, 0, false));
    assert!(matches!(outcome.hand_over, Some(HandOver::SwitchRoot)));
    assert_eq!(lines[1], "Info a: loaded by finit, 0 B, 10 us");
    let calls = fake.calls.take();
    let loads: Vec<_> = calls.iter().filter(|c| c.starts_with("finit")).collect();
    assert_eq!(loads, ["finit /t/b.ko \"\" 0", "finit /t/a.ko \"x=1 y=\\\"2 3\\\"\" 0", "finit /t/c.ko \"\" 0"]);
}

#[test]
#[cfg(feature = "explain")]
fn a_file_that_is_there_otherwise_compressed_is_named() {
    let fake = tree("/t/x.ko\n/t/a.ko.gz\n/t/none.ko\n").with_file("/t/x.ko.xz", b"");
    let (_, lines) = run_on(&fake, false);
    let there = |ending| format!("no such file; it is there with the ending {ending}, ");
    assert!(lines[0].contains(&there(".ko.xz")) && lines[1].contains(&there(".ko")), "{lines:?}");
    assert!(lines[2].contains("no such file, /t/none.ko"), "{lines:?}");
}

#[test]
fn what_is_there_is_not_loaded_again() {
    let fake = || tree("/t/a.ko\n/t/b.ko\n").with_file("/sys/module/a/initstate", b"live\n");
    let loads = |fake: &Fake| fake.calls.take().iter().filter(|call| call.starts_with("finit")).count();
    for dry_run in [false, true] {
        let fake = fake();
        let (outcome, lines) = run_on(&fake, dry_run);
        assert_eq!((outcome.loaded, outcome.present, outcome.failed), (1, 1, 0), "{lines:?}");
        assert_eq!((lines[0].as_str(), loads(&fake)), ("Info a: already loaded", usize::from(!dry_run)));
    }
    // PID 1 finds nothing loaded, and asks from the first surprise on.
    let fake = fake().with_file("/m", b"/t/b.ko\n/t/a.ko\n/t/a.ko\n").answering(&[Ok(()), Err(Errno::EEXIST)]);
    let (outcome, _) = run_as(true, &fake, false);
    assert_eq!((outcome.loaded, outcome.present, loads(&fake)), (1, 2, 2));
    let fake = tree("/t/b.ko\n");
    assert_eq!(run_as(true, &fake, false).0.loaded, 1);
    assert!(!fake.calls.take().iter().any(|call| call.contains("/sys/")));
}

#[test]
fn loaded_files_are_deleted_from_there_on() {
    let fake = tree("/t/b.ko\n@unlink\n/t/a.ko\n/t/c.ko\n").answering(&[Ok(()), Ok(()), Err(Errno::ENODEV)]);
    run_on(&fake, false);
    let calls = fake.calls.take();
    assert_eq!(calls.iter().filter(|call| call.starts_with("unlink")).collect::<Vec<_>>(), ["unlink /t/a.ko"]);
}

#[test]
#[cfg(feature = "names")]
fn what_is_loaded_already_is_success() {
    let fake = tree("@root /t\na\n")
        .with_file("/sys/module/b/initstate", b"live\n")
        .with_file("/sys/module/a/initstate", b"live\n")
        .answering(&[Err(Errno::EEXIST)]);
    let (outcome, lines) = run_on(&fake, false);
    assert_eq!(counts(&outcome), (0, 2, 0, false));
    assert_eq!(lines, ["Debug b: already loaded", "Info a: already loaded"]);
    // A module in a file of another name, that others need.
    let fake = tree("@root /t\na\n").answering(&[Err(Errno::EEXIST)]);
    let (outcome, _) = run_on(&fake, false);
    assert_eq!(counts(&outcome), (1, 1, 0, false));
    // Its init said EEXIST: nothing of that name is there.
    let fake = tree("/t/c.ko\n").answering(&[Err(Errno::EEXIST)]);
    let (outcome, lines) = run_on(&fake, false);
    assert_eq!(counts(&outcome), (0, 0, 1, false));
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("Error c: EEXIST: its init reports that something already exists, "), "{lines:?}");
}

#[test]
#[cfg(feature = "names")]
fn a_bad_line_is_told_and_the_policy_applies() {
    let (outcome, lines) = run_on(&tree("@root /t\n\nb @optionl\nb\n"), false);
    assert_eq!(counts(&outcome), (1, 0, 1, false));
    let expected = "@optional, @if=, @timeout=, @retry=, @size=, @sha256= or @path=";
    assert_eq!(lines[0], format!("Error /m:3:3: unknown attribute @optionl; expected {expected}"));
    let (outcome, _) = run_on(&tree("@root /t\n@on-error stop\nb @optionl\nb\n"), false);
    assert_eq!(counts(&outcome), (0, 0, 1, true));
    let long = format!("@root /t\n{}\nb\n", "x".repeat(LINE_BYTES));
    let (outcome, lines) = run_on(&tree(&long), false);
    assert_eq!(counts(&outcome), (1, 0, 1, false));
    assert_eq!(lines[0], "Error /m:2:4096: line too long; expected less than LINE_BYTES, 4096");
    let (outcome, lines) = run_on(&tree(&format!("@exec /{}\n", "x".repeat(PATH_BYTES))), false);
    assert_eq!((outcome.failed, outcome.hand_over.is_none()), (1, true));
    assert_eq!(lines, ["Error /m:1:1: path too long; expected less than PATH_BYTES, 512"]);
    let (outcome, lines) = run_on(&Fake::default(), false);
    assert_eq!(counts(&outcome), (0, 0, 1, true));
    assert_eq!(lines, ["Error /m: ENOENT: no such file"]);
}

#[test]
#[cfg(feature = "names")]
fn a_failed_dependency_spares_its_module() {
    let fake =
        tree("@root /t\na\nc @optional\n/t/none.ko @optional\n").answering(&[Err(Errno::ENODEV), Err(Errno::ENODEV)]);
    let (outcome, lines) = run_on(&fake, false);
    assert_eq!(counts(&outcome), (0, 0, 1, false));
    let b = "Error b: ENODEV: its init found no device for it, /t/b.ko";
    assert_eq!(
        lines,
        [b.to_string(), format!("{b} (optional)"), "Error none: ENOENT: no such file, /t/none.ko (optional)".into()]
    );
}

#[test]
#[cfg(feature = "names")]
fn a_digest_is_of_what_the_entry_names_and_the_rest_goes_on() {
    let (good, bad) = (crate::pin::digest(b"\x7fELF a"), "0".repeat(64));
    let good: String = good.iter().map(|byte| format!("{byte:02x}")).collect();
    let manifest =
        format!("@root /t\na @sha256={good} x=1\nc @sha256={bad}\n/t/a.ko @sha256={bad}\nd @sha256={good}\n");
    let fake = tree(&manifest)
        .with_file("/t/a.ko", b"\x7fELF a")
        .with_file("/t/modules.dep", b"a.ko: b.ko\nb.ko:\nc.ko: b.ko\nd.ko:\n")
        .with_file("/etc/modprobe.d/d.conf", b"install d insmod /t/b.ko\n")
        .with_file("/sys/module/b/initstate", b"live\n");
    let (outcome, lines) = run_on(&fake, false);
    assert_eq!(counts(&outcome), (1, 2, 3, false));
    let lines: Vec<_> = lines.iter().filter(|line| !line.starts_with("Debug ")).collect();
    assert!(lines[0].starts_with("Info a: loaded by "), "{lines:?}");
    let empty = "Error c: ENOEXEC: the file is empty, /t/c.ko";
    let says = format!("its SHA-256 is {}..., @sha256= says {}..., /t/a.ko", &good[..16], &bad[..16]);
    let command = "Error d: @sha256= cannot be checked: install insmod /t/b.ko";
    assert_eq!(lines[1..], [empty, &format!("Error a: {says}"), command]);
    assert_eq!(fake.images.take(), [b"\x7fELF a"]);
    assert!(!fake.calls.take().iter().any(|call| call.starts_with("finit") || call.starts_with("spawn")));
}

#[test]
#[cfg(feature = "names")]
fn a_path_that_is_too_long_may_be_optional() {
    let fake = tree(&format!("/{}/x.ko @optional\n", "y".repeat(PATH_BYTES)));
    let (outcome, lines) = run_on(&fake, false);
    assert_eq!((outcome.failed, &lines[..]), (0, &["Error x: a path is over PATH_BYTES, 512 (optional)".into()][..]));
}

#[test]
#[cfg(feature = "names")]
fn a_dry_run_loads_nothing_and_shows_all() {
    let fake = tree("@root /t\n@on-error stop\nnone\na p=1\n");
    let (outcome, lines) = run_on(&fake, true);
    assert_eq!(counts(&outcome), (2, 0, 1, false));
    assert_eq!(
        lines,
        [
            "Error none: the tree's indexes have no module and no alias of that name, /m:3",
            "Info b: would load by finit, plain: /t/b.ko",
            "Info a: would load by finit, plain: /t/a.ko p=1",
        ]
    );
    assert!(!fake.calls.take().iter().any(|c| c.starts_with("finit")));
}

/// The calls that load, and the workers that make them, of PID 1 or another process.
fn loads_of(fake: &Fake, is_init: bool) -> Vec<String> {
    let (cmdline, on_policy) = (Cmdline::default(), |_: &OnError| {});
    let (manifest, dry_run) = (c"/m", false);
    let options = Options { manifest, cmdline, budget_bytes: None, is_init, dry_run, on_policy: &on_policy };
    run(fake, &mut Lines::default(), &options, &mut [0; RUN_BYTES]);
    let calls = fake.calls.take().into_iter();
    calls.filter(|call| ["worker", "finit"].iter().any(|load| call.starts_with(load))).collect()
}

#[test]
fn where_memory_is_scarce_pid_1_has_a_worker_that_can_be_killed() {
    let meminfo = |kib: &str| format!("MemAvailable: {kib} kB\n").into_bytes();
    for (available, is_init, is_scarce) in [("65535", true, true), ("65535", false, false), ("65536", true, false)] {
        let loads = loads_of(&tree("/t/a.ko\n").with_file("/proc/meminfo", &meminfo(available)), is_init);
        assert_eq!(loads.contains(&"worker".to_string()), is_scarce, "{available} {is_init}: {loads:?}");
    }
    // What is free is enough to know; and a large file wants more than a small one.
    let large = [b"\x7fELF".to_vec(), vec![0; 8 << 20]].concat();
    for (free, worker) in [(64 << 20, &["finit /t/b.ko \"\" 0", "worker"][..]), (129 << 20, &["finit /t/b.ko \"\" 0"])]
    {
        let fake = tree("/t/b.ko\n/t/a.ko\n").with_file("/t/a.ko", &large).with_free_bytes(free);
        let fake = fake.with_file("/proc/meminfo", &meminfo("65536"));
        assert_eq!(loads_of(&fake, true), [worker, &["finit /t/a.ko \"\" 0"]].concat());
    }
}

#[test]
fn each_worker_that_is_killed_costs_one_module() {
    let lost = |fake: Fake| fake.losing(WorkerError::Killed).losing(WorkerError::Killed);
    let manifest = "/t/a.ko @timeout=5s\n/t/b.ko @timeout=5s\n/t/c.ko @timeout=5s\n";
    let (outcome, lines) = run_on(&lost(tree(manifest)), false);
    assert_eq!((outcome.loaded, outcome.failed, outcome.stopped), (1, 2, false));
    assert!(lines[0].starts_with("Error a: ENOMEM: ") && lines[1].starts_with("Error b: ENOMEM: "), "{lines:?}");
    // What one learnt of the kernel, the next need not ask.
    let (outcome, _) =
        run_on(&tree(manifest).with_file("/t/a.ko", b"a").with_file("/t/b.ko", b"b").without_finit(), false);
    assert_eq!(outcome.loaded, 2);
}

#[test]
fn what_cannot_fit_is_refused_with_figures() {
    let image = [b"\x7fELF".to_vec(), vec![0; 9 << 20]].concat();
    let fake = tree("/t/a.ko\n").with_file("/t/a.ko", &image).with_file("/proc/meminfo", b"MemAvailable: 9000 kB\n");
    assert_eq!(loads_of(&fake, true), ["worker"]);
    assert_eq!(loads_of(&fake, false), ["finit /t/a.ko \"\" 0"], "only PID 1 has to care");
}

#[test]
fn a_load_has_its_time() {
    const LEFT: WorkerError = WorkerError::TimedOut { timeout_ms: 5000, is_left: true };
    const TOLD: &str = "Error a: ETIMEDOUT: not loaded within 5 s; nothing could end it, so it was left behind: until a \
        restart the module can be neither used nor loaded. Raise @timeout=, or leave the module out, /t/a.ko";
    let manifest = "/t/a.ko @timeout=5s\n/t/a.ko @optional\n/t/b.ko @timeout=5s\n";
    let fake = tree(manifest).losing(LEFT).with_file("/sys/module/a/initstate", b"coming\n");
    let (outcome, lines) = run_on(&fake, false);
    assert_eq!((outcome.loaded, outcome.failed), (1, 1));
    assert_eq!(lines[0], TOLD);
    let again = "Error a: EBUSY: an earlier load of it was left behind, and its init has still not returned, /t/a.ko (optional)";
    assert_eq!(lines[1], again);
    let loads = |fake: &Fake| {
        let calls = fake.calls.take().into_iter();
        let is_load = |call: &String| ["worker", "open /t", "finit"].iter().any(|load| call.starts_with(load));
        calls.filter(is_load).collect::<Vec<_>>()
    };
    let load =
        |name| ["worker within 5000 ms".into(), format!("open /t/{name}.ko"), format!("finit /t/{name}.ko \"\" 0")];
    assert_eq!(loads(&fake), ["a", "b"].map(load).concat());
    // What came back meanwhile may be loaded, or be there.
    let fake = tree(manifest).losing(LEFT).with_file(
        "/sys/module/a/initstate",
        b"live
",
    );
    assert_eq!(run_as(true, &fake, false).0.loaded, 2);
    // Optional, with each path; and the policy.
    for path in ["finit", "stream", "mmap", "buffer"] {
        let fake = tree(&format!("@on-error stop\n/t/x.ko @timeout=5s @optional @path={path} p=1\n/t/b.ko\n"));
        let (outcome, lines) = run_on(&fake.with_file("/t/x.ko", b"image").losing(LEFT), false);
        assert_eq!((outcome.loaded, outcome.failed), (1, 0), "{lines:?}");
    }
    let (outcome, lines) = run_on(&tree("@on-error stop\n/t/a.ko @timeout=5s\n/t/b.ko\n").losing(LEFT), false);
    assert_eq!((outcome.loaded, outcome.failed, outcome.stopped), (0, 1, true), "{lines:?}");
}

#[test]
fn what_may_pass_is_tried_again_as_often_as_is_said() {
    let loads = |fake: &Fake| fake.calls.take().iter().filter(|call| call.starts_with("finit")).count();
    let on = |attributes: &str, answers: &[Result<(), Errno>]| {
        let fake = tree(&format!("/t/a.ko {attributes}\n")).answering(answers);
        let (outcome, lines) = run_on(&fake, false);
        (outcome.loaded, loads(&fake), lines)
    };
    let (busy, again) = (Err(Errno::EBUSY), Err(Errno::EAGAIN));
    let (loaded, tries, lines) = on("@retry=5", &[busy, again]);
    assert_eq!((loaded, tries), (1, 3), "{lines:?}");
    assert!(lines[0].starts_with("Debug a: try 1: EBUSY: ") && lines[0].ends_with("; again in 50 ms"), "{lines:?}");
    assert!(lines[1].ends_with("; again in 100 ms"), "{lines:?}");
    // The waits are in the time that it took.
    let us: u64 = lines[2].split(' ').rev().nth(3).unwrap().parse().unwrap();
    assert!(lines[2].ends_with(" us, 3 tries") && (150_000..151_000).contains(&us), "{lines:?}");
    let (loaded, tries, lines) = on("@retry=2", &[busy; 9]);
    assert_eq!((loaded, tries), (0, 3), "{lines:?}");
    assert!(lines[2].starts_with("Error a: EBUSY: ") && lines[2].ends_with(", 3 tries, /t/a.ko"), "{lines:?}");
    assert_eq!(on("", &[busy; 2]).1, 1);
    // The waits grow to one second.
    let (_, tries, lines) = on("@retry=60", &[busy; 99]);
    assert_eq!((tries, lines.iter().filter(|line| line.ends_with("; again in 1 s")).count()), (61, 55), "{lines:?}");
    for (answer, tries) in [
        (Errno::ENODEV, 2),
        (Errno::ENXIO, 2),
        (Errno::ENOENT, 2),
        (Errno::ETIMEDOUT, 2),
        (Errno(517), 2),
        (Errno::EIO, 1),
        (Errno::EINVAL, 1),
        (Errno::EPERM, 1),
        (Errno::ENOMEM, 1),
        (Errno::EEXIST, 1),
    ] {
        assert_eq!(on("@retry=1", &[Err(answer); 2]).1, tries, "{answer}");
    }
    let opens = |path: &str| {
        let fake = tree(&format!("{path} @retry=3\n"));
        run_on(&fake, false);
        fake.calls.take().iter().filter(|call| **call == format!("open {path}")).count()
    };
    assert_eq!(opens("/t/none.ko"), 4);
    // What was ended may be tried again, what goes on may not.
    for (is_left, tries) in [(false, 2), (true, 1)] {
        let error = WorkerError::TimedOut { timeout_ms: 1500, is_left };
        let fake = tree("/t/a.ko @retry=1 @timeout=1500ms\n").losing(error);
        let (outcome, lines) = run_on(&fake, false);
        assert_eq!((outcome.loaded, loads(&fake)), (usize::from(!is_left), tries), "{lines:?}");
        assert!(lines[0].contains(": not loaded within 1500 ms; "), "{lines:?}");
    }
}

#[test]
fn the_policy_is_told_as_it_is_read() {
    let told = RefCell::new(Vec::new());
    let on_policy = |policy: &OnError| told.borrow_mut().push(policy.to_string());
    let fake = tree("@on-error reboot\n@on-error exec /bin/sh\n");
    let options = Options {
        manifest: c"/m",
        cmdline: Cmdline::default(),
        budget_bytes: None,
        is_init: false,
        dry_run: false,
        on_policy: &on_policy,
    };
    let outcome = run(&fake, &mut Lines::default(), &options, &mut [0; RUN_BYTES]);
    assert_eq!(told.take(), ["reboot", "exec /bin/sh"]);
    assert!(matches!(outcome.policy, Policy::Exec(path) if path.as_c_str() == c"/bin/sh"));
}
