//! The load paths, how one is chosen, and the calls of each.
//!
//! On the fast path (a plain file, a kernel with finit_module) a module costs open, finit_module and close. An error of the
//! module's own is never retried through another call: that would run its init twice.

use core::ffi::CStr;
use core::fmt;

use crate::decode::DecodeError;
use crate::errno::Errno;
use crate::image::Format;
use crate::kernel::{Kernel, read_full, read_small};
use crate::name;
use crate::text;

/// A way to put a module into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadPath {
    /// `finit_module` of a plain file. No user memory.
    Finit,
    /// `finit_module` of a file in the format that the kernel decompresses itself. No user memory.
    FinitCompressed,
    /// `init_module` of a mapped plain file. Page cache only.
    Mmap,
    /// `init_module` of the image read or decoded into one region of exactly its size.
    Buffer,
}

impl LoadPath {
    /// All paths.
    pub const ALL: [LoadPath; 4] = [LoadPath::Finit, LoadPath::FinitCompressed, LoadPath::Mmap, LoadPath::Buffer];

    /// As `@path=` names it.
    pub fn name(self) -> &'static str {
        match self {
            LoadPath::Finit => "finit",
            LoadPath::FinitCompressed => "finit-compressed",
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
    /// What a path that needs memory would have; `None` while no such path was chosen.
    pub memory: Option<Memory>,
}

/// What a path that holds the image in user memory needs and has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Length of the image.
    pub image: u64,
    /// MemAvailable of the machine; `None` where `/proc/meminfo` does not tell.
    pub available: Option<u64>,
    /// Ceiling on the loader's own memory.
    pub budget: Option<u64>,
}

/// Why no path can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Neither the kernel nor this build decodes the format.
    NoDecoder(Format, Option<Format>),
    /// The path demanded cannot take such a file on this kernel.
    Unfit(LoadPath, Format),
    /// Over the ceiling: needs, has.
    OverBudget(u64, u64),
    /// Over the machine's free memory: needs, has.
    OverMemory(u64, u64),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Refusal::NoDecoder(format, kernel) => {
                let (format, kernel) = (format.name(), kernel.map_or("nothing", Format::name));
                write!(
                    f,
                    "compressed with {format}, which this build does not decode, and this kernel decodes {kernel}; \
                     keep the module plain or in gzip"
                )
            }
            Refusal::Unfit(path, format) => {
                write!(f, "@path={path} cannot load a file that is {} on this kernel", format.name())
            }
            Refusal::OverBudget(needs, has) => {
                write!(f, "needs {} KiB of memory, and @budget allows {}", needs.div_ceil(1024), has / 1024)
            }
            Refusal::OverMemory(needs, has) => {
                write!(f, "needs {} KiB of memory, and the machine has {}", needs.div_ceil(1024), has / 1024)
            }
        }
    }
}

/// User memory of the gzip decoder besides the image: [`crate::decode`]'s state, and its share of the stack.
const DECODER_BYTES: u64 = 64 << 10;

/// Whether this build decodes `format` itself.
fn decodes(format: Format) -> bool {
    match format {
        Format::Plain => true,
        Format::Gzip => cfg!(feature = "gzip"),
        Format::Xz | Format::Zstd => false,
    }
}

/// The path for a module: finit where the kernel can, then what costs least memory.
pub fn choose(facts: &Facts) -> Result<LoadPath, Refusal> {
    let plain = facts.format == Format::Plain;
    let can = |path| match path {
        LoadPath::Finit => plain && facts.has_finit,
        LoadPath::FinitCompressed => !plain && facts.has_finit && facts.kernel_decodes == Some(facts.format),
        LoadPath::Mmap => plain,
        LoadPath::Buffer => decodes(facts.format),
    };
    let path = match facts.wanted {
        Some(path) if can(path) => path,
        Some(path) => return Err(Refusal::Unfit(path, facts.format)),
        None => LoadPath::ALL
            .into_iter()
            .find(|path| can(*path))
            .ok_or(Refusal::NoDecoder(facts.format, facts.kernel_decodes))?,
    };
    let (LoadPath::Buffer, Some(memory)) = (path, facts.memory) else { return Ok(path) };
    let user = memory.image.saturating_add(DECODER_BYTES);
    // The kernel holds its own copy of the image while the user's is there.
    let machine = user.saturating_add(memory.image);
    match (memory.budget, memory.available) {
        (Some(has), _) if user > has => Err(Refusal::OverBudget(user, has)),
        (_, Some(has)) if machine > has => Err(Refusal::OverMemory(machine, has)),
        _ => Ok(path),
    }
}

/// What is known of the kernel, asked once and only when it matters.
#[derive(Clone, Copy, Debug)]
pub struct Offers {
    has_finit: bool,
    /// `None` until asked.
    kernel_decodes: Option<Option<Format>>,
    /// Ceiling on the loader's own memory in bytes.
    pub budget_bytes: Option<u64>,
}

impl Default for Offers {
    fn default() -> Self {
        Offers { has_finit: true, kernel_decodes: None, budget_bytes: None }
    }
}

impl Offers {
    fn kernel_decodes<K: Kernel>(&mut self, kernel: &K) -> Option<Format> {
        *self.kernel_decodes.get_or_insert_with(|| {
            let mut buf = [0; 16];
            let name = read_small(kernel, c"/sys/module/compression", &mut buf).ok()?;
            [Format::Gzip, Format::Xz, Format::Zstd].into_iter().find(|f| f.name().as_bytes() == name)
        })
    }
}

/// One module to load.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The file, as open(2) takes it.
    pub file: &'a CStr,
    /// Parameters, as the kernel reads them.
    pub params: &'a CStr,
    /// The path demanded.
    pub path: Option<LoadPath>,
    /// The image's length in bytes, where the manifest tells.
    pub size_bytes: Option<u64>,
    /// Flags of finit_module besides those of the path (`MODULE_INIT_*`).
    pub flags: u32,
    /// Whether to look up the file's length, for a report: one call more.
    pub measure: bool,
}

/// How a module was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The path that took it.
    pub path: LoadPath,
    /// The file's length in bytes, if it was to be measured.
    pub file_bytes: u64,
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
    /// The kernel refused the module, or its init did.
    Kernel(Errno),
}

/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h`.
const COMPRESSED_FILE: u32 = 4;

/// Opens the module of `request` and chooses its path without loading it.
pub fn prepare<K: Kernel>(kernel: &K, offers: &mut Offers, request: &Request) -> Result<(LoadPath, Format), Failure> {
    let file = kernel.open(request.file).map_err(Failure::Open)?;
    let format = read_format(kernel, &file)?;
    Ok((choose_for(kernel, offers, request, &file, format)?.0, format))
}

/// Loads the module of `request`.
pub fn load<K: Kernel>(kernel: &K, offers: &mut Offers, request: &Request) -> Result<Loaded, Failure> {
    let file = kernel.open(request.file).map_err(Failure::Open)?;
    let name = name::basename(request.file.to_str().unwrap_or_default());
    // The magic decides; the name only says whether to look before the first call or after its refusal.
    let plain_by_name = matches!(name::strip_ko(name), Some((_, Format::Plain)));
    let mut format = if plain_by_name { Format::Plain } else { read_format(kernel, &file)? };
    loop {
        let (path, image_bytes) = choose_for(kernel, offers, request, &file, format)?;
        let refused = match attempt(kernel, request, &file, format, path, image_bytes) {
            Ok(()) => {
                let stat = request.measure.then(|| kernel.stat(&file).ok()).flatten();
                return Ok(Loaded { path, file_bytes: stat.map_or(0, |s| s.size_bytes) });
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
            // The kernel saw no ELF header, so nothing of the module ran.
            (LoadPath::Finit, Failure::Kernel(Errno::ENOEXEC)) if plain_by_name && format == Format::Plain => {
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
    let mut magic = [0; Format::MAGIC_BYTES];
    let len = kernel.read_at(file, &mut magic, 0).map_err(Failure::Read)?;
    Ok(Format::of(&magic[..len]))
}

/// The path, and the image's length if the path needs to know it.
fn choose_for<K: Kernel>(
    kernel: &K, offers: &mut Offers, request: &Request, file: &K::File, format: Format,
) -> Result<(LoadPath, u64), Failure> {
    let mut facts = Facts {
        format,
        wanted: request.path,
        has_finit: offers.has_finit,
        kernel_decodes: if format == Format::Plain { None } else { offers.kernel_decodes(kernel) },
        memory: None,
    };
    let path = choose(&facts).map_err(Failure::Refusal)?;
    if path != LoadPath::Buffer {
        return Ok((path, 0));
    }
    let image = image_bytes(kernel, request, file, format)?;
    facts.memory = Some(Memory { image, available: available_bytes(kernel), budget: offers.budget_bytes });
    Ok((choose(&facts).map_err(Failure::Refusal)?, image))
}

/// The image's length: what the manifest says, else the file's, else what decoding it once counts.
#[inline(never)]
fn image_bytes<K: Kernel>(kernel: &K, request: &Request, file: &K::File, format: Format) -> Result<u64, Failure> {
    if let Some(size) = request.size_bytes {
        return Ok(size);
    }
    match format {
        Format::Plain => Ok(kernel.stat(file).map_err(Failure::Read)?.size_bytes),
        #[cfg(feature = "gzip")]
        Format::Gzip => crate::decode::gzip::Gzip::new(kernel, file).count().map_err(Failure::Decode),
        _ => unreachable_format(format),
    }
}

/// `choose` lets no format through that this build does not decode.
fn unreachable_format<T>(format: Format) -> Result<T, Failure> {
    Err(Failure::Refusal(Refusal::Unfit(LoadPath::Buffer, format)))
}

/// MemAvailable, or where the kernel is older than 3.14 MemFree, in bytes.
fn available_bytes<K: Kernel>(kernel: &K) -> Option<u64> {
    let mut buf = [0; 256];
    let text = core::str::from_utf8(read_small(kernel, c"/proc/meminfo", &mut buf).ok()?).ok()?;
    let field = |name: &str| {
        let line = text::fields(text, b'\n').find_map(|line| line.strip_prefix(name))?;
        text::number(line.trim_ascii().strip_suffix("kB")?.trim_ascii())
    };
    Some(field("MemAvailable:").or_else(|| field("MemFree:"))? << 10)
}

fn attempt<K: Kernel>(
    kernel: &K, request: &Request, file: &K::File, format: Format, path: LoadPath, image_bytes: u64,
) -> Result<(), Failure> {
    match path {
        LoadPath::Finit => kernel.finit_module(file, request.params, request.flags).map_err(Failure::Kernel),
        LoadPath::FinitCompressed => {
            kernel.finit_module(file, request.params, request.flags | COMPRESSED_FILE).map_err(Failure::Kernel)
        }
        LoadPath::Mmap => {
            let len_bytes = kernel.stat(file).map_err(Failure::Read)?.size_bytes;
            // mmap refuses a length of 0 as it does nonsense; the kernel's word for an empty image is ENOEXEC.
            if len_bytes == 0 {
                return Err(Failure::Kernel(Errno::ENOEXEC));
            }
            let region = kernel.map(file, len_bytes as usize).map_err(Failure::Memory)?;
            kernel.init_module(region.as_ref(), request.params).map_err(Failure::Kernel)
        }
        LoadPath::Buffer => buffer(kernel, request, file, format, image_bytes),
    }
}

// Kept out of line: the decoder's 47 KB of stack are touched only here.
#[inline(never)]
fn buffer<K: Kernel>(
    kernel: &K, request: &Request, file: &K::File, format: Format, image_bytes: u64,
) -> Result<(), Failure> {
    let len_bytes = usize::try_from(image_bytes).map_err(|_| Failure::Memory(Errno::EFBIG))?;
    if len_bytes == 0 {
        return Err(Failure::Kernel(Errno::ENOEXEC));
    }
    let mut region = kernel.allocate(len_bytes).map_err(Failure::Memory)?;
    let image = &mut region.as_mut()[..len_bytes];
    let filled = match format {
        Format::Plain => read_full(kernel, file, image).map_err(Failure::Read)?.len(),
        #[cfg(feature = "gzip")]
        Format::Gzip => {
            let mut gzip = crate::decode::gzip::Gzip::new(kernel, file);
            let filled = gzip.read(image).map_err(Failure::Decode)?;
            // Reads to the end, where the checksum is; an image longer than was said is as wrong as a shorter one.
            if gzip.count().map_err(Failure::Decode)? != 0 {
                return Err(Failure::Decode(DecodeError::Length));
            }
            filled
        }
        _ => return unreachable_format(format),
    };
    if filled != len_bytes {
        return Err(Failure::Decode(DecodeError::Length));
    }
    kernel.init_module(image, request.params).map_err(Failure::Kernel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use std::io::Write;

    const PLAIN: Facts =
        Facts { format: Format::Plain, wanted: None, has_finit: true, kernel_decodes: None, memory: None };

    #[test]
    fn the_choice_case_by_case() {
        use Format::*;
        use LoadPath::*;
        let roomy = Some(Memory { image: 1 << 20, available: Some(64 << 20), budget: None });
        let tight = Some(Memory { image: 1 << 20, available: Some(2 << 20), budget: None });
        let ceiling = |budget| Some(Memory { image: 1 << 20, available: Some(64 << 20), budget: Some(budget) });
        let old = Facts { has_finit: false, ..PLAIN };
        let gz = Facts { format: Gzip, ..PLAIN };
        let xz = Facts { format: Xz, ..PLAIN };
        let needs = (1 << 20) + DECODER_BYTES;
        let cases = [
            (PLAIN, Ok(Finit)),
            (old, Ok(Mmap)),
            (Facts { wanted: Some(Mmap), ..PLAIN }, Ok(Mmap)),
            (Facts { wanted: Some(Buffer), ..PLAIN }, Ok(Buffer)),
            (Facts { wanted: Some(Finit), ..old }, Err(Refusal::Unfit(Finit, Plain))),
            (Facts { wanted: Some(FinitCompressed), ..PLAIN }, Err(Refusal::Unfit(FinitCompressed, Plain))),
            (gz, Ok(Buffer)),
            (Facts { kernel_decodes: Some(Gzip), ..gz }, Ok(FinitCompressed)),
            (Facts { kernel_decodes: Some(Gzip), has_finit: false, ..gz }, Ok(Buffer)),
            (Facts { kernel_decodes: Some(Xz), ..gz }, Ok(Buffer)),
            (Facts { wanted: Some(Mmap), ..gz }, Err(Refusal::Unfit(Mmap, Gzip))),
            (Facts { wanted: Some(Finit), ..gz }, Err(Refusal::Unfit(Finit, Gzip))),
            (Facts { wanted: Some(Buffer), kernel_decodes: Some(Gzip), ..gz }, Ok(Buffer)),
            (Facts { memory: roomy, ..gz }, Ok(Buffer)),
            (Facts { memory: tight, ..gz }, Err(Refusal::OverMemory(needs + (1 << 20), 2 << 20))),
            (Facts { memory: ceiling(1 << 20), ..gz }, Err(Refusal::OverBudget(needs, 1 << 20))),
            (Facts { memory: ceiling(needs), ..gz }, Ok(Buffer)),
            (xz, Err(Refusal::NoDecoder(Xz, None))),
            (Facts { kernel_decodes: Some(Xz), ..xz }, Ok(FinitCompressed)),
            (Facts { kernel_decodes: Some(Gzip), ..xz }, Err(Refusal::NoDecoder(Xz, Some(Gzip)))),
            (Facts { format: Zstd, kernel_decodes: Some(Zstd), ..PLAIN }, Ok(FinitCompressed)),
        ];
        for (facts, want) in cases {
            assert_eq!(choose(&facts), want, "{facts:?}");
        }
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn request(file: &CStr) -> Request<'_> {
        Request { file, params: c"a=1", path: None, size_bytes: None, flags: 0, measure: false }
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
    fn a_compressed_file_with_a_plain_name_is_known_by_its_magic() {
        let fake = Fake::default().with_file("/m.ko", &gzip(b"\x7fELF image")).answering(&[Err(Errno::ENOEXEC)]);
        assert_eq!(calls(&fake, c"/m.ko").0, Ok(LoadPath::Buffer));
        assert_eq!(fake.images.take(), [b"\x7fELF image"]);
        let fake = Fake::default().with_file("/m.ko.gz", b"\x7fELF");
        assert_eq!(calls(&fake, c"/m.ko.gz").0, Ok(LoadPath::Finit));
    }

    #[test]
    fn gzip_is_decoded_whole_or_not_loaded() {
        let image: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let good = gzip(&image);
        let fake = Fake::default().with_file("/m.ko.gz", &good);
        assert_eq!(calls(&fake, c"/m.ko.gz").0, Ok(LoadPath::Buffer));
        assert!(fake.images.take() == [image.clone()]);
        for size_bytes in [image.len() as u64 - 1, image.len() as u64 + 1, 1] {
            let request = Request { size_bytes: Some(size_bytes), ..request(c"/m.ko.gz") };
            let result = load(&fake, &mut Offers::default(), &request);
            assert_eq!(result, Err(Failure::Decode(DecodeError::Length)), "said {size_bytes}");
        }
        let mut bad = good;
        let crc_at = bad.len() - 6;
        bad[crc_at] ^= 4;
        let fake = Fake::default().with_file("/m.ko.gz", &bad);
        assert_eq!(calls(&fake, c"/m.ko.gz").0, Err(Failure::Decode(DecodeError::Checksum)));
        assert!(fake.images.take().is_empty());
    }

    #[test]
    fn the_budget_refuses_with_figures() {
        let fake = Fake::default().with_file("/m.ko.gz", &gzip(&vec![7; 1 << 20]));
        let mut offers = Offers { budget_bytes: Some(512 << 10), ..Offers::default() };
        let failure = load(&fake, &mut offers, &request(c"/m.ko.gz")).unwrap_err();
        let Failure::Refusal(refusal) = failure else { panic!("{failure:?}") };
        assert_eq!(refusal.to_string(), "needs 1088 KiB of memory, and @budget allows 512");
        assert!(fake.images.take().is_empty());
    }

    #[test]
    fn the_machines_memory_is_read() {
        let meminfo = "MemTotal:          10052 kB\nMemFree:            5872 kB\nMemAvailable:       6100 kB\n";
        let fake = Fake::default().with_file("/proc/meminfo", meminfo.as_bytes());
        assert_eq!(available_bytes(&fake), Some(6100 << 10));
        assert_eq!(available_bytes(&Fake::default()), None);
    }
}
