// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * step_trees.c: steps that make mounts which are not yet anywhere: new filesystems, overlays, copies of what the host has.
 */
#define _GNU_SOURCE 1
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>

#include "paths.h"
#include "step.h"
#include "sys.h"
#include "users.h"

/* fsconfig one "key=value", or "key" alone as a flag. */
static int fs_option(int fs, const char *option) {
  char key[64];
  const char *equals = strchr(option, '=');
  if (!equals) return sys_fsconfig(fs, FSCONFIG_SET_FLAG, option, NULL, 0);
  if ((size_t)(equals - option) >= sizeof key) return -EINVAL;
  memcpy(key, option, (size_t)(equals - option));
  key[equals - option] = 0;
  return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, equals + 1, 0);
}

int do_fs(struct child *c, const struct mp_step *s) {
  int r;
  const char *option = text(c, s, 1);
  _cleanup_fd_ int fs = sys_fsopen(text(c, s, 0));
  if (fs < 0) return fs;
  /* Of most filesystems only a name, for the first column of /proc/mounts. */
  const char *source = *text(c, s, 2) ? text(c, s, 2) : text(c, s, 0);
  if ((r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0)) < 0) return r;
  for (uint64_t i = 0; i < s->num[1]; i++, option = plan_next(option)) {
    c->detail = (int)i;
    if ((r = fs_option(fs, option)) < 0) return r;
  }
  if ((r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)) < 0) return r;
  r = sys_fsmount(fs, (unsigned)s->num[0]);
  if (r < 0) return r;
  slot_set(c, s->out, r);
  return 0;
}

/*
 * Linux before 6.5 takes the lower directories only as one string, of at most 256 bytes through fsconfig and one
 * page through mount(2). So: in a private mount namespace of our own, bind them to the names 0, 1, 2 … of a
 * scratch tmpfs, mount with those, and take the result out as a detached tree.
 */
static int overlay_legacy(struct child *c, const struct mp_step *s) {
  char options[4096], name[16];
  int r;
  size_t used;
  if ((r = sys_unshare(CLONE_NEWNS)) < 0) return r;
  if ((r = sys_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) < 0) return r;
  if ((r = sys_mount("tmpfs", text(c, s, 3), "tmpfs", 0, "mode=0700,size=1m")) < 0) return r;
  if (chdir(text(c, s, 3)) < 0) return -errno;
  if (*text(c, s, 1))
    used = (size_t)snprintf(options, sizeof options, "upperdir=%s,workdir=%s,lowerdir=", text(c, s, 1), text(c, s, 2));
  else
    used = (size_t)snprintf(options, sizeof options, "lowerdir=");
  if (used >= sizeof options) return -ENAMETOOLONG;
  const char *lower = text(c, s, 0);
  for (uint64_t i = 0; i < s->num[1]; i++, lower = plan_next(lower)) {
    c->detail = (int)i;
    snprintf(name, sizeof name, "%u", (unsigned)i);
    if (mkdir(name, 0700) < 0) return -errno;
    _cleanup_fd_ int tree = sys_open_tree(AT_FDCWD, lower, OPEN_TREE_CLONE);
    if (tree < 0) return tree;
    if (s->in >= 0 && (r = users_map_tree(tree, slot_get(c, s->in))) < 0) return r;
    if ((r = sys_move_mount(tree, "", AT_FDCWD, name, MOVE_MOUNT_F_EMPTY_PATH)) < 0) return r;
    used += (size_t)snprintf(options + used, sizeof options - used, i ? ":%s" : "%s", name);
    if (used >= sizeof options) return -ENAMETOOLONG;
  }
  if (mkdir("merged", 0700) < 0) return -errno;
  if ((r = sys_mount("overlay", "merged", "overlay", 0, options)) < 0) return r;
  _cleanup_fd_ int merged = sys_open_tree(AT_FDCWD, "merged", OPEN_TREE_CLONE);
  if (merged < 0) return merged;
  struct mount_attr attr = {.attr_set = s->num[0]};
  if (s->num[0] && (r = sys_mount_setattr(merged, "", AT_EMPTY_PATH, &attr)) < 0) return r;
  if (chdir("/") < 0) return -errno;
  if ((r = sys_umount2(text(c, s, 3), MNT_DETACH)) < 0) return r;
  slot_set(c, s->out, steal_fd(&merged));
  return 0;
}

int do_overlay(struct child *c, const struct mp_step *s) {
  int r;
  const char *lower = text(c, s, 0);
  if (s->flags & MP_F_LEGACY) return overlay_legacy(c, s);
  _cleanup_fd_ int fs = sys_fsopen("overlay");
  if (fs < 0) return fs;
  if ((r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", "overlay", 0)) < 0) return r;
  for (uint64_t i = 0; i < s->num[1]; i++, lower = plan_next(lower)) {
    c->detail = (int)i;
    if ((r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", lower, 0)) < 0) return r;
  }
  if (*text(c, s, 1)) {
    if ((r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "upperdir", text(c, s, 1), 0)) < 0) return r;
    if ((r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "workdir", text(c, s, 2), 0)) < 0) return r;
  }
  if ((r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)) < 0) return r;
  r = sys_fsmount(fs, (unsigned)s->num[0]);
  if (r < 0) return r;
  slot_set(c, s->out, r);
  return 0;
}

/*
 * Open a path inside a volume that a running container may be changing at this very moment: resolved by the kernel
 * below the volume's root, which no link or rename leads out of (kubelet CVE-2017-1002101, CVE-2021-25741). What is
 * missing is made, as directories with the mode of the volume's root, as the kubelet does.
 */
static int open_inside(int volume, const char *path, mode_t mode) {
  int fd = path_open(volume, path, O_PATH, 0);
  if (fd != -ENOENT) return fd;
  int r = path_make_dirs(volume, path, mode, 0);
  return r < 0 ? r : path_open(volume, path, O_PATH, 0);
}

int do_open_tree(struct child *c, const struct mp_step *s) {
  unsigned flags = OPEN_TREE_CLONE | AT_EMPTY_PATH | (s->flags & MP_F_RECURSIVE ? AT_RECURSIVE : 0U);
  struct stat st;
  int r;
  /* The path is looked up once; type check and clone both use that fd, so nothing can be swapped in between. */
  _cleanup_fd_ int at = s->flags & MP_F_IN_PLACE ? path_open(slot_get(c, s->root), text(c, s, 0), O_PATH, 1)
                                                 : open(text(c, s, 0), O_PATH | O_CLOEXEC);
  if (at < 0) return s->flags & MP_F_IN_PLACE ? at : -errno;
  if (fstat(at, &st) < 0) return -errno;
  if (s->num[1] && (st.st_mode & S_IFMT) != s->num[1]) return s->num[1] == S_IFDIR ? -ENOTDIR : -EINVAL;
  if (*text(c, s, 1)) {
    int inside = open_inside(at, text(c, s, 1), st.st_mode & 0777);
    if (inside < 0) return inside;
    close(at);
    at = inside;
  }
  _cleanup_fd_ int tree = sys_open_tree(at, "", flags);
  if (tree < 0) return tree;
  unsigned all = AT_EMPTY_PATH | (flags & AT_RECURSIVE);
  if (s->in >= 0 && (r = users_map_tree(tree, slot_get(c, s->in))) < 0) return r;
  /* Unless the plan says otherwise, a volume's mounts are the container's own: nothing propagates in or out. */
  struct mount_attr attr = {.attr_set = s->num[2], .propagation = s->num[3]};
  if ((r = sys_mount_setattr(tree, "", all, &attr)) < 0) return r;
  attr = (struct mount_attr){.attr_set = s->num[0]};
  if (s->num[0] && (r = sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr)) < 0) return r;
  slot_set(c, s->out, steal_fd(&tree));
  return 0;
}
