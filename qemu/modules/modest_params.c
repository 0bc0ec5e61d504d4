// SPDX-License-Identifier: GPL-2.0
/* Prints the parameters it was given, of each type, as the kernel understood them. */
#include <linux/init.h>
#include <linux/module.h>

static bool flag;
module_param(flag, bool, 0444);
static int number;
module_param(number, int, 0444);
static unsigned int count;
module_param(count, uint, 0444);
static char *text = "unset";
module_param(text, charp, 0444);
static char copy[16] = "unset";
module_param_string(copy, copy, sizeof(copy), 0444);
static int list[4];
static unsigned int list_len;
module_param_array(list, int, &list_len, 0444);

static int __init modest_params_init(void)
{
	unsigned int i;

	pr_info("modest_params: flag=%c number=%d count=%u\n", flag ? 'Y' : 'N', number, count);
	pr_info("modest_params: text=[%s] copy=[%s]\n", text, copy);
	pr_info("modest_params: list_len=%u\n", list_len);
	for (i = 0; i < list_len; i++)
		pr_info("modest_params: list[%u]=%d\n", i, list[i]);
	return 0;
}
module_init(modest_params_init);

static void __exit modest_params_exit(void)
{
}
module_exit(modest_params_exit);

MODULE_DESCRIPTION("Prints its parameters");
MODULE_LICENSE("GPL");
