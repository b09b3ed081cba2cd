// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * plan.c: validation. A plan comes from the agent, whom we trust with what is done but not to have written it down right:
 * nothing outside of it is ever read, no number is cut to fit, and what an operand cannot be is refused before the clone.
 */
#define _GNU_SOURCE 1
#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/limits.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
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

/* All that wire.h has. */
enum {
  KNOWN_FLAGS = MP_F_RECURSIVE | MP_F_CREATE_DIR | MP_F_CREATE_FILE | MP_F_NO_SYMLINKS | MP_F_PROC | MP_F_LEGACY |
                MP_F_OPTIONAL | MP_F_CONSOLE | MP_F_CTTY | MP_F_EXIST_OK | MP_F_IN_PLACE
};
enum { PROPAGATIONS = MS_UNBINDABLE | MS_PRIVATE | MS_SLAVE | MS_SHARED };

/* Of one user or group: cut to 32 bits, 2^32 would be root; -1 would be "as before", which is root (setresuid(2)). */
static int id_fits(uint64_t id) { return id <= INT32_MAX; }

static int mode_fits(uint64_t mode) { return mode <= 07777; }

static int node_fits(const uint64_t *num) {
  uint64_t type = num[0] & S_IFMT;
  /* The kernel cuts the parts of a device number to these widths (linux/kdev_t.h), and takes what is then another. */
  return (type == S_IFCHR || type == S_IFBLK) && mode_fits(num[0] & ~(uint64_t)S_IFMT) && num[1] < 1U << 12 &&
         num[2] < 1U << 20 && id_fits(num[3] >> 32) && id_fits(num[3] & UINT32_MAX);
}

/* A vector is never empty: its first string is what the program takes for its name (CVE-2021-4034). The vectors live on
 * the stack: bound them (the kernel's own limit is MAX_ARG_STRINGS). */
static int vectors_fit(const struct plan *plan, const struct mp_step *s) {
  return s->num[1] > 0 && s->num[1] <= 65536 && s->num[2] <= 65536 && list_fits(plan, s->str[1], s->num[1]) &&
         list_fits(plan, s->str[2], s->num[2]);
}

/* Every operation has its place here, so that a new one is refused until somebody has thought of its operands. */
static int operands_fit(const struct plan *plan, const struct mp_step *s) {
  const uint64_t *n = s->num;
  switch (s->op) {
    /* Slots, strings, and numbers that the kernel takes at their full width and judges itself. */
    case MP_OP_HARDEN:
    case MP_OP_CGROUP_JOIN:
    case MP_OP_UNSHARE:
    case MP_OP_ENTER_USERNS:
    case MP_OP_OPEN_TREE:
    case MP_OP_ATTACH:
    case MP_OP_SETATTR:
    case MP_OP_SYMLINK:
    case MP_OP_PIVOT_ROOT:
    case MP_OP_SYSCTL:
    case MP_OP_HOSTNAME:
    case MP_OP_LINK_UP:
    case MP_OP_NETLINK:
    case MP_OP_SEND_FD:
    case MP_OP_SETSID:
    case MP_OP_KEYRING:
    case MP_OP_OOM_SCORE_ADJ:
    case MP_OP_APPARMOR:
    case MP_OP_CAPABILITIES:
    case MP_OP_NO_NEW_PRIVS:
    case MP_OP_CHDIR:
    case MP_OP_CLOSE_RANGE:
      return 1;
    case MP_OP_SETNS: /* 0 is "whatever it is" */
      return n[0] > 0 && n[0] <= INT32_MAX;
    case MP_OP_USERNS: /* never all ids, and never the host's root */
      return n[0] > 0 && id_fits(n[0]) && n[1] > 0 && n[1] <= 65536;
    case MP_OP_OWN_FILES:
      return id_fits(n[0]) && id_fits(n[1]);
    case MP_OP_STDIO_OWNER:
      return id_fits(n[0]);
    case MP_OP_PROPAGATION: /* and nothing else that mount(2) could be asked for */
      return (n[0] & PROPAGATIONS) != 0 && (n[0] & ~(uint64_t)(PROPAGATIONS | MS_REC)) == 0;
    case MP_OP_FS:
      return n[0] <= UINT32_MAX && list_fits(plan, s->str[1], n[1]);
    case MP_OP_OVERLAY:
      return n[0] <= UINT32_MAX && list_fits(plan, s->str[0], n[1]) && (s->in < 0 || s->flags & MP_F_LEGACY);
    case MP_OP_MASK:
    case MP_OP_READONLY:
      return list_fits(plan, s->str[0], n[1]);
    case MP_OP_OPEN: /* what exists: it has no mode for what would be made */
      return n[0] <= INT32_MAX && (n[0] & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) == 0;
    case MP_OP_MKDIR:
      return mode_fits(n[0]);
    case MP_OP_MKNOD:
      return node_fits(n);
    case MP_OP_WRITE_FILE:
      return mode_fits(n[0]) && blob_fits(plan, s->str[1], n[1]);
    case MP_OP_RLIMIT:
      return n[0] <= INT32_MAX;
    case MP_OP_OPEN_PTY:
      return n[0] <= UINT16_MAX && n[1] <= UINT16_MAX;
    case MP_OP_STDIO:
      return n[0] < MP_SLOTS && n[1] < MP_SLOTS && n[2] < MP_SLOTS;
    case MP_OP_IDENTITY:
      return id_fits(n[0]) && id_fits(n[1]) && n[2] <= NGROUPS_MAX && blob_fits(plan, s->str[0], n[2] * sizeof(gid_t));
    case MP_OP_SECCOMP:
      /* Exactly: a program whose length did not fit sock_fprog would be loaded in part. */
      return n[0] <= UINT32_MAX && n[1] % sizeof(struct sock_filter) == 0 &&
             n[1] <= BPF_MAXINSNS * sizeof(struct sock_filter) && blob_fits(plan, s->str[0], n[1]) &&
             s->str[0] % 8 == 0;
    case MP_OP_EXEC:
      return list_fits(plan, s->str[0], n[0]) && vectors_fit(plan, s);
    case MP_OP_EXEC_FD:
      return vectors_fit(plan, s);
    default:
      return 0;
  }
}

static int head_fits(const struct mp_launch *head) {
  const int32_t slots[] = {head->cgroup_slot, head->join_slot,  head->stdin_slot, head->stdout_slot,
                           head->stderr_slot, head->pause_slot, head->user_slot};
  for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
    if (!slot_fits(slots[i])) return 0;
  if (head->kind < MP_KIND_SANDBOX || head->kind > MP_KIND_EXEC) return 0;
  if (head->stdio < MP_STDIO_NULL || head->stdio > MP_STDIO_TTY) return 0;
  if (head->clone_flags & ~(uint64_t)CLONE_NEWPID) return 0;
  if (head->log_max_files > MP_MAX_LOG_FILES || head->log_path >= head->strings) return 0;
  return memchr(head->join, 0, sizeof head->join) && memchr(head->pid_of, 0, sizeof head->pid_of);
}

int plan_validate(struct plan *plan, const void *data, size_t size) {
  const struct mp_launch *head = data;
  if (size < sizeof *head || head->magic != MP_MAGIC || head->version != MP_VERSION) return -EBADMSG;
  if (head->steps == 0 || head->steps > MP_MAX_STEPS || head->strings == 0) return -EBADMSG;
  if (size != sizeof *head + head->steps * sizeof(struct mp_step) + head->strings) return -EBADMSG;
  if (!head_fits(head)) return -EBADMSG;
  plan->head = head;
  plan->steps = (const struct mp_step *)(head + 1);
  plan->strings = (const char *)(plan->steps + head->steps);
  if (plan->strings[0] != 0 || plan->strings[head->strings - 1] != 0) return -EBADMSG;
  for (uint32_t i = 0; i < head->steps; i++) {
    const struct mp_step *s = &plan->steps[i];
    if (!slot_fits(s->in) || !slot_fits(s->out) || !slot_fits(s->root)) return -EBADMSG;
    if (s->flags & ~KNOWN_FLAGS) return -EBADMSG;
    for (int k = 0; k < 4; k++)
      if (s->str[k] >= head->strings) return -EBADMSG;
    if (!operands_fit(plan, s)) return -EBADMSG;
  }
  return 0;
}
