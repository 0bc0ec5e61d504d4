# nooelint: oelint.var.bbclassextend
# It loads modules into the kernel of the machine it runs on: neither the build host nor an SDK needs it.
SUMMARY = "Loader of kernel modules for an initramfs"
DESCRIPTION = "One small static program, without libc, that is init in an initramfs: it reads a manifest, \
               loads the kernel modules that it lists, reports the cause of each failure, and starts the next init."
SECTION = "base"

require modest.inc

# Its features; the project's README.md describes them.
PACKAGECONFIG ??= "explain gzip names xz zstd"
PACKAGECONFIG[explain] = "--features explain"
PACKAGECONFIG[gzip] = "--features gzip"
PACKAGECONFIG[names] = "--features names"
PACKAGECONFIG[xz] = "--features xz"
PACKAGECONFIG[zstd] = "--features zstd"

# The classes of some releases read CARGO_PROFILE, others the other two.
CARGO_PROFILE = "size"
BUILD_MODE = "--profile=${CARGO_PROFILE}"
BUILD_DIR = "${CARGO_PROFILE}"
# scarthgap's class leaves PACKAGECONFIG to the recipe; the others pass it too, which does no harm.
CARGO_BUILD_FLAGS:append = " -p modest-init --no-default-features ${PACKAGECONFIG_CONFARGS}"

# RUSTFLAGS replace those in the project's src/init/flags.toml, which explains them; the class's linker is a compiler.
# The last one keeps the paths of this machine out of the program, where they would take space.
RUSTFLAGS:append = " \
    -Crelocation-model=static \
    -Crelro-level=off \
    -Cforce-unwind-tables=no \
    --cfg=sha2_backend=\"soft\" \
    --cfg=sha2_backend_soft=\"compact\" \
    --remap-path-prefix=${CARGO_VENDORING_DIRECTORY}/= \
"
RUSTFLAGS:append:aarch64 = " -Ccode-model=tiny -Cllvm-args=-enable-post-misched=false"

do_install() {
    install -d ${D}${base_sbindir}
    install -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/modest ${D}${base_sbindir}/modest
}

# The profile strips it; nothing is left for a debugger.
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"

# The processors that it supports.
COMPATIBLE_HOST = "(aarch64|arm|riscv64).*-linux"
