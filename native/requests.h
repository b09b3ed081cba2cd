/* SPDX-License-Identifier: GPL-3.0-or-later */
/* requests.h: what an agent can ask of the shim. */
#ifndef MINIPOD_REQUESTS_H
#define MINIPOD_REQUESTS_H

#include "agent.h"
#include "launch.h"

/* Do what is asked, and answer, now or, to a launch and a shutdown, later. */
void request_handle(const struct shim_self *self, struct request *request);

/* Whether we were asked to end, and the answer to that. */
int shutdown_wanted(void);
void shutdown_done(void);

#endif
