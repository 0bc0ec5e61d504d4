//! Entries that mean several modules: a folder, a pattern of paths, or dracut's `=FOLDER`; and lines of a list that a tree
//! lacks a module for.

use std::fmt;

use anyhow::{Context, Error, Result, bail};
use modest_loader::name::{self, Name};

use crate::kernel::Tree;
use crate::words::did_you_mean;

/// A module that the tree does not have; what to report of it.
#[derive(Debug)]
pub(crate) struct Missing(pub String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// Whether an entry may mean several modules of the tree.
pub(crate) fn means_several(tree: &Tree, what: &str) -> bool {
    what.starts_with('=') || what.contains('/') && (what.contains(['*', '?', '[']) || tree.dir.join(what).is_dir())
}

/// The names of those modules of `known`, paths below the tree, that `what` means: `=FOLDER` those below that folder of
/// `kernel` (dracut.conf(5), add_drivers), a folder those below it, a pattern those whose paths match it.
pub(crate) fn matching(tree: &Tree, known: &[String], what: &str) -> Result<Vec<String>> {
    let below = what.strip_prefix(&format!("{}/", tree.target_dir())).unwrap_or(what);
    let below = below.strip_prefix('=').map_or(below.to_string(), |folder| format!("kernel/{folder}"));
    let below = below.trim_end_matches('/');
    let pattern = glob::Pattern::new(below).with_context(|| what.to_string())?;
    // A path may be written without the ending of a compression.
    let plain = |path: &str| name::strip_ko(path).map(|(stem, _)| format!("{stem}.ko")).unwrap_or_default();
    let is_inside = |path: &str| path.strip_prefix(below).is_some_and(|rest| rest.starts_with('/'));
    let is_it = |path: &&String| is_inside(path) || pattern.matches(path) || pattern.matches(&plain(path));
    let found: Vec<_> = known.iter().filter(is_it).map(|path| name::of(path).to_string()).collect();
    if found.is_empty() {
        let near = did_you_mean(below, known.iter().map(String::as_str));
        bail!(Missing(format!("{what}: matches no module in {}{near}", tree.dir.display())));
    }
    Ok(found)
}

/// The first word of the parameters of a module that is built in or has none, which is itself the name of a module.
pub(crate) fn module_in<'p>(tree: &Tree, params: &'p str) -> Option<&'p str> {
    let files: Vec<_> = ["modules.dep", "modules.builtin"].iter().flat_map(|index| tree.indexed(index)).collect();
    let is_module = |word: &&str| files.iter().any(|file| name::of(file) == Name(name::of(word).0));
    params.split_ascii_whitespace().filter(|word| !word.contains('=')).find(is_module)
}

/// One error for all lines of a list that cannot be resolved.
pub(crate) fn together(mut errors: Vec<Error>) -> Result<()> {
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        count => {
            let lines: Vec<_> = errors.iter().map(|error| format!("  {error:#}")).collect();
            let missing = errors.iter().filter(|error| error.is::<Missing>()).count();
            let help = match missing {
                0 => "",
                _ => "\n  mark modules that need not be there @optional, or pass --allow-missing",
            };
            bail!("{count} entries cannot be resolved:\n{}{help}", lines.join("\n"))
        }
    }
}
