//! A whole run: a manifest, a kernel command line and a machine's files.

use std::cell::RefCell;
use std::fmt;
use std::io::Write;

use modest_loader::cmdline::Cmdline;
use modest_loader::limits::CMDLINE_BYTES;
use modest_loader::manifest::OnError;
use modest_loader::report::{Level, Log};
use modest_loader::run::{Options, Policy, RUN_BYTES, run as run_manifest};

use crate::{Input, utf8};

const LACKS_FINIT: u8 = 1;
const LACKS_WINDOW: u8 = 2;
const DRY_RUN: u8 = 4;
const IS_INIT: u8 = 8;
const HAS_BUDGET: u8 = 16;

#[derive(Default)]
struct Lines(Vec<(Level, String)>);

impl Log for Lines {
    fn wants(&self, _: Level) -> bool {
        true
    }
    fn line(&mut self, level: Level, text: fmt::Arguments<'_>) {
        self.0.push((level, text.to_string()));
    }
}

impl Lines {
    fn count(&self, level: Level, what: &str) -> usize {
        self.0.iter().filter(|(l, line)| *l == level && line.contains(what)).count()
    }
}

/// A run: it ends, and what it says it came to is what the kernel was asked for.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut kernel = input.kernel();
    let flags = input.byte();
    let answers: Vec<u8> = (0..8).map(|_| input.byte()).collect();
    kernel.answers = RefCell::new(answers.into());
    (kernel.lacks_finit, kernel.lacks_window) = (flags & LACKS_FINIT != 0, flags & LACKS_WINDOW != 0);
    let mut parts = input.parts();
    kernel.add_file("/m", parts.next().unwrap_or_default());
    kernel.add_file("/proc/cmdline", parts.next().unwrap_or_default());
    kernel.add_file("/proc/meminfo", b"MemAvailable: 4096 kB\n");
    for part in parts.take(32) {
        let at = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
        let (path, content) = (utf8(&part[..at]), part.get(at + 1..).unwrap_or_default());
        let content = match content.strip_prefix(b"gz:") {
            Some(image) => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(image).unwrap();
                gzip.finish().unwrap()
            }
            None => content.to_vec(),
        };
        match path.split_once('>') {
            Some((module, path)) => kernel.add_file_of(module, path, &content),
            None => kernel.add_file(path, &content),
        }
    }
    let mut buf = vec![0; CMDLINE_BYTES + 1];
    let (cmdline, _, _) = Cmdline::read(&kernel, c"/proc/cmdline", &mut buf);
    let policies = RefCell::new(Vec::new());
    let on_policy = |policy: &OnError| policies.borrow_mut().push(policy.to_string());
    let options = Options {
        manifest: c"/m",
        cmdline,
        budget_bytes: (flags & HAS_BUDGET != 0).then_some(100 << 10),
        is_init: flags & IS_INIT != 0,
        dry_run: flags & DRY_RUN != 0,
        on_policy: &on_policy,
    };
    let mut log = Lines::default();
    let outcome = run_manifest(&kernel, &mut log, &options, &mut vec![0; RUN_BYTES]);
    let lines = || log.0.iter().map(|(level, line)| format!("{level:?} {line}\n")).collect::<String>();

    // What the input says may not be taken for what the loader does.
    let is_plain = ["skipped", "would"].iter().all(|word| !data.windows(word.len()).any(|w| w == word.as_bytes()));
    if options.dry_run {
        assert_eq!((kernel.successes.get(), kernel.spawned.get()), (0, 0), "{}", lines());
        let would = log.count(Level::Info, ": would load by ") + log.count(Level::Info, ": would run ");
        assert!(outcome.loaded == would || !is_plain, "{}", lines());
        // Only a manifest that is not there ends one.
        assert!(kernel.unlinked.get() == 0 && (!outcome.stopped || log.0.len() == 1), "{}", lines());
    } else {
        assert_eq!(outcome.loaded, kernel.successes.get() + kernel.done.get(), "{}", lines());
        // What was loaded once, the kernel says, is there: it did not load it again.
        assert_eq!(kernel.loaded.borrow().len(), kernel.successes.get());
    }
    assert!(outcome.skipped == log.count(Level::Info, ": skipped, ") || !is_plain, "{}", lines());
    let errors = log.0.iter().filter(|(level, _)| *level == Level::Error).count();
    assert!(outcome.failed <= errors, "{} failed: {}", outcome.failed, lines());
    assert!(!outcome.stopped || outcome.failed > 0);
    if outcome.failed == 0 {
        let is_failure = |line: &str| {
            let is_aside = line.contains("(optional)") || line.contains("; left out") || line.starts_with("@unlink ");
            let is_limit = ["CMDLINE_CONFIG_BYTES", "PLUG_TRIED"].iter().any(|limit| line.contains(limit));
            !is_aside && !is_limit
        };
        let untold = log.0.iter().find(|(level, line)| *level == Level::Error && is_failure(line));
        assert!(untold.is_none(), "told, but no failure: {untold:?}");
    }
    assert!(kernel.unlinked.get() <= kernel.successes.get() + kernel.repeats.get(), "{}", lines());
    let last = policies.borrow().last().cloned();
    let policy = match &outcome.policy {
        Policy::Continue => "continue".into(),
        Policy::Stop => "stop".into(),
        Policy::Reboot => "reboot".into(),
        Policy::Exec(path) => format!("exec {}", path.to_str().unwrap()),
    };
    assert_eq!(policy, last.unwrap_or("continue".into()));
    assert!(!outcome.stopped || policy != "continue" || log.0.len() == 1, "stopped: {}", lines());
}
