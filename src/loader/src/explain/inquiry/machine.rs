//! The cause as the state of the machine and its policies have it.

use core::ffi::CStr;
use core::fmt::Display;

use super::Inquiry;
use crate::cmdline::Cmdline;
use crate::errno::Errno;
use crate::explain::failed_load::Report;
use crate::explain::klog::{Kind, Messages};
use crate::kernel::machine::{ModuleState, available_bytes, is_live, module_state};
use crate::kernel::{Kernel, read_small};
use crate::limits::CMDLINE_BYTES;
use crate::name::Name;
use crate::report::Size;
use crate::text;

impl<K: Kernel> Inquiry<'_, K> {
    /// Reports the cause if it is the state of the machine or one of its policies.
    pub(super) fn by_machine(&self, name: &str, messages: &Messages, report: Report) -> bool {
        let (kernel, errno, name) = (self.kernel, self.errno, Name(name));
        let mut report = |text: &dyn Display| {
            report(&format_args!("{errno}: {text}"));
            true
        };
        match errno {
            Errno::EPERM => policy(kernel, name, messages).is_some_and(|text| report(&text)),
            Errno::EBUSY | Errno::EEXIST if module_state(kernel, name) == Some(ModuleState::Coming) => {
                report(&"another load of it is under way, and its init has not returned")
            }
            Errno::EEXIST if is_live(kernel, name) => {
                report(&format_args!("a module with its name, `{name}`, is already loaded from another file"))
            }
            Errno::ENOMEM => available_bytes(kernel).is_some_and(|bytes| {
                report(&format_args!(
                    "the machine has {} of memory left, and loading takes up to twice the image",
                    Size(bytes)
                ))
            }),
            _ => false,
        }
    }
}

/// The policy that forbids to load the module.
fn policy<K: Kernel>(kernel: &K, name: Name, messages: &Messages) -> Option<&'static str> {
    if is_blocked(kernel, name) {
        return Some("module_blacklist= on the kernel command line blocks it");
    }
    if reads(kernel, c"/proc/sys/kernel/modules_disabled", |text| text == b"1") {
        return Some("kernel.modules_disabled is 1: the kernel loads no module until the machine restarts");
    }
    if may_load(kernel) == Some(false) {
        return Some("this process lacks CAP_SYS_MODULE");
    }
    let is_locked = |text: &[u8]| text.contains(&b'[') && !text.starts_with(b"[none]");
    if reads(kernel, c"/sys/kernel/security/lockdown", is_locked)
        || messages.kind == Kind::Policy && messages.first.starts_with("Lockdown: ")
    {
        return Some("the kernel is locked down: it takes only signed modules");
    }
    None
}

fn is_blocked<K: Kernel>(kernel: &K, name: Name) -> bool {
    let mut buf = [0; CMDLINE_BYTES];
    let (cmdline, ..) = Cmdline::read(kernel, c"/proc/cmdline", &mut buf);
    cmdline.lists("module_blacklist", name)
}

fn reads<K: Kernel>(kernel: &K, path: &CStr, is_so: impl Fn(&[u8]) -> bool) -> bool {
    read_small(kernel, path, &mut [0; 64]).is_ok_and(is_so)
}

/// Whether this process has CAP_SYS_MODULE (capabilities(7)); `None` where `/proc` does not show it.
fn may_load<K: Kernel>(kernel: &K) -> Option<bool> {
    const CAP_SYS_MODULE: u32 = 16;
    let mut buf = [0; 2048];
    let status = core::str::from_utf8(read_small(kernel, c"/proc/self/status", &mut buf).ok()?).ok()?;
    let effective = text::fields(status, b'\n').find_map(|line| line.strip_prefix("CapEff:"))?;
    Some(u64::from_str_radix(effective.trim_ascii(), 16).ok()? >> CAP_SYS_MODULE & 1 == 1)
}
