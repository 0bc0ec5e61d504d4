//! The cause of what the kernel answered to a load: its log is asked first, then the file, then the machine.

use core::ffi::CStr;

use crate::decode::format_of;
use crate::elf::{Bytes, Elf, Fault, FileBytes, NAME_BYTES, THIS_MACHINE, ends_in_zeros};
use crate::errno::Errno;
use crate::explain::cause::{Cause, is_about_content};
use crate::explain::failed_load::{FailedLoad, Report};
use crate::explain::klog::{KernelLog, Kind, Messages};
use crate::format::Format;
use crate::kernel::{FileKind, Kernel};
use crate::limits::FILE_NAME_BYTES;
use crate::load::{self, Failure};
use crate::name;
use crate::path;
use crate::report::shown;
use crate::source::DecodeError;

mod file;
mod log;
mod machine;
mod others;
#[cfg(test)]
mod tests;

use others::Others;

/// A module's image, as the inquiry reads it.
type Image<'b> = Elf<&'b mut dyn Bytes>;

/// Finds the cause of a failure, and reports it.
pub fn explain<K: Kernel>(kernel: &K, log: &KernelLog<K>, load: &FailedLoad, report: Report) {
    let Failure::Kernel(errno) = load.failure else {
        let cause = by_headers(kernel, load);
        return match other_form(kernel, load) {
            Some(form) => report(&format_args!("{cause}; it is there with the ending .ko{}", form.ending())),
            None => report(&cause),
        };
    };
    let inquiry = Inquiry { kernel, log, load, errno };
    if !(is_about_file(errno) && inquiry.with_file(report)) {
        inquiry.ask(None, report);
    }
}

/// What is known before the inquiry begins. Each question returns whether it has reported the cause.
struct Inquiry<'i, K: Kernel> {
    kernel: &'i K,
    log: &'i KernelLog<K>,
    load: &'i FailedLoad<'i>,
    errno: Errno,
}

impl<K: Kernel> Inquiry<'_, K> {
    /// Asks with the file at hand. That fails where the file cannot be read, and this is not the cause.
    fn with_file(&self, report: Report) -> bool {
        let Ok(file) = self.kernel.open(self.load.file) else { return false };
        if let Ok(stat) = self.kernel.stat(&file)
            && stat.kind != FileKind::Regular
        {
            return self.report_fault(Fault::NotRegular(stat.kind), report);
        }
        let mut is_reported = false;
        let looked = load::with_image(self.kernel, self.load.budget_bytes, file, &mut |bytes| {
            is_reported = match Elf::open(bytes, Some(THIS_MACHINE)) {
                Ok(mut elf) => {
                    self.ask(Some(&mut elf), report);
                    true
                }
                // The file may be good: it is this build that cannot decode it.
                Err(Fault::Unreadable(DecodeError::Unsupported(_))) => false,
                Err(_) if knows_name(self.errno) => false,
                Err(fault) => self.report_fault(fault, report),
            };
        });
        match looked {
            Ok(()) | Err(Failure::Decode(DecodeError::Unsupported(_))) => is_reported,
            Err(Failure::Decode(error)) if !is_reported && self.errno != Errno::EEXIST => {
                self.report_fault(Fault::Unreadable(error), report)
            }
            Err(_) => is_reported,
        }
    }

    /// Asks one after the other who may know the cause, until one does.
    fn ask(&self, mut elf: Option<&mut Image>, report: Report) {
        let name = self.module_name(elf.as_deref_mut());
        let messages = self.log.read(self.kernel, &name, self.load.since_us);
        let has_file = elf.is_some();
        let is_reported = self.by_log(elf.as_deref_mut(), &messages, report)
            || elf.is_some_and(|elf| self.by_file(elf, &messages, report))
            || self.by_machine(&name, &messages, report);
        if !is_reported {
            self.by_errno(has_file, &messages, report);
        }
    }

    /// The module's name as its image has it, or else its file.
    fn module_name(&self, elf: Option<&mut Image>) -> heapless::String<FILE_NAME_BYTES> {
        let mut name = heapless::String::new();
        let mut buf = [0; NAME_BYTES];
        // A name that does not fit is longer than what the kernel takes.
        let _ = match elf.and_then(|elf| elf.name(&mut buf).ok()) {
            Some(written) => name.push_str(written).map_err(|_| core::fmt::Error),
            None => core::fmt::write(&mut name, format_args!("{}", name::of(shown(self.load.file)))),
        };
        name
    }

    /// Reports what the errno means, and what the log says besides.
    fn by_errno(&self, has_file: bool, messages: &Messages, report: Report) {
        let (errno, first, second) = (self.errno, messages.first.as_str(), messages.second.as_str());
        let (others, cause) = (Others(messages.others), Cause::<Fault>::from(self.load.failure));
        if errno == Errno::EEXIST && !has_file {
            return report(&format_args!("{cause}, or a module with the name in this file is already loaded"));
        }
        match messages.kind {
            Kind::Firmware => report(&format_args!(
                "{errno}: the kernel could not load the firmware {first}{others} (error {second}): put it into \
                 /lib/firmware of the initramfs, or load the module later"
            )),
            // The errno is what the init of a module, or the kernel, may mean in many ways; the words are its own.
            Kind::Text if is_vague(errno) => report(&format_args!("{errno}: the kernel's log says: \"{first}\"")),
            Kind::Text | Kind::Policy => report(&format_args!("{cause}; the kernel's log says: \"{first}\"")),
            _ => report(&cause),
        }
    }

    /// Reports a fault of the file, which needs no log.
    fn report_fault(&self, fault: Fault, report: Report) -> bool {
        self.log.skip(self.kernel);
        let fault = match fault {
            Fault::Unreadable(_) => zeros_in(self.kernel, self.load.file).unwrap_or(fault),
            fault => fault,
        };
        report(&Cause { failure: self.load.failure, fault: Some(fault) });
        true
    }
}

/// Whether the errno may be about what is in the file. The others say it all, or come from the module's init.
fn is_about_file(errno: Errno) -> bool {
    matches!(
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
            // Of a file that it cannot unpack to its end, the kernel leaves the descriptor open (init/initramfs.c).
            | Errno::ETXTBSY
    )
}

/// The format that a file of the same name is in, compressed or not, where the one asked for is not there.
fn other_form<K: Kernel>(kernel: &K, load: &FailedLoad) -> Option<Format> {
    if load.failure != Failure::Open(Errno::ENOENT) {
        return None;
    }
    let file = shown(load.file);
    let (_, format) = name::strip_ko(file)?;
    let plain = file.strip_suffix(format.ending())?;
    [Format::Plain, Format::Gzip, Format::Xz, Format::Zstd].into_iter().find(|other| {
        path::joined(&[plain.as_bytes(), other.ending().as_bytes()]).is_some_and(|path| kernel.exists(&path))
    })
}

/// The cause as far as the errno and the headers of the file tell it.
fn by_headers<K: Kernel>(kernel: &K, load: &FailedLoad) -> Cause<Fault> {
    let file = if is_about_content(load.failure) { kernel.open(load.file).ok() } else { None };
    Cause { failure: load.failure, fault: file.and_then(|file| examine(kernel, &file)) }
}

fn examine<K: Kernel>(kernel: &K, file: &K::File) -> Option<Fault> {
    match format_of(kernel, file) {
        // Of a compressed file the headers are out of sight.
        Ok(format) if format != Format::Plain => zeros_at_end(kernel, file),
        _ => examine_plain(kernel, file).err(),
    }
}

/// The fault of the file at `path`, if it ends in zeros.
pub(super) fn zeros_in<K: Kernel>(kernel: &K, path: &CStr) -> Option<Fault> {
    zeros_at_end(kernel, &kernel.open(path).ok()?)
}

fn zeros_at_end<K: Kernel>(kernel: &K, file: &K::File) -> Option<Fault> {
    ends_in_zeros(&mut FileBytes { kernel, file }).is_ok_and(|does| does).then_some(Fault::EndsInZeros)
}

fn examine_plain<K: Kernel>(kernel: &K, file: &K::File) -> Result<(), Fault> {
    let stat = kernel.stat(file).map_err(DecodeError::Read)?;
    match stat.kind {
        FileKind::Regular => Elf::open(FileBytes { kernel, file }, Some(THIS_MACHINE)).map(drop),
        kind => Err(Fault::NotRegular(kind)),
    }
}

/// Whether the kernel knew the module's name when it answered so: then it could read the file.
fn knows_name(errno: Errno) -> bool {
    matches!(errno, Errno::EBUSY | Errno::EEXIST | Errno::ENOSPC | Errno::ERANGE)
}

/// Whether the kernel answers so for many reasons, and a module's init for others.
fn is_vague(errno: Errno) -> bool {
    matches!(errno, Errno::EPERM | Errno::ENOENT | Errno::ENOEXEC | Errno::EBUSY | Errno::EINVAL)
}
