/* SPDX-License-Identifier: GPL-3.0-or-later */
/* paths.h: paths below a root, never out of it, and writing. All return a result or -errno. */
#ifndef MINIPOD_PATHS_H
#define MINIPOD_PATHS_H

#include <stddef.h>
#include <sys/types.h>

int path_open(int root, const char *path, int flags, int no_symlinks);
/* Open the directory that holds the last component of path, which *leaf is then. */
int path_parent(int root, const char *path, int no_symlinks, const char **leaf);
/* mkdir -p */
int path_make_dirs(int root, const char *path, mode_t mode, int no_symlinks);

int write_all(int fd, const char *data, size_t size);
/* Write below a procfs that we mounted ourselves, and nowhere else. */
int proc_write(int procfs, const char *name, const char *value);

#endif
