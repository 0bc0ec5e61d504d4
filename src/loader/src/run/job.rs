//! One module file: prepared, attempted, judged and reported.

use core::ffi::CStr;
use core::fmt;

use super::done::Done;
use super::names::state::{Known, exporters};
use super::repeats::Kind;
use super::state::{Run, optional};
use crate::errno::Errno;
use crate::explain::{self, FailedLoad};
use crate::kernel::Kernel;
use crate::kernel::machine::{ModuleState, ample_bytes, available_up_to, is_live, module_state};
use crate::limits::{RETRY_LONGEST_WAIT_MS, RETRY_WAIT_MS};
use crate::load::{self, Failure, Loaded, Request};
use crate::manifest::Entry;
use crate::name::{self, Name};
use crate::path::Path;
use crate::report::{Level, Log, Size, Time, shown};
use crate::resolve;

/// One module file to load.
pub(super) struct Job<'a, K: Kernel> {
    pub folder: &'a Path,
    /// Its path, absolute or in `folder`.
    pub file: &'a str,
    /// What the manifest says of it.
    pub entry: Entry<'a>,
    /// What else is known of it.
    pub known: Known<'a, K>,
    /// Whether another module, or a device, asks for it: then it is no surprise if the module is there already.
    pub is_needed: bool,
    /// Whether it is no surprise if the file is not there.
    pub may_be_absent: bool,
}

/// A job whose file and parameters are known to the byte, and when and how often it was attempted.
struct Prepared<'j, 'a, K: Kernel> {
    job: &'j Job<'a, K>,
    name: Name<'j>,
    request: Request<'j>,
    /// In µs of monotonic time; 0 where nobody wants to know.
    since_us: u64,
    tries: u32,
}

impl<K: Kernel, L: Log> Run<'_, '_, K, L> {
    /// Loads one file, and reports what came of it.
    pub(super) fn load(&mut self, job: &Job<K>) -> Done {
        let name = name::of(job.file);
        let path = match resolve::absolute(job.folder, job.file) {
            Ok(path) => path,
            Err(error) => return self.fails_early(name, &error, job.entry.optional),
        };
        let params = match joined(self.kernel, &|visit| job.known.params(job.entry.params, visit)) {
            Ok(params) => params,
            Err(errno) => {
                let why = format_args!("{errno}: no memory for its parameters");
                return self.fails_early(name, &why, job.entry.optional);
            }
        };
        let request = self.request(job, &path, text_of(&params));
        let mut prepared = Prepared { job, name, request, since_us: 0, tries: 0 };
        if self.is_present(&prepared) {
            return self.already_loaded(&prepared);
        }
        if self.options.dry_run {
            return self.would_load(&prepared);
        }
        if self.has_left && module_state(self.kernel, name) == Some(ModuleState::Coming) {
            // To load it a second time would be to wait for the first without an end.
            self.report_failure(&prepared, Failure::Left);
            return Done::Failed;
        }
        let result = self.attempt(&mut prepared);
        self.judge(&prepared, result)
    }

    /// Whether the module is there already. Asking takes one call, and loading it again to learn that much takes reading it
    /// whole; but a boot begins without modules, so PID 1 asks only where it is likely.
    fn is_present(&self, prepared: &Prepared<K>) -> bool {
        let Job { is_needed, entry, .. } = prepared.job;
        // Of what is there, nobody knows the digest.
        let asks = (self.asks_first || self.options.dry_run) && entry.sha256.is_none();
        (*is_needed || asks) && is_live(self.kernel, prepared.name)
    }

    fn already_loaded(&mut self, prepared: &Prepared<K>) -> Done {
        self.asks_first = true;
        self.outcome.present += 1;
        let level = if prepared.job.is_needed { Level::Debug } else { Level::Info };
        if level == Level::Debug || self.is_news(Kind::Present) {
            self.report(level, prepared.name, &"already loaded");
        }
        Done::Yes
    }

    fn request<'j>(&self, job: &Job<'j, K>, file: &'j CStr, params: &'j CStr) -> Request<'j> {
        let Entry { path, size_bytes, sha256, .. } = job.entry;
        Request {
            file,
            params,
            path,
            size_bytes,
            budget_bytes: self.budget_bytes,
            sha256,
            flags: 0,
            measure: self.log.wants(Level::Info),
            measure_memory: self.log.wants(Level::Debug),
            is_scarce: false,
        }
    }

    /// Loads the file; again for as long as that may help and the entry allows it. Only the manifest's word for it makes an
    /// init run twice.
    fn attempt(&mut self, prepared: &mut Prepared<K>) -> Result<Loaded, Failure> {
        let (mut wait_ms, times) = (RETRY_WAIT_MS, prepared.job.entry.times);
        if prepared.request.measure {
            prepared.since_us = self.kernel.now_us();
        }
        loop {
            prepared.tries += 1;
            let failure = match self.load_once(&prepared.request, times.timeout_ms()) {
                Ok(loaded) => return Ok(loaded),
                Err(failure) => failure,
            };
            if prepared.tries > u32::from(times.retries()) || !failure.may_pass() {
                self.has_left |= failure.is_left();
                return Err(failure);
            }
            self.report_try(prepared, failure, wait_ms);
            self.pause(wait_ms);
            wait_ms = RETRY_LONGEST_WAIT_MS.min(2 * wait_ms);
        }
    }

    /// Makes one try, and decides who does: a worker where that may take too long or be killed, else this process.
    fn load_once(&mut self, request: &Request, timeout_ms: Option<u32>) -> Result<Loaded, Failure> {
        let mut file = None;
        // Opening may take its time too.
        if timeout_ms.is_none() {
            let opened = self.open(request.file)?;
            if !self.is_scarce_for(&opened) {
                return load::load_file(self.kernel, &mut self.abilities, request, opened);
            }
            file = Some(opened);
        }
        let request = Request { is_scarce: timeout_ms.is_none(), ..*request };
        let kernel = self.kernel;
        let worked = kernel.in_worker(timeout_ms, &mut || {
            let file = file.take().map_or_else(|| self.open(request.file), Ok);
            let result = file.and_then(|file| load::load_file(kernel, &mut self.abilities, &request, file));
            (result, self.abilities)
        });
        let (result, abilities) = worked?;
        self.abilities = abilities;
        result
    }

    /// Opens a file from where it may be.
    fn open(&mut self, file: &CStr) -> Result<K::File, Failure> {
        let opened = if self.is_confined { self.open_beneath(file) } else { self.kernel.open(file) };
        opened.map_err(Failure::Open)
    }

    /// Whether loading the file may take more memory than there is. Only PID 1 has to care: without anything to kill, the kernel
    /// panics.
    fn is_scarce_for(&self, file: &K::File) -> bool {
        if !self.options.is_init {
            return false;
        }
        let file_bytes = self.kernel.stat(file).map_or(0, |stat| stat.size_bytes);
        let wanted_bytes = ample_bytes(file_bytes);
        available_up_to(self.kernel, wanted_bytes).unwrap_or(0) < wanted_bytes
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

    /// What the result means for the run; reports it.
    fn judge(&mut self, prepared: &Prepared<K>, result: Result<Loaded, Failure>) -> Done {
        let Prepared { job, name, request, .. } = *prepared;
        match result {
            Ok(loaded) => {
                self.outcome.loaded += 1;
                self.report_loaded(prepared, &loaded);
                self.unlink(request.file);
                Done::Yes
            }
            // A module whose file has another name is there by the name in the file, which is all that its user needs.
            Err(Failure::Kernel(Errno::EEXIST)) if job.is_needed || is_live(self.kernel, name) => {
                self.unlink(request.file);
                self.already_loaded(prepared)
            }
            // What the person at the boot prompt asked for is no failure.
            Err(Failure::Kernel(Errno::EPERM))
                if self.has_words && self.options.cmdline.lists("module_blacklist", name) =>
            {
                self.skipped(name, &"by module_blacklist= on the kernel command line");
                Done::Skipped
            }
            Err(failure) => {
                let is_expected = job.may_be_absent && failure == Failure::Open(Errno::ENOENT);
                if !is_expected || self.log.wants(Level::Debug) {
                    self.report_failure(prepared, failure);
                }
                Done::Failed
            }
        }
    }

    /// Reports why a module's turn does not come.
    fn fails_early(&mut self, name: Name, why: &dyn fmt::Display, is_optional: bool) -> Done {
        if self.is_news(Kind::Failure) {
            self.report(Level::Error, name, &format_args!("{why}{}", optional(is_optional)));
        }
        Done::Failed
    }

    /// Deletes the file of a module that is loaded, if it is to be and holds memory.
    fn unlink(&mut self, file: &CStr) {
        if self.unlinks {
            match self.kernel.unlink_from_memory(file) {
                Ok(()) | Err(Errno::EXDEV) => {}
                Err(Errno::ELOOP) => {
                    let why = "it is a symbolic link; neither it nor its target is deleted";
                    self.log.line(Level::Error, format_args!("@unlink {}: {why}", shown(file)));
                }
                Err(errno) => self.log.line(Level::Error, format_args!("@unlink {}: {errno}", shown(file))),
            }
        }
    }

    fn would_load(&mut self, prepared: &Prepared<K>) -> Done {
        let Prepared { name, request, .. } = *prepared;
        let confined = if self.is_confined { self.open_beneath(request.file).map(drop) } else { Ok(()) };
        let choice =
            confined.map_err(Failure::Open).and_then(|()| load::prepare(self.kernel, &mut self.abilities, &request));
        match choice {
            Ok((path, format)) => {
                self.outcome.loaded += 1;
                let (format, file, params) = (format.name(), shown(request.file), shown(request.params));
                let space = if params.is_empty() { "" } else { " " };
                let what = format_args!("{name}: would load by {path}, {format}: {file}{space}{params}");
                self.log.line(Level::Info, what);
                Done::Yes
            }
            Err(failure) => {
                self.report_failure(prepared, failure);
                Done::Failed
            }
        }
    }

    fn report_loaded(&mut self, prepared: &Prepared<K>, loaded: &Loaded) {
        let Prepared { name, request, since_us, tries, .. } = *prepared;
        if request.measure {
            let (us, size, path) = (self.kernel.now_us() - since_us, Size(loaded.file_bytes), loaded.path);
            let what = format_args!("{name}: loaded by {path}, {size}, {us} us{}", Tries(tries));
            self.log.line(Level::Info, what);
        }
        if let Some(own_bytes) = loaded.own_bytes {
            let (predicted, own) = (loaded.user_bytes.div_ceil(1024), own_bytes.div_ceil(1024));
            self.log.line(Level::Debug, format_args!("{name}: memory: predicted {predicted} KiB, took {own} KiB"));
        }
        if !request.params.is_empty() {
            let (log, file) = (&mut *self.log, shown(request.file));
            explain::report_ignored_params(self.kernel, &request, &mut |text| {
                log.line(Level::Error, format_args!("{name}: {text}, {file}"));
            });
        }
    }

    /// Reports a try that is not the last.
    fn report_try(&mut self, prepared: &Prepared<K>, failure: Failure, wait_ms: u32) {
        if !self.log.wants(Level::Debug) {
            return;
        }
        let Prepared { name, request, since_us, tries, .. } = *prepared;
        let exporters = &explain::no_exporters;
        let load = FailedLoad { file: request.file, failure, since_us, budget_bytes: None, exporters };
        let (kernel, klog, log, wait) = (self.kernel, &self.klog, &mut *self.log, Time(wait_ms));
        explain::explain(kernel, klog, &load, &mut |cause| {
            log.line(Level::Debug, format_args!("{name}: try {tries}: {cause}; again in {wait}"));
        });
    }

    fn report_failure(&mut self, prepared: &Prepared<K>, failure: Failure) {
        if !self.is_news(Kind::Failure) {
            return;
        }
        let Prepared { job, name, request, since_us, tries } = *prepared;
        let (kernel, root, klog, log) = (self.kernel, &self.root, &self.klog, &mut *self.log);
        let (file, tries, optional) = (shown(request.file), Tries(tries), optional(job.entry.optional));
        let exporters_of = |symbol: &str, each: &mut dyn FnMut(&str)| exporters(kernel, root, &job.known, symbol, each);
        let budget_bytes = request.budget_bytes;
        let load = FailedLoad { file: request.file, failure, since_us, budget_bytes, exporters: &exporters_of };
        explain::explain(kernel, klog, &load, &mut |cause| {
            log.line(Level::Error, format_args!("{name}: {cause}{tries}, {file}{optional}"));
        });
    }
}

/// How often a load was tried, where that was more than once.
struct Tries(u32);

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            tries => write!(f, ", {tries} tries"),
        }
    }
}

/// Hands each part of a text to a visitor.
type Parts<'a> = dyn Fn(&mut dyn FnMut(&str)) + 'a;

/// Parts in memory of their own, with spaces between and a NUL behind, which the parsers let through in none; `None` where
/// there are none.
pub(super) fn joined<K: Kernel>(kernel: &K, each: &Parts) -> Result<Option<K::Region>, Errno> {
    let mut len = 0;
    each(&mut |text| len += if text.is_empty() { 0 } else { text.len() + 1 });
    if len == 0 {
        // Most modules have none, and most of a buffer on the stack would be memory for nothing.
        return Ok(None);
    }
    let mut region = kernel.allocate(len)?;
    let mut to = region.as_mut().iter_mut();
    each(&mut |text| {
        text.bytes().zip(to.by_ref()).for_each(|(byte, to)| *to = byte);
        if !text.is_empty()
            && let Some(to) = to.next()
        {
            *to = b' ';
        }
    });
    // Behind the last is no space.
    if let Some(last) = region.as_mut().last_mut() {
        *last = 0;
    }
    Ok(Some(region))
}

/// The text that [`joined`] made.
pub(super) fn text_of<R: AsRef<[u8]>>(region: &Option<R>) -> &CStr {
    region.as_ref().and_then(|text| CStr::from_bytes_until_nul(text.as_ref()).ok()).unwrap_or_default()
}
