//! Words that people write.

/// The part of an error message that names those of `known` that `word` may have meant; empty when none is near.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    const NEAR: f64 = 0.8;
    const AT_MOST: usize = 3;
    let likeness = |other: &'a str| (strsim::jaro_winkler(word, other), other);
    let mut near: Vec<_> = known.into_iter().map(likeness).filter(|(likeness, _)| *likeness >= NEAR).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.dedup();
    near.truncate(AT_MOST);
    match near.iter().map(|(_, word)| *word).collect::<Vec<_>>() {
        near if near.is_empty() => String::new(),
        near => format!("; did you mean {}?", near.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_named_first_and_the_far_not_at_all() {
        assert_eq!(
            did_you_mean("virtio_blok", ["virtio_blk", "ext4", "virtio_net"]),
            "; did you mean virtio_blk or virtio_net?"
        );
        assert_eq!(did_you_mean("xyz", ["ext4"]), "");
        assert_eq!(did_you_mean("cmdlin", ["cmdline", "cmdline"]), "; did you mean cmdline?");
    }
}
