// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * An OCI runtime for podman on a machine that takes CAP_SYS_RESOURCE from root: crun, without `process.rlimits`.
 *
 * Podman always asks for limits above the hard ones, which only that capability may raise, and offers no way not to ask.
 * In C, so that it costs podman next to nothing. It is called as `runtime … create --bundle DIR …`.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void fail(const char *what) {
  perror(what);
  exit(1);
}

/* Cut `"rlimits":[…],` out of the file; podman writes it without spaces, and no string in it has a bracket. */
static void drop_rlimits(const char *path) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  struct stat info;
  if (fd < 0 || fstat(fd, &info) < 0) fail(path);
  char *text = calloc(1, (size_t)info.st_size + 1);
  if (!text || read(fd, text, (size_t)info.st_size) != info.st_size) fail(path);
  char *begin = strstr(text, "\"rlimits\":["), *end = begin ? strchr(begin, ']') : NULL;
  if (end) {
    end++;
    if (*end == ',')
      end++;
    else if (begin[-1] == ',')
      begin--;
    memmove(begin, end, strlen(end) + 1);
    ssize_t length = (ssize_t)strlen(text);
    if (pwrite(fd, text, (size_t)length, 0) != length || ftruncate(fd, length) < 0) fail(path);
  }
  close(fd);
}

int main(int argc, char **argv) {
  for (int i = 1; i + 1 < argc; i++) {
    char path[4096];
    if (strcmp(argv[i], "--bundle") != 0) continue;
    snprintf(path, sizeof path, "%s/config.json", argv[i + 1]);
    drop_rlimits(path);
  }
  execvp("crun", argv);
  fail("crun");
}
