//! The format of a flattened device tree, version 17 (devicetree.org, chapter 5).
//!
//! A reader of our own: kernels come with trees that keep to the format, but not to the specification's rules for names,
//! which crates hold them to.

use anyhow::{Context, Result, bail, ensure};

/// How deep nodes are in each other at most; the kernel's own limit (`FDT_MAX_DEPTH` of drivers/of/fdt.c).
const DEPTH: usize = 64;

/// What is in a tree, in its order.
pub(crate) enum Event<'a> {
    Begin(&'a str),
    Property(&'a str, &'a [u8]),
    End,
}

/// The blocks of a file.
struct Blocks<'a> {
    /// The file up to the end of the structure.
    structure: &'a [u8],
    strings: &'a [u8],
    /// The place in the file, in bytes.
    at: usize,
}

/// Hands out what is in a tree, from the beginning of its root to that one's end.
pub(crate) fn events<'a>(bytes: &'a [u8], each: &mut dyn FnMut(Event<'a>)) -> Result<()> {
    let mut blocks = Blocks::of(bytes)?;
    let mut depth = 0usize;
    loop {
        let at = blocks.at;
        let place = || format!("at byte {at}");
        match blocks.word().with_context(place)? {
            1 => {
                depth += 1;
                ensure!(depth <= DEPTH, "at byte {at}: more than {DEPTH} nodes in each other");
                each(Event::Begin(blocks.name().with_context(place)?));
            }
            2 if depth > 0 => {
                depth -= 1;
                each(Event::End);
                if depth == 0 {
                    return Ok(());
                }
            }
            3 if depth > 0 => {
                let (name, value) = blocks.property().with_context(place)?;
                each(Event::Property(name, value));
            }
            4 => {}
            token => bail!("at byte {at}: token {token:#x}; expected one of a node"),
        }
    }
}

impl<'a> Blocks<'a> {
    fn of(bytes: &'a [u8]) -> Result<Blocks<'a>> {
        const MAGIC: u32 = 0xd00d_feed;
        const VERSION: u32 = 17;
        let header: Vec<u32> = bytes.chunks_exact(4).take(10).map(number).collect();
        let [magic, len, structure, strings, _, version, compatible, _, strings_len, structure_len] = header[..] else {
            bail!("{} bytes, which are not even its header", bytes.len())
        };
        ensure!(magic == MAGIC, "it begins with {magic:#010x}, not with {MAGIC:#010x}");
        let is_known = (compatible..=version).contains(&VERSION);
        ensure!(is_known, "version {version}, which readers of version {compatible} know; expected {VERSION}");
        let Some(whole) = bytes.get(..len as usize) else {
            bail!("cut off: it has {} bytes, its header says {len}", bytes.len())
        };
        let block = |start: u32, len: u32, what| {
            let end = (start as usize).saturating_add(len as usize);
            ensure!(whole.get(start as usize..end).is_some(), "its {what} are behind its end");
            Ok(end)
        };
        let end = block(structure, structure_len, "nodes")?;
        let strings_end = block(strings, strings_len, "names of properties")?;
        let strings = &whole[strings as usize..strings_end];
        Ok(Blocks { structure: &whole[..end], strings, at: structure as usize })
    }

    fn word(&mut self) -> Result<u32> {
        let word = self.structure.get(self.at..self.at + 4).context("the nodes end in the middle")?;
        self.at += 4;
        Ok(number(word))
    }

    fn name(&mut self) -> Result<&'a str> {
        let name = text(self.structure.get(self.at..).unwrap_or_default())?;
        self.skip(name.len() + 1);
        Ok(name)
    }

    fn property(&mut self) -> Result<(&'a str, &'a [u8])> {
        let (len, name) = (self.word()? as usize, self.word()? as usize);
        let name = text(self.strings.get(name..).unwrap_or_default())?;
        let value = self.structure.get(self.at..self.at.saturating_add(len));
        let value = value.with_context(|| format!("property {name}: {len} bytes, more than there are"))?;
        self.skip(len);
        Ok((name, value))
    }

    /// Goes on behind so many bytes; what follows begins at a multiple of 4.
    fn skip(&mut self, len: usize) {
        self.at += len.next_multiple_of(4);
    }
}

fn number(word: &[u8]) -> u32 {
    word.first_chunk().map_or(0, |word| u32::from_be_bytes(*word))
}

/// The text up to a NUL.
fn text(bytes: &[u8]) -> Result<&str> {
    let len = bytes.iter().position(|b| *b == 0).context("a name without an end")?;
    str::from_utf8(&bytes[..len]).context("a name that is not UTF-8")
}
