//! A folder of modules with what depmod knows of it, and the configuration of modprobe.d(5): what a plan is made from.
//!
//! Of an index only the pages are read that a question leads to. No file is mapped: where a disk fails, a mapping ends the program
//! by a signal, and a read has an error. What is on the kernel command line is not kept here, but comes with each question.

use core::ffi::CStr;
use core::fmt;

use super::config::{Config, ConfigError, Writer};
use super::plan::{Blacklists, Indexes, PlanError, Step, plan};
use super::table::{Places, Table};
use crate::errno::Errno;
use crate::kernel::{FileKind, Kernel, Pages, Stat, read_full_at};
use crate::limits::{CONFIG_BYTES, PATH_BYTES};
use crate::path::{self, FileName, Path};
use crate::report::shown;

/// kmod's folders of configuration: of files of one name that of the first folder counts (modprobe.d(5)).
pub const CONFIG_FOLDERS: [&CStr; 5] =
    [c"/etc/modprobe.d", c"/run/modprobe.d", c"/usr/local/lib/modprobe.d", c"/usr/lib/modprobe.d", c"/lib/modprobe.d"];

/// The files with the tables of [`Indexes`], in the order of its fields, each with what stands in where it is missing.
const FILES: [[&str; 2]; 5] = [
    ["modules.dep.bin", "modules.dep"],
    ["modules.alias.bin", "modules.alias"],
    ["modules.symbols.bin", "modules.symbols"],
    ["modules.builtin.bin", "modules.builtin"],
    ["modules.builtin.alias.bin", "modules.builtin.modinfo"],
];

/// Configuration that a tree brings itself.
const OWN_CONFIG: [&str; 2] = ["modules.softdep", "modules.weakdep"];

/// A tree whose files are open.
#[allow(missing_debug_implementations)]
pub struct Tree<K: Kernel> {
    folder: Path,
    tables: [Option<File<K>>; 5],
    config: K::Region,
    config_bytes: usize,
}

struct File<K: Kernel> {
    name: &'static str,
    /// `None` where it is empty, of which no memory can be made.
    content: Option<K::Paged>,
    /// Of a text of paths, where its lines are.
    places: Option<K::Region>,
}

/// Why a tree cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// This file of it cannot be read.
    File(&'static str, Errno),
    /// This is none: a directory, device, FIFO or socket.
    NotAFile(&'static str),
    /// There is no memory for the configuration.
    Memory(Errno),
    /// A path is over [`crate::limits::PATH_BYTES`].
    LongPath,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TreeError::File(file, errno) => write!(f, "{file}: {errno}: it cannot be read"),
            TreeError::NotAFile(file) => write!(f, "{file}: it is a directory, device, FIFO or socket"),
            TreeError::Memory(errno) => write!(f, "{errno}: no memory for the configuration"),
            TreeError::LongPath => write!(f, "a path is over PATH_BYTES, {PATH_BYTES}"),
        }
    }
}

impl<K: Kernel> Tree<K> {
    /// Opens the indexes of `folder`, `/lib/modules/RELEASE`, and reads the configuration of the folders of `config`. `tell` hears
    /// of each line that is left out, by its number, or as line 0 of a file that is.
    pub fn open(
        kernel: &K, folder: &Path, config: &[&CStr], tell: &mut dyn FnMut(&str, usize, ConfigError),
    ) -> Result<Tree<K>, TreeError> {
        let mut tables = [const { None }; FILES.len()];
        for (table, names) in tables.iter_mut().zip(FILES) {
            for name in names {
                let path = path::joined(&[folder.as_bytes(), b"/", name.as_bytes()]).ok_or(TreeError::LongPath)?;
                let content = match kernel.open(&path).and_then(|file| Ok((kernel.stat(&file)?, file))) {
                    Err(Errno::ENOENT) => continue,
                    Err(errno) => return Err(TreeError::File(name, errno)),
                    Ok((stat, _)) if stat.kind != FileKind::Regular => return Err(TreeError::NotAFile(name)),
                    // depmod leaves one behind where it has nothing to make it of.
                    Ok((stat, _)) if stat.size_bytes == 0 && name.ends_with(".bin") => continue,
                    Ok((stat, file)) => paged(kernel, file, stat).map_err(|errno| TreeError::File(name, errno))?,
                };
                let places = content.as_ref().and_then(|content| places(kernel, name, content));
                *table = Some(File { name, content, places });
                break;
            }
        }
        let mut region = kernel.allocate(CONFIG_BYTES).map_err(TreeError::Memory)?;
        let mut writer = Writer::new(region.as_mut());
        read_config(kernel, folder, config, &mut writer, tell);
        let config_bytes = writer.finish().files.len();
        Ok(Tree { folder: folder.clone(), tables, config: region, config_bytes })
    }

    /// The tree's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it says which files there are.
    pub fn is_indexed(&self) -> bool {
        self.tables[0].is_some()
    }

    /// What the files of configuration say, and `cmdline`, which is that of [`Config`].
    pub fn config<'t>(&'t self, cmdline: &'t str) -> Config<'t> {
        let files = self.config.as_ref().get(..self.config_bytes).unwrap_or_default();
        Config { files: core::str::from_utf8(files).unwrap_or_default(), cmdline }
    }

    /// The table of [`FILES`], if the tree has it.
    fn table(&self, at: usize) -> Option<Table<'_>> {
        self.tables[at].as_ref().map(|File { name, content, places }| {
            let content: &dyn Pages = content.as_ref().map_or(&[0; 0], |paged| paged);
            match places {
                _ if name.ends_with(".bin") => Table::binary(name, content),
                Some(places) => Table::text(name, content).with_places(places.as_ref()),
                None => Table::text(name, content),
            }
        })
    }

    /// Hands the file of each module that exports `symbol` to `each`, as far as the indexes can be read.
    pub fn exporters(&self, symbol: &str, each: &mut dyn FnMut(&str)) {
        use crate::limits::INDEX_KEY_BYTES;
        let (Some(dep), Some(symbols)) = (self.table(0), self.table(2)) else { return };
        let mut key = heapless::String::<INDEX_KEY_BYTES>::new();
        if key.push_str("symbol:").and_then(|()| key.push_str(symbol)).is_err() {
            return;
        }
        for name in symbols.matches(&key).unwrap_or_default() {
            if let Ok(Some(line)) = dep.find(name) {
                each(super::dep::Files::of_line(line).target());
            }
        }
    }

    /// See [`plan()`]; `cmdline` is that of [`Config`]. With each step comes the configuration that its options are in.
    pub fn plan<'t>(
        &'t self, cmdline: &'t str, blacklists: Blacklists, name: &'t str,
        each: &mut dyn FnMut(Step<'t>, Config<'t>) -> bool,
    ) -> Result<(), PlanError> {
        let [dep, alias, symbols, builtin, builtin_alias] = [0, 1, 2, 3, 4].map(|at| self.table(at));
        let indexes = Indexes { dep, alias, symbols, builtin, builtin_alias };
        let config = self.config(cmdline);
        plan(indexes, config, blacklists, name, &mut |step| each(step, config))
    }
}

/// An index, to be read as it is needed; `None` for an empty one.
fn paged<K: Kernel>(kernel: &K, file: K::File, stat: Stat) -> Result<Option<K::Paged>, Errno> {
    match usize::try_from(stat.size_bytes).map_err(|_| Errno::EFBIG)? {
        0 => Ok(None),
        len => kernel.paged(file, len).map(Some),
    }
}

/// Where the lines of a text of paths are; `None` for another, and where that cannot be had: it is read from its start then.
fn places<K: Kernel>(kernel: &K, name: &str, content: &K::Paged) -> Option<K::Region> {
    if !matches!(name, "modules.dep" | "modules.builtin") {
        return None;
    }
    let len = Places::bytes_for(content).ok()?;
    let mut places = kernel.allocate(len).ok()?;
    Places::fill(content, places.as_mut().get_mut(..len)?).ok()?;
    Some(places)
}

/// Reads a file of configuration whole; `None` for an empty one. As for modprobe, one that leads to /dev/null takes the place of
/// others of its name; no other device is read either.
fn read<K: Kernel>(kernel: &K, path: &CStr) -> Result<Option<K::Region>, Errno> {
    let file = kernel.open(path)?;
    let stat = kernel.stat(&file)?;
    match usize::try_from(stat.size_bytes).map_err(|_| Errno::EFBIG)? {
        len if len > 0 && stat.kind == FileKind::Regular => {
            let mut region = kernel.allocate(len)?;
            match read_full_at(kernel, &file, &mut region.as_mut()[..len], 0) {
                Ok(read) if read == len => Ok(Some(region)),
                Ok(_) => Err(Errno::EIO),
                Err(error) => Err(error),
            }
        }
        _ => Ok(None),
    }
}

/// Whether a file of this name in a folder of modprobe.d is one of configuration.
pub fn is_config(name: &str) -> bool {
    name.ends_with(".conf") && !name.starts_with(".")
}

/// Reads all files of configuration, sorted by their names.
fn read_config<K: Kernel>(
    kernel: &K, tree: &Path, folders: &[&CStr], writer: &mut Writer, tell: &mut dyn FnMut(&str, usize, ConfigError),
) {
    // There are few, and to look for the next one each time takes no memory for their names.
    let mut last = FileName::new();
    loop {
        let mut next: Option<(FileName, Path)> = None;
        let mut consider = |folder: &CStr, name: &str| {
            let is_next = name > last.as_str() && next.as_ref().is_none_or(|(next, _)| name < next.as_str());
            if is_next
                && let Ok(name) = FileName::try_from(name)
                && let Some(path) = path::joined(&[folder.to_bytes(), b"/", name.as_bytes()])
                && is_there(kernel, &path)
            {
                next = Some((name, path));
            }
        };
        OWN_CONFIG.iter().for_each(|name| consider(tree, name));
        for folder in folders {
            let listed = kernel.list(folder, &mut |name| {
                if is_config(name) {
                    consider(folder, name);
                }
            });
            // A folder that is not there has no files.
            if let Err(errno) = listed
                && !matches!(errno, Errno::ENOENT | Errno::ENOTDIR)
            {
                tell(shown(folder), 0, ConfigError::Read(errno));
            }
        }
        let Some((name, path)) = next else { return };
        let file = shown(&path);
        match read(kernel, &path) {
            Ok(None) => {}
            Ok(Some(region)) => writer.file(region.as_ref(), &mut |number, error| tell(file, number, error)),
            Err(errno) => tell(file, 0, ConfigError::Read(errno)),
        }
        last = name;
    }
}

/// Whether there is something to read, or that fails in a way to be told.
fn is_there<K: Kernel>(kernel: &K, path: &CStr) -> bool {
    match kernel.open(path).and_then(|file| kernel.stat(&file)) {
        Ok(stat) => stat.kind != FileKind::Directory,
        Err(errno) => errno != Errno::ENOENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use crate::resolve::config::lines_of;
    use crate::resolve::plan::Action;

    fn open(fake: &Fake) -> (Tree<Fake>, Vec<String>) {
        let mut told = Vec::new();
        let mut tell = |file: &str, number: usize, error: ConfigError| told.push(format!("{file}:{number}: {error}"));
        let tree = Tree::open(fake, &path::joined(&[b"/t"]).unwrap(), &[c"/etc/m", c"/lib/m"], &mut tell).unwrap();
        (tree, told)
    }

    #[test]
    fn configuration_is_read_by_names_and_the_first_folder_counts() {
        let fake = Fake::default()
            .with_file("/t/modules.softdep", b"softdep a pre: b\n")
            .with_file("/lib/m/a.conf", b"options a x=1\noops\n")
            .with_file("/lib/m/z.conf", b"options a x=4\n")
            .with_file("/etc/m/z.conf", b"options a x=3\n")
            .with_file("/etc/m/n.conf", b"\xff")
            .with_file("/etc/m/.b.conf", b"options a x=2\n")
            .with_file("/etc/m/b", b"options a x=2\n");
        let (tree, told) = open(&fake);
        assert_eq!(lines_of(tree.config("").files), "options a x=1\nsoftdep a pre: b\noptions a x=3\n");
        assert_eq!(told, ["/lib/m/a.conf:2: not a command of modprobe.d, or incomplete", "/etc/m/n.conf:1: not UTF-8"]);
        let line = format!("options a {}\n", "x".repeat(CONFIG_BYTES / 2 - 1));
        let (tree, told) = open(&fake.with_file("/etc/m/b.conf", line.repeat(2).as_bytes()));
        assert_eq!(
            told[1..3],
            ["/etc/m/b.conf:2: the configuration is over CONFIG_BYTES".to_string(), told[2].clone()]
        );
        assert!(lines_of(tree.config("").files).ends_with("x=3\n"));
    }

    #[test]
    fn a_binary_index_comes_before_its_text_and_damage_is_named() {
        let fake =
            Fake::default().with_file("/t/modules.dep", b"a.ko: b.ko\nb.ko:\n").with_file("/t/modules.alias", b"");
        let plan = |fake: &Fake| {
            let mut steps = Vec::new();
            let (tree, _) = open(fake);
            assert!(tree.is_indexed());
            let planned = tree.plan("", Blacklists::All, "a", &mut |step, _| {
                steps.push(matches!(step.action, Action::Load(file) if file == format!("{}.ko", step.module.name)));
                true
            });
            planned.map(|()| steps)
        };
        assert_eq!(plan(&fake), Ok(vec![true, true]));
        let error = plan(&fake.with_file("/t/modules.dep.bin", b"a.ko:")).unwrap_err();
        assert_eq!(error.to_string(), "modules.dep.bin: it is not a binary index of depmod");
        assert!(!open(&Fake::default()).0.is_indexed());
        // depmod leaves empty ones behind.
        let fake = Fake::default().with_file("/t/modules.dep", b"a.ko: b.ko\nb.ko:\n");
        let fake = fake.with_file("/t/modules.dep.bin", b"").with_file("/t/modules.builtin.bin", b"");
        assert_eq!(plan(&fake), Ok(vec![true, true]));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let fake = Fake::default()
            .with_file("/etc/m/a.conf", &[b'#'; 100])
            .reading_at_most(40)
            .failing_read_after(50, Errno::EIO);
        assert_eq!(open(&fake).1, ["/etc/m/a.conf:0: EIO: the file cannot be read"]);
    }
}
