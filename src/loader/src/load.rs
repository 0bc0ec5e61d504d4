//! The load paths, how one is chosen, and the calls of each.
//!
//! On the fast path (a plain file, a kernel with finit_module) a module costs open, finit_module and close. An error of the
//! module's own is never retried through another call: that would run its init twice.

use core::ffi::CStr;
use core::fmt;

use crate::decode::{self, DecodeError};
#[cfg(feature = "explain")]
use crate::elf::{Bytes, Decoded, FileBytes};
use crate::errno::Errno;
use crate::image::{self, Format};
use crate::kernel::{CallError, Caller, Kernel, Opener, StreamError, Taker, read_small};
use crate::limits::{DICTIONARY_BYTES, LOW_MEMORY_IMAGES};
use crate::memory;
use crate::name;
use crate::pin;
use crate::pin::Pin;

/// A way to put a module into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadPath {
    /// `finit_module` of a plain file. No user memory.
    Finit,
    /// `finit_module` of a file in the format that the kernel decompresses itself. No user memory.
    FinitCompressed,
    /// `init_module` of the image read or decoded piece by piece while the kernel copies it. User memory for the window and
    /// the decoder, whatever the image's length.
    Stream,
    /// `init_module` of a mapped plain file. Page cache only.
    Mmap,
    /// `init_module` of the image read or decoded into one region of exactly its size.
    Buffer,
}

impl LoadPath {
    /// All paths.
    pub const ALL: [LoadPath; 5] =
        [LoadPath::Finit, LoadPath::FinitCompressed, LoadPath::Stream, LoadPath::Mmap, LoadPath::Buffer];

    /// As `@path=` names it.
    pub fn name(self) -> &'static str {
        match self {
            LoadPath::Finit => "finit",
            LoadPath::FinitCompressed => "finit-compressed",
            LoadPath::Stream => "stream",
            LoadPath::Mmap => "mmap",
            LoadPath::Buffer => "buffer",
        }
    }

    /// The path that `name` names.
    pub fn from_name(name: &str) -> Option<LoadPath> {
        Self::ALL.into_iter().find(|path| path.name() == name)
    }
}

impl fmt::Display for LoadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All that the choice of a path rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// How the file holds the image.
    pub format: Format,
    /// The path that the manifest demands.
    pub wanted: Option<LoadPath>,
    /// Whether the kernel has finit_module (since 3.8).
    pub has_finit: bool,
    /// The format that the kernel decompresses, by `/sys/module/compression`.
    pub kernel_decodes: Option<Format>,
    /// User memory of the window; `None` where the kernel has no userfaultfd, or nobody asked.
    pub window_bytes: Option<u64>,
    /// What paths would need and have; `None` while the choice does not depend on it.
    pub memory: Option<Memory>,
    /// Whether the manifest says what its digest is, so that it is read or decoded here.
    pub is_pinned: bool,
}

/// What a path that takes user memory needs and has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Length of the file.
    pub file: u64,
    /// Length of the image.
    pub image: u64,
    /// The decoder of the file's format, in user space.
    pub decoder: u64,
    /// The dictionary that the file wants besides.
    pub dictionary: u64,
    /// The decoder that the kernel has for it, if it has one.
    pub kernel_decoder: u64,
    /// MemAvailable of the machine; `None` where `/proc/meminfo` does not tell.
    pub available: Option<u64>,
    /// Ceiling on the loader's own memory.
    pub budget: Option<u64>,
    /// Whether all of the image is made here on every path, to be checked.
    pub is_pinned: bool,
}

impl Memory {
    fn is_low(&self) -> bool {
        let wanted = self.image.saturating_mul(LOW_MEMORY_IMAGES);
        self.available.is_some_and(|available| available < wanted)
    }

    /// User memory of a path besides the program itself, the peak.
    fn added(&self, path: LoadPath, window: u64) -> u64 {
        // A dictionary is touched only as far as the image fills it.
        let decoder = self.decoder.saturating_add(self.dictionary.min(self.image));
        match path {
            LoadPath::Finit | LoadPath::FinitCompressed | LoadPath::Mmap if self.is_pinned => decoder,
            LoadPath::Finit | LoadPath::FinitCompressed | LoadPath::Mmap => 0,
            LoadPath::Stream => decoder.saturating_add(window),
            LoadPath::Buffer => decoder.saturating_add(self.image),
        }
    }

    /// Whether so much may be added, and the kernel's copy of the image. What the kernel needs to link it is not known for sure.
    fn allows(&self, added: u64) -> Result<(), Refusal> {
        let (user, machine) = (PROGRAM_BYTES.saturating_add(added), added.saturating_add(self.image));
        match (self.budget, self.available) {
            (Some(has), _) if user > has => Err(Refusal::OverBudget(user, has)),
            (None, _) if self.dictionary > DICTIONARY_BYTES => Err(Refusal::Dictionary(self.dictionary)),
            (_, Some(has)) if machine > has => Err(Refusal::OverMemory(machine, has)),
            _ => Ok(()),
        }
    }

    /// User memory, the peak.
    fn user(&self, path: LoadPath, window: u64) -> u64 {
        PROGRAM_BYTES.saturating_add(self.added(path, window))
    }

    /// Memory of the machine while the module is loaded, the peak, but for the file itself: see `docs/memory.md`.
    fn machine(&self, path: LoadPath, window: u64) -> u64 {
        // What stays of the image is not known before it is decoded; half of it is usual.
        let linked = self.image.saturating_add(self.image / 2);
        match path {
            LoadPath::FinitCompressed => {
                // The kernel has a copy of the file, and a decoder and a dictionary of its own, all touched.
                let decoding = self.file.saturating_add(self.image).saturating_add(self.kernel_decoder);
                linked.max(decoding.saturating_add(self.dictionary))
            }
            // The decoder's memory is given back before the kernel links.
            LoadPath::Stream => linked.saturating_add(window).max(self.image.saturating_add(self.added(path, window))),
            LoadPath::Buffer => linked.saturating_add(self.image),
            LoadPath::Finit | LoadPath::Mmap => linked,
        }
    }
}

/// Why no path can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Neither the kernel nor this build decodes the format.
    NoDecoder(Format, Option<Format>),
    /// The path demanded cannot take such a file on this kernel.
    Unfit(LoadPath, Format),
    /// Pinned, but this build does not decode the format, so nothing tells what would be loaded.
    Unchecked(Format),
    /// Over the ceiling: needs, has.
    OverBudget(u64, u64),
    /// Over the machine's free memory: needs, has.
    OverMemory(u64, u64),
    /// Only finit_module takes flags, and it cannot take the file.
    Force(Format),
    /// The file's dictionary, or window, is over what is allowed without a budget.
    Dictionary(u64),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Refusal::NoDecoder(format, kernel) => {
                let (format, kernel) = (format.name(), kernel.map_or("nothing", Format::name));
                write!(
                    f,
                    "compressed with {format}, which this build does not decode, and this kernel decodes {kernel}; \
                     keep the module plain, or in gzip or xz"
                )
            }
            Refusal::Unfit(path, format) => {
                write!(f, "@path={path} cannot load a file that is {} on this kernel", format.name())
            }
            Refusal::Unchecked(format) => {
                write!(f, "@sha256= cannot be checked: this build does not decode {}", format.name())
            }
            Refusal::OverBudget(needs, has) | Refusal::OverMemory(needs, has) => {
                let of_budget = matches!(self, Refusal::OverBudget(..));
                let has_it = if of_budget { "@budget allows" } else { "the machine has" };
                write!(f, "needs {} KiB of memory, and {has_it} {}", needs.div_ceil(1024), has / 1024)
            }
            Refusal::Force(_) if !cfg!(feature = "explain") => Ok(()),
            Refusal::Force(format) => write!(
                f,
                "to be forced, which only finit_module can, and that takes no file that is {} on this kernel: decompress it",
                format.name()
            ),
            Refusal::Dictionary(needs) => write!(
                f,
                "its dictionary of {} KiB is over DICTIONARY_BYTES, {}; a larger @budget would allow it",
                needs.div_ceil(1024),
                DICTIONARY_BYTES / 1024
            ),
        }
    }
}

/// User memory of the program itself while it loads a module: its code as far as that is run, and the stack. Measured by the
/// guest tests, which compare what was predicted with the peak.
const PROGRAM_BYTES: u64 =
    (64 + if cfg!(feature = "names") { 12 } else { 0 } + if cfg!(feature = "explain") { 16 } else { 0 }) << 10;

/// Memory of a decoder besides image and dictionary, here and in the kernel. Here: state, input, code, and gzip's window; measured
/// as above. There: zlib_inflate_workspacesize, struct xz_dec, zstd_dctx_workspace_bound with its buffer of four blocks.
fn decoder_bytes(format: Format) -> (u64, u64) {
    match format {
        Format::Plain => (16 << 10, 0),
        Format::Gzip => (64 << 10, 48 << 10),
        Format::Xz => (128 << 10, 48 << 10),
        Format::Zstd => (64 << 10, 560 << 10),
    }
}

/// Whether this build decodes `format` itself.
fn decodes(format: Format) -> bool {
    match format {
        Format::Plain => true,
        Format::Gzip => cfg!(feature = "gzip"),
        Format::Xz => cfg!(feature = "xz"),
        Format::Zstd => cfg!(feature = "zstd"),
    }
}

impl Facts {
    fn can(&self, path: LoadPath) -> bool {
        let plain = self.format == Format::Plain;
        match path {
            LoadPath::Finit => plain && self.has_finit,
            LoadPath::FinitCompressed => !plain && self.has_finit && self.kernel_decodes == Some(self.format),
            LoadPath::Stream => self.window_bytes.is_some() && decodes(self.format),
            LoadPath::Mmap => plain,
            LoadPath::Buffer => decodes(self.format),
        }
    }

    /// Whether streaming costs this machine, which has little, less memory than `other`, and no more than it may.
    fn saves(&self, other: LoadPath) -> bool {
        let (Some(memory), Some(window)) = (self.memory, self.window_bytes) else { return false };
        let fits = memory.budget.is_none_or(|budget| memory.user(LoadPath::Stream, window) <= budget);
        let less = memory.machine(LoadPath::Stream, window) < memory.machine(other, window);
        memory.is_low() && fits && (less || other == LoadPath::Mmap)
    }

    /// The path that no demand of the manifest changes.
    fn automatic(&self) -> Option<LoadPath> {
        let in_kernel = [LoadPath::Finit, LoadPath::FinitCompressed, LoadPath::Mmap];
        // Where it is pinned, the bytes that are checked are to be those that are loaded.
        let path = in_kernel.into_iter().find(|path| self.can(*path) && !self.is_pinned);
        match path {
            // A file that is mapped stays in the page cache, which costs memory if the file is on a disk.
            Some(path @ (LoadPath::FinitCompressed | LoadPath::Mmap))
                if self.can(LoadPath::Stream) && self.saves(path) =>
            {
                Some(LoadPath::Stream)
            }
            None => [LoadPath::Stream, LoadPath::Buffer].into_iter().find(|path| self.can(*path)),
            path => path,
        }
    }
}

/// The path for a module: finit where the kernel can, then what costs least memory on a machine that has little.
pub fn choose(facts: &Facts) -> Result<LoadPath, Refusal> {
    if facts.is_pinned && !decodes(facts.format) {
        return Err(Refusal::Unchecked(facts.format));
    }
    let path = match facts.wanted {
        Some(path) if facts.can(path) => path,
        Some(path) => return Err(Refusal::Unfit(path, facts.format)),
        None => facts.automatic().ok_or(Refusal::NoDecoder(facts.format, facts.kernel_decodes))?,
    };
    let takes_memory = matches!(path, LoadPath::Stream | LoadPath::Buffer) || facts.is_pinned;
    let (true, Some(memory)) = (takes_memory, facts.memory) else { return Ok(path) };
    memory.allows(memory.added(path, facts.window_bytes.unwrap_or(0))).map(|()| path)
}

/// What is known of the kernel, asked once and only when it matters.
#[derive(Clone, Copy, Debug)]
pub struct Offers {
    has_finit: bool,
    /// `None` until asked.
    kernel_decodes: Option<Option<Format>>,
    /// Likewise.
    window_bytes: Option<Option<u64>>,
    /// Ceiling on the loader's own memory in bytes.
    pub budget_bytes: Option<u64>,
}

impl Default for Offers {
    fn default() -> Self {
        Offers { has_finit: true, kernel_decodes: None, window_bytes: None, budget_bytes: None }
    }
}

impl Offers {
    /// Nothing known yet.
    pub fn new(budget_bytes: Option<u64>) -> Offers {
        Offers { budget_bytes, ..Offers::default() }
    }

    fn kernel_decodes<K: Kernel>(&mut self, kernel: &K) -> Option<Format> {
        *self.kernel_decodes.get_or_insert_with(|| {
            let mut buf = [0; 16];
            let name = read_small(kernel, c"/sys/module/compression", &mut buf).ok()?;
            [Format::Gzip, Format::Xz, Format::Zstd].into_iter().find(|f| f.name().as_bytes() == name)
        })
    }

    fn window_bytes<K: Kernel>(&mut self, kernel: &K) -> Option<u64> {
        *self.window_bytes.get_or_insert_with(|| kernel.stream_window_bytes().map(|bytes| bytes as u64))
    }
}

/// One module to load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The file, as open(2) takes it.
    pub file: &'a CStr,
    /// Parameters, as the kernel reads them.
    pub params: &'a CStr,
    /// The path demanded.
    pub path: Option<LoadPath>,
    /// The image's length in bytes, where the manifest tells.
    pub size_bytes: Option<u64>,
    /// Its digest, likewise: no other image is loaded.
    pub sha256: Option<Pin<'a>>,
    /// Flags of finit_module besides those of the path (`MODULE_INIT_*`).
    pub flags: u32,
    /// Whether to look up the file's length, for a report: one call more.
    pub measure: bool,
    /// Who makes the call that loads: see [`crate::limits::LOW_MACHINE_BYTES`].
    pub caller: Caller,
}

/// How a module was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The path that took it.
    pub path: LoadPath,
    /// The file's length in bytes, if it was to be measured.
    pub file_bytes: u64,
    /// The user memory that the path was expected to take, in bytes.
    pub user_bytes: u64,
}

/// Why a module is not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The file cannot be opened.
    Open(Errno),
    /// The file cannot be read.
    Read(Errno),
    /// No memory can be mapped.
    Memory(Errno),
    /// The file does not decode.
    Decode(DecodeError),
    /// No path can take it.
    Refusal(Refusal),
    /// The image is not the one that the manifest means.
    Mismatch(pin::Mismatch),
    /// The kernel refused the module, or its init did.
    Kernel(Errno),
    /// The call that loads did not return in its time: it was ended, or is left behind in a process that nothing ends.
    TimedOut {
        /// The time that it had.
        timeout_ms: u32,
        /// Whether the call goes on.
        is_left: bool,
    },
    /// The kernel is still busy with the module, which was left behind.
    Left,
}

impl Failure {
    /// Whether the call goes on. What it reads must stay where it is, in memory that is never given back.
    pub fn is_left(self) -> bool {
        match self {
            Failure::TimedOut { is_left, .. } => is_left,
            _ => false,
        }
    }

    /// Whether it may pass by itself, so that trying again can help:
    /// - a file that is not there yet;
    /// - EBUSY: what the module needs is still being initialised, or a duplicate of it (kernel/module/main.c);
    /// - EAGAIN, ETIMEDOUT: its init says so;
    /// - ENODEV, ENXIO, EPROBE_DEFER: its init found no device, or not what that needs. What a driver's probe says does not reach the
    ///   init, and is tried again by the kernel itself (drivers/base/dd.c), but for `platform_driver_probe`: ENODEV, once and for all;
    /// - ENOENT: its init found no firmware, or somebody else has yet to load what exports a symbol.
    ///
    /// What the kernel finds in the file stays so, as do permission and parameters.
    pub fn may_pass(self) -> bool {
        /// Of `linux/errno.h`: not for user space, but an init may return it.
        const EPROBE_DEFER: Errno = Errno(517);
        const PASSING: [Errno; 7] =
            [Errno::EBUSY, Errno::EAGAIN, Errno::ETIMEDOUT, Errno::ENODEV, Errno::ENXIO, EPROBE_DEFER, Errno::ENOENT];
        match self {
            Failure::Open(errno) => errno == Errno::ENOENT,
            Failure::Kernel(errno) => PASSING.contains(&errno),
            Failure::TimedOut { is_left, .. } => !is_left,
            _ => false,
        }
    }
}

/// What a call that read `memory` came to.
fn having_read<R>(memory: R, result: Result<(), CallError>) -> Result<(), Failure> {
    let result = result.map_err(Failure::from);
    if result.is_err_and(Failure::is_left) {
        core::mem::forget(memory);
    }
    result
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        match error {
            CallError::Kernel(errno) => Failure::Kernel(errno),
            CallError::TimedOut { timeout_ms, is_left } => Failure::TimedOut { timeout_ms, is_left },
        }
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Failure {
        match error {
            StreamError::Memory(errno) => Failure::Memory(errno),
            StreamError::Source(error) => error.into(),
            StreamError::Call(error) => error.into(),
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Failure {
        match error {
            DecodeError::Read(errno) => Failure::Read(errno),
            DecodeError::Mismatch(mismatch) => Failure::Mismatch(mismatch),
            error => Failure::Decode(error),
        }
    }
}

/// `MODULE_INIT_IGNORE_MODVERSIONS` of `linux/module.h`: the CRCs of symbols are not compared.
pub const IGNORE_MODVERSIONS: u32 = 1;

/// `MODULE_INIT_IGNORE_VERMAGIC`: what it was built for does not matter.
pub const IGNORE_VERMAGIC: u32 = 2;

/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h`.
const COMPRESSED_FILE: u32 = 4;

/// Opens the module of `request`, chooses its path and checks its digest without loading it.
pub fn prepare<K: Kernel>(kernel: &K, offers: &mut Offers, request: &Request) -> Result<(LoadPath, Format), Failure> {
    let file = kernel.open(request.file).map_err(Failure::Open)?;
    let format = read_format(kernel, &file)?;
    let (path, extent) = choose_for(kernel, offers, request, &file, format)?;
    if let Some(pin) = request.sha256 {
        check(kernel, pin, &file, format, extent)?;
    }
    Ok((path, format))
}

/// Loads the module of `request`.
pub fn load<K: Kernel>(kernel: &K, offers: &mut Offers, request: &Request) -> Result<Loaded, Failure> {
    let file = kernel.open(request.file).map_err(Failure::Open)?;
    load_file(kernel, offers, request, file)
}

/// As [`load`], of a file that is open already.
pub fn load_file<K: Kernel>(
    kernel: &K, offers: &mut Offers, request: &Request, file: K::File,
) -> Result<Loaded, Failure> {
    let name = name::basename(request.file.to_str().unwrap_or_default());
    // The magic decides; the name only says whether to look before the first call or after its refusal.
    let plain_by_name = request.sha256.is_none() && matches!(name::strip_ko(name), Some((_, Format::Plain)));
    let mut format = if plain_by_name { Format::Plain } else { read_format(kernel, &file)? };
    let mut request = *request;
    loop {
        let may_be_finit =
            request.sha256.is_none() && offers.has_finit && matches!(request.path, None | Some(LoadPath::Finit));
        // Not in the smallest builds, which are all in few pages.
        let (path, extent) = if format == Format::Plain && may_be_finit {
            // There is nothing better.
            (LoadPath::Finit, Extent { user_bytes: PROGRAM_BYTES, ..Extent::default() })
        } else {
            choose_for(kernel, offers, &request, &file, format)?
        };
        let refused = match attempt(kernel, &request, &file, format, path, extent) {
            Ok(()) => {
                let stat = request.measure.then(|| kernel.stat(&file).ok()).flatten();
                return Ok(Loaded {
                    path,
                    file_bytes: stat.map_or(0, |s| s.size_bytes),
                    user_bytes: extent.user_bytes,
                });
            }
            Err(failure) => failure,
        };
        match (path, refused) {
            // ENOSYS may as well be what the module's init returned.
            (LoadPath::Finit | LoadPath::FinitCompressed, Failure::Kernel(Errno::ENOSYS))
                if !kernel.has_finit_module() =>
            {
                offers.has_finit = false;
            }
            // The kernel never had the whole image, so nothing of the module ran.
            (_, Failure::Decode(DecodeError::Length)) if extent.guessed => {
                request.size_bytes = Some(count(kernel, &file, format, extent)?);
            }
            // The kernel saw no ELF header, so nothing of the module ran.
            (_, Failure::Kernel(Errno::ENOEXEC)) if plain_by_name && format == Format::Plain => {
                format = read_format(kernel, &file).map_err(|_| refused)?;
                if format == Format::Plain {
                    return Err(refused);
                }
            }
            _ => return Err(refused),
        }
    }
}

fn read_format<K: Kernel>(kernel: &K, file: &K::File) -> Result<Format, Failure> {
    image::format_of(kernel, file).map_err(Failure::Read)
}

/// What a file holds, as far as a path needs to know it.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    file_bytes: u64,
    image_bytes: u64,
    /// Whether the image's length is only likely.
    guessed: bool,
    dictionary_bytes: u64,
    input_bytes: u64,
    /// User memory that the path chosen is expected to take.
    user_bytes: u64,
}

impl Extent {
    fn memory(&self, format: Format, available: Option<u64>, budget: Option<u64>) -> Memory {
        let (decoder, kernel_decoder) = decoder_bytes(format);
        Memory {
            file: self.file_bytes,
            image: self.image_bytes,
            decoder: decoder.saturating_add(self.input_bytes.min(self.file_bytes)),
            kernel_decoder,
            dictionary: self.dictionary_bytes,
            available,
            budget,
            is_pinned: false,
        }
    }
}

/// The path, and what the file holds if the path needs to know it.
// Out of line: most files are plain, and then what this takes into account is in pages that stay untouched.
fn choose_for<K: Kernel>(
    kernel: &K, offers: &mut Offers, request: &Request, file: &K::File, format: Format,
) -> Result<(LoadPath, Extent), Failure> {
    let plain = format == Format::Plain;
    let mut facts = Facts {
        format,
        wanted: request.path,
        has_finit: offers.has_finit,
        kernel_decodes: if plain { None } else { offers.kernel_decodes(kernel) },
        window_bytes: None,
        memory: None,
        is_pinned: request.sha256.is_some(),
    };
    // Which of them it is may depend on the machine's memory; for a plain file there is nothing better than finit.
    let depends = decodes(format)
        && match facts.wanted {
            _ if facts.is_pinned => true,
            None => !facts.can(LoadPath::Finit),
            Some(path) => matches!(path, LoadPath::Stream | LoadPath::Buffer),
        };
    let mut extent = Extent::default();
    if depends {
        facts.window_bytes = offers.window_bytes(kernel);
        match measure(kernel, offers, request, file, format) {
            Ok(measured) => {
                extent = measured;
                let available = memory::available_bytes(kernel);
                facts.memory = Some(extent.memory(format, available, offers.budget_bytes));
                if let Some(memory) = facts.memory.as_mut().filter(|_| facts.is_pinned) {
                    memory.is_pinned = true;
                    memory.decoder = memory.decoder.saturating_add(pin::CHECK_BYTES);
                }
            }
            // What we cannot make out, the kernel may.
            Err(_) if facts.wanted.is_none() && !facts.is_pinned && facts.can(LoadPath::FinitCompressed) => {}
            Err(failure) => return Err(failure),
        }
    }
    let path = choose(&facts).map_err(Failure::Refusal)?;
    extent.user_bytes = facts.memory.map_or(PROGRAM_BYTES, |memory| memory.user(path, facts.window_bytes.unwrap_or(0)));
    Ok((path, extent))
}

/// What the file holds. The image's length is what the manifest says, else the file's own word for it, else what decoding it
/// once counts.
#[inline(never)]
fn measure<K: Kernel>(
    kernel: &K, offers: &Offers, request: &Request, file: &K::File, format: Format,
) -> Result<Extent, Failure> {
    let file_bytes = kernel.stat(file).map_err(Failure::Read)?.size_bytes;
    let mut extent = Extent { file_bytes, image_bytes: file_bytes, ..Extent::default() };
    #[cfg(feature = "xz")]
    if format == Format::Xz {
        extent.dictionary_bytes = decode::xz::dictionary_bytes(kernel, file)?;
    }
    #[cfg(feature = "zstd")]
    if format == Format::Zstd {
        extent.dictionary_bytes = decode::zstd::window_bytes(kernel, file)?;
        extent.input_bytes = decode::zstd::input_bytes(extent.dictionary_bytes);
    }
    if let Some(size) = request.size_bytes {
        extent.image_bytes = size;
        return Ok(extent);
    }
    let stated = match format {
        #[cfg(feature = "gzip")]
        Format::Gzip => {
            extent.guessed = true;
            decode::gzip::stated_bytes(kernel, file, file_bytes)
        }
        #[cfg(feature = "xz")]
        Format::Xz => Some(decode::xz::image_bytes(kernel, file, file_bytes)?),
        #[cfg(feature = "zstd")]
        Format::Zstd => decode::zstd::image_bytes(kernel, file)?,
        _ => Some(file_bytes),
    };
    match stated {
        Some(stated) => extent.image_bytes = stated,
        None => {
            // Counting takes the decoder's memory, perhaps all of its dictionary, before a path is chosen. gzip has none.
            if cfg!(feature = "zstd") {
                let unknown = Extent { image_bytes: u64::MAX, ..extent };
                let memory = unknown.memory(format, None, offers.budget_bytes);
                memory.allows(memory.decoder.saturating_add(memory.dictionary)).map_err(Failure::Refusal)?;
            }
            extent.image_bytes = count(kernel, file, format, extent)?;
            extent.guessed = false;
        }
    }
    Ok(extent)
}

/// The image's length by decoding it once.
#[inline(never)]
fn count<K: Kernel>(kernel: &K, file: &K::File, format: Format, extent: Extent) -> Result<u64, Failure> {
    let most = memory::available_bytes(kernel).unwrap_or(u64::MAX);
    let mut len_bytes = 0;
    with_source(kernel, file, format, extent, &mut |source| {
        len_bytes = decode::count(source, most)?;
        Ok(())
    })?;
    Ok(len_bytes)
}

fn attempt<K: Kernel>(
    kernel: &K, request: &Request, file: &K::File, format: Format, path: LoadPath, extent: Extent,
) -> Result<(), Failure> {
    if let Some(pin) = request.sha256
        && matches!(path, LoadPath::Finit | LoadPath::FinitCompressed | LoadPath::Mmap)
    {
        check(kernel, pin, file, format, extent)?;
    }
    match path {
        LoadPath::Finit => Ok(kernel.finit_module(file, request.params, request.flags, request.caller)?),
        LoadPath::FinitCompressed => {
            let flags = request.flags | COMPRESSED_FILE;
            Ok(kernel.finit_module(file, request.params, flags, request.caller)?)
        }
        _ if cfg!(feature = "explain") && request.flags != 0 => Err(Failure::Refusal(Refusal::Force(format))),
        LoadPath::Mmap => {
            let len_bytes = kernel.stat(file).map_err(Failure::Read)?.size_bytes;
            // mmap refuses a length of 0 as it does nonsense; the kernel's word for an empty image is ENOEXEC.
            if len_bytes == 0 {
                return Err(Failure::Kernel(Errno::ENOEXEC));
            }
            let region = kernel.map(file, len_bytes as usize).map_err(Failure::Memory)?;
            let result = kernel.init_module(region.as_ref(), request.params, request.caller);
            having_read(region, result)
        }
        LoadPath::Stream | LoadPath::Buffer => decoded(kernel, request, file, format, path, extent),
    }
}

/// Checks the digest of a file that the kernel is to read for itself, or that is not to be loaded.
#[inline(never)]
fn check<K: Kernel>(kernel: &K, pin: Pin, file: &K::File, format: Format, extent: Extent) -> Result<(), Failure> {
    let most = memory::available_bytes(kernel).unwrap_or(u64::MAX);
    Ok(with_source(kernel, file, format, extent, &mut |source| {
        Ok(decode::pinned::Pinned::new(source, pin).check(most)?)
    })?)
}

/// Loads by a path on which the image is read or decoded here.
fn decoded<K: Kernel>(
    kernel: &K, request: &Request, file: &K::File, format: Format, path: LoadPath, extent: Extent,
) -> Result<(), Failure> {
    let len_bytes = usize::try_from(extent.image_bytes).map_err(|_| Failure::Memory(Errno::EFBIG))?;
    if len_bytes == 0 {
        return Err(Failure::Kernel(Errno::ENOEXEC));
    }
    let mut open = |take: Taker<'_>| match request.sha256 {
        Some(pin) => with_source(kernel, file, format, extent, &mut |source| with_pin(source, pin, take)),
        _ => with_source(kernel, file, format, extent, take),
    };
    match path {
        LoadPath::Stream => Ok(kernel.stream_module(len_bytes, request.params, request.caller, &mut open)?),
        _ => buffer(kernel, request, len_bytes, &mut open),
    }
}

fn buffer<K: Kernel>(kernel: &K, request: &Request, len_bytes: usize, open: Opener) -> Result<(), Failure> {
    let mut region = kernel.allocate(len_bytes).map_err(Failure::Memory)?;
    let image = &mut region.as_mut()[..len_bytes];
    open(&mut |source| match source.read(image)? {
        n if n == len_bytes => Ok(source.finish()?),
        _ => Err(DecodeError::Length.into()),
    })?;
    let result = kernel.init_module(image, request.params, request.caller);
    having_read(region, result)
}

/// Has `take` take the image in `file`. Each decoder is on the stack of a function of its own: those not used take none.
fn with_source<K: Kernel>(
    kernel: &K, file: &K::File, format: Format, extent: Extent, take: Taker,
) -> Result<(), StreamError> {
    #[cfg(not(any(feature = "xz", feature = "zstd")))]
    let _ = extent;
    match format {
        Format::Plain => take(&mut decode::Plain::new(kernel, file)),
        #[cfg(feature = "gzip")]
        Format::Gzip => {
            let mut window = kernel.allocate(decode::gzip::WINDOW_BYTES).map_err(StreamError::Memory)?;
            with_gzip(kernel, file, window.as_mut(), take)
        }
        #[cfg(feature = "xz")]
        Format::Xz => with_xz(kernel, file, allocate_for(kernel, extent)?.as_mut(), take),
        #[cfg(feature = "zstd")]
        Format::Zstd => with_zstd(kernel, file, allocate_for(kernel, extent)?.as_mut(), take),
        // `choose` lets no format through that this build does not decode.
        #[cfg(not(all(feature = "gzip", feature = "xz", feature = "zstd")))]
        _ => Err(StreamError::Memory(Errno::ENOSYS)),
    }
}

/// Has `look` look at the image in `file`, decoded as it is looked at, within the budget.
#[cfg(feature = "explain")]
pub fn with_image<K: Kernel>(
    kernel: &K, budget_bytes: Option<u64>, file: &K::File, look: &mut dyn FnMut(&mut dyn Bytes),
) -> Result<(), Failure> {
    let format = read_format(kernel, file)?;
    if format == Format::Plain {
        look(&mut FileBytes { kernel, file });
        return Ok(());
    }
    if !decodes(format) {
        return Err(Failure::Refusal(Refusal::NoDecoder(format, None)));
    }
    let request = Request { size_bytes: Some(u64::MAX), ..Request::default() };
    let offers = Offers::new(budget_bytes);
    let extent = measure(kernel, &offers, &request, file, format)?;
    let memory = extent.memory(format, None, budget_bytes);
    memory.allows(memory.decoder.saturating_add(memory.dictionary)).map_err(Failure::Refusal)?;
    Ok(with_source(kernel, file, format, extent, &mut |source| {
        look(&mut Decoded::new(source));
        Ok(())
    })?)
}

/// Memory for what a decoder wants besides its state.
#[cfg(any(feature = "xz", feature = "zstd"))]
fn allocate_for<K: Kernel>(kernel: &K, extent: Extent) -> Result<K::Region, StreamError> {
    let len_bytes = extent.dictionary_bytes.saturating_add(extent.input_bytes);
    let len_bytes = usize::try_from(len_bytes).map_err(|_| StreamError::Memory(Errno::ENOMEM))?;
    kernel.allocate(len_bytes).map_err(StreamError::Memory)
}

/// Has `take` take the image of `source` as long as that may be the one with this digest.
#[inline(never)]
fn with_pin(source: &mut dyn decode::Source, pin: Pin, take: Taker) -> Result<(), StreamError> {
    take(&mut decode::pinned::Pinned::new(source, pin))
}

#[cfg(feature = "gzip")]
#[inline(never)]
fn with_gzip<K: Kernel>(kernel: &K, file: &K::File, window: &mut [u8], take: Taker) -> Result<(), StreamError> {
    take(&mut decode::gzip::Gzip::new(kernel, file, window))
}

#[cfg(feature = "xz")]
#[inline(never)]
fn with_xz<K: Kernel>(kernel: &K, file: &K::File, dictionary: &mut [u8], take: Taker) -> Result<(), StreamError> {
    take(&mut decode::xz::Xz::new(kernel, file, dictionary))
}

#[cfg(feature = "zstd")]
#[inline(never)]
fn with_zstd<K: Kernel>(kernel: &K, file: &K::File, memory: &mut [u8], take: Taker) -> Result<(), StreamError> {
    take(&mut decode::zstd::Zstd::new(kernel, file, memory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use std::io::Write;

    #[cfg(all(feature = "gzip", feature = "xz"))]
    const PLAIN: Facts = Facts {
        format: Format::Plain,
        wanted: None,
        has_finit: true,
        kernel_decodes: None,
        window_bytes: None,
        memory: None,
        is_pinned: false,
    };

    #[test]
    #[cfg(all(feature = "gzip", feature = "xz"))]
    fn the_choice_case_by_case() {
        use Format::*;
        use LoadPath::*;
        const MIB: u64 = 1 << 20;
        let has = |available, budget| {
            let decoder = 64 << 10;
            Some(Memory {
                file: MIB / 4,
                image: MIB,
                decoder,
                kernel_decoder: 48 << 10,
                dictionary: 0,
                available: Some(available),
                budget,
                is_pinned: false,
            })
        };
        let (roomy, low, tight) = (has(64 * MIB, None), has(3 * MIB, None), has(MIB + 9, None));
        let ceiling = |budget| has(64 * MIB, Some(budget));
        let old = Facts { has_finit: false, ..PLAIN };
        let old_streams = Facts { window_bytes: Some(48 << 10), ..old };
        let gz = Facts { format: Gzip, ..PLAIN };
        let gz_streams = Facts { window_bytes: Some(48 << 10), ..gz };
        let gz_kernel = Facts { kernel_decodes: Some(Gzip), ..gz_streams };
        let zst = Facts { format: Zstd, ..PLAIN };
        let xz_of = |file, image, available, budget| Facts {
            format: Xz,
            memory: Some(Memory {
                file,
                image,
                decoder: 128 << 10,
                kernel_decoder: 48 << 10,
                dictionary: MIB,
                available: Some(available),
                budget,
                is_pinned: false,
            }),
            ..gz_streams
        };
        let xz = xz_of(MIB, 4 * MIB, 64 * MIB, None);
        let small_xz = xz_of(30 << 10, 100 << 10, 380 << 10, None);
        let in_kernel = |facts| Facts { kernel_decodes: Some(Xz), ..facts };
        let vast_xz = |budget| {
            let memory = xz.memory.map(|memory| Memory { dictionary: 64 * MIB, budget, ..memory });
            Facts { memory, ..xz }
        };
        let (buffer, stream) = (MIB + (64 << 10), (48 + 64) << 10);
        let (all_buffer, all_stream) = (PROGRAM_BYTES + buffer, PROGRAM_BYTES + stream);
        let low_ceiling = |budget| has(3 * MIB, Some(budget));
        let cases = [
            (PLAIN, Ok(Finit)),
            (Facts { memory: low, window_bytes: Some(1), ..PLAIN }, Ok(Finit)),
            (old, Ok(Mmap)),
            (Facts { memory: low, ..old }, Ok(Mmap)),
            (Facts { memory: roomy, ..old_streams }, Ok(Mmap)),
            (Facts { memory: low, ..old_streams }, Ok(Stream)),
            (Facts { memory: low_ceiling(all_stream), ..old_streams }, Ok(Stream)),
            (Facts { memory: low_ceiling(all_stream - 1), ..old_streams }, Ok(Mmap)),
            (Facts { memory: ceiling(all_stream), ..old_streams }, Ok(Mmap)),
            (Facts { wanted: Some(Mmap), ..PLAIN }, Ok(Mmap)),
            (Facts { wanted: Some(Buffer), ..PLAIN }, Ok(Buffer)),
            (Facts { wanted: Some(Stream), window_bytes: Some(1), ..PLAIN }, Ok(Stream)),
            (Facts { wanted: Some(Stream), ..PLAIN }, Err(Refusal::Unfit(Stream, Plain))),
            (Facts { wanted: Some(Finit), ..old }, Err(Refusal::Unfit(Finit, Plain))),
            (Facts { wanted: Some(FinitCompressed), ..PLAIN }, Err(Refusal::Unfit(FinitCompressed, Plain))),
            (gz, Ok(Buffer)),
            (gz_streams, Ok(Stream)),
            (gz_kernel, Ok(FinitCompressed)),
            (Facts { memory: roomy, ..gz_kernel }, Ok(FinitCompressed)),
            // Half of the image stays in the kernel: more than the file and its decoder's workspace.
            (Facts { memory: low, ..gz_kernel }, Ok(FinitCompressed)),
            (Facts { has_finit: false, ..gz_kernel }, Ok(Stream)),
            (Facts { kernel_decodes: Some(Xz), ..gz_streams }, Ok(Stream)),
            (Facts { wanted: Some(Mmap), ..gz }, Err(Refusal::Unfit(Mmap, Gzip))),
            (Facts { wanted: Some(Finit), ..gz }, Err(Refusal::Unfit(Finit, Gzip))),
            (Facts { wanted: Some(Buffer), ..gz_kernel }, Ok(Buffer)),
            (Facts { wanted: Some(Stream), ..gz_kernel }, Ok(Stream)),
            (Facts { memory: roomy, ..gz }, Ok(Buffer)),
            (Facts { memory: tight, ..gz }, Err(Refusal::OverMemory(buffer + MIB, MIB + 9))),
            (Facts { memory: tight, ..gz_streams }, Err(Refusal::OverMemory(stream + MIB, MIB + 9))),
            (Facts { memory: ceiling(MIB), ..gz }, Err(Refusal::OverBudget(all_buffer, MIB))),
            (Facts { memory: ceiling(all_buffer), ..gz }, Ok(Buffer)),
            (Facts { memory: ceiling(all_stream), ..gz_streams }, Ok(Stream)),
            (Facts { memory: ceiling(9), ..gz_streams }, Err(Refusal::OverBudget(all_stream, 9))),
            (xz, Ok(Stream)),
            (in_kernel(xz), Ok(FinitCompressed)),
            // The kernel's dictionary is larger than the whole image.
            (in_kernel(small_xz), Ok(Stream)),
            (in_kernel(xz_of(30 << 10, 100 << 10, 380 << 10, Some(MIB))), Ok(Stream)),
            (in_kernel(xz_of(30 << 10, 100 << 10, 380 << 10, Some(9))), Ok(FinitCompressed)),
            (in_kernel(xz_of(30 << 10, 100 << 10, 64 * MIB, Some(MIB))), Ok(FinitCompressed)),
            (in_kernel(xz_of(30 << 10, 100 << 10, 64 * MIB, None)), Ok(FinitCompressed)),
            (vast_xz(None), Err(Refusal::Dictionary(64 * MIB))),
            (vast_xz(Some(64 * MIB)), Ok(Stream)),
            (Facts { kernel_decodes: Some(Zstd), ..zst }, Ok(FinitCompressed)),
        ];
        for (facts, want) in cases {
            assert_eq!(choose(&facts), want, "{facts:?}");
        }
        let undecoded = [
            (zst, Err(Refusal::NoDecoder(Zstd, None))),
            (Facts { kernel_decodes: Some(Gzip), ..zst }, Err(Refusal::NoDecoder(Zstd, Some(Gzip)))),
        ];
        // A block of the file is held besides what is to be the window.
        let zst_of = |file_bytes, image_bytes, budget| Facts {
            memory: Some(
                Extent { file_bytes, image_bytes, dictionary_bytes: MIB, input_bytes: 128 << 10, ..Extent::default() }
                    .memory(Zstd, Some(64 * MIB), budget),
            ),
            window_bytes: Some(48 << 10),
            ..zst
        };
        let (large, small) = (all_stream + MIB + (128 << 10), all_stream + (100 << 10) + (30 << 10));
        let decoded = [
            (zst, Ok(Buffer)),
            (zst_of(MIB, 4 * MIB, None), Ok(Stream)),
            (zst_of(MIB, 4 * MIB, Some(large)), Ok(Stream)),
            (zst_of(MIB, 4 * MIB, Some(large - 1)), Err(Refusal::OverBudget(large, large - 1))),
            (zst_of(30 << 10, 100 << 10, Some(small)), Ok(Stream)),
            (zst_of(30 << 10, 100 << 10, Some(small - 1)), Err(Refusal::OverBudget(small, small - 1))),
            (Facts { kernel_decodes: Some(Zstd), ..zst_of(30 << 10, 100 << 10, Some(small)) }, Ok(FinitCompressed)),
            (Facts { kernel_decodes: Some(Zstd), ..zst_of(MIB, 4 * MIB, None) }, Ok(FinitCompressed)),
        ];
        for (facts, want) in if cfg!(feature = "zstd") { &decoded[..] } else { &undecoded } {
            assert_eq!(choose(facts), *want, "{facts:?}");
        }
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn request(file: &CStr) -> Request<'_> {
        let (params, sha256, caller) = (c"a=1", None, Caller::Itself);
        Request { file, params, path: None, size_bytes: None, sha256, flags: 0, measure: false, caller }
    }

    fn calls(fake: &Fake, file: &CStr) -> (Result<LoadPath, Failure>, Vec<String>) {
        let result = load(fake, &mut Offers::default(), &request(file));
        (result.map(|loaded| loaded.path), fake.calls.take())
    }

    #[test]
    fn a_plain_module_costs_open_and_finit() {
        let fake = Fake::default().with_file("/m.ko", b"\x7fELF");
        assert_eq!(
            calls(&fake, c"/m.ko"),
            (Ok(LoadPath::Finit), vec!["open /m.ko".into(), "finit /m.ko \"a=1\" 0".into()])
        );
    }

    #[test]
    fn an_error_of_the_modules_own_is_not_retried() {
        for errno in [Errno::ENODEV, Errno::EPERM, Errno::EINVAL, Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::ENOEXEC] {
            let fake = Fake::default()
                .with_file("/m.ko", b"\x7fELF")
                .with_file("/m.ko.gz", &gzip(b"\x7fELF"))
                .with_file("/sys/module/compression", b"gzip\n")
                .answering(&[Err(errno), Err(errno)]);
            for file in [c"/m.ko", c"/m.ko.gz"] {
                let (result, calls) = calls(&fake, file);
                assert_eq!(result, Err(Failure::Kernel(errno)), "{file:?}");
                assert_eq!(calls.iter().filter(|c| c.contains("init")).count(), 1, "{calls:?}");
            }
        }
    }

    #[test]
    fn without_finit_a_plain_module_is_mapped_and_it_is_remembered() {
        let fake = Fake::default().with_file("/m.ko", b"\x7fELF").without_finit();
        let mut offers = Offers::default();
        for _ in 0..2 {
            assert_eq!(load(&fake, &mut offers, &request(c"/m.ko")).unwrap().path, LoadPath::Mmap);
        }
        let calls = fake.calls.take();
        assert_eq!(calls.iter().filter(|c| c.starts_with("finit")).count(), 1, "{calls:?}");
        assert_eq!(fake.images.take(), [b"\x7fELF", b"\x7fELF"]);
    }

    #[test]
    #[cfg(feature = "gzip")]
    fn a_compressed_file_with_a_plain_name_is_known_by_its_magic() {
        let fake = Fake::default().with_file("/m.ko", &gzip(b"\x7fELF image")).answering(&[Err(Errno::ENOEXEC)]);
        assert_eq!(calls(&fake, c"/m.ko").0, Ok(LoadPath::Stream));
        assert_eq!(fake.images.take(), [b"\x7fELF image"]);
        let fake = Fake::default().with_file("/m.ko.gz", b"\x7fELF");
        assert_eq!(calls(&fake, c"/m.ko.gz").0, Ok(LoadPath::Finit));
    }

    /// The formats that are decoded here, and a file of each.
    fn files(image: &[u8]) -> Vec<(&'static CStr, Vec<u8>)> {
        vec![
            (c"/m.ko", image.to_vec()),
            #[cfg(feature = "gzip")]
            (c"/m.ko.gz", gzip(image)),
            #[cfg(feature = "xz")]
            (c"/m.ko.xz", decode::xz::tests::xz(image)),
            #[cfg(feature = "zstd")]
            (c"/m.ko.zst", decode::zstd::tests::zstd(image)),
        ]
    }

    const DECODED: &[LoadPath] = &[LoadPath::Stream, LoadPath::Buffer];

    fn decoding(file: &CStr, path: LoadPath) -> Request<'_> {
        Request { path: Some(path), ..request(file) }
    }

    #[test]
    fn an_image_is_decoded_whole_or_not_loaded() {
        let image: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        for (file, good) in files(&image) {
            for &path in DECODED {
                let fake = Fake::default().with_file(file.to_str().unwrap(), &good).reading_at_most(5000);
                let request = decoding(file, path);
                assert_eq!(load(&fake, &mut Offers::default(), &request).map(|l| l.path), Ok(path), "{file:?}");
                assert!(fake.images.take() == [image.clone()]);
                for size_bytes in [image.len() as u64 - 1, image.len() as u64 + 1, 1] {
                    let request = Request { size_bytes: Some(size_bytes), ..request };
                    let result = load(&fake, &mut Offers::default(), &request);
                    assert_eq!(result, Err(Failure::Decode(DecodeError::Length)), "said {size_bytes}");
                }
                assert!(fake.images.take().is_empty());
            }
        }
    }

    #[test]
    fn a_wrong_checksum_at_the_end_loads_nothing() {
        let image: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        for (file, mut bad) in files(&image).into_iter().skip(1) {
            let crc_from_end = match name::strip_ko(file.to_str().unwrap()).unwrap().1 {
                Format::Gzip => 6,
                // Before the footer, an index of one record with its CRC; before that, the block's CRC.
                Format::Xz => 12 + 4 * (1 + bad[bad.len() - 8] as usize) + 1,
                _ => 1,
            };
            let crc_at = bad.len() - crc_from_end;
            bad[crc_at] ^= 4;
            for &path in DECODED {
                let fake = Fake::default().with_file(file.to_str().unwrap(), &bad);
                let result = load(&fake, &mut Offers::default(), &decoding(file, path));
                assert_eq!(result, Err(Failure::Decode(DecodeError::Checksum)), "{file:?}");
                assert!(fake.images.take().is_empty());
            }
        }
    }

    #[test]
    #[cfg(feature = "gzip")]
    fn a_gzip_file_whose_end_misleads_is_counted() {
        let image = [vec![1; 100_000], vec![2; 50_000]].concat();
        let (a, b) = (gzip(&image[..100_000]), gzip(&image[100_000..]));
        for file in [[&a[..], &b].concat(), [&a[..], &b, &[0; 100]].concat(), gzip(&vec![0; 1 << 20])] {
            for &path in DECODED {
                let fake = Fake::default().with_file("/m.ko.gz", &file);
                let loaded = load(&fake, &mut Offers::default(), &decoding(c"/m.ko.gz", path));
                assert_eq!(loaded.map(|l| l.path), Ok(path));
                let images = fake.images.take();
                assert!(images == [image.clone()] || images == [vec![0; 1 << 20]]);
            }
        }
        let mut bad = a;
        let len_at = bad.len() - 3;
        bad[len_at] ^= 1;
        let fake = Fake::default().with_file("/m.ko.gz", &bad);
        assert_eq!(calls(&fake, c"/m.ko.gz").0, Err(Failure::Decode(DecodeError::Length)));
        assert!(fake.images.take().is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_read_on_is_the_cause() {
        for (file, good) in files(&[7; 100_000]) {
            let name = file.to_str().unwrap();
            let fake = Fake::default().with_file(name, &good).failing_read_after(good.len() / 2, Errno::EIO);
            let failure = load(&fake, &mut Offers::default(), &decoding(file, DECODED[0])).unwrap_err();
            assert_eq!(failure, Failure::Read(Errno::EIO));
            assert!(fake.images.take().is_empty());
        }
    }

    fn hex(image: &[u8]) -> String {
        pin::digest(image).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What becomes of a pinned file on each path that there is for it, with its calls, and the images that came through.
    fn pinned(file: &CStr, bytes: &[u8], hex: &str) -> Vec<(Option<LoadPath>, Result<LoadPath, Failure>, Fake)> {
        let sha256 = Some(Pin::parse(hex).unwrap());
        let format = name::strip_ko(file.to_str().unwrap()).unwrap().1;
        let in_kernel: &[_] = match format {
            Format::Plain => &[LoadPath::Finit, LoadPath::Mmap],
            _ => &[LoadPath::FinitCompressed],
        };
        let paths =
            [&[None], &in_kernel.iter().chain(DECODED).map(|path| Some(*path)).collect::<Vec<_>>()[..]].concat();
        let load = |path| {
            let fake = Fake::default().with_file(file.to_str().unwrap(), bytes).reading_at_most(5000);
            let fake = fake.with_file("/sys/module/compression", format.name().as_bytes());
            let result = load(&fake, &mut Offers::default(), &Request { path, sha256, ..request(file) });
            (path, result.map(|loaded| loaded.path), fake)
        };
        paths.into_iter().map(load).collect()
    }

    fn loads(fake: &Fake) -> usize {
        let is_finit = |call: &&String| call.starts_with("finit ");
        fake.calls.borrow().iter().filter(is_finit).count() + fake.images.borrow().len()
    }

    /// Around the ends of the window's pieces, and of what is read at a time.
    const LENGTHS: [usize; 12] = [1, 55, 56, 63, 64, 4095, 4096, 4097, 16383, 16384, 16385, 3 * 16384 + 1];

    #[test]
    fn a_module_with_the_right_digest_loads_by_a_path_that_checks_what_it_loads() {
        for len in LENGTHS {
            let image: Vec<u8> = (0..len).map(|i| (i ^ i >> 7) as u8).collect();
            for (file, good) in files(&image) {
                for digest in [hex(&image), hex(&image).to_uppercase()] {
                    for (wanted, result, fake) in pinned(file, &good, &digest) {
                        assert_eq!(result, Ok(wanted.unwrap_or(DECODED[0])), "{file:?}, {len}");
                        assert_eq!(loads(&fake), 1, "{file:?}, {len}");
                        let images = fake.images.take();
                        assert!(images.iter().all(|loaded| *loaded == image), "{file:?}, {len}");
                        assert!(!images.is_empty() || wanted.is_some(), "{file:?}, {len}");
                        let calls = fake.calls.take();
                        assert_eq!(calls.iter().filter(|call| call.starts_with("open /m")).count(), 1, "{calls:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_module_with_another_digest_does_not_load() {
        for len in LENGTHS {
            let image: Vec<u8> = (0..len).map(|i| (i ^ i >> 7) as u8).collect();
            let mut flipped = image.clone();
            flipped[len / 2] ^= 0x10;
            let mut last = image.clone();
            last[len - 1] ^= 1;
            let (cut, longer) = (image[..len - 1].to_vec(), [&image[..], &[0]].concat());
            let digest = hex(&image);
            for other in [flipped, last, cut, longer, [&image[..], &image].concat()] {
                // As valid files of their format: their own checksums are right.
                for (file, bytes) in files(&other) {
                    for (wanted, result, fake) in pinned(file, &bytes, &digest) {
                        let is_empty = other.is_empty() && result == Err(Failure::Kernel(Errno::ENOEXEC));
                        let is_told = matches!(result, Err(Failure::Mismatch(_)));
                        assert!(is_told || is_empty, "{file:?}, {len}, {wanted:?}: {result:?}");
                        assert_eq!(loads(&fake), 0, "{file:?}, {len}, {wanted:?}");
                    }
                }
            }
            for (file, good) in files(&image) {
                let cut = good[..good.len() - 1].to_vec();
                let mut flipped = good.clone();
                flipped[good.len() / 2] ^= 0x10;
                for bytes in [cut, flipped, [&good[..], b"x"].concat()] {
                    for (wanted, result, fake) in pinned(file, &bytes, &digest) {
                        // A bit of a header may say nothing of the image.
                        if result.is_err() {
                            assert_eq!(loads(&fake), 0, "{file:?}, {len}, {wanted:?}");
                        } else {
                            assert_ne!(file, c"/m.ko");
                            assert!(fake.images.take().iter().all(|loaded| *loaded == image), "{file:?}, {len}");
                        }
                    }
                }
                // A digest that is wrong in its last bit.
                let last = u8::from_str_radix(&digest[63..], 16).unwrap() ^ 1;
                let wrong = format!("{}{last:x}", &digest[..63]);
                for (_, result, fake) in pinned(file, &good, &wrong) {
                    let Err(Failure::Mismatch(mismatch)) = result else { panic!("{result:?}") };
                    let (is, says) = (&digest[48..], &wrong[48..]);
                    assert_eq!(mismatch.to_string(), format!("its SHA-256 is ...{is}, @sha256= says ...{says}"));
                    assert_eq!(loads(&fake), 0);
                }
            }
        }
        let digest = "0123456789abcdef".repeat(4);
        let Err(Failure::Mismatch(mismatch)) = pinned(c"/m.ko", b"abc", &digest)[0].1 else { panic!() };
        // FIPS 180-2, B.1.
        let told = "its SHA-256 is ba7816bf8f01cfea..., @sha256= says 0123456789abcdef...";
        assert_eq!(mismatch.to_string(), told);
    }

    #[test]
    fn an_empty_pinned_module_does_not_load() {
        // That of nothing.
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex(b""), digest);
        for (file, bytes) in files(b"") {
            for (wanted, result, fake) in pinned(file, &bytes, digest) {
                match wanted {
                    // The kernel's own word for it.
                    Some(LoadPath::Finit | LoadPath::FinitCompressed) => assert_eq!(loads(&fake), 1),
                    _ => assert_eq!((result, loads(&fake)), (Err(Failure::Kernel(Errno::ENOEXEC)), 0), "{file:?}"),
                }
            }
        }
    }

    #[test]
    fn a_pinned_module_takes_the_paths_that_there_are() {
        let image = [7; 50_000];
        let digest = hex(&image);
        let sha256 = Some(Pin::parse(&digest).unwrap());
        for (file, good) in files(&image) {
            let fake = Fake::default().with_file(file.to_str().unwrap(), &good).without_userfaultfd();
            let result = load(&fake, &mut Offers::default(), &Request { sha256, ..request(file) });
            assert_eq!(result.map(|loaded| loaded.path), Ok(LoadPath::Buffer));
            assert_eq!(fake.images.take(), [image]);
            let wrong = "0".repeat(64);
            let request = Request { sha256: Some(Pin::parse(&wrong).unwrap()), ..request(file) };
            let result = load(&fake, &mut Offers::default(), &request);
            assert!(matches!(result, Err(Failure::Mismatch(_))), "{result:?}");
            let result = prepare(&fake, &mut Offers::default(), &request).map(|(path, _)| path);
            assert!(matches!(result, Err(Failure::Mismatch(_))), "{result:?}");
            let request = Request { sha256, ..request };
            assert_eq!(prepare(&fake, &mut Offers::default(), &request).map(|(path, _)| path), Ok(LoadPath::Buffer));
            assert_eq!(loads(&fake), 0);
        }
        // A compressed file with a plain name, and the other way.
        #[cfg(feature = "gzip")]
        for (file, bytes) in [(c"/m.ko", gzip(&image)), (c"/m.ko.gz", image.to_vec())] {
            let fake = Fake::default().with_file(file.to_str().unwrap(), &bytes);
            let result = load(&fake, &mut Offers::default(), &Request { sha256, ..request(file) });
            assert_eq!((result.map(|loaded| loaded.path), loads(&fake)), (Ok(DECODED[0]), 1));
        }
        #[cfg(not(feature = "zstd"))]
        for (path, compression) in [(None, "zstd"), (Some(LoadPath::FinitCompressed), "zstd"), (None, "xz")] {
            let fake = Fake::default().with_file("/m.ko.zst", &[0x28, 0xb5, 0x2f, 0xfd, 0, 0]);
            let fake = fake.with_file("/sys/module/compression", compression.as_bytes());
            let request = Request { path, sha256, ..request(c"/m.ko.zst") };
            let result = load(&fake, &mut Offers::default(), &request);
            assert_eq!(result, Err(Failure::Refusal(Refusal::Unchecked(Format::Zstd))));
            let told = "@sha256= cannot be checked: this build does not decode zstd";
            assert_eq!(Refusal::Unchecked(Format::Zstd).to_string(), told);
            assert_eq!(loads(&fake), 0);
        }
    }

    #[test]
    fn the_budget_counts_what_checking_takes() {
        let image = vec![7; 1 << 20];
        let digest = hex(&image);
        let sha256 = Some(Pin::parse(&digest).unwrap());
        for (path, besides) in [(None, 48 << 10), (Some(LoadPath::Finit), 0), (Some(LoadPath::Mmap), 0)] {
            let least = PROGRAM_BYTES + besides + decoder_bytes(Format::Plain).0 + pin::CHECK_BYTES;
            let fake = Fake::default().with_file("/m.ko", &image);
            let request = Request { path, sha256, ..request(c"/m.ko") };
            let loaded = load(&fake, &mut Offers::new(Some(least)), &request).unwrap();
            assert_eq!((loaded.path, loaded.user_bytes), (path.unwrap_or(LoadPath::Stream), least));
            let result = load(&fake, &mut Offers::new(Some(least - 1)), &request);
            assert_eq!(result, Err(Failure::Refusal(Refusal::OverBudget(least, least - 1))));
            assert_eq!(loads(&fake), 1);
        }
    }

    #[test]
    #[cfg(feature = "zstd")]
    fn a_zstd_file_that_does_not_state_its_length_is_counted() {
        use crate::decode::zstd::tests::zstd_unstated;
        let image = vec![7; 1 << 20];
        let fake = Fake::default().with_file("/m.ko.zst", &zstd_unstated(&image, 17));
        for &path in DECODED {
            let loaded = load(&fake, &mut Offers::default(), &decoding(c"/m.ko.zst", path));
            assert_eq!(loaded.map(|l| l.path), Ok(path));
            assert!(fake.images.take() == [image.clone()]);
        }
        // Counting takes a window too, of which nobody knows how much will be touched.
        let mut offers = Offers::new(Some(192 << 10));
        let failure = load(&fake, &mut offers, &decoding(c"/m.ko.zst", DECODED[0]));
        assert!(matches!(failure, Err(Failure::Refusal(Refusal::OverBudget(_, 0x3_0000)))), "{failure:?}");
        let fake = Fake::default().with_file("/m.ko.zst", &zstd_unstated(&image, 24));
        let failure = load(&fake, &mut Offers::default(), &decoding(c"/m.ko.zst", DECODED[0]));
        assert_eq!(failure, Err(Failure::Refusal(Refusal::Dictionary(16 << 20))));
        assert!(fake.images.take().is_empty() && !fake.calls.take().iter().any(|call| call.starts_with("allocate")));
        let fake = fake.with_file("/sys/module/compression", b"zstd\n");
        assert_eq!(calls(&fake, c"/m.ko.zst").0, Ok(LoadPath::FinitCompressed));
    }

    #[test]
    #[cfg(feature = "gzip")]
    fn a_wrong_name_is_seen_through_without_finit_too() {
        let file = gzip(b"\x7fELF image");
        let fake = Fake::default().with_file("/m.ko", &file).without_finit().answering(&[Err(Errno::ENOEXEC), Ok(())]);
        assert!(calls(&fake, c"/m.ko").0.is_ok());
        assert_eq!(fake.images.take(), [file, b"\x7fELF image".to_vec()]);
    }

    #[test]
    #[cfg(feature = "xz")]
    fn what_only_the_kernel_makes_out_is_left_to_it() {
        let fake = Fake::default().with_file("/m.ko.xz", b"\xfd7zXZ\0").with_file("/sys/module/compression", b"xz\n");
        assert_eq!(calls(&fake, c"/m.ko.xz").0, Ok(LoadPath::FinitCompressed));
        let fake = Fake::default().with_file("/m.ko.xz", b"\xfd7zXZ\0");
        assert_eq!(calls(&fake, c"/m.ko.xz").0, Err(Failure::Decode(DecodeError::Truncated)));
    }

    #[test]
    fn without_userfaultfd_the_image_is_held_whole() {
        for (file, good) in &files(b"\x7fELF image")[1..] {
            let fake = Fake::default().with_file(file.to_str().unwrap(), good).without_userfaultfd();
            assert_eq!(calls(&fake, file).0, Ok(LoadPath::Buffer));
            assert_eq!(fake.images.take(), [b"\x7fELF image"]);
            let result = load(&fake, &mut Offers::default(), &decoding(file, LoadPath::Stream));
            assert!(matches!(result, Err(Failure::Refusal(Refusal::Unfit(LoadPath::Stream, _)))), "{result:?}");
        }
    }

    #[test]
    #[cfg(feature = "gzip")]
    fn an_error_of_the_modules_own_is_not_retried_after_streaming() {
        for errno in [Errno::ENODEV, Errno::ENOEXEC, Errno::EFAULT, Errno::ENOSYS] {
            let fake = Fake::default().with_file("/m.ko.gz", &gzip(b"\x7fELF")).answering(&[Err(errno)]);
            let (result, calls) = calls(&fake, c"/m.ko.gz");
            assert_eq!(result, Err(Failure::Kernel(errno)));
            assert_eq!(calls.iter().filter(|c| c.contains("stream")).count(), 1, "{calls:?}");
        }
    }

    #[test]
    #[cfg(feature = "gzip")]
    fn the_budget_refuses_with_figures() {
        let fake = Fake::default().with_file("/m.ko.gz", &gzip(&vec![7; 1 << 20])).without_userfaultfd();
        let mut offers = Offers { budget_bytes: Some(512 << 10), ..Offers::default() };
        let failure = load(&fake, &mut offers, &request(c"/m.ko.gz")).unwrap_err();
        let Failure::Refusal(refusal) = failure else { panic!("{failure:?}") };
        assert_eq!(
            refusal.to_string(),
            format!("needs {} KiB of memory, and @budget allows 512", PROGRAM_BYTES / 1024 + 1088)
        );
        assert!(fake.images.take().is_empty());
        // What the window saves is enough.
        let fake = Fake::default().with_file("/m.ko.gz", &gzip(&vec![7; 1 << 20]));
        let least = PROGRAM_BYTES + (112 << 10);
        let mut offers = Offers { budget_bytes: Some(least), ..Offers::default() };
        assert_eq!(load(&fake, &mut offers, &request(c"/m.ko.gz")).unwrap().path, LoadPath::Stream);
        let mut offers = Offers { budget_bytes: Some(least - 1), ..Offers::default() };
        let failure = load(&fake, &mut offers, &request(c"/m.ko.gz")).unwrap_err();
        let Failure::Refusal(refusal) = failure else { panic!("{failure:?}") };
        let kib = least / 1024;
        assert_eq!(refusal.to_string(), format!("needs {kib} KiB of memory, and @budget allows {}", kib - 1));
    }
}
