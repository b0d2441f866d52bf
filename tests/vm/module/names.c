// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel calls addresses, all of one moment: a list of 64-bit addresses is written to
 * /sys/kernel/debug/ksyms_names at once, and read back as text, a line each, by %pS.
 */
#include <linux/debugfs.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#define LINE 640 /* KSYM_SYMBOL_LEN is 512 and some */
#define MOST 8192

DEFINE_PER_CPU(u64, ksyms_names_percpu);
static struct dentry *file;
static char *text;
static size_t length;

static ssize_t names_write(struct file *unused, const char __user *data, size_t size,
			   loff_t *offset)
{
	size_t count = size / sizeof(u64), i;
	u64 *addresses;

	if (!count || count > MOST || size % sizeof(u64))
		return -EINVAL;
	addresses = vmalloc(size);
	if (!addresses)
		return -ENOMEM;
	if (copy_from_user(addresses, data, size)) {
		vfree(addresses);
		return -EFAULT;
	}
	length = 0;
	for (i = 0; i < count; i++)
		length += scnprintf(text + length, LINE, "%pS\n", (void *)addresses[i]);
	this_cpu_inc(ksyms_names_percpu);
	vfree(addresses);
	return size;
}

static ssize_t names_read(struct file *unused, char __user *data, size_t size, loff_t *offset)
{
	return simple_read_from_buffer(data, size, offset, text, length);
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.read = names_read,
	.write = names_write,
};

static int __init names_init(void)
{
	text = vmalloc(LINE * MOST);
	if (!text)
		return -ENOMEM;
	file = debugfs_create_file("ksyms_names", 0600, NULL, NULL, &operations);
	return PTR_ERR_OR_ZERO(file);
}

static void __exit names_exit(void)
{
	debugfs_remove(file);
	vfree(text);
}

module_init(names_init);
module_exit(names_exit);
MODULE_DESCRIPTION("Says what the kernel calls addresses");
MODULE_LICENSE("GPL");
