//! The state of the machine, by `/proc` and `/sys`: its memory and this process's, and what became of a module.

use core::ffi::CStr;

use super::{Kernel, read_small};
use crate::limits::{LOW_MACHINE_BYTES, LOW_MACHINE_FILES};
use crate::name::Name;
use crate::{path, text};

/// So much memory that no load of a file, or of an image, of `bytes` comes near it.
pub fn ample_bytes(bytes: u64) -> u64 {
    LOW_MACHINE_BYTES.max(bytes.saturating_mul(LOW_MACHINE_FILES))
}

/// MemAvailable, or where the kernel is older than 3.14 MemFree, in bytes.
pub fn available_bytes<K: Kernel>(kernel: &K) -> Option<u64> {
    let mut buf = [0; 256];
    let text = fields(kernel, c"/proc/meminfo", &mut buf)?;
    Some(kib(text, "MemAvailable:").or_else(|| kib(text, "MemFree:"))? << 10)
}

/// The same where that is less than `enough`; else no more than that it is enough. What is free is asked first, since that costs next
/// to nothing.
pub fn available_up_to<K: Kernel>(kernel: &K, enough: u64) -> Option<u64> {
    let free_bytes = kernel.free_bytes();
    if free_bytes >= enough { Some(free_bytes) } else { available_bytes(kernel) }
}

/// What this process has of memory of its own, in bytes: anonymous pages and page tables (`RssAnon`, `VmPTE`; since Linux 4.5).
///
/// Kernels for several processors add to these in batches; `modest peak` counts page by page.
pub fn own_bytes<K: Kernel>(kernel: &K) -> Option<u64> {
    let mut buf = [0; 1536];
    let text = fields(kernel, c"/proc/self/status", &mut buf)?;
    Some((kib(text, "RssAnon:")? + kib(text, "VmPTE:")?) << 10)
}

/// What of a process's memory is there now, and what of that is its own, in KiB.
///
/// Counted page by page, unlike the fields of `status`, which processors add to in batches.
pub fn resident_kib<K: Kernel>(kernel: &K, pid: u32) -> Option<(u64, u64)> {
    let mut buf = [0; 1024];
    let text = fields(kernel, &path::spelled(format_args!("/proc/{pid}/smaps_rollup"))?, &mut buf)?;
    Some((kib(text, "Rss:")?, kib(text, "Anonymous:")?))
}

/// When this process was started, in µs since the boot; no more exact than the scheduler's tick (proc_pid_stat(5)).
pub fn started_us<K: Kernel>(kernel: &K) -> Option<u64> {
    // USER_HZ is 100 on all architectures that matter here.
    const TICK_US: u64 = 10_000;
    let mut buf = [0; 512];
    let (_, behind_name) = text::rsplit_once(fields(kernel, c"/proc/self/stat", &mut buf)?, b')')?;
    Some(text::number(text::fields(behind_name.trim_ascii(), b' ').nth(19)?)? * TICK_US)
}

/// How far the kernel has got with a module (`/sys/module/NAME/initstate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleState {
    /// It is there, and its init has returned.
    Live,
    /// Its init has not returned.
    Coming,
    /// It is being unloaded.
    Going,
}

/// The state of the module of that name; `None` where there is none, or it is part of the kernel.
pub fn module_state<K: Kernel>(kernel: &K, name: Name) -> Option<ModuleState> {
    let path = path::spelled(format_args!("/sys/module/{name}/initstate"))?;
    match read_small(kernel, &path, &mut [0; 16]).ok()? {
        b"live" => Some(ModuleState::Live),
        b"coming" => Some(ModuleState::Coming),
        b"going" => Some(ModuleState::Going),
        _ => None,
    }
}

/// Whether the kernel has the module, and its init has returned.
pub fn is_live<K: Kernel>(kernel: &K, name: Name) -> bool {
    module_state(kernel, name) == Some(ModuleState::Live)
}

fn fields<'b, K: Kernel>(kernel: &K, path: &CStr, buf: &'b mut [u8]) -> Option<&'b str> {
    core::str::from_utf8(read_small(kernel, path, buf).ok()?).ok()
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text::fields(text, b'\n').find_map(|line| line.strip_prefix(name))?;
    text::number(line.trim_ascii().strip_suffix("kB")?.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    #[test]
    fn the_machines_memory_is_read() {
        let meminfo = "MemTotal:          10052 kB\nMemFree:            5872 kB\nMemAvailable:       6100 kB\n";
        let fake = Fake::default().with_file("/proc/meminfo", meminfo.as_bytes());
        assert_eq!(available_bytes(&fake), Some(6100 << 10));
        assert_eq!(available_bytes(&Fake::default()), None);
        let fake = fake.with_free_bytes(5872 << 10);
        assert_eq!(available_up_to(&fake, 5872 << 10), Some(5872 << 10));
        assert_eq!(available_up_to(&fake, 6000 << 10), Some(6100 << 10));
    }

    #[test]
    fn our_own_start_is_read() {
        let started = started_us(&crate::sys::Linux).unwrap();
        let now = crate::sys::Linux.now_us();
        assert!(started > 0 && started <= now && now - started < 3_600_000_000, "{started} {now}");
    }

    #[test]
    fn our_own_memory_is_read() {
        assert!(own_bytes(&crate::sys::Linux).unwrap() > 4096);
        let (resident, own) = resident_kib(&crate::sys::Linux, std::process::id()).unwrap();
        assert!(own > 0 && resident > own, "{resident} {own}");
    }
}
