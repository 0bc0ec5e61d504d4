//! From what an entry names to the files to load, in order.
//!
//! A path is itself. For a name or an alias, [`tree`] has what depmod and modprobe.d(5) say, and [`plan`] makes of it the answer
//! that modprobe would give; [`index`], [`table`] and [`config`] are what these read.

use core::fmt;

use crate::errno::Errno;
#[cfg(feature = "names")]
use crate::format::Format;
use crate::kernel::Kernel;
use crate::limits::PATH_BYTES;
#[cfg(feature = "names")]
use crate::name::{self, Name};
#[cfg(feature = "names")]
use crate::path::FileName;
use crate::path::{self, Path};

#[cfg(feature = "names")]
pub mod config;
#[cfg(feature = "names")]
pub mod dep;
#[cfg(feature = "names")]
pub mod devices;
#[cfg(feature = "names")]
pub mod index;
#[cfg(feature = "names")]
pub mod pattern;
#[cfg(feature = "names")]
pub mod plan;
#[cfg(feature = "names")]
pub mod stems;
#[cfg(feature = "names")]
pub mod table;
#[cfg(feature = "names")]
pub mod tree;

// A build that takes only paths has no such errors.
#[cfg(not(feature = "names"))]
pub use core::convert::{Infallible as PlanError, Infallible as TreeError};
#[cfg(feature = "names")]
pub use plan::PlanError;
#[cfg(feature = "names")]
pub use tree::{Tree, TreeError};

/// The folder that names and relative paths are looked up in.
#[derive(Clone, Debug, Default)]
pub enum SearchRoot {
    /// That of the running kernel, then `/`.
    #[default]
    Running,
    /// What `@root` says.
    Given(Path),
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
    /// This takes the feature `names`, which this build lacks.
    Name(&'static str),
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResolveError::NotFound { indexed: true } => {
                f.write_str("the tree's indexes have no module and no alias of that name")
            }
            ResolveError::NotFound { indexed: false } => {
                f.write_str("there is no file of that name, and no modules.dep to look it up in: run depmod")
            }
            ResolveError::Plan(error) => error.fmt(f),
            ResolveError::Tree(error) => error.fmt(f),
            ResolveError::Release(errno) => write!(f, "{errno}: the kernel does not report its release"),
            ResolveError::Name(what) => {
                write!(f, "{what}, and this build takes only paths: it lacks the feature names")
            }
            ResolveError::LongPath => {
                write!(f, "a path is over PATH_BYTES, {PATH_BYTES}")
            }
        }
    }
}

/// The absolute path of `file`, a path of a [`dep::Files`], with the root it was found under.
pub fn absolute(root: &Path, file: &str) -> Result<Path, ResolveError> {
    let parts: &[&[u8]] = match (file.starts_with("/"), root.as_bytes()) {
        (true, _) => &[file.as_bytes()],
        (false, b"/") => &[b"/", file.as_bytes()],
        (false, root) => &[root, b"/", file.as_bytes()],
    };
    path::joined(parts).ok_or(ResolveError::LongPath)
}

/// Whether there is a `file` to open in `folder`.
fn is_in<K: Kernel>(kernel: &K, folder: &Path, file: &str) -> Result<bool, ResolveError> {
    Ok(kernel.open(&absolute(folder, file)?).is_ok())
}

/// The folder that a path is in: empty for an absolute one; `None` for a name.
pub fn folder_of<K: Kernel>(kernel: &K, root: &SearchRoot, module: &str) -> Result<Option<Path>, ResolveError> {
    if module.bytes().all(|b| b != b'/') {
        return Ok(None);
    }
    if module.starts_with("/") {
        return Ok(Some(Path::new()));
    }
    match root {
        // A missing file is found out by loading it, without a call more.
        SearchRoot::Given(root) => Ok(Some(root.clone())),
        SearchRoot::Running => default_folder_of(kernel, module).map(Some),
    }
}

/// The folder of the default root that has the file `module`; where none has it, the first.
fn default_folder_of<K: Kernel>(kernel: &K, module: &str) -> Result<Path, ResolveError> {
    let folder = tree_folder(kernel, &SearchRoot::Running)?;
    let is_elsewhere = !is_in(kernel, &folder, module)? && is_in(kernel, &slash(), module)?;
    Ok(if is_elsewhere { slash() } else { folder })
}

/// The folder that is `root`, or where that is the default, of the running kernel's tree.
pub fn tree_folder<K: Kernel>(kernel: &K, root: &SearchRoot) -> Result<Path, ResolveError> {
    match root {
        SearchRoot::Given(path) => Ok(path.clone()),
        SearchRoot::Running => {
            let mut release = [0; 65];
            let release = kernel.release(&mut release).map_err(ResolveError::Release)?;
            path::joined(&[b"/lib/modules/", release.as_bytes()]).ok_or(ResolveError::LongPath)
        }
    }
}

fn slash() -> Path {
    path::joined(&[b"/"]).unwrap_or_default()
}

/// The folders that [`file_named`] looks into.
#[cfg(feature = "names")]
pub fn folders_of(root: &SearchRoot, tree: Option<Path>) -> impl Iterator<Item = Path> + use<> {
    tree.into_iter().chain(matches!(root, SearchRoot::Running).then(slash))
}

/// Finds a file of the module `name` where no index says which files there are: in the folder of `tree`, if it is given, and
/// where `root` is the default in `/`. The folder that it is in, and its name; a plain file comes first.
#[cfg(feature = "names")]
pub fn file_named<K: Kernel>(
    kernel: &K, root: &SearchRoot, tree: Option<Path>, name: &str,
) -> Option<(Path, FileName)> {
    folders_of(root, tree).find_map(|folder| {
        let mut best: Option<(Format, FileName)> = None;
        // A folder that cannot be listed has nothing to offer.
        let _ = kernel.list(&folder, &mut |file| {
            if let Some((stem, format)) = name::strip_ko(file)
                && Name(stem) == Name(name)
                && best.as_ref().is_none_or(|(best, _)| format < *best)
                && let Ok(file) = FileName::try_from(file)
            {
                best = Some((format, file));
            }
        });
        best.map(|(_, file)| (folder, file))
    })
}

/// Of a tree whose folder is not there, that folder, and another kernel's beside it, if there is one.
#[cfg(feature = "names")]
pub fn missing_tree<K: Kernel>(kernel: &K, root: &SearchRoot) -> Option<(Path, FileName)> {
    let folder = tree_folder(kernel, root).ok()?;
    if kernel.exists(&folder) || !matches!(root, SearchRoot::Running) {
        return None;
    }
    let mut other = FileName::new();
    let _ = kernel.list(c"/lib/modules", &mut |name| {
        if other.is_empty() && !name.starts_with(".") {
            let _ = other.push_str(name);
        }
    });
    Some((folder, other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    fn given(path: &str) -> SearchRoot {
        SearchRoot::Given(path::joined(&[path.as_bytes()]).unwrap())
    }

    fn found(kernel: &Fake, root: &SearchRoot, module: &str) -> Result<Option<String>, ResolveError> {
        let folder = folder_of(kernel, root, module)?;
        Ok(folder.map(|folder| absolute(&folder, module).unwrap().to_str().unwrap().to_string()))
    }

    #[test]
    fn a_path_is_itself() {
        let fake = Fake::default();
        assert_eq!(found(&fake, &SearchRoot::Running, "/x/y.ko"), Ok(Some("/x/y.ko".into())));
        assert_eq!(found(&fake, &given("/r"), "x/y.ko"), Ok(Some("/r/x/y.ko".into())));
        assert_eq!(found(&fake, &given("/r"), "y.ko"), Ok(None));
        let fake = fake.with_file("/x/y.ko", b"").with_file("/lib/modules/6.1.0-test/x/z.ko", b"");
        assert_eq!(found(&fake, &SearchRoot::Running, "x/y.ko"), Ok(Some("/x/y.ko".into())));
        assert_eq!(found(&fake, &SearchRoot::Running, "x/z.ko"), Ok(Some("/lib/modules/6.1.0-test/x/z.ko".into())));
        assert_eq!(found(&fake, &SearchRoot::Running, "x/a.ko"), Ok(Some("/lib/modules/6.1.0-test/x/a.ko".into())));
        let long = given(&format!("/{}", "x".repeat(505)));
        assert_eq!(is_in(&fake, &tree_folder(&fake, &long).unwrap(), "a/b.ko"), Err(ResolveError::LongPath));
    }

    #[test]
    fn a_name_is_a_file_where_there_is_no_index() {
        let fake = Fake::default().with_file("/t/snd-a.ko.xz", b"").with_file("/b.ko", b"");
        let fake = fake.with_file("/t/nls_utf8.ko.gz", b"").with_file("/t/nls_utf8.ko", b"");
        let tree = path::joined(&[b"/t"]).unwrap();
        let named = |root: &SearchRoot, tree: Option<&Path>, name| {
            let (folder, file) = file_named(&fake, root, tree.cloned(), name)?;
            Some(format!("{} {file}", folder.to_str().unwrap()))
        };
        assert_eq!(named(&given("/t"), Some(&tree), "snd-a"), Some("/t snd-a.ko.xz".into()));
        assert_eq!(named(&given("/t"), Some(&tree), "b"), None);
        assert_eq!(named(&SearchRoot::Running, None, "b"), Some("/ b.ko".into()));
        assert_eq!(named(&SearchRoot::Running, None, "snd-a"), None);
        // However the name is written, as modprobe has it; a plain file first.
        assert_eq!(named(&given("/t"), Some(&tree), "snd_a"), Some("/t snd-a.ko.xz".into()));
        assert_eq!(named(&given("/t"), Some(&tree), "nls-utf8"), Some("/t nls_utf8.ko".into()));
    }
}
