# nooelint: oelint.var.suggestedvar.BUGTRACKER,oelint.var.suggestedvar.CVE_PRODUCT
# An image has no bugs beyond those of its recipes.
SUMMARY = "Initramfs with modest as its init, for QEMU's machines"
DESCRIPTION = "Loads what an ext4 root on a virtio disk needs and the kernel does not have built in, and starts the init of the root \
               that the kernel command line names. Copy this recipe to begin your own."
SECTION = "base"
LICENSE = "MIT"

inherit modest_initramfs

MODEST_MODULES = "virtio_mmio virtio_pci virtio_blk ext4"
