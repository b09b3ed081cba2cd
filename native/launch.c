// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * launch.c: makes the clone in which a plan's steps run. Parent side: pipes, PID namespace, cgroup. Child side:
 * forget every fd that the plan does not name, run the steps, report the one that failed.
 */
#define _GNU_SOURCE 1
#include "launch.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "report.h"
#include "steps.h"
#include "sys.h"

static int by_number(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* Close every fd above 2 that is neither in a slot nor the report socket: the shim's own, other containers' pipes. */
static void forget_other_fds(const struct child *child) {
  int kept[MP_SLOTS + 1], count = 0;
  for (int i = 0; i < MP_SLOTS; i++)
    if (child->slots[i] > 2) kept[count++] = child->slots[i];
  kept[count++] = child->report;
  qsort(kept, (size_t)count, sizeof *kept, by_number);
  unsigned first = 3;
  for (int i = 0; i < count; i++) {
    if ((unsigned)kept[i] > first) sys_close_range(first, (unsigned)kept[i] - 1, 0);
    if ((unsigned)kept[i] >= first) first = (unsigned)kept[i] + 1;
  }
  sys_close_range(first, ~0U, 0);
}

/* We are the clone: root, all capabilities of the shim, in the host's namespaces but for a new PID namespace. */
__attribute__((noreturn)) static void child_main(struct child *child) {
  unsigned step = 0;
  forget_other_fds(child);
  int r = steps_run(child, &step);
  report_send(child->report, MP_REPORT_FAILED, (int)step, -r, child->detail, -1);
  _exit(127);
}

static void set_slot(struct child *child, int32_t slot, int fd) {
  if (slot >= 0) child->slots[slot] = fd;
}

struct stdio {
  int child[3];
  int parent[3];
};

static void close_three(int *fds) {
  for (int i = 0; i < 3; i++) close_fd(&fds[i]);
}

/* Make the three standard streams as the plan wants them. The child's ends are closed by the caller. */
static int stdio_open(const struct shim_self *self, const struct mp_launch *head, struct stdio *io) {
  int pair[2];
  for (int i = 0; i < 3; i++) {
    int is_log = head->stdio == MP_STDIO_LOG && i > 0;
    int is_kept = head->keep_stdin && i == 0 && head->stdio == MP_STDIO_LOG;
    if (head->stdio != MP_STDIO_NULL && head->stdio != MP_STDIO_LOG) break;
    if (is_log || is_kept) {
      if (pipe2(pair, O_CLOEXEC) < 0) return -errno;
      io->child[i] = pair[is_log];
      io->parent[i] = pair[!is_log];
    } else {
      io->child[i] = fcntl(self->null_fd, F_DUPFD_CLOEXEC, 3);
      if (io->child[i] < 0) return -errno;
    }
  }
  return 0;
}

/* Clone into the wanted PID namespace and cgroup. Returns the pid (0 in the child) or -errno. */
static pid_t clone_child(const struct shim_self *self, const struct mp_launch *head, const struct child *child,
                         int pid_of, int *pidfd) {
  struct clone_args args = {
      .flags = CLONE_PIDFD | (head->clone_flags & CLONE_NEWPID),
      .pidfd = (uint64_t)(uintptr_t)pidfd,
      .exit_signal = SIGCHLD,
  };
  if (head->cgroup_slot >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = (uint64_t)child->slots[head->cgroup_slot];
  }
  if (head->join_pid_ns) {
    /* setns on a PID namespace moves only our future children (setns(2)); undone right after the clone. */
    int r = sys_setns(pid_of, CLONE_NEWPID);
    if (r < 0) return r;
  }
  pid_t pid = sys_clone3(&args);
  if (pid != 0 && head->join_pid_ns && sys_setns(self->pid_ns, CLONE_NEWPID) < 0) abort();
  return pid;
}

int launch(const struct shim_self *self, const struct plan *plan, int *fds, int count, int join, int pid_of, int user,
           struct launched *out) {
  struct child child = {.plan = *plan, .self_dev = self->exe_dev, .self_ino = self->exe_ino};
  struct stdio io = {.child = {-1, -1, -1}, .parent = {-1, -1, -1}};
  const struct mp_launch *head = plan->head;
  int pair[2] = {-1, -1}, pidfd = -1;
  pid_t pid = -1;

  for (int i = 0; i < MP_SLOTS; i++) child.slots[i] = i < count ? fds[i] : -1;
  int r = stdio_open(self, head, &io);
  if (r == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) r = -errno;
  if (r == 0) {
    child.report = pair[1];
    const int32_t stdio_slots[3] = {head->stdin_slot, head->stdout_slot, head->stderr_slot};
    for (int i = 0; i < 3; i++)
      if (io.child[i] >= 0) set_slot(&child, stdio_slots[i], io.child[i]);
    set_slot(&child, head->join_slot, join);
    set_slot(&child, head->user_slot, user);
    set_slot(&child, head->pause_slot, self->pause_fd);
    pid = clone_child(self, head, &child, pid_of < 0 ? join : pid_of, &pidfd);
    if (pid == 0) child_main(&child);
    if (pid < 0) r = (int)pid;
  }
  close_three(io.child);
  close_fd(&pair[1]);
  for (int i = 0; i < count; i++) close_fd(&fds[i]);
  if (r < 0) {
    close_three(io.parent);
    close_fd(&pair[0]);
    return r;
  }
  *out = (struct launched){.pid = pid,
                           .pidfd = pidfd,
                           .report = pair[0],
                           .stdin_fd = io.parent[0],
                           .stdout_fd = io.parent[1],
                           .stderr_fd = io.parent[2]};
  return 0;
}
