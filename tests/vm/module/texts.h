/* SPDX-License-Identifier: GPL-2.0 */
/* What each file of the module gives the others. */
#ifndef KSYMS_TEXTS_H
#define KSYMS_TEXTS_H

int texts_fall(const char *word);
int texts_bug(const char *word);
int texts_warn(const char *word);
int texts_outer(int (*inner)(const char *word), const char *word);

#endif
