// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * step_process.c: steps that say which process this is: its namespaces, cgroups, session, limits, and what of a
 * namespace is set once (its name, its kernel parameters, its loopback device).
 */
#define _GNU_SOURCE 1
#include <linux/keyctl.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "paths.h"
#include "step.h"
#include "sys.h"
#include "users.h"

int do_harden(struct child *c, const struct mp_step *s) {
  (void)c, (void)s;
  /* Before we enter any namespace of the pod: a process in there must not open our /proc/<pid>/exe or fds
   * (runc CVE-2016-9962, CVE-2019-5736). exec makes the container's own program dumpable again. */
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) return -errno;
  umask(0);
  return 0;
}

int do_cgroup_join(struct child *c, const struct mp_step *s) {
  char path[4096];
  if ((size_t)snprintf(path, sizeof path, "%s/cgroup.procs", text(c, s, 0)) >= sizeof path) return -ENAMETOOLONG;
  _cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return -errno;
  return RETRY(write(fd, "0", 1)) == 1 ? 0 : -errno;
}

int do_unshare(struct child *c, const struct mp_step *s) {
  (void)c;
  return sys_unshare(s->num[0]);
}

int do_setns(struct child *c, const struct mp_step *s) { return sys_setns(slot_get(c, s->in), (int)s->num[0]); }

int do_userns(struct child *c, const struct mp_step *s) {
  int fd = users_make(slot_get(c, s->in), s->num[0], s->num[1]);
  if (fd < 0) return fd;
  slot_set(c, s->out, fd);
  return 0;
}

int do_enter_userns(struct child *c, const struct mp_step *s) { return users_enter(slot_get(c, s->in)); }

int do_own_files(struct child *c, const struct mp_step *s) {
  (void)c;
  return users_own_files(s->num[0], s->num[1]);
}

int do_setsid(struct child *c, const struct mp_step *s) {
  (void)c, (void)s;
  return setsid() < 0 ? -errno : 0;
}

int do_keyring(struct child *c, const struct mp_step *s) {
  (void)c, (void)s;
  /* A kernel without keyrings has none to leak. */
  if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS) return -errno;
  return 0;
}

int do_rlimit(struct child *c, const struct mp_step *s) {
  (void)c;
  struct rlimit limit = {.rlim_cur = s->num[1], .rlim_max = s->num[2]};
  return setrlimit((int)s->num[0], &limit) < 0 ? -errno : 0;
}

int do_oom_score_adj(struct child *c, const struct mp_step *s) {
  char value[24];
  snprintf(value, sizeof value, "%lld", (long long)s->num[0]);
  return proc_write(slot_get(c, s->in), "self/oom_score_adj", value);
}

int do_sysctl(struct child *c, const struct mp_step *s) {
  char name[512];
  if ((size_t)snprintf(name, sizeof name, "sys/%s", text(c, s, 0)) >= sizeof name) return -ENAMETOOLONG;
  int r = proc_write(slot_get(c, s->in), name, text(c, s, 1));
  return r == -ENOENT && (s->flags & MP_F_OPTIONAL) ? 0 : r;
}

int do_hostname(struct child *c, const struct mp_step *s) {
  return sethostname(text(c, s, 0), strlen(text(c, s, 0))) < 0 ? -errno : 0;
}

int do_link_up(struct child *c, const struct mp_step *s) {
  struct ifreq request = {0};
  if (strlen(text(c, s, 0)) >= sizeof request.ifr_name) return -ENODEV;
  _cleanup_fd_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", text(c, s, 0));
  request.ifr_flags = IFF_UP;
  return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}
