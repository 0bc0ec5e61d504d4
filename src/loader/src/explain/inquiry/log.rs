//! The cause as the kernel's log has it.

use super::others::Others;
use super::{Image, Inquiry};
use crate::elf::NAME_BYTES;
use crate::explain::failed_load::Report;
use crate::explain::kallsyms::{self, Owner};
use crate::explain::klog::{Kind, Messages};
use crate::kernel::Kernel;
use crate::kernel::machine::is_live;
use crate::name::{self, Name};
use crate::text;

impl<K: Kernel> Inquiry<'_, K> {
    /// Reports the cause if the kernel's log states it.
    pub(super) fn by_log(&self, mut elf: Option<&mut Image>, messages: &Messages, report: Report) -> bool {
        let (errno, first, second) = (self.errno, messages.first.as_str(), messages.second.as_str());
        let others = Others(messages.others);
        let is_of_other_build = matches!(messages.kind, Kind::Magic | Kind::Disagrees);
        if is_of_other_build && elf.as_deref_mut().is_some_and(|elf| self.by_release(elf, report)) {
            return true;
        }
        match messages.kind {
            Kind::Unknown => self.report_unknown(elf, first, messages.others, report),
            Kind::Magic => {
                report(&format_args!(
                    "{errno}: it was built for a kernel of \"{first}\", but this one is of \"{second}\""
                ));
            }
            Kind::Disagrees => report(&format_args!(
                "{errno}: this kernel's checksum of the symbol `{first}`{others} is not the one that it was built with: \
                 take the module from this kernel's own build"
            )),
            Kind::Namespace => report(&format_args!(
                "{errno}: it uses the symbol `{first}`, but does not import its namespace {second} \
                 (MODULE_IMPORT_NS in its source)"
            )),
            Kind::Duplicate => report(&format_args!(
                "{errno}: it exports the symbol `{first}`, which `{second}` already exports: load only one of them"
            )),
            Kind::Value => self.report_value(elf, first, second, report),
            Kind::Present => report(&format_args!("{errno}: a module with its name is built into this kernel")),
            Kind::Decoder => report(&format_args!(
                "{errno}: the kernel's decoder does not take this file, and its log says: \"{first}\". Use @path=stream or \
                 @path=buffer, or compress the module as the kernel's build does"
            )),
            Kind::Nothing | Kind::Text | Kind::Firmware | Kind::Policy => return false,
        }
        true
    }

    /// Reports a symbol that the module needs and cannot have; `others` more are like it.
    pub(super) fn report_unknown(&self, elf: Option<&mut Image>, symbol: &str, others: usize, report: Report) {
        if self.by_exporter(symbol, others, report) {
            return;
        }
        let (errno, others) = (self.errno, Others(others));
        let owner = kallsyms::owner(self.kernel, symbol);
        let mut license = heapless::String::<NAME_BYTES>::new();
        if let Some(elf) = elf {
            if owner.is_none()
                && self.by_release(elf, &mut |text| {
                    report(&format_args!("{text}, which has no symbol `{symbol}`{others}"));
                })
            {
                return;
            }
            license = license_not_gpl(elf);
        }
        match owner {
            Some(_) if !license.is_empty() => report(&format_args!(
                "{errno}: it needs the symbol `{symbol}`{others}, which only modules with a GPL license may use; its own \
                 is \"{license}\""
            )),
            Some(Owner::Kernel) => report(&format_args!(
                "{errno}: it needs the symbol `{symbol}`{others}, which this kernel has but does not export"
            )),
            Some(Owner::Module(owner)) => report(&format_args!(
                "{errno}: it needs the symbol `{symbol}`{others}, which `{owner}` has but does not export"
            )),
            None => report(&format_args!(
                "{errno}: it needs the symbol `{symbol}`{others}, which neither this kernel nor a loaded module exports"
            )),
        }
    }

    /// Reports the module that exports the symbol, if one does that is not loaded.
    fn by_exporter(&self, symbol: &str, others: usize, report: Report) -> bool {
        let (errno, others) = (self.errno, Others(others));
        let mut is_reported = false;
        (self.load.exporters)(symbol, &mut |file| {
            let exporter = name::of(file);
            if !is_reported && !is_live(self.kernel, exporter) {
                report(&format_args!(
                    "{errno}: it needs the symbol `{symbol}`{others}, which `{exporter}` exports ({file}): load that \
                     first"
                ));
                is_reported = true;
            }
        });
        is_reported
    }

    /// Reports a parameter that does not take its value.
    fn report_value(&self, elf: Option<&mut Image>, value: &str, param: &str, report: Report) {
        let mut kind = heapless::String::<NAME_BYTES>::new();
        if let Some(elf) = elf {
            let _ = elf.params(&mut |name, of_kind| {
                if Name(name) == Name(param) && kind.is_empty() {
                    let _ = kind.push_str(of_kind);
                }
            });
        }
        let errno = self.errno;
        match kind.as_str() {
            "" => report(&format_args!("{errno}: its parameter `{param}` does not take the value `{value}`")),
            kind => {
                report(&format_args!("{errno}: its parameter `{param}` ({kind}) does not take the value `{value}`"))
            }
        }
    }
}

/// The module's license, if symbols for GPL modules alone are not for it.
fn license_not_gpl(elf: &mut Image) -> heapless::String<NAME_BYTES> {
    let mut license = heapless::String::new();
    let _ = elf.info(&mut |key, value| {
        if key == "license" && !is_gpl(value) && license.is_empty() {
            let _ = license.push_str(value);
        }
    });
    license
}

/// As license_is_gpl_compatible of include/linux/license.h.
fn is_gpl(license: &str) -> bool {
    text::fields("GPL,GPL v2,GPL and additional rights,Dual BSD/GPL,Dual MIT/GPL,Dual MPL/GPL", b',')
        .any(|gpl| gpl == license)
}
