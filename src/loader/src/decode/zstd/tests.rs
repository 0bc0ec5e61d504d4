use super::super::tests::{read_all, sample};
use super::*;
use crate::kernel::fake::Fake;
use proptest::prelude::*;
use std::io::Write;
use zstd::stream::Encoder;

/// How a frame is to be made.
#[derive(Clone, Copy, Debug)]
struct Options {
    level: i32,
    window_log: u32,
    checksum: bool,
    content: bool,
}

const USUAL: Options = Options { level: 3, window_log: 17, checksum: true, content: true };

fn encode(data: &[u8], options: Options) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), options.level).unwrap();
    encoder.window_log(options.window_log).unwrap();
    encoder.include_checksum(options.checksum).unwrap();
    encoder.include_contentsize(options.content).unwrap();
    if options.content {
        encoder.set_pledged_src_size(Some(data.len() as u64)).unwrap();
    }
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(data: &[u8]) -> Vec<u8> {
    encode(data, USUAL)
}

/// Without the content's length.
pub(crate) fn zstd_unstated(data: &[u8], window_log: u32) -> Vec<u8> {
    encode(data, Options { window_log, content: false, ..USUAL })
}

pub(super) fn decode_in(bytes: &[u8], piece: usize) -> Result<Vec<u8>, DecodeError> {
    let fake = Fake::default().with_file("/f", bytes);
    let file = fake.open(c"/f").unwrap();
    let window = window_bytes(&fake, &file)?;
    // A window of many gigabytes is refused before it gets here.
    if window > 1 << 27 {
        return Err(DecodeError::TooLarge);
    }
    let mut memory = vec![0xaa; (window + overhead_bytes(window)) as usize];
    let all = read_all(&mut Zstd::new(&fake, &file, &mut memory), piece)?;
    let stated = image_bytes(&fake, &file).unwrap();
    assert!([None, Some(all.len() as u64)].contains(&stated), "{stated:?}");
    Ok(all)
}

/// A frame with a window of 1 KiB, whose blocks are these.
fn frame(blocks: &[u8]) -> Vec<u8> {
    [b"\x28\xb5\x2f\xfd\0\0", blocks].concat()
}

fn block(kind: u8, len: usize, content: &[u8], is_last: bool) -> Vec<u8> {
    let header = (len as u32) << 3 | u32::from(kind) << 1 | u32::from(is_last);
    [&header.to_le_bytes()[..3], content].concat()
}

#[test]
fn frames_in_a_row_are_one_image() {
    let (a, b) = (sample(300_000), sample(70_001));
    let skipped = [b"\x5a\x2a\x4d\x18\x88\x13\0\0", &[7; 5000][..]].concat();
    let file = [skipped.clone(), zstd(&a), zstd(&[]), skipped, zstd(&b)].concat();
    for piece in [1, 1000, 16384, 1 << 20] {
        assert!(decode_in(&file, piece) == Ok([&a[..], &b].concat()), "{piece}");
    }
    let larger = [zstd(&b), encode(&a, Options { window_log: 18, ..USUAL })].concat();
    let error = DecodeError::Unsupported("a later frame has a larger window than the first");
    assert_eq!(decode_in(&larger, 4096), Err(error));
}

#[test]
fn blocks_of_every_kind_are_decoded() {
    let equal = block(1, 1000, b"x", false);
    let raw = block(0, 3, b"abc", false);
    // Raw literals, and one sequence of codes of one symbol each: three literals, then four bytes from two back.
    let repeating = block(2, 10, b"\x18abc\x01\x54\x03\x02\x01\x05", false);
    // Equal literals alone.
    let literals = block(2, 3, b"\x29y\0", true);
    let file = frame(&[equal, raw, repeating, literals].concat());
    assert_eq!(decode_in(&file, 99), Ok([vec![b'x'; 1000], b"abcabcbcbcyyyyy".to_vec()].concat()));
    for (blocks, error) in [
        (block(3, 0, b"", true), DecodeError::Corrupt("a block's type is reserved")),
        (block(1, 1025, b"x", true), DecodeError::Corrupt("a block is longer than a block may be")),
        (block(2, 2, b"\0", true), DecodeError::Truncated),
        (block(2, 0, b"", true), corrupt(Corrupt::BLOCK)),
        (block(2, 3, b"\x29y\x01", true), corrupt(Corrupt::BLOCK)),
        (block(2, 4, b"\x29y\0\0", true), corrupt(Corrupt::BITS)),
        (block(2, 3, b"\xfd\xff\xff", true), DecodeError::Corrupt("a block makes more than a block may")),
        // No code before it to be used again, for literals or sequences.
        (block(2, 5, b"\x13\x40\0\x01\0", true), corrupt(Corrupt::CODE)),
        (block(2, 4, b"\0\x01\xc0\x01", true), corrupt(Corrupt::CODE)),
        (block(2, 4, b"\0\x01\x01\x01", true), DecodeError::Corrupt("a block has reserved flags")),
        // No symbol of its code.
        (block(2, 7, b"\0\x01\x54\x24\0\0\x01", true), corrupt(Corrupt::CODE)),
        (block(2, 7, b"\0\x01\x54\0\x20\0\x01", true), corrupt(Corrupt::CODE)),
        // A literal that is not there; a match before the start; bits too many and too few.
        (block(2, 7, b"\0\x01\x54\x01\0\0\x01", true), DecodeError::Corrupt("a block has too few literals")),
        (block(2, 7, b"\0\x01\x54\0\0\0\x01", true), DecodeError::Corrupt("it repeats what is not there")),
        (block(2, 7, b"\0\x01\x54\0\0\0\x02", true), corrupt(Corrupt::BITS)),
        (block(2, 7, b"\0\x01\x54\0\x05\0\x01", true), corrupt(Corrupt::BITS)),
        (block(2, 7, b"\0\x01\x54\0\0\0\0", true), corrupt(Corrupt::BLOCK)),
    ] {
        assert_eq!(decode_in(&frame(&blocks), 512), Err(error), "{blocks:x?}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let good = zstd(&sample(3000));
    for len in 0..good.len() {
        assert_eq!(decode_in(&good[..len], 512), Err(DecodeError::Truncated), "{len} of {}", good.len());
    }
    let changed = |at: usize, by: u8| {
        let mut bad = good.clone();
        bad[at] ^= by;
        decode_in(&bad, 512)
    };
    assert_eq!(changed(good.len() - 1, 1), Err(DecodeError::Checksum));
    // The content's length, of two bytes.
    assert_eq!(good[4], 0x64);
    assert_eq!(changed(5, 1), Err(DecodeError::Length));
    assert_eq!(changed(4, 8), Err(DecodeError::Corrupt("its header has reserved flags")));
    assert_eq!(changed(4, 1), Err(DecodeError::Unsupported("it wants a dictionary of another file")));
    let trailing = [&good[..], b"1234"].concat();
    assert_eq!(decode_in(&trailing, 512), Err(DecodeError::Corrupt("bytes after its end are not another frame")));
    assert_eq!(decode_in(&[&good[..], b"123"].concat(), 512), Err(DecodeError::Truncated));
    assert_eq!(decode_in(&[&good[..], b"\x50\x2a\x4d\x18\x01\0\0\0"].concat(), 512), Err(DecodeError::Truncated));
}

#[test]
fn every_changed_byte_is_noticed_or_changes_nothing() {
    let data = sample(1500);
    let good = encode(&data, Options { level: 19, ..USUAL });
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            // The header has a flag that nobody may read, and another offset may lead to the same bytes.
            let decoded = decode_in(&bad, 1000);
            assert!(decoded.is_err() || decoded.as_ref() == Ok(&data), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn the_window_is_that_of_the_header() {
    for (header, window) in [
        (&b"\0\0"[..], 1 << 10),
        (b"\0\x57", (1 << 20) + (7 << 17)),
        (b"\0\xff", 15 << 38),
        (b"\x20\x05", 1 << 10),
        (b"\x60\xff\xff", 65791),
        (b"\xa0\0\0\0\x80", 1 << 31),
        (b"\xe0\xff\xff\xff\xff\xff\xff\xff\xff", u64::MAX),
        // A dictionary by the number of none.
        (b"\x03\x08\0\0\0\0", 2 << 10),
    ] {
        let fake = Fake::default().with_file("/f", &[b"\x28\xb5\x2f\xfd", header].concat());
        assert_eq!(window_bytes(&fake, &fake.open(c"/f").unwrap()), Ok(window), "{header:x?}");
    }
    assert_eq!([1 << 10, 1 << 17, 1 << 40].map(overhead_bytes), [1072, (1 << 17) + 48, (1 << 17) + 48]);
}

#[test]
fn lengths_are_stated_by_all_frames_or_not_at_all() {
    let data = sample(1_000_000);
    let (stated, not) = (zstd(&data), encode(&data, Options { content: false, ..USUAL }));
    for (file, want) in [
        (stated.clone(), Ok(Some(1_000_000))),
        ([&stated[..], &stated].concat(), Ok(Some(2_000_000))),
        ([&stated[..], &not].concat(), Ok(None)),
        (stated[..stated.len() - 1].to_vec(), Err(DecodeError::Truncated)),
        (stated[..stated.len() / 2].to_vec(), Err(DecodeError::Truncated)),
    ] {
        let fake = Fake::default().with_file("/f", &file);
        assert_eq!(image_bytes(&fake, &fake.open(c"/f").unwrap()), want);
    }
    // Most of the file is passed over.
    let fake = Fake::default().with_file("/f", &stated);
    let file = fake.open(c"/f").unwrap();
    let mut input = Input::new(&fake, &file);
    assert_eq!(input.skip(100_000), Ok(()));
    assert_eq!(input.bytes(), Ok([stated[100_000]]));
    assert_eq!(input.skip(stated.len() as u64), Err(DecodeError::Truncated));
}

#[test]
fn what_is_read_again_is_the_same_from_wherever() {
    let data = sample(100_000);
    let bytes = zstd(&data);
    let fake = Fake::default().with_file("/f", &bytes);
    let file = fake.open(c"/f").unwrap();
    let window = window_bytes(&fake, &file).unwrap();
    let mut memory = vec![0; (window + overhead_bytes(window)) as usize];
    let mut source = Zstd::new(&fake, &file, &mut memory);
    for before in (0..3000).step_by(7) {
        let mut out = vec![0; before];
        assert_eq!(source.read(&mut out), Ok(before));
        source.rewind().unwrap();
        let mut out = vec![0; 4000];
        assert_eq!(source.read(&mut out), Ok(4000));
        assert!(out == data[..4000], "after {before}");
        source.rewind().unwrap();
    }
    assert!(read_all(&mut source, 1000) == Ok(data));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_zstd_makes_is_decoded(
        len in 0usize..200_000, level in prop::sample::select(vec![-5, 1, 3, 19]), window_log in 10u32..24,
        checksum: bool, content: bool, piece in 1usize..100_000,
    ) {
        // From before, far back: the ring goes round.
        let mut data = sample(len);
        data.extend_from_within(..len / 3);
        let file = encode(&data, Options { level, window_log, checksum, content });
        prop_assert!(decode_in(&file, piece) == Ok(data));
    }

    #[test]
    fn a_flipped_bit_is_noticed_or_changes_nothing(
        at in 5usize..40_000, bit in 0u8..8, piece in 1usize..40_000, level in 1i32..8,
    ) {
        let data = sample(50_000);
        let mut bad = encode(&data, Options { level, ..USUAL });
        let at = 5 + at % (bad.len() - 5);
        bad[at] ^= 1 << bit;
        let decoded = decode_in(&bad, piece);
        prop_assert!(decoded.is_err() || decoded == Ok(data));
    }

    #[test]
    fn no_block_makes_it_panic(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..4)) {
        let blocks = blocks.iter().flat_map(|content| block(2, content.len(), content, false));
        let _ = decode_in(&frame(&blocks.collect::<Vec<_>>()), 512);
    }

    #[test]
    fn no_literals_make_it_panic(kind in 2u8..4, content in prop::collection::vec(any::<u8>(), 1..200)) {
        // A coded block with lengths that fit, so that its code is read.
        let lengths = (content.len() as u32) << 14 | 100 << 4 | u32::from(kind);
        let content = [&lengths.to_le_bytes()[..3], &content, &[0]].concat();
        let _ = decode_in(&frame(&block(2, content.len(), &content, true)), 512);
    }
}
