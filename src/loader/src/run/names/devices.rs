//! What a run does by device: `@if=`, `@coldplug` and `@wait`.

use super::asked::Asked;
use crate::kernel::Kernel;
use crate::limits::{BUSES_BYTES, PLUG_TRIED};
use crate::manifest::{Entry, Wait};
use crate::name;
use crate::path;
use crate::report::{Level, Log};
use crate::resolve::config::Config;
use crate::resolve::plan::{self, Action, PlanError};
use crate::resolve::{ResolveError, Tree, devices};
use crate::run::done::Done;
use crate::run::state::{At, Run, optional};
use crate::text::Words;

/// Why it is not known which devices there are.
const UNREADABLE: &str = "a folder or file of /sys about devices cannot be read";

impl<K: Kernel, L: Log> Run<'_, '_, K, L> {
    /// Whether there is a device for an entry that is for one; reports if not.
    pub(in crate::run) fn has_device(&mut self, _: At, entry: &Entry) -> bool {
        let Some(alias) = entry.device else { return true };
        let name = name::of(entry.module);
        match devices::exists(self.kernel, alias) {
            Ok(true) => return true,
            Ok(false) => self.skipped(name, &format_args!("no device has the alias {alias}")),
            // Whether there is one is not known.
            Err(errno) => {
                let suffix = optional(entry.optional);
                self.log.line(Level::Error, format_args!("{name}: {errno}: {UNREADABLE}{suffix}"));
                self.fails(entry.optional);
            }
        }
        false
    }

    /// Does one step of a plan for a device, if that was not done for another.
    pub(super) fn once(&mut self, tree: &Tree<K>, asked: Asked, step: plan::Step, config: Config) -> Done {
        if step.action == Action::Blacklisted {
            // It may still be loaded for another that needs it.
            return self.planned(tree, asked, step, config);
        }
        let key = name::hash(step.module.name);
        if let Some((_, done)) = self.names.tried.iter().find(|(tried, _)| *tried == key) {
            return *done;
        }
        let done = self.planned(tree, asked, step, config);
        self.has_tried(key, done);
        done
    }

    fn has_tried(&mut self, key: u32, done: Done) {
        if self.names.tried.push((key, done)).is_err() && !core::mem::replace(&mut self.names.is_over_tried, true) {
            self.log.line(Level::Error, format_args!("more modules for devices than PLUG_TRIED, {PLUG_TRIED}"));
        }
    }

    /// Loads the modules of the devices on `buses`, and of those that appear by it.
    pub(in crate::run) fn coldplug(&mut self, at: At, buses: &str) {
        self.begin();
        if self.outcome.stopped {
            return;
        }
        let fits = match &mut self.names.buses {
            // None named are all, to which others add nothing.
            Some(known) if known.is_empty() => true,
            known if buses.is_empty() => {
                *known = Some(Default::default());
                true
            }
            known => {
                let known = known.get_or_insert_default();
                [" ", buses].iter().all(|part| known.push_str(part).is_ok())
            }
        };
        if !fits {
            self.fails_at(at, format_args!("11: the buses of all @coldplug are over BUSES_BYTES, {BUSES_BYTES}"));
        }
        self.plug(at, buses);
    }

    /// Loads for the devices that have no driver, again for as long as that brings up something new.
    fn plug(&mut self, at: At, buses: &str) {
        match self.open_tree() {
            Ok(tree) => self.names.tree = Some(tree),
            Err(error) => return self.fails_at(at, format_args!("1: {error}")),
        }
        loop {
            let before = self.names.tried.len();
            let read = devices::each(self.kernel, buses, &mut |device| {
                if !device.is_bound {
                    self.for_device(device.alias);
                }
            });
            if let Err(errno) = read {
                return self.fails_at(at, format_args!("1: {errno}: {UNREADABLE}"));
            }
            if self.names.tried.len() == before || self.options.dry_run {
                return;
            }
        }
    }

    fn for_device(&mut self, alias: &str) {
        let key = name::hash(alias);
        if self.names.has_asked(key) {
            return;
        }
        let entry = Entry { optional: true, ..Entry::new(alias) };
        let Err(error) = self.by_name(Asked { name: alias, entry: &entry, by_device: true }) else { return };
        match error {
            // Most devices have a driver in the kernel, or none in this image.
            ResolveError::NotFound { .. } | ResolveError::Plan(PlanError::Name) => return,
            _ if self.names.tried.iter().any(|(tried, _)| *tried == key) => {}
            error => {
                self.log.line(Level::Error, format_args!("{alias}: {error} (optional)"));
                self.has_tried(key, Done::Failed);
            }
        }
        // What could not be read may be the next time.
        self.names.forget_asked(key);
    }

    /// Waits for devices. What those need that appear meanwhile is loaded, if they are on a bus of a `@coldplug` before.
    pub(in crate::run) fn wait(&mut self, at: At, wait: &Wait) {
        self.begin();
        if self.outcome.stopped {
            return;
        }
        if self.options.dry_run {
            return self.log.line(Level::Info, format_args!("would wait for {}", wait.what));
        }
        let timeout_us = u64::from(wait.timeout_ms.unwrap_or(Wait::TIMEOUT_MS)) * 1000;
        // To hear of all that happens from before the first look on.
        let uevents = self.kernel.uevents();
        let start_us = self.kernel.now_us();
        let mut is_told = false;
        loop {
            if let Some(buses) = self.names.buses.clone() {
                self.plug(at, &buses);
                if self.outcome.stopped {
                    return;
                }
            }
            let kernel = self.kernel;
            let is_there = |word: &str| {
                if word.starts_with("/") {
                    path::joined(&[word.as_bytes()]).is_some_and(|path| kernel.exists(&path))
                } else {
                    // What cannot be read now may be the next time.
                    devices::exists(kernel, word) == Ok(true)
                }
            };
            let missing = Words::new(wait.what).map(|(_, word)| word).find(|word| !is_there(word));
            let waited_us = self.kernel.now_us() - start_us;
            let ms = waited_us / 1000;
            let Some(missing) = missing else {
                return self.log.line(Level::Info, format_args!("{}: there, after {ms} ms", wait.what));
            };
            if waited_us >= timeout_us {
                let optional = optional(wait.optional);
                self.log.line(Level::Error, format_args!("{missing}: not there after {ms} ms, {at}{optional}"));
                return self.fails(wait.optional);
            }
            if !core::mem::replace(&mut is_told, true) {
                self.log.line(Level::Info, format_args!("waiting for {missing}"));
            }
            // Up to the millisecond that it is in.
            let left_ms = (timeout_us - waited_us).div_ceil(1000);
            self.kernel.wait(uevents.as_ref(), u32::try_from(left_ms).unwrap_or(u32::MAX));
        }
    }
}
