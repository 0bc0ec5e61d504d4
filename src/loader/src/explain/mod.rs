//! From a failure to its cause, as one clause for people. Runs only after a failure, or when somebody asks.
//!
//! [`explain`] is the face. Every build says what an errno means and what the headers of a file show. With the feature
//! `explain` the inquiry goes further: into the file, the kernel's log, its symbols and its policies. Without that
//! feature `brief` stands in for the inquiry.

#[cfg(not(feature = "explain"))]
mod brief;
mod cause;
#[cfg(feature = "explain")]
pub mod check;
mod errnos;
mod failed_load;
#[cfg(feature = "explain")]
mod inquiry;
#[cfg(feature = "explain")]
mod kallsyms;
#[cfg(feature = "explain")]
mod klog;
#[cfg(feature = "explain")]
mod params;

#[cfg(not(feature = "explain"))]
pub use brief::{KernelLog, explain, report_ignored_params};
pub use errnos::{of_kernel, of_open};
pub use failed_load::{Exporters, FailedLoad, Report, no_exporters};
#[cfg(feature = "explain")]
pub use inquiry::explain;
#[cfg(feature = "explain")]
pub use klog::KernelLog;
#[cfg(feature = "explain")]
pub use params::report_ignored_params;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno::Errno;
    use crate::kernel::fake::Fake;
    use crate::load::Failure;
    use crate::source::DecodeError;

    #[test]
    fn the_file_speaks_before_the_errno() {
        let fake = Fake::default().with_file("/e.ko", b"").with_file("/m.ko.gz", b"\x1f\x8b");
        let text = |file, failure| {
            let mut text = String::new();
            let load = FailedLoad { file, failure, since_us: 0, budget_bytes: None, exporters: &no_exporters };
            explain(&fake, &KernelLog::default(), &load, &mut |cause| text = cause.to_string());
            text
        };
        assert_eq!(text(c"/e.ko", Failure::Kernel(Errno::EINVAL)), "EINVAL: the file is empty");
        assert_eq!(text(c"/e.ko", Failure::Kernel(Errno::ENODEV)), "ENODEV: its init found no device for it");
        assert_eq!(text(c"/none", Failure::Open(Errno::ENOENT)), "ENOENT: no such file");
        let decode = Failure::Decode(DecodeError::Truncated);
        assert_eq!(text(c"/m.ko.gz", decode), "the compressed file ends too early");
        let of_kernel = if cfg!(all(feature = "explain", feature = "gzip")) {
            "EINVAL: the compressed file ends too early"
        } else {
            "EINVAL: the kernel refuses it"
        };
        assert!(text(c"/m.ko.gz", Failure::Kernel(Errno::EINVAL)).starts_with(of_kernel));
    }
}
