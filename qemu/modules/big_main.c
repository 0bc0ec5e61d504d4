// SPDX-License-Identifier: GPL-2.0
/*
 * A module with an image of about 3 MB that compresses like a large driver, and of which nearly all stays in memory:
 * big_tables.awk makes tables of register settings and functions that read them. Its init goes over all of it, so that
 * a byte in the wrong place shows.
 */
#include <linux/init.h>
#include <linux/module.h>
#include "big.h"

static int __init modest_big_init(void)
{
	u32 sum = 0, i;

	for (i = 0; i < big_chips_len; i++)
		sum = big_chips[i].setup(&big_chips[i], sum);
	pr_info("modest_big: %u chips, sum %u, expected %u\n", big_chips_len, sum, big_sum);
	return sum == big_sum ? 0 : -EIO;
}
module_init(modest_big_init);

static void __exit modest_big_exit(void)
{
}
module_exit(modest_big_exit);

MODULE_DESCRIPTION("Is big");
MODULE_LICENSE("GPL");
