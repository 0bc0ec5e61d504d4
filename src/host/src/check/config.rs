//! What a kernel's configuration cannot do, and an image asks of it.

use modest_loader::format::Format;

use super::problem::{Kind, Problem};
use crate::kernel::KernelConfig;

/// What an image needs of the kernel: that it takes an initramfs, compressed as `compress` says, and loads modules.
pub fn config(config: &KernelConfig, compress: Format) -> Vec<Problem> {
    const NEEDED: [(&str, &str); 5] = [
        ("MODULES", "it loads no modules"),
        ("BLK_DEV_INITRD", "it takes no initramfs"),
        ("DEVTMPFS", "there will be no devices in /dev"),
        ("PROC_FS", "there will be no /proc"),
        ("SYSFS", "there will be no /sys"),
    ];
    let unpacks = match compress {
        Format::Plain => None,
        Format::Gzip => Some("RD_GZIP"),
        Format::Xz => Some("RD_XZ"),
        Format::Zstd => Some("RD_ZSTD"),
    };
    let unpacks = unpacks.map(|option| (option, "it cannot decompress the image"));
    let missing = NEEDED.into_iter().chain(unpacks).filter(|(option, _)| !config.has(option));
    let problem = |(option, cause): (&str, &str)| {
        let mut remedy = format!("build the kernel with CONFIG_{option}");
        if option.starts_with("RD_") {
            remedy += ", or choose another --compress";
        }
        let cause = format!("{cause}: CONFIG_{option} is not set");
        Problem::new(Kind::Config, &config.file.display().to_string(), cause, remedy)
    };
    missing.map(problem).collect()
}

/// What a file of firmware that is compressed needs of the kernel, where it has not got that.
pub fn unreadable_firmware(config: &KernelConfig, name: &str) -> Option<&'static str> {
    // Up to Linux 5.18 the first alone was for xz.
    let xz = config.has("FW_LOADER_COMPRESS_XZ")
        || config.has("FW_LOADER_COMPRESS") && !config.has("FW_LOADER_COMPRESS_ZSTD");
    if name.ends_with(".xz") {
        (!xz).then_some("CONFIG_FW_LOADER_COMPRESS_XZ")
    } else if name.ends_with(".zst") {
        (!config.has("FW_LOADER_COMPRESS_ZSTD")).then_some("CONFIG_FW_LOADER_COMPRESS_ZSTD")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BASE: &str =
        "CONFIG_MODULES=y\nCONFIG_BLK_DEV_INITRD=y\nCONFIG_PROC_FS=y\nCONFIG_SYSFS=y\nCONFIG_RD_GZIP=y\n";

    #[test]
    fn what_a_kernel_cannot_do_is_named() {
        let with = |text: &str| KernelConfig::parse(Path::new("config"), &(BASE.to_string() + text));
        let whole = with("CONFIG_DEVTMPFS=y\n");
        assert_eq!((config(&whole, Format::Plain), config(&whole, Format::Gzip)), (vec![], vec![]));
        let told = |problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect::<Vec<_>>();
        assert_eq!(
            told(config(&whole, Format::Zstd)),
            [
                "config: it cannot decompress the image: CONFIG_RD_ZSTD is not set: build the kernel with CONFIG_RD_ZSTD, or choose \
              another --compress"
            ]
        );
        assert_eq!(
            told(config(&with(""), Format::Plain)),
            [
                "config: there will be no devices in /dev: CONFIG_DEVTMPFS is not set: build the kernel with CONFIG_DEVTMPFS"
            ]
        );
    }

    #[test]
    fn compressed_firmware_needs_its_option() {
        let with = |text: &str| KernelConfig::parse(Path::new("config"), text);
        let says = |text: &str, name| unreadable_firmware(&with(text), name);
        let debian12 = "CONFIG_FW_LOADER_COMPRESS=y\nCONFIG_FW_LOADER_COMPRESS_XZ=y\n";
        assert_eq!(says(debian12, "a.bin.zst"), Some("CONFIG_FW_LOADER_COMPRESS_ZSTD"));
        assert_eq!((says(debian12, "a.bin.xz"), says(debian12, "a.bin")), (None, None));
        assert_eq!(says("CONFIG_FW_LOADER_COMPRESS=y\n", "a.xz"), None);
        assert_eq!(says("", "a.xz"), Some("CONFIG_FW_LOADER_COMPRESS_XZ"));
    }
}
