// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * step_privileges.c: steps that give privileges up: profile, identity, capabilities, filter. Last in a plan, in this order.
 */
#define _GNU_SOURCE 1
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "paths.h"
#include "step.h"
#include "sys.h"

int do_apparmor(struct child *c, const struct mp_step *s) {
  char value[4200];
  if ((size_t)snprintf(value, sizeof value, "exec %s", text(c, s, 0)) >= sizeof value) return -ENAMETOOLONG;
  int r = proc_write(slot_get(c, s->in), "self/attr/apparmor/exec", value);
  /* Linux before 5.8 has it only where all security modules once had it. */
  return r == -ENOENT ? proc_write(slot_get(c, s->in), "self/attr/exec", value) : r;
}

int do_identity(struct child *c, const struct mp_step *s) {
  uid_t uid = (uid_t)s->num[0];
  gid_t gid = (gid_t)s->num[1];
  /* Raw calls: libc's wrappers broadcast to threads, and we have none. Groups before gid before uid, because each
   * needs the privilege that the next gives up. */
  if (syscall(SYS_setgroups, (size_t)s->num[2], text(c, s, 0)) < 0) return -errno;
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) return -errno;
  if (syscall(SYS_setresgid, gid, gid, gid) < 0) return -errno;
  if (syscall(SYS_setresuid, uid, uid, uid) < 0) return -errno;
  /* Any change of identity may have made us dumpable again. */
  return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

int do_capabilities(struct child *c, const struct mp_step *s) {
  (void)c;
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2];
  /* The change of uid emptied the effective set and kept the permitted one: take it back for what follows. */
  if (syscall(SYS_capget, &header, data) < 0) return -errno;
  for (int i = 0; i < 2; i++) data[i].effective = data[i].permitted;
  if (syscall(SYS_capset, &header, data) < 0) return -errno;
  /* The bounding set first, while we still hold CAP_SETPCAP. */
  for (int cap = 0; cap < 64; cap++) {
    if (s->num[0] >> cap & 1) continue;
    if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
      if (errno == EINVAL) break; /* the kernel's last capability is behind us */
      return -errno;
    }
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return -errno;
  for (int i = 0; i < 2; i++) {
    data[i].permitted = data[i].effective = (uint32_t)(s->num[1] >> (32 * i));
    data[i].inheritable = (uint32_t)(s->num[2] >> (32 * i));
  }
  return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int do_no_new_privs(struct child *c, const struct mp_step *s) {
  (void)c, (void)s;
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

int do_seccomp(struct child *c, const struct mp_step *s) {
  struct sock_fprog program = {
      .len = (unsigned short)(s->num[1] / sizeof(struct sock_filter)),
      .filter = (struct sock_filter *)(uintptr_t)text(c, s, 0),
  };
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, (unsigned)s->num[0], &program) < 0 ? -errno : 0;
}
