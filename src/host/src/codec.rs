//! Compression, both ways: reads what modules, firmware and kernels come in, writes what a kernel takes as initramfs and
//! what the target reads as modules. The same input gives the same bytes, always.

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, anyhow};
use lzma_rust2::{CheckType, XzOptions, XzReader, XzWriter};
use modest_loader::decode::ImageFile;
use modest_loader::elf::{Fault, ends_in_zeros};
use modest_loader::format::Format;
use modest_loader::kernel::Kernel;
use modest_loader::sys::Linux;

/// The kernel's decoder allocates the dictionary whole, and a small machine has little.
const XZ_DICTIONARY_BYTES: u32 = 1 << 20;

/// As a power of two: 128 KiB, a tenth of what level 19 would take, for files a few percent larger.
const ZSTD_WINDOW_LOG: u32 = 17;

/// Decompresses `bytes`, of whatever format their magic tells.
pub fn decode(bytes: &[u8]) -> Result<Vec<u8>> {
    decode_of(bytes, Format::of(bytes)).map_err(|error| match ends_in_zeros(&mut &*bytes) {
        // Whatever a decoder misses first is missed because of that.
        Ok(true) => anyhow!("{}", Fault::EndsInZeros),
        _ => error,
    })
}

fn decode_of(bytes: &[u8], format: Format) -> Result<Vec<u8>> {
    let mut image = Vec::new();
    match format {
        Format::Plain => image.extend(bytes),
        Format::Gzip => drop(flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut image)?),
        Format::Xz => drop(XzReader::new(bytes, true).read_to_end(&mut image)?),
        Format::Zstd => image = zstd::decode_all(bytes)?,
    }
    Ok(image)
}

/// The name of a format that a kernel takes for an initramfs (lib/decompress.c) and nothing here reads.
pub fn foreign(bytes: &[u8]) -> Option<&'static str> {
    const MAGICS: [(&str, &[u8]); 4] =
        [("lz4", b"\x02\x21\x4c\x18"), ("bzip2", b"BZh"), ("lzma", b"\x5d\0\0"), ("lzo", b"\x89LZO")];
    MAGICS.iter().find(|(_, magic)| bytes.starts_with(magic)).map(|(name, _)| *name)
}

/// What of a compressed file the kernel's own decoder of modules does not take.
pub fn beyond_kernel(bytes: &[u8]) -> Result<Option<&'static str>> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(bytes)?;
    let path = CString::new(file.path().as_os_str().as_bytes())?;
    let opened = Linux.open(&path).map_err(|errno| anyhow!("{errno}"))?;
    let image = ImageFile::new(&Linux, opened).map_err(|errno| anyhow!("{errno}"))?;
    // What is damaged is reported by whoever decodes it.
    Ok(image.extent().ok().and_then(|extent| extent.beyond_kernel))
}

/// Whether it is an xz file without a check: what changes in it goes unseen.
pub fn has_no_check(bytes: &[u8]) -> bool {
    Format::of(bytes) == Format::Xz && bytes.get(7) == Some(&0)
}

/// Compresses `image`, as small as the format gets without asking much memory of the reader.
pub fn encode(image: &[u8], format: Format) -> Result<Vec<u8>> {
    Ok(match format {
        Format::Plain => image.to_vec(),
        Format::Gzip => {
            // flate2 writes no name and no time unless told to.
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            gzip.write_all(image)?;
            gzip.finish()?
        }
        Format::Xz => {
            let mut options = XzOptions::with_preset(6);
            options.lzma_options.dict_size = XZ_DICTIONARY_BYTES;
            // The kernel's decoder knows no other check.
            options.set_check_sum_type(CheckType::Crc32);
            let mut xz = XzWriter::new(Vec::new(), options)?;
            xz.write_all(image)?;
            xz.finish()?
        }
        Format::Zstd => {
            let mut zstd = zstd::Encoder::new(Vec::new(), 19)?;
            zstd.window_log(ZSTD_WINDOW_LOG)?;
            zstd.include_checksum(true)?;
            zstd.include_contentsize(true)?;
            zstd.set_pledged_src_size(Some(image.len() as u64))?;
            zstd.write_all(image)?;
            zstd.finish()?
        }
    })
}

/// What is compressed at the start of `bytes`, whatever follows.
pub(crate) fn first_stream(bytes: &[u8], format: Format) -> Result<Vec<u8>> {
    let mut image = Vec::new();
    let mut rest = bytes;
    stream(&mut rest, format, &mut image)?;
    Ok(image)
}

/// Decompresses what `bytes` begin with, and moves them to what follows.
pub(crate) fn stream(bytes: &mut &[u8], format: Format, image: &mut Vec<u8>) -> Result<()> {
    /// No kernel and no initramfs is longer; a damaged one may say that it is.
    const MOST: u64 = 4 << 30;
    match format {
        Format::Plain => image.extend(std::mem::take(bytes)),
        Format::Gzip => {
            flate2::bufread::GzDecoder::new(&mut *bytes).take(MOST).read_to_end(image)?;
        }
        Format::Xz => {
            XzReader::new(&mut *bytes, false).take(MOST).read_to_end(image)?;
        }
        Format::Zstd => {
            zstd::Decoder::with_buffer(&mut *bytes)?.single_frame().take(MOST).read_to_end(image)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let image: Vec<u8> = (0..100_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for format in [Format::Plain, Format::Gzip, Format::Xz, Format::Zstd] {
            let bytes = encode(&image, format).unwrap();
            assert_eq!(Format::of(&bytes), format);
            assert_eq!(bytes, encode(&image, format).unwrap());
            assert!(decode(&bytes).unwrap() == image);
            if format != Format::Plain {
                assert!(bytes.len() < image.len() / 2, "{format:?}: {}", bytes.len());
                assert!(decode(&bytes[..bytes.len() / 2]).is_err(), "{format:?}");
                // As the kernel leaves a file of an initramfs for which memory ran out.
                let cut = [&bytes[..bytes.len() / 2], &vec![0; bytes.len() / 2]].concat();
                let error = decode(&cut).unwrap_err().to_string();
                assert!(error.starts_with("the file ends in zeros: it was not written whole"), "{error}");
            }
        }
    }

    #[test]
    fn gzip_says_no_name_and_no_time() {
        let bytes = encode(b"x", Format::Gzip).unwrap();
        assert_eq!((bytes[3], &bytes[4..8]), (0, &[0; 4][..]));
    }
}
