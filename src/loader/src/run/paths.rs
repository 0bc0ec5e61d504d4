//! Stands in for `names/` in a build that takes paths alone. What such a build cannot do is reported as an error of the line.

use core::marker::PhantomData;

use super::{At, Run};
use crate::cmdline::Cmdline;
use crate::kernel::Kernel;
use crate::manifest::{Entry, Wait};
use crate::name::Name;
use crate::report::Log;
use crate::resolve::{ResolveError, SearchRoot};

/// What a run knows of names: nothing.
pub(super) struct Names<'r, K>(PhantomData<(&'r str, K)>);

impl<'r, K: Kernel> Names<'r, K> {
    pub(super) fn new<L: Log>(_: &mut L, _: Cmdline, _: &'r mut [u8], _: bool) -> Self {
        Names(PhantomData)
    }

    pub(super) fn forget_tree(&mut self) {}
}

/// What is known of a module beside its entry: nothing.
pub(super) struct Known<'a, K>(PhantomData<(&'a str, K)>);

impl<K: Kernel> Known<'_, K> {
    pub(super) fn params(&self, entry: &str, visit: &mut dyn FnMut(&str)) {
        visit(entry);
    }
}

/// There is no index of symbols.
pub(super) fn exporters<K: Kernel>(_: &K, _: &SearchRoot, _: &Known<K>, _: &str, _: &mut dyn FnMut(&str)) {}

impl<'r, K: Kernel, L: Log> Run<'r, '_, K, L> {
    pub(super) fn known_by_file(&mut self, _: Name) -> Option<Known<'r, K>> {
        Some(Known(PhantomData))
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
