// SPDX-License-Identifier: GPL-2.0
/* Needs a symbol of modest_sleep, and so waits for its init. */
#include <linux/init.h>
#include <linux/module.h>

int modest_sleep_ms(void);

static int __init modest_slept_init(void)
{
	pr_info("modest_slept: after %d ms\n", modest_sleep_ms());
	return 0;
}
module_init(modest_slept_init);

static void __exit modest_slept_exit(void)
{
}
module_exit(modest_slept_exit);

MODULE_DESCRIPTION("Needs modest_sleep_ms");
MODULE_LICENSE("GPL");
