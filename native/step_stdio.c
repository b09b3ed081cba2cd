// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * step_stdio.c: steps for standard input and output: a terminal, fds 0, 1 and 2, and whose they are.
 */
#define _GNU_SOURCE 1
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "paths.h"
#include "report.h"
#include "step.h"
#include "sys.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

int do_open_pty(struct child *c, const struct mp_step *s) {
  struct winsize size = {.ws_row = (unsigned short)s->num[0], .ws_col = (unsigned short)s->num[1]};
  int unlock = 0, r;
  /* The container's own devpts; the slave comes from the master's fd, never from a path (TIOCGPTPEER). */
  _cleanup_fd_ int master = path_open(slot_get(c, s->root), "/dev/pts/ptmx", O_RDWR | O_NOCTTY, 1);
  if (master < 0) return master;
  if (ioctl(master, TIOCSPTLCK, &unlock) < 0) return -errno;
  _cleanup_fd_ int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) return -errno;
  if (size.ws_row && ioctl(slave, TIOCSWINSZ, &size) < 0) return -errno;
  if (s->flags & MP_F_CONSOLE) {
    const char *leaf;
    _cleanup_fd_ int dir = path_parent(slot_get(c, s->root), "/dev/console", 1, &leaf);
    if (dir < 0) return dir;
    _cleanup_fd_ int at = openat(dir, leaf, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0600);
    if (at < 0) return -errno;
    _cleanup_fd_ int tree = sys_open_tree(slave, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
    if (tree < 0) return tree;
    r = sys_move_mount(tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    if (r < 0) return r;
  }
  if ((r = report_send(c->report, MP_REPORT_FD, (int)s->index, 0, 0, master)) < 0) return r;
  slot_set(c, s->out, steal_fd(&slave));
  return 0;
}

int do_stdio(struct child *c, const struct mp_step *s) {
  for (int i = 0; i < 3; i++) {
    int fd = slot_get(c, (int64_t)s->num[i]);
    c->detail = i;
    /* Our own fds are all above 2 (the shim sees to it), so nothing is overwritten here. */
    if (dup2(fd, i) < 0) return -errno;
  }
  if ((s->flags & MP_F_CTTY) && ioctl(0, TIOCSCTTY, 0) < 0) return -errno;
  return 0;
}

/* Whether fd is an anonymous pipe, or our own controlling terminal: not a FIFO of the host, nor its user's terminal. */
static int is_own_stdio(int fd) {
  struct statfs fs;
  pid_t sid;
  if (fstatfs(fd, &fs) < 0) return -errno;
  return fs.f_type == PIPEFS_MAGIC || (ioctl(fd, TIOCGSID, &sid) == 0 && sid == getsid(0));
}

int do_stdio_owner(struct child *c, const struct mp_step *s) {
  (void)c;
  for (int fd = 0; fd < 3; fd++) {
    /* So that /dev/stdout can be opened again by the new user. */
    int own = is_own_stdio(fd);
    if (own < 0) return own;
    if (own && fchown(fd, (uid_t)s->num[0], (gid_t)-1) < 0) return -errno;
  }
  return 0;
}
