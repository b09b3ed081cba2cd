/* SPDX-License-Identifier: GPL-3.0-or-later */
/* agent.h: the shim's one connection to an agent. An agent may be gone at any time, and another come. */
#ifndef MINIPOD_AGENT_H
#define MINIPOD_AGENT_H

#include "wire.h"

/* A request that is answered later. Its serial means something only on the connection that it came by. */
struct asker {
  uint32_t serial;
  uint32_t connection;
};

/* A request as received. */
struct request {
  struct mp_msg message; /* its key ends in NUL */
  int fds[MP_MAX_FDS];   /* the receiver's, who sets to -1 what it takes */
  int count;
  int lost; /* not all fds of the message arrived: too many for it, or for us */
};

/* Take the next connection of a listening socket; the one before is dropped. */
void agent_accept(int listener);
/* Receive one request. Returns 1, or 0 when there is none. */
int agent_receive(struct request *request);
/* Close the fds that nobody has taken. */
void agent_close_fds(struct request *request);

/* Send a message with `count` fds, which stay ours. Never waits: see agent.c. */
void agent_tell(const struct mp_msg *message, const int *fds, int count);
/* The same, with the times of a launch after the message. */
void agent_tell_marks(const struct mp_msg *message, const int *fds, int count, const uint64_t *marks, unsigned marked);
void agent_answer(uint32_t serial, uint32_t type, int status);

struct asker agent_asker(uint32_t serial);
/* The serial for an answer, or 0 when the one who asked is gone. */
uint32_t agent_serial(const struct asker *asker);

#endif
