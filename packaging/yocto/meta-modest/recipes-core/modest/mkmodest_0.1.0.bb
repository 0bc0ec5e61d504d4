SUMMARY = "Makes initramfs images with modest as their init"
DESCRIPTION = "Resolves a manifest's modules on the build host as modprobe would, checks that the kernel would load them, \
               and makes a reproducible initramfs of them. The class modest_initramfs runs it."
SECTION = "devel"
DEPENDS = "zstd"

require modest.inc
inherit pkgconfig

# The library above instead of the one in the crate: some releases' class says so, this says it for all.
export ZSTD_SYS_USE_PKG_CONFIG = "1"

CARGO_BUILD_FLAGS:append = " -p mkmodest"

# scarthgap's class would install the library too.
do_install() {
    install -d ${D}${bindir}
    install -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/mkmodest ${D}${bindir}/mkmodest
}

BBCLASSEXTEND = "native nativesdk"
