//! What is asked for by name.

use crate::manifest::Entry;

/// A module to be loaded by name or alias.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub name: &'a str,
    /// What is said of it beside its name.
    pub entry: &'a Entry<'a>,
    /// Whether it is asked for by a device, for which there need be no module.
    pub by_device: bool,
}
