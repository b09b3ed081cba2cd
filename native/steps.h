/* SPDX-License-Identifier: GPL-3.0-or-later */
/* steps.h: the interpreter of a plan's in-namespace steps. */
#ifndef MINIPOD_STEPS_H
#define MINIPOD_STEPS_H

#include <sys/types.h>

#include "plan.h"

/* The state of a child between clone and exec. */
struct child {
  struct plan plan;
  int slots[MP_SLOTS];
  int report;     /* the SEQPACKET end towards the shim */
  dev_t self_dev; /* our own executable, which no container may be made to run (CVE-2019-5736) */
  ino_t self_ino;
  int detail; /* element of the list step in progress */
};

/* Run all steps in order. Only returns on failure: the step's number and -errno are then in *step and the result. */
int steps_run(struct child *child, unsigned *step);

#endif
