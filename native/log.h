/* SPDX-License-Identifier: GPL-3.0-or-later */
/* log.h: a container's output, written line by line in the CRI log format, rotated. */
#ifndef MINIPOD_LOG_H
#define MINIPOD_LOG_H

#include <stddef.h>
#include <stdint.h>

#define LOG_LINE 16384 /* longer lines are written in parts, tagged P, the last one F */

struct logfile {
  int fd;
  uint32_t max_files;
  uint64_t max_bytes;
  uint64_t size;
  char *path;
};

#define LOG_COPIES 8 /* readers of a stream's bytes beside the log */

struct stream {
  int fd;
  int copies[LOG_COPIES]; /* pipes, or -1 */
  const char *name;       /* "stdout" or "stderr" */
  size_t used;
  char *line; /* LOG_LINE bytes: the line not yet ended */
};

/* Open (append) or make the log at path. Returns 0 or -errno. */
int log_open(struct logfile *log, const char *path, uint64_t max_bytes, uint32_t max_files);
void log_close(struct logfile *log);

/* Take over fd, which becomes non-blocking. Returns 0 or -errno. */
int stream_open(struct stream *stream, int fd, const char *name);
/* Log what there is of a line that has not ended, and close the fd. */
void stream_close(struct stream *stream, struct logfile *log);

/* Return 0 when one more copy has a place, else -EUSERS. */
int stream_has_room(struct stream *stream);
/* Give fd, which becomes non-blocking, all that is read from now on. Takes it over when it returns 0, not -errno. */
int stream_copy(struct stream *stream, int fd);

/* Read once and log the lines. Returns 1 when there may be more, 0 when there is nothing now, -1 at the end. */
int stream_pump(struct stream *stream, struct logfile *log);

#endif
