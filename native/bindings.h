/* SPDX-License-Identifier: GPL-3.0-or-later */
/* bindings.h: what Python may call; cffi reads this text. All return a result or -errno. */

/* openat2(2), always close-on-exec. */
int mp_openat2(int dir_fd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);

/*
 * Start an executable by fd in a session of its own, with fds[0] as 0, fds[1] as 1 and so on, cwd /, an empty
 * environment and argv {name, label}. Returns its pid and sets *pidfd.
 */
int mp_spawn(int exe_fd, const int *fds, int count, const char *name, const char *label, int *pidfd);

int mp_inotify_init(void);
int mp_inotify_add_watch(int fd, const char *path, uint32_t mask);

/* Load a BPF_PROG_TYPE_CGROUP_DEVICE program of `count` instructions and attach it to a cgroup2 directory. */
int mp_cgroup_device(int cgroup_fd, const void *instructions, int count);

int mp_unshare(int flags);

/* setns(2). */
int mp_setns(int fd, int type);

/*
 * How a command runs in namespaces of a pod. -1 is none.
 *   fds, kinds    namespaces and their CLONE_NEW*, entered in this order
 *   mnt           a container's mount namespace: then it runs there with `capabilities` at most, in a session of its own
 *   user          its user namespace: then as its root
 *   own_proc      with a /proc of its own, of the PID namespace that it was born in
 *   close_fds     all but 0, 1, 2
 */
struct mp_enter {
  int fds[8];
  int kinds[8];
  int count;
  int mnt;
  int user;
  int own_proc;
  int close_fds;
  uint64_t capabilities;
};

/* Become the first of `candidates` that can be executed; all lists end in NULL. Does not return: exits with 126 or 127. */
void mp_enter(const struct mp_enter *what, char *const *candidates, char *const *argv, char *const *env);

/*
 * Have this thread look up, read and make files as these ids (setfsuid(2)); the capabilities that overrule files' modes
 * go with the 0 of the first, and come back with it.
 */
int mp_set_fs_ids(uint32_t uid, uint32_t gid);

int mp_syncfs(int fd);

/*
 * Give this process a root of its own, in which there are the `count` paths of `shown` (those that exist), read-only, and
 * `writable`; and nothing else.
 */
int mp_seclude(const char *const *shown, int count, const char *writable);

/*
 * Refuse this process, for good, system calls that reach other processes, mounts, devices or the kernel's settings,
 * programs to execute, and sockets other than IPv4's and IPv6's, or any without `network`.
 */
int mp_forbid(int network);

/* Whether overlayfs takes layers one by one ("lowerdir+", Linux 6.5), by trying: 1 yes, 0 no, -errno on trouble. */
int mp_probe_overlay_append(void);
int mp_probe_tmpfs_noswap(void);
