// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * step_files.c: steps that open files, hand fds to the shim, and make directories, nodes, links and files below a root.
 */
#define _GNU_SOURCE 1
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "paths.h"
#include "report.h"
#include "step.h"
#include "sys.h"

int do_open(struct child *c, const struct mp_step *s) {
  int below = s->root >= 0; /* by the plan, not by what is in the slot: an empty one must not mean our own root */
  int fd;
  if (below && (s->flags & MP_F_PROC)) /* of our own: its links are the kernel's */
    fd = (int)sys_result(openat(slot_get(c, s->root), text(c, s, 0), (int)s->num[0] | O_CLOEXEC));
  else if (below)
    fd = path_open(slot_get(c, s->root), text(c, s, 0), (int)s->num[0], 1);
  else
    fd = (int)sys_result(open(text(c, s, 0), (int)s->num[0] | O_CLOEXEC));
  if (fd < 0) return fd;
  slot_set(c, s->out, fd);
  return 0;
}

int do_netlink(struct child *c, const struct mp_step *s) {
  int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (fd < 0) return -errno;
  slot_set(c, s->out, fd);
  return 0;
}

int do_send_fd(struct child *c, const struct mp_step *s) {
  int fd = slot_get(c, s->in);
  return fd < 0 ? -EBADF : report_send(c->report, MP_REPORT_FD, (int)s->index, 0, 0, fd);
}

int do_mkdir(struct child *c, const struct mp_step *s) {
  if (s->flags & MP_F_EXIST_OK)
    return path_make_dirs(slot_get(c, s->root), text(c, s, 0), (mode_t)s->num[0], no_symlinks(s));
  const char *leaf;
  _cleanup_fd_ int dir = path_parent(slot_get(c, s->root), text(c, s, 0), no_symlinks(s), &leaf);
  if (dir < 0) return dir;
  return mkdirat(dir, leaf, (mode_t)s->num[0]) < 0 ? -errno : 0;
}

int do_mknod(struct child *c, const struct mp_step *s) {
  const char *leaf;
  _cleanup_fd_ int dir = path_parent(slot_get(c, s->root), text(c, s, 0), 1, &leaf);
  if (dir < 0) return dir;
  dev_t dev = makedev((unsigned)s->num[1], (unsigned)s->num[2]);
  if (mknodat(dir, leaf, (mode_t)s->num[0], dev) < 0) return -errno;
  if (s->num[3] == 0) return 0;
  return fchownat(dir, leaf, (uid_t)(s->num[3] >> 32), (gid_t)s->num[3], AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int do_symlink(struct child *c, const struct mp_step *s) {
  const char *leaf;
  _cleanup_fd_ int dir = path_parent(slot_get(c, s->root), text(c, s, 0), 1, &leaf);
  if (dir < 0) return dir;
  if (symlinkat(text(c, s, 1), dir, leaf) == 0) return 0;
  return errno == EEXIST && (s->flags & MP_F_EXIST_OK) ? 0 : -errno;
}

int do_write_file(struct child *c, const struct mp_step *s) {
  const char *leaf;
  _cleanup_fd_ int dir = path_parent(slot_get(c, s->root), text(c, s, 0), 1, &leaf);
  if (dir < 0) return dir;
  _cleanup_fd_ int fd = openat(dir, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, (mode_t)s->num[0]);
  if (fd < 0) return -errno;
  return write_all(fd, text(c, s, 1), s->num[1]);
}
