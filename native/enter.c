// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * enter.c: becomes a command in namespaces of a pod, for `minipod enter`. In C and without a way back, because once we see
 * a container's files, nothing of Python's may be looked up any more: an import would be the container's code.
 */
#define _GNU_SOURCE 1
#include <grp.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include "bindings.h"
#include "sys.h"

enum { NOT_EXECUTABLE = 126, NOT_FOUND = 127 }; /* as a shell's */

__attribute__((noreturn)) static void give_up(const char *what, int error) {
  dprintf(2, "minipod: %s: %s\n", what, strerror(error));
  _exit(NOT_EXECUTABLE);
}

static void must(int r, const char *what) {
  if (r < 0) give_up(what, -r);
}

/* A mount namespace of our own in which /proc shows our PID namespace. Nothing of it is seen outside. */
static int own_proc(void) {
  int r = sys_unshare(CLONE_NEWNS);
  if (r == 0) r = sys_mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
  if (r == 0) r = sys_mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  return r;
}

/* Drop from the bounding set what `kept` does not have: the exec gives root no more than that (capabilities(7)). */
static int limit_capabilities(uint64_t kept) {
  for (int capability = 0; capability < 64; capability++) {
    if (kept >> capability & 1) continue;
    /* Not 1: it is dropped already, or past the last that this kernel has. */
    if (prctl(PR_CAPBSET_READ, capability, 0, 0, 0) != 1) continue;
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) return -errno;
  }
  return 0;
}

static void become_root_of(int user) {
  must(sys_setns(user, CLONE_NEWUSER), "the user namespace");
  if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
    give_up("becoming root of the user namespace", errno);
}

void mp_enter(const struct mp_enter *what, char *const *candidates, char *const *argv, char *const *env) {
  /* We are the host's root with all capabilities, not dumpable. Nothing here is looked up by a path that a container has. */
  for (int i = 0; i < what->count; i++) must(sys_setns(what->fds[i], what->kinds[i]), "entering a namespace");
  if (what->mnt >= 0) {
    must(sys_setns(what->mnt, CLONE_NEWNS), "the mount namespace");
    if (chdir("/") < 0 || setsid() < 0) give_up("a session of its own", errno);
  } else if (what->own_proc) {
    must(own_proc(), "/proc");
  }
  if (what->user >= 0)
    become_root_of(what->user); /* which brings all capabilities in there, so they are limited after it */
  if (what->mnt >= 0) must(limit_capabilities(what->capabilities), "dropping capabilities");
  if (what->close_fds) must(sys_close_range(3, ~0U, 0), "closing fds");
  /* Python ignores some; that is not for others. */
  const int signals[] = {SIGPIPE, SIGXFSZ, SIGINT, SIGQUIT};
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) signal(signals[i], SIG_DFL);
  int error = ENOENT;
  for (; *candidates; candidates++) {
    execve(*candidates, argv, env);
    /* As execvp(3): go on along PATH after "not here" and "not allowed", and remember the latter. */
    if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) give_up(argv[0], errno);
    if (errno == EACCES) error = EACCES;
  }
  if (error != ENOENT) give_up(argv[0], error);
  dprintf(2, "minipod: %s: there is no such program %s\n", argv[0],
          what->mnt >= 0 ? "in the container" : "on this host");
  _exit(NOT_FOUND);
}
