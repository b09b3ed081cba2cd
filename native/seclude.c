/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * seclude.c: takes from the process that parses images what would help whoever takes it over: the host's files and
 * sockets, and the system calls that reach other processes, devices and mounts.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>

#include "wire.h"
/* wire.h first: bindings.h is written in its types. */
#include "bindings.h"
#include "sys.h"

#define MOST_TREES 64

static int make_directories(int root, const char *path) {
  char part[4096];
  for (const char *end = strchr(path, '/'); end; end = strchr(end + 1, '/')) {
    memcpy(part, path, (size_t)(end - path));
    part[end - path] = 0;
    if (mkdirat(root, part, 0755) < 0 && errno != EEXIST) return -errno;
  }
  return 0;
}

/* Attach a detached tree at the absolute path that it had before, below another root. */
static int attach(int tree, int root, const char *path) {
  struct stat info;
  while (*path == '/') path++;
  if (!*path || strlen(path) >= 4096) return -EINVAL;
  if (fstat(tree, &info) < 0) return -errno;
  _cleanup_fd_ int there = sys_openat2(root, path, O_PATH, 0, RESOLVE_IN_ROOT);
  if (there == -ENOENT) {
    int result = make_directories(root, path);
    if (result < 0) return result;
    if (S_ISDIR(info.st_mode)) {
      if (mkdirat(root, path, 0755) < 0) return -errno;
    } else {
      _cleanup_fd_ int file = openat(root, path, O_CREAT | O_EXCL | O_CLOEXEC | O_WRONLY, 0644);
      if (file < 0) return -errno;
    }
    there = sys_openat2(root, path, O_PATH, 0, RESOLVE_IN_ROOT);
  }
  if (there < 0) return there;
  return sys_move_mount(tree, "", there, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static int restrict_tree(int tree, uint64_t attributes) {
  struct mount_attr attr = {.attr_set = attributes, .propagation = MS_PRIVATE};
  return sys_mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr);
}

static int new_root(void) {
  _cleanup_fd_ int fs = sys_fsopen("tmpfs");
  if (fs < 0) return fs;
  int result = sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0);
  if (result >= 0) result = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
  return result < 0 ? result : sys_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

int mp_seclude(const char *const *shown, int count, const char *writable) {
  const uint64_t harmless = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  int trees[MOST_TREES], result = 0;
  if (count > MOST_TREES) return -E2BIG;
  if ((result = sys_unshare(CLONE_NEWNS)) < 0) return result;
  if ((result = sys_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) < 0) return result;
  _cleanup_fd_ int root = new_root();
  if (root < 0) return root;
  _cleanup_fd_ int store = sys_open_tree(AT_FDCWD, writable, OPEN_TREE_CLONE);
  if (store < 0) return store;
  if ((result = restrict_tree(store, harmless | MOUNT_ATTR_NOEXEC)) < 0) return result;
  for (int i = 0; i < count; i++) {
    trees[i] = sys_open_tree(AT_FDCWD, shown[i], OPEN_TREE_CLONE | AT_RECURSIVE);
    if (trees[i] >= 0 && result >= 0) result = restrict_tree(trees[i], harmless | MOUNT_ATTR_RDONLY);
  }
  /* The old root is below the new one until it is let go of: no path is needed for it (pivot_root(2)). */
  if (result >= 0) result = sys_move_mount(root, "", AT_FDCWD, writable, MOVE_MOUNT_F_EMPTY_PATH);
  for (int i = 0; i < count; i++) {
    if (trees[i] >= 0 && result >= 0) result = attach(trees[i], root, shown[i]);
    close_fd(&trees[i]);
  }
  if (result >= 0) result = attach(store, root, writable);
  if (result >= 0 && fchdir(root) < 0) result = -errno;
  if (result >= 0) result = sys_pivot_root(".", ".");
  if (result >= 0) result = sys_umount2(".", MNT_DETACH);
  if (result >= 0 && chdir("/") < 0) result = -errno;
  struct mount_attr sealed = {.attr_set = MOUNT_ATTR_RDONLY};
  return result < 0 ? result : sys_mount_setattr(AT_FDCWD, "/", 0, &sealed);
}

/* ---- system calls ---- */

#if defined(__x86_64__)
#define OWN_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "which architecture is this to seccomp(2)?"
#endif

/* All that CAP_SYS_ADMIN and uid 0 give over others, and what would go around the filter. */
static const int forbidden[] = {
    /* programs, processes */
    SYS_execve,
    SYS_execveat,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_kill,
    SYS_tkill,
    SYS_tgkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    424 /* pidfd_send_signal */,
    434 /* pidfd_open */,
    438 /* pidfd_getfd */,
    440 /* process_madvise */,
    448 /* process_mrelease */,
    SYS_kcmp,
    SYS_prlimit64,
    SYS_setpriority,
    SYS_ioprio_set,
    SYS_sched_setscheduler,
    SYS_sched_setparam,
    SYS_sched_setattr,
    SYS_sched_setaffinity,
    SYS_migrate_pages,
    SYS_move_pages,
    /* mounts, namespaces */
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_unshare,
    SYS_setns,
    NR_open_tree,
    NR_move_mount,
    NR_fsopen,
    NR_fsconfig,
    NR_fsmount,
    433 /* fspick */,
    NR_mount_setattr,
    467 /* open_tree_attr */,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_fanotify_init,
    SYS_swapon,
    SYS_swapoff,
    SYS_quotactl,
    443 /* quotactl_fd */,
    SYS_acct,
    /* the kernel */
    SYS_bpf,
    SYS_perf_event_open,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_reboot,
    SYS_syslog,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_adjtimex,
    SYS_clock_adjtime,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_userfaultfd,
    SYS_personality,
    SYS_vhangup,
    425 /* io_uring_setup */,
    426 /* io_uring_enter */,
    427 /* io_uring_register */,
    SYS_socketpair,
#ifdef SYS_fork
    SYS_fork,
    SYS_vfork,
#endif
#ifdef SYS_ioperm
    SYS_ioperm,
    SYS_iopl,
    SYS_modify_ldt,
#endif
};
static const unsigned allowed_ioctls[] = {FIONBIO, FIOCLEX, FIONREAD, TCGETS};

enum { LATEST = 470 }; /* what is newer than that is not known to be harmless */

#define LOAD(field) \
  (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define JUMP_IF(how, value, yes, no) (struct sock_filter) BPF_JUMP(BPF_JMP | (how) | BPF_K, (value), (yes), (no))
#define ANSWER(value) (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, (value))
#define REFUSE(number) ANSWER(SECCOMP_RET_ERRNO | (number))
#define ALLOW ANSWER(SECCOMP_RET_ALLOW)

int mp_forbid(int network) {
  struct sock_filter code[256];
  unsigned short n = 0;
  code[n++] = LOAD(arch);
  code[n++] = JUMP_IF(BPF_JEQ, OWN_ARCHITECTURE, 1, 0);
  code[n++] = ANSWER(SECCOMP_RET_KILL_PROCESS);
  code[n++] = LOAD(nr);
  code[n++] = JUMP_IF(BPF_JGT, LATEST, 0, 1); /* the numbers of x32, too */
  code[n++] = REFUSE(ENOSYS);
  code[n++] = JUMP_IF(BPF_JEQ, NR_clone3, 0, 1); /* its flags lie in memory; libcs then use clone */
  code[n++] = REFUSE(ENOSYS);
  for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
    code[n++] = JUMP_IF(BPF_JEQ, (uint32_t)forbidden[i], 0, 1);
    code[n++] = REFUSE(EPERM);
  }
  code[n++] = JUMP_IF(BPF_JEQ, SYS_clone, 0, 4);
  code[n++] = LOAD(args[0]);
  code[n++] = JUMP_IF(BPF_JSET, CLONE_THREAD, 1, 0);
  code[n++] = REFUSE(EPERM);
  code[n++] = ALLOW;
  code[n++] = JUMP_IF(BPF_JEQ, SYS_socket, 0, 5);
  code[n++] = LOAD(args[0]);
  code[n++] = JUMP_IF(BPF_JEQ, network ? AF_INET : ~0U, 2, 0);
  code[n++] = JUMP_IF(BPF_JEQ, network ? AF_INET6 : ~0U, 1, 0);
  code[n++] = REFUSE(EACCES);
  code[n++] = ALLOW;
  code[n++] = JUMP_IF(BPF_JEQ, SYS_ioctl, 1, 0);
  code[n++] = ALLOW;
  code[n++] = LOAD(args[1]);
  for (size_t i = 0; i < sizeof allowed_ioctls / sizeof *allowed_ioctls; i++) {
    code[n++] = JUMP_IF(BPF_JEQ, allowed_ioctls[i], 0, 1);
    code[n++] = ALLOW;
  }
  code[n++] = REFUSE(EPERM);
  struct sock_fprog program = {.len = n, .filter = code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -errno;
  return (int)sys_result(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}
