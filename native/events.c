// SPDX-License-Identifier: GPL-3.0-or-later
/* events.c: epoll, whose data says where an event belongs: (source << 16 | index). */
#define _GNU_SOURCE 1
#include "events.h"

#include <sys/epoll.h>

#include "sys.h"

static int epoll_fd = -1;

int events_open(void) {
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  return epoll_fd < 0 ? -errno : 0;
}

int events_wait(struct event events[EVENTS]) {
  struct epoll_event ready[EVENTS];
  int count = epoll_wait(epoll_fd, ready, EVENTS, -1);
  if (count < 0) return errno == EINTR ? 0 : -errno;
  for (int i = 0; i < count; i++)
    events[i] =
        (struct event){.source = (enum source)(ready[i].data.u64 >> 16), .index = (int)(ready[i].data.u64 & 0xffff)};
  return count;
}

int watch(int fd, enum source source, int index) {
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)source << 16 | (unsigned)index};
  return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Unwatched by hand: a clone that has not yet come to close its copy would keep the events of a closed fd coming. */
void unwatch(int fd) {
  if (fd >= 0) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}
