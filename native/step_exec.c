// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * step_exec.c: the end of a plan: where the program starts, which fds it does not get, and that we become it.
 */
#define _GNU_SOURCE 1
#include <signal.h>
#include <sys/stat.h>

#include "report.h"
#include "step.h"
#include "sys.h"

int do_chdir(struct child *c, const struct mp_step *s) {
  char cwd[4096];
  if (chdir(text(c, s, 0)) < 0) return -errno;
  /* The kernel prefixes "(unreachable)" when the directory is outside our root (runc CVE-2024-21626). */
  long r = syscall(SYS_getcwd, cwd, sizeof cwd);
  if (r < 0) return -errno;
  return cwd[0] == '/' ? 0 : -ENOENT;
}

int do_close_range(struct child *c, const struct mp_step *s) {
  (void)c, (void)s;
  return sys_close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
}

/* Turn `count` strings that lie one after the other into a NULL-terminated vector. */
static void vector(const char *item, uint64_t count, char **out) {
  for (uint64_t i = 0; i < count; i++, item = plan_next(item)) out[i] = (char *)(uintptr_t)item;
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

int do_exec(struct child *c, const struct mp_step *s) {
  char *argv[s->num[1] + 1], *env[s->num[2] + 1];
  int r, result = -ENOENT;
  vector(text(c, s, 1), s->num[1], argv);
  vector(text(c, s, 2), s->num[2], env);
  if ((r = ready_to_exec(c, s)) < 0) return r;
  const char *candidate = text(c, s, 0);
  for (uint64_t i = 0; i < s->num[0]; i++, candidate = plan_next(candidate)) {
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

int do_exec_fd(struct child *c, const struct mp_step *s) {
  char *argv[s->num[1] + 1], *env[s->num[2] + 1];
  int r;
  vector(text(c, s, 1), s->num[1], argv);
  vector(text(c, s, 2), s->num[2], env);
  if ((r = ready_to_exec(c, s)) < 0) return r;
  syscall(SYS_execveat, slot_get(c, s->in), "", argv, env, AT_EMPTY_PATH);
  return -errno;
}
