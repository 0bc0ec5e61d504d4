//! One module into the kernel: the choice of a path, and the calls of each.
//!
//! On the fast path (a plain file, a kernel with finit_module) a module costs open, finit_module and close. An error of the
//! module's own is never retried through another call: that would run its init twice.

use core::cell::Cell;
use core::ffi::CStr;

use crate::decode::{Extent, ImageFile, Pinned, decodes};
use crate::elf::{Bytes, Decoded, FileBytes};
use crate::errno::Errno;
use crate::format::Format;
use crate::kernel::machine;
use crate::kernel::{Kernel, Opener, StreamError, Taker, read_small};
use crate::load_path::LoadPath;
use crate::name;
use crate::pin::Pin;
use crate::source::DecodeError;

mod choose;
mod failure;

pub use choose::{Choice, Facts, Memory, Refusal, choose};
pub use failure::Failure;

/// What the kernel is able to do, asked once and only when it matters.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    has_finit: bool,
    /// `None` until asked.
    kernel_decodes: Option<Option<Format>>,
    /// Likewise.
    window_bytes: Option<Option<u64>>,
}

impl Default for Abilities {
    fn default() -> Self {
        Abilities { has_finit: true, kernel_decodes: None, window_bytes: None }
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
    /// Ceiling on the loader's own memory in bytes.
    pub budget_bytes: Option<u64>,
    /// Its digest, likewise: no other image is loaded.
    pub sha256: Option<Pin<'a>>,
    /// Flags of finit_module besides those of the path (`MODULE_INIT_*`).
    pub flags: u32,
    /// Whether to look up the file's length, for a report: one call more.
    pub measure: bool,
    /// Whether to measure the loader's own memory while it is in use, for a report.
    pub measure_memory: bool,
    /// Whether the machine has little memory, so that the file's length is compared with it before any call.
    pub is_scarce: bool,
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
    /// What the loader had of its own when it had most, in bytes, if that was to be measured.
    pub own_bytes: Option<u64>,
}

/// `MODULE_INIT_IGNORE_MODVERSIONS` of `linux/module.h`: the CRCs of symbols are not compared.
pub const IGNORE_MODVERSIONS: u32 = 1;

/// `MODULE_INIT_IGNORE_VERMAGIC`: what it was built for does not matter.
pub const IGNORE_VERMAGIC: u32 = 2;

/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h`.
const COMPRESSED_FILE: u32 = 4;

/// Opens the module of `request`, chooses its path and checks its digest without loading it.
pub fn prepare<K: Kernel>(
    kernel: &K, abilities: &mut Abilities, request: &Request,
) -> Result<(LoadPath, Format), Failure> {
    let file = kernel.open(request.file).map_err(Failure::Open)?;
    let image = ImageFile::new(kernel, file).map_err(Failure::Read)?;
    let format = image.format;
    let mut load = Load::new(image, *request);
    let path = load.choose(abilities)?;
    if let Some(pin) = request.sha256 {
        load.check(pin)?;
    }
    Ok((path, format))
}

/// Loads the module of `request`.
pub fn load<K: Kernel>(kernel: &K, abilities: &mut Abilities, request: &Request) -> Result<Loaded, Failure> {
    let file = kernel.open(request.file).map_err(Failure::Open)?;
    load_file(kernel, abilities, request, file)
}

/// As [`load`], of a file that is open already.
pub fn load_file<K: Kernel>(
    kernel: &K, abilities: &mut Abilities, request: &Request, file: K::File,
) -> Result<Loaded, Failure> {
    let name = name::basename(request.file.to_str().unwrap_or_default());
    // The magic decides; the name only says whether to look before the first call or after its refusal.
    let plain_by_name = request.sha256.is_none() && matches!(name::strip_ko(name), Some((_, Format::Plain)));
    let image = match plain_by_name {
        true => ImageFile::assumed_plain(kernel, file),
        false => ImageFile::new(kernel, file).map_err(Failure::Read)?,
    };
    let mut load = Load::new(image, *request);
    load.is_assumed_plain = plain_by_name;
    loop {
        let path = load.choose(abilities)?;
        match load.attempt(path) {
            Ok(()) => return Ok(load.loaded(path)),
            Err(failure) => load.correct(abilities, path, failure)?,
        }
    }
}

/// A module on its way into the kernel.
struct Load<'k, 'r, K: Kernel> {
    image: ImageFile<'k, K>,
    request: Request<'r>,
    /// Whether only the file's name says that it is plain.
    is_assumed_plain: bool,
    /// Once it was measured.
    extent: Extent,
    user_bytes: u64,
    own_bytes: Cell<Option<u64>>,
}

impl<'k, 'r, K: Kernel> Load<'k, 'r, K> {
    fn new(image: ImageFile<'k, K>, request: Request<'r>) -> Self {
        Load {
            image,
            request,
            is_assumed_plain: false,
            extent: Extent::default(),
            user_bytes: 0,
            own_bytes: Cell::new(None),
        }
    }

    fn loaded(&self, path: LoadPath) -> Loaded {
        let file_bytes = if self.request.measure { self.image.len_bytes().unwrap_or(0) } else { 0 };
        Loaded { path, file_bytes, user_bytes: self.user_bytes, own_bytes: self.own_bytes.get() }
    }

    /// Measures the loader's own memory, if that is asked for: the most is kept.
    fn measure_own(&self) {
        if self.request.measure_memory {
            self.own_bytes.set(self.own_bytes.get().max(machine::own_bytes(self.image.kernel)));
        }
    }

    /// Chooses the path, and asks what that depends on.
    fn choose(&mut self, abilities: &mut Abilities) -> Result<LoadPath, Failure> {
        let kernel = self.image.kernel;
        let mut facts = Facts {
            format: self.image.format,
            wanted: self.request.path,
            is_pinned: self.request.sha256.is_some(),
            is_scarce: self.request.is_scarce,
            has_finit: abilities.has_finit,
            kernel_decodes: abilities.kernel_decodes,
            window_bytes: abilities.window_bytes,
            memory: None,
        };
        let mut unreadable = None;
        loop {
            match choose(&facts).map_err(Failure::Refusal)? {
                Choice::Take(path) => {
                    self.user_bytes = facts.user_bytes(path);
                    return Ok(path);
                }
                Choice::AskKernelDecodes => facts.kernel_decodes = Some(kernel_decodes(kernel)),
                Choice::AskWindow => {
                    facts.window_bytes = Some(kernel.stream_window_bytes().map(|bytes| bytes as u64));
                }
                Choice::AskMemory => match self.measure() {
                    Ok(()) => facts.memory = Some(Some(self.memory())),
                    Err(failure) => (facts.memory, unreadable) = (Some(None), Some(failure)),
                },
                Choice::Unreadable => return Err(unreadable.unwrap_or(Failure::Decode(DecodeError::Truncated))),
            }
            (abilities.kernel_decodes, abilities.window_bytes) = (facts.kernel_decodes, facts.window_bytes);
        }
    }

    fn memory(&self) -> Memory {
        // No path takes nearly as much as is ample.
        let enough = machine::ample_bytes(self.extent.image_bytes.unwrap_or(u64::MAX));
        let available = machine::available_up_to(self.image.kernel, enough);
        Memory::new(self.image.format, &self.extent, available, self.request.budget_bytes)
            .pinned(self.request.sha256.is_some())
    }

    /// Finds out what the file holds. The image's length is what the manifest says, else the file's own word for it, else what
    /// decoding it once counts.
    fn measure(&mut self) -> Result<(), Failure> {
        self.extent = self.image.extent()?;
        if self.request.size_bytes.is_some() {
            (self.extent.image_bytes, self.extent.is_guess) = (self.request.size_bytes, false);
        } else if self.extent.image_bytes.is_none() {
            // Counting takes the decoder's memory, perhaps all of its dictionary, before a path is chosen.
            Memory::new(self.image.format, &self.extent, None, self.request.budget_bytes)
                .allows_decoding()
                .map_err(Failure::Refusal)?;
            self.count()?;
        }
        Ok(())
    }

    /// Decodes the file once to learn the image's length.
    fn count(&mut self) -> Result<(), Failure> {
        let most = machine::available_bytes(self.image.kernel).unwrap_or(u64::MAX);
        self.extent.image_bytes = Some(self.image.count(&self.extent, most)?);
        self.extent.is_guess = false;
        Ok(())
    }

    /// Makes the calls of `path`.
    fn attempt(&self, path: LoadPath) -> Result<(), Failure> {
        let Load { image: ImageFile { kernel, file, format }, request, .. } = self;
        let is_read_by_kernel = matches!(path, LoadPath::Finit | LoadPath::FinitCompressed | LoadPath::Mmap);
        if let (Some(pin), true) = (request.sha256, is_read_by_kernel) {
            self.check(pin)?;
        }
        self.measure_own();
        match path {
            LoadPath::Finit => kernel.finit_module(file, request.params, request.flags).map_err(Failure::Kernel),
            LoadPath::FinitCompressed => {
                let flags = request.flags | COMPRESSED_FILE;
                kernel.finit_module(file, request.params, flags).map_err(Failure::Kernel)
            }
            _ if request.flags != 0 => Err(Failure::Refusal(Refusal::Force(*format))),
            LoadPath::Mmap => self.mmap(),
            LoadPath::Stream => {
                let len_bytes = self.image_bytes()?;
                let mut open = |take: Taker<'_>| self.with_checked_source(take);
                Ok(kernel.stream_module(len_bytes, request.params, &mut open)?)
            }
            LoadPath::Buffer => self.buffer(&mut |take: Taker<'_>| self.with_checked_source(take)),
        }
    }

    /// What the refusal of `path` corrects of what was believed, so that another try makes sense; else the failure.
    fn correct(&mut self, abilities: &mut Abilities, path: LoadPath, failure: Failure) -> Result<(), Failure> {
        match (path, failure) {
            // ENOSYS may as well be what the module's init returned.
            (LoadPath::Finit | LoadPath::FinitCompressed, Failure::Kernel(Errno::ENOSYS))
                if !self.image.kernel.has_finit_module() =>
            {
                abilities.has_finit = false;
                Ok(())
            }
            // The kernel never had the whole image, so nothing of the module ran.
            (_, Failure::Decode(DecodeError::Length)) if self.extent.is_guess => {
                self.count()?;
                self.request.size_bytes = self.extent.image_bytes;
                Ok(())
            }
            // The kernel saw no ELF header, so nothing of the module ran.
            (_, Failure::Kernel(Errno::ENOEXEC)) if core::mem::take(&mut self.is_assumed_plain) => {
                match crate::decode::format_of(self.image.kernel, &self.image.file) {
                    Ok(Format::Plain) | Err(_) => Err(failure),
                    Ok(format) => {
                        self.image.format = format;
                        Ok(())
                    }
                }
            }
            _ => Err(failure),
        }
    }

    /// The image's length, where it has one.
    fn image_bytes(&self) -> Result<usize, Failure> {
        match usize::try_from(self.extent.image_bytes.unwrap_or(0)) {
            // The kernel's word for an empty image.
            Ok(0) => Err(Failure::Kernel(Errno::ENOEXEC)),
            Ok(len_bytes) => Ok(len_bytes),
            Err(_) => Err(Failure::Memory(Errno::EFBIG)),
        }
    }

    /// Checks the digest of a file that the kernel is to read for itself, or that is not to be loaded.
    fn check(&self, pin: Pin) -> Result<(), Failure> {
        let most = machine::available_bytes(self.image.kernel).unwrap_or(u64::MAX);
        Ok(self.image.with_source(&self.extent, &mut |source| Ok(Pinned::new(source, pin).check(most)?))?)
    }

    /// Has `take` take the image for as long as that may be the one with the digest.
    fn with_checked_source(&self, take: Taker) -> Result<(), StreamError> {
        self.image.with_source(&self.extent, &mut |source| {
            let result = match self.request.sha256 {
                Some(pin) => take(&mut Pinned::new(source, pin)),
                None => take(source),
            };
            // All that this takes is there yet.
            self.measure_own();
            result
        })
    }

    fn mmap(&self) -> Result<(), Failure> {
        let kernel = self.image.kernel;
        let len_bytes = self.image.len_bytes()?;
        // mmap refuses a length of 0 as it does nonsense; the kernel's word for an empty image is ENOEXEC.
        if len_bytes == 0 {
            return Err(Failure::Kernel(Errno::ENOEXEC));
        }
        let region = kernel.map(&self.image.file, len_bytes as usize).map_err(Failure::Memory)?;
        kernel.init_module(region.as_ref(), self.request.params).map_err(Failure::Kernel)
    }

    fn buffer(&self, open: Opener) -> Result<(), Failure> {
        let (kernel, len_bytes) = (self.image.kernel, self.image_bytes()?);
        let mut region = kernel.allocate(len_bytes).map_err(Failure::Memory)?;
        let image = &mut region.as_mut()[..len_bytes];
        open(&mut |source| match source.read(image)? {
            n if n == len_bytes => Ok(source.finish()?),
            _ => Err(DecodeError::Length.into()),
        })?;
        kernel.init_module(image, self.request.params).map_err(Failure::Kernel)
    }
}

/// The format that the kernel decompresses modules in, if it does (since 5.17).
fn kernel_decodes<K: Kernel>(kernel: &K) -> Option<Format> {
    let mut buf = [0; 16];
    let name = read_small(kernel, c"/sys/module/compression", &mut buf).ok()?;
    [Format::Gzip, Format::Xz, Format::Zstd].into_iter().find(|format| format.name().as_bytes() == name)
}

/// Has `look` look at the image in `file`, decoded as it is looked at, within the budget.
pub fn with_image<K: Kernel>(
    kernel: &K, budget_bytes: Option<u64>, file: K::File, look: &mut dyn FnMut(&mut dyn Bytes),
) -> Result<(), Failure> {
    let image = ImageFile::new(kernel, file).map_err(Failure::Read)?;
    if image.format == Format::Plain {
        look(&mut FileBytes { kernel, file: &image.file });
        return Ok(());
    }
    if !decodes(image.format) {
        return Err(Failure::Refusal(Refusal::NoDecoder(image.format, None)));
    }
    let extent = image.extent()?;
    Memory::new(image.format, &extent, None, budget_bytes).allows_decoding().map_err(Failure::Refusal)?;
    Ok(image.with_source(&extent, &mut |source| {
        look(&mut Decoded::new(source));
        Ok(())
    })?)
}

#[cfg(test)]
mod injection_tests;
#[cfg(test)]
mod tests;
