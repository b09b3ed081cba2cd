// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * plan.c: validation. A plan comes from the agent, whom we trust with what is done but not to have written it down right:
 * nothing outside of it is ever read, no number is cut to fit, and what an operand cannot be is refused before the clone.
 */
#define _GNU_SOURCE 1
#include "plan.h"

#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

/* `count` strings starting at `offset` lie inside the table. The table ends in NUL, so each one ends. */
static int list_fits(const struct plan *plan, uint32_t offset, uint64_t count) {
  const char *end = plan->strings + plan->head->strings;
  const char *item = plan->strings + offset;
  if (count > plan->head->strings) return 0;
  for (uint64_t i = 0; i < count; i++) {
    if (item >= end) return 0;
    item = plan_next(item);
  }
  return item <= end;
}

static int blob_fits(const struct plan *plan, uint32_t offset, uint64_t size) {
  return size <= plan->head->strings && offset <= plan->head->strings - size;
}

static int slot_fits(int64_t slot) { return slot >= -1 && slot < MP_SLOTS; }

static int operands_fit(const struct plan *plan, const struct mp_step *s) {
  switch (s->op) {
    case MP_OP_FS:
      return list_fits(plan, s->str[1], s->num[1]);
    case MP_OP_OVERLAY:
    case MP_OP_MASK:
    case MP_OP_READONLY:
      return list_fits(plan, s->str[0], s->num[1]);
    case MP_OP_WRITE_FILE:
      return blob_fits(plan, s->str[1], s->num[1]);
    case MP_OP_SECCOMP:
      /* Exactly: a program whose length did not fit sock_fprog would be loaded in part. */
      return s->num[1] % sizeof(struct sock_filter) == 0 && s->num[1] <= BPF_MAXINSNS * sizeof(struct sock_filter) &&
             blob_fits(plan, s->str[0], s->num[1]) && s->str[0] % 8 == 0;
    case MP_OP_IDENTITY:
      /* Cut to 32 bits, 2^32 would be root; -1 would be "as before", which is root (setresuid(2)). */
      return s->num[0] <= INT32_MAX && s->num[1] <= INT32_MAX && s->num[2] <= NGROUPS_MAX &&
             blob_fits(plan, s->str[0], s->num[2] * sizeof(gid_t));
    case MP_OP_USERNS: /* never all ids, and never the host's root */
      return s->num[0] > 0 && s->num[0] <= INT32_MAX && s->num[1] > 0 && s->num[1] <= 65536;
    case MP_OP_OWN_FILES:
    case MP_OP_STDIO_OWNER:
      return s->num[0] <= INT32_MAX && s->num[1] <= INT32_MAX;
    case MP_OP_STDIO:
      return s->num[0] < MP_SLOTS && s->num[1] < MP_SLOTS && s->num[2] < MP_SLOTS;
    case MP_OP_EXEC:
      if (!list_fits(plan, s->str[0], s->num[0])) return 0;
      /* fall through */
    case MP_OP_EXEC_FD:
      /* the vectors live on the stack: bound them (the kernel's own limit is MAX_ARG_STRINGS) */
      return s->num[1] <= 65536 && s->num[2] <= 65536 && list_fits(plan, s->str[1], s->num[1]) &&
             list_fits(plan, s->str[2], s->num[2]);
    default:
      return 1;
  }
}

int plan_validate(struct plan *plan, const void *data, size_t size) {
  const struct mp_launch *head = data;
  if (size < sizeof *head || head->magic != MP_MAGIC || head->version != MP_VERSION) return -EBADMSG;
  if (head->kind < MP_KIND_SANDBOX || head->kind > MP_KIND_EXEC) return -EBADMSG;
  if (head->stdio < MP_STDIO_NULL || head->stdio > MP_STDIO_TTY) return -EBADMSG;
  if (head->steps == 0 || head->steps > MP_MAX_STEPS || head->strings == 0) return -EBADMSG;
  if (size != sizeof *head + head->steps * sizeof(struct mp_step) + head->strings) return -EBADMSG;
  plan->head = head;
  plan->steps = (const struct mp_step *)(head + 1);
  plan->strings = (const char *)(plan->steps + head->steps);
  if (plan->strings[0] != 0 || plan->strings[head->strings - 1] != 0) return -EBADMSG;
  if (head->log_path >= head->strings || memchr(head->join, 0, sizeof head->join) == NULL) return -EBADMSG;
  if (memchr(head->pid_of, 0, sizeof head->pid_of) == NULL) return -EBADMSG;
  const int32_t slots[] = {head->cgroup_slot, head->join_slot,  head->stdin_slot, head->stdout_slot,
                           head->stderr_slot, head->pause_slot, head->user_slot};
  for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
    if (!slot_fits(slots[i])) return -EBADMSG;
  for (uint32_t i = 0; i < head->steps; i++) {
    const struct mp_step *s = &plan->steps[i];
    if (s->op == 0 || s->op >= MP_OP_COUNT) return -EBADMSG;
    if (!slot_fits(s->in) || !slot_fits(s->out) || !slot_fits(s->root)) return -EBADMSG;
    for (int k = 0; k < 4; k++)
      if (s->str[k] >= head->strings) return -EBADMSG;
    if (!operands_fit(plan, s)) return -EBADMSG;
  }
  return 0;
}
