//! What `mkmodest check` says of files that it cannot use, and of options that mean nothing for what it is given.

use std::path::Path;
use std::process::Command;

use mkmodest::codec::encode;
use modest_loader::format::Format;

/// Runs mkmodest: the exit code, and all that it prints.
fn mkmodest(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mkmodest")).args(args).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn written(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn options_that_mean_nothing_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let module = written(dir.path(), "m.ko", b"\x7fELF");
    let image = written(dir.path(), "image", b"070701");
    for (args, says) in [
        (&["check", &module, "--symbols", "/none"][..], "is a module's file, for which --symbols means nothing"),
        (&["check", &module, "--kernel", "small"], "is a module's file, for which --kernel means nothing"),
        (&["check", &module, "--no-suppliers"], "is a module's file, for which --no-suppliers means nothing"),
        (&["check", &image, "--include", "x"], "is an initramfs, for which --include means nothing"),
        (&["check", &image, "--map"], "is an initramfs, for which --map means nothing"),
        (&["check", "qemu-aarch64", "--map"], "is a board; --map is for a module's file"),
    ] {
        let (code, text) = mkmodest(args);
        assert_eq!(code, Some(2), "{args:?}: {text}");
        assert!(text.contains(says), "{args:?}: {text}");
    }
}

#[test]
fn an_initramfs_in_a_format_that_is_not_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for (format, magic) in
        [("lz4", &b"\x02\x21\x4c\x18"[..]), ("bzip2", b"BZh91AY"), ("lzma", b"\x5d\0\0\x80"), ("lzo", b"\x89LZO")]
    {
        let image = written(dir.path(), "initrd.img", magic);
        let (code, text) = mkmodest(&["check", &image]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(&format!("it is compressed by {format}, which mkmodest does not read")), "{text}");
    }
}

#[test]
fn compression_that_the_kernel_does_not_take_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let elf = b"\x7fELF";
    let says = |bytes: &[u8]| mkmodest(&["check", &written(dir.path(), "m.ko.xz", bytes)]).1;
    let mut options = lzma_rust2::XzOptions::with_preset(1);
    let mut check = |kind| {
        options.set_check_sum_type(kind);
        let mut xz = lzma_rust2::XzWriter::new(Vec::new(), options.clone()).unwrap();
        std::io::Write::write_all(&mut xz, elf).unwrap();
        xz.finish().unwrap()
    };
    let beyond = "the kernel's own decoder does not take it: its checks are not CRC32";
    let crc64 = says(&check(lzma_rust2::CheckType::Crc64));
    assert!(crc64.contains(beyond) && !crc64.contains("no checksum"), "{crc64}");
    let none = says(&check(lzma_rust2::CheckType::None));
    assert!(none.contains("it has no checksum, so damage goes unseen") && !none.contains(beyond), "{none}");
    let good = says(&encode(elf, Format::Xz).unwrap());
    assert!(!good.contains(beyond) && !good.contains("no checksum"), "{good}");
}
