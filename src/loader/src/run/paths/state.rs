//! Stands in for `names/state.rs`: nothing is known of names.

use core::marker::PhantomData;

use crate::cmdline::Cmdline;
use crate::kernel::Kernel;
use crate::report::Log;
use crate::resolve::SearchRoot;

/// What a run knows of names: nothing.
pub(in crate::run) struct Names<'r, K>(PhantomData<(&'r str, K)>);

impl<'r, K: Kernel> Names<'r, K> {
    pub(in crate::run) fn new<L: Log>(_: &mut L, _: Cmdline, _: &'r mut [u8], _: bool) -> Self {
        Names(PhantomData)
    }

    pub(in crate::run) fn seal(&mut self) {}

    pub(in crate::run) fn forget_tree(&mut self) {}
}

/// What is known of a module beside its entry: nothing.
pub(in crate::run) struct Known<'a, K>(PhantomData<(&'a str, K)>);

impl<K: Kernel> Known<'_, K> {
    pub(super) fn nothing() -> Self {
        Known(PhantomData)
    }

    pub(in crate::run) fn params(&self, entry: &str, visit: &mut dyn FnMut(&str)) {
        visit(entry);
    }
}

/// There is no index of symbols.
pub(in crate::run) fn exporters_below<K: Kernel>(_: &K, _: &SearchRoot, _: &str, _: &mut dyn FnMut(&str)) {}

/// There is no index of symbols.
pub(in crate::run) fn exporters<K: Kernel>(_: &K, _: &SearchRoot, _: &Known<K>, _: &str, _: &mut dyn FnMut(&str)) {}
