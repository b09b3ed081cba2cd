// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * paths.c: paths inside a container's root. Everything is relative to an fd of that root and resolved by
 * openat2(RESOLVE_IN_ROOT), so that no symlink, "..", or rename by a hostile image or a running neighbour leads
 * out of it (runc CVE-2021-30465, CVE-2024-45310; kubelet CVE-2017-1002101).
 */
#define _GNU_SOURCE 1
#include "paths.h"

#include <limits.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "sys.h"

static uint64_t resolve_flags(int no_symlinks) {
  return RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (no_symlinks ? RESOLVE_NO_SYMLINKS : 0U);
}

int path_open(int root, const char *path, int flags, int no_symlinks) {
  /* openat2 answers EAGAIN when a rename raced with "..": try again, as its man page says. */
  for (int tries = 0;; tries++) {
    int fd = sys_openat2(root, path, (uint64_t)flags, 0, resolve_flags(no_symlinks));
    if (fd != -EAGAIN || tries == 32) return fd;
  }
}

/* Open the directory that holds the last component of path; *leaf points at that component, inside path. */
int path_parent(int root, const char *path, int no_symlinks, const char **leaf) {
  char parent[PATH_MAX];
  const char *slash = strrchr(path, '/');
  *leaf = slash ? slash + 1 : path;
  if (**leaf == 0 || strcmp(*leaf, ".") == 0 || strcmp(*leaf, "..") == 0) return -EINVAL;
  size_t length = slash ? (size_t)(slash - path) : 0;
  if (length >= sizeof parent) return -ENAMETOOLONG;
  memcpy(parent, path, length);
  parent[length] = 0;
  return path_open(root, length ? parent : "/", O_PATH | O_DIRECTORY, no_symlinks);
}

/* mkdir -p below root. Each missing component is made inside a directory that was itself resolved in-root. */
int path_make_dirs(int root, const char *path, mode_t mode, int no_symlinks) {
  char prefix[PATH_MAX];
  size_t length = strlen(path);
  if (length >= sizeof prefix) return -ENAMETOOLONG;
  memcpy(prefix, path, length + 1);
  for (size_t end = 1; end <= length; end++) {
    if (prefix[end] != '/' && prefix[end] != 0) continue;
    char saved = prefix[end];
    prefix[end] = 0;
    if (prefix[end - 1] != '/') {
      _cleanup_fd_ int have = path_open(root, prefix, O_PATH | O_DIRECTORY, no_symlinks);
      if (have == -ENOENT) {
        const char *leaf;
        _cleanup_fd_ int dir = path_parent(root, prefix, no_symlinks, &leaf);
        if (dir < 0) return dir;
        if (mkdirat(dir, leaf, mode) < 0 && errno != EEXIST) return -errno;
      } else if (have < 0) {
        return have;
      }
    }
    prefix[end] = saved;
  }
  return 0;
}

int write_all(int fd, const char *data, size_t size) {
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
