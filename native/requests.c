// SPDX-License-Identifier: GPL-3.0-or-later
/* requests.c: the agent's requests: launch, signal, attach, state, forget, shutdown (the list is enum mp_type's). */
#define _GNU_SOURCE 1
#include "requests.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "events.h"
#include "procs.h"
#include "sys.h"

static int shutting_down;
static struct asker shutdown_asker;

int shutdown_wanted(void) { return shutting_down; }

void shutdown_done(void) { agent_answer(agent_serial(&shutdown_asker), MP_OK, 0); }

static int setup_proc(int index, const struct mp_msg *request, const struct plan *plan, const struct launched *child,
                      uint64_t asked) {
  struct proc *p = procs[index];
  int r = 0;
  memcpy(p->entry.key, request->key, sizeof p->entry.key);
  p->entry.kind = plan->head->kind;
  p->entry.state = MP_STARTING;
  p->entry.pid = child->pid;
  p->entry.started_ns = now_ns();
  p->asker = agent_asker(request->serial);
  if (plan->head->timed) p->asked_ns = asked;
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

/* Returns 0 when the answer comes later, or -errno for one now. */
static int launch_plan(const struct shim_self *self, const struct mp_msg *request, const struct plan *plan, int *fds,
                       int count) {
  int join = -1, pid_of = -1, r;
  _cleanup_fd_ int user = -1;
  const uint64_t asked = monotonic_ns();
  if (shutting_down) return -ESHUTDOWN;
  if (request->key[0] == 0) return -EBADMSG;
  if (proc_find(request->key) >= 0) return -EEXIST;
  const int joined = proc_find_running(plan->head->join), target = proc_find_running(plan->head->pid_of);
  if (joined < -1 || target < -1) return -ESRCH;
  if (target >= 0) pid_of = procs[target]->pidfd;
  if (joined >= 0) {
    join = procs[joined]->pidfd;
    if (plan->head->user_slot >= 0 && (user = user_namespace(procs[joined]->entry.pid)) < 0) return user;
  }
  const int index = proc_new();
  if (index < 0) return index;
  struct proc *p = procs[index];
  if (plan->head->stdio == MP_STDIO_LOG || plan->head->stdio == MP_STDIO_TTY_LOG) {
    const char *path = plan_str(plan, plan->head->log_path);
    r = log_open(&p->log, path, plan->head->log_max_bytes, plan->head->log_max_files);
    if (r < 0) {
      proc_forget(index);
      return r;
    }
  }
  struct launched child;
  r = launch(self, plan, fds, count, join, pid_of, user, &child);
  if (r < 0) {
    proc_forget(index);
    return r;
  }
  r = setup_proc(index, request, plan, &child, asked);
  if (r < 0) { /* out of memory or fds after the clone: it must not run unwatched */
    sys_pidfd_send_signal(p->pidfd, SIGKILL);
    RETRY(waitpid(child.pid, NULL, 0));
    proc_forget(index);
  }
  return r;
}

static int on_launch(const struct shim_self *self, const struct mp_msg *request, int *fds, int count) {
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
  if (r == 0) r = launch_plan(self, request, &plan, fds + 1, count - 1);
  munmap(data, (size_t)st.st_size);
  return r;
}

static int on_signal_request(const struct mp_msg *request) {
  int index = proc_find(request->key);
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
  int r, index = proc_find(request->key);
  struct proc *p = index < 0 ? NULL : procs[index];
  if (!p || p->entry.state != MP_RUNNING) return -ESRCH;
  if (p->entry.kind != MP_KIND_CONTAINER || count != 2) return -EINVAL;
  struct stream *streams[2] = {&p->out, &p->err};
  /* One without an fd it has closed, or a terminal has but the other. Both have a place before either is taken. */
  for (int i = 0; i < 2; i++)
    if (streams[i]->fd >= 0 && (r = stream_has_room(streams[i])) < 0) return r;
  for (int i = 0; i < 2; i++) {
    if (streams[i]->fd < 0) continue;
    if ((r = stream_copy(streams[i], fds[i])) < 0) return r;
    fds[i] = -1;
  }
  /* Of a terminal we hold the slave as stdin_fd; what feeds it is the master. */
  const int to = p->stdio == MP_STDIO_TTY_LOG ? p->out.fd : p->stdin_fd;
  agent_tell(&message, &to, to >= 0);
  return 0;
}

static int on_end_stdin(const struct mp_msg *request) {
  int index = proc_find(request->key);
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
    agent_tell(&message, NULL, 0);
  }
  agent_answer(request->serial, MP_END, 0);
}

static void on_shutdown(const struct mp_msg *request) {
  shutting_down = 1;
  shutdown_asker = agent_asker(request->serial);
  for (int i = 0; i < MAX_PROCS; i++)
    if (procs[i] && procs[i]->pidfd >= 0) sys_pidfd_send_signal(procs[i]->pidfd, SIGKILL);
}

static int on_forget(const struct mp_msg *request) {
  int index = proc_find(request->key);
  int r = index < 0 ? -ESRCH : procs[index]->entry.state == MP_EXITED_STATE ? 0 : -EBUSY;
  if (r == 0) proc_forget(index);
  return r;
}

void request_handle(const struct shim_self *self, struct request *request) {
  const struct mp_msg *message = &request->message;
  struct mp_msg refusal = {.type = MP_FAILED, .serial = message->serial, .step = -2};
  int r = 0, later = 0; /* answered by itself */
  switch (message->type) {
    case MP_LAUNCH:
      later = 1;
      if ((r = request->lost ? -EMFILE : on_launch(self, message, request->fds, request->count)) < 0) {
        refusal.status = -r;
        memcpy(refusal.key, message->key, sizeof refusal.key);
        agent_tell(&refusal, NULL, 0);
      }
      break;
    case MP_SIGNAL:
      r = on_signal_request(message);
      break;
    case MP_STATE:
      later = 1;
      on_state(message);
      break;
    case MP_FORGET:
      r = on_forget(message);
      break;
    case MP_SHUTDOWN:
      later = 1;
      on_shutdown(message);
      break;
    case MP_ATTACH:
      r = request->lost ? -EMFILE : on_attach(message, request->fds, request->count);
      later = r == 0;
      break;
    case MP_END_STDIN:
      r = on_end_stdin(message);
      break;
    default:
      r = -EBADMSG;
  }
  if (!later) agent_answer(message->serial, r < 0 ? MP_ERROR : MP_OK, -r);
  agent_close_fds(request);
}
