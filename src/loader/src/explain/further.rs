//! What the kernel refused, looked into: its log, its symbols and policies, and what the module says of itself.

use core::ffi::CStr;
use core::fmt::{self, Display};

use super::{Case, Cause};
use crate::cmdline::Cmdline;
use crate::elf::{Bytes, Elf, Fault, NAME_BYTES, THIS_MACHINE};
use crate::errno::Errno;
use crate::kallsyms::{self, Owner};
use crate::kernel::machine;
use crate::kernel::machine::{ModuleState, is_live, module_state};
use crate::kernel::{FileKind, Kernel, read_small};
use crate::klog::{Kind, Said};
use crate::limits::{CMDLINE_BYTES, FILE_NAME_BYTES, SYMBOL_BYTES};
use crate::load::{self, Failure};
use crate::name::{self, Name};
use crate::report::{Size, shown};
use crate::source::DecodeError;
use crate::text::{self, Words};

type Image<'b> = Elf<&'b mut dyn Bytes>;
type Tell<'t> = &'t mut dyn FnMut(&dyn Display);

/// Finds the cause of what the kernel answered to a load, and tells it.
pub(super) fn explain<K: Kernel>(kernel: &K, case: &Case<K>, errno: Errno, tell: Tell) {
    let inquiry = Inquiry { kernel, case, errno };
    let mut is_told = false;
    // The others are what its init said, or say it all.
    let is_about_file = matches!(
        errno,
        Errno::ENOEXEC
            | Errno::EINVAL
            | Errno::ENOENT
            | Errno::EBUSY
            | Errno::EEXIST
            | Errno::EFAULT
            | Errno::ENOSPC
            | Errno::ERANGE
            | Errno::EKEYREJECTED
            | Errno::ENOKEY
            | Errno::EKEYEXPIRED
            | Errno::EKEYREVOKED
            | Errno::EBADMSG
            | Errno::ENOPKG
    );
    if is_about_file && let Ok(file) = kernel.open(case.file) {
        match kernel.stat(&file) {
            Ok(stat) if stat.kind != FileKind::Regular => {
                case.log.skip(kernel);
                return tell(&Cause { failure: case.failure, fault: Some(Fault::NotRegular(stat.kind)) });
            }
            _ => {}
        }
        let looked = load::with_image(kernel, case.budget_bytes, file, &mut |bytes| {
            match Elf::open(bytes, Some(THIS_MACHINE)) {
                Ok(mut elf) => inquiry.tell(Some(&mut elf), tell),
                // It was not the file that could not be decoded, but we who cannot; or the kernel was busy with something else.
                Err(Fault::Unreadable(DecodeError::Unsupported(_))) => return,
                // What the kernel knows the name of, it has read.
                Err(_) if matches!(errno, Errno::EBUSY | Errno::EEXIST | Errno::ENOSPC | Errno::ERANGE) => return,
                Err(fault) => {
                    case.log.skip(kernel);
                    tell(&Cause { failure: case.failure, fault: Some(fault) })
                }
            }
            is_told = true;
        });
        if let (false, Err(Failure::Decode(error))) = (is_told, looked)
            && !matches!(error, DecodeError::Unsupported(_))
            && errno != Errno::EEXIST
        {
            case.log.skip(kernel);
            return tell(&Cause { failure: case.failure, fault: Some(Fault::Unreadable(error)) });
        }
    }
    if !is_told {
        inquiry.tell(None, tell);
    }
}

struct Inquiry<'i, 'c, K: Kernel> {
    kernel: &'i K,
    case: &'i Case<'c, K>,
    errno: Errno,
}

impl<K: Kernel> Inquiry<'_, '_, K> {
    fn tell(&self, mut elf: Option<&mut Image>, tell: Tell) {
        let errno = self.errno;
        let mut name = heapless::String::<FILE_NAME_BYTES>::new();
        let mut buf = [0; NAME_BYTES];
        match elf.as_mut().and_then(|elf| elf.name(&mut buf).ok()) {
            Some(written) => drop(name.push_str(written)),
            None => drop(fmt::write(&mut name, format_args!("{}", name::of(shown(self.case.file))))),
        }
        let said = Said::read(self.kernel, self.case.log, &name, self.case.since_us);
        let (first, second) = (said.first.as_str(), said.second.as_str());
        let others = Others(said.others);
        let is_of_other = matches!(said.kind, Kind::Magic | Kind::Disagrees);
        if is_of_other && elf.as_mut().is_some_and(|elf| self.tell_release(elf, tell)) {
            return;
        }
        match said.kind {
            Kind::Unknown => return self.unknown(elf, first, said.others, tell),
            Kind::Magic => {
                return tell(&format_args!("{errno}: built for a kernel of \"{first}\", this one is of \"{second}\""));
            }
            Kind::Disagrees => {
                return tell(&format_args!(
                    "{errno}: the checksum of the symbol `{first}`{others} is another here than it was built with: \
                     take the module from the build of this very kernel"
                ));
            }
            Kind::Namespace => {
                return tell(&format_args!(
                    "{errno}: uses the symbol `{first}` of the namespace {second} without importing that \
                     (MODULE_IMPORT_NS in its source)"
                ));
            }
            Kind::Duplicate => {
                return tell(&format_args!(
                    "{errno}: exports the symbol `{first}`, which `{second}` exports already: only one of them can be \
                     loaded"
                ));
            }
            Kind::Value => return self.value(elf, first, second, tell),
            Kind::Present => {
                return tell(&format_args!("{errno}: a module of its name is built into this kernel"));
            }
            _ => {}
        }
        if elf.as_mut().is_some_and(|elf| self.told_by_file(elf, &said, tell)) {
            return;
        }
        if self.told_by_machine(&name, &said, tell) {
            return;
        }
        let cause = Cause { failure: self.case.failure, fault: None };
        if errno == Errno::EEXIST && elf.is_none() {
            return tell(&format_args!("{cause}, or a module of the name that is in it is loaded"));
        }
        match said.kind {
            Kind::Firmware => tell(&format_args!(
                "{errno}: the firmware {first}{others} cannot be loaded (error {second}): put it below /lib/firmware \
                 of the initramfs, or load the module later"
            )),
            // The errno is what the init of a module, or the kernel, may mean in many ways; the words are its own.
            Kind::Text if is_vague(errno) => tell(&format_args!("{errno}: in the kernel's log it says: \"{first}\"")),
            Kind::Text | Kind::Policy => tell(&format_args!("{cause}; the kernel's log: \"{first}\"")),
            _ => tell(&cause),
        }
    }

    /// Tells if the module was built for another release than the kernel's.
    fn tell_release(&self, elf: &mut Image, tell: Tell) -> bool {
        let mut release = [0; 65];
        let Ok(release) = self.kernel.release(&mut release) else { return false };
        let mut is_told = false;
        let _ = elf.info(&mut |key, value| {
            let built_for = text::split_once(value, b' ').map_or(value, |(built_for, _)| built_for);
            if key == "vermagic" && built_for != release {
                tell(&format_args!("{}: built for {built_for}, this kernel is {release}", self.errno));
                is_told = true;
            }
        });
        is_told
    }

    /// Tells of a symbol that is needed and not there.
    fn unknown(&self, elf: Option<&mut Image>, symbol: &str, others: usize, tell: Tell) {
        let errno = self.errno;
        let others = Others(others);
        let mut is_told = false;
        (self.case.exporters)(symbol, &mut |file| {
            let exporter = name::of(file);
            if !is_told && !is_live(self.kernel, exporter) {
                tell(&format_args!(
                    "{errno}: needs the symbol `{symbol}`{others}, which nothing loaded exports; `{exporter}` does \
                     ({file}): load it before"
                ));
                is_told = true;
            }
        });
        if is_told {
            return;
        }
        let owner = kallsyms::owner(self.kernel, symbol);
        let mut license = heapless::String::<NAME_BYTES>::new();
        if let Some(elf) = elf {
            if owner.is_none()
                && self.tell_release(elf, &mut |text| {
                    tell(&format_args!("{text}, which has no symbol `{symbol}`{others}"))
                })
            {
                return;
            }
            let _ = elf.info(&mut |key, value| {
                if key == "license" && !is_gpl(value) && license.is_empty() {
                    let _ = license.push_str(value);
                }
            });
        }
        match owner {
            Some(_) if !license.is_empty() => tell(&format_args!(
                "{errno}: needs the symbol `{symbol}`{others}, which is for modules of a GPL license alone; its own is \
                 \"{license}\""
            )),
            Some(Owner::Kernel) => tell(&format_args!(
                "{errno}: needs the symbol `{symbol}`{others}, which this kernel has, but does not export to modules"
            )),
            Some(Owner::Module(owner)) => tell(&format_args!(
                "{errno}: needs the symbol `{symbol}`{others}, which `{owner}` has, but does not export"
            )),
            None => tell(&format_args!(
                "{errno}: needs the symbol `{symbol}`{others}, which neither this kernel nor a loaded module exports"
            )),
        }
    }

    /// Tells of a parameter that does not take its value.
    fn value(&self, elf: Option<&mut Image>, value: &str, param: &str, tell: Tell) {
        let mut kind = heapless::String::<NAME_BYTES>::new();
        if let Some(elf) = elf {
            let _ = each_param(elf, &mut |name, of_kind| {
                if Name(name) == Name(param) && kind.is_empty() {
                    let _ = kind.push_str(of_kind);
                }
            });
        }
        let kind = if kind.is_empty() { "of another type" } else { kind.as_str() };
        tell(&format_args!("{}: its parameter `{param}` ({kind}) does not take the value `{value}`", self.errno));
    }

    /// Tells if what the module says of itself is cause enough.
    fn told_by_file(&self, elf: &mut Image, said: &Said, tell: Tell) -> bool {
        let errno = self.errno;
        match errno {
            Errno::ENOEXEC => self.tell_release(elf, tell),
            Errno::EKEYREJECTED | Errno::ENOKEY if !elf.is_signed() => {
                tell(&format_args!("{errno}: not signed, and this kernel takes signed modules alone"));
                true
            }
            Errno::EKEYREJECTED if said.kind == Kind::Policy && said.first.ends_with("unavailable key is rejected") => {
                tell(&format_args!(
                    "{errno}: signed with a key that this kernel does not have: take the module from the build of this \
                     very kernel"
                ));
                true
            }
            Errno::EINVAL if said.is_exact && said.kind == Kind::Nothing && elf.is_signed() => {
                tell(&format_args!(
                    "{errno}: its signature is damaged, or its init says so (other causes would be in the kernel's log)"
                ));
                true
            }
            // The kernel says nothing of it (kernel/module/signing.c), and refuses it even where it takes unsigned ones.
            Errno::EKEYREJECTED if said.is_exact && said.kind != Kind::Policy => {
                tell(&format_args!(
                    "{errno}: its signature is not that of what it holds: it was changed after it was signed"
                ));
                true
            }
            // The kernel names every symbol that it misses.
            Errno::ENOENT if said.is_exact && matches!(said.kind, Kind::Nothing | Kind::Text) => {
                let says = if said.kind == Kind::Text { "; the kernel's log: \"" } else { "" };
                let end = if said.kind == Kind::Text { "\"" } else { "" };
                tell(&format_args!("{errno}: its init says that something is missing{says}{}{end}", said.first));
                true
            }
            Errno::ENOENT => {
                // Where the kernel's log cannot be had, its list of symbols may tell.
                let mut symbol = heapless::String::<SYMBOL_BYTES>::new();
                match kallsyms::first_missing(self.kernel, elf, &mut symbol) {
                    Ok(Some(others)) => {
                        self.unknown(Some(elf), &symbol, others, tell);
                        true
                    }
                    _ => false,
                }
            }
            Errno::EBUSY => {
                let mut is_told = false;
                let _ = elf.info(&mut |key, value| {
                    for needed in text::fields(value, b',').filter(|_| key == "depends") {
                        if !is_told && !needed.is_empty() && is_coming(self.kernel, Name(needed)) {
                            tell(&format_args!("{errno}: needs `{needed}`, whose init has not returned yet"));
                            is_told = true;
                        }
                    }
                });
                is_told
            }
            _ => false,
        }
    }

    /// Tells if what the machine and its policies say is cause enough.
    fn told_by_machine(&self, name: &str, said: &Said, tell: Tell) -> bool {
        let errno = self.errno;
        let mut tell_it = |text: &dyn Display| {
            tell(&format_args!("{errno}: {text}"));
            true
        };
        match errno {
            Errno::EPERM => {
                let mut buf = [0; CMDLINE_BYTES];
                let (cmdline, ..) = Cmdline::read(self.kernel, c"/proc/cmdline", &mut buf);
                if cmdline.lists("module_blacklist", Name(name)) {
                    return tell_it(&"blocked by module_blacklist= on the kernel command line");
                }
                let mut buf = [0; 64];
                let is = |path, buf, value: &[u8]| read_small(self.kernel, path, buf).is_ok_and(|text| text == value);
                if is(c"/proc/sys/kernel/modules_disabled", &mut buf, b"1") {
                    return tell_it(&"kernel.modules_disabled is 1: nothing can be loaded until the machine restarts");
                }
                if may_load(self.kernel) == Some(false) {
                    return tell_it(&"this process lacks CAP_SYS_MODULE");
                }
                let lockdown = read_small(self.kernel, c"/sys/kernel/security/lockdown", &mut buf);
                let is_locked = lockdown.is_ok_and(|text| text.contains(&b'[') && !text.starts_with(b"[none]"));
                if is_locked || said.kind == Kind::Policy && said.first.starts_with("Lockdown: ") {
                    return tell_it(&"the kernel is locked down: it takes signed modules alone");
                }
                false
            }
            Errno::EBUSY | Errno::EEXIST if is_coming(self.kernel, Name(name)) => {
                tell_it(&"another load of it is under way, and its init has not returned yet")
            }
            Errno::EEXIST if is_live(self.kernel, Name(name)) => {
                tell_it(&format_args!("a module of its name, `{name}`, is loaded already, from another file"))
            }
            Errno::ENOMEM => match machine::available_bytes(self.kernel) {
                Some(bytes) => tell_it(&format_args!(
                    "not enough memory: the machine has {} left, and loading takes up to twice the image",
                    Size(bytes)
                )),
                None => false,
            },
            _ => false,
        }
    }
}

/// Whether the kernel answers so for many reasons, as may the init of a module for others.
fn is_vague(errno: Errno) -> bool {
    matches!(errno, Errno::EPERM | Errno::ENOENT | Errno::ENOEXEC | Errno::EBUSY | Errno::EINVAL)
}

/// How many more there are of something.
struct Others(usize);

impl Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " (and {} more)", self.0) }
    }
}

/// As license_is_gpl_compatible of include/linux/license.h.
fn is_gpl(license: &str) -> bool {
    text::fields("GPL,GPL v2,GPL and additional rights,Dual BSD/GPL,Dual MIT/GPL,Dual MPL/GPL", b',')
        .any(|gpl| gpl == license)
}

fn is_coming<K: Kernel>(kernel: &K, name: Name) -> bool {
    module_state(kernel, name) == Some(ModuleState::Coming)
}

/// Whether this process has CAP_SYS_MODULE (capabilities(7)), where `/proc` tells.
fn may_load<K: Kernel>(kernel: &K) -> Option<bool> {
    const CAP_SYS_MODULE: u32 = 16;
    let mut buf = [0; 2048];
    let status = core::str::from_utf8(read_small(kernel, c"/proc/self/status", &mut buf).ok()?).ok()?;
    let effective = text::fields(status, b'\n').find_map(|line| line.strip_prefix("CapEff:"))?;
    Some(u64::from_str_radix(effective.trim_ascii(), 16).ok()? >> CAP_SYS_MODULE & 1 == 1)
}

/// Hands each parameter of the module to `each`: name, type.
fn each_param(elf: &mut Image, each: &mut dyn FnMut(&str, &str)) -> Result<(), Fault> {
    elf.info(&mut |key, value| {
        if let ("parmtype", Some((name, kind))) = (key, text::split_once(value, b':')) {
            each(name, kind);
        }
    })
}

/// Tells of each parameter that a module, which was loaded with them, does not have: the kernel takes no offence, and then nobody
/// knows why it has no effect.
#[inline(never)]
pub fn tell_ignored_params<K: Kernel>(
    kernel: &K, file: &CStr, budget_bytes: Option<u64>, name: Name, params: &str, tell: Tell,
) {
    for (_, word) in Words::new(params) {
        let word = word.strip_prefix("\"").unwrap_or(word);
        let param = text::split_once(word, b'=').map_or(word, |(param, _)| param);
        // Those that the kernel has for every module (kernel/module/main.c, unknown_module_param_cb).
        if Name(param) == Name("async_probe") || param == "dyndbg" {
            continue;
        }
        // Where it is in sysfs there is no need to look into the file; a parameter need not be there.
        let in_sysfs = crate::path_of(format_args!("/sys/module/{name}/parameters/{}", Name(param)));
        if in_sysfs.is_some_and(|path| kernel.exists(&path)) {
            continue;
        }
        let Ok(file) = kernel.open(file) else { return };
        let mut best = Likest::default();
        let mut is_read = false;
        let mut is_there = false;
        let _ = load::with_image(kernel, budget_bytes, file, &mut |bytes| {
            if let Ok(mut elf) = Elf::open(bytes, Some(THIS_MACHINE)) {
                let read = each_param(&mut elf, &mut |name, kind| {
                    is_there |= Name(name) == Name(param);
                    best.consider(param, name, kind);
                });
                is_read = read.is_ok();
            }
        });
        if is_there || !is_read {
            continue;
        }
        match best.score {
            0 => tell(&format_args!("its parameter `{param}` was ignored: it has no parameters")),
            _ => tell(&format_args!(
                "its parameter `{param}` was ignored: it has none of that name, but `{}` ({})",
                best.name, best.kind
            )),
        }
    }
}

/// The parameter that is likest to one that is not there.
#[derive(Default)]
struct Likest {
    score: usize,
    name: heapless::String<NAME_BYTES>,
    kind: heapless::String<NAME_BYTES>,
}

impl Likest {
    fn consider(&mut self, wanted: &str, name: &str, kind: &str) {
        // Of the letters of both, the share of those that stand in both in the same order, in percent.
        let score = 1 + 200 * common(wanted.as_bytes(), name.as_bytes()) / (wanted.len() + name.len()).max(1);
        if score > self.score {
            (self.score, self.name, self.kind) = (score, heapless::String::new(), heapless::String::new());
            let _ = self.name.push_str(name);
            let _ = self.kind.push_str(kind);
        }
    }
}

/// Length of the longest common subsequence, of the first bytes at least.
fn common(a: &[u8], b: &[u8]) -> usize {
    let mut lengths = [0usize; NAME_BYTES];
    for &byte in a {
        let mut diagonal = 0;
        for (i, &other) in b.iter().take(NAME_BYTES - 1).enumerate() {
            let above = lengths[i + 1];
            lengths[i + 1] = if byte == other { diagonal + 1 } else { above.max(lengths[i]) };
            diagonal = above;
        }
    }
    lengths.into_iter().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::made::Made;
    use crate::explain::no_exporters;
    use crate::kernel::fake::Fake;
    use crate::klog::KernelLog;
    use Errno as E;

    const GOOD: &[&str] = &["license=GPL", "vermagic=6.1.0-test SMP", "depends=a,b", "parmtype=queue_depth:uint"];
    const OTHER: &[&str] = &["license=Proprietary", "vermagic=6.2.0 SMP"];

    fn made(info: &[&str]) -> Vec<u8> {
        Made { name: "m", info, needs: &[("printk", 1), ("crc16", 2)], ..Made::default() }.image()
    }

    fn said(fake: &Fake, errno: Errno, log: &str) -> String {
        let exporters = |symbol: &str, each: &mut dyn FnMut(&str)| {
            if symbol == "crc16" {
                each("kernel/lib/crc16.ko.xz");
            }
        };
        let mut text = None;
        let failure = Failure::Kernel(errno);
        let case = Case {
            file: c"/m.ko",
            failure,
            since_us: 900_000,
            budget_bytes: None,
            exporters: &exporters,
            log: &KernelLog::default(),
        };
        let log = format!("6,1,5,-;m: Unknown symbol old (err -2)\n4,2,1000000,-;{log}\n");
        let fake = fake.clone().with_file("/dev/kmsg", log.as_bytes());
        crate::explain::explain(&fake, &case, &mut |cause| {
            assert!(text.replace(cause.to_string()).is_none(), "told twice");
        });
        text.unwrap()
    }

    #[test]
    fn the_log_and_the_file_tell_the_cause() {
        let good = Fake::default()
            .with_file("/m.ko", &made(GOOD))
            .with_file("/proc/kallsyms", b"0 D init_task\n0 D printk\n0 T taken\t[x]\n");
        let other =
            Fake::default().with_file("/m.ko", &made(OTHER)).with_file("/proc/kallsyms", b"0 T crc16\n0 T taken\n");
        let marked = [&made(GOOD)[..], b"~Module signature appended~\n"].concat();
        let signed = Fake::default().with_file("/m.ko", &marked);
        let unsigned = "EKEYREJECTED: not signed, and this kernel takes signed modules alone";
        for (fake, errno, log, want) in [
            (
                &good,
                E::ENOENT,
                "m: Unknown symbol crc16 (err -2)",
                "ENOENT: needs the symbol `crc16`, which nothing loaded exports; `crc16` does (kernel/lib/crc16.ko.xz): \
                 load it before",
            ),
            (
                &good,
                E::ENOENT,
                "m: Unknown symbol none (err -2)\n4,3,1000001,-;m: Unknown symbol nix (err -2)",
                "ENOENT: needs the symbol `none` (and 1 more), which neither this kernel nor a loaded module exports",
            ),
            (
                &good,
                E::ENOENT,
                "m: Unknown symbol taken (err -2)",
                "ENOENT: needs the symbol `taken`, which `x` has, but does not export",
            ),
            (
                &good,
                E::ENOENT,
                "m: Unknown symbol printk (err -2)",
                "ENOENT: needs the symbol `printk`, which this kernel has, but does not export to modules",
            ),
            (
                &other,
                E::ENOENT,
                "m: Unknown symbol taken (err -2)",
                "ENOENT: needs the symbol `taken`, which is for modules of a GPL license alone; its own is \"Proprietary\"",
            ),
            (
                &other,
                E::ENOENT,
                "m: Unknown symbol none (err -2)",
                "ENOENT: built for 6.2.0, this kernel is 6.1.0-test, which has no symbol `none`",
            ),
            (
                &other,
                E::ENOEXEC,
                "m: disagrees about version of symbol module_layout",
                "ENOEXEC: built for 6.2.0, this kernel is 6.1.0-test",
            ),
            (&other, E::ENOEXEC, "x", "ENOEXEC: built for 6.2.0, this kernel is 6.1.0-test"),
            (
                &good,
                E::ENOEXEC,
                "m: version magic '6.1.0-test SMP' should be '6.1.0-test '",
                "ENOEXEC: built for a kernel of \"6.1.0-test SMP\", this one is of \"6.1.0-test \"",
            ),
            (
                &good,
                E::EINVAL,
                "m: disagrees about version of symbol printk\n4,3,1000001,-;m: Unknown symbol printk (err -22)",
                "EINVAL: the checksum of the symbol `printk` is another here than it was built with: take the module from \
                 the build of this very kernel",
            ),
            (
                &good,
                E::EINVAL,
                "m: module uses symbol (a) from namespace B, but does not import it.",
                "EINVAL: uses the symbol `a` of the namespace B without importing that (MODULE_IMPORT_NS in its source)",
            ),
            (
                &good,
                E::ENOEXEC,
                "m: exports duplicate symbol a (owned by b)",
                "ENOEXEC: exports the symbol `a`, which `b` exports already: only one of them can be loaded",
            ),
            (
                &good,
                E::EINVAL,
                "m: `abc' invalid for parameter `queue_depth'",
                "EINVAL: its parameter `queue_depth` (uint) does not take the value `abc`",
            ),
            (&good, E::EINVAL, "m: module is already loaded", "EINVAL: a module of its name is built into this kernel"),
            (&good, E::EKEYREJECTED, "Loading of unsigned module is rejected", unsigned),
            (
                &good,
                E::ENOENT,
                "dev 1: Direct firmware load for a.bin failed with error -2",
                // The log is silent about symbols; the list of symbols is not.
                "ENOENT: needs the symbol `crc16`, which nothing loaded exports; `crc16` does (kernel/lib/crc16.ko.xz): \
                 load it before",
            ),
            (
                &good,
                E::ENODEV,
                "dev 1: Direct firmware load for a.bin failed with error -2",
                "ENODEV: the firmware a.bin cannot be loaded (error -2): put it below /lib/firmware of the initramfs, or \
                 load the module later",
            ),
            (
                &good,
                E::ENODEV,
                "m: no chip at 0x48",
                "ENODEV: its init found no device that it is for; the kernel's log: \"no chip at 0x48\"",
            ),
            (&good, E::ENODEV, "x", "ENODEV: its init found no device that it is for"),
            (&good, E::EINVAL, "m: no such mode", "EINVAL: in the kernel's log it says: \"no such mode\""),
            (
                &signed,
                E::EKEYREJECTED,
                "Loading of module with unavailable key is rejected",
                "EKEYREJECTED: signed with a key that this kernel does not have: take the module from the build of this \
                 very kernel",
            ),
            (
                &signed,
                E::EKEYREJECTED,
                "x\n15,3,1000000,-;modest: looks here for the cause of a failure",
                "EKEYREJECTED: its signature is not that of what it holds: it was changed after it was signed",
            ),
            (
                &signed,
                E::EKEYREJECTED,
                "x",
                "EKEYREJECTED: not signed with a key that this kernel trusts, and it enforces signatures",
            ),
        ] {
            assert_eq!(said(fake, errno, log), want, "{log}");
        }
    }

    #[test]
    fn the_machine_tells_what_forbids_it() {
        let with = |path: &str, content: &str| {
            Fake::default().with_file("/m.ko", &made(GOOD)).with_file(path, content.as_bytes())
        };
        let coming = "EBUSY: another load of it is under way, and its init has not returned yet";
        for (fake, errno, want) in [
            (
                with("/proc/cmdline", "quiet module_blacklist=x,m"),
                E::EPERM,
                "EPERM: blocked by module_blacklist= on the kernel command line",
            ),
            (
                with("/proc/sys/kernel/modules_disabled", "1\n"),
                E::EPERM,
                "EPERM: kernel.modules_disabled is 1: nothing can be loaded until the machine restarts",
            ),
            (
                with("/proc/self/status", "Name:\tx\nCapEff:\t000001fffffeffff\n"),
                E::EPERM,
                "EPERM: this process lacks CAP_SYS_MODULE",
            ),
            (
                with("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
                E::EPERM,
                "EPERM: the kernel is locked down: it takes signed modules alone",
            ),
            (
                with("/sys/module/b/initstate", "coming\n"),
                E::EBUSY,
                "EBUSY: needs `b`, whose init has not returned yet",
            ),
            (with("/sys/module/m/initstate", "coming\n"), E::EBUSY, coming),
            (
                with("/sys/module/m/initstate", "live\n"),
                E::EEXIST,
                "EEXIST: a module of its name, `m`, is loaded already, from another file",
            ),
            (
                with("/proc/meminfo", "MemAvailable: 2048 kB\n"),
                E::ENOMEM,
                "ENOMEM: not enough memory: the machine has 2.0 MiB left, and loading takes up to twice the image",
            ),
        ] {
            assert_eq!(said(&fake, errno, "x"), want);
        }
        // Nothing of that is so.
        let fake = with("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
            .with_file("/proc/self/status", b"CapEff:\t0000000000010000\n")
            .with_file("/proc/sys/kernel/modules_disabled", b"0\n");
        assert!(said(&fake, E::EPERM, "x").starts_with("EPERM: not permitted (no CAP_SYS_MODULE, "));
    }

    #[test]
    fn what_no_one_tells_is_what_is_left() {
        let signed = [&made(GOOD)[..], b"~Module signature appended~\n"].concat();
        let fake = Fake::default().with_file("/m.ko", &signed);
        assert_eq!(
            said(&fake, E::EINVAL, "x\n15,3,1000000,-;modest: looks here for the cause of a failure"),
            "EINVAL: its signature is damaged, or its init says so (other causes would be in the kernel's log)"
        );
        assert_eq!(said(&fake, E::EINVAL, "m: no"), "EINVAL: in the kernel's log it says: \"no\"");
        let empty = Fake::default().with_file("/m.ko", b"");
        assert_eq!(
            said(&empty, E::EEXIST, "x"),
            "EEXIST: its init says that something exists already, or a module of the name that is in it is loaded"
        );
    }

    #[test]
    fn a_parameter_that_is_ignored_is_told_with_the_likest() {
        let told = |info: &[&str], params: &str| {
            let fake = Fake::default().with_file("/m.ko", &made(info)).with_file("/sys/module/m/parameters/there", b"");
            let mut told = vec![];
            tell_ignored_params(&fake, c"/m.ko", None, Name("m"), params, &mut |text| told.push(text.to_string()));
            told
        };
        let info = &["parmtype=queue_depth:uint", "parmtype=name:charp", "parmtype=in_file-only:int"];
        assert_eq!(told(info, "there=1 queue-depth=1 in-file_only=1 dyndbg=+p async-probe"), [""; 0]);
        assert_eq!(
            told(info, "qdepth=1 \"nme=a b\""),
            [
                "its parameter `qdepth` was ignored: it has none of that name, but `queue_depth` (uint)",
                "its parameter `nme` was ignored: it has none of that name, but `name` (charp)",
            ]
        );
        assert_eq!(told(&[], "x"), ["its parameter `x` was ignored: it has no parameters"]);
    }

    #[test]
    fn without_a_log_the_errno_speaks() {
        let fake = Fake::default();
        let case = Case {
            file: c"/m.ko",
            failure: Failure::Kernel(E::ENOENT),
            since_us: 0,
            budget_bytes: None,
            exporters: &no_exporters,
            log: &KernelLog::default(),
        };
        let mut text = String::new();
        crate::explain::explain(&fake, &case, &mut |cause| text = cause.to_string());
        assert!(text.starts_with("ENOENT: a symbol it needs is not there"), "{text}");
    }
}
