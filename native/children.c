// SPDX-License-Identifier: GPL-3.0-or-later
/* children.c: a child from its clone to its end: the fds it sends, its exec, its failure, its exit status, its orphans. */
#define _GNU_SOURCE 1
#include "children.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "events.h"
#include "procs.h"
#include "sys.h"

/* Reads that empty any pipe (fs.pipe-max-size is 1 MiB), at half a line each. */
enum { DRAIN_READS = (1 << 20) / (LOG_LINE / 2) };

/* Write the exit record: it tells the agent how a process ended even when this shim is gone too. */
static void record_exit(int records, const struct mp_msg *entry) {
  char name[MP_KEY_SIZE + 8], temporary[MP_KEY_SIZE + 16], line[128];
  snprintf(name, sizeof name, "%s", entry->key);
  for (char *c = name; *c; c++)
    if (*c == '/') *c = '.';
  snprintf(temporary, sizeof temporary, ".%s.tmp", name);
  int size = snprintf(line, sizeof line, "%d %d %llu %llu\n", entry->pid, entry->status,
                      (unsigned long long)entry->started_ns, (unsigned long long)entry->finished_ns);
  _cleanup_fd_ int fd = openat(records, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return;
  if (RETRY(write(fd, line, (size_t)size)) == size) renameat(records, temporary, records, name);
}

/* Keep what a child says of its times, between the marks of our own: when it was asked for, and room for the exec. That
 * there is no memory for it is no reason to fail. */
static void keep_marks(struct proc *p, const uint64_t *marks, unsigned count) {
  if (!p->asked_ns || p->marks || count > MP_MAX_MARKS - 2) return;
  if (!(p->marks = malloc((count + 2) * sizeof *marks))) return;
  p->marks[0] = p->asked_ns;
  memcpy(p->marks + 1, marks, count * sizeof *marks);
  p->marked = count + 1;
}

static void answer(struct proc *p, struct mp_msg *message) {
  message->serial = agent_serial(&p->asker);
  agent_tell_marks(message, p->sent, p->sent_count, p->marks, p->marked);
  free(p->marks);
  p->marks = NULL;
}

/* The child has exec'ed: tell the agent, with the fds that the plan sent. */
static void started(struct proc *p) {
  p->entry.state = MP_RUNNING;
  struct mp_msg message = p->entry;
  message.type = MP_LAUNCHED;
  if (p->marks) p->marks[p->marked++] = monotonic_ns();
  answer(p, &message);
  proc_drop_sent(p);
}

/* The child ended before exec: an answer to the launch, and nothing stays. */
static void failed(int index) {
  struct proc *p = procs[index];
  struct mp_msg message = p->entry;
  message.type = MP_FAILED;
  if (!p->failed) { /* killed in the middle of its steps */
    message.step = -1;
    message.detail = p->entry.status;
    message.status = EINTR;
  }
  proc_drop_sent(p);
  answer(p, &message);
  proc_forget(index);
}

/* The first failure is the one that is told. */
static void fail(struct proc *p, const struct mp_report *report, int err) {
  if (p->failed) return;
  p->failed = 1;
  p->entry.step = report->step;
  p->entry.detail = report->detail;
  p->entry.status = err;
}

/* Take over an fd that a plan sends up: the terminal to be logged, or one for the agent. Returns 0 or -errno. */
static int take_fd(int index, int fd) {
  struct proc *p = procs[index];
  if (p->stdio == MP_STDIO_TTY_LOG && p->out.fd < 0) {
    /* We hold the slave as well: a program that closes it to open it again must not see its terminal hang up. */
    p->stdin_fd = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    int held = p->stdin_fd < 0 ? -errno : 0;
    int r = stream_open(&p->out, fd, "stdout");
    if (r == 0) r = held;
    return r < 0 ? r : watch(fd, SRC_OUT, index);
  }
  if (p->sent_count == MP_MAX_FDS) {
    close_fd(&fd);
    return -EMFILE;
  }
  p->sent[p->sent_count++] = fd;
  return 0;
}

void child_report(int index) {
  static uint64_t marks[MP_MAX_MARKS];
  struct proc *p = procs[index];
  struct mp_report report;
  union {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  struct iovec data[] = {{.iov_base = &report, .iov_len = sizeof report}, {.iov_base = marks, .iov_len = sizeof marks}};
  while (p->report >= 0) {
    struct msghdr header = {
        .msg_iov = data, .msg_iovlen = 2, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t n = (ssize_t)RETRY(recvmsg(p->report, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
    if (n < 0 && errno == EAGAIN) return;
    int fd = -1;
    struct cmsghdr *rights = n > 0 ? CMSG_FIRSTHDR(&header) : NULL;
    if (rights && rights->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    if (n <= 0) { /* its end was closed: by exec, or by death */
      proc_end_report(p);
      if (p->ready && !p->failed) started(p);
      return;
    }
    if (n > (ssize_t)sizeof report) keep_marks(p, marks, (unsigned)((size_t)n - sizeof report) / sizeof *marks);
    if (report.type == MP_REPORT_READY) p->ready = 1;
    if (report.type == MP_REPORT_FAILED) fail(p, &report, report.err);
    if (report.type == MP_REPORT_FD) {
      int r = fd < 0 ? -EMFILE : take_fd(index, fd);
      if (r == 0) continue;
      fail(p, &report, -r);
      sys_pidfd_send_signal(p->pidfd, SIGKILL);
    }
  }
}

static void on_exit_of(int index, int status, int records) {
  struct proc *p = procs[index];
  child_report(index);
  if (p->entry.state == MP_STARTING) {
    if (!p->failed) p->entry.status = status;
    failed(index);
    return;
  }
  /* All that it wrote is in the log before anyone learns that it ended; what an orphan of it, in a shared PID
   * namespace, goes on to write is not waited for. */
  proc_pump(p, &p->out, DRAIN_READS);
  proc_pump(p, &p->err, DRAIN_READS);
  p->entry.state = MP_EXITED_STATE;
  p->entry.status = status;
  p->entry.finished_ns = now_ns();
  close_fd(&p->pidfd);
  close_fd(&p->stdin_fd);
  if (p->entry.kind != MP_KIND_EXEC) record_exit(records, &p->entry);
  struct mp_msg message = p->entry;
  message.type = MP_EXITED;
  agent_tell(&message, NULL, 0);
  if (p->entry.kind == MP_KIND_EXEC) proc_forget(index); /* its caller is told now or never */
}

int children_reap(int records) {
  int status;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    for (int i = 0; i < MAX_PROCS; i++)
      if (procs[i] && procs[i]->entry.pid == pid && procs[i]->entry.state != MP_EXITED_STATE) {
        on_exit_of(i, status, records);
        break;
      }
  }
  return !(pid < 0 && errno == ECHILD);
}

/* Kill our children, orphans of the pod among them. Their pids are their own: nobody reaps them but us. */
void children_kill(void) {
  char list[4096];
  _cleanup_fd_ int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
  ssize_t size = fd < 0 ? -1 : (ssize_t)RETRY(read(fd, list, sizeof list));
  int pid = 0;
  /* A number that the buffer cuts off has no space after it; its turn comes with the next death. */
  for (ssize_t i = 0; i < size; i++) {
    if (list[i] != ' ') {
      pid = pid * 10 + (list[i] - '0');
      continue;
    }
    if (pid > 0) kill(pid, SIGKILL);
    pid = 0;
  }
}
