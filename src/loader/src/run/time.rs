//! What a run does where time matters: further tries, and modules that were left behind.

use super::{Run, Step};
use crate::explain::{self, Case};
use crate::kernel::Kernel;
use crate::kernel::machine::{ModuleState, module_state};
use crate::limits::{RETRY_LONGEST_WAIT_MS, RETRY_WAIT_MS};
use crate::load::{Failure, Loaded, Request};
use crate::name::Name;
use crate::report::{Level, Log, Time};

impl<K: Kernel, L: Log> Run<'_, '_, K, L> {
    /// Tries again for as long as that may help and the entry allows it: what came of it in the end, and after how many tries. Only the
    /// manifest's word for it makes an init run twice.
    #[inline(never)]
    pub(super) fn again(
        &mut self, step: &Step<K>, name: Name, request: &Request, since_us: u64, mut failure: Failure,
    ) -> (Result<Loaded, Failure>, u32) {
        let (mut tries, mut wait_ms) = (1, RETRY_WAIT_MS);
        while tries <= u32::from(step.times.retries()) && failure.may_pass() {
            if self.log.wants(Level::Debug) {
                let (exporters, klog) = (&explain::no_exporters, &self.klog);
                let case = Case { file: request.file, failure, since_us, budget_bytes: None, exporters, log: klog };
                let (kernel, log, wait) = (self.kernel, &mut *self.log, Time(wait_ms));
                explain::explain(kernel, &case, &mut |cause| {
                    log.line(Level::Debug, format_args!("{name}: try {tries}: {cause}; again in {wait}"));
                });
            }
            self.pause(wait_ms);
            tries += 1;
            wait_ms = RETRY_LONGEST_WAIT_MS.min(2 * wait_ms);
            failure = match self.load_opened(request) {
                Ok(loaded) => return (Ok(loaded), tries),
                Err(failure) => failure,
            };
        }
        self.has_left |= failure.is_left();
        (Err(failure), tries)
    }

    fn pause(&self, ms: u32) {
        let until_us = self.kernel.now_us() + u64::from(ms) * 1000;
        loop {
            let left_us = until_us.saturating_sub(self.kernel.now_us());
            if left_us == 0 {
                return;
            }
            self.kernel.wait(None, left_us.div_ceil(1000) as u32);
        }
    }

    /// Whether the kernel is still busy with this module, which was left behind; tells if so. To load it a second time would be to wait
    /// for the first without an end.
    #[inline(never)]
    pub(super) fn is_left(&mut self, step: &Step<K>, name: Name, request: &Request) -> bool {
        let is_left = module_state(self.kernel, name) == Some(ModuleState::Coming);
        if is_left {
            self.tell_failure(step, name, request, 0, Failure::Left, 1);
        }
        is_left
    }
}
