// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * agent.c: messages to and from the agent. We never wait for it: one that does not read is one that is gone, and asks for
 * the state when it comes back.
 */
#define _GNU_SOURCE 1
#include "agent.h"

#include <sys/socket.h>

#include "events.h"
#include "sys.h"

static int agent_fd = -1;
static uint32_t connection;

static void drop_agent(void) {
  if (agent_fd < 0) return;
  unwatch(agent_fd);
  shutdown(agent_fd, SHUT_RDWR); /* seen by the agent even while a clone has a copy */
  close_fd(&agent_fd);
  connection++;
}

void agent_tell(const struct mp_msg *message, const int *fds, int count) {
  agent_tell_marks(message, fds, count, NULL, 0);
}

void agent_tell_marks(const struct mp_msg *message, const int *fds, int count, const uint64_t *marks, unsigned marked) {
  struct iovec data[] = {{.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof *message},
                         {.iov_base = (void *)(uintptr_t)marks, .iov_len = marked * sizeof *marks}};
  union {
    char space[CMSG_SPACE(sizeof(int) * MP_MAX_FDS)];
    struct cmsghdr align;
  } control = {0};
  struct msghdr header = {.msg_iov = data, .msg_iovlen = 2};
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

void agent_answer(uint32_t serial, uint32_t type, int status) {
  struct mp_msg message = {.type = type, .serial = serial, .status = status};
  agent_tell(&message, NULL, 0);
}

struct asker agent_asker(uint32_t serial) {
  return (struct asker){.serial = serial, .connection = connection};
}

uint32_t agent_serial(const struct asker *asker) { return asker->connection == connection ? asker->serial : 0; }

void agent_close_fds(struct request *request) {
  for (int i = 0; i < request->count; i++) close_fd(&request->fds[i]);
}

int agent_receive(struct request *request) {
  union {
    char space[CMSG_SPACE(sizeof(int) * MP_MAX_FDS)];
    struct cmsghdr align;
  } control;
  struct iovec data = {.iov_base = &request->message, .iov_len = sizeof request->message};
  struct msghdr header = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
  request->count = 0;
  if (agent_fd < 0) return 0;
  ssize_t n = (ssize_t)RETRY(recvmsg(agent_fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
  if (n < 0 && errno == EAGAIN) return 0;
  if (n <= 0) {
    drop_agent();
    return 0;
  }
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    request->count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(request->fds, CMSG_DATA(c), (size_t)request->count * sizeof(int));
  }
  request->lost = (header.msg_flags & MSG_CTRUNC) != 0;
  request->message.key[MP_KEY_SIZE - 1] = 0;
  if (n == (ssize_t)sizeof request->message && !(header.msg_flags & MSG_TRUNC)) return 1;
  drop_agent(); /* it speaks another language: better gone than waiting for an answer */
  agent_close_fds(request);
  return 0;
}

void agent_accept(int listener) {
  struct ucred peer;
  socklen_t size = sizeof peer;
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  if (fd < 0) return;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.uid != geteuid()) {
    close(fd);
    return;
  }
  drop_agent(); /* a new agent takes over from one that died */
  agent_fd = fd;
  if (watch(fd, SRC_AGENT, 0) < 0) drop_agent();
}
