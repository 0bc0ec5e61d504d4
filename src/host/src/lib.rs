//! The build host's side of modest: makes initramfs images whose init it is, and boots them in QEMU.
//!
//! What can be decided before the target boots is decided here, with the target's own code ([`modest_loader`]): the
//! manifest of an image is resolved, so that the target looks nothing up.
//!
//! Where to look: a [`board`] names a [`kernel`] and modules; [`plan`] resolves them to files in order, with [`modprobe`], and
//! [`mod@include`] adds others; [`module`] reads each, with [`codec`], [`facts`] and [`strip`], and [`depmod`] makes their indexes; [`image`]
//! puts them into an archive if [`mod@check`], with [`symbols`], finds nothing that the kernel would refuse, as it does
//! for an [`initramfs`] that is there; [`disk`] makes the root that is handed over to, and [`guest`] runs it all. [`cli`] is
//! the command line, which the binary carries out.

pub mod board;
pub mod check;
pub mod cli;
pub mod codec;
pub mod depmod;
pub mod disk;
pub mod facts;
pub mod guest;
pub mod image;
pub mod include;
pub mod initramfs;
pub mod kernel;
pub mod map;
pub mod modprobe;
pub mod module;
pub mod plan;
pub mod strip;
pub mod symbols;

use std::path::PathBuf;

use anyhow::{Result, anyhow};

/// The part of an error message that names those of `known` that `word` may have meant; empty when none is near.
fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
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

/// Finds a program of the build host, which Debian has in `package`.
fn program(name: &str, package: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where Debian has mke2fs and sfdisk, which only root's PATH includes.
    let admin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(admin).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| anyhow!("{name} is needed and missing; Debian has it in {package}"))
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

    #[test]
    fn a_missing_program_names_its_package() {
        assert!(program("sh", "dash").unwrap().is_absolute());
        let error = program("no-such-program", "nothing").unwrap_err().to_string();
        assert_eq!(error, "no-such-program is needed and missing; Debian has it in nothing");
    }
}
