// SPDX-License-Identifier: GPL-3.0-or-later
/* bindings.c: the few calls that Python's os module lacks, for the cffi module minipod.native._core. */
#define _GNU_SOURCE 1
#include <linux/bpf.h>
#include <sys/fsuid.h>
#include <sys/inotify.h>

#include "sys.h"

int mp_openat2(int dir_fd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
  return sys_openat2(dir_fd, path, flags, mode, resolve);
}

/* We are the vforked child: our parent's memory, our own fd table. Only system calls from here. */
__attribute__((noreturn)) static void spawned(int exe_fd, const int *fds, int count, char **argv,
                                              const sigset_t *mask) {
  static char *const no_env[] = {NULL};
  int moved[16], exe = fcntl(exe_fd, F_DUPFD_CLOEXEC, 64);
  if (exe < 0) _exit(126);
  /* First out of the way, then into place: a source may have the number of another's target. */
  for (int i = 0; i < count; i++)
    if ((moved[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 64)) < 0) _exit(126);
  for (int i = 0; i < count; i++)
    if (dup2(moved[i], i) < 0) _exit(126);
  sys_close_range((unsigned)count, 63, 0);
  if (setsid() < 0 || chdir("/") < 0) _exit(126);
  sigprocmask(SIG_SETMASK, mask, NULL);
  syscall(SYS_execveat, exe, "", argv, no_env, AT_EMPTY_PATH);
  _exit(126);
}

int mp_spawn(int exe_fd, const int *fds, int count, const char *name, const char *label, int *pidfd) {
  char *argv[] = {(char *)(uintptr_t)name, (char *)(uintptr_t)label, NULL};
  sigset_t all, before, none;
  if (count < 0 || count > 16) return -EINVAL;
  sigemptyset(&none);
  sigfillset(&all);
  /* No signal handler of Python's may run in the child, on our stack. */
  sigprocmask(SIG_SETMASK, &all, &before);
  pid_t pid = vfork();
  if (pid == 0) spawned(exe_fd, fds, count, argv, &none);
  int error = errno;
  sigprocmask(SIG_SETMASK, &before, NULL);
  if (pid < 0) return -error;
  /* Not yet waited for, so the pid is still its own. */
  *pidfd = (int)sys_result(syscall(434 /* pidfd_open */, pid, 0));
  if (*pidfd >= 0) return (int)pid;
  kill(pid, SIGKILL);
  RETRY(waitpid(pid, NULL, 0));
  return *pidfd;
}

int mp_inotify_init(void) { return (int)sys_result(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)); }

int mp_inotify_add_watch(int fd, const char *path, uint32_t mask) {
  return (int)sys_result(inotify_add_watch(fd, path, mask));
}

int mp_cgroup_device(int cgroup_fd, const void *instructions, int count) {
  union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
                         .insn_cnt = (uint32_t)count,
                         .insns = (uint64_t)(uintptr_t)instructions,
                         .license = (uint64_t)(uintptr_t) "GPL"};
  _cleanup_fd_ int program = (int)sys_result(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load));
  if (program < 0) return program;
  union bpf_attr attach = {.target_fd = (uint32_t)cgroup_fd,
                           .attach_bpf_fd = (uint32_t)program,
                           .attach_type = BPF_CGROUP_DEVICE,
                           .attach_flags = BPF_F_ALLOW_MULTI};
  return (int)sys_result(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
}

int mp_syncfs(int fd) { return (int)sys_result(syncfs(fd)); }

int mp_set_fs_ids(uint32_t uid, uint32_t gid) {
  /* Neither says whether it did what it was told; asked for no id at all, both say what is. */
  setfsgid(gid);
  setfsuid(uid);
  return (uint32_t)setfsgid((gid_t)-1) == gid && (uint32_t)setfsuid((uid_t)-1) == uid ? 0 : -EPERM;
}

int mp_unshare(int flags) { return sys_unshare((unsigned long)flags); }

int mp_setns(int fd, int type) { return sys_setns(fd, type); }

int mp_probe_overlay_append(void) {
  _cleanup_fd_ int fs = sys_fsopen("overlay");
  if (fs < 0) return fs;
  /* Before 6.5 any option is only noted down, and read at the mount: that "lowerdir+" is taken says nothing there. */
  if (sys_fsconfig(fs, FSCONFIG_SET_STRING, "no_such_option", "", 0) == 0) return 0;
  return sys_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", "/", 0) == 0;
}

int mp_probe_tmpfs_noswap(void) {
  _cleanup_fd_ int fs = sys_fsopen("tmpfs");
  if (fs < 0) return fs;
  return sys_fsconfig(fs, FSCONFIG_SET_FLAG, "noswap", NULL, 0) == 0;
}
