/* SPDX-License-Identifier: GPL-3.0-or-later */
/* step.h: what the steps in step_*.c share: their one shape, slots and operands. Each is named in steps.c's table. */
#ifndef MINIPOD_STEP_H
#define MINIPOD_STEP_H

#include <unistd.h>

#include "steps.h"

/* Do one step. Returns 0 or -errno. */
typedef int step_fn(struct child *c, const struct mp_step *s);

step_fn do_chdir, do_close_range, do_exec, do_exec_fd;                                  /* step_exec.c */
step_fn do_open, do_netlink, do_send_fd, do_mkdir, do_mknod, do_symlink, do_write_file; /* step_files.c */
step_fn do_propagation, do_attach, do_setattr, do_mask, do_readonly, do_pivot_root;     /* step_places.c */
step_fn do_apparmor, do_identity, do_capabilities, do_no_new_privs, do_seccomp;         /* step_privileges.c */
step_fn do_harden, do_cgroup_join, do_unshare, do_setns, do_userns, do_enter_userns, do_own_files, do_setsid,
    do_keyring, do_rlimit, do_oom_score_adj, do_sysctl, do_hostname, do_link_up; /* step_process.c */
step_fn do_open_pty, do_stdio, do_stdio_owner;                                   /* step_stdio.c */
step_fn do_fs, do_overlay, do_open_tree;                                         /* step_trees.c */

static inline int slot_get(const struct child *c, int64_t slot) { return slot < 0 ? -1 : c->slots[slot]; }

static inline void slot_set(struct child *c, int16_t slot, int fd) {
  if (slot < 0) {
    close(fd);
    return;
  }
  if (c->slots[slot] >= 0) close(c->slots[slot]);
  c->slots[slot] = fd;
}

static inline const char *text(const struct child *c, const struct mp_step *s, int i) {
  return plan_str(&c->plan, s->str[i]);
}

static inline int no_symlinks(const struct mp_step *s) { return (s->flags & MP_F_NO_SYMLINKS) != 0; }

#endif
