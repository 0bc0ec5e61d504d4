//! Which path a module takes: one pure function of what is known, which asks for what else it must know.

use core::fmt;

use crate::decode::{Extent, decodes};
use crate::format::Format;
use crate::limits::{DICTIONARY_BYTES, LOW_MEMORY_IMAGES};
use crate::load_path::LoadPath;
use crate::pin;

/// All that the choice rests on. What is `None` has not been asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// How the file holds the image.
    pub format: Format,
    /// The path that the manifest demands.
    pub wanted: Option<LoadPath>,
    /// Whether the manifest has the image's digest, so that it is read or decoded here.
    pub is_pinned: bool,
    /// Whether the machine has so little memory that what the kernel takes is weighed too.
    pub is_scarce: bool,
    /// Whether the kernel has finit_module (since 3.8).
    pub has_finit: bool,
    /// The format that the kernel decompresses, by `/sys/module/compression`, if any.
    pub kernel_decodes: Option<Option<Format>>,
    /// User memory of the window, if the kernel has userfaultfd.
    pub window_bytes: Option<Option<u64>>,
    /// What paths would need and have, if the file's headers could be read.
    pub memory: Option<Option<Memory>>,
}

/// What comes of the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This path.
    Take(LoadPath),
    /// It depends on [`Facts::kernel_decodes`].
    AskKernelDecodes,
    /// It depends on [`Facts::window_bytes`].
    AskWindow,
    /// It depends on [`Facts::memory`].
    AskMemory,
    /// No path takes a file whose headers cannot be read.
    Unreadable,
}

/// The path for a module: finit where the kernel can, then what costs least memory on a machine that has little.
pub fn choose(facts: &Facts) -> Result<Choice, Refusal> {
    if facts.is_pinned && !decodes(facts.format) {
        return Err(Refusal::Unchecked(facts.format));
    }
    // There is nothing better, whatever else is so.
    if facts.can(LoadPath::Finit) && !facts.is_pinned && matches!(facts.wanted, None | Some(LoadPath::Finit)) {
        return match facts.memory {
            None if facts.is_scarce => Ok(Choice::AskMemory),
            Some(Some(memory)) => memory.allows(0).map(|()| Choice::Take(LoadPath::Finit)),
            _ => Ok(Choice::Take(LoadPath::Finit)),
        };
    }
    if let Some(question) = facts.question() {
        return Ok(question);
    }
    if facts.memory == Some(None) {
        // What we cannot make out, the kernel may.
        let is_for_kernel = facts.wanted.is_none() && !facts.is_pinned && facts.can(LoadPath::FinitCompressed);
        return Ok(if is_for_kernel { Choice::Take(LoadPath::FinitCompressed) } else { Choice::Unreadable });
    }
    let path = match facts.wanted {
        Some(path) if facts.can(path) => path,
        Some(path) => return Err(Refusal::Unfit(path, facts.format)),
        None => facts.automatic().ok_or(Refusal::NoDecoder(facts.format, facts.kernel_decodes.flatten()))?,
    };
    let takes_memory = matches!(path, LoadPath::Stream | LoadPath::Buffer) || facts.is_pinned || facts.is_scarce;
    if let (true, Some(Some(memory))) = (takes_memory, facts.memory) {
        memory.allows(memory.added(path, facts.window()))?;
    }
    Ok(Choice::Take(path))
}

impl Facts {
    /// What is asked next, where the choice depends on it.
    fn question(&self) -> Option<Choice> {
        let is_open = matches!(self.wanted, None | Some(LoadPath::FinitCompressed));
        if self.format != Format::Plain && is_open && self.kernel_decodes.is_none() {
            return Some(Choice::AskKernelDecodes);
        }
        let is_made_here = matches!(self.wanted, None | Some(LoadPath::Stream | LoadPath::Buffer)) || self.is_pinned;
        // What the kernel is to decode depends on what is in the file, too.
        match (decodes(self.format) && (is_made_here || is_open), self.window_bytes, self.memory) {
            (true, None, _) if is_made_here => Some(Choice::AskWindow),
            (true, _, None) => Some(Choice::AskMemory),
            _ => None,
        }
    }

    fn can(&self, path: LoadPath) -> bool {
        let plain = self.format == Format::Plain;
        match path {
            LoadPath::Finit => plain && self.has_finit,
            LoadPath::FinitCompressed => {
                let is_beyond = self.memory.flatten().is_some_and(|memory| memory.is_beyond_kernel);
                !plain && self.has_finit && self.kernel_decodes == Some(Some(self.format)) && !is_beyond
            }
            LoadPath::Stream => self.window_bytes.flatten().is_some() && decodes(self.format),
            LoadPath::Mmap => plain,
            LoadPath::Buffer => decodes(self.format),
        }
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

    /// Whether streaming costs this machine, which has little, less memory than `other`, and no more than it may.
    fn saves(&self, other: LoadPath) -> bool {
        let (Some(Some(memory)), window) = (self.memory, self.window()) else { return false };
        let fits = memory.budget.is_none_or(|budget| memory.user(LoadPath::Stream, window) <= budget);
        let less = memory.machine(LoadPath::Stream, window) < memory.machine(other, window);
        memory.is_low() && fits && (less || other == LoadPath::Mmap)
    }

    fn window(&self) -> u64 {
        self.window_bytes.flatten().unwrap_or(0)
    }

    /// The user memory that `path` is expected to take, in bytes, the peak.
    pub fn user_bytes(&self, path: LoadPath) -> u64 {
        self.memory.flatten().map_or(PROGRAM_BYTES, |memory| memory.user(path, self.window()))
    }
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
    /// Whether the file has what the kernel's own decoder does not take.
    pub is_beyond_kernel: bool,
}

impl Memory {
    /// What a file of this extent needs. Its image's length is taken for as large as can be where it is not known.
    pub fn new(format: Format, extent: &Extent, available: Option<u64>, budget: Option<u64>) -> Memory {
        let (decoder, kernel_decoder) = decoder_bytes(format);
        Memory {
            file: extent.file_bytes,
            image: extent.image_bytes.unwrap_or(u64::MAX),
            decoder: decoder.saturating_add(extent.input_bytes.min(extent.file_bytes)),
            kernel_decoder,
            dictionary: extent.dictionary_bytes,
            available,
            budget,
            is_pinned: false,
            is_beyond_kernel: extent.beyond_kernel.is_some(),
        }
    }

    /// The same, where its digest is checked too.
    pub fn pinned(self, is_pinned: bool) -> Memory {
        let check = if is_pinned { pin::CHECK_BYTES } else { 0 };
        Memory { is_pinned, decoder: self.decoder.saturating_add(check), ..self }
    }

    /// Whether the file may be decoded only to be looked at, with all of its dictionary.
    pub fn allows_decoding(&self) -> Result<(), Refusal> {
        self.allows(self.decoder.saturating_add(self.dictionary))
    }

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
                    "it is compressed with {format}, which this build does not decode, and this kernel decodes {kernel}: \
                     compress it with gzip or xz, or leave it plain"
                )
            }
            Refusal::Unfit(path, format) => {
                write!(f, "@path={path} cannot load a {} file on this kernel", format.name())
            }
            Refusal::Unchecked(format) => {
                write!(f, "this build cannot check @sha256=: it does not decode {}", format.name())
            }
            Refusal::OverBudget(needs, has) | Refusal::OverMemory(needs, has) => {
                let of_budget = matches!(self, Refusal::OverBudget(..));
                let has_it = if of_budget { "@budget allows" } else { "the machine has" };
                write!(f, "it needs {} KiB of memory, but {has_it} {} KiB", needs.div_ceil(1024), has / 1024)
            }
            Refusal::Force(format) => write!(
                f,
                "only finit_module can force it, and on this kernel that takes no {} file: decompress it",
                format.name()
            ),
            Refusal::Dictionary(needs) => write!(
                f,
                "its dictionary of {} KiB is over DICTIONARY_BYTES, {} KiB: set a @budget that allows it",
                needs.div_ceil(1024),
                DICTIONARY_BYTES / 1024
            ),
        }
    }
}

/// Memory of the program itself while it loads a module: what is anonymous, that is its stack, its data and its page tables.
/// Its file is counted once, as the initramfs has it. The guest tests measure it: 28 KiB on aarch64, up to 68 KiB on riscv64,
/// where it depends on the compiler's stack frames and on where the stack begins. The rest is headroom for other compilers.
pub(super) const PROGRAM_BYTES: u64 = 96 << 10;

/// Memory of a decoder besides image and dictionary, here and in the kernel. Here: state, input, code, and gzip's window; measured
/// as above. There: zlib_inflate_workspacesize, struct xz_dec, zstd_dctx_workspace_bound with its buffer of four blocks.
pub(super) fn decoder_bytes(format: Format) -> (u64, u64) {
    match format {
        Format::Plain => (16 << 10, 0),
        Format::Gzip => (64 << 10, 48 << 10),
        Format::Xz => (128 << 10, 48 << 10),
        Format::Zstd => (64 << 10, 560 << 10),
    }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
