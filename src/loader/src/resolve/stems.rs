//! Which modules are not in a folder without an index, so that a name that is not there costs no look into the folder.

use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::limits::STEMS_BYTES;
use crate::name;
use crate::path::Path;

/// A Bloom filter of the names of the modules in some folders. Memory is taken as it is filled.
#[allow(missing_debug_implementations)]
pub struct Stems<K: Kernel> {
    bits: K::Region,
}

impl<K: Kernel> Stems<K> {
    /// Reads the folders; one that cannot be listed has no modules.
    pub fn read(kernel: &K, folders: impl Iterator<Item = Path>) -> Result<Stems<K>, Errno> {
        let mut bits = kernel.allocate(STEMS_BYTES)?;
        for folder in folders {
            let _ = kernel.list(&folder, &mut |file| {
                if let Some((stem, _)) = name::strip_ko(file) {
                    for (byte, bit) in places(stem) {
                        bits.as_mut()[byte] |= bit;
                    }
                }
            });
        }
        Ok(Stems { bits })
    }

    /// Whether a module of that name may be in one of them: one that is, always; of others one in hundreds.
    pub fn may_have(&self, name: &str) -> bool {
        places(name).into_iter().all(|(byte, bit)| self.bits.as_ref()[byte] & bit != 0)
    }
}

/// The two bits of a name, each as a byte of the filter and a mask.
fn places(name: &str) -> [(usize, u8); 2] {
    let hash = name::hash(name);
    [hash, hash.rotate_left(16)].map(|hash| {
        let bit = hash as usize % (8 * STEMS_BYTES);
        (bit / 8, 1 << (bit % 8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use crate::path;

    #[test]
    fn all_that_are_there_may_be_there_and_few_others() {
        let in_folder = |fake: Fake, i: usize| fake.with_file(&format!("/t/snd-m{i}.ko.xz"), b"");
        let fake = (0..4000).fold(Fake::default(), in_folder).with_file("/t/README", b"");
        let folders = [c"/t", c"/none"].map(|folder| path::joined(&[folder.to_bytes()]).unwrap());
        let stems = Stems::read(&fake, folders.into_iter()).unwrap();
        assert!((0..4000).all(|i| stems.may_have(&format!("snd_m{i}")) && stems.may_have(&format!("snd-m{i}"))));
        let wrong = (0..10_000).filter(|i| stems.may_have(&format!("unknown{i}"))).count();
        assert!(wrong < 100, "{wrong}");
    }
}
