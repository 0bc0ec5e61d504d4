//! Modules and folders of them, made for tests.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

/// A module for AArch64 with these pairs in its `.modinfo`, of the name that one of them tells, or of one of its own.
pub fn module(modinfo: &[&str]) -> Vec<u8> {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let named = modinfo.iter().find_map(|pair| pair.strip_prefix("name=")).map(String::from);
    let name = named.unwrap_or_else(|| format!("made{}", MADE.fetch_add(1, Ordering::Relaxed)));
    let mut this_module = [0; 128];
    this_module[24..24 + name.len()].copy_from_slice(name.as_bytes());
    let names = b"\0.modinfo\0.shstrtab\0.symtab\0.gnu.linkonce.this_module\0";
    let info = modinfo.join("\0") + "\0";
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(64, 0);
    elf[16] = 1;
    elf[18] = 183;
    elf[20] = 1;
    elf[0x28] = 64;
    elf[0x34] = 64;
    elf[0x3a] = 64;
    elf[0x3c] = 5;
    elf[0x3e] = 2;
    // Name, type, content, link, length of an entry; flags are SHF_ALLOC.
    let sections: [(u32, u32, &[u8], u32, u64); 5] = [
        (0, 0, b"", 0, 0),
        (1, 1, info.as_bytes(), 0, 0),
        (10, 3, names, 0, 0),
        (20, 2, &[0; 24], 2, 24),
        (28, 1, &this_module, 0, 0),
    ];
    let mut content = Vec::new();
    for (name, kind, bytes, link, entry) in sections {
        let start = elf.len();
        elf.resize(start + 64, 0);
        let mut put = |at: usize, bytes: &[u8]| {
            elf[start + at..start + at + bytes.len()].copy_from_slice(bytes);
        };
        let offset = if kind == 0 { 0 } else { 64 * 6 + content.len() as u64 };
        put(0, &name.to_le_bytes());
        put(4, &kind.to_le_bytes());
        put(8, &[if kind == 1 { 2 } else { 0 }]);
        put(0x18, &offset.to_le_bytes());
        put(0x20, &(bytes.len() as u64).to_le_bytes());
        put(0x28, &link.to_le_bytes());
        put(0x38, &entry.to_le_bytes());
        content.extend(bytes);
    }
    [elf, content].concat()
}

/// A folder `6.1.0` with these files and an empty `modules.dep`, unless that is among them; it lasts as long as what is around it.
pub fn folder(files: &[(&str, &[u8])]) -> (TempDir, PathBuf) {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("6.1.0");
    for (file, bytes) in [("modules.dep", &b""[..])].iter().chain(files) {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    (tmp, dir)
}
