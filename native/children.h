/* SPDX-License-Identifier: GPL-3.0-or-later */
/* children.h: what comes from the processes themselves: their reports until exec, and their ends. */
#ifndef MINIPOD_CHILDREN_H
#define MINIPOD_CHILDREN_H

/* Take in what a child reports between clone and exec. */
void child_report(int index);

/*
 * Reap everything that ended, ours and the orphans of the pod; exit records go into the directory `records`. Returns how
 * many children are left (0 or 1).
 */
int children_reap(int records);
void children_kill(void);

#endif
