/* SPDX-License-Identifier: GPL-3.0-or-later */
/* procs.h: the table of the processes that the shim has launched, and what it holds of each. */
#ifndef MINIPOD_PROCS_H
#define MINIPOD_PROCS_H

#include "agent.h"
#include "log.h"

enum { MAX_PROCS = 256 };

struct proc {
  struct mp_msg entry; /* key, kind, state, pid, status, times: what the agent is told */
  struct asker asker;  /* of the launch, which waits for an answer */
  int ready;           /* the child came as far as exec */
  int failed;          /* the child reported a failed step */
  uint64_t *marks;     /* of a timed launch, until it is answered: room for MP_MAX_MARKS at most */
  unsigned marked;
  uint64_t asked_ns; /* when the launch was asked for, if it is timed */
  int pidfd;
  int report;
  int stdin_fd;
  int sent[MP_MAX_FDS]; /* fds that the plan sent up */
  int sent_count;
  uint32_t stdio;
  struct stream out, err;
  struct logfile log;
};

/* NULL is a free place. */
extern struct proc *procs[MAX_PROCS];

/* Return the place of the new process, which has nothing yet, or -EUSERS, -ENOMEM. */
int proc_new(void);
/* Return the place of the process called key, or -1. */
int proc_find(const char *key);
/* Return the place of the running process called key, -1 for no key, or -ESRCH. */
int proc_find_running(const char *key);
/* Let go of all that we hold of it, and of its place. */
void proc_forget(int index);

/* Log what a stream has, in at most so many reads. */
void proc_pump(struct proc *p, struct stream *stream, int reads);
void proc_drop_sent(struct proc *p);
void proc_end_report(struct proc *p);

#endif
