// SPDX-License-Identifier: GPL-2.0
/* Its init never returns, and nothing ends it; with killable=1 a fatal signal does. */
#include <linux/completion.h>
#include <linux/init.h>
#include <linux/module.h>

static bool killable;
module_param(killable, bool, 0444);

static DECLARE_COMPLETION(never);

static int __init modest_hang_init(void)
{
	int err = 0;

	pr_info("modest_hang: init\n");
	if (killable)
		err = wait_for_completion_killable(&never);
	else
		wait_for_completion(&never);
	pr_info("modest_hang: %d\n", err);
	return err ? -EINTR : 0;
}
module_init(modest_hang_init);

static void __exit modest_hang_exit(void)
{
}
module_exit(modest_hang_exit);

MODULE_DESCRIPTION("Never ends");
MODULE_LICENSE("GPL");
