# nooelint: oelint.var.bbclassextend
# It loads modules into the kernel of the machine it runs on: none of the build host, nor of an SDK.
SUMMARY = "Loader of kernel modules for an initramfs"
DESCRIPTION = "One small static program, without libc, that is init in an initramfs: it reads a manifest, \
               puts the modules it names into the kernel, says what went wrong when something does, and hands over to the next init."
SECTION = "base"

require modest.inc

# What it can do; README.md of the project says what each is for.
PACKAGECONFIG ??= "explain gzip names xz zstd"
PACKAGECONFIG[explain] = "--features explain"
PACKAGECONFIG[gzip] = "--features gzip"
PACKAGECONFIG[names] = "--features names"
PACKAGECONFIG[xz] = "--features xz"
PACKAGECONFIG[zstd] = "--features zstd"

# The classes of some releases know CARGO_PROFILE, those of others the two others.
CARGO_PROFILE = "size"
BUILD_MODE = "--profile=${CARGO_PROFILE}"
BUILD_DIR = "${CARGO_PROFILE}"
# scarthgap's class leaves PACKAGECONFIG to the recipe; that the others' pass it too does no harm.
CARGO_BUILD_FLAGS:append = " -p modest-init --no-default-features ${PACKAGECONFIG_CONFARGS}"

# RUSTFLAGS take the place of those in the project's src/init/flags.toml, which explains them; the class's linker is a compiler. The last
# keeps the paths of this machine out of the program, which take up room there.
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

# The profile strips it, and nothing of it is left for a debugger.
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"

# The processors that it has code for.
COMPATIBLE_HOST = "(aarch64|arm|riscv64).*-linux"
