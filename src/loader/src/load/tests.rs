use super::choose::{PROGRAM_BYTES, decoder_bytes};
use super::*;
use crate::kernel::fake::Fake;
use crate::pin;
use std::io::Write;

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn request(file: &CStr) -> Request<'_> {
    Request { file, params: c"a=1", ..Request::default() }
}

fn calls(fake: &Fake, file: &CStr) -> (Result<LoadPath, Failure>, Vec<String>) {
    let result = load(fake, &mut Abilities::default(), &request(file));
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
    let mut abilities = Abilities::default();
    for _ in 0..2 {
        assert_eq!(load(&fake, &mut abilities, &request(c"/m.ko")).unwrap().path, LoadPath::Mmap);
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
        (c"/m.ko.xz", crate::decode::xz::tests::xz(image)),
        #[cfg(feature = "zstd")]
        (c"/m.ko.zst", crate::decode::zstd::tests::zstd(image)),
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
            assert_eq!(load(&fake, &mut Abilities::default(), &request).map(|l| l.path), Ok(path), "{file:?}");
            assert!(fake.images.take() == [image.clone()]);
            for size_bytes in [image.len() as u64 - 1, image.len() as u64 + 1, 1] {
                let request = Request { size_bytes: Some(size_bytes), ..request };
                let result = load(&fake, &mut Abilities::default(), &request);
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
            let result = load(&fake, &mut Abilities::default(), &decoding(file, path));
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
            let loaded = load(&fake, &mut Abilities::default(), &decoding(c"/m.ko.gz", path));
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
        let failure = load(&fake, &mut Abilities::default(), &decoding(file, DECODED[0])).unwrap_err();
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
    let paths = [&[None], &in_kernel.iter().chain(DECODED).map(|path| Some(*path)).collect::<Vec<_>>()[..]].concat();
    let load = |path| {
        let fake = Fake::default().with_file(file.to_str().unwrap(), bytes).reading_at_most(5000);
        let fake = fake.with_file("/sys/module/compression", format.name().as_bytes());
        let result = load(&fake, &mut Abilities::default(), &Request { path, sha256, ..request(file) });
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
        let result = load(&fake, &mut Abilities::default(), &Request { sha256, ..request(file) });
        assert_eq!(result.map(|loaded| loaded.path), Ok(LoadPath::Buffer));
        assert_eq!(fake.images.take(), [image]);
        let wrong = "0".repeat(64);
        let request = Request { sha256: Some(Pin::parse(&wrong).unwrap()), ..request(file) };
        let result = load(&fake, &mut Abilities::default(), &request);
        assert!(matches!(result, Err(Failure::Mismatch(_))), "{result:?}");
        let result = prepare(&fake, &mut Abilities::default(), &request).map(|(path, _)| path);
        assert!(matches!(result, Err(Failure::Mismatch(_))), "{result:?}");
        let request = Request { sha256, ..request };
        assert_eq!(prepare(&fake, &mut Abilities::default(), &request).map(|(path, _)| path), Ok(LoadPath::Buffer));
        assert_eq!(loads(&fake), 0);
    }
    // A compressed file with a plain name, and the other way.
    #[cfg(feature = "gzip")]
    for (file, bytes) in [(c"/m.ko", gzip(&image)), (c"/m.ko.gz", image.to_vec())] {
        let fake = Fake::default().with_file(file.to_str().unwrap(), &bytes);
        let result = load(&fake, &mut Abilities::default(), &Request { sha256, ..request(file) });
        assert_eq!((result.map(|loaded| loaded.path), loads(&fake)), (Ok(DECODED[0]), 1));
    }
    #[cfg(not(feature = "zstd"))]
    for (path, compression) in [(None, "zstd"), (Some(LoadPath::FinitCompressed), "zstd"), (None, "xz")] {
        let fake = Fake::default().with_file("/m.ko.zst", &[0x28, 0xb5, 0x2f, 0xfd, 0, 0]);
        let fake = fake.with_file("/sys/module/compression", compression.as_bytes());
        let request = Request { path, sha256, ..request(c"/m.ko.zst") };
        let result = load(&fake, &mut Abilities::default(), &request);
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
        let request = Request { budget_bytes: Some(least), ..request };
        let loaded = load(&fake, &mut Abilities::default(), &request).unwrap();
        assert_eq!((loaded.path, loaded.user_bytes), (path.unwrap_or(LoadPath::Stream), least));
        let request = Request { budget_bytes: Some(least - 1), ..request };
        let result = load(&fake, &mut Abilities::default(), &request);
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
        let loaded = load(&fake, &mut Abilities::default(), &decoding(c"/m.ko.zst", path));
        assert_eq!(loaded.map(|l| l.path), Ok(path));
        assert!(fake.images.take() == [image.clone()]);
    }
    // Counting takes a window too, of which nobody knows how much will be touched.
    let short = Request { budget_bytes: Some(192 << 10), ..decoding(c"/m.ko.zst", DECODED[0]) };
    let failure = load(&fake, &mut Abilities::default(), &short);
    assert!(matches!(failure, Err(Failure::Refusal(Refusal::OverBudget(_, 0x3_0000)))), "{failure:?}");
    let fake = Fake::default().with_file("/m.ko.zst", &zstd_unstated(&image, 24));
    let failure = load(&fake, &mut Abilities::default(), &decoding(c"/m.ko.zst", DECODED[0]));
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
        let result = load(&fake, &mut Abilities::default(), &decoding(file, LoadPath::Stream));
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
    let within = Request { budget_bytes: Some(512 << 10), ..request(c"/m.ko.gz") };
    let failure = load(&fake, &mut Abilities::default(), &within).unwrap_err();
    let Failure::Refusal(refusal) = failure else { panic!("{failure:?}") };
    assert_eq!(
        refusal.to_string(),
        format!("it needs {} KiB of memory, but @budget allows 512 KiB", PROGRAM_BYTES / 1024 + 1088)
    );
    assert!(fake.images.take().is_empty());
    // What the window saves is enough.
    let fake = Fake::default().with_file("/m.ko.gz", &gzip(&vec![7; 1 << 20]));
    let least = PROGRAM_BYTES + (112 << 10);
    let within = Request { budget_bytes: Some(least), ..request(c"/m.ko.gz") };
    assert_eq!(load(&fake, &mut Abilities::default(), &within).unwrap().path, LoadPath::Stream);
    let within = Request { budget_bytes: Some(least - 1), ..request(c"/m.ko.gz") };
    let failure = load(&fake, &mut Abilities::default(), &within).unwrap_err();
    let Failure::Refusal(refusal) = failure else { panic!("{failure:?}") };
    let kib = least / 1024;
    assert_eq!(refusal.to_string(), format!("it needs {kib} KiB of memory, but @budget allows {} KiB", kib - 1));
}

/// A kernel that decodes the format may still not decode the file.
#[test]
#[cfg(all(feature = "gzip", feature = "xz"))]
fn what_the_kernels_decoder_does_not_take_is_decoded_here() {
    use crate::decode::xz::tests::{xz, xz_checked};
    use lzma_rust2::CheckType;
    let image = b"\x7fELF and so on";
    let good = gzip(image);
    let with = |flags: u8, field: &[u8]| [&good[..3], &[flags], &good[4..10], field, &good[10..]].concat();
    let (crc64, crc32) = (xz_checked(image, CheckType::Crc64), xz(image));
    let cases: [(&str, &[u8], LoadPath); 7] = [
        ("gzip", &good, LoadPath::FinitCompressed),
        ("gzip", &with(8, b"name\0"), LoadPath::FinitCompressed),
        ("gzip", &with(16, b"comment\0"), LoadPath::Stream),
        ("gzip", &with(4, b"\x02\0ab"), LoadPath::Stream),
        ("xz", &crc32, LoadPath::FinitCompressed),
        ("xz", &crc64, LoadPath::Stream),
        ("xz", &[&crc32[..], &crc32].concat(), LoadPath::Stream),
    ];
    for (format, file, path) in cases {
        let fake = Fake::default().with_file("/m.ko.z", file).with_file("/sys/module/compression", format.as_bytes());
        let request = Request { file: c"/m.ko.z", ..Request::default() };
        let loaded = load(&fake, &mut Abilities::default(), &request).unwrap();
        assert_eq!(loaded.path, path, "{format}: {file:02x?}");
        let demanded = Request { path: Some(LoadPath::FinitCompressed), ..request };
        let is_taken = load(&fake, &mut Abilities::default(), &demanded).is_ok();
        assert_eq!(is_taken, path == LoadPath::FinitCompressed);
    }
}
