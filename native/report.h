/* SPDX-License-Identifier: GPL-3.0-or-later */
/* report.h: what a child tells its shim between clone and exec. */
#ifndef MINIPOD_REPORT_H
#define MINIPOD_REPORT_H

#include <stdint.h>

/* Note the time: the beginning of the steps, or the end of one. Told with MP_REPORT_READY and MP_REPORT_FAILED. */
void report_mark(void);

/* Send a report (enum mp_report_type) with an fd, or -1. Returns 0 or -errno. */
int report_send(int sock, uint32_t type, int step, int err, int detail, int fd);

#endif
