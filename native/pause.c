// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * pause.c: the process that is a pod's sandbox. By the time it runs it sits in the pod's network, UTS and IPC
 * namespaces (and is pid 1 of a shared PID namespace), on a root that holds only the pod's own mounts, as user 65535
 * with no capability. It does nothing but stay, and reap the orphans of a shared PID namespace.
 *
 * Exit codes: 0 ended by SIGTERM or SIGINT, 2 the set-up failed, 3 waiting failed.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  sigset_t set;
  /* Masked before anything else: a signal that comes early waits instead of killing the pod. */
  sigfillset(&set);
  if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) return 2;
  /* A container of a shared PID namespace that runs as our user must not trace us, nor reach through /proc/1/root what
   * is mounted for its neighbours. exec has made us dumpable; containers come only after us. */
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) return 2;
  /* We were executed from a memfd, whose name would be ours. */
  prctl(PR_SET_NAME, "minipod-pause");
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  if (chdir("/") < 0) return 2;
  for (int fd = 0; fd < 3; fd++) close(fd);

  for (;;) {
    siginfo_t info;
    int sig = sigwaitinfo(&set, &info);
    if (sig < 0 && errno != EINTR) return 3;
    /* As pid 1 of a shared PID namespace only the outside may end us: it shows as pid 0. A container may not, and
     * what it can forge with rt_sigqueueinfo(2) is never SI_USER. */
    int outside = info.si_code == SI_USER && info.si_pid == 0;
    if ((sig == SIGTERM || sig == SIGINT) && (getpid() != 1 || outside)) return 0;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
  }
}
