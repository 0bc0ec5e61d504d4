//! Which kernel modules were built for, and which versions of its symbols they want.

use std::collections::{BTreeMap, HashMap};

use super::member::{Around, Member};
use super::most::most;
use super::problem::{Kind, Problem};
use crate::module::info::ModuleInfo;

/// Holds modules to each other: what they say the kernel is, and which versions of its symbols they want. Which symbols
/// are the modules' own, `is_exported` says.
pub fn versions(around: &Around, all: &[Member], is_exported: impl Fn(&str) -> bool) -> Vec<Problem> {
    let magics = || all.iter().filter_map(|member| member.info.vermagic.as_deref());
    let of_tree = |magic: &&str| around.release.is_none_or(|wanted| release(magic) == wanted);
    let magic = most(magics().filter(of_tree)).or_else(|| most(magics()));
    let expected = Expected {
        crcs: crcs(around, all, is_exported),
        magic,
        release: around.release.or(magic.map(release)).unwrap_or_default(),
    };
    all.iter().filter_map(|member| expected.problem(member)).collect()
}

/// What all modules of a set should agree on.
struct Expected<'a> {
    /// The CRC of each symbol of the kernel, and whether the kernel itself says so or the most modules.
    crcs: HashMap<&'a str, (u32, bool)>,
    /// The vermagic that the most have.
    magic: Option<&'a str>,
    /// The kernel's release.
    release: &'a str,
}

/// The CRCs of what no module exports: the kernel's, or those that the most want.
fn crcs<'a>(around: &Around, all: &[Member<'a>], is_exported: impl Fn(&str) -> bool) -> HashMap<&'a str, (u32, bool)> {
    let mut wanted = BTreeMap::<&str, Vec<u32>>::new();
    for (name, crc) in all.iter().flat_map(|member| &member.info.versions) {
        if !is_exported(name) {
            wanted.entry(name).or_default().push(*crc);
        }
    }
    let of_kernel = |name: &str| around.kernel.and_then(|kernel| kernel.export(name)?.crc);
    let expected = wanted.into_iter().filter_map(|(name, crcs)| match of_kernel(name) {
        Some(crc) => Some((name, (crc, true))),
        None => Some((name, (most(crcs)?, false))),
    });
    expected.collect()
}

impl Expected<'_> {
    fn problem(&self, Member { file, info, .. }: &Member) -> Option<Problem> {
        let problem = |kind, cause: String| Problem::new(kind, file, cause, "take all modules from one build");
        let version = self.other_version(info);
        let Some(magic) = info.vermagic.as_deref() else {
            return version.map(|cause| problem(Kind::Version, cause));
        };
        let is_same = self.magic.is_none_or(|expected| tail(expected) == tail(magic));
        if is_same && release(magic) == self.release {
            return version.map(|cause| problem(Kind::Version, cause));
        }
        let cause = match self.magic {
            Some(expected) if release(expected) == self.release => {
                format!("built for {magic:?}; the other modules are for {expected:?}")
            }
            _ => format!("built for Linux {}, not {}", release(magic), self.release),
        };
        // The kernel compares releases only where a module has no CRCs.
        Some(if !is_same || info.versions.is_empty() {
            problem(Kind::Vermagic, cause)
        } else if let Some(version) = version {
            problem(Kind::Vermagic, format!("{cause}; it {version}"))
        } else {
            problem(Kind::Vermagic, format!("{cause}; the kernel takes it if its symbols have the same CRCs")).warning()
        })
    }

    /// The symbols that a module wants in another version than the kernel has, if there are any.
    fn other_version(&self, info: &ModuleInfo) -> Option<String> {
        let differs =
            |(name, crc): &&(String, u32)| self.crcs.get(name.as_str()).is_some_and(|(right, _)| right != crc);
        let other: Vec<_> = info.versions.iter().filter(differs).collect();
        // The one that tells of the whole of the kernel's structures first.
        let (name, crc) = other.iter().find(|(name, _)| name == "module_layout").or(other.first())?;
        let (right, is_kernels) = self.crcs[name.as_str()];
        let whose = if is_kernels { "the kernel has it with" } else { "the other modules want" };
        let more = match other.len() - 1 {
            0 => String::new(),
            more => format!(", and so of {more} more"),
        };
        Some(format!("wants symbol {name} with CRC {crc:#010x}; {whose} {right:#010x}{more}"))
    }
}

/// The kernel's release in a vermagic.
fn release(magic: &str) -> &str {
    magic.split(' ').next().unwrap_or_default()
}

/// What a vermagic says besides.
fn tail(magic: &str) -> Option<&str> {
    magic.split_once(' ').map(|(_, tail)| tail)
}
