//! How many more there are of what a message names.

use core::fmt::{self, Display};

/// How many more there are of something.
pub(super) struct Others(pub usize);

impl Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " (and {} more)", self.0) }
    }
}
