//! kmod's own modprobe, as what ours is held to.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZero;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use mkmodest::modprobe;
use tempfile::TempDir;

/// Answers each question on its input, four lines, with what modprobe prints and then a line that modprobe never does.
const SCRIPT: &str = r#"
mount --bind "$0" /proc/cmdline || exit
while IFS= read -r base && IFS= read -r release && IFS= read -r config && IFS= read -r name; do
    modprobe -d "$base" -S "$release" -C "$config" -D -- "$name" 2>/dev/null </dev/null
    echo "exit $?"
done
"#;

/// What is asked of both: the lines for a name in a tree.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The folder with `lib/modules/RELEASE`.
    pub base: &'a Path,
    pub release: &'a str,
    /// A folder of `*.conf`.
    pub config: &'a Path,
    pub name: &'a str,
}

/// The lines, or why there are none.
pub type Answer = Result<String, String>;

/// A shell that runs modprobe in a mount namespace of its own, where `/proc/cmdline` is a file of ours.
pub struct Kmod {
    shell: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: TempDir,
    cmdline: String,
}

impl Kmod {
    /// Starts it, with an empty command line: what a real one says of modules would show in the answers.
    pub fn start() -> Kmod {
        let folder = tempfile::tempdir().unwrap();
        let cmdline = folder.path().join("cmdline");
        fs::write(&cmdline, "").unwrap();
        // A mount namespace is root's to make, and anyone's who is root in a user namespace.
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let mut shell = command("unshare")
            .arg(if is_root { "-m" } else { "-rm" })
            .args(["sh", "-c", SCRIPT])
            .arg(&cmdline)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (questions, answers) = (shell.stdin.take(), BufReader::new(shell.stdout.take().unwrap()));
        Kmod { shell, questions, answers, folder, cmdline: String::new() }
    }

    /// Changes the kernel's command line.
    pub fn set_cmdline(&mut self, text: &str) {
        // In place, for the mount is of this very file.
        fs::write(self.folder.path().join("cmdline"), text).unwrap();
        self.cmdline = text.into();
    }

    /// What kmod says.
    pub fn ask(&mut self, question: &Question) -> Answer {
        let Question { base, release, config, name } = question;
        let lines = format!("{}\n{release}\n{}\n{name}\n", base.display(), config.display());
        assert_eq!(lines.lines().count(), 4, "a line break in {question:?}");
        self.questions.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
        let mut printed = String::new();
        loop {
            let start = printed.len();
            let length = self.answers.read_line(&mut printed).unwrap();
            assert!(length > 0, "no modprobe in a mount namespace; is this root, or one who may have user namespaces?");
            match printed[start..].strip_prefix("exit ").map(str::trim_end) {
                None => {}
                Some("0") => {
                    printed.truncate(start);
                    return Ok(printed);
                }
                Some(code) => {
                    let code = code.to_string();
                    printed.truncate(start);
                    return Err(format!("exit code {code}, printed {printed:?}"));
                }
            }
        }
    }

    /// The two answers, kmod's and ours, where they are not the same.
    pub fn difference(&mut self, question: &Question) -> Option<String> {
        let Question { base, release, config, name } = question;
        let kmod = self.ask(question);
        let ours = modprobe::show_depends(base, release, Some(config), &self.cmdline, name);
        let ours = ours.map_err(|error| format!("{error:#}"));
        // Why there is nothing to load is told in words of one's own.
        (kmod.as_ref().ok() != ours.as_ref().ok()).then(|| {
            let at = format!("{name:?} in {}, command line {:?}", base.display(), self.cmdline);
            format!("{at}:\n{}{}", shown("kmod", &kmod), shown("ours", &ours))
        })
    }
}

impl Drop for Kmod {
    fn drop(&mut self) {
        // The end of its input is the end of the shell.
        self.questions = None;
        let _ = self.shell.wait();
    }
}

fn shown(who: &str, answer: &Answer) -> String {
    match answer {
        Ok(lines) if lines.is_empty() => format!("  {who}: nothing\n"),
        Ok(lines) => lines.lines().map(|line| format!("  {who}: {line:?}\n")).collect(),
        Err(error) => format!("  {who} failed: {error}\n"),
    }
}

/// A program of kmod's or util-linux's, which only root's PATH may include, untouched by options for modprobe.
pub fn command(program: &str) -> Command {
    let dirs = env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = env::split_paths(&dirs).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    let path: OsString = env::join_paths(&dirs).unwrap();
    let found = dirs.iter().map(|dir| dir.join(program)).find(|file| file.is_file());
    let mut command = Command::new(found.unwrap_or_else(|| panic!("no {program}; scripts/setup installs it")));
    command.env("PATH", path).env_remove("MODPROBE_OPTIONS");
    command
}

/// Does `work` for each number below `count`, shared out over the cores, each of which has a modprobe of its own.
pub fn share_out(count: usize, work: impl Fn(&mut Kmod, usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                let mut kmod = Kmod::start();
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count {
                        break;
                    }
                    work(&mut kmod, i);
                }
            });
        }
    });
}

/// How many can work at once.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Panics unless both give the same answer to all of the questions; shows the first that they do not.
pub fn assert_same(questions: &[Question]) {
    const SHOWN: usize = 20;
    assert!(!questions.is_empty(), "nothing to ask");
    let differences = Mutex::new(Vec::new());
    share_out(questions.len(), |kmod, i| {
        let difference = kmod.difference(&questions[i]);
        differences.lock().unwrap().extend(difference.map(|text| (i, text)));
    });
    let mut differences = differences.into_inner().unwrap();
    differences.sort();
    let mut report = String::new();
    for (_, difference) in differences.iter().take(SHOWN) {
        write!(report, "\n{difference}").unwrap();
    }
    assert!(differences.is_empty(), "{} of {} answers differ; the first:{report}", differences.len(), questions.len());
}
