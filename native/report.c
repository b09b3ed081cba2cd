// SPDX-License-Identifier: GPL-3.0-or-later
/* report.c: what a child tells its shim between clone and exec: fds, that it is ready, or which step failed. */
#define _GNU_SOURCE 1
#include "report.h"

#include <sys/socket.h>

#include "sys.h"
#include "wire.h"

int report_send(int sock, uint32_t type, int step, int err, int detail, int fd) {
  struct mp_report report = {.type = type, .step = step, .err = err, .detail = detail};
  struct iovec data = {.iov_base = &report, .iov_len = sizeof report};
  union {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control = {0};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
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
