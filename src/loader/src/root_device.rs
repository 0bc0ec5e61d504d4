//! Which device `root=` means: what the words on the command line say, and what a device's first sectors say.
//!
//! Mounting and waiting are the program's; here are only the formats (kernel: block/early-lookup.c, block/partitions,
//! fs/ext4/ext4.h; UEFI 2.10, chapter 5).

use core::fmt;

use crate::{sys, text};

/// What `root=` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootSpec<'a> {
    /// `/dev/…`.
    Device(&'a str),
    /// `LABEL=`: an ext2, ext3 or ext4 file system of this label.
    Label(&'a str),
    /// `UUID=`: an ext2, ext3 or ext4 file system.
    Uuid(Uuid),
    /// `PARTUUID=` of a GPT partition.
    PartUuid(Uuid),
    /// `PARTUUID=SSSSSSSS-PP`: disk signature and partition of an MBR.
    MbrPartition {
        /// The disk's signature.
        signature: u32,
        /// The partition's number, from 1.
        number: usize,
    },
}

/// Why `root=` names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRoot<'a>(pub &'a str);

impl fmt::Display for BadRoot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "root={} is not known; expected /dev/…, PARTUUID=, LABEL= or UUID=", self.0)
    }
}

/// A UUID's 16 bytes, in the order in which it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// Reads `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, in either case.
    pub fn parse(text: &str) -> Option<Uuid> {
        let mut uuid = [0; 16];
        let mut digits = text.bytes().filter(|b| *b != b'-');
        let mut digit = || char::from(digits.next()?).to_digit(16);
        for byte in &mut uuid {
            *byte = (digit()? << 4 | digit()?) as u8;
        }
        let dashes = text.bytes().enumerate().filter(|(_, b)| *b == b'-').map(|(at, _)| at);
        (text.len() == 36 && dashes.eq([8, 13, 18, 23])).then_some(Uuid(uuid))
    }

    /// From a GPT entry, whose first three fields are little-endian.
    fn from_gpt(b: [u8; 16]) -> Uuid {
        let [a0, a1, a2, a3, b0, b1, c0, c1, rest @ ..] = b;
        let mut uuid = [a3, a2, a1, a0, b1, b0, c1, c0, 0, 0, 0, 0, 0, 0, 0, 0];
        uuid[8..].copy_from_slice(&rest);
        Uuid(uuid)
    }
}

impl<'a> RootSpec<'a> {
    /// Reads the value of `root=`.
    pub fn parse(text: &'a str) -> Result<Self, BadRoot<'a>> {
        let spec = if text.starts_with("/dev/") {
            Some(RootSpec::Device(text))
        } else if let Some(label) = text.strip_prefix("LABEL=") {
            Some(RootSpec::Label(label)).filter(|_| !label.is_empty())
        } else if let Some(uuid) = text.strip_prefix("UUID=") {
            Uuid::parse(uuid).map(RootSpec::Uuid)
        } else if let Some(part) = text.strip_prefix("PARTUUID=") {
            Uuid::parse(part).map(RootSpec::PartUuid).or_else(|| mbr_partition(part))
        } else {
            None
        };
        spec.ok_or(BadRoot(text))
    }

    /// Whether the file system that begins with `start`, at least [`SUPERBLOCK_BYTES`] long, is the one meant.
    pub fn is_filesystem(&self, start: &[u8]) -> bool {
        // The superblock is 1024 bytes in; s_magic, s_uuid and s_volume_name are 0x38, 0x68 and 0x78 bytes into it.
        let Some(superblock) = start.get(1024..1024 + 0x88).filter(|s| s[0x38..0x3a] == [0x53, 0xef]) else {
            return false;
        };
        match self {
            RootSpec::Label(label) => {
                let name = &superblock[0x78..0x88];
                let len = name.iter().position(|b| *b == 0).unwrap_or(name.len());
                &name[..len] == label.as_bytes()
            }
            RootSpec::Uuid(uuid) => superblock[0x68..0x78] == uuid.0,
            _ => false,
        }
    }

    /// The number of the partition meant, if it is on the disk that `read` reads sectors of `sector_bytes` from.
    ///
    /// `read` fills a buffer from an offset in bytes, and says whether it could.
    pub fn partition(&self, sector_bytes: u64, read: &mut dyn FnMut(&mut [u8], u64) -> bool) -> Option<usize> {
        let mut sector = [0; 512];
        match *self {
            RootSpec::MbrPartition { signature, number } => {
                let is_it = read(&mut sector, 0)
                    && sector[510..] == [0x55, 0xaa]
                    && sector[440..444] == signature.to_le_bytes();
                is_it.then_some(number)
            }
            RootSpec::PartUuid(uuid) => {
                if !read(&mut sector, sector_bytes) || sector[..8] != *b"EFI PART" {
                    return None;
                }
                let entries_at = u64::from_le_bytes(*sector[72..].first_chunk()?).checked_mul(sector_bytes)?;
                let count = u32::from_le_bytes(*sector[80..].first_chunk()?).min(MAX_GPT_ENTRIES);
                let entry_bytes = u32::from_le_bytes(*sector[84..].first_chunk()?);
                (0..count).find_map(|i| {
                    let mut ids = [0; 32];
                    let at = entries_at.checked_add(u64::from(i) * u64::from(entry_bytes))?;
                    let is_it = read(&mut ids, at) && Uuid::from_gpt(*ids[16..].first_chunk()?) == uuid;
                    is_it.then_some(i as usize + 1)
                })
            }
            _ => None,
        }
    }
}

/// How much of a device [`RootSpec::is_filesystem`] looks at.
pub const SUPERBLOCK_BYTES: usize = 2048;

/// Partitions of a GPT that are looked at; Linux itself makes no more than 256 of a disk.
const MAX_GPT_ENTRIES: u32 = 256;

fn mbr_partition(text: &str) -> Option<RootSpec<'_>> {
    let (signature, number) = text::split_once(text, b'-')?;
    if signature.len() != 8 || number.len() != 2 {
        return None;
    }
    Some(RootSpec::MbrPartition {
        signature: u32::from_str_radix(signature, 16).ok()?,
        number: u32::from_str_radix(number, 16).ok()? as usize,
    })
}

/// The mount(2) flags that a `rootflags=` word stands for; `None` for one that is the file system's own.
pub fn mount_flag(word: &str) -> Option<u32> {
    let at = text::fields(MOUNT_WORDS, b',').position(|known| known == word)?;
    MOUNT_FLAGS.get(at).copied()
}

macro_rules! mount_flags {
    ($($word:ident => $flag:expr,)*) => {
        const MOUNT_WORDS: &str = concat!($(stringify!($word), ","),*);
        const MOUNT_FLAGS: &[u32] = &[$($flag),*];
    };
}

mount_flags! {
    ro => sys::MS_RDONLY,
    rw => 0,
    defaults => 0,
    noatime => sys::MS_NOATIME,
    nodiratime => sys::MS_NODIRATIME,
    relatime => sys::MS_RELATIME,
    strictatime => sys::MS_STRICTATIME,
    nosuid => sys::MS_NOSUID,
    nodev => sys::MS_NODEV,
    noexec => sys::MS_NOEXEC,
    sync => sys::MS_SYNCHRONOUS,
    dirsync => sys::MS_DIRSYNC,
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "01234567-89ab-CDEF-0011-223344556677";

    #[test]
    fn what_root_may_say() {
        assert_eq!(RootSpec::parse("/dev/mmcblk0p2"), Ok(RootSpec::Device("/dev/mmcblk0p2")));
        assert_eq!(RootSpec::parse("LABEL=root"), Ok(RootSpec::Label("root")));
        let uuid = Uuid([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]);
        assert_eq!(RootSpec::parse(&format!("UUID={UUID}")), Ok(RootSpec::Uuid(uuid)));
        assert_eq!(RootSpec::parse(&format!("PARTUUID={UUID}")), Ok(RootSpec::PartUuid(uuid)));
        assert_eq!(
            RootSpec::parse("PARTUUID=deadbeef-02"),
            Ok(RootSpec::MbrPartition { signature: 0xdead_beef, number: 2 })
        );
        for bad in [
            "",
            "sda1",
            "LABEL=",
            "UUID=12",
            "PARTUUID=deadbeef-2x",
            "UUID=0123456789-ab-CDEF-0011-223344556677",
            "nfs",
        ] {
            assert_eq!(RootSpec::parse(bad), Err(BadRoot(bad)));
        }
    }

    #[test]
    fn a_file_system_by_label_and_uuid() {
        let mut start = vec![0; SUPERBLOCK_BYTES];
        start[1024 + 0x38..][..2].copy_from_slice(&[0x53, 0xef]);
        start[1024 + 0x78..][..4].copy_from_slice(b"root");
        start[1024 + 0x68..][..16].copy_from_slice(&Uuid::parse(UUID).unwrap().0);
        assert!(RootSpec::Label("root").is_filesystem(&start));
        assert!(!RootSpec::Label("roo").is_filesystem(&start));
        assert!(RootSpec::Uuid(Uuid::parse(UUID).unwrap()).is_filesystem(&start));
        start[1024 + 0x38] = 0;
        assert!(!RootSpec::Label("root").is_filesystem(&start));
        assert!(!RootSpec::Label("root").is_filesystem(&start[..1100]));
    }

    fn on_disk(spec: &str, sector_bytes: u64, disk: &[u8]) -> Option<usize> {
        RootSpec::parse(spec).unwrap().partition(sector_bytes, &mut |buf, at| {
            let from = disk.get(at as usize..).and_then(|d| d.get(..buf.len()));
            from.map(|from| buf.copy_from_slice(from)).is_some()
        })
    }

    #[test]
    fn a_partition_by_its_uuid() {
        for sector in [512usize, 4096] {
            let mut disk = vec![0; sector * 2 + 128 * 4];
            disk[sector..][..8].copy_from_slice(b"EFI PART");
            disk[sector + 72] = 2;
            disk[sector + 80] = 4;
            disk[sector + 84] = 128;
            let third = sector * 2 + 2 * 128 + 16;
            disk[third..][..16].copy_from_slice(&[
                0x67, 0x45, 0x23, 0x01, 0xab, 0x89, 0xef, 0xcd, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
            ]);
            let spec = format!("PARTUUID={UUID}");
            assert_eq!(on_disk(&spec, sector as u64, &disk), Some(3));
            disk[third] = 0;
            assert_eq!(on_disk(&spec, sector as u64, &disk), None);
            disk[sector + 79] = 0xff;
            assert_eq!(on_disk(&spec, sector as u64, &disk), None);
        }
    }

    #[test]
    fn a_partition_of_an_mbr() {
        let mut disk = vec![0; 512];
        disk[440..444].copy_from_slice(&0xdead_beef_u32.to_le_bytes());
        assert_eq!(on_disk("PARTUUID=deadbeef-02", 512, &disk), None);
        disk[510..].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(on_disk("PARTUUID=deadbeef-02", 512, &disk), Some(2));
        assert_eq!(on_disk("PARTUUID=deadbee0-02", 512, &disk), None);
    }
}
