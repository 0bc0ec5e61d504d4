// SPDX-License-Identifier: GPL-2.0
/* Its init asks for firmware, and fails as that does; drivers that do so in a probe only lose their device. */
#include <linux/device.h>
#include <linux/err.h>
#include <linux/firmware.h>
#include <linux/init.h>
#include <linux/module.h>

static int __init modest_firmware_init(void)
{
	struct device *chip = root_device_register("modest-chip");
	const struct firmware *firmware;
	int err;

	if (IS_ERR(chip))
		return PTR_ERR(chip);
	err = request_firmware(&firmware, "modest/chip.bin", chip);
	if (!err) {
		pr_info("modest_firmware: %zu bytes\n", firmware->size);
		release_firmware(firmware);
	}
	root_device_unregister(chip);
	return err;
}
module_init(modest_firmware_init);

static void __exit modest_firmware_exit(void)
{
}
module_exit(modest_firmware_exit);

MODULE_DESCRIPTION("Needs firmware");
MODULE_FIRMWARE("modest/chip.bin");
MODULE_LICENSE("GPL");
