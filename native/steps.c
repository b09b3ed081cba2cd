// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * steps.c: the interpreter. One small function per step; which steps, in which order, is the agent's policy.
 *
 * Where we are: in a fresh, single-threaded clone of the shim, as root of the initial user namespace, until the
 * identity and capability steps say otherwise. The agent's plan opens host paths first, then enters the pod's
 * namespaces, then builds the container's mount tree, pivots, and gives up its privileges last.
 */
#define _GNU_SOURCE 1
#include "steps.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/limits.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "sys.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

static int slot_get(const struct child *c, int16_t slot) { return slot < 0 ? -1 : c->slots[slot]; }

static void slot_set(struct child *c, int16_t slot, int fd) {
  if (slot < 0) {
    close(fd);
    return;
  }
  if (c->slots[slot] >= 0) close(c->slots[slot]);
  c->slots[slot] = fd;
}

static const char *text(const struct child *c, const struct mp_step *s, int i) { return plan_str(&c->plan, s->str[i]); }

static const char *next(const char *item) { return item + strlen(item) + 1; }

static int no_symlinks(const struct mp_step *s) { return (s->flags & MP_F_NO_SYMLINKS) != 0; }

/* ---- the process itself ------------------------------------------------------------------------------------ */

static int do_harden(struct child *c, const struct mp_step *s) {
  (void)c, (void)s;
  /* Before we enter any namespace of the pod: a process in there must not open our /proc/<pid>/exe or fds
   * (runc CVE-2016-9962, CVE-2019-5736). exec makes the container's own program dumpable again. */
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) return -errno;
  umask(0);
  return 0;
}

static int do_cgroup_join(struct child *c, const struct mp_step *s) {
  char path[4096];
  if ((size_t)snprintf(path, sizeof path, "%s/cgroup.procs", text(c, s, 0)) >= sizeof path) return -ENAMETOOLONG;
  _cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return -errno;
  return RETRY(write(fd, "0", 1)) == 1 ? 0 : -errno;
}

static int do_unshare(struct child *c, const struct mp_step *s) {
  (void)c;
  return sys_unshare(s->num[0]);
}

static int do_setns(struct child *c, const struct mp_step *s) { return sys_setns(slot_get(c, s->in), (int)s->num[0]); }

static int do_userns(struct child *c, const struct mp_step *s) {
  int fd = users_make(slot_get(c, s->in), s->num[0], s->num[1]);
  if (fd < 0) return fd;
  slot_set(c, s->out, fd);
  return 0;
}

static int do_enter_userns(struct child *c, const struct mp_step *s) { return users_enter(slot_get(c, s->in)); }

static int do_own_files(struct child *c, const struct mp_step *s) {
  (void)c;
  return users_own_files(s->num[0], s->num[1]);
}

static int do_setsid(struct child *c, const struct mp_step *s) {
  (void)c, (void)s;
  return setsid() < 0 ? -errno : 0;
}

static int do_keyring(struct child *c, const struct mp_step *s) {
  (void)c, (void)s;
  /* A kernel without keyrings has none to leak. */
  if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS) return -errno;
  return 0;
}

static int do_rlimit(struct child *c, const struct mp_step *s) {
  (void)c;
  struct rlimit limit = {.rlim_cur = s->num[1], .rlim_max = s->num[2]};
  return setrlimit((int)s->num[0], &limit) < 0 ? -errno : 0;
}

static int write_all(int fd, const char *data, size_t size) {
  while (size > 0) {
    ssize_t n = (ssize_t)RETRY(write(fd, data, size));
    if (n <= 0) return n < 0 ? -errno : -EIO;
    data += n;
    size -= (size_t)n;
  }
  return 0;
}

/* Write below a procfs that we mounted ourselves; anything mounted over it is refused (runc CVE-2025-52881). */
int proc_write(int procfs, const char *name, const char *value) {
  struct statfs fs;
  _cleanup_fd_ int fd =
      sys_openat2(procfs, name, O_WRONLY, 0, RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);
  if (fd < 0) return fd;
  if (fstatfs(fd, &fs) < 0) return -errno;
  if (fs.f_type != PROC_SUPER_MAGIC) return -EXDEV;
  return write_all(fd, value, strlen(value));
}

static int do_oom_score_adj(struct child *c, const struct mp_step *s) {
  char value[24];
  snprintf(value, sizeof value, "%lld", (long long)s->num[0]);
  return proc_write(slot_get(c, s->in), "self/oom_score_adj", value);
}

static int do_apparmor(struct child *c, const struct mp_step *s) {
  char value[4200];
  if ((size_t)snprintf(value, sizeof value, "exec %s", text(c, s, 0)) >= sizeof value) return -ENAMETOOLONG;
  int r = proc_write(slot_get(c, s->in), "self/attr/apparmor/exec", value);
  /* Linux before 5.8 has it only where all security modules once had it. */
  return r == -ENOENT ? proc_write(slot_get(c, s->in), "self/attr/exec", value) : r;
}

static int do_sysctl(struct child *c, const struct mp_step *s) {
  char name[512];
  if ((size_t)snprintf(name, sizeof name, "sys/%s", text(c, s, 0)) >= sizeof name) return -ENAMETOOLONG;
  int r = proc_write(slot_get(c, s->in), name, text(c, s, 1));
  return r == -ENOENT && (s->flags & MP_F_OPTIONAL) ? 0 : r;
}

static int do_hostname(struct child *c, const struct mp_step *s) {
  return sethostname(text(c, s, 0), strlen(text(c, s, 0))) < 0 ? -errno : 0;
}

static int do_link_up(struct child *c, const struct mp_step *s) {
  struct ifreq request = {0};
  if (strlen(text(c, s, 0)) >= sizeof request.ifr_name) return -ENODEV;
  _cleanup_fd_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", text(c, s, 0));
  request.ifr_flags = IFF_UP;
  return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

/* ---- fds --------------------------------------------------------------------------------------------------- */

static int do_netlink(struct child *c, const struct mp_step *s) {
  int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (fd < 0) return -errno;
  slot_set(c, s->out, fd);
  return 0;
}

static int do_open(struct child *c, const struct mp_step *s) {
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

static int do_send_fd(struct child *c, const struct mp_step *s) {
  int fd = slot_get(c, s->in);
  return fd < 0 ? -EBADF : report_send(c->report, MP_REPORT_FD, (int)s->index, 0, 0, fd);
}

static int do_stdio(struct child *c, const struct mp_step *s) {
  for (int i = 0; i < 3; i++) {
    int fd = slot_get(c, (int16_t)s->num[i]);
    c->detail = i;
    /* Our own fds are all above 2 (the shim sees to it), so nothing is overwritten here. */
    if (dup2(fd, i) < 0) return -errno;
  }
  if ((s->flags & MP_F_CTTY) && ioctl(0, TIOCSCTTY, 0) < 0) return -errno;
  return 0;
}

static int do_close_range(struct child *c, const struct mp_step *s) {
  (void)c, (void)s;
  return sys_close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
}

/* ---- mounts ------------------------------------------------------------------------------------------------ */

static int do_propagation(struct child *c, const struct mp_step *s) {
  (void)c;
  return sys_mount(NULL, "/", NULL, s->num[0], NULL);
}

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

static int do_fs(struct child *c, const struct mp_step *s) {
  int r;
  const char *option = text(c, s, 1);
  _cleanup_fd_ int fs = sys_fsopen(text(c, s, 0));
  if (fs < 0) return fs;
  /* Of most filesystems only a name, for the first column of /proc/mounts. */
  const char *source = *text(c, s, 2) ? text(c, s, 2) : text(c, s, 0);
  if ((r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0)) < 0) return r;
  for (uint64_t i = 0; i < s->num[1]; i++, option = next(option)) {
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
  for (uint64_t i = 0; i < s->num[1]; i++, lower = next(lower)) {
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

static int do_overlay(struct child *c, const struct mp_step *s) {
  int r;
  const char *lower = text(c, s, 0);
  if (s->flags & MP_F_LEGACY) return overlay_legacy(c, s);
  _cleanup_fd_ int fs = sys_fsopen("overlay");
  if (fs < 0) return fs;
  if ((r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", "overlay", 0)) < 0) return r;
  for (uint64_t i = 0; i < s->num[1]; i++, lower = next(lower)) {
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

static int do_open_tree(struct child *c, const struct mp_step *s) {
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

static int do_attach(struct child *c, const struct mp_step *s) {
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

static int do_setattr(struct child *c, const struct mp_step *s) {
  struct mount_attr attr = {.attr_set = s->num[0], .propagation = s->num[1]};
  return sys_mount_setattr(slot_get(c, s->in), "", AT_EMPTY_PATH, &attr);
}

static int do_mkdir(struct child *c, const struct mp_step *s) {
  if (s->flags & MP_F_EXIST_OK)
    return path_make_dirs(slot_get(c, s->root), text(c, s, 0), (mode_t)s->num[0], no_symlinks(s));
  const char *leaf;
  _cleanup_fd_ int dir = path_parent(slot_get(c, s->root), text(c, s, 0), no_symlinks(s), &leaf);
  if (dir < 0) return dir;
  return mkdirat(dir, leaf, (mode_t)s->num[0]) < 0 ? -errno : 0;
}

static int do_mknod(struct child *c, const struct mp_step *s) {
  const char *leaf;
  _cleanup_fd_ int dir = path_parent(slot_get(c, s->root), text(c, s, 0), 1, &leaf);
  if (dir < 0) return dir;
  dev_t dev = makedev((unsigned)s->num[1], (unsigned)s->num[2]);
  if (mknodat(dir, leaf, (mode_t)s->num[0], dev) < 0) return -errno;
  if (s->num[3] == 0) return 0;
  return fchownat(dir, leaf, (uid_t)(s->num[3] >> 32), (gid_t)s->num[3], AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int do_symlink(struct child *c, const struct mp_step *s) {
  const char *leaf;
  _cleanup_fd_ int dir = path_parent(slot_get(c, s->root), text(c, s, 0), 1, &leaf);
  if (dir < 0) return dir;
  if (symlinkat(text(c, s, 1), dir, leaf) == 0) return 0;
  return errno == EEXIST && (s->flags & MP_F_EXIST_OK) ? 0 : -errno;
}

static int do_write_file(struct child *c, const struct mp_step *s) {
  const char *leaf;
  _cleanup_fd_ int dir = path_parent(slot_get(c, s->root), text(c, s, 0), 1, &leaf);
  if (dir < 0) return dir;
  _cleanup_fd_ int fd = openat(dir, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, (mode_t)s->num[0]);
  if (fd < 0) return -errno;
  return write_all(fd, text(c, s, 1), s->num[1]);
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

static int do_mask(struct child *c, const struct mp_step *s) {
  const char *path = text(c, s, 0);
  for (uint64_t i = 0; i < s->num[1]; i++, path = next(path)) {
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

static int do_readonly(struct child *c, const struct mp_step *s) {
  const char *path = text(c, s, 0);
  for (uint64_t i = 0; i < s->num[1]; i++, path = next(path)) {
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

static int do_pivot_root(struct child *c, const struct mp_step *s) {
  int r;
  if (fchdir(slot_get(c, s->in)) < 0) return -errno;
  /* pivot_root(".", ".") stacks the old root on the new one, so no directory is needed for it (pivot_root(2)). */
  if ((r = sys_pivot_root(".", ".")) < 0) return r;
  if ((r = sys_umount2(".", MNT_DETACH)) < 0) return r;
  return chdir("/") < 0 ? -errno : 0;
}

static int do_open_pty(struct child *c, const struct mp_step *s) {
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

/* ---- privileges, last -------------------------------------------------------------------------------------- */

/* Whether fd is an anonymous pipe, or our own controlling terminal: not a FIFO of the host, nor its user's terminal. */
static int is_own_stdio(int fd) {
  struct statfs fs;
  pid_t sid;
  if (fstatfs(fd, &fs) < 0) return -errno;
  return fs.f_type == PIPEFS_MAGIC || (ioctl(fd, TIOCGSID, &sid) == 0 && sid == getsid(0));
}

static int do_stdio_owner(struct child *c, const struct mp_step *s) {
  (void)c;
  for (int fd = 0; fd < 3; fd++) {
    /* So that /dev/stdout can be opened again by the new user. */
    int own = is_own_stdio(fd);
    if (own < 0) return own;
    if (own && fchown(fd, (uid_t)s->num[0], (gid_t)-1) < 0) return -errno;
  }
  return 0;
}

static int do_identity(struct child *c, const struct mp_step *s) {
  uid_t uid = (uid_t)s->num[0];
  gid_t gid = (gid_t)s->num[1];
  /* Raw calls: libc's wrappers broadcast to threads, and we have none. Groups before gid before uid, because each
   * needs the privilege that the next gives up. */
  if (syscall(SYS_setgroups, (size_t)s->num[2], text(c, s, 0)) < 0) return -errno;
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) return -errno;
  if (syscall(SYS_setresgid, gid, gid, gid) < 0) return -errno;
  if (syscall(SYS_setresuid, uid, uid, uid) < 0) return -errno;
  /* Any change of identity may have made us dumpable again. */
  return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

static int do_capabilities(struct child *c, const struct mp_step *s) {
  (void)c;
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2];
  /* The change of uid emptied the effective set and kept the permitted one: take it back for what follows. */
  if (syscall(SYS_capget, &header, data) < 0) return -errno;
  for (int i = 0; i < 2; i++) data[i].effective = data[i].permitted;
  if (syscall(SYS_capset, &header, data) < 0) return -errno;
  /* The bounding set first, while we still hold CAP_SETPCAP. */
  for (int cap = 0; cap < 64; cap++) {
    if (s->num[0] >> cap & 1) continue;
    if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
      if (errno == EINVAL) break; /* the kernel's last capability is behind us */
      return -errno;
    }
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return -errno;
  for (int i = 0; i < 2; i++) {
    data[i].permitted = data[i].effective = (uint32_t)(s->num[1] >> (32 * i));
    data[i].inheritable = (uint32_t)(s->num[2] >> (32 * i));
  }
  return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int do_no_new_privs(struct child *c, const struct mp_step *s) {
  (void)c, (void)s;
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static int do_chdir(struct child *c, const struct mp_step *s) {
  char cwd[4096];
  if (chdir(text(c, s, 0)) < 0) return -errno;
  /* The kernel prefixes "(unreachable)" when the directory is outside our root (runc CVE-2024-21626). */
  long r = syscall(SYS_getcwd, cwd, sizeof cwd);
  if (r < 0) return -errno;
  return cwd[0] == '/' ? 0 : -ENOENT;
}

static int do_seccomp(struct child *c, const struct mp_step *s) {
  struct sock_fprog program = {
      .len = (unsigned short)(s->num[1] / sizeof(struct sock_filter)),
      .filter = (struct sock_filter *)(uintptr_t)text(c, s, 0),
  };
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, (unsigned)s->num[0], &program) < 0 ? -errno : 0;
}

/* Turn `count` strings that lie one after the other into a NULL-terminated vector. */
static void vector(const char *item, uint64_t count, char **out) {
  for (uint64_t i = 0; i < count; i++, item = next(item)) out[i] = (char *)(uintptr_t)item;
  out[count] = NULL;
}

/* Back to what a program expects at its birth: default signals, none blocked, the usual umask. */
static int ready_to_exec(struct child *c, const struct mp_step *s) {
  sigset_t none;
  /* By raw calls: libc keeps its own signals (32 to 34) to itself, and posix_spawn(3) leaves one of them ignored. */
  static const char default_action[64];
  for (int sig = 1; sig <= 64; sig++) syscall(SYS_rt_sigaction, sig, default_action, NULL, 8);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  umask(0022);
  return report_send(c->report, MP_REPORT_READY, (int)s->index, 0, 0, -1);
}

static int do_exec(struct child *c, const struct mp_step *s) {
  char *argv[s->num[1] + 1], *env[s->num[2] + 1];
  int r, result = -ENOENT;
  vector(text(c, s, 1), s->num[1], argv);
  vector(text(c, s, 2), s->num[2], env);
  if ((r = ready_to_exec(c, s)) < 0) return r;
  const char *candidate = text(c, s, 0);
  for (uint64_t i = 0; i < s->num[0]; i++, candidate = next(candidate)) {
    struct stat st;
    c->detail = (int)i;
    if (stat(candidate, &st) == 0 && st.st_dev == c->self_dev && st.st_ino == c->self_ino) return -EACCES;
    execve(candidate, argv, env);
    /* As execvp(3): go on along PATH after "not here" and "not allowed", and remember the latter. */
    if (errno == EACCES) result = -EACCES;
    if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) return -errno;
  }
  return result;
}

static int do_exec_fd(struct child *c, const struct mp_step *s) {
  char *argv[s->num[1] + 1], *env[s->num[2] + 1];
  int r;
  vector(text(c, s, 1), s->num[1], argv);
  vector(text(c, s, 2), s->num[2], env);
  if ((r = ready_to_exec(c, s)) < 0) return r;
  syscall(SYS_execveat, slot_get(c, s->in), "", argv, env, AT_EMPTY_PATH);
  return -errno;
}

/* ---- the table --------------------------------------------------------------------------------------------- */

typedef int (*step_fn)(struct child *, const struct mp_step *);

static const step_fn table[MP_OP_COUNT] = {
    [MP_OP_HARDEN] = do_harden,
    [MP_OP_CGROUP_JOIN] = do_cgroup_join,
    [MP_OP_UNSHARE] = do_unshare,
    [MP_OP_SETNS] = do_setns,
    [MP_OP_PROPAGATION] = do_propagation,
    [MP_OP_FS] = do_fs,
    [MP_OP_OVERLAY] = do_overlay,
    [MP_OP_OPEN_TREE] = do_open_tree,
    [MP_OP_ATTACH] = do_attach,
    [MP_OP_SETATTR] = do_setattr,
    [MP_OP_OPEN] = do_open,
    [MP_OP_MKDIR] = do_mkdir,
    [MP_OP_MKNOD] = do_mknod,
    [MP_OP_SYMLINK] = do_symlink,
    [MP_OP_WRITE_FILE] = do_write_file,
    [MP_OP_MASK] = do_mask,
    [MP_OP_READONLY] = do_readonly,
    [MP_OP_PIVOT_ROOT] = do_pivot_root,
    [MP_OP_SYSCTL] = do_sysctl,
    [MP_OP_HOSTNAME] = do_hostname,
    [MP_OP_LINK_UP] = do_link_up,
    [MP_OP_NETLINK] = do_netlink,
    [MP_OP_SEND_FD] = do_send_fd,
    [MP_OP_USERNS] = do_userns,
    [MP_OP_ENTER_USERNS] = do_enter_userns,
    [MP_OP_OWN_FILES] = do_own_files,
    [MP_OP_STDIO_OWNER] = do_stdio_owner,
    [MP_OP_SETSID] = do_setsid,
    [MP_OP_KEYRING] = do_keyring,
    [MP_OP_RLIMIT] = do_rlimit,
    [MP_OP_OOM_SCORE_ADJ] = do_oom_score_adj,
    [MP_OP_OPEN_PTY] = do_open_pty,
    [MP_OP_STDIO] = do_stdio,
    [MP_OP_APPARMOR] = do_apparmor,
    [MP_OP_IDENTITY] = do_identity,
    [MP_OP_CAPABILITIES] = do_capabilities,
    [MP_OP_NO_NEW_PRIVS] = do_no_new_privs,
    [MP_OP_CHDIR] = do_chdir,
    [MP_OP_SECCOMP] = do_seccomp,
    [MP_OP_CLOSE_RANGE] = do_close_range,
    [MP_OP_EXEC] = do_exec,
    [MP_OP_EXEC_FD] = do_exec_fd,
};

int steps_run(struct child *child, unsigned *step) {
  for (uint32_t i = 0; i < child->plan.head->steps; i++) {
    const struct mp_step *s = &child->plan.steps[i];
    *step = s->index;
    child->detail = 0;
    int r = table[s->op](child, s);
    if (r < 0) return r;
  }
  return -ENOEXEC; /* a plan that does not end in an exec */
}

/* ---- validation -------------------------------------------------------------------------------------------- */

/* `count` strings starting at `offset` lie inside the table. The table ends in NUL, so each one ends. */
static int list_fits(const struct plan *plan, uint32_t offset, uint64_t count) {
  const char *end = plan->strings + plan->head->strings;
  const char *item = plan->strings + offset;
  if (count > plan->head->strings) return 0;
  for (uint64_t i = 0; i < count; i++) {
    if (item >= end) return 0;
    item = next(item);
  }
  return item <= end;
}

static int blob_fits(const struct plan *plan, uint32_t offset, uint64_t size) {
  return size <= plan->head->strings && offset <= plan->head->strings - size;
}

static int slot_fits(int64_t slot) { return slot >= -1 && slot < MP_SLOTS; }

static int operands_fit(const struct plan *plan, const struct mp_step *s) {
  switch (s->op) {
    case MP_OP_FS:
      return list_fits(plan, s->str[1], s->num[1]);
    case MP_OP_OVERLAY:
    case MP_OP_MASK:
    case MP_OP_READONLY:
      return list_fits(plan, s->str[0], s->num[1]);
    case MP_OP_WRITE_FILE:
      return blob_fits(plan, s->str[1], s->num[1]);
    case MP_OP_SECCOMP:
      /* Exactly: a program whose length did not fit sock_fprog would be loaded in part. */
      return s->num[1] % sizeof(struct sock_filter) == 0 && s->num[1] <= BPF_MAXINSNS * sizeof(struct sock_filter) &&
             blob_fits(plan, s->str[0], s->num[1]) && s->str[0] % 8 == 0;
    case MP_OP_IDENTITY:
      /* Cut to 32 bits, 2^32 would be root; -1 would be "as before", which is root (setresuid(2)). */
      return s->num[0] <= INT32_MAX && s->num[1] <= INT32_MAX && s->num[2] <= NGROUPS_MAX &&
             blob_fits(plan, s->str[0], s->num[2] * sizeof(gid_t));
    case MP_OP_USERNS: /* never all ids, and never the host's root */
      return s->num[0] > 0 && s->num[0] <= INT32_MAX && s->num[1] > 0 && s->num[1] <= 65536;
    case MP_OP_OWN_FILES:
    case MP_OP_STDIO_OWNER:
      return s->num[0] <= INT32_MAX && s->num[1] <= INT32_MAX;
    case MP_OP_STDIO:
      return s->num[0] < MP_SLOTS && s->num[1] < MP_SLOTS && s->num[2] < MP_SLOTS;
    case MP_OP_EXEC:
      if (!list_fits(plan, s->str[0], s->num[0])) return 0;
      /* fall through */
    case MP_OP_EXEC_FD:
      /* the vectors live on the stack: bound them (the kernel's own limit is MAX_ARG_STRINGS) */
      return s->num[1] <= 65536 && s->num[2] <= 65536 && list_fits(plan, s->str[1], s->num[1]) &&
             list_fits(plan, s->str[2], s->num[2]);
    default:
      return 1;
  }
}

int plan_validate(struct plan *plan, const void *data, size_t size) {
  const struct mp_launch *head = data;
  if (size < sizeof *head || head->magic != MP_MAGIC || head->version != MP_VERSION) return -EBADMSG;
  if (head->kind < MP_KIND_SANDBOX || head->kind > MP_KIND_EXEC) return -EBADMSG;
  if (head->stdio < MP_STDIO_NULL || head->stdio > MP_STDIO_TTY) return -EBADMSG;
  if (head->steps == 0 || head->steps > MP_MAX_STEPS || head->strings == 0) return -EBADMSG;
  if (size != sizeof *head + head->steps * sizeof(struct mp_step) + head->strings) return -EBADMSG;
  plan->head = head;
  plan->steps = (const struct mp_step *)(head + 1);
  plan->strings = (const char *)(plan->steps + head->steps);
  if (plan->strings[0] != 0 || plan->strings[head->strings - 1] != 0) return -EBADMSG;
  if (head->log_path >= head->strings || memchr(head->join, 0, sizeof head->join) == NULL) return -EBADMSG;
  if (memchr(head->pid_of, 0, sizeof head->pid_of) == NULL) return -EBADMSG;
  const int32_t slots[] = {head->cgroup_slot, head->join_slot,  head->stdin_slot, head->stdout_slot,
                           head->stderr_slot, head->pause_slot, head->user_slot};
  for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
    if (!slot_fits(slots[i])) return -EBADMSG;
  for (uint32_t i = 0; i < head->steps; i++) {
    const struct mp_step *s = &plan->steps[i];
    if (s->op == 0 || s->op >= MP_OP_COUNT || !table[s->op]) return -EBADMSG;
    if (!slot_fits(s->in) || !slot_fits(s->out) || !slot_fits(s->root)) return -EBADMSG;
    for (int k = 0; k < 4; k++)
      if (s->str[k] >= head->strings) return -EBADMSG;
    if (!operands_fit(plan, s)) return -EBADMSG;
  }
  return 0;
}
