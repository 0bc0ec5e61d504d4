// SPDX-License-Identifier: GPL-2.0
/* Exports what modest_symbol needs, and counts for modest_errno. */
#include <linux/export.h>
#include <linux/module.h>

extern int modest_runs;
int modest_exported(void);
int modest_exported(void)
{
	return 42;
}
EXPORT_SYMBOL_GPL(modest_exported);

int modest_runs;
EXPORT_SYMBOL_GPL(modest_runs);

MODULE_DESCRIPTION("Exports modest_exported and modest_runs");
MODULE_LICENSE("GPL");
