# For modest_initramfs.bbclass, which has the function. Defined there, the classes of image types would override this.
IMAGE_CMD:cpio() {
    modest_cpio
}
