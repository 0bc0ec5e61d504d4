//! What most modules of a set have in common.

use std::collections::HashMap;
use std::hash::Hash;

/// The one that there are the most of; of as many, that which comes first.
pub fn most<T: Eq + Hash + Clone>(all: impl IntoIterator<Item = T>) -> Option<T> {
    let mut counts = HashMap::<T, (usize, usize)>::new();
    for (i, one) in all.into_iter().enumerate() {
        counts.entry(one).or_insert((0, usize::MAX - i)).0 += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(one, _)| one)
}
