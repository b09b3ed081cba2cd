/* SPDX-License-Identifier: GPL-3.0-or-later */
/* events.h: what the shim waits for: one epoll, each fd of it with the kind of its source and the process it is of. */
#ifndef MINIPOD_EVENTS_H
#define MINIPOD_EVENTS_H

enum source { SRC_LISTEN = 1, SRC_AGENT, SRC_SIGNAL, SRC_REPORT, SRC_OUT, SRC_ERR };

struct event {
  enum source source;
  int index; /* of the process in its table, or 0 */
};

enum { EVENTS = 16 };

/* Once, at the start. Returns 0 or -errno. */
int events_open(void);
/* Wait. Returns how many there are, which may be 0, or -errno. */
int events_wait(struct event events[EVENTS]);

/* Returns 0 or -errno. */
int watch(int fd, enum source source, int index);
/* Before the fd is closed; -1 is none. */
void unwatch(int fd);

#endif
