// SPDX-License-Identifier: GPL-3.0-or-later
/* procs.c: the table of processes: who is in it, and how what is held of one is let go. */
#define _GNU_SOURCE 1
#include "procs.h"

#include <stdlib.h>

#include "events.h"
#include "sys.h"

struct proc *procs[MAX_PROCS];

int proc_new(void) {
  int index = 0;
  while (index < MAX_PROCS && procs[index]) index++;
  if (index == MAX_PROCS) return -EUSERS;
  struct proc *p = calloc(1, sizeof *p);
  if (!p) return -ENOMEM;
  p->pidfd = p->report = p->stdin_fd = p->out.fd = p->err.fd = p->log.fd = -1;
  procs[index] = p;
  return index;
}

int proc_find(const char *key) {
  for (int i = 0; i < MAX_PROCS; i++)
    if (procs[i] && strcmp(procs[i]->entry.key, key) == 0) return i;
  return -1;
}

int proc_find_running(const char *key) {
  if (key[0] == 0) return -1;
  int index = proc_find(key);
  return index < 0 || procs[index]->entry.state != MP_RUNNING ? -ESRCH : index;
}

void proc_drop_sent(struct proc *p) {
  for (int i = 0; i < p->sent_count; i++) close_fd(&p->sent[i]);
  p->sent_count = 0;
}

static void end_stream(struct proc *p, struct stream *stream) {
  unwatch(stream->fd);
  stream_close(stream, &p->log);
}

void proc_end_report(struct proc *p) {
  unwatch(p->report);
  close_fd(&p->report);
}

void proc_forget(int index) {
  struct proc *p = procs[index];
  end_stream(p, &p->out);
  end_stream(p, &p->err);
  log_close(&p->log);
  close_fd(&p->pidfd);
  proc_end_report(p);
  close_fd(&p->stdin_fd);
  proc_drop_sent(p);
  free(p->marks);
  free(p);
  procs[index] = NULL;
}

void proc_pump(struct proc *p, struct stream *stream, int reads) {
  int r = 1;
  while (stream->fd >= 0 && r == 1 && reads-- > 0) {
    r = stream_pump(stream, &p->log);
    if (r < 0) end_stream(p, stream);
  }
}
