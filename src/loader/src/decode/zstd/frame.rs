//! The headers of frames and blocks.

use modest_zstd::{BLOCK_BYTES, BlockKind};

use super::super::input::Input;
use crate::kernel::Kernel;
use crate::source::DecodeError;

/// The least window of a frame that does not lie in one segment; no file is read with a smaller ring.
pub const WINDOW_BYTES_MIN: u64 = 1 << 10;

/// What a frame's header says.
pub struct Frame {
    pub window: u64,
    pub content: Option<u64>,
    pub has_checksum: bool,
}

impl Frame {
    pub fn block_bytes(&self) -> usize {
        self.window.min(BLOCK_BYTES as u64) as usize
    }
}

/// The header of the next frame; `None` at the end of the file.
pub fn next_frame<K: Kernel>(input: &mut Input<K>) -> Result<Option<Frame>, DecodeError> {
    while !input.at_end()? {
        match u32::from_le_bytes(input.bytes()?) {
            0xfd2f_b528 => return frame_header(input).map(Some),
            0x184d_2a50..=0x184d_2a5f => {
                let len_bytes = u32::from_le_bytes(input.bytes()?);
                input.skip(len_bytes.into())?;
            }
            _ => return Err(DecodeError::Corrupt("bytes after its end are not another frame")),
        }
    }
    Ok(None)
}

fn frame_header<K: Kernel>(input: &mut Input<K>) -> Result<Frame, DecodeError> {
    const DICTIONARY: u8 = 3;
    const CHECKSUM: u8 = 4;
    const RESERVED: u8 = 8;
    const ONE_SEGMENT: u8 = 0x20;
    let [flags] = input.bytes()?;
    if flags & RESERVED != 0 {
        return Err(DecodeError::Corrupt("its header has reserved flags"));
    }
    let is_one_segment = flags & ONE_SEGMENT != 0;
    let window = match is_one_segment {
        true => None,
        false => {
            let [window] = input.bytes()?;
            let base = WINDOW_BYTES_MIN << (window >> 3);
            Some(base + base / 8 * u64::from(window & 7))
        }
    };
    let dictionary = number(input, [0, 1, 2, 4][usize::from(flags & DICTIONARY)])?;
    if dictionary != 0 {
        return Err(DecodeError::Unsupported("it wants a dictionary of another file"));
    }
    let content = match (flags >> 6, is_one_segment) {
        (0, false) => None,
        (0, true) => Some(number(input, 1)?),
        (1, _) => Some(number(input, 2)? + 256),
        (2, _) => Some(number(input, 4)?),
        _ => Some(number(input, 8)?),
    };
    let window = window.or(content).unwrap_or_default();
    Ok(Frame { window, content, has_checksum: flags & CHECKSUM != 0 })
}

/// A number of up to eight bytes.
fn number<K: Kernel>(input: &mut Input<K>, len: usize) -> Result<u64, DecodeError> {
    let mut bytes = [0; 8];
    input.fill(&mut bytes[..len])?;
    Ok(u64::from_le_bytes(bytes))
}

/// What a block's header says.
pub struct BlockHeader {
    pub is_last: bool,
    pub kind: BlockKind,
    pub len_bytes: usize,
}

impl BlockHeader {
    pub fn read<K: Kernel>(input: &mut Input<K>, frame: &Frame) -> Result<BlockHeader, DecodeError> {
        let header = number(input, 3)? as usize;
        let kind = match header >> 1 & 3 {
            0 => BlockKind::Raw,
            1 => BlockKind::Equal,
            2 => BlockKind::Compressed,
            _ => return Err(DecodeError::Corrupt("a block's type is reserved")),
        };
        let len_bytes = header >> 3;
        if len_bytes > frame.block_bytes() {
            return Err(DecodeError::Corrupt("a block is longer than a block may be"));
        }
        Ok(BlockHeader { is_last: header & 1 != 0, kind, len_bytes })
    }

    /// What follows it in the file.
    pub fn stored_bytes(&self) -> usize {
        if self.kind == BlockKind::Equal { 1 } else { self.len_bytes }
    }
}
