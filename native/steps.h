/* SPDX-License-Identifier: GPL-3.0-or-later */
/* steps.h: the interpreter of a plan's in-namespace steps, and what it shares with its callers. */
#ifndef MINIPOD_STEPS_H
#define MINIPOD_STEPS_H

#include <sys/types.h>

#include "wire.h"

/* A plan as received: pointers into one read-only mapping. */
struct plan {
  const struct mp_launch *head;
  const struct mp_step *steps;
  const char *strings;
};

/* The state of a child between clone and exec. */
struct child {
  struct plan plan;
  int slots[MP_SLOTS];
  int report;     /* the SEQPACKET end towards the shim */
  dev_t self_dev; /* our own executable, which no container may be made to run (CVE-2019-5736) */
  ino_t self_ino;
  int detail; /* element of the list step in progress */
};

/* Check every offset and count of a plan of `size` bytes. Returns 0 or -EBADMSG. */
int plan_validate(struct plan *plan, const void *data, size_t size);

/* Run all steps in order. Only returns on failure: the step's number and -errno are then in *step and the result. */
int steps_run(struct child *child, unsigned *step);

/* Send a report with an optional fd. */
int report_send(int sock, uint32_t type, int step, int err, int detail, int fd);

/* Write below a procfs that we mounted ourselves, and nowhere else. */
int proc_write(int procfs, const char *name, const char *value);

/* A pod's user namespace (users.c). */
int users_make(int procfs, uint64_t first, uint64_t count); /* its fd; ids 0 … count-1 are first … outside */
int users_enter(int fd);                                    /* become its root, with every capability in it */
int users_own_files(uint64_t uid, uint64_t gid);            /* what we make from here on belongs to uid:gid */
int users_map_tree(int tree, int users);                    /* show a detached mount's ids as in `users` */

/* Paths below a root, never out of it (paths.c). */
int path_open(int root, const char *path, int flags, int no_symlinks);
int path_parent(int root, const char *path, int no_symlinks, const char **leaf);
int path_make_dirs(int root, const char *path, mode_t mode, int no_symlinks);

/* List and blob access; the offsets were validated. */
static inline const char *plan_str(const struct plan *plan, uint32_t offset) { return plan->strings + offset; }

#endif
