# An initramfs that has modest as its init, and in it just the modules that its manifest asks for, with what these need. Used by a recipe of an
# image, which INITRAMFS_IMAGE then names; INITRAMFS_IMAGE_BUNDLE works too, since the modules are taken from the kernel's packages, which are there
# before the kernel is deployed.
#
# The image's rootfs is not what becomes the initramfs: it is where mkmodest finds the program, all of the kernel's modules, files of modprobe.d and
# firmware. What mkmodest makes of it takes the place of the cpio archive.
#
# What the manifest has:
#   MODEST_MODULES   modules to load, in this order: names, aliases, or paths in the tree. With what they need, as modprobe resolves it
#   MODEST_BUDGET    ceiling on the loader's own memory: 512K, say. None if empty
#   MODEST_ON_ERROR  what follows on a failure: continue, stop, reboot or exec PATH. The first if empty
#   MODEST_HAND_OVER how the boot goes on: @switch-root, which is the default, or @exec PATH
#   MODEST_MANIFEST  a manifest (docs/manifest.md) in place of MODEST_MODULES, for parameters and attributes: the absolute path of a file, such as
#                    ${THISDIR}/files/my.manifest. The other three hold as far as it does not say otherwise
#   MODEST_BOARD     a board file (boards/ of the project) in place of all of these but MODEST_MANIFEST: the absolute path of a file
# What else is in the image:
#   MODEST_INCLUDE   modules that devices may ask for later (docs/images.md): names, aliases, or patterns of paths
#   MODEST_PACKAGES  packages to take modules, firmware and files of modprobe.d from; by default all modules of the kernel, and no firmware
#   MODEST_ARGS      further arguments of `mkmodest image`: --pin, --modules-as gzip, --require-firmware, say

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
# It would be made of the rootfs by the command below.
IMAGE_GEN_DEBUGFS = "0"
# kernel-base recommends the kernel's image.
NO_RECOMMENDATIONS = "1"
PACKAGE_INSTALL = "modest ${MODEST_PACKAGES}"
# Inherited after oe-core's image_types, whose command for cpio it replaces.
IMAGE_CLASSES += "image_types_modest"
# The limit is held against the rootfs, which has all modules.
INITRAMFS_MAXSIZE = ""

inherit image

# The board file that stands for the variables. Strings of JSON are strings of TOML.
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
    # A board file says how QEMU shows it, too. This is for what it needs not.
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
    # Patterns are mkmodest's to read.
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

# Anything else would be made of the rootfs.
python modest_check_types() {
    for kind in d.getVar("IMAGE_FSTYPES").split():
        if kind.split(".")[0] != "cpio":
            bb.fatal("INITRAMFS_FSTYPES has %s; modest_initramfs makes cpio archives, compressed or not" % kind)
}
modest_check_types[doc] = "Refuses formats that are none of cpio"
do_image[prefuncs] += "modest_check_types"
