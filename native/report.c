// SPDX-License-Identifier: GPL-3.0-or-later
/* report.c: what a child tells its shim between clone and exec: fds, that it is ready, or which step failed. */
#define _GNU_SOURCE 1
#include "report.h"

#include <sys/socket.h>

#include "sys.h"
#include "wire.h"

/* A child's own, and not touched before it is one: pages that a launch without times does not take. */
static uint64_t marks[MP_MAX_MARKS];
static unsigned marked;
_Static_assert(MP_MAX_MARKS == MP_MAX_STEPS + 2, "a mark for every step");

void report_mark(void) {
  if (marked < MP_MAX_MARKS) marks[marked++] = monotonic_ns();
}

int report_send(int sock, uint32_t type, int step, int err, int detail, int fd) {
  struct mp_report report = {.type = type, .step = step, .err = err, .detail = detail};
  struct iovec data[] = {{.iov_base = &report, .iov_len = sizeof report},
                         {.iov_base = marks, .iov_len = type == MP_REPORT_FD ? 0 : marked * sizeof *marks}};
  union {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control = {0};
  struct msghdr message = {.msg_iov = data, .msg_iovlen = 2};
  if (fd >= 0) {
    message.msg_control = control.space;
    message.msg_controllen = sizeof control.space;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  return RETRY(sendmsg(sock, &message, MSG_NOSIGNAL)) < 0 ? -errno : 0;
}
