//! From what an entry names to the files to load, in order.
//!
//! A path is itself. For a name or an alias, [`tree`] has what depmod and modprobe.d(5) say, and [`plan`] makes of it the answer
//! that modprobe would give; [`index`], [`table`] and [`config`] are what these read.

use core::fmt;

use crate::Path;
use crate::errno::Errno;
use crate::format::Format;
use crate::kernel::Kernel;
use crate::limits::{FILE_NAME_BYTES, PATH_BYTES};
use crate::text;

pub mod config;
pub mod devices;
pub mod index;
pub mod pattern;
pub mod plan;
pub mod table;
pub mod tree;

pub use plan::PlanError;
pub use tree::{Tree, TreeError};

/// A file's name in its folder.
pub type FileName = heapless::String<FILE_NAME_BYTES>;

/// The folder that names and relative paths are looked up in.
#[derive(Clone, Debug, Default)]
pub enum Root {
    /// That of the running kernel, then `/`.
    #[default]
    Running,
    /// What `@root` says.
    Given(Path),
}

/// The files to load for one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan<'b> {
    target: &'b str,
    /// As in `modules.dep`: what is needed first stands last.
    dependencies: &'b str,
}

impl<'b> Plan<'b> {
    /// What a line of `modules.dep` says (modules.dep(5)); one without a `:` is a path alone.
    pub fn of_line(line: &'b str) -> Self {
        let (target, dependencies) = text::split_once(line, b':').unwrap_or((line, ""));
        Plan { target, dependencies }
    }

    /// The files that the target needs, in the order to load them.
    pub fn dependencies(self) -> impl Iterator<Item = &'b str> {
        let mut rest = self.dependencies.trim_ascii();
        core::iter::from_fn(move || {
            let (before, last) = text::rsplit_once(rest, b' ').unwrap_or(("", rest));
            rest = before.trim_ascii_end();
            (!last.is_empty()).then_some(last)
        })
    }

    /// The file that the entry names.
    pub fn target(self) -> &'b str {
        self.target
    }
}

/// Why an entry comes to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// No folder has such a module; whether there was an index to look in.
    NotFound {
        /// Whether there was.
        indexed: bool,
    },
    /// There is no plan, though there may be a module.
    Plan(PlanError),
    /// The tree cannot be used.
    Tree(TreeError),
    /// The running kernel's release is not known.
    Release(Errno),
    /// A path is over [`PATH_BYTES`].
    LongPath,
    /// This build has no feature `names`.
    Name,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResolveError::NotFound { indexed: true } => {
                f.write_str("no module and no alias of that name in the tree's indexes")
            }
            ResolveError::NotFound { indexed: false } => {
                f.write_str("no file of that name, and no modules.dep to look it up in (depmod makes one)")
            }
            // Without names there are no such errors.
            ResolveError::Plan(_) | ResolveError::Tree(_) if !cfg!(feature = "names") => Ok(()),
            ResolveError::Plan(error) => error.fmt(f),
            ResolveError::Tree(TreeError::File(file, errno)) => write!(f, "{file}: {errno}: it cannot be read"),
            ResolveError::Tree(TreeError::NotAFile(file)) => {
                write!(f, "{file}: it is a directory, device, FIFO or socket")
            }
            ResolveError::Tree(TreeError::Memory(errno)) => write!(f, "{errno}: no memory for the configuration"),
            ResolveError::Release(errno) => write!(f, "{errno}: the kernel does not tell its release"),
            ResolveError::Name => f.write_str("a name, and this build takes only paths"),
            ResolveError::LongPath | ResolveError::Tree(TreeError::LongPath) => {
                write!(f, "a path is over PATH_BYTES, {PATH_BYTES}")
            }
        }
    }
}

/// The absolute path of `file`, a path of a [`Plan`], with the root it was found under.
pub fn absolute(root: &Path, file: &str) -> Result<Path, ResolveError> {
    let parts: &[&[u8]] = match (file.starts_with("/"), root.as_bytes()) {
        (true, _) => &[file.as_bytes()],
        (false, b"/") => &[b"/", file.as_bytes()],
        (false, root) => &[root, b"/", file.as_bytes()],
    };
    crate::path(parts).ok_or(ResolveError::LongPath)
}

/// Whether there is a `file` to open in `folder`.
fn is_in<K: Kernel>(kernel: &K, folder: &Path, file: &str) -> Result<bool, ResolveError> {
    Ok(kernel.open(&absolute(folder, file)?).is_ok())
}

/// Finds the file of `module`, and leaves in `folder` the one that a relative path is in; `false` for a name.
pub fn path<K: Kernel>(kernel: &K, root: &Root, module: &str, folder: &mut Path) -> Result<bool, ResolveError> {
    if module.bytes().all(|b| b != b'/') {
        return Ok(false);
    }
    if module.starts_with("/") {
        return Ok(true);
    }
    match root {
        // A missing file is found out by loading it, without a call more.
        Root::Given(root) => folder.clone_from(root),
        Root::Running => relative_to_default(kernel, module, folder)?,
    }
    Ok(true)
}

/// Leaves in `folder` the one of the default root that has the file `module`.
#[cfg_attr(feature = "names", inline(never))]
fn relative_to_default<K: Kernel>(kernel: &K, module: &str, folder: &mut Path) -> Result<(), ResolveError> {
    let mut release = [0; 65];
    let release = kernel.release(&mut release).map_err(ResolveError::Release)?;
    let folders: [&[&[u8]]; 2] = [&[b"/lib/modules/", release.as_bytes()], &[b"/"]];
    for parts in folders {
        *folder = crate::path(parts).ok_or(ResolveError::LongPath)?;
        if is_in(kernel, folder, module)? {
            return Ok(());
        }
    }
    Err(ResolveError::NotFound { indexed: true })
}

/// The folder that is `root`, or where that is the default, of the running kernel's tree.
pub fn tree_folder<K: Kernel>(kernel: &K, root: &Root) -> Result<Path, ResolveError> {
    match root {
        Root::Given(path) => Ok(path.clone()),
        Root::Running => {
            let mut release = [0; 65];
            let release = kernel.release(&mut release).map_err(ResolveError::Release)?;
            crate::path(&[b"/lib/modules/", release.as_bytes()]).ok_or(ResolveError::LongPath)
        }
    }
}

fn slash() -> Path {
    crate::path(&[b"/"]).unwrap_or_default()
}

/// Finds a file of the module `name` where no index says which files there are: in the folder of `tree`, if it is given, and
/// where `root` is the default in `/`. Leaves there the folder that it is in.
pub fn file_named<K: Kernel>(
    kernel: &K, root: &Root, tree: Option<&Path>, name: &str, folder: &mut Path,
) -> Result<Option<FileName>, ResolveError> {
    let rest = matches!(root, Root::Running).then(slash);
    for candidate in tree.into_iter().chain(&rest) {
        for format in [Format::Plain, Format::Gzip, Format::Xz, Format::Zstd] {
            let mut file = FileName::new();
            for part in [name, ".ko", format.ending()] {
                file.push_str(part).map_err(|_| ResolveError::LongPath)?;
            }
            if is_in(kernel, candidate, &file)? {
                folder.clone_from(candidate);
                return Ok(Some(file));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    fn given(path: &str) -> Root {
        Root::Given(crate::path(&[path.as_bytes()]).unwrap())
    }

    fn found(kernel: &Fake, root: &Root, module: &str) -> Result<Option<String>, ResolveError> {
        let mut folder = Path::new();
        let is_path = path(kernel, root, module, &mut folder)?;
        Ok(is_path.then(|| absolute(&folder, module).unwrap().to_str().unwrap().to_string()))
    }

    #[test]
    fn a_path_is_itself() {
        let fake = Fake::default();
        assert_eq!(found(&fake, &Root::Running, "/x/y.ko"), Ok(Some("/x/y.ko".into())));
        assert_eq!(found(&fake, &given("/r"), "x/y.ko"), Ok(Some("/r/x/y.ko".into())));
        assert_eq!(found(&fake, &given("/r"), "y.ko"), Ok(None));
        let fake = fake.with_file("/x/y.ko", b"").with_file("/lib/modules/6.1.0-test/x/z.ko", b"");
        assert_eq!(found(&fake, &Root::Running, "x/y.ko"), Ok(Some("/x/y.ko".into())));
        assert_eq!(found(&fake, &Root::Running, "x/z.ko"), Ok(Some("/lib/modules/6.1.0-test/x/z.ko".into())));
        assert_eq!(found(&fake, &Root::Running, "x/a.ko"), Err(ResolveError::NotFound { indexed: true }));
        let long = given(&format!("/{}", "x".repeat(505)));
        assert_eq!(is_in(&fake, &tree_folder(&fake, &long).unwrap(), "a/b.ko"), Err(ResolveError::LongPath));
    }

    #[test]
    fn a_name_is_a_file_where_there_is_no_index() {
        let fake = Fake::default().with_file("/t/snd-a.ko.xz", b"").with_file("/b.ko", b"");
        let tree = crate::path(&[b"/t"]).unwrap();
        let named = |root: &Root, tree: Option<&Path>, name| {
            let mut folder = Path::new();
            let file = file_named(&fake, root, tree, name, &mut folder).unwrap()?;
            Some(format!("{} {file}", folder.to_str().unwrap()))
        };
        assert_eq!(named(&given("/t"), Some(&tree), "snd-a"), Some("/t snd-a.ko.xz".into()));
        assert_eq!(named(&given("/t"), Some(&tree), "b"), None);
        assert_eq!(named(&Root::Running, None, "b"), Some("/ b.ko".into()));
        assert_eq!(named(&Root::Running, None, "snd-a"), None);
    }

    #[test]
    fn a_line_of_modules_dep_is_a_plan() {
        let files = |line| {
            let plan = Plan::of_line(line);
            plan.dependencies().chain([plan.target()]).map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(files("k/a.ko: k/b.ko  k/c.ko "), ["k/c.ko", "k/b.ko", "k/a.ko"]);
        assert_eq!((files("a.ko:"), files("a.ko")), (vec!["a.ko".into()], vec!["a.ko".into()]));
    }
}
