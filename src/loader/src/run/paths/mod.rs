//! Stands in for `names/` in a build that takes paths alone. What such a build cannot do is reported as an error of the line.

use super::state::{At, Run};
use crate::kernel::Kernel;
use crate::manifest::{Entry, Wait};
use crate::name::Name;
use crate::report::Log;
use crate::resolve::ResolveError;

pub(super) mod state;

use state::Known;

impl<'r, K: Kernel, L: Log> Run<'r, '_, K, L> {
    pub(super) fn known_by_file(&mut self, _: Name) -> Option<Known<'r, K>> {
        Some(Known::nothing())
    }

    pub(super) fn has_device(&mut self, at: At, entry: &Entry) -> bool {
        if entry.device.is_some() {
            self.unresolved(at, entry, ResolveError::Name("@if="));
        }
        entry.device.is_none()
    }

    pub(super) fn entry_by_name(&mut self, at: At, entry: &Entry) {
        self.unresolved(at, entry, ResolveError::Name("a name"));
    }

    pub(super) fn coldplug(&mut self, at: At, _: &str) {
        self.fails_at(at, format_args!("1: {}", ResolveError::Name("@coldplug")));
    }

    pub(super) fn wait(&mut self, at: At, _: &Wait) {
        self.fails_at(at, format_args!("1: {}", ResolveError::Name("@wait")));
    }
}
