# nooelint: oelint.var.suggestedvar.BUGTRACKER,oelint.var.suggestedvar.CVE_PRODUCT
# An image has no faults that its recipes have not.
SUMMARY = "Initramfs with modest as its init, for the machines that QEMU shows"
DESCRIPTION = "Loads what a root of ext4 on a virtio disk needs, as far as it is not built into the kernel, and moves to the root \
               that the kernel command line names. A recipe to begin one's own with."
SECTION = "base"
LICENSE = "MIT"

inherit modest_initramfs

MODEST_MODULES = "virtio_mmio virtio_pci virtio_blk ext4"
