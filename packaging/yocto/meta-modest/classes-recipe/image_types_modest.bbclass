# For modest_initramfs.bbclass, which has the function: defined there, this would not outlast the classes of image types.
IMAGE_CMD:cpio() {
    modest_cpio
}
