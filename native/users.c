// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * users.c: a pod's user namespace (user_namespaces(7)). It is made by a helper that lives only for that, so that what
 * maps ids holds every capability outside of it; it is entered last, when all that takes power over the host is done.
 */
#define _GNU_SOURCE 1
#include "users.h"

#include <linux/securebits.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "paths.h"
#include "sys.h"

/* In the new user namespace, where we only have to be until it is held by an fd: our maker's end tells. */
__attribute__((noreturn)) static void wait_for_maker(int end) {
  char none;
  RETRY(read(end, &none, 1));
  _exit(0);
}

static int hold_namespace(int procfs, pid_t pid, uint64_t first, uint64_t count) {
  char path[64], map[64];
  int r;
  snprintf(map, sizeof map, "0 %llu %llu\n", (unsigned long long)first, (unsigned long long)count);
  snprintf(path, sizeof path, "%d/uid_map", (int)pid);
  if ((r = proc_write(procfs, path, map)) < 0) return r;
  snprintf(path, sizeof path, "%d/gid_map", (int)pid);
  if ((r = proc_write(procfs, path, map)) < 0) return r;
  snprintf(path, sizeof path, "%d/ns/user", (int)pid);
  int fd = openat(procfs, path, O_RDONLY | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

int users_make(int procfs, uint64_t first, uint64_t count) {
  struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return -errno;
  _cleanup_fd_ int ours = pair[0], theirs = pair[1];
  pid_t pid = sys_clone3(&args);
  if (pid == 0) {
    close(ours); /* or we would wait for ourselves */
    wait_for_maker(theirs);
  }
  if (pid < 0) return (int)pid;
  int r = hold_namespace(procfs, pid, first, count);
  close_fd(&ours);
  RETRY(waitpid(pid, NULL, 0));
  return r;
}

int users_enter(int fd) {
  int r = sys_setns(fd, CLONE_NEWUSER);
  if (r < 0) return r;
  /* We have every capability in there, and are nobody: become its root, whose word the kernel takes in /proc/sys. */
  if (syscall(SYS_setgroups, (size_t)0, NULL) < 0) return -errno;
  if (syscall(SYS_setresgid, 0, 0, 0) < 0) return -errno;
  if (syscall(SYS_setresuid, 0, 0, 0) < 0) return -errno;
  /* Any change of identity may have made us dumpable again. */
  return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

int users_own_files(uint64_t uid, uint64_t gid) {
  /* Else the kernel would take the capabilities for files away together with fs uid 0 (capabilities(7)). */
  if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0) return -errno;
  syscall(SYS_setfsgid, (gid_t)gid);
  syscall(SYS_setfsuid, (uid_t)uid);
  /* They answer what was before, whether it worked or not: ask again, with an id that changes nothing. */
  if (syscall(SYS_setfsgid, (gid_t)-1) != (long)gid || syscall(SYS_setfsuid, (uid_t)-1) != (long)uid) return -EPERM;
  return 0;
}

int users_map_tree(int tree, int users) {
  struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)users};
  return sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr);
}
