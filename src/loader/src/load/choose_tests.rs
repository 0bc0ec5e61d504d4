use super::*;

#[cfg(all(feature = "gzip", feature = "xz"))]
const PLAIN: Facts = Facts {
    format: Format::Plain,
    wanted: None,
    has_finit: true,
    kernel_decodes: Some(None),
    window_bytes: Some(None),
    memory: None,
    is_pinned: false,
    is_scarce: false,
};

/// The path that is taken where nothing else is to be asked; there is memory enough where `facts` has no figures.
#[cfg(all(feature = "gzip", feature = "xz"))]
fn path(facts: &Facts) -> Result<LoadPath, Refusal> {
    let vast = Memory {
        file: 1 << 20,
        image: 1 << 20,
        decoder: 0,
        dictionary: 0,
        kernel_decoder: 0,
        available: None,
        budget: None,
        is_pinned: false,
        is_beyond_kernel: false,
    };
    let memory = facts.memory.or(Some(Some(vast)));
    match choose(&Facts { memory, ..*facts })? {
        Choice::Take(path) => Ok(path),
        question => panic!("{question:?}: {facts:?}"),
    }
}

#[test]
fn it_asks_for_no_more_than_it_depends_on() {
    let unknown = Facts {
        format: Format::Plain,
        wanted: None,
        is_pinned: false,
        is_scarce: false,
        has_finit: true,
        kernel_decodes: None,
        window_bytes: None,
        memory: None,
    };
    assert_eq!(choose(&unknown), Ok(Choice::Take(LoadPath::Finit)));
    let scarce = Facts { is_scarce: true, ..unknown };
    assert_eq!(choose(&scarce), Ok(Choice::AskMemory));
    let buffer = Facts { wanted: Some(LoadPath::Buffer), ..unknown };
    assert_eq!(choose(&buffer), Ok(Choice::AskWindow));
    assert_eq!(choose(&Facts { window_bytes: Some(None), ..buffer }), Ok(Choice::AskMemory));
    let gzip = Facts { format: Format::Gzip, ..unknown };
    assert_eq!(choose(&gzip), Ok(Choice::AskKernelDecodes));
    let mmap = Facts { wanted: Some(LoadPath::Mmap), ..gzip };
    assert_eq!(choose(&mmap), Err(Refusal::Unfit(LoadPath::Mmap, Format::Gzip)));
    let broken =
        Facts { kernel_decodes: Some(Some(Format::Gzip)), window_bytes: Some(None), memory: Some(None), ..gzip };
    assert_eq!(choose(&broken), Ok(Choice::Take(LoadPath::FinitCompressed)));
    #[cfg(feature = "gzip")]
    assert_eq!(choose(&Facts { kernel_decodes: Some(None), ..broken }), Ok(Choice::Unreadable));
}

#[test]
#[cfg(all(feature = "gzip", feature = "xz"))]
fn the_choice_case_by_case() {
    use Format::*;
    use LoadPath::*;
    const MIB: u64 = 1 << 20;
    let has = |available, budget| {
        let decoder = 64 << 10;
        Some(Some(Memory {
            file: MIB / 4,
            image: MIB,
            decoder,
            kernel_decoder: 48 << 10,
            dictionary: 0,
            available: Some(available),
            budget,
            is_pinned: false,
            is_beyond_kernel: false,
        }))
    };
    let (roomy, low, tight) = (has(64 * MIB, None), has(3 * MIB, None), has(MIB + 9, None));
    let ceiling = |budget| has(64 * MIB, Some(budget));
    let old = Facts { has_finit: false, ..PLAIN };
    let old_streams = Facts { window_bytes: Some(Some(48 << 10)), ..old };
    let gz = Facts { format: Gzip, ..PLAIN };
    let gz_streams = Facts { window_bytes: Some(Some(48 << 10)), ..gz };
    let gz_kernel = Facts { kernel_decodes: Some(Some(Gzip)), ..gz_streams };
    let zst = Facts { format: Zstd, ..PLAIN };
    let xz_of = |file, image, available, budget| Facts {
        format: Xz,
        memory: Some(Some(Memory {
            file,
            image,
            decoder: 128 << 10,
            kernel_decoder: 48 << 10,
            dictionary: MIB,
            available: Some(available),
            budget,
            is_pinned: false,
            is_beyond_kernel: false,
        })),
        ..gz_streams
    };
    let xz = xz_of(MIB, 4 * MIB, 64 * MIB, None);
    let small_xz = xz_of(30 << 10, 100 << 10, 380 << 10, None);
    let in_kernel = |facts| Facts { kernel_decodes: Some(Some(Xz)), ..facts };
    let vast_xz = |budget| {
        let memory = xz.memory.map(|memory| memory.map(|memory| Memory { dictionary: 64 * MIB, budget, ..memory }));
        Facts { memory, ..xz }
    };
    let (buffer, stream) = (MIB + (64 << 10), (48 + 64) << 10);
    let (all_buffer, all_stream) = (PROGRAM_BYTES + buffer, PROGRAM_BYTES + stream);
    let low_ceiling = |budget| has(3 * MIB, Some(budget));
    let cases = [
        (PLAIN, Ok(Finit)),
        (Facts { memory: low, window_bytes: Some(Some(1)), ..PLAIN }, Ok(Finit)),
        (old, Ok(Mmap)),
        (Facts { memory: low, ..old }, Ok(Mmap)),
        (Facts { memory: roomy, ..old_streams }, Ok(Mmap)),
        (Facts { memory: low, ..old_streams }, Ok(Stream)),
        (Facts { memory: low_ceiling(all_stream), ..old_streams }, Ok(Stream)),
        (Facts { memory: low_ceiling(all_stream - 1), ..old_streams }, Ok(Mmap)),
        (Facts { memory: ceiling(all_stream), ..old_streams }, Ok(Mmap)),
        (Facts { wanted: Some(Mmap), ..PLAIN }, Ok(Mmap)),
        (Facts { wanted: Some(Buffer), ..PLAIN }, Ok(Buffer)),
        (Facts { wanted: Some(Stream), window_bytes: Some(Some(1)), ..PLAIN }, Ok(Stream)),
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
        (Facts { kernel_decodes: Some(Some(Xz)), ..gz_streams }, Ok(Stream)),
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
        (Facts { kernel_decodes: Some(Some(Zstd)), ..zst }, Ok(FinitCompressed)),
    ];
    for (facts, want) in cases {
        assert_eq!(path(&facts), want, "{facts:?}");
    }
    let undecoded = [
        (zst, Err(Refusal::NoDecoder(Zstd, None))),
        (Facts { kernel_decodes: Some(Some(Gzip)), ..zst }, Err(Refusal::NoDecoder(Zstd, Some(Gzip)))),
    ];
    // A block of the file is held besides what is to be the window.
    let zst_of = |file_bytes, image_bytes, budget| Facts {
        memory: Some(Some(Memory::new(
            Zstd,
            &Extent {
                file_bytes,
                image_bytes: Some(image_bytes),
                is_guess: false,
                dictionary_bytes: MIB,
                input_bytes: 128 << 10,
                beyond_kernel: None,
            },
            Some(64 * MIB),
            budget,
        ))),
        window_bytes: Some(Some(48 << 10)),
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
        (Facts { kernel_decodes: Some(Some(Zstd)), ..zst_of(30 << 10, 100 << 10, Some(small)) }, Ok(FinitCompressed)),
        (Facts { kernel_decodes: Some(Some(Zstd)), ..zst_of(MIB, 4 * MIB, None) }, Ok(FinitCompressed)),
    ];
    for (facts, want) in if cfg!(feature = "zstd") { &decoded[..] } else { &undecoded } {
        assert_eq!(path(facts), *want, "{facts:?}");
    }
}
