// SPDX-License-Identifier: GPL-2.0
/* A NULL dereference and a BUG, a few functions deep. */
#include <linux/bug.h>
#include <linux/kernel.h>

#include "texts.h"

static int *volatile nowhere;

/* warn.c has one of this name too. */
static noinline int step(const char *word)
{
	return *nowhere + word[0];
}

static noinline int middle(const char *word)
{
	return step(word) + 1;
}

int texts_fall(const char *word)
{
	return middle(word) + 1;
}

int texts_bug(const char *word)
{
	BUG_ON(word[0] == 'b');
	return 1;
}
