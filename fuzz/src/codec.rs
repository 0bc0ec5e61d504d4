//! Compressed module files: what is loaded is what another decoder makes of the file, or nothing.

use std::io::Read;

use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use modest_loader::errno::Errno;
use modest_loader::format::Format;
use modest_loader::load::{self, Abilities, Failure, Refusal, Request};
use modest_loader::load_path::LoadPath;
use modest_loader::source::DecodeError;
use zlib_rs::{Inflate, InflateFlush, Status};

use crate::Input;
use crate::kernel::Memory;

/// What the machine has free: an image that is larger is refused. Small, as a few KB may stand for as much.
const AVAILABLE_BYTES: usize = 1 << 20;

/// A gzip file.
pub fn gzip(data: &[u8]) {
    codec(data);
}

/// An xz file.
pub fn xz(data: &[u8]) {
    codec(data);
}

/// A zstd file.
pub fn zstd(data: &[u8]) {
    codec(data);
}

/// Says in an input's fourth byte that the checksums of the file are to be made right, as nobody guesses them.
const REPAIR: u8 = 1;
/// Says that `@size=` is the image's length, or with [`WRONG_SIZE`] one more.
const SIZE: u8 = 2;
const WRONG_SIZE: u8 = 4;
/// Says that the file is named as if it were plain.
const PLAIN_NAME: u8 = 8;

fn codec(data: &[u8]) {
    let mut input = Input(data);
    let (read_at_most, fails_from, mode) = (input.byte(), input.number(), input.byte());
    let mut file = input.0.to_vec();
    if mode & REPAIR != 0 {
        match Format::of(&file) {
            Format::Gzip => repair_gzip(&mut file),
            Format::Xz => repair_xz(&mut file),
            Format::Plain | Format::Zstd => {}
        }
    }
    let image = decode(&file);
    let len = image.as_ref().map_or(0, Vec::len) as u64;
    let size_bytes = match mode & (SIZE | WRONG_SIZE) {
        0 | WRONG_SIZE => None,
        SIZE => Some(len),
        _ => Some(len + 1),
    };
    let path = if mode & PLAIN_NAME != 0 { c"/m.ko" } else { c"/m.ko.gz" };
    let meminfo = format!("MemAvailable: {} kB\n", AVAILABLE_BYTES >> 10);
    for by in [Some(LoadPath::Stream), Some(LoadPath::Buffer), None] {
        let mut kernel = Memory::new(read_at_most, fails_from);
        kernel.lacks_finit = true;
        let kernel = kernel.with_file(path.to_str().unwrap(), &file).with_file("/proc/meminfo", meminfo.as_bytes());
        let request = Request { file: path, params: c"", path: by, size_bytes, measure: true, ..Request::default() };
        let result = load::load(&kernel, &mut Abilities::default(), &request);
        let images = kernel.images.take();
        match (&result, &image) {
            (Ok(loaded), Ok(image)) => {
                assert!(images == [&image[..]], "{} bytes by {}: not those of the reference", image.len(), loaded.path);
                // Of a file that is mapped, its own length counts.
                assert!(loaded.path == LoadPath::Mmap || size_bytes.is_none_or(|size| size == len));
            }
            (Ok(loaded), Err(error)) => panic!("loaded by {}, but the reference says: {error}", loaded.path),
            (Err(failure), Ok(image)) => {
                assert!(images.is_empty(), "{failure:?} after the kernel had all");
                let is_known = is_limit(failure)
                    || kernel.fails_from.is_some_and(|from| from <= file.len().max(64) as u64)
                    || size_bytes.is_some_and(|size| size != len)
                    // What is named as if it were plain is taken so as long as the kernel does not refuse it.
                    || mode & PLAIN_NAME != 0 && size_bytes.is_some()
                    // What is empty is no module, and neither is what is compressed twice.
                    || (image.is_empty() || Format::of(image) != Format::Plain)
                        && *failure == Failure::Kernel(Errno::ENOEXEC)
                    || is_lax(&file, failure);
                assert!(is_known, "{failure:?} of what the reference takes, {} bytes", image.len());
            }
            (Err(failure), Err(_)) => assert!(images.is_empty(), "{failure:?} after the kernel had all"),
        }
    }
}

/// Whether a failure is one of what the loader can do, or of what the machine has, and not of the file.
fn is_limit(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Decode(DecodeError::Unsupported(_) | DecodeError::TooLarge)
            | Failure::Memory(Errno::ENOMEM)
            | Failure::Refusal(Refusal::OverMemory(..) | Refusal::Dictionary(_))
    )
}

/// Whether a failure is for what the reference does not look at, though the format forbids it: how the streams of a block's
/// literals end (RFC 8878, 4.2.2), to which zstd's fastest loop does not look, and the stated length of a frame whose last
/// block is empty.
fn is_lax(file: &[u8], failure: &Failure) -> bool {
    let is_lax = match failure {
        Failure::Decode(DecodeError::Corrupt(what)) => {
            ["a block's bits do not end where its data does", "a block of it breaks off"].contains(what)
        }
        Failure::Decode(DecodeError::Length) => true,
        _ => false,
    };
    is_lax && Format::of(file) == Format::Zstd
}

/// What other decoders make of the file, unless it is much.
fn decode(file: &[u8]) -> Result<Vec<u8>, String> {
    let mut image = Vec::new();
    let most = AVAILABLE_BYTES as u64 + 1;
    match Format::of(file) {
        Format::Plain => image.extend(file),
        Format::Gzip => {
            let mut rest = file;
            while let Some((member, behind)) = gzip_member(rest)? {
                if member.crc != member.stated_crc || member.image.len() as u32 != member.stated_bytes {
                    return Err("the trailer does not match".into());
                }
                image.extend(member.image);
                // As gzip(1) does.
                rest = &behind[behind.iter().take_while(|byte| **byte == 0).count()..];
            }
        }
        Format::Xz => {
            let stream = Stream::new_stream_decoder(64 << 20, CONCATENATED).map_err(|e| e.to_string())?;
            let file = with_range_starts(file);
            let xz = XzDecoder::new_stream(&file[..], stream);
            xz.take(most).read_to_end(&mut image).map_err(|e| e.to_string())?;
        }
        Format::Zstd => {
            let mut zstd = zstd::Decoder::new(file).map_err(|e| e.to_string())?;
            zstd.window_log_max(23).map_err(|e| e.to_string())?;
            zstd.take(most).read_to_end(&mut image).map_err(|e| e.to_string())?;
        }
    }
    Ok(image)
}

/// An xz file in which each range coder of the first stream starts with the 0 that stands there. The loader's decoder does not
/// look at it, nor does the kernel's: nothing depends on it.
fn with_range_starts(file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    let check_bytes = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];
    let check_bytes = file.get(7).map_or(0, |kind| check_bytes[usize::from(kind & 15)]);
    let mut at = 12;
    while let Some(&header) = file.get(at).filter(|size| **size != 0) {
        let start = at;
        at += (usize::from(header) + 1) * 4;
        loop {
            let two = |at: usize| Some(usize::from(u16::from_be_bytes(*file.get(at..)?.first_chunk()?)) + 1);
            at += match file.get(at) {
                None => return file,
                Some(0) => break,
                Some(1..0x80) => 3 + two(at + 1).unwrap_or(0),
                Some(&control) => {
                    let header = if control >= 0xc0 { 6 } else { 5 };
                    let len = header + two(at + 3).unwrap_or(0);
                    if let Some(byte) = file.get_mut(at + header) {
                        *byte = 0;
                    }
                    len
                }
            };
        }
        at += 1;
        at += (at - start).wrapping_neg() % 4 + check_bytes;
    }
    file
}

struct Member {
    image: Vec<u8>,
    crc: u32,
    stated_crc: u32,
    stated_bytes: u32,
}

/// The first member of a gzip file, and what is behind it (RFC 1952); `None` at the end. The checksum of a header is left out,
/// as by the loader: it guards a time and a name.
fn gzip_member(file: &[u8]) -> Result<Option<(Member, &[u8])>, String> {
    if file.is_empty() {
        return Ok(None);
    }
    let [0x1f, 0x8b, 8, flags @ 0..0x20, _, _, _, _, _, _, rest @ ..] = file else { return Err("no header".into()) };
    let mut rest = rest;
    let mut skip = |len: usize| {
        rest = rest.get(len..).ok_or("ends in its header")?;
        Ok::<_, String>(rest)
    };
    if flags & 4 != 0 {
        let [low, high, ..] = *skip(0)? else { return Err("ends in its header".into()) };
        skip(2 + usize::from(u16::from_le_bytes([low, high])))?;
    }
    for text in [8, 16] {
        if flags & text != 0 {
            let len = skip(0)?.iter().position(|byte| *byte == 0).ok_or("ends in its header")?;
            skip(len + 1)?;
        }
    }
    if flags & 2 != 0 {
        skip(2)?;
    }
    let mut inflate = Inflate::new(false, 15);
    let mut image = vec![0; AVAILABLE_BYTES + 1];
    let status = inflate.decompress(rest, &mut image, InflateFlush::Finish).map_err(|e| e.as_str().to_string())?;
    image.truncate(inflate.total_out() as usize);
    let behind = &rest[inflate.total_in() as usize..];
    if status != Status::StreamEnd {
        return Err("ends in its data, or is much".into());
    }
    let [a, b, c, d, e, f, g, h, behind @ ..] = behind else { return Err("ends in its trailer".into()) };
    let (stated_crc, stated_bytes) = (u32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes([*e, *f, *g, *h]));
    let crc = zlib_rs::crc32::crc32(0, &image);
    Ok(Some((Member { image, crc, stated_crc, stated_bytes }, behind)))
}

/// Writes the checksums and lengths of members behind them.
fn repair_gzip(file: &mut [u8]) {
    let mut at = 0;
    while let Ok(Some((member, behind))) = gzip_member(&file[at..]) {
        at = file.len() - behind.len();
        file[at - 8..at - 4].copy_from_slice(&member.crc.to_le_bytes());
        file[at - 4..at].copy_from_slice(&(member.image.len() as u32).to_le_bytes());
    }
}

/// Writes the checksums of the headers of the first stream and its first block, and of the last stream's index and footer.
fn repair_xz(file: &mut [u8]) {
    let mut repair_at = |from: usize, to: usize, at: usize| {
        if let Some(crc) = file.get(from..to).map(|bytes| zlib_rs::crc32::crc32(0, bytes))
            && let Some(place) = file.get_mut(at..).and_then(|rest| rest.first_chunk_mut())
        {
            *place = crc.to_le_bytes();
        }
        file.len()
    };
    let len = repair_at(6, 8, 8);
    repair_at(len.saturating_sub(8), len.saturating_sub(2), len.saturating_sub(12));
    let block_bytes = file.get(12).map_or(0, |size| usize::from(*size) * 4);
    let index_bytes = file
        .len()
        .checked_sub(8)
        .and_then(|at| file[at..].first_chunk())
        .map_or(0, |size| (u32::from_le_bytes(*size) as usize).saturating_add(1).saturating_mul(4));
    let mut repair = |from: usize, to: usize| {
        if let Some(crc) = file.get(from..to).map(|bytes| zlib_rs::crc32::crc32(0, bytes))
            && let Some(place) = file.get_mut(to..).and_then(|rest| rest.first_chunk_mut())
        {
            *place = crc.to_le_bytes();
        }
    };
    if block_bytes > 0 {
        repair(12, 12 + block_bytes);
    }
    if let Some(index_at) = len.saturating_sub(12).checked_sub(index_bytes) {
        repair(index_at, len.saturating_sub(16));
    }
}
