//! xz (The .xz File Format 1.2) over xz4rust: streams one after another, each block with its checksum, in a dictionary
//! that the caller provides. SHA-256 and the delta filter are left out, as in the kernel.

use xz4rust::{XzDecoder, XzError, XzNextBlockResult};

use super::extent::{Extent, allocate};
use super::input::{Input, read_exact_at};
use crate::kernel::{Kernel, StreamError, Taker};
use crate::limits::READ_BYTES;
use crate::source::{DecodeError, Source};

/// An xz file being decoded: 35 KB of state and a page of input, besides the dictionary.
pub struct Xz<'k, 'd, K: Kernel> {
    input: Input<'k, K>,
    decoder: XzDecoder<'d>,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Within,
    Between,
    End,
}

impl<'k, 'd, K: Kernel> Xz<'k, 'd, K> {
    /// Starts at the start of the file; `dictionary` has `dictionary_bytes`.
    pub fn new(kernel: &'k K, file: &'k K::File, dictionary: &'d mut [u8]) -> Self {
        let decoder = XzDecoder::with_fixed_size_dict(dictionary);
        Xz { input: Input::new(kernel, file), decoder, state: State::Within }
    }

    /// Decodes to the start of `out`, a part of what fits.
    fn decode(&mut self, out: &mut [u8]) -> Result<usize, DecodeError> {
        let input = self.input.peek()?;
        if input.is_empty() {
            return Err(DecodeError::Truncated);
        }
        let result = self.decoder.decode(input, out).map_err(|error| of(&error))?;
        self.input.consume(result.input_consumed());
        if let XzNextBlockResult::EndOfStream(..) = result {
            self.state = State::Between;
        }
        Ok(result.output_produced())
    }

    /// Goes on to the next stream, if there is one.
    fn next_stream(&mut self) -> Result<(), DecodeError> {
        let mut padding = 0;
        loop {
            let zeros = self.input.peek()?.iter().take_while(|byte| **byte == 0).count();
            if zeros == 0 {
                break;
            }
            self.input.consume(zeros);
            padding += zeros;
        }
        if padding % 4 != 0 {
            return Err(DecodeError::Corrupt("the zeros behind it are not a multiple of four"));
        }
        self.state = if self.input.at_end()? { State::End } else { State::Within };
        self.decoder.reset();
        Ok(())
    }
}

impl<K: Kernel> Source for Xz<'_, '_, K> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, DecodeError> {
        let mut filled = 0;
        while filled < out.len() {
            match self.state {
                State::Within => filled += self.decode(&mut out[filled..])?,
                State::Between => self.next_stream()?,
                State::End => break,
            }
        }
        Ok(filled)
    }

    fn rewind(&mut self) -> Result<(), DecodeError> {
        self.input.rewind();
        self.decoder.reset();
        self.state = State::Within;
        Ok(())
    }
}

/// This build decodes the format.
pub const IS_BUILT: bool = true;

/// What the file says of its image.
pub fn extent<K: Kernel>(kernel: &K, file: &K::File, file_bytes: u64) -> Result<Extent, DecodeError> {
    let first = FirstBlock::read(kernel, file)?;
    let (image_bytes, streams) = image_bytes(kernel, file, file_bytes)?;
    let beyond_kernel = match first {
        FirstBlock { check: 2.., .. } => Some("its checks are not CRC32"),
        FirstBlock { has_filters: true, .. } => Some("it has a filter besides LZMA2"),
        _ if streams > 1 => Some("it has several streams"),
        _ => None,
    };
    let (image_bytes, dictionary_bytes) = (Some(image_bytes), first.dictionary_bytes);
    Ok(Extent { file_bytes, image_bytes, dictionary_bytes, beyond_kernel, ..Extent::default() })
}

/// Has `take` take the image of the file.
#[inline(never)]
pub fn with_source<K: Kernel>(kernel: &K, file: &K::File, extent: &Extent, take: Taker) -> Result<(), StreamError> {
    let mut memory = allocate(kernel, extent)?;
    take(&mut Xz::new(kernel, file, memory.as_mut()))
}

const UNKNOWN_OPTION: DecodeError = DecodeError::Unsupported("an unknown filter or option");

fn of(error: &XzError) -> DecodeError {
    match error {
        XzError::ContentCrc32Mismatch(..)
        | XzError::ContentCrc64Mismatch(..)
        | XzError::IndexCrc32Mismatch(..)
        | XzError::StreamHeaderCrc32Mismatch(..)
        | XzError::BlockHeaderCrc32Mismatch(..)
        | XzError::FooterCrc32Mismatch(..) => DecodeError::Checksum,
        XzError::LessDataInBlockBodyThanHeaderIndicated | XzError::MoreDataInBlockBodyThanHeaderIndicated => {
            DecodeError::Length
        }
        XzError::DictionaryTooLarge(_) => {
            DecodeError::Unsupported("a later block has a larger dictionary than the first")
        }
        XzError::Sha256NotSupported | XzError::UnsupportedCheckType(_) => {
            DecodeError::Unsupported("its checksum is neither CRC32 nor CRC64")
        }
        XzError::UnsupportedBcjFilter(_)
        | XzError::UnsupportedBlockHeaderOption
        | XzError::UnsupportedStreamHeaderOption
        | XzError::UnsupportedLzmaProperties(_) => UNKNOWN_OPTION,
        XzError::DeltaFilterUnsupported => UNKNOWN_OPTION,
        XzError::StreamHeaderMagicNumberMismatch => DecodeError::Corrupt("bytes after its end are not another stream"),
        _ => DecodeError::Corrupt("its LZMA2 data or index breaks off"),
    }
}

/// Length of a stream's header, and of its footer.
const HEADER_BYTES: u64 = 12;

/// What the first stream and its first block ask for.
struct FirstBlock {
    /// The kind of its checks: 0 for none, 1 for CRC32, 4 for CRC64, 10 for SHA-256.
    check: u8,
    has_filters: bool,
    dictionary_bytes: u64,
}

impl FirstBlock {
    fn read<K: Kernel>(kernel: &K, file: &K::File) -> Result<FirstBlock, DecodeError> {
        // The stream's header, then the longest header of a block.
        let mut input = Input::new(kernel, file);
        let [.., check, _, _, _, _] = input.bytes::<{ HEADER_BYTES as usize }>()?;
        let [size, flags] = input.bytes()?;
        let (check, has_filters) = (check & 0xf, size > 0 && flags & 3 > 0);
        // No block at all: an index begins with 0.
        let dictionary_bytes = match size {
            0 => xz4rust::DICT_SIZE_MIN as u64,
            _ => dictionary_bytes(&mut input, flags)?,
        };
        Ok(FirstBlock { check, has_filters, dictionary_bytes })
    }
}

/// The dictionary that a block with these flags asks for.
fn dictionary_bytes<K: Kernel>(input: &mut Input<K>, flags: u8) -> Result<u64, DecodeError> {
    for size_bit in [0x40, 0x80] {
        if flags & size_bit != 0 {
            number(input)?;
        }
    }
    const LZMA2: u64 = 0x21;
    for _ in 0..=flags & 3 {
        let filter = number(input)?;
        let properties = number(input)?;
        if filter != LZMA2 {
            input.skip(properties.min(1 << 10))?;
            continue;
        }
        return match input.bytes()? {
            [bits @ 0..40] => Ok(u64::from(2 | bits & 1) << (bits / 2 + 11)),
            [40] => Ok(u32::MAX.into()),
            _ => Err(DecodeError::Corrupt("its dictionary has no valid size")),
        };
    }
    Err(UNKNOWN_OPTION)
}

/// The image's length, the sum of what the indexes of all streams say, and the number of streams.
fn image_bytes<K: Kernel>(kernel: &K, file: &K::File, file_bytes: u64) -> Result<(u64, usize), DecodeError> {
    let mut end = file_bytes;
    let (mut sum, mut streams) = (0u64, 0);
    while end > 0 {
        let mut footer = [0; HEADER_BYTES as usize];
        let footer_at = end.checked_sub(HEADER_BYTES).ok_or(DecodeError::Truncated)?;
        read_exact_at(kernel, file, &mut footer, footer_at)?;
        let [.., a, b, c, d] = footer;
        if [a, b, c, d] == [0; 4] {
            end = without_padding(kernel, file, end)?;
            continue;
        }
        streams += 1;
        if [c, d] != *b"YZ" {
            return Err(DecodeError::Truncated);
        }
        let [_, _, _, _, backward @ .., _, _, _, _] = footer;
        let index_bytes = (u64::from(u32::from_le_bytes(backward)) + 1) * 4;
        let index_at = footer_at.checked_sub(index_bytes).ok_or(CORRUPT_INDEX)?;
        let mut index = Input::from(kernel, file, index_at);
        if index.bytes()? != [0] {
            return Err(CORRUPT_INDEX);
        }
        let mut blocks_bytes = 0u64;
        for _ in 0..number(&mut index)?.min(index_bytes) {
            let padded = number(&mut index)?.checked_next_multiple_of(4).ok_or(CORRUPT_INDEX)?;
            blocks_bytes = blocks_bytes.checked_add(padded).ok_or(CORRUPT_INDEX)?;
            sum = sum.checked_add(number(&mut index)?).ok_or(CORRUPT_INDEX)?;
        }
        end = index_at.checked_sub(HEADER_BYTES).and_then(|end| end.checked_sub(blocks_bytes)).ok_or(CORRUPT_INDEX)?;
    }
    Ok((sum, streams))
}

/// The end of the file before `end`, without the zeros that pad it, which come in fours.
fn without_padding<K: Kernel>(kernel: &K, file: &K::File, mut end: u64) -> Result<u64, DecodeError> {
    let mut buf = [0; READ_BYTES];
    loop {
        let len = buf.len().min(end as usize);
        read_exact_at(kernel, file, &mut buf[..len], end - len as u64)?;
        let zeros = buf[..len].iter().rev().take_while(|byte| **byte == 0).count();
        end -= zeros as u64 / 4 * 4;
        if zeros < len || zeros < 4 {
            return Ok(end);
        }
    }
}

const CORRUPT_INDEX: DecodeError = DecodeError::Corrupt("its index does not match its blocks");

/// A number of variable length: seven bits a byte, the lowest first.
fn number<K: Kernel>(input: &mut Input<K>) -> Result<u64, DecodeError> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let [byte] = input.bytes()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DecodeError::Corrupt("a number in it is too long"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::tests::{read_all, sample};
    use super::*;
    use crate::kernel::fake::Fake;
    use lzma_rust2::filter::FilterType;
    use lzma_rust2::{CheckType, XzOptions, XzWriter};
    use proptest::prelude::*;
    use std::io::Write;

    fn encode(data: &[u8], check: CheckType, filter: Option<FilterType>, block_bytes: Option<u64>) -> Vec<u8> {
        let mut options = XzOptions::with_preset(2);
        options.lzma_options.dict_size = 1 << 16;
        options.set_check_sum_type(check);
        options.set_block_size(block_bytes.and_then(core::num::NonZeroU64::new));
        if let Some(filter) = filter {
            options.prepend_pre_filter(filter, if filter == FilterType::Delta { 1 } else { 0 });
        }
        let mut encoder = XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    pub(crate) fn xz(data: &[u8]) -> Vec<u8> {
        encode(data, CheckType::Crc32, None, None)
    }

    pub(crate) fn xz_checked(data: &[u8], check: CheckType) -> Vec<u8> {
        encode(data, check, None, None)
    }

    fn decode_in(bytes: &[u8], piece: usize) -> Result<Vec<u8>, DecodeError> {
        let fake = Fake::default().with_file("/f", bytes);
        let file = fake.open(c"/f").unwrap();
        let mut dictionary = vec![0xaa; FirstBlock::read(&fake, &file)?.dictionary_bytes as usize];
        let all = read_all(&mut Xz::new(&fake, &file, &mut dictionary), piece)?;
        assert_eq!(image_bytes(&fake, &file, bytes.len() as u64).map(|(len, _)| len), Ok(all.len() as u64));
        Ok(all)
    }

    #[test]
    fn streams_in_a_row_are_one_image() {
        let (a, b) = (sample(300_000), sample(70_001));
        let file = [xz(&a), xz(&[]), vec![0; 8], xz(&b), vec![0; 300]].concat();
        for piece in [1, 1000, 16384, 1 << 20] {
            assert!(decode_in(&file, piece) == Ok([&a[..], &b].concat()), "{piece}");
        }
    }

    #[test]
    fn what_the_kernel_builds_use_and_refuse_is_decoded() {
        let data = sample(100_000);
        use FilterType::*;
        for check in [CheckType::None, CheckType::Crc32, CheckType::Crc64] {
            for filter in [None, Some(BcjX86), Some(BcjArm), Some(BcjArmThumb), Some(BcjArm64), Some(BcjRiscv)] {
                let file = encode(&data, check, filter, Some(70_000));
                for piece in [7, 1 << 14] {
                    assert!(decode_in(&file, piece) == Ok(data.clone()), "{check:?} {filter:?} {piece}");
                }
            }
        }
        let delta = encode(&data, CheckType::Crc32, Some(Delta), Some(70_000));
        for piece in [7, 1 << 14] {
            assert!(decode_in(&delta, piece) == Err(UNKNOWN_OPTION), "{piece}");
        }
        let sha256 = encode(&data, CheckType::Sha256, None, None);
        assert_eq!(decode_in(&sha256, 4096), Err(of(&XzError::Sha256NotSupported)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let data = sample(50_000);
        let good = xz(&data);
        let end = good.len();
        for len in [0, 1, 11, 12, 13, 100, end - 13, end - 12, end - 1] {
            assert_eq!(decode_in(&good[..len], 512), Err(DecodeError::Truncated), "{len} of {end}");
        }
        let changed = |at: usize| {
            let mut bad = good.clone();
            bad[at] ^= 1;
            decode_in(&bad, 512)
        };
        assert_eq!(changed(8), Err(DecodeError::Checksum));
        assert_eq!(changed(end - 12), Err(DecodeError::Checksum));
        assert_eq!(changed(1).unwrap_err(), of(&XzError::StreamHeaderMagicNumberMismatch));
        assert_eq!(
            decode_in(&[&good[..], &[0; 5]].concat(), 512),
            Err(DecodeError::Corrupt("the zeros behind it are not a multiple of four"))
        );
    }

    #[test]
    fn the_dictionary_is_that_of_the_header() {
        for (size, bits) in [(4096, 0u8), (6144, 1), (1 << 20, 16), (8 << 20, 22), (u32::MAX.into(), 40)] {
            // A header of one LZMA2 filter behind both optional sizes, and a filter before it.
            let block = [&[0u8, 1 | 0xc0, 0x80, 1, 5, 7, 0, 0x21, 1, bits][..], &[0; 20]].concat();
            let file = [&[0; 12], &block[..]].concat();
            let mut file = file;
            file[12] = 5;
            let fake = Fake::default().with_file("/f", &file);
            let first = FirstBlock::read(&fake, &fake.open(c"/f").unwrap());
            assert_eq!(first.map(|first| first.dictionary_bytes), Ok(size));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_flipped_bit_is_noticed_or_changes_nothing(at in 0usize..40_000, bit in 0u8..8, piece in 1usize..40_000) {
            let data = sample(50_000);
            let mut bad = xz(&data);
            let at = at % bad.len();
            bad[at] ^= 1 << bit;
            // A dictionary of many gigabytes is refused before it gets here.
            prop_assume!(!(12..40).contains(&at));
            prop_assert!(decode_in(&bad, piece).is_err());
            let fake = Fake::default().with_file("/f", &bad);
            let _ = image_bytes(&fake, &fake.open(c"/f").unwrap(), bad.len() as u64);
        }

        #[test]
        fn no_file_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let fake = Fake::default().with_file("/f", &bytes);
            let file = fake.open(c"/f").unwrap();
            let _ = FirstBlock::read(&fake, &file).map(|first| first.dictionary_bytes);
            let _ = image_bytes(&fake, &file, bytes.len() as u64);
            let mut dictionary = vec![0; 1 << 16];
            let _ = Xz::new(&fake, &file, &mut dictionary).read(&mut [0; 1000]);
        }
    }
}
