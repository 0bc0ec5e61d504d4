# Makes an initramfs that has modest as its init, and the modules of its manifest with what they need. An image recipe
# inherits it, and INITRAMFS_IMAGE names that recipe. INITRAMFS_IMAGE_BUNDLE works too, since the modules come from the
# kernel's packages, which exist before the kernel is deployed.
#
# The image's rootfs does not become the initramfs: it is where mkmodest finds the program, all of the kernel's modules,
# files of modprobe.d and firmware. What mkmodest makes of it replaces the cpio archive.
#
# The manifest:
#   MODEST_MODULES   modules to load, in this order: names, aliases, or paths in the tree. modest also loads what they
#                    need, as modprobe resolves it
#   MODEST_BUDGET    the limit of the loader's own memory, such as 512K. None if empty
#   MODEST_ON_ERROR  what to do after a failure: continue, stop, reboot or exec PATH. continue if empty
#   MODEST_HAND_OVER how the boot goes on: @switch-root, which is the default, or @exec PATH
#   MODEST_MANIFEST  a manifest (docs/manifest.md) that replaces MODEST_MODULES, for parameters and attributes: the absolute
#                    path of a file, such as ${THISDIR}/files/my.manifest. It overrides the other three
#   MODEST_BOARD     a board file (boards/ of the project) that replaces all of these but MODEST_MANIFEST: the absolute path
#                    of a file
# What else is in the image:
#   MODEST_INCLUDE   modules that devices may ask for later (docs/images.md): names, aliases, or patterns of paths
#   MODEST_PACKAGES  packages to take modules, firmware and files of modprobe.d from; by default all modules of the kernel,
#                    and no firmware
#   MODEST_ARGS      more arguments of `mkmodest image`, such as --pin, --modules-as gzip, --require-firmware

MODEST_MODULES ?= ""
MODEST_BUDGET ?= ""
MODEST_ON_ERROR ?= ""
MODEST_HAND_OVER ?= "@switch-root"
MODEST_MANIFEST ?= ""
MODEST_BOARD ?= ""
MODEST_INCLUDE ?= ""
MODEST_PACKAGES ?= "kernel-base kernel-modules"
MODEST_ARGS ?= ""

IMAGE_FSTYPES = "${INITRAMFS_FSTYPES}"
# INITRAMFS_IMAGE has no suffix.
IMAGE_NAME_SUFFIX = ""
IMAGE_FEATURES = ""
IMAGE_LINGUAS = ""
# The command below would make it of the rootfs.
IMAGE_GEN_DEBUGFS = "0"
# kernel-base recommends the kernel's image.
NO_RECOMMENDATIONS = "1"
PACKAGE_INSTALL = "modest ${MODEST_PACKAGES}"
# Inherited after oe-core's image_types, whose command for cpio it replaces.
IMAGE_CLASSES += "image_types_modest"
# The limit would apply to the rootfs, which has all modules.
INITRAMFS_MAXSIZE = ""

inherit image

# The board file made of the variables. JSON strings are TOML strings.
def modest_board(d):
    import json

    arch = d.getVar("TARGET_ARCH")
    lines = {
        "description": d.getVar("SUMMARY"),
        "arch": {"arm": "armv7"}.get(arch, arch),
        "modules": d.getVar("MODEST_MODULES").split(),
        "cmdline": "",
        "hand-over": d.getVar("MODEST_HAND_OVER"),
        "on-error": d.getVar("MODEST_ON_ERROR"),
        "budget": d.getVar("MODEST_BUDGET"),
    }
    optional = ("on-error", "budget")
    text = ["%s = %s" % (key, json.dumps(value)) for key, value in lines.items() if value or key not in optional]
    # A board file also describes the board in QEMU; nothing here uses that.
    text += ["[[kernel]]", 'name = "yocto"', 'build = "yocto"']
    text += ["[qemu]", 'program = ""', "args = []", 'disk = "none"', "timeout-s = 0"]
    return "\n".join(text)

modest_cpio() {
    board="${MODEST_BOARD}"
    if [ -z "$board" ]; then
        board=${WORKDIR}/${IMAGE_BASENAME}.toml
        cat > "$board" <<'MODEST_BOARD_FILE'
${@modest_board(d)}
MODEST_BOARD_FILE
    fi
    set --
    for folder in ${IMAGE_ROOTFS}${sysconfdir}/modprobe.d ${IMAGE_ROOTFS}${nonarch_base_libdir}/modprobe.d; do
        [ ! -d "$folder" ] || set -- "$@" --config "$folder"
    done
    folder=${IMAGE_ROOTFS}${nonarch_base_libdir}/firmware
    [ ! -d "$folder" ] || set -- "$@" --firmware "$folder"
    [ -z "${MODEST_MANIFEST}" ] || set -- "$@" --manifest "${MODEST_MANIFEST}"
    # mkmodest expands the patterns, not the shell.
    set -f
    for module in ${MODEST_INCLUDE}; do
        set -- "$@" --include "$module"
    done
    set +f
    mkmodest image "$board" --kernel-modules ${IMAGE_ROOTFS}${root_prefix} --init ${IMAGE_ROOTFS}${base_sbindir}/modest \
        "$@" ${MODEST_ARGS} --output ${IMGDEPLOYDIR}/${IMAGE_NAME}.cpio
}
modest_cpio[doc] = "Makes the archive"

do_image[depends] += "mkmodest-native:do_populate_sysroot"
do_image[file-checksums] += "${@' '.join('%s:True' % d.getVar(name) for name in ('MODEST_MANIFEST', 'MODEST_BOARD') if d.getVar(name))}"

# Any other type would be made of the rootfs.
python modest_check_types() {
    for kind in d.getVar("IMAGE_FSTYPES").split():
        if kind.split(".")[0] != "cpio":
            bb.fatal("INITRAMFS_FSTYPES has %s; modest_initramfs makes cpio archives, compressed or not" % kind)
}
modest_check_types[doc] = "Refuses formats other than cpio"
do_image[prefuncs] += "modest_check_types"
