// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * probe.c: the program that tests run inside containers. Each verb says in JSON what the process sees, or does one small
 * thing and says how it went. Static, one file, nothing but system calls and stdio: it needs no image but itself.
 *
 *   probe report                  all sections at once, as one object
 *   probe SECTION                 one of: caps cwd dev env fds hostname ids keyring limits mounts ns ps seccomp status tty
 *   probe VERB [ARGUMENT]…        see the table at the end
 *
 * A verb that fails prints {"error": what, "errno": number, "text": words} and exits 1; a wrong command line exits 64.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { EXIT_USAGE = 64, TEXT_MAX = 8192 };

/* JSON */

static void put_text(const char *text) {
  putchar('"');
  for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
    if (*c == '"' || *c == '\\')
      printf("\\%c", *c);
    else if (*c < 0x20 || *c == 0x7f)
      printf("\\u%04x", *c);
    else
      putchar(*c);
  }
  putchar('"');
}

static void put_key(const char *key) {
  put_text(key);
  putchar(':');
}

static void put_pair(const char *key, const char *value) {
  put_key(key);
  put_text(value);
}

/* A comma before every element but the first. */
static void separate(int *count) {
  if ((*count)++) putchar(',');
}

static int failed(const char *what) {
  int error = errno;
  printf("{");
  put_pair("error", what);
  printf(",\"errno\":%d,", error);
  put_pair("text", strerror(error));
  printf("}\n");
  fflush(stdout);
  return 1;
}

static int usage(void) {
  fputs("probe: wrong verb or arguments; see the table at the end of probe.c\n", stderr);
  return EXIT_USAGE;
}

/* A finished line, at once: tests read while we run. */
static int done(void) {
  putchar('\n');
  return fflush(stdout) ? 1 : 0;
}

static void put_errno(const char *key) {
  printf("{");
  put_key(key);
  printf("%d}", errno);
}

/* Sections: what the process sees */

/* The lines "Key:\tvalue" of /proc/self/status that are in keys (all when NULL), under other names where given. */
static void put_status(const char *const *keys, const char *const *names, size_t count) {
  char line[TEXT_MAX];
  int written = 0;
  FILE *file = fopen("/proc/self/status", "re");
  if (!file) {
    put_errno("errno");
    return;
  }
  printf("{");
  while (fgets(line, sizeof line, file)) {
    char *value = strchr(line, ':');
    if (!value) continue;
    *value++ = 0;
    value += strspn(value, " \t");
    value[strcspn(value, "\n")] = 0;
    for (size_t i = 0; i < (keys ? count : 1); i++) {
      if (keys && strcmp(keys[i], line) != 0) continue;
      separate(&written);
      put_pair(keys ? names[i] : line, value);
    }
  }
  printf("}");
  fclose(file);
}

static void section_status(void) { put_status(NULL, NULL, 0); }

static void section_caps(void) {
  static const char *const keys[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"};
  static const char *const names[] = {"inheritable", "permitted", "effective", "bounding", "ambient"};
  put_status(keys, names, COUNT(keys));
}

static void section_seccomp(void) {
  static const char *const keys[] = {"Seccomp", "Seccomp_filters", "NoNewPrivs"};
  static const char *const names[] = {"mode", "filters", "no_new_privs"};
  put_status(keys, names, COUNT(keys));
}

static void section_ids(void) {
  uid_t ru, eu, su;
  gid_t rg, eg, sg, groups[1024];
  int count = getgroups(COUNT(groups), groups);
  getresuid(&ru, &eu, &su);
  getresgid(&rg, &eg, &sg);
  printf("{\"uid\":%u,\"gid\":%u,\"uids\":[%u,%u,%u],\"gids\":[%u,%u,%u],\"groups\":[", eu, eg, ru, eu, su, rg, eg, sg);
  for (int i = 0; i < count; i++) printf("%s%u", i ? "," : "", groups[i]);
  printf("],\"pid\":%d,\"ppid\":%d,\"sid\":%d,\"pgid\":%d}", getpid(), getppid(), getsid(0), getpgrp());
}

/* Calls put for each name of a directory, but not for "." and "..". */
static void put_directory(const char *path, void (*put)(int dir, const char *name, int *written)) {
  int written = 0;
  DIR *dir = opendir(path);
  if (!dir) return;
  for (struct dirent *entry; (entry = readdir(dir));)
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) put(dirfd(dir), entry->d_name, &written);
  closedir(dir);
}

static void put_ns(int dir, const char *name, int *written) {
  struct stat st;
  if (fstatat(dir, name, &st, 0) < 0) return;
  separate(written);
  put_key(name);
  printf("%llu", (unsigned long long)st.st_ino);
}

static void section_ns(void) {
  printf("{");
  put_directory("/proc/self/ns", put_ns);
  printf("}");
}

static void put_fd(int dir, const char *name, int *written) {
  char target[PATH_MAX];
  if (atoi(name) == dir) return;
  ssize_t length = readlinkat(dir, name, target, sizeof target - 1);
  if (length < 0) return;
  target[length] = 0;
  separate(written);
  put_pair(name, target);
}

static void section_fds(void) {
  printf("{");
  put_directory("/proc/self/fd", put_fd);
  printf("}");
}

static void put_process(int dir, const char *name, int *written) {
  char path[300], comm[64] = "";
  if (name[0] < '0' || name[0] > '9') return;
  snprintf(path, sizeof path, "%s/comm", name);
  int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  ssize_t length = read(fd, comm, sizeof comm - 1);
  close(fd);
  comm[strcspn(comm, "\n")] = 0;
  if (length < 0) return;
  separate(written);
  put_pair(name, comm);
}

static void section_ps(void) {
  printf("{");
  put_directory("/proc", put_process);
  printf("}");
}

static void section_mounts(void) {
  static const char *const names[] = {"id", "parent", "device", "root", "target", "options"};
  static const char *const after[] = {"type", "source", "super"};
  static char line[1 << 16]; /* an overlay of many layers */
  int written = 0;
  FILE *file = fopen("/proc/self/mountinfo", "re");
  printf("[");
  while (file && fgets(line, sizeof line, file)) {
    char *save = NULL, *word = strtok_r(line, " \n", &save);
    separate(&written);
    printf("{");
    for (size_t i = 0; i < COUNT(names) && word; i++, word = strtok_r(NULL, " \n", &save)) {
      put_pair(names[i], word);
      printf(",");
    }
    printf("\"propagation\":[");
    for (int tags = 0; word && strcmp(word, "-") != 0; word = strtok_r(NULL, " \n", &save)) {
      separate(&tags);
      put_text(word);
    }
    printf("]");
    for (size_t i = 0; i < COUNT(after) && (word = strtok_r(NULL, " \n", &save)); i++) {
      printf(",");
      put_pair(after[i], word);
    }
    printf("}");
  }
  printf("]");
  if (file) fclose(file);
}

static void section_limits(void) {
  /* clang-format off: in the order of RLIMIT_* */
  static const char *const names[] = {"cpu",      "fsize",  "data",    "stack", "core",  "rss",
                                      "nproc",    "nofile", "memlock", "as",    "locks", "sigpending",
                                      "msgqueue", "nice",   "rtprio",  "rttime"};
  /* clang-format on */
  printf("{");
  for (size_t i = 0; i < COUNT(names); i++) {
    struct rlimit limit;
    if (getrlimit((int)i, &limit) < 0) continue;
    if (i) printf(",");
    put_key(names[i]);
    /* Unlimited is all ones, so -1. */
    printf("[%lld,%lld]", (long long)limit.rlim_cur, (long long)limit.rlim_max);
  }
  printf("}");
}

static void section_env(void) {
  extern char **environ;
  int written = 0;
  printf("{");
  for (char **variable = environ; *variable; variable++) {
    char name[TEXT_MAX];
    const char *equals = strchr(*variable, '=');
    if (!equals) continue;
    snprintf(name, sizeof name, "%.*s", (int)(equals - *variable), *variable);
    separate(&written);
    put_pair(name, equals + 1);
  }
  printf("}");
}

static void section_cwd(void) {
  char path[PATH_MAX];
  if (syscall(SYS_getcwd, path, sizeof path) < 0)
    put_errno("errno");
  else
    put_text(path);
}

static void section_hostname(void) {
  char name[HOST_NAME_MAX + 1] = "";
  gethostname(name, sizeof name);
  put_text(name);
}

/* linux/keyctl.h's numbers; musl has no header for them. */
static void section_keyring(void) {
  enum { GET_KEYRING_ID = 0, DESCRIBE = 6, SESSION = -3 };
  char description[512] = "";
  long id = syscall(SYS_keyctl, GET_KEYRING_ID, SESSION, 0);
  if (id < 0) {
    put_errno("errno");
    return;
  }
  syscall(SYS_keyctl, DESCRIBE, id, description, sizeof description - 1);
  printf("{\"id\":%ld,", id);
  put_pair("description", description);
  printf("}");
}

static void section_tty(void) {
  struct winsize size = {0};
  ioctl(0, TIOCGWINSZ, &size);
  int controlling = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
  printf("{\"isatty\":[%d,%d,%d],\"rows\":%u,\"columns\":%u,\"controlling\":%d,\"foreground\":%d}", isatty(0),
         isatty(1), isatty(2), size.ws_row, size.ws_col, controlling >= 0, tcgetpgrp(0) == getpgrp());
  if (controlling >= 0) close(controlling);
}

static const char *type_name(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "file";
    case S_IFDIR:
      return "dir";
    case S_IFLNK:
      return "link";
    case S_IFCHR:
      return "char";
    case S_IFBLK:
      return "block";
    case S_IFIFO:
      return "fifo";
    default:
      return "socket";
  }
}

static int put_stat(int dir, const char *name) {
  struct stat st;
  char target[PATH_MAX] = "";
  if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) return -1;
  if (S_ISLNK(st.st_mode) && readlinkat(dir, name, target, sizeof target - 1) < 0) return -1;
  printf("{\"type\":\"%s\",\"mode\":%u,\"uid\":%u,\"gid\":%u,\"size\":%lld,\"inode\":%llu,\"links\":%llu",
         type_name(st.st_mode), st.st_mode & 07777, st.st_uid, st.st_gid, (long long)st.st_size,
         (unsigned long long)st.st_ino, (unsigned long long)st.st_nlink);
  printf(",\"device\":[%u,%u],\"rdev\":[%u,%u],", major(st.st_dev), minor(st.st_dev), major(st.st_rdev),
         minor(st.st_rdev));
  put_pair("target", target);
  printf("}");
  return 0;
}

static void put_device(int dir, const char *name, int *written) {
  struct stat st;
  if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) return;
  separate(written);
  put_key(name);
  if (put_stat(dir, name) < 0) put_errno("errno");
}

static void section_dev(void) {
  printf("{");
  put_directory("/dev", put_device);
  printf("}");
}

static const struct {
  const char *name;
  void (*put)(void);
} sections[] = {
    {"caps", section_caps},       {"cwd", section_cwd},           {"dev", section_dev}, {"env", section_env},
    {"fds", section_fds},         {"hostname", section_hostname}, {"ids", section_ids}, {"keyring", section_keyring},
    {"limits", section_limits},   {"mounts", section_mounts},     {"ns", section_ns},   {"ps", section_ps},
    {"seccomp", section_seccomp}, {"status", section_status},     {"tty", section_tty},
};

/* [hold]: with hold, stays until killed, to be looked at from outside. */
static int verb_report(char **arguments) {
  printf("{");
  for (size_t i = 0; i < COUNT(sections); i++) {
    if (i) printf(",");
    put_key(sections[i].name);
    sections[i].put();
  }
  printf("}");
  done();
  while (arguments[0]) pause();
  return 0;
}

/* Verbs: files and messages */

static int verb_read(char **arguments) {
  static char text[1 << 20];
  size_t length = 0;
  int fd = open(arguments[0], O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed("open");
  for (ssize_t n; length < sizeof text - 1; length += (size_t)n) {
    n = read(fd, text + length, sizeof text - 1 - length);
    if (n < 0) return failed("read");
    if (n == 0) break;
  }
  close(fd);
  text[length] = 0;
  printf("{");
  put_pair("text", text);
  printf("}");
  return done();
}

static int verb_write(char **arguments) {
  size_t length = strlen(arguments[1]);
  int fd = open(arguments[0], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return failed("open");
  if (write(fd, arguments[1], length) != (ssize_t)length) return failed("write");
  printf("{\"written\":%zu}", length);
  return done();
}

static int verb_stat(char **arguments) {
  if (put_stat(AT_FDCWD, arguments[0]) < 0) return failed("stat");
  return done();
}

static int verb_list(char **arguments) {
  if (access(arguments[0], F_OK) < 0) return failed("access");
  printf("{");
  put_directory(arguments[0], put_device);
  printf("}");
  return done();
}

struct sysv_message {
  long type;
  char text[TEXT_MAX];
};

static int verb_sysv_send(char **arguments) {
  struct sysv_message message = {.type = 1};
  snprintf(message.text, sizeof message.text, "%s", arguments[1]);
  int queue = msgget((key_t)strtol(arguments[0], NULL, 0), IPC_CREAT | 0666);
  if (queue < 0) return failed("msgget");
  if (msgsnd(queue, &message, strlen(message.text) + 1, 0) < 0) return failed("msgsnd");
  printf("{\"queue\":%d}", queue);
  return done();
}

/* Does not wait: what was not sent before is ENOMSG, a queue of another namespace ENOENT. */
static int verb_sysv_recv(char **arguments) {
  struct sysv_message message;
  int queue = msgget((key_t)strtol(arguments[0], NULL, 0), 0);
  if (queue < 0) return failed("msgget");
  if (msgrcv(queue, &message, sizeof message.text, 0, IPC_NOWAIT) < 0) return failed("msgrcv");
  printf("{");
  put_pair("text", message.text);
  printf("}");
  return done();
}

static int verb_mq_send(char **arguments) {
  struct mq_attr attributes = {.mq_maxmsg = 8, .mq_msgsize = 1024};
  mqd_t queue = mq_open(arguments[0], O_WRONLY | O_CREAT, 0666, &attributes);
  if (queue < 0) return failed("mq_open");
  if (mq_send(queue, arguments[1], strlen(arguments[1]), 0) < 0) return failed("mq_send");
  printf("{\"sent\":%zu}", strlen(arguments[1]));
  return done();
}

static int verb_mq_recv(char **arguments) {
  char text[1025];
  mqd_t queue = mq_open(arguments[0], O_RDONLY | O_NONBLOCK);
  if (queue < 0) return failed("mq_open");
  ssize_t length = mq_receive(queue, text, 1024, NULL);
  if (length < 0) return failed("mq_receive");
  text[length] = 0;
  printf("{");
  put_pair("text", text);
  printf("}");
  return done();
}

/* POSIX shared memory is files in /dev/shm. */
static int verb_shm_write(char **arguments) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "/dev/shm/%s", arguments[0]);
  return verb_write((char *[]){path, arguments[1], NULL});
}

static int verb_shm_read(char **arguments) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "/dev/shm/%s", arguments[0]);
  return verb_read((char *[]){path, NULL});
}

/* Verbs: network. Hosts are numeric addresses. */

struct address {
  struct sockaddr_storage storage;
  socklen_t length;
};

static int address_parse(struct address *address, const char *host, const char *port) {
  struct sockaddr_in *v4 = (struct sockaddr_in *)&address->storage;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address->storage;
  memset(address, 0, sizeof *address);
  if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)atoi(port));
    address->length = sizeof *v4;
  } else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)atoi(port));
    address->length = sizeof *v6;
  } else {
    errno = EINVAL;
    return -1;
  }
  return 0;
}

static void address_text(const struct address *address, char *text, socklen_t size, unsigned *port) {
  const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->storage;
  const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address->storage;
  int is_v4 = address->storage.ss_family == AF_INET;
  inet_ntop(address->storage.ss_family, is_v4 ? (const void *)&v4->sin_addr : (const void *)&v6->sin6_addr, text, size);
  *port = ntohs(is_v4 ? v4->sin_port : v6->sin6_port);
}

static int socket_bound(int type, const char *port) {
  struct address address;
  int yes = 1, fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (address_parse(&address, "0.0.0.0", port) < 0) return -1;
  return bind(fd, (struct sockaddr *)&address.storage, address.length) < 0 ? -1 : fd;
}

static void put_peer(const char *text, unsigned port) {
  printf("{");
  put_pair("peer", text);
  printf(",\"port\":%u}", port);
  done();
}

/* PORT [COUNT]: answers each of COUNT connections (default: without end) with the address that it came from. */
static int verb_tcp_serve(char **arguments) {
  int fd = socket_bound(SOCK_STREAM, arguments[0]);
  if (fd < 0 || listen(fd, 64) < 0) return failed("listen");
  printf("{\"listening\":%d}", atoi(arguments[0]));
  done();
  for (long left = arguments[1] ? atol(arguments[1]) : LONG_MAX; left > 0; left--) {
    struct address peer = {.length = sizeof peer.storage};
    char text[INET6_ADDRSTRLEN];
    unsigned port;
    int connection = accept(fd, (struct sockaddr *)&peer.storage, &peer.length);
    if (connection < 0) return failed("accept");
    address_text(&peer, text, sizeof text, &port);
    put_peer(text, port);
    send(connection, text, strlen(text), MSG_NOSIGNAL);
    close(connection);
  }
  return 0;
}

/* Wait until fd is ready, or fail with ETIMEDOUT. */
static int wait_for(int fd, short events, const char *milliseconds) {
  struct pollfd poll_fd = {.fd = fd, .events = events};
  int ready = poll(&poll_fd, 1, milliseconds ? atoi(milliseconds) : 5000);
  if (ready == 0) errno = ETIMEDOUT;
  return ready > 0 ? 0 : -1;
}

static int put_answer(int fd, const char *milliseconds) {
  char text[TEXT_MAX];
  if (wait_for(fd, POLLIN, milliseconds) < 0) return failed("answer");
  ssize_t length = recv(fd, text, sizeof text - 1, 0);
  if (length < 0) return failed("recv");
  text[length] = 0;
  printf("{");
  put_pair("answer", text);
  printf("}");
  return done();
}

/* HOST PORT [MILLISECONDS]: what the server says. */
static int verb_tcp_connect(char **arguments) {
  struct address address;
  int error = 0;
  socklen_t size = sizeof error;
  if (address_parse(&address, arguments[0], arguments[1]) < 0) return failed("address");
  int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return failed("socket");
  if (connect(fd, (struct sockaddr *)&address.storage, address.length) < 0 && errno != EINPROGRESS)
    return failed("connect");
  if (wait_for(fd, POLLOUT, arguments[2]) < 0) return failed("connect");
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  errno = error;
  return error ? failed("connect") : put_answer(fd, arguments[2]);
}

/* PORT [COUNT]: answers each datagram with the address that it came from. */
static int verb_udp_serve(char **arguments) {
  int fd = socket_bound(SOCK_DGRAM, arguments[0]);
  if (fd < 0) return failed("bind");
  printf("{\"listening\":%d}", atoi(arguments[0]));
  done();
  for (long left = arguments[1] ? atol(arguments[1]) : LONG_MAX; left > 0; left--) {
    struct address peer = {.length = sizeof peer.storage};
    char text[INET6_ADDRSTRLEN], received[TEXT_MAX];
    unsigned port;
    if (recvfrom(fd, received, sizeof received, 0, (struct sockaddr *)&peer.storage, &peer.length) < 0)
      return failed("recv");
    address_text(&peer, text, sizeof text, &port);
    put_peer(text, port);
    sendto(fd, text, strlen(text), 0, (struct sockaddr *)&peer.storage, peer.length);
  }
  return 0;
}

/* HOST PORT TEXT [MILLISECONDS]: what the server says. */
static int verb_udp_send(char **arguments) {
  struct address address;
  if (address_parse(&address, arguments[0], arguments[1]) < 0) return failed("address");
  int fd = socket(address.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return failed("socket");
  if (connect(fd, (struct sockaddr *)&address.storage, address.length) < 0) return failed("connect");
  if (send(fd, arguments[2], strlen(arguments[2]), 0) < 0) return failed("send");
  return put_answer(fd, arguments[3]);
}

/* HOST: an echo request through an ICMP socket (icmp(7)), which needs no capability, only ping_group_range. */
static int verb_ping(char **arguments) {
  struct address address;
  const unsigned char request[8] = {8, 0, 0, 0, 0, 0, 0, 1};
  unsigned char reply[64];
  if (address_parse(&address, arguments[0], "0") < 0) return failed("address");
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP);
  if (fd < 0) return failed("socket");
  if (sendto(fd, request, sizeof request, 0, (struct sockaddr *)&address.storage, address.length) < 0)
    return failed("send");
  if (wait_for(fd, POLLIN, NULL) < 0) return failed("answer");
  if (recv(fd, reply, sizeof reply, 0) < 0) return failed("recv");
  printf("{\"type\":%u}", reply[0]);
  return done();
}

/* Verbs: system calls and resources */

static const struct {
  const char *name;
  long number;
} calls[] = {
/* clang-format off: a table */
#define CALL(name) {#name, SYS_##name},
    CALL(acct) CALL(add_key) CALL(adjtimex) CALL(bpf) CALL(chroot) CALL(clock_settime) CALL(clone) CALL(delete_module)
        CALL(finit_module) CALL(getpid) CALL(init_module) CALL(kcmp) CALL(kexec_load) CALL(keyctl) CALL(mbind)
            CALL(mount) CALL(move_pages) CALL(name_to_handle_at) CALL(open_by_handle_at) CALL(perf_event_open)
                CALL(personality) CALL(pivot_root) CALL(process_vm_readv) CALL(ptrace) CALL(quotactl) CALL(reboot)
                    CALL(request_key) CALL(sethostname) CALL(setns) CALL(settimeofday) CALL(socket) CALL(swapoff)
                        CALL(swapon) CALL(syslog) CALL(umount2) CALL(unshare) CALL(userfaultfd) CALL(vhangup)
#undef CALL
    /* Newer than some libc's headers; the same everywhere. */
    {"io_uring_setup", 425},
    {"open_tree", 428},
    {"move_mount", 429},
    {"fsopen", 430},
    {"fsmount", 432},
    {"pidfd_open", 434},
    {"clone3", 435},
    {"openat2", 437},
    {"pidfd_getfd", 438},
    {"mount_setattr", 442},
    /* clang-format on */
};

/* NAME|NUMBER [ARGUMENT]…: made in a child, since seccomp may kill; up to six numeric arguments, the rest 0. */
static int verb_try_syscall(char **arguments) {
  char *end;
  long number = strtol(arguments[0], &end, 0), operands[6] = {0}, answer[2] = {0};
  int pipe_fds[2], status;
  if (*end) {
    number = -1;
    for (size_t i = 0; i < COUNT(calls); i++)
      if (strcmp(calls[i].name, arguments[0]) == 0) number = calls[i].number;
    if (number < 0) return usage();
  }
  for (size_t i = 0; i < COUNT(operands) && arguments[1 + i]; i++)
    operands[i] = (long)strtoul(arguments[1 + i], NULL, 0);
  if (pipe(pipe_fds) < 0) return failed("pipe");
  pid_t pid = fork();
  if (pid < 0) return failed("fork");
  if (pid == 0) {
    errno = 0;
    answer[0] = syscall(number, operands[0], operands[1], operands[2], operands[3], operands[4], operands[5]);
    answer[1] = errno;
    _exit(write(pipe_fds[1], answer, sizeof answer) != sizeof answer);
  }
  close(pipe_fds[1]);
  if (read(pipe_fds[0], answer, sizeof answer) != sizeof answer) answer[0] = -1;
  waitpid(pid, &status, 0);
  printf("{\"result\":%ld,\"errno\":%ld,\"signal\":%d}", answer[0], answer[1],
         WIFSIGNALED(status) ? WTERMSIG(status) : 0);
  return done();
}

/* MIB [hold]: touches memory; with hold, keeps it until killed. */
static int verb_mem(char **arguments) {
  size_t size = (size_t)atol(arguments[0]) << 20;
  char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return failed("mmap");
  for (size_t i = 0; i < size; i += 4096) ((volatile char *)memory)[i] = 1;
  printf("{\"touched\":%zu}", size);
  done();
  while (arguments[1]) pause();
  return 0;
}

/* N: how many of N children could be had at the same time; they are gone before it answers. */
static int verb_fork(char **arguments) {
  int wanted = atoi(arguments[0]), made = 0, error = 0;
  pid_t *children = calloc((size_t)(wanted > 0 ? wanted : 1), sizeof *children);
  if (!children) return failed("calloc");
  for (; made < wanted; made++) {
    children[made] = fork();
    if (children[made] == 0)
      for (;;) pause();
    if (children[made] < 0) {
      error = errno;
      break;
    }
  }
  for (int i = 0; i < made; i++) kill(children[i], SIGKILL);
  for (int i = 0; i < made; i++) waitpid(children[i], NULL, 0);
  free(children);
  printf("{\"forked\":%d,\"errno\":%d}", made, error);
  return done();
}

static void sleep_ms(long milliseconds) {
  struct timespec left = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};
  while (nanosleep(&left, &left) < 0 && errno == EINTR) {
  }
}

/* N: leaves N zombies to whoever reaps orphans here. */
static int verb_orphan(char **arguments) {
  for (int i = 0; i < atoi(arguments[0]); i++) {
    pid_t child = fork();
    if (child < 0) return failed("fork");
    if (child == 0) {
      if (fork() == 0) sleep_ms(50);
      _exit(0);
    }
    waitpid(child, NULL, 0);
  }
  printf("{\"orphans\":%d}", atoi(arguments[0]));
  return done();
}

static int verb_sleep(char **arguments) {
  sleep_ms((long)(strtod(arguments[0], NULL) * 1000));
  return 0;
}

static int verb_exit(char **arguments) { return atoi(arguments[0]); }

static const struct {
  const char *name;
  int number;
} signals[] = {
    {"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"USR1", SIGUSR1},
    {"USR2", SIGUSR2}, {"TERM", SIGTERM}, {"CONT", SIGCONT}, {"WINCH", SIGWINCH},
};

/* [MILLISECONDS|ignore]: a line per signal; ends on TERM, at once, after a delay, or never. */
static int verb_signal_log(char **arguments) {
  sigset_t set;
  sigemptyset(&set);
  for (size_t i = 0; i < COUNT(signals); i++) sigaddset(&set, signals[i].number);
  sigprocmask(SIG_BLOCK, &set, NULL);
  printf("{\"ready\":%d}", getpid());
  done();
  for (;;) {
    siginfo_t info;
    int number = sigwaitinfo(&set, &info);
    if (number < 0 && errno == EINTR) continue;
    if (number < 0) return failed("sigwaitinfo");
    for (size_t i = 0; i < COUNT(signals); i++) {
      if (signals[i].number != number) continue;
      printf("{\"signal\":\"%s\",\"from\":%d}", signals[i].name, info.si_pid);
      done();
    }
    if (number != SIGTERM || (arguments[0] && strcmp(arguments[0], "ignore") == 0)) continue;
    if (arguments[0]) sleep_ms(atol(arguments[0]));
    return 0;
  }
}

/* Says when it watches a volume that is written atomically, then what a file of it says each time it is replaced. */
static int verb_watch(char **arguments) {
  _Alignas(struct inotify_event) char events[4096];
  int fd = inotify_init1(IN_CLOEXEC);
  if (fd < 0 || inotify_add_watch(fd, arguments[0], IN_MOVED_TO) < 0) return failed("inotify");
  printf("{\"watching\":true}");
  done();
  for (;;) {
    ssize_t n = read(fd, events, sizeof events);
    if (n <= 0) return failed("read");
    for (char *at = events; at < events + n;) {
      const struct inotify_event *event = (const struct inotify_event *)at;
      if (event->len && strcmp(event->name, "..data") == 0) verb_read(arguments + 1);
      at += sizeof *event + event->len;
    }
  }
}

static int verb_stdin_echo(char **arguments) {
  char buffer[65536];
  (void)arguments;
  for (;;) {
    ssize_t length = read(0, buffer, sizeof buffer);
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) return length < 0;
    for (ssize_t sent = 0, n; sent < length; sent += n)
      if ((n = write(1, buffer + sent, (size_t)(length - sent))) < 0) return 1;
  }
}

static int verb_stderr(char **arguments) {
  fprintf(stderr, "%s\n", arguments[0]);
  return 0;
}

static const struct {
  const char *name;
  int least, most; /* arguments */
  int (*run)(char **arguments);
} verbs[] = {
    {"exit", 1, 1, verb_exit},
    {"fork", 1, 1, verb_fork},
    {"list", 1, 1, verb_list},
    {"mem", 1, 2, verb_mem},
    {"mq-recv", 1, 1, verb_mq_recv},
    {"mq-send", 2, 2, verb_mq_send},
    {"orphan", 1, 1, verb_orphan},
    {"ping", 1, 1, verb_ping},
    {"read", 1, 1, verb_read},
    {"report", 0, 1, verb_report},
    {"shm-read", 1, 1, verb_shm_read},
    {"shm-write", 2, 2, verb_shm_write},
    {"signal-log", 0, 1, verb_signal_log},
    {"sleep", 1, 1, verb_sleep},
    {"stat", 1, 1, verb_stat},
    {"stderr", 1, 1, verb_stderr},
    {"stdin-echo", 0, 0, verb_stdin_echo},
    {"sysv-recv", 1, 1, verb_sysv_recv},
    {"sysv-send", 2, 2, verb_sysv_send},
    {"tcp-connect", 2, 3, verb_tcp_connect},
    {"tcp-serve", 1, 2, verb_tcp_serve},
    {"try-syscall", 1, 7, verb_try_syscall},
    {"udp-send", 3, 4, verb_udp_send},
    {"udp-serve", 1, 2, verb_udp_serve},
    {"watch", 2, 2, verb_watch},
    {"write", 2, 2, verb_write},
};

int main(int argc, char **argv) {
  if (argc < 2) return usage();
  /* Padded, so that a verb may look at its optional arguments. */
  char *arguments[10] = {NULL};
  for (int i = 2; i < argc && i < 10; i++) arguments[i - 2] = argv[i];
  for (size_t i = 0; i < COUNT(sections); i++) {
    if (strcmp(sections[i].name, argv[1]) != 0 || argc != 2) continue;
    sections[i].put();
    return done();
  }
  for (size_t i = 0; i < COUNT(verbs); i++)
    if (strcmp(verbs[i].name, argv[1]) == 0 && argc - 2 >= verbs[i].least && argc - 2 <= verbs[i].most)
      return verbs[i].run(arguments);
  return usage();
}
