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
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "launch.h"
#include "log.h"
#include "sys.h"

enum { FD_LISTEN = 3, FD_RECORDS = 4, FD_PAUSE = 5 };
enum { MAX_PROCS = 256 };
/* Reads that empty any pipe (fs.pipe-max-size is 1 MiB), at half a line each. */
enum { DRAIN_READS = (1 << 20) / (LOG_LINE / 2) };

struct proc {
  struct mp_msg entry; /* key, kind, state, pid, status, times: what the agent is told */
  uint32_t serial;     /* of the launch request that waits for an answer, or 0 */
  int ready;           /* the child came as far as exec */
  int failed;          /* the child reported a failed step */
  int pidfd;
  int report;
  int stdin_fd;
  int sent[MP_MAX_FDS]; /* fds that the plan sent up */
  int sent_count;
  uint32_t stdio;
  struct stream out, err;
  struct logfile log;
};

/* What an epoll event belongs to: (kind << 16 | index of the proc). */
enum source { SRC_LISTEN = 1, SRC_AGENT, SRC_SIGNAL, SRC_REPORT, SRC_OUT, SRC_ERR };

static struct proc *procs[MAX_PROCS];
static struct shim_self self = {.pause_fd = FD_PAUSE};
static int epoll_fd, signal_fd, agent_fd = -1;
static int shutting_down;
static uint32_t shutdown_serial;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static int watch(int fd, enum source source, int index) {
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)source << 16 | (unsigned)index};
  return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Unwatched by hand: a clone that has not yet come to close its copy would keep the events of a closed fd coming. */
static void unwatch(int fd) {
  if (fd >= 0) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* ---- towards the agent ------------------------------------------------------------------------------------- */

/* A serial means something only on the connection that it came by; the next agent counts from 1 again. */
static void drop_agent(void) {
  if (agent_fd < 0) return;
  unwatch(agent_fd);
  shutdown(agent_fd, SHUT_RDWR); /* seen by the agent even while a clone has a copy */
  close_fd(&agent_fd);
  shutdown_serial = 0;
  for (int i = 0; i < MAX_PROCS; i++)
    if (procs[i]) procs[i]->serial = 0;
}

/* An agent that does not read is an agent that is gone: it asks for the state when it comes back. */
static void tell(const struct mp_msg *message, const int *fds, int count) {
  struct iovec data = {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof *message};
  union {
    char space[CMSG_SPACE(sizeof(int) * MP_MAX_FDS)];
    struct cmsghdr align;
  } control = {0};
  struct msghdr header = {.msg_iov = &data, .msg_iovlen = 1};
  if (agent_fd < 0) return;
  if (count > 0) {
    header.msg_control = control.space;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count);
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
    memcpy(CMSG_DATA(rights), fds, sizeof(int) * (size_t)count);
  }
  if (RETRY(sendmsg(agent_fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT)) < 0) drop_agent();
}

static void answer(uint32_t serial, uint32_t type, int status) {
  struct mp_msg message = {.type = type, .serial = serial, .status = status};
  tell(&message, NULL, 0);
}

/* Write the exit record: it tells the agent how a process ended even when this shim is gone too. */
static void record_exit(const struct mp_msg *entry) {
  char name[MP_KEY_SIZE + 8], temporary[MP_KEY_SIZE + 16], line[128];
  snprintf(name, sizeof name, "%s", entry->key);
  for (char *c = name; *c; c++)
    if (*c == '/') *c = '.';
  snprintf(temporary, sizeof temporary, ".%s.tmp", name);
  int size = snprintf(line, sizeof line, "%d %d %llu %llu\n", entry->pid, entry->status,
                      (unsigned long long)entry->started_ns, (unsigned long long)entry->finished_ns);
  _cleanup_fd_ int fd = openat(FD_RECORDS, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return;
  if (RETRY(write(fd, line, (size_t)size)) == size) renameat(FD_RECORDS, temporary, FD_RECORDS, name);
}

/* ---- processes --------------------------------------------------------------------------------------------- */

static int find(const char *key) {
  for (int i = 0; i < MAX_PROCS; i++)
    if (procs[i] && strcmp(procs[i]->entry.key, key) == 0) return i;
  return -1;
}

static void drop_sent(struct proc *p) {
  for (int i = 0; i < p->sent_count; i++) close_fd(&p->sent[i]);
  p->sent_count = 0;
}

static void end_stream(struct proc *p, struct stream *stream) {
  unwatch(stream->fd);
  stream_close(stream, &p->log);
}

static void end_report(struct proc *p) {
  unwatch(p->report);
  close_fd(&p->report);
}

static void forget(int index) {
  struct proc *p = procs[index];
  end_stream(p, &p->out);
  end_stream(p, &p->err);
  log_close(&p->log);
  close_fd(&p->pidfd);
  end_report(p);
  close_fd(&p->stdin_fd);
  drop_sent(p);
  free(p);
  procs[index] = NULL;
}

static void pump(struct proc *p, struct stream *stream, int reads) {
  int r = 1;
  while (stream->fd >= 0 && r == 1 && reads-- > 0) {
    r = stream_pump(stream, &p->log);
    if (r < 0) end_stream(p, stream);
  }
}

/* The child has exec'ed: tell the agent, with the fds that the plan sent. */
static void started(struct proc *p) {
  p->entry.state = MP_RUNNING;
  struct mp_msg message = p->entry;
  message.type = MP_LAUNCHED;
  message.serial = p->serial;
  p->serial = 0;
  tell(&message, p->sent, p->sent_count);
  drop_sent(p);
}

/* The child ended before exec: an answer to the launch, and nothing stays. */
static void failed(int index) {
  struct proc *p = procs[index];
  struct mp_msg message = p->entry;
  message.type = MP_FAILED;
  message.serial = p->serial;
  if (!p->failed) { /* killed in the middle of its steps */
    message.step = -1;
    message.detail = p->entry.status;
    message.status = EINTR;
  }
  tell(&message, NULL, 0);
  forget(index);
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

/* Take in what a child reports between clone and exec. */
static void on_report(int index) {
  struct proc *p = procs[index];
  struct mp_report report;
  union {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  struct iovec data = {.iov_base = &report, .iov_len = sizeof report};
  while (p->report >= 0) {
    struct msghdr header = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t n = (ssize_t)RETRY(recvmsg(p->report, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
    if (n < 0 && errno == EAGAIN) return;
    int fd = -1;
    struct cmsghdr *rights = n > 0 ? CMSG_FIRSTHDR(&header) : NULL;
    if (rights && rights->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    if (n <= 0) { /* its end was closed: by exec, or by death */
      end_report(p);
      if (p->ready && !p->failed) started(p);
      return;
    }
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

static void on_exit_of(int index, int status) {
  struct proc *p = procs[index];
  on_report(index);
  if (p->entry.state == MP_STARTING) {
    if (!p->failed) p->entry.status = status;
    failed(index);
    return;
  }
  /* All that it wrote is in the log before anyone learns that it ended; what an orphan of it, in a shared PID
   * namespace, goes on to write is not waited for. */
  pump(p, &p->out, DRAIN_READS);
  pump(p, &p->err, DRAIN_READS);
  p->entry.state = MP_EXITED_STATE;
  p->entry.status = status;
  p->entry.finished_ns = now_ns();
  close_fd(&p->pidfd);
  close_fd(&p->stdin_fd);
  if (p->entry.kind != MP_KIND_EXEC) record_exit(&p->entry);
  struct mp_msg message = p->entry;
  message.type = MP_EXITED;
  tell(&message, NULL, 0);
  if (p->entry.kind == MP_KIND_EXEC) forget(index); /* its caller is told now or never */
}

/* Reap everything that ended, ours and the orphans of the pod. Returns how many children are left (0 or 1). */
static int reap(void) {
  int status;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    for (int i = 0; i < MAX_PROCS; i++)
      if (procs[i] && procs[i]->entry.pid == pid && procs[i]->entry.state != MP_EXITED_STATE) {
        on_exit_of(i, status);
        break;
      }
  }
  return !(pid < 0 && errno == ECHILD);
}

/* Kill our children, orphans of the pod among them. Their pids are their own: nobody reaps them but us. */
static void kill_children(void) {
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

/* ---- requests ---------------------------------------------------------------------------------------------- */

static int setup_proc(int index, const struct mp_msg *request, const struct plan *plan, const struct launched *child) {
  struct proc *p = procs[index];
  int r = 0;
  memcpy(p->entry.key, request->key, sizeof p->entry.key);
  p->entry.kind = plan->head->kind;
  p->entry.state = MP_STARTING;
  p->entry.pid = child->pid;
  p->entry.started_ns = now_ns();
  p->serial = request->serial;
  p->stdio = plan->head->stdio;
  p->pidfd = child->pidfd;
  p->report = child->report;
  p->stdin_fd = child->stdin_fd;
  /* Both owned before either can fail. */
  if (child->stdout_fd >= 0) r = stream_open(&p->out, child->stdout_fd, "stdout");
  if (child->stderr_fd >= 0) {
    int s = stream_open(&p->err, child->stderr_fd, "stderr");
    r = r < 0 ? r : s;
  }
  if (r == 0 && p->out.fd >= 0) r = watch(p->out.fd, SRC_OUT, index);
  if (r == 0 && p->err.fd >= 0) r = watch(p->err.fd, SRC_ERR, index);
  return r < 0 ? r : watch(p->report, SRC_REPORT, index);
}

/* The user namespace of a child of ours. Its pid is its own until we have waited for it, so nobody else can have it. */
static int user_namespace(pid_t pid) {
  char path[40];
  snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

/* Return where the running process called key is, -1 for no key, or -ESRCH. */
static int find_running(const char *key) {
  if (key[0] == 0) return -1;
  int index = find(key);
  return index < 0 || procs[index]->entry.state != MP_RUNNING ? -ESRCH : index;
}

/* Returns 0 when the answer comes later, or -errno for one now. */
static int launch_plan(const struct mp_msg *request, const struct plan *plan, int *fds, int count) {
  int index = 0, join = -1, pid_of = -1, r;
  _cleanup_fd_ int user = -1;
  if (shutting_down) return -ESHUTDOWN;
  if (request->key[0] == 0) return -EBADMSG;
  if (find(request->key) >= 0) return -EEXIST;
  while (index < MAX_PROCS && procs[index]) index++;
  if (index == MAX_PROCS) return -EUSERS;
  const int joined = find_running(plan->head->join), target = find_running(plan->head->pid_of);
  if (joined < -1 || target < -1) return -ESRCH;
  if (target >= 0) pid_of = procs[target]->pidfd;
  if (joined >= 0) {
    join = procs[joined]->pidfd;
    if (plan->head->user_slot >= 0 && (user = user_namespace(procs[joined]->entry.pid)) < 0) return user;
  }
  struct proc *p = calloc(1, sizeof *p);
  if (!p) return -ENOMEM;
  p->pidfd = p->report = p->stdin_fd = p->out.fd = p->err.fd = p->log.fd = -1;
  procs[index] = p;
  if (plan->head->stdio == MP_STDIO_LOG || plan->head->stdio == MP_STDIO_TTY_LOG) {
    const char *path = plan_str(plan, plan->head->log_path);
    r = log_open(&p->log, path, plan->head->log_max_bytes, plan->head->log_max_files);
    if (r < 0) {
      forget(index);
      return r;
    }
  }
  struct launched child;
  r = launch(&self, plan, fds, count, join, pid_of, user, &child);
  if (r < 0) {
    forget(index);
    return r;
  }
  r = setup_proc(index, request, plan, &child);
  if (r < 0) { /* out of memory or fds after the clone: it must not run unwatched */
    sys_pidfd_send_signal(p->pidfd, SIGKILL);
    RETRY(waitpid(child.pid, NULL, 0));
    forget(index);
  }
  return r;
}

static int on_launch(const struct mp_msg *request, int *fds, int count) {
  struct plan plan;
  struct stat st;
  if (count < 1) return -EBADMSG;
  /* Sealed by the agent against change; we check, before anything else, because the child reads it while it runs. */
  int wanted = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
  int seals = fcntl(fds[0], F_GET_SEALS); /* -1 for what is no memfd, which has all bits set */
  if (seals < 0 || (seals & wanted) != wanted) return -EPERM;
  if (fstat(fds[0], &st) < 0) return -errno;
  if (st.st_size <= 0 || st.st_size > MP_MAX_PLAN) return -EMSGSIZE;
  void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fds[0], 0);
  if (data == MAP_FAILED) return -errno;
  int r = plan_validate(&plan, data, (size_t)st.st_size);
  if (r == 0) r = launch_plan(request, &plan, fds + 1, count - 1);
  munmap(data, (size_t)st.st_size);
  return r;
}

static int on_signal_request(const struct mp_msg *request) {
  int index = find(request->key);
  if (index < 0) return -ESRCH;
  struct proc *p = procs[index];
  if (p->pidfd < 0) return -ESRCH;
  /* A command that is killed takes along what it has started: its process group, which is its own because a plan makes
   * a session of it before the exec. The number is safe, for we have not reaped it. */
  if (p->entry.kind == MP_KIND_EXEC && p->entry.state == MP_RUNNING && request->status == SIGKILL)
    if (getpgid(p->entry.pid) == p->entry.pid) kill(-p->entry.pid, SIGKILL);
  return sys_pidfd_send_signal(p->pidfd, request->status);
}

/* Copy what a container writes from now on into the pipes, and answer with the fd that feeds it. */
static int on_attach(const struct mp_msg *request, int *fds, int count) {
  struct mp_msg message = {.type = MP_OK, .serial = request->serial};
  int index = find(request->key);
  struct proc *p = index < 0 ? NULL : procs[index];
  if (!p || p->entry.state != MP_RUNNING) return -ESRCH;
  if (p->entry.kind != MP_KIND_CONTAINER || count != 2) return -EINVAL;
  for (int i = 0; i < 2; i++) {
    struct stream *stream = i ? &p->err : &p->out;
    if (stream->fd < 0) continue; /* it has closed this one, or a terminal has but the other */
    int r = stream_copy(stream, fds[i]);
    if (r < 0) return r;
    fds[i] = -1;
  }
  /* Of a terminal we hold the slave as stdin_fd; what feeds it is the master. */
  const int to = p->stdio == MP_STDIO_TTY_LOG ? p->out.fd : p->stdin_fd;
  tell(&message, &to, to >= 0);
  return 0;
}

static int on_end_stdin(const struct mp_msg *request) {
  int index = find(request->key);
  if (index < 0) return -ESRCH;
  if (procs[index]->stdio == MP_STDIO_LOG) close_fd(&procs[index]->stdin_fd);
  return 0;
}

static void on_state(const struct mp_msg *request) {
  for (int i = 0; i < MAX_PROCS; i++) {
    if (!procs[i]) continue;
    struct mp_msg message = procs[i]->entry;
    message.type = MP_ENTRY;
    message.serial = request->serial;
    tell(&message, NULL, 0);
  }
  answer(request->serial, MP_END, 0);
}

static void on_shutdown(const struct mp_msg *request) {
  shutting_down = 1;
  shutdown_serial = request->serial;
  for (int i = 0; i < MAX_PROCS; i++)
    if (procs[i] && procs[i]->pidfd >= 0) sys_pidfd_send_signal(procs[i]->pidfd, SIGKILL);
}

static void on_forget(const struct mp_msg *request) {
  int index = find(request->key);
  int r = index < 0 ? -ESRCH : procs[index]->entry.state == MP_EXITED_STATE ? 0 : -EBUSY;
  if (r == 0) forget(index);
  answer(request->serial, r < 0 ? MP_ERROR : MP_OK, -r);
}

/* `lost` says that not all fds of the message arrived: too many for it, or for us. */
static void handle(struct mp_msg *request, int *fds, int count, int lost) {
  int r = 0;
  request->key[MP_KEY_SIZE - 1] = 0;
  switch (request->type) {
    case MP_LAUNCH:
      if ((r = lost ? -EMFILE : on_launch(request, fds, count)) < 0) {
        struct mp_msg message = {.type = MP_FAILED, .serial = request->serial, .status = -r, .step = -2};
        memcpy(message.key, request->key, sizeof message.key);
        tell(&message, NULL, 0);
      }
      break;
    case MP_SIGNAL:
      r = on_signal_request(request);
      answer(request->serial, r < 0 ? MP_ERROR : MP_OK, -r);
      break;
    case MP_STATE:
      on_state(request);
      break;
    case MP_FORGET:
      on_forget(request);
      break;
    case MP_SHUTDOWN:
      on_shutdown(request);
      break;
    case MP_ATTACH:
      r = lost ? -EMFILE : on_attach(request, fds, count);
      if (r < 0) answer(request->serial, MP_ERROR, -r);
      break;
    case MP_END_STDIN:
      r = on_end_stdin(request);
      answer(request->serial, r < 0 ? MP_ERROR : MP_OK, -r);
      break;
    default:
      answer(request->serial, MP_ERROR, EBADMSG);
  }
}

static void on_agent(void) {
  struct mp_msg request;
  int fds[MP_MAX_FDS], count = 0;
  union {
    char space[CMSG_SPACE(sizeof(int) * MP_MAX_FDS)];
    struct cmsghdr align;
  } control;
  struct iovec data = {.iov_base = &request, .iov_len = sizeof request};
  struct msghdr header = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
  ssize_t n = (ssize_t)RETRY(recvmsg(agent_fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    drop_agent();
    return;
  }
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(fds, CMSG_DATA(c), (size_t)count * sizeof(int));
  }
  if (n == (ssize_t)sizeof request && !(header.msg_flags & MSG_TRUNC))
    handle(&request, fds, count, header.msg_flags & MSG_CTRUNC);
  else
    drop_agent(); /* it speaks another language: better gone than waiting for an answer */
  for (int i = 0; i < count; i++) close_fd(&fds[i]); /* launch() has set to -1 what it took */
}

static void on_connect(void) {
  struct ucred peer;
  socklen_t size = sizeof peer;
  int fd = accept4(FD_LISTEN, NULL, NULL, SOCK_CLOEXEC);
  if (fd < 0) return;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.uid != geteuid()) {
    close(fd);
    return;
  }
  drop_agent(); /* a new agent takes over from one that died */
  agent_fd = fd;
  if (watch(fd, SRC_AGENT, 0) < 0) drop_agent();
}

/* ---- the loop ---------------------------------------------------------------------------------------------- */

static void dispatch(uint64_t data) {
  int index = (int)(data & 0xffff);
  struct proc *p = procs[index % MAX_PROCS];
  struct signalfd_siginfo info;
  switch ((enum source)(data >> 16)) {
    case SRC_LISTEN:
      on_connect();
      break;
    case SRC_AGENT:
      if (agent_fd >= 0) on_agent();
      break;
    case SRC_SIGNAL:
      while (read(signal_fd, &info, sizeof info) > 0) {
      }
      break;
    case SRC_REPORT:
      if (p && p->report >= 0) on_report(index);
      break;
    case SRC_OUT:
      if (p) pump(p, &p->out, 1);
      break;
    case SRC_ERR:
      if (p) pump(p, &p->err, 1);
      break;
  }
}

static int loop(void) {
  struct epoll_event events[16];
  for (;;) {
    int count = epoll_wait(epoll_fd, events, 16, -1);
    if (count < 0 && errno != EINTR) return 2;
    for (int i = 0; i < count; i++) dispatch(events[i].data.u64);
    /* After the batch. An event in it whose process is gone, and its place taken, is a read that finds nothing. */
    int children = reap();
    if (shutting_down && children) kill_children();
    if (shutting_down && !children) {
      answer(shutdown_serial, MP_OK, 0);
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
  if ((epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0) return -errno;
  int r = watch(FD_LISTEN, SRC_LISTEN, 0);
  return r < 0 ? r : watch(signal_fd, SRC_SIGNAL, 0);
}

int main(void) {
  if (chdir("/") < 0 || setup() < 0) return 2;
  umask(0077);
  return loop();
}
