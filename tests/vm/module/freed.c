// SPDX-License-Identifier: GPL-2.0
/* A module with init functions of two pages, which ftrace remembers once they are freed. */
#include <linux/init.h>
#include <linux/module.h>

#define STEP(n)                                                        \
	static noinline int __init freed_step_##n(int value)          \
	{                                                              \
		asm volatile(".skip " #n "00, 0x90");                 \
		return value + n;                                      \
	}

STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8)

noinline int freed_stays(int value)
{
	asm volatile("");
	return value;
}

static int __init freed_init(void)
{
	int value = freed_step_1(0) + freed_step_2(0) + freed_step_3(0) + freed_step_4(0);

	value += freed_step_5(0) + freed_step_6(0) + freed_step_7(0) + freed_step_8(0);
	return freed_stays(value) == 36 ? 0 : -EINVAL;
}

static void __exit freed_exit(void)
{
}

module_init(freed_init);
module_exit(freed_exit);
MODULE_DESCRIPTION("Leaves freed functions in kallsyms");
MODULE_LICENSE("GPL");
