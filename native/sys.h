/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * sys.h: the system calls that libcs lack or wrap badly, one tiny function each, under the call's own name.
 * They return a result or -errno. Numbers are the same on all architectures from 424 on.
 */
#ifndef MINIPOD_SYS_H
#define MINIPOD_SYS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MS_PRIVATE
#define MS_PRIVATE (1 << 18)
#endif
#ifndef MS_REC
#define MS_REC 16384
#endif
#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum {
  NR_pidfd_send_signal = 424,
  NR_open_tree = 428,
  NR_move_mount = 429,
  NR_fsopen = 430,
  NR_fsconfig = 431,
  NR_fsmount = 432,
  NR_clone3 = 435,
  NR_close_range = 436,
  NR_openat2 = 437,
  NR_mount_setattr = 442,
};

static inline long sys_result(long r) { return r < 0 ? -(long)errno : r; }

static inline int sys_pidfd_send_signal(int pidfd, int sig) {
  return (int)sys_result(syscall(NR_pidfd_send_signal, pidfd, sig, NULL, 0));
}
static inline int sys_open_tree(int dir, const char *path, unsigned flags) {
  return (int)sys_result(syscall(NR_open_tree, dir, path, flags | O_CLOEXEC));
}
static inline int sys_move_mount(int from, const char *from_path, int to, const char *to_path, unsigned flags) {
  return (int)sys_result(syscall(NR_move_mount, from, from_path, to, to_path, flags));
}
static inline int sys_fsopen(const char *type) { return (int)sys_result(syscall(NR_fsopen, type, FSOPEN_CLOEXEC)); }
static inline int sys_fsconfig(int fd, unsigned cmd, const char *key, const void *value, int aux) {
  return (int)sys_result(syscall(NR_fsconfig, fd, cmd, key, value, aux));
}
static inline int sys_fsmount(int fd, unsigned attr) {
  return (int)sys_result(syscall(NR_fsmount, fd, FSMOUNT_CLOEXEC, attr));
}
static inline int sys_mount_setattr(int dir, const char *path, unsigned flags, struct mount_attr *attr) {
  return (int)sys_result(syscall(NR_mount_setattr, dir, path, flags, attr, sizeof *attr));
}
static inline int sys_openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
  struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve};
  return (int)sys_result(syscall(NR_openat2, dir, path, &how, sizeof how));
}
static inline int sys_close_range(unsigned first, unsigned last, unsigned flags) {
  return (int)sys_result(syscall(NR_close_range, first, last, flags));
}
static inline pid_t sys_clone3(struct clone_args *args) {
  return (pid_t)sys_result(syscall(NR_clone3, args, sizeof *args));
}
static inline int sys_mount(const char *source, const char *target, const char *type, unsigned long flags,
                            const void *data) {
  return (int)sys_result(syscall(SYS_mount, source, target, type, flags, data));
}
static inline int sys_umount2(const char *target, int flags) {
  return (int)sys_result(syscall(SYS_umount2, target, flags));
}
static inline int sys_pivot_root(const char *new_root, const char *put_old) {
  return (int)sys_result(syscall(SYS_pivot_root, new_root, put_old));
}
static inline int sys_setns(int fd, int flags) { return (int)sys_result(syscall(SYS_setns, fd, flags)); }
static inline int sys_unshare(unsigned long flags) { return (int)sys_result(syscall(SYS_unshare, flags)); }

/* CLOCK_REALTIME, in nanoseconds. */
static inline uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/* CLOCK_MONOTONIC, in nanoseconds; without entering the kernel (vdso(7)). */
static inline uint64_t monotonic_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/* Owners: an fd that closes itself at the end of its block; steal() hands it on. Closed is -1: never closed twice. */
static inline void close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}
#define _cleanup_fd_ __attribute__((cleanup(close_fd)))
static inline int steal_fd(int *fd) {
  int taken = *fd;
  *fd = -1;
  return taken;
}

/* Repeat a call that a signal interrupted. */
#define RETRY(expression)             \
  ({                                  \
    long r_;                          \
    do r_ = (long)(expression);       \
    while (r_ < 0 && errno == EINTR); \
    r_;                               \
  })

#endif
