// SPDX-License-Identifier: GPL-2.0
/* Exports what modest_symbol needs. */
#include <linux/export.h>
#include <linux/module.h>

int modest_exported(void);
int modest_exported(void)
{
	return 42;
}
EXPORT_SYMBOL_GPL(modest_exported);

MODULE_DESCRIPTION("Exports modest_exported");
MODULE_LICENSE("GPL");
