// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * step_places.c: steps that put mounts into their places and change what is there: attach, mask, make read-only, and at
 * last make a tree the root.
 */
#define _GNU_SOURCE 1
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "paths.h"
#include "step.h"
#include "sys.h"

int do_propagation(struct child *c, const struct mp_step *s) {
  (void)c;
  return sys_mount(NULL, "/", NULL, s->num[0], NULL);
}

static int make_mount_point(int root, const struct mp_step *s, const char *path, int directory) {
  const char *leaf;
  if (directory) return path_make_dirs(root, path, 0755, no_symlinks(s));
  char parent[4096];
  const char *slash = strrchr(path, '/');
  if (slash && slash != path) {
    if ((size_t)(slash - path) >= sizeof parent) return -ENAMETOOLONG;
    memcpy(parent, path, (size_t)(slash - path));
    parent[slash - path] = 0;
    int r = path_make_dirs(root, parent, 0755, no_symlinks(s));
    if (r < 0) return r;
  }
  _cleanup_fd_ int dir = path_parent(root, path, no_symlinks(s), &leaf);
  if (dir < 0) return dir;
  struct stat st;
  /* A symlink that leads nowhere (an image's /etc/resolv.conf into /run) gives way to the mount point. */
  if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode) && unlinkat(dir, leaf, 0) < 0)
    return -errno;
  _cleanup_fd_ int file = openat(dir, leaf, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
  return file < 0 && errno != EEXIST ? -errno : 0;
}

int do_attach(struct child *c, const struct mp_step *s) {
  int tree = slot_get(c, s->in), root = slot_get(c, s->root);
  const char *path = text(c, s, 0);
  if (s->root < 0) /* our own mount namespace's root: only for a sandbox or rootfs, at a path that we made */
    return sys_move_mount(tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH);
  struct statfs fs;
  struct stat from, to;
  if (fstat(tree, &from) < 0) return -errno;
  _cleanup_fd_ int at = path_open(root, path, O_PATH, no_symlinks(s));
  unsigned create = s->flags & (MP_F_CREATE_DIR | MP_F_CREATE_FILE);
  if (at == -ENOENT && create) {
    int both = create == (MP_F_CREATE_DIR | MP_F_CREATE_FILE);
    int r = make_mount_point(root, s, path, both ? S_ISDIR(from.st_mode) : create == MP_F_CREATE_DIR);
    if (r < 0) return r;
    at = path_open(root, path, O_PATH, no_symlinks(s));
  }
  if (at < 0) return at;
  if (fstatfs(at, &fs) < 0 || fstat(at, &to) < 0) return -errno;
  if (S_ISDIR(from.st_mode) != S_ISDIR(to.st_mode)) return -ENOTDIR;
  /* Nothing goes on top of procfs, wherever a link of the image leads (runc CVE-2019-19921); masks have their own way. */
  if (fs.f_type == PROC_SUPER_MAGIC) return -EXDEV;
  return sys_move_mount(tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

int do_setattr(struct child *c, const struct mp_step *s) {
  struct mount_attr attr = {.attr_set = s->num[0], .propagation = s->num[1]};
  return sys_mount_setattr(slot_get(c, s->in), "", AT_EMPTY_PATH, &attr);
}

/* Open a path that is to be masked or made read-only; -ENOENT means there is nothing to hide. */
static int open_guarded(const struct child *c, const struct mp_step *s, const char *path) {
  struct statfs fs;
  _cleanup_fd_ int fd = path_open(slot_get(c, s->root), path, O_PATH, 1);
  if (fd == -ENOTDIR) return -ENOENT;
  if (fd < 0) return fd;
  if (s->flags & MP_F_PROC) {
    if (fstatfs(fd, &fs) < 0) return -errno;
    if (fs.f_type != PROC_SUPER_MAGIC) return -EXDEV;
  }
  return steal_fd(&fd);
}

static int mask_file(const struct child *c, const struct mp_step *s, int at) {
  struct stat st;
  /* Only the real null device masks (runc CVE-2025-31133). */
  _cleanup_fd_ int null = path_open(slot_get(c, s->root), "/dev/null", O_PATH, 1);
  if (null < 0) return null;
  if (fstat(null, &st) < 0) return -errno;
  if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) return -ENODEV;
  _cleanup_fd_ int tree = sys_open_tree(null, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
  if (tree < 0) return tree;
  return sys_move_mount(tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static int mask_dir(int at) {
  int r;
  _cleanup_fd_ int fs = sys_fsopen("tmpfs");
  if (fs < 0) return fs;
  if ((r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0555", 0)) < 0) return r;
  if ((r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "2", 0)) < 0) return r;
  if ((r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)) < 0) return r;
  _cleanup_fd_ int tree = sys_fsmount(fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  if (tree < 0) return tree;
  return sys_move_mount(tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

int do_mask(struct child *c, const struct mp_step *s) {
  const char *path = text(c, s, 0);
  for (uint64_t i = 0; i < s->num[1]; i++, path = plan_next(path)) {
    struct stat st;
    c->detail = (int)i;
    _cleanup_fd_ int at = open_guarded(c, s, path);
    if (at == -ENOENT) continue;
    if (at < 0) return at;
    if (fstat(at, &st) < 0) return -errno;
    int r = S_ISDIR(st.st_mode) ? mask_dir(at) : mask_file(c, s, at);
    if (r < 0) return r;
  }
  return 0;
}

int do_readonly(struct child *c, const struct mp_step *s) {
  const char *path = text(c, s, 0);
  for (uint64_t i = 0; i < s->num[1]; i++, path = plan_next(path)) {
    int r;
    c->detail = (int)i;
    _cleanup_fd_ int at = open_guarded(c, s, path);
    if (at == -ENOENT) continue;
    if (at < 0) return at;
    _cleanup_fd_ int tree = sys_open_tree(at, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE);
    if (tree < 0) return tree;
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    if ((r = sys_mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr)) < 0) return r;
    r = sys_move_mount(tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    if (r < 0) return r;
  }
  return 0;
}

int do_pivot_root(struct child *c, const struct mp_step *s) {
  int r;
  if (fchdir(slot_get(c, s->in)) < 0) return -errno;
  /* pivot_root(".", ".") stacks the old root on the new one, so no directory is needed for it (pivot_root(2)). */
  if ((r = sys_pivot_root(".", ".")) < 0) return r;
  if ((r = sys_umount2(".", MNT_DETACH)) < 0) return r;
  return chdir("/") < 0 ? -errno : 0;
}
