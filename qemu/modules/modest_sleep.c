// SPDX-License-Identifier: GPL-2.0
/* Its init takes ms= milliseconds. */
#include <linux/delay.h>
#include <linux/init.h>
#include <linux/module.h>

static unsigned int ms = 1000;
module_param(ms, uint, 0444);

static int __init modest_sleep_init(void)
{
	pr_info("modest_sleep: init, %u ms\n", ms);
	msleep(ms);
	pr_info("modest_sleep: done\n");
	return 0;
}
module_init(modest_sleep_init);

static void __exit modest_sleep_exit(void)
{
}
module_exit(modest_sleep_exit);

MODULE_DESCRIPTION("Takes its time");
MODULE_LICENSE("GPL");
