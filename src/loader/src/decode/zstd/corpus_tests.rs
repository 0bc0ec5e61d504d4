//! Files that libzstd makes in as many ways as it has, decoded to what they were made of.

use std::collections::BTreeSet;
use std::io::Write;

use modest_zstd::BlockKind;
use zstd::stream::Encoder;
use zstd::stream::raw::CParameter;

use super::super::input::Input;
use super::frame::{BlockHeader, next_frame};
use super::tests::decode_in;
use crate::kernel::Kernel;
use crate::kernel::fake::Fake;

/// Numbers at random, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    /// A length of less than this many bits, mostly of few.
    fn length(&mut self, bits: usize) -> usize {
        let bits = self.below(bits);
        self.below(1 << bits)
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}

/// Adds bytes of one of the kinds that a compressor treats differently.
fn add_part(data: &mut Vec<u8>, random: &mut Random) {
    let len = 1 << random.below(18);
    let len = len + random.below(len);
    let start = data.len();
    match random.below(7) {
        0 => data.extend((0..len).map(|_| random.byte())),
        1 => data.resize(start + len, random.byte()),
        // Few letters, some of them rare.
        2 => data.extend((0..len).map(|_| b"etaoin shrdlu"[random.below(13).min(random.below(13))])),
        // Two letters alone: a code of one bit.
        3 => data.extend((0..len).map(|_| b"01"[random.below(2)])),
        // Records that differ in a few bytes, as relocations do.
        4 => {
            let record: Vec<_> = (0..2 + random.below(40)).map(|_| random.byte()).collect();
            while data.len() < start + len {
                data.extend_from_slice(&record);
                let changed = data.len() - 1 - random.below(record.len());
                data[changed] = random.byte();
            }
        }
        // What was there before, near or far, and between it other bytes, or always the same.
        5 if start > 0 => {
            let (same, is_same) = (random.byte(), random.below(2) == 0);
            let reach = data.len().min(1 << (8 + random.below(12)));
            for _ in 0..1 + random.below(200) {
                let from = data.len() - 1 - random.below(reach);
                let run = (8 + random.length(12)).min(data.len() - from);
                data.extend_from_within(from..from + run);
                if is_same {
                    data.push(same);
                } else {
                    data.extend((0..random.length(7)).map(|_| random.byte()));
                }
            }
        }
        _ => data.extend((0..random.below(20)).map(|_| random.byte())),
    }
}

/// Parts of a random kind in one file, some of them in blocks of their own.
fn made(random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    let level = [-50, -3, 1, 2, 3, 4, 6, 9, 13, 16, 18][random.below(11)];
    let mut encoder = Encoder::new(Vec::new(), level).unwrap();
    encoder.window_log(10 + random.below(13) as u32).unwrap();
    encoder.include_checksum(random.below(2) == 0).unwrap();
    encoder.long_distance_matching(random.below(4) == 0).unwrap();
    if random.below(3) == 0 {
        encoder.set_parameter(CParameter::MinMatch(3 + random.below(5) as u32)).unwrap();
    }
    let (mut data, mut written) = (Vec::new(), 0);
    for _ in 0..random.below(12) {
        add_part(&mut data, random);
        encoder.write_all(&data[written..]).unwrap();
        written = data.len();
        if random.below(3) > 0 {
            encoder.flush().unwrap();
        }
    }
    (data, encoder.finish().unwrap())
}

/// Notes the kinds of blocks in `file`, the kinds of their literals, and the modes of each code of their sequences.
fn note(file: &[u8], seen: &mut BTreeSet<String>) {
    let fake = Fake::default().with_file("/f", file);
    let opened = fake.open(c"/f").unwrap();
    let mut input = Input::new(&fake, &opened);
    let frame = next_frame(&mut input).unwrap().unwrap();
    loop {
        let header = BlockHeader::read(&mut input, &frame).unwrap();
        let mut block = vec![0; header.stored_bytes()];
        input.fill(&mut block).unwrap();
        seen.insert(format!("{:?}", header.kind));
        if header.kind == BlockKind::Compressed {
            note_block(&block, seen);
        }
        if header.is_last {
            break;
        }
    }
}

/// By RFC 8878, 3.1.1.3.
fn note_block(block: &[u8], seen: &mut BTreeSet<String>) {
    let (kind, format) = (block[0] & 3, block[0] >> 2 & 3);
    let bits = block[..5.min(block.len())].iter().rev().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
    let (header_bytes, len_bytes) = match (kind, format) {
        (0 | 1, 0 | 2) => (1, bits >> 3 & 0x1f),
        (0 | 1, 1) => (2, bits >> 4 & 0xfff),
        (0 | 1, _) => (3, bits >> 4 & 0xfffff),
        (_, 0 | 1) => (3, bits >> 14 & 0x3ff),
        (_, 2) => (4, bits >> 18 & 0x3fff),
        (..) => (5, bits >> 22 & 0x3ffff),
    };
    seen.insert(format!("literals {kind}"));
    if kind >= 2 {
        seen.insert(format!("streams {}", if format == 0 { 1 } else { 4 }));
    }
    let sequences = &block[header_bytes + if kind == 1 { 1 } else { len_bytes }..];
    let modes = match sequences[0] {
        0 => return,
        1..128 => sequences[1],
        128..255 => sequences[2],
        255 => sequences[3],
    };
    for (code, shift) in [("literal", 6), ("offset", 4), ("match", 2)] {
        seen.insert(format!("{code} mode {}", modes >> shift & 3));
    }
}

#[test]
fn what_zstd_makes_in_any_way_is_decoded() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut seen = BTreeSet::new();
    for round in 0..150 {
        let (data, file) = made(&mut random);
        note(&file, &mut seen);
        let piece = 1 << random.below(18);
        let decoded = decode_in(&file, piece + random.below(piece));
        assert!(decoded == Ok(data), "round {round}: {:?}", decoded.err());
    }
    let mut want = ["Raw", "Equal", "Compressed", "streams 1", "streams 4"].map(String::from).to_vec();
    want.extend((0..4).map(|kind| format!("literals {kind}")));
    want.extend(
        ["literal", "offset", "match"].iter().flat_map(|code| (0..4).map(move |mode| format!("{code} mode {mode}"))),
    );
    assert_eq!(seen, want.into_iter().collect());
}

#[test]
fn what_is_far_back_is_repeated() {
    let mut random = Random(1);
    let far: Vec<_> = (0..100_000).map(|_| random.byte()).collect();
    let data = [&far[..], &vec![0; 12 << 20], &far].concat();
    let mut encoder = Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(24).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.write_all(&data).unwrap();
    let file = encoder.finish().unwrap();
    assert!(file.len() < 150_000, "it is not repeated: {}", file.len());
    assert!(decode_in(&file, 1 << 20) == Ok(data));
}

#[test]
fn damaged_files_of_any_kind_do_not_make_it_panic() {
    let mut random = Random(7);
    for _ in 0..60 {
        let (_, mut file) = made(&mut random);
        for _ in 0..20 {
            // Not the header: a window of many gigabytes would be refused.
            let at = 6 + random.below(file.len() - 6);
            let before = file[at];
            file[at] = random.byte();
            let _ = decode_in(&file[..file.len() - random.below(2)], 1 << 16);
            if random.below(2) == 0 {
                file[at] = before;
            }
        }
    }
}
