// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * shim.c: one per pod, parent and subreaper of everything that runs in it. It launches plans, writes logs, keeps exit
 * statuses, and outlives the agent. One thread, one epoll loop, no configuration: what it works with are inherited fds
 *
 *   0, 1, 2  /dev/null        3  the listening socket (SOCK_SEQPACKET)
 *   4  directory for exit records      5  the pause executable (sealed memfd)
 *
 * and argv[1], the pod's name, is only for people who read `ps`. Exit codes: 0 shut down, 2 could not start.
 */
#define _GNU_SOURCE 1
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "agent.h"
#include "children.h"
#include "events.h"
#include "launch.h"
#include "procs.h"
#include "requests.h"
#include "sys.h"

enum { FD_LISTEN = 3, FD_RECORDS = 4, FD_PAUSE = 5 };

static struct shim_self self = {.pause_fd = FD_PAUSE};
static int signal_fd = -1;

static void dispatch(const struct event *event) {
  struct proc *p = procs[event->index];
  struct signalfd_siginfo info;
  struct request request;
  switch (event->source) {
    case SRC_LISTEN:
      agent_accept(FD_LISTEN);
      break;
    case SRC_AGENT:
      if (agent_receive(&request)) request_handle(&self, &request);
      break;
    case SRC_SIGNAL:
      while (read(signal_fd, &info, sizeof info) > 0) {
      }
      break;
    case SRC_REPORT:
      if (p && p->report >= 0) child_report(event->index);
      break;
    case SRC_OUT:
      if (p) proc_pump(p, &p->out, 1);
      break;
    case SRC_ERR:
      if (p) proc_pump(p, &p->err, 1);
      break;
  }
}

static int loop(void) {
  struct event events[EVENTS];
  for (;;) {
    int count = events_wait(events);
    if (count < 0) return 2;
    for (int i = 0; i < count; i++) dispatch(&events[i]);
    /* After the batch. An event in it whose process is gone, and its place taken, is a read that finds nothing. */
    int children = children_reap(FD_RECORDS);
    if (!shutdown_wanted()) continue;
    if (children) {
      children_kill();
    } else {
      shutdown_done();
      return 0;
    }
  }
}

static int setup(void) {
  struct stat st;
  struct rlimit files;
  sigset_t mask;
  int closed = sys_close_range(FD_PAUSE + 1, ~0U, 0);
  if (closed < 0) return closed;
  sigfillset(&mask);
  if (sigprocmask(SIG_SETMASK, &mask, NULL) < 0) return -errno;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  if ((signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK)) < 0) return -errno;
  /* Five fds per container are more than the usual soft limit. */
  if (getrlimit(RLIMIT_NOFILE, &files) < 0) return -errno;
  files.rlim_cur = files.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &files) < 0) return -errno;
  if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) return -errno;
  if (prctl(PR_SET_NAME, "minipod-shim", 0, 0, 0) < 0) return -errno;
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) return -errno;
  for (int fd = FD_LISTEN; fd <= FD_PAUSE; fd++)
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return -errno;
  if ((self.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0) return -errno;
  if ((self.pid_ns = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC)) < 0) return -errno;
  if (stat("/proc/self/exe", &st) < 0) return -errno;
  self.exe_dev = st.st_dev;
  self.exe_ino = st.st_ino;
  int r = events_open();
  if (r == 0) r = watch(FD_LISTEN, SRC_LISTEN, 0);
  return r < 0 ? r : watch(signal_fd, SRC_SIGNAL, 0);
}

int main(void) {
  if (chdir("/") < 0 || setup() < 0) return 2;
  umask(0077);
  return loop();
}
