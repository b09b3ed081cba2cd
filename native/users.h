/* SPDX-License-Identifier: GPL-3.0-or-later */
/* users.h: a pod's user namespace. All return a result or -errno. */
#ifndef MINIPOD_USERS_H
#define MINIPOD_USERS_H

#include <stdint.h>

int users_make(int procfs, uint64_t first, uint64_t count); /* its fd; ids 0 … count-1 are first … outside */
int users_enter(int fd);                                    /* become its root, with every capability in it */
int users_own_files(uint64_t uid, uint64_t gid);            /* what we make from here on belongs to uid:gid */
int users_map_tree(int tree, int users);                    /* show a detached mount's ids as in `users` */

#endif
