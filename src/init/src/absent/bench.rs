//! In place of [`crate::bench`]: a build without the feature `bench` measures no other programs.

use modest_loader::sys::StringArray;

/// Knows no applet.
pub fn applet(_: StringArray) -> Option<u8> {
    None
}
