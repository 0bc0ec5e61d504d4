//! kmod's own modprobe, as what ours is held to.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZero;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use mkmodest::kernel::Tree;
use mkmodest::kernel::modprobe::Database;
use tempfile::TempDir;

/// Answers each question on its input, four lines, with what modprobe prints and then a line that modprobe never does.
///
/// Of one name: what it prints on stdout. Of more, with tabs between them: what it prints on either, in its order.
const SCRIPT: &str = r#"
mount --bind "$0" /proc/cmdline || exit
set -f
tab=$(printf '\t')
while IFS= read -r base && IFS= read -r release && IFS= read -r config && IFS= read -r names; do
    case $names in
        *"$tab"*)
            IFS=$tab
            stdbuf -oL modprobe -d "$base" -S "$release" -C "$config" -a -D -- $names 2>&1 </dev/null
            ;;
        *) modprobe -d "$base" -S "$release" -C "$config" -D -- "$names" 2>/dev/null </dev/null ;;
    esac
    echo "exit $?"
done
"#;

/// A name that modprobe says it does not find whatever the configuration is, for it is no valid one.
const SEPARATOR: &str = "[";

/// Where to look a name up.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The folder with `lib/modules/RELEASE`.
    pub base: &'a Path,
    pub release: &'a str,
    /// A folder of `*.conf`.
    pub config: &'a Path,
    /// A folder as the first, with texts alone for indexes, if it is to be asked too.
    pub texts: Option<&'a Path>,
    /// Whether several modules of the kernel itself have aliases: their order in the index is not told by its text.
    pub is_unordered: bool,
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

    /// What kmod says of one name.
    pub fn ask(&mut self, place: &Place, name: &str) -> Answer {
        match self.run(place, name) {
            (printed, 0) => Ok(printed),
            (printed, code) => Err(format!("exit code {code}, printed {printed:?}")),
        }
    }

    /// What kmod says of each of the names, in one run of modprobe; none where that goes another way than thought.
    fn ask_at_once(&mut self, place: &Place, names: &[&str]) -> Option<Vec<Answer>> {
        let separated: Vec<_> = names.iter().flat_map(|name| [name, SEPARATOR]).collect();
        let not_found = |line: &str, name| line.starts_with(&format!("modprobe: WARNING: Module {name} not found in "));
        let (printed, _) = self.run(place, &separated.join("\t"));
        let mut lines = printed.split_inclusive('\n');
        let answers = names.iter().map(|name| {
            let mut answer = Ok(String::new());
            loop {
                let line = lines.next()?;
                if not_found(line, SEPARATOR) && (*name != SEPARATOR || answer.is_err()) {
                    return Some(answer);
                } else if not_found(line, name) {
                    answer = Err(line.into());
                } else if !["modprobe: ", "libkmod: "].iter().any(|logger| line.starts_with(logger)) {
                    answer.as_mut().ok()?.push_str(line);
                }
            }
        });
        answers.collect()
    }

    fn run(&mut self, Place { base, release, config, .. }: &Place, names: &str) -> (String, i32) {
        let lines = format!("{}\n{release}\n{}\n{names}\n", base.display(), config.display());
        assert_eq!(lines.lines().count(), 4, "a line break in {lines:?}");
        self.questions.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
        let mut printed = String::new();
        loop {
            let start = printed.len();
            let length = self.answers.read_line(&mut printed).unwrap();
            assert!(length > 0, "no modprobe in a mount namespace; is this root, or one who may have user namespaces?");
            let code = printed[start..].strip_prefix("exit ").and_then(|code| code.trim_end().parse().ok());
            if let Some(code) = code {
                printed.truncate(start);
                return (printed, code);
            }
        }
    }

    /// The two answers, kmod's and ours, for each name for which they are not the same.
    pub fn differences(&mut self, place: &Place, names: &[&str]) -> Vec<String> {
        let at_once = self.ask_at_once(place, names);
        let databases: Vec<_> = [Some(place.base), place.texts]
            .into_iter()
            .flatten()
            .map(|base| {
                let folder = base.join("lib/modules").join(place.release);
                let tree = Tree::new(folder, place.release);
                (base, Database::read(&tree, &[place.config], &self.cmdline, &mut |_| {}).unwrap())
            })
            .collect();
        let mut differences = Vec::new();
        for (i, name) in names.iter().enumerate() {
            for (base, database) in &databases {
                let is_unordered = place.is_unordered && Some(*base) == place.texts;
                let (base, kmods_base) = (base.to_str().unwrap(), place.base.to_str().unwrap());
                let ours = database.show_depends(name).map_err(|error| format!("{error:#}"));
                let ours = ours.map(|lines| lines.replace(base, kmods_base));
                // Why there is nothing to load is told in words of one's own.
                let is_same = |kmod: &Answer| match (kmod, &ours) {
                    (Ok(kmod), Ok(ours)) => kmod == ours || is_unordered && sorted(kmod) == sorted(ours),
                    (kmod, ours) => kmod.is_err() && ours.is_err(),
                };
                if at_once.as_ref().is_some_and(|answers| is_same(&answers[i])) {
                    continue;
                }
                // What counts is what modprobe says of the name alone.
                let kmod = self.ask(place, name);
                if !is_same(&kmod) {
                    let at = format!("{name:?} in {base}, command line {:?}", self.cmdline);
                    differences.push(format!("{at}:\n{}{}", shown("kmod", &kmod), shown("ours", &ours)));
                }
            }
        }
        differences
    }
}

impl Drop for Kmod {
    fn drop(&mut self) {
        // The end of its input is the end of the shell.
        self.questions = None;
        let _ = self.shell.wait();
    }
}

fn sorted(lines: &str) -> Vec<&str> {
    let mut lines: Vec<_> = lines.lines().collect();
    lines.sort();
    lines
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
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..cores {
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

/// Panics unless both give the same answers for all of the names of each place; shows the first that they do not.
pub fn assert_same(names: &[(Place, &[String])]) {
    const AT_ONCE: usize = 50;
    let batches = names.iter().flat_map(|(place, names)| names.chunks(AT_ONCE).map(move |names| (place, names)));
    let batches: Vec<_> = batches.collect();
    assert!(!batches.is_empty(), "nothing to ask");
    let differences = Mutex::new(Vec::new());
    share_out(batches.len(), |kmod, i| {
        let (place, names) = batches[i];
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let found = kmod.differences(place, &names);
        differences.lock().unwrap().push((i, found));
    });
    let mut differences = differences.into_inner().unwrap();
    differences.sort();
    let of = names.iter().map(|(_, names)| names.len()).sum();
    assert_none(differences.into_iter().flat_map(|(_, found)| found).collect(), of);
}

/// Panics if any of the `of` answers differ; shows the first that do.
pub fn assert_none(differences: Vec<String>, of: usize) {
    const SHOWN: usize = 20;
    let first = &differences[..differences.len().min(SHOWN)];
    assert!(differences.is_empty(), "{} of {of} answers differ; the first:\n{}", differences.len(), first.join("\n"));
}
