//! From what an entry names to the files to load, in order.
//!
//! A path is itself. A name is looked up in the tree's `modules.dep` (modules.dep(5)), its dependencies first. Aliases,
//! soft dependencies and modprobe.d are not looked at.

use core::fmt;

use crate::Path;
use crate::errno::Errno;
use crate::image::Format;
use crate::kernel::Kernel;
use crate::limits::{LINE_BYTES, PATH_BYTES};
use crate::lines::{LineError, Lines};
use crate::name::{self, Name};
use crate::text;

pub mod config;
pub mod index;
pub mod plan;

/// The folder that names and relative paths are looked up in.
#[derive(Clone, Debug, Default)]
pub enum Root {
    /// That of the running kernel, then `/`.
    #[default]
    Running,
    /// What `@root` says.
    Given(Path),
}

/// What an entry comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved<'b> {
    /// The module is part of the kernel.
    Builtin,
    /// Files to load.
    Files(Plan<'b>),
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
    /// No folder has such a module; whether any of them had a `modules.dep`.
    NotFound {
        /// Whether there was an index to look in.
        indexed: bool,
    },
    /// `modules.dep` or `modules.builtin` cannot be read.
    Index(Errno),
    /// The module's line in `modules.dep` is over [`LINE_BYTES`].
    LongLine,
    /// A path is over [`PATH_BYTES`].
    LongPath,
    /// This build has no feature `names`.
    Name,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResolveError::NotFound { indexed: true } => {
                f.write_str("no module of that name in modules.dep or modules.builtin")
            }
            ResolveError::NotFound { indexed: false } => {
                f.write_str("no file of that name, and no modules.dep to look it up in (depmod makes one)")
            }
            ResolveError::Index(errno) => write!(f, "{errno}: modules.dep or modules.builtin cannot be read"),
            ResolveError::LongLine => write!(f, "a line of modules.dep is over LINE_BYTES, {LINE_BYTES}"),
            ResolveError::Name => f.write_str("a name, and this build takes only paths"),
            ResolveError::LongPath => write!(f, "a path is over PATH_BYTES, {PATH_BYTES}"),
        }
    }
}

/// A line of an index, kept while its plan is carried out.
pub type Buffer = heapless::String<LINE_BYTES>;

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

/// Finds the files of `module`, a path or a name: see [`path`] and [`name()`], which differ in what they need.
pub fn resolve<'b, K: Kernel>(
    kernel: &K, root: &Root, module: &'b str, folder: &mut Path, buf: &'b mut Buffer,
) -> Result<Resolved<'b>, ResolveError> {
    match path(kernel, root, module, folder)? {
        Some(plan) => Ok(Resolved::Files(plan)),
        None => name(kernel, root, module, folder, buf),
    }
}

/// Finds the file of `module`, and leaves in `folder` the one that a relative path is in; `None` for a name.
pub fn path<'b, K: Kernel>(
    kernel: &K, root: &Root, module: &'b str, folder: &mut Path,
) -> Result<Option<Plan<'b>>, ResolveError> {
    let here = Ok(Some(Plan { target: module, dependencies: "" }));
    if module.bytes().all(|b| b != b'/') {
        return Ok(None);
    }
    if module.starts_with("/") {
        return here;
    }
    let mut found = false;
    each_folder(kernel, root, folder, &mut |folder| {
        // With a root given, a missing file is found out by loading it, without a call more.
        found = matches!(root, Root::Given(_)) || is_in(kernel, folder, module)?;
        Ok(found)
    })?;
    if found { here } else { Err(ResolveError::NotFound { indexed: true }) }
}

/// Finds the files of the module `name`, and leaves in `folder` the one that they are in.
pub fn name<'b, K: Kernel>(
    kernel: &K, root: &Root, name: &str, folder: &mut Path, buf: &'b mut Buffer,
) -> Result<Resolved<'b>, ResolveError> {
    let name = name::of(name);
    let mut indexed = false;
    let mut resolved = None;
    each_folder(kernel, root, folder, &mut |folder| {
        match index_line(kernel, folder, "modules.dep", name, buf)? {
            Lookup::Found => {
                resolved = Some(Found::Line);
                return Ok(true);
            }
            Lookup::Absent => indexed = true,
            Lookup::NoIndex => {
                for format in [Format::Plain, Format::Gzip, Format::Xz, Format::Zstd] {
                    buf.clear();
                    for part in [name.0, ".ko", format.ending()] {
                        buf.push_str(part).map_err(|_| ResolveError::LongPath)?;
                    }
                    if is_in(kernel, folder, buf)? {
                        resolved = Some(Found::Line);
                        return Ok(true);
                    }
                }
            }
        }
        if index_line(kernel, folder, "modules.builtin", name, buf)? == Lookup::Found {
            resolved = Some(Found::Builtin);
        }
        Ok(resolved.is_some())
    })?;
    match resolved {
        Some(Found::Line) => Ok(Resolved::Files(Plan::of_line(buf))),
        Some(Found::Builtin) => Ok(Resolved::Builtin),
        None => Err(ResolveError::NotFound { indexed }),
    }
}

enum Found {
    /// The buffer has it, as in `modules.dep`.
    Line,
    Builtin,
}

/// Tries the folders of `root` until `is_it`, and leaves the last one tried in `folder`.
fn each_folder<K: Kernel>(
    kernel: &K, root: &Root, folder: &mut Path, is_it: &mut dyn FnMut(&Path) -> Result<bool, ResolveError>,
) -> Result<(), ResolveError> {
    let mut release = [0; 65];
    let (given, running): ([&[u8]; 1], [&[u8]; 2]);
    let folders: &[&[&[u8]]] = match root {
        Root::Given(path) => {
            given = [path.as_bytes()];
            &[&given]
        }
        Root::Running => {
            let release = kernel.release(&mut release).map_err(ResolveError::Index)?;
            running = [b"/lib/modules/", release.as_bytes()];
            &[&running, &[b"/"]]
        }
    };
    for parts in folders {
        *folder = crate::path(parts).ok_or(ResolveError::LongPath)?;
        if is_it(folder)? {
            break;
        }
    }
    Ok(())
}

#[derive(PartialEq)]
enum Lookup {
    Found,
    Absent,
    NoIndex,
}

/// Leaves in `buf` the line of `folder`'s index `file` whose path, up to `:`, is that of the module `name`.
#[inline(never)]
fn index_line<K: Kernel>(
    kernel: &K, folder: &Path, file: &str, name: Name, buf: &mut Buffer,
) -> Result<Lookup, ResolveError> {
    let file = match kernel.open(&absolute(folder, file)?) {
        Err(Errno::ENOENT) => return Ok(Lookup::NoIndex),
        opened => opened.map_err(ResolveError::Index)?,
    };
    let mut line_buf = [0; LINE_BYTES];
    let mut lines = Lines::new(kernel, file, &mut line_buf);
    while let Some((_, line)) = lines.next_line() {
        let line = match line {
            Ok(line) => core::str::from_utf8(line).unwrap_or_default(),
            Err(LineError::TooLong) => return Err(ResolveError::LongLine),
            Err(LineError::Read(errno)) => return Err(ResolveError::Index(errno)),
        };
        if name::of(Plan::of_line(line).target) == name {
            buf.clear();
            buf.push_str(line).map_err(|_| ResolveError::LongLine)?;
            return Ok(Lookup::Found);
        }
    }
    Ok(Lookup::Absent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    const DEP: &[u8] = b"kernel/fs/mbcache.ko.xz:\n\
        kernel/fs/jbd2/jbd2.ko.xz: kernel/lib/crc.ko.xz\n\
        kernel/fs/ext4/ext4.ko.xz: kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc.ko.xz\n\
        kernel/drivers/virtio/virtio-mmio.ko.xz:\n";

    fn tree() -> Fake {
        Fake::default()
            .with_file("/lib/modules/6.1.0-test/modules.dep", DEP)
            .with_file("/lib/modules/6.1.0-test/modules.builtin", b"kernel/fs/binfmt_script.ko\n")
            .with_file("/zram.ko.gz", b"")
    }

    fn given(path: &str) -> Root {
        Root::Given(crate::path(&[path.as_bytes()]).unwrap())
    }

    fn files(kernel: &Fake, root: &Root, module: &str) -> Result<Vec<String>, ResolveError> {
        let (mut folder, mut buf) = (Path::new(), Buffer::new());
        let Resolved::Files(plan) = resolve(kernel, root, module, &mut folder, &mut buf)? else {
            return Ok(vec!["built in".into()]);
        };
        let absolute = |file| absolute(&folder, file).unwrap().to_str().unwrap().to_string();
        Ok(plan.dependencies().chain([plan.target()]).map(absolute).collect())
    }

    #[test]
    fn a_name_brings_its_dependencies_first() {
        let in_tree = |file| format!("/lib/modules/6.1.0-test/kernel/{file}");
        let ext4 = ["lib/crc.ko.xz", "fs/jbd2/jbd2.ko.xz", "fs/mbcache.ko.xz", "fs/ext4/ext4.ko.xz"].map(in_tree);
        assert_eq!(files(&tree(), &Root::Running, "ext4").unwrap(), ext4);
        assert_eq!(files(&tree(), &given("/lib/modules/6.1.0-test"), "ext4.ko").unwrap(), ext4);
        for name in ["virtio_mmio", "virtio-mmio", "virtio_mmio.ko.gz"] {
            assert_eq!(files(&tree(), &Root::Running, name).unwrap(), [in_tree("drivers/virtio/virtio-mmio.ko.xz")]);
        }
        assert_eq!(files(&tree(), &Root::Running, "binfmt-script").unwrap(), ["built in"]);
        assert_eq!(files(&tree(), &Root::Running, "zram").unwrap(), ["/zram.ko.gz"]);
    }

    #[test]
    fn a_path_is_itself() {
        assert_eq!(files(&tree(), &Root::Running, "/x/y.ko").unwrap(), ["/x/y.ko"]);
        assert_eq!(files(&tree(), &given("/r"), "x/y.ko").unwrap(), ["/r/x/y.ko"]);
        let tree = tree().with_file("/x/y.ko", b"");
        assert_eq!(files(&tree, &Root::Running, "x/y.ko").unwrap(), ["/x/y.ko"]);
        assert_eq!(files(&tree, &Root::Running, "x/z.ko"), Err(ResolveError::NotFound { indexed: true }));
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert_eq!(files(&tree(), &Root::Running, "xfs"), Err(ResolveError::NotFound { indexed: true }));
        assert_eq!(files(&tree(), &given("/r"), "xfs"), Err(ResolveError::NotFound { indexed: false }));
        let long = [b"kernel/a.ko: ", &[b'x'; LINE_BYTES][..]].concat();
        let tree = Fake::default().with_file("/r/modules.dep", &long);
        assert_eq!(files(&tree, &given("/r"), "a"), Err(ResolveError::LongLine));
        assert_eq!(files(&tree, &given(&format!("/{}", "x".repeat(505))), "a"), Err(ResolveError::LongPath));
    }
}
