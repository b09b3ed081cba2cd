/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * wire.h: every message that crosses a process border, in one header.
 *
 * The C compiler includes it; cffi reads the very same text (the build drops the lines that start with
 * '#if', '#endif' or '#include'), so Python and C cannot disagree on a layout.
 *
 *   agent --(SEQPACKET socket, fds)--> shim : struct mp_msg requests; a launch brings its plan as a sealed memfd
 *   shim  --(same socket, fds)-------> agent: struct mp_msg replies and events
 *   child --(SEQPACKET pair, fds)----> shim : struct mp_report, from clone to exec
 *
 * Error contract. Functions that can fail return 0 or a non-negative result, or -errno; nobody touches errno
 * across a call. A child that fails reports {step, errno, detail} once and exits; the shim hands that to the
 * agent untouched; only the agent turns it into words. fd -1 is "no fd"; every fd is close-on-exec at birth.
 *
 * A plan on the wire is: struct mp_launch, then `steps` struct mp_step, then `strings` bytes of string table.
 * A string is an offset into the table (0 is the empty string at its start), a list is `count` strings one
 * after the other, a blob is an offset and a length. All of it is validated before the clone.
 */
#ifndef MINIPOD_WIRE_H
#define MINIPOD_WIRE_H
#include <stdint.h>

#define MP_MAGIC 0x6d706f64
#define MP_VERSION 2
#define MP_KEY_SIZE 96 /* "app/0", "sandbox", "exec/7": names a process of the pod */
#define MP_SLOTS 1024  /* fds that one plan can name */
#define MP_MAX_FDS 16  /* fds in one message */
#define MP_MAX_STEPS 4096
#define MP_MAX_PLAN 8388608 /* bytes of one plan */
#define MP_MAX_MARKS 4098   /* of a timed launch: MP_MAX_STEPS, and two before */
#define MP_MAX_LOG_FILES 1000

/* What a step does. The operands are listed beside it: in, out, root are fd slots. */
enum mp_op {
  MP_OP_HARDEN = 1,    /* not dumpable, umask 0                                                    */
  MP_OP_CGROUP_JOIN,   /* str[0] directory                                                         */
  MP_OP_UNSHARE,       /* num[0] CLONE_NEW*                                                        */
  MP_OP_SETNS,         /* in pidfd, num[0] CLONE_NEW*                                              */
  MP_OP_USERNS,        /* in procfs, out, num[0] first id outside, num[1] how many                  */
  MP_OP_ENTER_USERNS,  /* in user namespace or pidfd                                               */
  MP_OP_OWN_FILES,     /* num[0] uid, num[1] gid of all that is made from here on                  */
  MP_OP_PROPAGATION,   /* num[0] MS_* for / and all below                                          */
  MP_OP_FS,            /* out, str[0] type, str[1] options (list of num[1]), num[0] MOUNT_ATTR_*,
                           str[2] source, or "" for the type                                        */
  MP_OP_OVERLAY,       /* out, str[0] lower dirs (list of num[1]), str[1] upper or "", str[2] work,
                           str[3] scratch, num[0] MOUNT_ATTR_*, in user namespace for the lower dirs
                           or -1 (LEGACY only)                                                      */
  MP_OP_OPEN_TREE,     /* out, root (IN_PLACE only), str[0] path, num[0] MOUNT_ATTR_* to set,
                           num[1] S_IFMT wanted or 0, str[1] path inside it to take instead or "",
                           num[2] MOUNT_ATTR_* to set with the mounts below, num[3] MS_* propagation,
                           in user namespace that its ids are shown as in, or -1                    */
  MP_OP_ATTACH,        /* in tree, root, str[0] path                                               */
  MP_OP_SETATTR,       /* in mount, num[0] MOUNT_ATTR_* to set, num[1] MS_* propagation or 0       */
  MP_OP_OPEN,          /* out, root or -1, str[0] path, num[0] O_*                                 */
  MP_OP_MKDIR,         /* root, str[0] path, num[0] mode                                           */
  MP_OP_MKNOD,         /* root, str[0] path, num[0] mode with type, num[1] major, num[2] minor,
                           num[3] uid << 32 | gid                                                   */
  MP_OP_SYMLINK,       /* root, str[0] path, str[1] target                                         */
  MP_OP_WRITE_FILE,    /* root, str[0] path, str[1] blob of num[1] bytes, num[0] mode              */
  MP_OP_MASK,          /* root, str[0] list of num[1] paths                                        */
  MP_OP_READONLY,      /* root, str[0] list of num[1] paths                                        */
  MP_OP_PIVOT_ROOT,    /* in                                                                       */
  MP_OP_SYSCTL,        /* in procfs, str[0] name with slashes, str[1] value                        */
  MP_OP_HOSTNAME,      /* str[0]                                                                   */
  MP_OP_LINK_UP,       /* str[0]                                                                   */
  MP_OP_NETLINK,       /* out                                                                      */
  MP_OP_SEND_FD,       /* in                                                                       */
  MP_OP_SETSID,        /*                                                                          */
  MP_OP_KEYRING,       /*                                                                          */
  MP_OP_RLIMIT,        /* num[0] RLIMIT_*, num[1] soft, num[2] hard                                */
  MP_OP_OOM_SCORE_ADJ, /* in procfs, num[0] (signed)                                               */
  MP_OP_OPEN_PTY,      /* root, out slave, num[0] rows, num[1] columns                             */
  MP_OP_STDIO,         /* num[0], num[1], num[2] slots for 0, 1, 2                                 */
  MP_OP_APPARMOR,      /* in procfs, str[0] name of the profile                                    */
  MP_OP_STDIO_OWNER,   /* num[0] uid                                                               */
  MP_OP_IDENTITY,      /* num[0] uid, num[1] gid, str[0] blob of num[2] uint32 groups              */
  MP_OP_CAPABILITIES,  /* num[0] bounding, num[1] permitted and effective, num[2] inheritable      */
  MP_OP_NO_NEW_PRIVS,  /*                                                                          */
  MP_OP_CHDIR,         /* str[0]                                                                   */
  MP_OP_SECCOMP,       /* str[0] blob of num[1] bytes of struct sock_filter, num[0] flags          */
  MP_OP_CLOSE_RANGE,   /*                                                                          */
  MP_OP_EXEC,          /* str[0] candidates (num[0]), str[1] argv (num[1]), str[2] env (num[2])    */
  MP_OP_EXEC_FD,       /* in, str[1] argv (num[1]), str[2] env (num[2])                            */
  MP_OP_COUNT
};

/* Flags of a step. */
#define MP_F_RECURSIVE 1   /* OPEN_TREE: with the mounts below                                  */
#define MP_F_CREATE_DIR 2  /* ATTACH: make the mount point, a directory …                       */
#define MP_F_CREATE_FILE 4 /* ATTACH: … or a file; with both: what the tree is                  */
#define MP_F_NO_SYMLINKS 8 /* ATTACH, MKDIR: a symlink on the way is refused                    */
#define MP_F_PROC 16       /* MASK, READONLY: the paths must lie on procfs; OPEN: root is one   */
#define MP_F_LEGACY 32     /* OVERLAY: by mount(2), before Linux 6.5                           */
#define MP_F_OPTIONAL 64   /* SYSCTL: a name that the kernel lacks is no error                  */
#define MP_F_CONSOLE 128   /* OPEN_PTY: bind the slave to /dev/console                          */
#define MP_F_CTTY 512      /* STDIO: slot num[0] becomes the controlling terminal               */
#define MP_F_EXIST_OK 1024 /* MKDIR, MKNOD, SYMLINK: already there is fine                      */
#define MP_F_IN_PLACE 2048 /* OPEN_TREE: path below root instead of the process's own root      */

struct mp_step {
  uint16_t op;
  uint16_t flags;
  int16_t in;
  int16_t out;
  int16_t root;
  int16_t reserved;
  uint32_t index; /* of the step in the agent's plan */
  uint32_t str[4];
  uint64_t num[4];
};

enum mp_kind { MP_KIND_SANDBOX = 1, MP_KIND_CONTAINER, MP_KIND_EXEC };

/* What a launched process's 0, 1 and 2 are. The shim puts the fds into the slots that the plan names. */
enum mp_stdio {
  MP_STDIO_NULL = 1, /* slot_stdio[0..2] hold /dev/null                                    */
  MP_STDIO_LOG,      /* stdout and stderr are pipes that the shim writes to the log        */
  MP_STDIO_TTY_LOG,  /* the plan opens a pty; the shim writes its output to the log        */
  MP_STDIO_FDS,      /* the fds came with the request                                      */
  MP_STDIO_TTY       /* the plan opens a pty; its master goes to the agent                 */
};

struct mp_launch {
  uint32_t magic;
  uint32_t version;
  uint32_t kind;
  uint32_t stdio;
  uint32_t steps;
  uint32_t strings;
  uint64_t clone_flags; /* CLONE_NEWPID or 0                                              */
  int32_t cgroup_slot;  /* cgroup2 directory for CLONE_INTO_CGROUP, or -1                 */
  int32_t join_slot;    /* gets the pidfd of the process named by `join`, or -1           */
  int32_t stdin_slot;   /* these three get what `stdio` says, or -1                       */
  int32_t stdout_slot;
  int32_t stderr_slot;
  int32_t pause_slot;   /* gets the pause executable, or -1                               */
  int32_t user_slot;    /* gets the user namespace of the process named by `join`, or -1  */
  uint32_t timed;       /* 1: the answer brings the time of each step, see struct mp_msg        */
  uint32_t join_pid_ns; /* 1: the clone is made in the pid namespace of `pid_of`, or `join` */
  uint32_t keep_stdin;  /* 1: stdin is a pipe whose other end the shim keeps open         */
  uint32_t log_path;    /* string                                                         */
  uint32_t log_max_files;
  uint64_t log_max_bytes;
  char join[MP_KEY_SIZE];
  char pid_of[MP_KEY_SIZE];
};

enum mp_type {
  /* agent -> shim */
  MP_LAUNCH = 1, /* key; fds: the plan, then those for slots 0, 1, 2 …         */
  MP_SIGNAL,     /* key, status = signal                                       */
  MP_STATE,      /* answered by an MP_ENTRY per process, then MP_END           */
  MP_FORGET,     /* key: drop the record of a process that has ended           */
  MP_SHUTDOWN,   /* kill all that is left, then exit                           */
  MP_ATTACH,     /* key; fds: pipes that get a copy of stdout and stderr        */
  MP_END_STDIN,  /* key: drop our end of a kept stdin                          */
  /* shim -> agent */
  MP_LAUNCHED = 32, /* key, pid, started_ns; fds: those the plan sent            */
  MP_FAILED,        /* key, step, status = errno, detail                         */
  MP_EXITED,        /* key, pid, status = wait status, finished_ns               */
  MP_ENTRY,         /* key, kind, state, pid, status, step, detail, times        */
  MP_END,
  MP_OK,   /* to MP_ATTACH: the fd of its stdin, if it is kept, or of its pty */
  MP_ERROR /* status = errno */
};

enum mp_state { MP_STARTING = 1, MP_RUNNING, MP_EXITED_STATE };

/*
 * An MP_LAUNCHED or MP_FAILED of a timed launch is followed, in the same datagram, by uint64_t marks (CLOCK_MONOTONIC, ns):
 * the request came, the clone began its steps, each step was over, and, when it was launched, its exec was seen.
 */
struct mp_msg {
  uint32_t type;
  uint32_t serial; /* of the request; 0 for events */
  int32_t pid;
  int32_t status;
  int32_t step;
  int32_t detail;
  uint32_t kind;
  uint32_t state;
  uint64_t started_ns; /* CLOCK_REALTIME */
  uint64_t finished_ns;
  char key[MP_KEY_SIZE];
};

enum mp_report_type { MP_REPORT_FD = 1, MP_REPORT_READY, MP_REPORT_FAILED };

/* An MP_REPORT_READY or MP_REPORT_FAILED is followed by the clone's own marks when its launch is timed. */
struct mp_report {
  uint32_t type;
  int32_t step;
  int32_t err;
  int32_t detail; /* which element of a list step, or which half of a pair */
};

#endif
