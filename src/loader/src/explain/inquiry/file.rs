//! The cause as the module's file has it.

use super::{Image, Inquiry};
use crate::errno::Errno;
use crate::explain::failed_load::Report;
use crate::explain::kallsyms;
use crate::explain::klog::{Kind, Messages};
use crate::kernel::Kernel;
use crate::kernel::machine::{ModuleState, module_state};
use crate::limits::SYMBOL_BYTES;
use crate::name::Name;

impl<K: Kernel> Inquiry<'_, K> {
    /// Reports the cause if the module's own file shows it.
    pub(super) fn by_file(&self, elf: &mut Image, messages: &Messages, report: Report) -> bool {
        match self.errno {
            Errno::ENOEXEC => self.by_release(elf, report),
            Errno::EKEYREJECTED | Errno::ENOKEY => self.by_signature(elf, messages, report),
            Errno::EINVAL if messages.is_exact && messages.kind == Kind::Nothing && elf.is_signed() => {
                report(&format_args!(
                    "{}: its signature is damaged, or its init returned this (the kernel's log would name any other \
                     cause)",
                    self.errno
                ));
                true
            }
            Errno::ENOENT => self.by_symbols(elf, messages, report),
            Errno::EBUSY => self.by_dependencies(elf, report),
            _ => false,
        }
    }

    /// Reports if the module was built for another release than the kernel's.
    pub(super) fn by_release(&self, elf: &mut Image, report: Report) -> bool {
        let mut release = [0; 65];
        let Ok(release) = self.kernel.release(&mut release) else { return false };
        let mut is_reported = false;
        let _ = elf.release(&mut |built_for| {
            if built_for != release {
                report(&format_args!("{}: it was built for {built_for}, but this kernel is {release}", self.errno));
                is_reported = true;
            }
        });
        is_reported
    }

    /// Reports what is wrong with the signature of a module that the kernel refuses for it.
    fn by_signature(&self, elf: &mut Image, messages: &Messages, report: Report) -> bool {
        let is_of_policy = messages.kind == Kind::Policy;
        let text = match self.errno {
            _ if !elf.is_signed() => "it is not signed, and this kernel takes only signed modules",
            Errno::ENOKEY => return false,
            _ if is_of_policy && messages.first.ends_with("unavailable key is rejected") => {
                "it is signed with a key that this kernel does not have: take the module from this kernel's own build"
            }
            // The kernel logs nothing then, and refuses it even where it takes unsigned ones (kernel/module/signing.c).
            _ if messages.is_exact && !is_of_policy => {
                "its signature does not match its content: the file was changed after it was signed"
            }
            _ => return false,
        };
        report(&format_args!("{}: {text}", self.errno));
        true
    }

    /// Reports a symbol that is missing, or that none is.
    fn by_symbols(&self, elf: &mut Image, messages: &Messages, report: Report) -> bool {
        let (errno, text) = (self.errno, messages.first.as_str());
        // The kernel's log names every symbol that is missing.
        match messages.kind {
            Kind::Nothing if messages.is_exact => {
                report(&format_args!("{errno}: its init reports that something is missing"));
                return true;
            }
            Kind::Text if messages.is_exact => {
                report(&format_args!(
                    "{errno}: its init reports that something is missing; the kernel's log says: \"{text}\""
                ));
                return true;
            }
            _ => {}
        }
        // Where the log cannot be had, the kernel's list of symbols may tell.
        let mut symbol = heapless::String::<SYMBOL_BYTES>::new();
        match kallsyms::first_missing(self.kernel, elf, &mut symbol) {
            Ok(Some(others)) => self.report_unknown(Some(elf), &symbol, others, report),
            _ => return false,
        }
        true
    }

    /// Reports a module that this one needs and whose init has not returned.
    fn by_dependencies(&self, elf: &mut Image, report: Report) -> bool {
        let mut is_reported = false;
        let _ = elf.depends(&mut |needed| {
            if !is_reported && module_state(self.kernel, Name(needed)) == Some(ModuleState::Coming) {
                report(&format_args!("{}: it needs `{needed}`, whose init has not returned yet", self.errno));
                is_reported = true;
            }
        });
        is_reported
    }
}
