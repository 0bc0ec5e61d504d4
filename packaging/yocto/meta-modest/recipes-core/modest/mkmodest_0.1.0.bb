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

# scarthgap's class would install the library too.
do_install() {
    install -d ${D}${bindir}
    install -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/mkmodest ${D}${bindir}/mkmodest
}

BBCLASSEXTEND = "native nativesdk"
