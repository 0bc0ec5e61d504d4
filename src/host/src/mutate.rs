//! Module files gone wrong, for tests: the same ones for the same seed.
//!
//! What becomes of a file in the hands of a bad disk, a cut transfer, a wrong tool: see [`Mutants`].

/// A file gone wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Which of the files it was made of, by its place.
    pub of: usize,
    /// What was done to it.
    pub what: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Makes mutants of ELF files without end: flipped bits, cut ends, changed fields of the header, of section headers, symbols
/// and relocations, other architectures, lost pieces.
#[derive(Clone, Debug)]
pub struct Mutants<'a> {
    files: Vec<&'a [u8]>,
    state: u64,
}

/// What an ELF header of these files says.
struct Layout {
    is_64: bool,
    sections_at: usize,
    section_bytes: usize,
    sections: usize,
}

impl<'a> Mutants<'a> {
    /// Of these files, plain and little-endian.
    pub fn new(files: &[&'a [u8]], seed: u64) -> Mutants<'a> {
        assert!(files.iter().all(|file| file.len() > 64), "expected ELF files");
        Mutants { files: files.to_vec(), state: seed }
    }

    /// A number below `end` (splitmix64).
    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end.max(1) as u64) as usize
    }

    /// A value that code may not be ready for.
    fn value(&mut self, len: usize) -> u64 {
        let odd =
            [0, 1, 2, 3, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x8000_0000, u64::MAX, 1 << 63, u64::MAX - 7];
        match self.below(4) {
            0 => self.below(len * 2) as u64,
            1 => len as u64 - 1 + self.below(3) as u64,
            _ => odd[self.below(odd.len())],
        }
    }

    fn flip(&mut self, bytes: &mut [u8], from: usize, to: usize) -> String {
        let flips = 1 + self.below(4);
        let mut what = "flipped".to_string();
        for _ in 0..flips {
            let (at, bit) = (from + self.below(to.min(bytes.len()) - from), self.below(8));
            bytes[at] ^= 1 << bit;
            what += &format!(" {at:#x}.{bit}");
        }
        what
    }

    /// Changes a field of one of the entries of a table.
    fn change(
        &mut self, bytes: &mut [u8], table: (usize, usize, usize), fields: &[(usize, usize)], what: &str,
    ) -> String {
        let (at, entry, count) = table;
        let number = self.below(count);
        let (offset, len) = fields[self.below(fields.len())];
        let value = self.value(bytes.len());
        let start = at + number * entry + offset;
        if let Some(field) = bytes.get_mut(start..start + len) {
            field.copy_from_slice(&value.to_le_bytes()[..len]);
        }
        format!("{what} {number}: {value:#x} at {offset:#x}")
    }
}

/// An unsigned number in a file.
fn number(bytes: &[u8], at: usize, len: usize) -> usize {
    let field = bytes.get(at..at + len).unwrap_or_default();
    field.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

impl Layout {
    fn of(bytes: &[u8]) -> Layout {
        let is_64 = bytes[4] == 2;
        let at = |at32, at64| if is_64 { at64 } else { at32 };
        Layout {
            is_64,
            sections_at: number(bytes, at(0x20, 0x28), at(4, 8)),
            section_bytes: at(40, 64),
            sections: number(bytes, at(0x30, 0x3c), 2),
        }
    }

    /// Where and how long the sections of a type are.
    fn of_kind(&self, bytes: &[u8], kinds: &[usize]) -> Vec<(usize, usize)> {
        let headers = (0..self.sections).map(|i| self.sections_at + i * self.section_bytes);
        let (at, size, len) = if self.is_64 { (0x18, 0x20, 8) } else { (0x10, 0x14, 4) };
        let found = headers.filter(|header| kinds.contains(&number(bytes, header + 4, 4)));
        found.map(|header| (number(bytes, header + at, len), number(bytes, header + size, len))).collect()
    }
}

impl Iterator for Mutants<'_> {
    type Item = Mutant;

    fn next(&mut self) -> Option<Mutant> {
        const SYMBOLS: &[usize] = &[2];
        const RELOCATIONS: &[usize] = &[4, 9];
        let of = self.below(self.files.len());
        let mut bytes = self.files[of].to_vec();
        let len = bytes.len();
        let layout = Layout::of(&bytes);
        let table = (layout.sections_at, layout.section_bytes, layout.sections);
        let what = match self.below(12) {
            0 => self.flip(&mut bytes, 0, len),
            1 => self.flip(&mut bytes, 0, 64),
            2 => self.flip(&mut bytes, layout.sections_at, layout.sections_at + layout.sections * layout.section_bytes),
            3 => {
                let to = self.below(len);
                bytes.truncate(to);
                format!("cut to {to}")
            }
            4 => {
                // Where the headers are, at the end.
                let to = layout.sections_at + self.below(len - layout.sections_at);
                bytes.truncate(to);
                format!("cut to {to}")
            }
            5 | 6 => {
                let fields: &[(usize, usize)] = match layout.is_64 {
                    true => &[(0, 4), (4, 4), (8, 8), (0x18, 8), (0x20, 8), (0x28, 4), (0x2c, 4), (0x30, 8), (0x38, 8)],
                    false => {
                        &[(0, 4), (4, 4), (8, 4), (0x10, 4), (0x14, 4), (0x18, 4), (0x1c, 4), (0x20, 4), (0x24, 4)]
                    }
                };
                self.change(&mut bytes, table, fields, "section header")
            }
            7 => {
                let others =
                    [(2, 62), (2, 183), (2, 243), (1, 243), (1, 40), (1, 3), (1, 8), (2, 22), (9, 183), (0, 40)];
                let (class, machine) = others[self.below(others.len())];
                let data = 1 + self.below(2) as u8;
                (bytes[4], bytes[5]) = (class, data);
                let machine: u16 = machine;
                bytes[18..20].copy_from_slice(&machine.to_le_bytes());
                format!("class {class}, order {data}, machine {machine}")
            }
            8 => {
                let (at, size) = layout.of_kind(&bytes, SYMBOLS).first().copied().unwrap_or((0, 64));
                let (entry, fields): (usize, &[(usize, usize)]) = match layout.is_64 {
                    true => (24, &[(0, 4), (4, 1), (6, 2), (8, 8)]),
                    false => (16, &[(0, 4), (12, 1), (14, 2), (4, 4)]),
                };
                self.change(&mut bytes, (at, entry, size / entry), fields, "symbol")
            }
            9 => {
                let tables = layout.of_kind(&bytes, RELOCATIONS);
                let (at, size) = tables.get(self.below(tables.len())).copied().unwrap_or((0, 64));
                let (entry, fields): (usize, &[(usize, usize)]) = match layout.is_64 {
                    true => (24, &[(0, 8), (8, 4), (12, 4)]),
                    false => (8, &[(0, 4), (4, 1), (5, 3)]),
                };
                self.change(&mut bytes, (at, entry, size / entry), fields, "relocation")
            }
            10 => {
                let at = self.below(len);
                let to = len.min(at + 1 + self.below(4096));
                let byte = [0, 0xff, 0x20][self.below(3)];
                bytes[at..to].fill(byte);
                format!("{at:#x} to {to:#x} lost, {byte:#x} there")
            }
            _ => {
                // A piece from elsewhere, as a bad block list makes it.
                let (from, to) = (self.below(len), self.below(len));
                let piece = (len - from.max(to)).min(1 + self.below(512));
                bytes.copy_within(from..from + piece, to);
                format!("{piece} bytes of {from:#x} at {to:#x}")
            }
        };
        Some(Mutant { of, what, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::tests::module;

    #[test]
    fn the_same_seed_makes_the_same() {
        let image = module(&["name=x", "vermagic=6.1.0 SMP"]);
        let made = |seed| Mutants::new(&[&image], seed).take(500).collect::<Vec<_>>();
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        let changed = made(1).iter().filter(|mutant| mutant.bytes != image).count();
        assert!(changed > 400, "{changed}");
    }
}
