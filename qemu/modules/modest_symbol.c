// SPDX-License-Identifier: GPL-2.0
/* Needs a symbol of modest_export. */
#include <linux/init.h>
#include <linux/module.h>

int modest_exported(void);

static int __init modest_symbol_init(void)
{
	pr_info("modest_symbol: modest_exported() is %d\n", modest_exported());
	return 0;
}
module_init(modest_symbol_init);

static void __exit modest_symbol_exit(void)
{
}
module_exit(modest_symbol_exit);

MODULE_DESCRIPTION("Needs modest_exported");
MODULE_LICENSE("GPL");
