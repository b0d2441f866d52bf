// SPDX-License-Identifier: GPL-2.0
/* A module with long functions, to lie where another's init functions were. */
#include <linux/init.h>
#include <linux/module.h>

noinline int after_long(int value)
{
	asm volatile(".skip 1600, 0x90");
	return value + 1;
}

noinline int after_short(int value)
{
	asm volatile("");
	return value + 2;
}

noinline int after_longer(int value)
{
	asm volatile(".skip 5000, 0x90");
	return value + 3;
}

static int __init after_init(void)
{
	return after_long(0) + after_short(0) + after_longer(0) == 6 ? 0 : -EINVAL;
}

static void __exit after_exit(void)
{
}

module_init(after_init);
module_exit(after_exit);
MODULE_DESCRIPTION("Lies where freed functions were");
MODULE_LICENSE("GPL");
