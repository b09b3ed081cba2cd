/* SPDX-License-Identifier: GPL-3.0-or-later */
/* launch.h: from a received plan to a running clone. */
#ifndef MINIPOD_LAUNCH_H
#define MINIPOD_LAUNCH_H

#include <sys/types.h>

#include "plan.h"

/* What the shim is, found out once at its start and handed to each child. */
struct shim_self {
  int pause_fd;  /* the pause executable, in a sealed memfd */
  int pid_ns;    /* our own PID namespace, to come back to */
  int null_fd;   /* /dev/null */
  dev_t exe_dev; /* our own executable */
  ino_t exe_ino;
};

/* What a launch leaves with the shim; all fds are owned by it, -1 is "none". */
struct launched {
  pid_t pid;
  int pidfd;
  int report;    /* reports until exec, then end of file */
  int stdout_fd; /* read ends of the container's pipes */
  int stderr_fd;
  int stdin_fd; /* write end, kept open so that a reader does not see its end */
};

/*
 * Clone a child that runs the plan. `fds` (count of them) fill the slots from 0 on and are closed; `join` is the
 * pidfd of the process that the plan joins, `user` its user namespace, and `pid_of` the pidfd of the process whose PID
 * namespace it shares if that is another; or -1. Returns 0 or -errno; on failure nothing is left behind.
 */
int launch(const struct shim_self *self, const struct plan *plan, int *fds, int count, int join, int pid_of, int user,
           struct launched *out);

#endif
