//! gzip (RFC 1952) over miniz_oxide's inflater: members one after another, each with its CRC and length checked.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, TINFL_LZ_DICT_SIZE, decompress};

use super::extent::Extent;
use super::input::{Input, read_exact_at};
use crate::kernel::{Kernel, StreamError, Taker};
use crate::limits::GZIP_RATIO;
use crate::source::{DecodeError, Source};

/// Bytes of the window that [`Gzip`] decodes in.
pub const WINDOW_BYTES: usize = TINFL_LZ_DICT_SIZE;

/// A gzip file being decoded: the inflater's 10.5 KB and a page of input, besides the window.
pub struct Gzip<'k, 'w, K: Kernel> {
    input: Input<'k, K>,
    state: DecompressorOxide,
    window: &'w mut [u8],
    /// What the window holds that nobody took yet: from `taken` to `made`.
    taken: usize,
    made: usize,
    crc: Crc,
    len_bytes: u32,
    member: Member,
}

#[derive(Clone, Copy, PartialEq)]
enum Member {
    Before,
    Within,
    After,
    None,
}

/// Flags of a member's header (RFC 1952, 2.3.1).
const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;

impl<'k, 'w, K: Kernel> Gzip<'k, 'w, K> {
    /// Starts at the start of the file; `window` has [`WINDOW_BYTES`].
    pub fn new(kernel: &'k K, file: &'k K::File, window: &'w mut [u8]) -> Self {
        Gzip {
            input: Input::new(kernel, file),
            state: DecompressorOxide::new(),
            window,
            taken: 0,
            made: 0,
            crc: Crc::new(),
            len_bytes: 0,
            member: Member::Before,
        }
    }

    /// Goes on to more bytes in the window, or to the next member; `false` at the end of the file.
    fn step(&mut self) -> Result<bool, DecodeError> {
        match self.member {
            Member::Before => {
                self.header()?;
                self.state.init();
                (self.crc.value, self.len_bytes) = (!0, 0);
                (self.taken, self.made) = (0, 0);
                self.member = Member::Within;
            }
            Member::Within => self.inflate()?,
            Member::After => {
                if u32::from_le_bytes(self.input.bytes()?) != !self.crc.value {
                    return Err(DecodeError::Checksum);
                }
                if u32::from_le_bytes(self.input.bytes()?) != self.len_bytes {
                    return Err(DecodeError::Length);
                }
                // gzip(1) ignores zeros that pad a file to its medium's blocks.
                while self.input.peek()?.first() == Some(&0) {
                    self.input.consume(1);
                }
                self.member = if self.input.at_end()? { Member::None } else { Member::Before };
            }
            Member::None => return Ok(false),
        }
        Ok(true)
    }

    fn inflate(&mut self) -> Result<(), DecodeError> {
        if self.made == WINDOW_BYTES {
            (self.taken, self.made) = (0, 0);
        }
        let input = self.input.peek()?;
        if input.is_empty() {
            return Err(DecodeError::Truncated);
        }
        let (status, consumed, made) =
            decompress(&mut self.state, input, self.window, self.made, TINFL_FLAG_HAS_MORE_INPUT);
        self.input.consume(consumed);
        self.crc.add(&self.window[self.made..self.made + made]);
        self.len_bytes = self.len_bytes.wrapping_add(made as u32);
        self.made += made;
        match status {
            TINFLStatus::Done => self.member = Member::After,
            TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput => {}
            _ => return Err(DecodeError::Corrupt("its deflate stream breaks off")),
        }
        Ok(())
    }

    /// Reads a member's header up to its deflate stream.
    fn header(&mut self) -> Result<(), DecodeError> {
        if self.input.bytes()? != [0x1f, 0x8b] {
            return Err(DecodeError::Corrupt("bytes after its end are not another member"));
        }
        // Behind the flags: time, compression level, system.
        let [method, flags, ..] = self.input.bytes::<8>()?;
        if method != 8 {
            return Err(DecodeError::Corrupt("its method is not deflate"));
        }
        if flags & !(1 | HEADER_CRC | EXTRA | NAME | COMMENT) != 0 {
            return Err(DecodeError::Corrupt("its header has reserved flags"));
        }
        if flags & EXTRA != 0 {
            let len = u16::from_le_bytes(self.input.bytes()?);
            self.input.skip(len.into())?;
        }
        for text in [NAME, COMMENT] {
            if flags & text != 0 {
                while self.input.bytes()? != [0] {}
            }
        }
        if flags & HEADER_CRC != 0 {
            self.input.skip(2)?;
        }
        Ok(())
    }
}

impl<K: Kernel> Source for Gzip<'_, '_, K> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, DecodeError> {
        let mut filled = 0;
        while filled < out.len() {
            if self.taken < self.made {
                let n = (self.made - self.taken).min(out.len() - filled);
                out[filled..filled + n].copy_from_slice(&self.window[self.taken..self.taken + n]);
                self.taken += n;
                filled += n;
            } else if !self.step()? {
                break;
            }
        }
        Ok(filled)
    }

    fn rewind(&mut self) -> Result<(), DecodeError> {
        self.input.rewind();
        self.member = Member::Before;
        Ok(())
    }
}

/// This build decodes the format.
pub const IS_BUILT: bool = true;

/// What the file says of its image; see `stated_bytes` for how far that is true.
pub fn extent<K: Kernel>(kernel: &K, file: &K::File, file_bytes: u64) -> Result<Extent, DecodeError> {
    let image_bytes = stated_bytes(kernel, file, file_bytes);
    // The kernel passes over a name in the header, and over nothing else.
    const OTHERS: u8 = HEADER_CRC | EXTRA | COMMENT;
    let mut start = [0; 4];
    let is_odd = read_exact_at(kernel, file, &mut start, 0).is_ok() && start[3] & OTHERS != 0;
    let beyond_kernel = is_odd.then_some("its header has an extra field, a comment or a checksum");
    Ok(Extent { file_bytes, image_bytes, is_guess: true, beyond_kernel, ..Extent::default() })
}

/// Has `take` take the image of the file.
// Out of line, as with the other formats: each decoder's state is on the stack only where it is used.
#[inline(never)]
pub fn with_source<K: Kernel>(kernel: &K, file: &K::File, _: &Extent, take: Taker) -> Result<(), StreamError> {
    let mut window = kernel.allocate(WINDOW_BYTES).map_err(StreamError::Memory)?;
    take(&mut Gzip::new(kernel, file, window.as_mut()))
}

/// The image's length as the end of the file states it, for a file of one member and less than 4 GiB: worth a try.
fn stated_bytes<K: Kernel>(kernel: &K, file: &K::File, file_bytes: u64) -> Option<u64> {
    let mut last = [0; 4];
    read_exact_at(kernel, file, &mut last, file_bytes.checked_sub(4)?).ok()?;
    let stated = u64::from(u32::from_le_bytes(last));
    (stated > 0 && stated <= file_bytes.saturating_mul(GZIP_RATIO)).then_some(stated)
}

/// The CRC of IEEE 802.3, reflected, a byte at a time. The table is made when it is needed: it is ten times its maker.
struct Crc {
    table: [u32; 256],
    value: u32,
}

impl Crc {
    fn new() -> Crc {
        let mut table = [0; 256];
        for (i, entry) in (0..).zip(&mut table) {
            *entry = (0..8).fold(i, |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 });
        }
        Crc { table, value: !0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.value = self.table[(self.value as u8 ^ byte) as usize] ^ self.value >> 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read_all, sample};
    use super::*;
    use crate::kernel::fake::Fake;
    use crate::source::count;
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder =
            flate2::GzBuilder::new().filename("m.ko").extra(&b"ex"[..]).write(Vec::new(), flate2::Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn decode_in(bytes: &[u8], piece: usize) -> Result<Vec<u8>, DecodeError> {
        let fake = Fake::default().with_file("/f", bytes);
        let file = fake.open(c"/f").unwrap();
        let all = read_all(&mut Gzip::new(&fake, &file, &mut [0; WINDOW_BYTES]), piece)?;
        let len = all.len() as u64;
        assert_eq!(count(&mut Gzip::new(&fake, &file, &mut [0; WINDOW_BYTES]), len), Ok(len));
        let too_large = if len == 0 { Ok(0) } else { Err(DecodeError::TooLarge) };
        assert_eq!(count(&mut Gzip::new(&fake, &file, &mut [0; WINDOW_BYTES]), len.saturating_sub(1)), too_large);
        Ok(all)
    }

    #[test]
    fn members_in_a_row_are_one_image() {
        let (a, b) = (sample(100_000), sample(70_001));
        let file = [gzip(&a), gzip(&[]), gzip(&b), vec![0; 300]].concat();
        for piece in [1000, 32768, 1 << 20] {
            assert_eq!(decode_in(&file, piece), Ok([&a[..], &b].concat()));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let data = sample(50_000);
        let good = gzip(&data);
        let end = good.len();
        for len in [0, 1, 5, 12, 17, 100, end - 9, end - 8, end - 4, end - 1] {
            assert_eq!(decode_in(&good[..len], 512), Err(DecodeError::Truncated), "{len} of {end}");
        }
        let changed = |at: usize| {
            let mut bad = good.clone();
            bad[at] ^= 1;
            decode_in(&bad, 512)
        };
        assert_eq!(changed(end - 8), Err(DecodeError::Checksum));
        assert_eq!(changed(end - 1), Err(DecodeError::Length));
        assert_eq!(changed(2), Err(DecodeError::Corrupt("its method is not deflate")));
        let trailing = [&good[..], b"x"].concat();
        assert_eq!(decode_in(&trailing, 512), Err(DecodeError::Truncated));
        let trailing = [&good[..], b"xyz"].concat();
        assert_eq!(decode_in(&trailing, 512), Err(DecodeError::Corrupt("bytes after its end are not another member")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_flipped_bit_is_noticed_or_changes_nothing(at in 20usize..20_000, bit in 0u8..8) {
            let data = sample(50_000);
            let mut bad = gzip(&data);
            let at = at % bad.len();
            // The header's time, system, name and extra fields say nothing of the data.
            prop_assume!(at >= 22);
            bad[at] ^= 1 << bit;
            // Another distance code may lead to the same bytes.
            if let Ok(decoded) = decode_in(&bad, 4096) {
                prop_assert_eq!(decoded, data);
            }
        }
    }
}
