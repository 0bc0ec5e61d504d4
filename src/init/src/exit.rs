//! The exit codes of the applets, and what wrong usage does. What an applet does is with the applet.

use crate::console::complain;

/// All is loaded, or was there already.
pub const LOADED: u8 = 0;
/// A module or a line failed.
pub const FAILED: u8 = 1;
/// The arguments make no sense.
pub const WRONG_USAGE: u8 = 2;
/// A failure stopped the run before the manifest's end.
pub const STOPPED: u8 = 3;

/// Writes `text` to standard error: the exit code.
pub fn usage(text: &str) -> u8 {
    complain(text.as_bytes());
    WRONG_USAGE
}
