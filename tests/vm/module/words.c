// SPDX-License-Identifier: GPL-2.0
/*
 * A module that does, when its name is written to /sys/kernel/debug/ksyms_texts, what the
 * kernel prints a text about: "oops", "bug" and "warning"; "spin" until it is killed; and
 * "wait", asleep in a way that no signal ends. A hexadecimal address is printed beside the
 * name that the kernel has for it.
 */
#include <linux/debugfs.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "texts.h"

static struct dentry *file;

static noinline int texts_spin(const char *word)
{
	while (!signal_pending(current)) {
		cpu_relax();
		cond_resched();
	}
	return word[0];
}

static noinline int texts_wait(const char *word)
{
	set_current_state(TASK_UNINTERRUPTIBLE);
	schedule();
	return word[0];
}

static noinline int texts_print(const char *word)
{
	unsigned long address;

	if (kstrtoul(word, 16, &address))
		return -EINVAL;
	pr_info("texts: %px is %pS\n", (void *)address, (void *)address);
	return 1;
}

/* An exported function, with whatever is next below it on the stack. */
noinline int texts_outer(int (*inner)(const char *word), const char *word)
{
	return inner(word) + 1;
}
EXPORT_SYMBOL_GPL(texts_outer);

static const struct {
	const char *word;
	int (*inner)(const char *word);
} words[] = {
	{ "oops", texts_fall }, { "bug", texts_bug },	{ "warning", texts_warn },
	{ "spin", texts_spin }, { "wait", texts_wait },
};

static ssize_t texts_write(struct file *unused, const char __user *text, size_t size,
			   loff_t *offset)
{
	int (*inner)(const char *word) = texts_print;
	char word[32] = "";
	int i;

	if (size >= sizeof(word))
		return -EINVAL;
	if (copy_from_user(word, text, size))
		return -EFAULT;
	for (i = 0; i < ARRAY_SIZE(words); i++)
		if (!strcmp(word, words[i].word))
			inner = words[i].inner;
	return texts_outer(inner, word) < 0 ? -EINVAL : size;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.write = texts_write,
};

static int __init texts_init(void)
{
	file = debugfs_create_file("ksyms_texts", 0200, NULL, NULL, &operations);
	return PTR_ERR_OR_ZERO(file);
}

static void __exit texts_exit(void)
{
	debugfs_remove(file);
}

module_init(texts_init);
module_exit(texts_exit);
MODULE_DESCRIPTION("Falls over on request, for the texts that ksyms decodes");
MODULE_LICENSE("GPL");
