/* SPDX-License-Identifier: GPL-2.0 */
#include <linux/types.h>

struct big_setting {
	u32 address;
	u32 value;
};

struct big_chip {
	const char *name;
	const struct big_setting *settings;
	u32 len;
	u32 (*setup)(const struct big_chip *chip, u32 sum);
};

extern const struct big_chip big_chips[];
extern const u32 big_chips_len, big_sum;
