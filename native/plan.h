/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plan.h: a plan as it was received, and whether it can be trusted to be what it says it is. */
#ifndef MINIPOD_PLAN_H
#define MINIPOD_PLAN_H

#include <stddef.h>

#include "wire.h"

/* Pointers into one read-only mapping. */
struct plan {
  const struct mp_launch *head;
  const struct mp_step *steps;
  const char *strings;
};

/* Check every offset, count and number of a plan of `size` bytes, which is aligned to 8. Returns 0 or -EBADMSG. */
int plan_validate(struct plan *plan, const void *data, size_t size);

/* The string at an offset, and the one after a string of a list; validated both. */
static inline const char *plan_str(const struct plan *plan, uint32_t offset) { return plan->strings + offset; }
static inline const char *plan_next(const char *item) {
  while (*item) item++;
  return item + 1;
}

#endif
