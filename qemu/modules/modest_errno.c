// SPDX-License-Identifier: GPL-2.0
/* Its init fails with errno=, and says each time that it runs, so that a log shows how often. With times= it fails so often
 * only; modest_export, which must be there, counts. */
#include <linux/init.h>
#include <linux/module.h>

extern int modest_runs;

static int err = 19; /* ENODEV; `errno` is a macro in places */
module_param_named(errno, err, int, 0444);
static int times;
module_param(times, int, 0444);

static int __init modest_errno_init(void)
{
	int *runs = symbol_get(modest_runs);
	int run = runs ? ++*runs : 0;

	if (runs)
		symbol_put(modest_runs);
	pr_info("modest_errno: init\n");
	return times && run > times ? 0 : -err;
}
module_init(modest_errno_init);

static void __exit modest_errno_exit(void)
{
}
module_exit(modest_errno_exit);

MODULE_DESCRIPTION("Fails as it is told");
MODULE_LICENSE("GPL");
