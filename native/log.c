// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * log.c: CRI log lines, "<RFC 3339 time with nanoseconds> <stdout|stderr> <F|P> <text>" (Kubernetes' CRI logging
 * design, kubelet/kuberuntime/logs). A full disk loses lines, never blocks or ends a container.
 */
#define _GNU_SOURCE 1
#include "log.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "sys.h"

static int open_log(struct logfile *log) {
  struct stat st;
  log->fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);
  if (log->fd < 0) return -errno;
  if (fstat(log->fd, &st) < 0) return -errno;
  log->size = (uint64_t)st.st_size;
  return 0;
}

int log_open(struct logfile *log, const char *path, uint64_t max_bytes, uint32_t max_files) {
  if (strlen(path) + sizeof ".4294967295" > PATH_MAX) return -ENAMETOOLONG;
  *log = (struct logfile){.fd = -1, .max_bytes = max_bytes, .max_files = max_files, .path = strdup(path)};
  if (!log->path) return -ENOMEM;
  int r = open_log(log);
  if (r < 0) log_close(log);
  return r;
}

void log_close(struct logfile *log) {
  close_fd(&log->fd);
  free(log->path);
  *log = (struct logfile){.fd = -1};
}

/* 0.log.3 is dropped for 0.log.2 and so on; 0.log.1 is the newest of the old ones. A single file starts anew. */
static void rotate(struct logfile *log) {
  char from[PATH_MAX], to[PATH_MAX];
  if (log->max_files < 2) {
    if (ftruncate(log->fd, 0) == 0) log->size = 0;
    return;
  }
  for (uint32_t i = log->max_files - 1; i > 0; i--) {
    if (i > 1)
      snprintf(from, sizeof from, "%s.%u", log->path, i - 1);
    else
      snprintf(from, sizeof from, "%s", log->path);
    snprintf(to, sizeof to, "%s.%u", log->path, i);
    rename(from, to);
  }
  close_fd(&log->fd);
  open_log(log);
}

struct output {
  char data[2 * LOG_LINE];
  size_t used;
};

static struct output output;

static void flush(struct logfile *log) {
  size_t done = 0;
  if (log->fd < 0 && output.used) open_log(log); /* it could not be opened after a rotation: the disk was full */
  while (done < output.used && log->fd >= 0) {
    ssize_t n = (ssize_t)RETRY(write(log->fd, output.data + done, output.used - done));
    if (n <= 0) break;
    done += (size_t)n;
  }
  if (done < output.used && done > 0) {
    /* The disk is full in the middle of a line: without it the next one, when there is room again, starts right. */
    const char *end = memrchr(output.data, '\n', done);
    done = end ? (size_t)(end + 1 - output.data) : 0;
    if (ftruncate(log->fd, (off_t)(log->size + done)) < 0) done = 0;
  }
  log->size += done;
  output.used = 0;
  if (log->max_bytes && log->size >= log->max_bytes) rotate(log);
}

static void emit(struct stream *stream, struct logfile *log, char tag, const char *text, size_t size) {
  char head[64];
  struct timespec now;
  struct tm utc;
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &utc);
  size_t length = strftime(head, sizeof head, "%Y-%m-%dT%H:%M:%S", &utc);
  length += (size_t)snprintf(head + length, sizeof head - length, ".%09ldZ %s %c ", now.tv_nsec, stream->name, tag);
  if (output.used + length + size + 1 > sizeof output.data) flush(log);
  memcpy(output.data + output.used, head, length);
  memcpy(output.data + output.used + length, text, size);
  output.used += length + size;
  output.data[output.used++] = '\n';
}

int stream_open(struct stream *stream, int fd, const char *name) {
  *stream = (struct stream){.fd = fd, .name = name};
  for (int i = 0; i < LOG_COPIES; i++) stream->copies[i] = -1;
  stream->line = mmap(NULL, LOG_LINE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stream->line == MAP_FAILED) {
    stream->line = NULL;
    return -ENOMEM;
  }
  return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ? -errno : 0;
}

void stream_close(struct stream *stream, struct logfile *log) {
  if (stream->used) {
    emit(stream, log, 'F', stream->line, stream->used);
    flush(log);
  }
  close_fd(&stream->fd);
  for (int i = 0; stream->line && i < LOG_COPIES; i++) close_fd(&stream->copies[i]);
  if (stream->line) munmap(stream->line, LOG_LINE);
  *stream = (struct stream){.fd = -1};
}

int stream_has_room(struct stream *stream) {
  struct pollfd ends[LOG_COPIES];
  int room = 0;
  /* Of a stream that is silent, no write has told us yet that a reader is gone. */
  for (int i = 0; i < LOG_COPIES; i++) ends[i] = (struct pollfd){.fd = stream->copies[i]};
  int r = poll(ends, LOG_COPIES, 0);
  for (int i = 0; i < LOG_COPIES; i++) {
    if (r > 0 && ends[i].revents) close_fd(&stream->copies[i]);
    room |= stream->copies[i] < 0;
  }
  return room ? 0 : -EUSERS;
}

int stream_copy(struct stream *stream, int fd) {
  for (int i = 0; stream->fd >= 0 && i < LOG_COPIES; i++) {
    if (stream->copies[i] >= 0) continue;
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) return -errno;
    stream->copies[i] = fd;
    return 0;
  }
  return stream->fd < 0 ? -ESRCH : -EUSERS;
}

/* A reader that has fallen a pipe's length behind loses its pipe: it must not hold up the container. */
static void write_copies(struct stream *stream, const char *data, size_t size) {
  for (int i = 0; i < LOG_COPIES; i++)
    if (stream->copies[i] >= 0 && RETRY(write(stream->copies[i], data, size)) != (ssize_t)size)
      close_fd(&stream->copies[i]);
}

int stream_pump(struct stream *stream, struct logfile *log) {
  ssize_t n = (ssize_t)RETRY(read(stream->fd, stream->line + stream->used, LOG_LINE - stream->used));
  if (n < 0 && errno == EAGAIN) return 0;
  if (n <= 0) return -1; /* a pty says EIO when its last slave is closed */
  write_copies(stream, stream->line + stream->used, (size_t)n);
  size_t end = stream->used + (size_t)n, start = 0;
  for (size_t i = stream->used; i < end; i++) {
    if (stream->line[i] != '\n') continue;
    emit(stream, log, 'F', stream->line + start, i - start);
    start = i + 1;
  }
  stream->used = end - start;
  if (start == 0 && stream->used == LOG_LINE) {
    emit(stream, log, 'P', stream->line, LOG_LINE);
    stream->used = 0;
  } else if (start > 0) {
    memmove(stream->line, stream->line + start, stream->used);
  }
  flush(log);
  return 1;
}
