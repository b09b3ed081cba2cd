// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * steps.c: the interpreter. One small function per step, in step_*.c; which steps, in which order, is the agent's policy.
 *
 * Where we are: in a fresh, single-threaded clone of the shim, as root of the initial user namespace, until the
 * identity and capability steps say otherwise. The agent's plan opens host paths first, then enters the pod's
 * namespaces, then builds the container's mount tree, pivots, and gives up its privileges last.
 */
#define _GNU_SOURCE 1
#include "steps.h"

#include <errno.h>

#include "report.h"
#include "step.h"

static step_fn *const table[MP_OP_COUNT] = {
    [MP_OP_HARDEN] = do_harden,
    [MP_OP_CGROUP_JOIN] = do_cgroup_join,
    [MP_OP_UNSHARE] = do_unshare,
    [MP_OP_SETNS] = do_setns,
    [MP_OP_PROPAGATION] = do_propagation,
    [MP_OP_FS] = do_fs,
    [MP_OP_OVERLAY] = do_overlay,
    [MP_OP_OPEN_TREE] = do_open_tree,
    [MP_OP_ATTACH] = do_attach,
    [MP_OP_SETATTR] = do_setattr,
    [MP_OP_OPEN] = do_open,
    [MP_OP_MKDIR] = do_mkdir,
    [MP_OP_MKNOD] = do_mknod,
    [MP_OP_SYMLINK] = do_symlink,
    [MP_OP_WRITE_FILE] = do_write_file,
    [MP_OP_MASK] = do_mask,
    [MP_OP_READONLY] = do_readonly,
    [MP_OP_PIVOT_ROOT] = do_pivot_root,
    [MP_OP_SYSCTL] = do_sysctl,
    [MP_OP_HOSTNAME] = do_hostname,
    [MP_OP_LINK_UP] = do_link_up,
    [MP_OP_NETLINK] = do_netlink,
    [MP_OP_SEND_FD] = do_send_fd,
    [MP_OP_USERNS] = do_userns,
    [MP_OP_ENTER_USERNS] = do_enter_userns,
    [MP_OP_OWN_FILES] = do_own_files,
    [MP_OP_STDIO_OWNER] = do_stdio_owner,
    [MP_OP_SETSID] = do_setsid,
    [MP_OP_KEYRING] = do_keyring,
    [MP_OP_RLIMIT] = do_rlimit,
    [MP_OP_OOM_SCORE_ADJ] = do_oom_score_adj,
    [MP_OP_OPEN_PTY] = do_open_pty,
    [MP_OP_STDIO] = do_stdio,
    [MP_OP_APPARMOR] = do_apparmor,
    [MP_OP_IDENTITY] = do_identity,
    [MP_OP_CAPABILITIES] = do_capabilities,
    [MP_OP_NO_NEW_PRIVS] = do_no_new_privs,
    [MP_OP_CHDIR] = do_chdir,
    [MP_OP_SECCOMP] = do_seccomp,
    [MP_OP_CLOSE_RANGE] = do_close_range,
    [MP_OP_EXEC] = do_exec,
    [MP_OP_EXEC_FD] = do_exec_fd,
};

int steps_run(struct child *child, unsigned *step) {
  const uint32_t timed = child->plan.head->timed;
  if (timed) report_mark();
  for (uint32_t i = 0; i < child->plan.head->steps; i++) {
    const struct mp_step *s = &child->plan.steps[i];
    *step = s->index;
    child->detail = 0;
    int r = table[s->op](child, s);
    if (r < 0) return r;
    if (timed) report_mark();
  }
  return -ENOEXEC; /* a plan that does not end in an exec */
}
