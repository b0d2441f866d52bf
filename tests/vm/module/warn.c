// SPDX-License-Identifier: GPL-2.0
/* A WARN, of a process and of a work item. */
#include <linux/bug.h>
#include <linux/kernel.h>
#include <linux/workqueue.h>

#include "texts.h"

/* fall.c has one of this name too. */
static noinline int step(const char *word)
{
	return WARN(word[0] == 'w', "ksyms_texts: asked to, by %ps\n", texts_outer) + 1;
}

static void texts_work(struct work_struct *work)
{
	step("work");
}

static DECLARE_WORK(work, texts_work);

int texts_warn(const char *word)
{
	int level = step(word) + 1;

	schedule_work(&work);
	flush_work(&work);
	return level;
}
