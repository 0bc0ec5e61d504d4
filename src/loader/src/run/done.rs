//! What a job comes to.

/// What became of a module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// It is there.
    Yes,
    /// It is left out, as somebody asked for.
    Skipped,
    Failed,
}
