SUMMARY = "Maker of initramfs images with modest as their init"
DESCRIPTION = "Resolves a manifest's modules on the build host as modprobe would, checks that the kernel would take them, \
               and makes a reproducible initramfs of them. The class modest_initramfs runs it."
SECTION = "devel"
DEPENDS = "zstd"

require modest.inc
inherit pkgconfig

# The library above, and not the one in the crate: what some releases' class says, for all of them.
export ZSTD_SYS_USE_PKG_CONFIG = "1"

CARGO_BUILD_FLAGS:append = " -p mkmodest"

BBCLASSEXTEND = "native nativesdk"
