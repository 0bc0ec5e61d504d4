//! What a run does where time matters: further tries, and modules that were left behind.

use super::Run;
use crate::explain;
use crate::kernel::{Kernel, read_small};
use crate::limits::{RETRY_LONGEST_WAIT_MS, RETRY_WAIT_MS};
use crate::load::{self, Failure, Loaded, Request};
use crate::manifest::Times;
use crate::name::Name;
use crate::path_of;
use crate::report::{Level, Log, Time};

impl<K: Kernel, L: Log> Run<'_, '_, K, L> {
    /// Tries again for as long as that may help and the entry allows it: what came of it in the end, and after how many tries. Only the
    /// manifest's word for it makes an init run twice.
    #[inline(never)]
    pub(super) fn again(
        &mut self, name: Name, request: &Request, times: Times, mut failure: Failure,
    ) -> (Result<Loaded, Failure>, u32) {
        let (mut tries, mut wait_ms) = (1, RETRY_WAIT_MS);
        while tries <= u32::from(times.retries()) && failure.may_pass() {
            let (cause, wait) = (explain::explain(self.kernel, request.file, failure), Time(wait_ms));
            self.tell(Level::Debug, name, &format_args!("try {tries}: {cause}; again in {wait}"));
            self.pause(wait_ms);
            tries += 1;
            wait_ms = RETRY_LONGEST_WAIT_MS.min(2 * wait_ms);
            failure = match load::load(self.kernel, &mut self.offers, request) {
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
    pub(super) fn is_left(&mut self, name: Name, request: &Request, optional: bool) -> bool {
        let mut buf = [0; 16];
        let state = path_of(format_args!("/sys/module/{name}/initstate"))
            .and_then(|path| read_small(self.kernel, &path, &mut buf).ok());
        let is_left = state == Some(b"coming");
        if is_left {
            let cause = explain::explain(self.kernel, request.file, Failure::Left);
            self.tell_failure(name, cause, request, optional);
        }
        is_left
    }
}
