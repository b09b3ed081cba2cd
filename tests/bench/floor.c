// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The least that starting a pod can cost: the system calls of a start, and nothing else.
 *
 *   floor CONTAINERS BRIDGE ADDRESS/PREFIX GATEWAY ROOTFS SCRATCH CGROUP2|- [CGROUP1…]
 *
 * Makes what minipod makes: cgroups for the pod and each container; a pause process with namespaces of its own; a veth
 * pair into BRIDGE, which is there already; and containers, each in its own pid and mount namespace and in the pause's
 * others, with an overlay on ROOTFS, proc, sysfs, a /dev, pivoted, that run `/bin/busybox sleep`. Then it takes all of it down.
 * Prints {"start_us": …, "teardown_us": …}. SCRATCH is an empty directory, the CGROUP…s are empty cgroups, one per
 * hierarchy. After a failure the processes die with this one; links, cgroups and files are the caller's to remove.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/mount.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/veth.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The C libraries know these by their own sched.h, which does not go together with the kernel's. */
int setns(int, int);
int unshare(int);

#define MAX_CONTAINERS 64
#define POD_INDEX 2 /* the pod's eth0; 1 is lo */

static const char *bridge, *rootfs, *scratch, *cgroup2, *gateway;
static char *address;
static int prefix;
static char **cgroups1;

#define CHECK(call)                                                 \
  ({                                                                \
    long check_ = (long)(call);                                     \
    if (check_ < 0) {                                               \
      fprintf(stderr, "floor: line %d: %s: %m\n", __LINE__, #call); \
      _exit(1);                                                     \
    }                                                               \
    check_;                                                         \
  })

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Never freed: the program lives for milliseconds. */
__attribute__((format(printf, 1, 2))) static const char *path(const char *format, ...) {
  char *text;
  va_list arguments;
  va_start(arguments, format);
  CHECK(vasprintf(&text, format, arguments));
  va_end(arguments);
  return text;
}

static void put(const char *file, const char *text) {
  int fd = (int)CHECK(open(file, O_WRONLY | O_CLOEXEC));
  CHECK(write(fd, text, strlen(text)));
  close(fd);
}

/* ---- cgroups ---- */

static void make_cgroup(const char *name) {
  static const char *const devices[] = {"c *:* m",   "b *:* m",   "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm",
                                        "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"};
  if (cgroup2) CHECK(mkdir(path("%s/%s", cgroup2, name), 0755));
  for (char **c = cgroups1; *c; c++) {
    CHECK(mkdir(path("%s/%s", *c, name), 0755));
    if (access(path("%s/%s/devices.deny", *c, name), F_OK) == 0) {
      put(path("%s/%s/devices.deny", *c, name), "a");
      for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        put(path("%s/%s/devices.allow", *c, name), devices[i]);
    }
    if (access(path("%s/%s/pids.max", *c, name), F_OK) == 0) put(path("%s/%s/pids.max", *c, name), "4096");
  }
}

/* A process that has been reaped may hold its cgroup for a moment longer. */
static void remove_cgroup(const char *directory) {
  struct timespec moment = {.tv_nsec = 100000};
  for (int tries = 0; rmdir(directory) < 0; tries++) {
    if (errno != EBUSY || tries > 10000) CHECK(-1);
    nanosleep(&moment, NULL);
  }
}

static void remove_cgroups(const char *name) {
  if (cgroup2) remove_cgroup(path("%s/%s", cgroup2, name));
  for (char **c = cgroups1; *c; c++) remove_cgroup(path("%s/%s", *c, name));
}

/* ---- netlink ---- */

struct batch {
  char data[2048];
  size_t length;
  unsigned messages;
};

static void *grow(struct batch *b, const void *data, size_t length) {
  void *at = b->data + b->length;
  memcpy(at, data, length);
  b->length += NLMSG_ALIGN(length);
  return at;
}

static struct nlmsghdr *begin(struct batch *b, int type, int flags, const void *body, size_t length) {
  struct nlmsghdr head = {.nlmsg_type = (uint16_t)type, .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags)};
  struct nlmsghdr *at = grow(b, &head, sizeof head);
  grow(b, body, length);
  b->messages++;
  return at;
}

static struct rtattr *attribute(struct batch *b, int type, const void *data, size_t length) {
  struct rtattr head = {.rta_type = (uint16_t)type, .rta_len = (uint16_t)RTA_LENGTH(length)};
  struct rtattr *at = grow(b, &head, sizeof head);
  grow(b, data, length);
  return at;
}

static void end(struct batch *b, void *at, uint16_t *length16, uint32_t *length32) {
  size_t length = (size_t)(b->data + b->length - (char *)at);
  if (length16) *length16 = (uint16_t)length;
  if (length32) *length32 = (uint32_t)length;
}

/* Send a batch; an answer of -`tolerated` is as good as none. */
static void transact(struct batch *b, int tolerated) {
  int fd = (int)CHECK(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_ROUTE));
  CHECK(send(fd, b->data, b->length, 0));
  for (unsigned answered = 0; answered < b->messages;) {
    _Alignas(struct nlmsghdr) char buffer[8192];
    int left = (int)CHECK(recv(fd, buffer, sizeof buffer, 0));
    for (struct nlmsghdr *h = (void *)buffer; NLMSG_OK(h, (unsigned)left); h = NLMSG_NEXT(h, left)) {
      struct nlmsgerr *e = NLMSG_DATA(h);
      if (h->nlmsg_type != NLMSG_ERROR) continue;
      errno = -e->error;
      if (errno != tolerated) CHECK(e->error);
      answered++;
    }
  }
  close(fd);
}

static void make_veth(const char *name, pid_t pod) {
  struct batch b = {.length = 0};
  struct ifinfomsg host = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  struct ifinfomsg peer = {.ifi_index = POD_INDEX}; /* cannot be up before it has a peer: ENOTCONN */
  uint32_t master = if_nametoindex(bridge), pid = (uint32_t)pod;
  struct nlmsghdr *h = begin(&b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &host, sizeof host);
  attribute(&b, IFLA_IFNAME, name, strlen(name) + 1);
  attribute(&b, IFLA_MASTER, &master, sizeof master);
  struct rtattr *info = attribute(&b, IFLA_LINKINFO, NULL, 0);
  attribute(&b, IFLA_INFO_KIND, "veth", 4);
  struct rtattr *data = attribute(&b, IFLA_INFO_DATA, NULL, 0);
  struct rtattr *other = attribute(&b, VETH_INFO_PEER, &peer, sizeof peer);
  attribute(&b, IFLA_IFNAME, "eth0", 5);
  attribute(&b, IFLA_NET_NS_PID, &pid, sizeof pid);
  end(&b, other, &other->rta_len, NULL);
  end(&b, data, &data->rta_len, NULL);
  end(&b, info, &info->rta_len, NULL);
  end(&b, h, NULL, &h->nlmsg_len);
  transact(&b, 0);
}

static void remove_link(const char *name) {
  struct batch b = {.length = 0};
  struct ifinfomsg link = {.ifi_family = AF_UNSPEC};
  struct nlmsghdr *h = begin(&b, RTM_DELLINK, 0, &link, sizeof link);
  attribute(&b, IFLA_IFNAME, name, strlen(name) + 1);
  end(&b, h, NULL, &h->nlmsg_len);
  transact(&b, ENODEV); /* the kernel may have been quicker: the pod's end is gone with its namespace */
}

/* In the pod's namespace, after its eth0 has come. */
static void configure_network(void) {
  struct batch b = {.length = 0};
  struct in_addr own, router;
  inet_pton(AF_INET, address, &own);
  inet_pton(AF_INET, gateway, &router);

  struct nlmsghdr *h;
  for (int index = 1; index <= POD_INDEX; index++) {
    struct ifinfomsg link = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    h = begin(&b, RTM_NEWLINK, 0, &link, sizeof link);
    end(&b, h, NULL, &h->nlmsg_len);
  }

  struct ifaddrmsg at = {.ifa_family = AF_INET, .ifa_prefixlen = (uint8_t)prefix, .ifa_index = POD_INDEX};
  h = begin(&b, RTM_NEWADDR, NLM_F_CREATE, &at, sizeof at);
  attribute(&b, IFA_LOCAL, &own, sizeof own);
  attribute(&b, IFA_ADDRESS, &own, sizeof own);
  end(&b, h, NULL, &h->nlmsg_len);

  struct rtmsg route = {.rtm_family = AF_INET,
                        .rtm_table = RT_TABLE_MAIN,
                        .rtm_protocol = RTPROT_BOOT,
                        .rtm_scope = RT_SCOPE_UNIVERSE,
                        .rtm_type = RTN_UNICAST};
  h = begin(&b, RTM_NEWROUTE, NLM_F_CREATE, &route, sizeof route);
  attribute(&b, RTA_GATEWAY, &router, sizeof router);
  end(&b, h, NULL, &h->nlmsg_len);
  transact(&b, 0);
}

/* ---- mounts ---- */

static int new_filesystem(const char *type, unsigned attributes, const char *const (*options)[2]) {
  int fs = (int)CHECK(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
  for (; options && (*options)[0]; options++)
    CHECK(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, (*options)[0], (*options)[1], 0));
  CHECK(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
  int tree = (int)CHECK(syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes));
  close(fs);
  return tree;
}

static void attach(int tree, const char *target) {
  CHECK(syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH));
  close(tree);
}

static void make_dev(void) {
  static const struct {
    const char *name;
    unsigned major, minor;
  } nodes[] = {{"dev/null", 1, 3}, {"dev/zero", 1, 5},   {"dev/full", 1, 7},
               {"dev/tty", 5, 0},  {"dev/random", 1, 8}, {"dev/urandom", 1, 9}};
  attach(new_filesystem("tmpfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, NULL), "dev");
  for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
    CHECK(mknod(nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
  CHECK(symlink("/proc/self/fd", "dev/fd"));
  CHECK(symlink("/proc/self/fd/0", "dev/stdin"));
  CHECK(symlink("/proc/self/fd/1", "dev/stdout"));
  CHECK(symlink("/proc/self/fd/2", "dev/stderr"));
  CHECK(symlink("pts/ptmx", "dev/ptmx"));
  CHECK(mkdir("dev/pts", 0755));
  CHECK(mkdir("dev/shm", 0755));
  CHECK(mkdir("dev/mqueue", 0755));
  attach(new_filesystem("devpts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, NULL), "dev/pts");
  attach(new_filesystem("mqueue", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, NULL), "dev/mqueue");
}

/* ---- processes ---- */

static pid_t spawn(uint64_t flags, const char *cgroup, int *pidfd, void (*run)(int, int), int number, int *status) {
  int ends[2], fd = -1, born_in = -1;
  CHECK(pipe2(ends, O_CLOEXEC));
  struct clone_args arguments = {
      .flags = flags | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&fd, .exit_signal = SIGCHLD};
  if (cgroup2) {
    born_in = (int)CHECK(open(path("%s/%s", cgroup2, cgroup), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = (uint64_t)born_in;
  }
  pid_t pid = (pid_t)CHECK(syscall(SYS_clone3, &arguments, sizeof arguments));
  if (pid == 0) {
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL));
    for (char **c = cgroups1; *c; c++) put(path("%s/%s/cgroup.procs", *c, cgroup), "0");
    run(number, *pidfd);
    _exit(1);
  }
  if (born_in >= 0) close(born_in);
  close(ends[1]);
  *status = ends[0];
  if (number < 0)
    *pidfd = fd;
  else
    close(fd);
  return pid;
}

/* The end of the pipe that exec closes; a failed child has said why on stderr and exits. */
static void wait_for_exec(int status, pid_t pid) {
  char byte;
  CHECK(read(status, &byte, 1));
  close(status);
  siginfo_t info = {0};
  CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT));
  if (info.si_pid) exit(1);
}

static void quiet(void) {
  int null = (int)CHECK(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd = 0; fd < 2; fd++) CHECK(dup2(null, fd));
}

static int go[2];

/* In new net, uts, ipc and mount namespaces. */
static void run_pause(int number, int unused) {
  (void)number, (void)unused;
  char byte;
  CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
  CHECK(sethostname("floor", 5));
  attach(new_filesystem("tmpfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, NULL), scratch);
  CHECK(mkdir(path("%s/rootfs", scratch), 0755));
  CHECK(mkdir(path("%s/shm", scratch), 0755));
  attach(new_filesystem("tmpfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, NULL), path("%s/shm", scratch));
  CHECK(read(go[0], &byte, 1));
  configure_network();
  quiet();
  execl("/proc/self/exe", "pause", NULL);
}

/* In a new pid namespace; `pod` is the pidfd of the pause process. */
static void run_container(int number, int pod) {
  /* The layers lie below the pod's tmpfs: opened while we still see the host's tree. */
  int files = (int)CHECK(open(scratch, O_PATH | O_DIRECTORY | O_CLOEXEC));
  const char *options[][2] = {
      {"lowerdir", rootfs},
      {"upperdir", path("/proc/self/fd/%d/%d/upper", files, number)},
      {"workdir", path("/proc/self/fd/%d/%d/work", files, number)},
      {NULL, NULL},
  };
  int overlay = new_filesystem("overlay", 0, options);
  CHECK(setns(pod, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC));
  CHECK(unshare(CLONE_NEWNS | CLONE_NEWCGROUP));
  CHECK(chdir(scratch));
  int shm = (int)CHECK(syscall(SYS_open_tree, AT_FDCWD, "shm", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  attach(overlay, "rootfs");
  CHECK(chdir(path("%s/rootfs", scratch)));
  attach(new_filesystem("proc", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV, NULL), "proc");
  attach(new_filesystem("sysfs", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV, NULL),
         "sys");
  make_dev();
  attach(shm, "dev/shm");
  CHECK(syscall(SYS_pivot_root, ".", "."));
  CHECK(umount2(".", MNT_DETACH));
  CHECK(chdir("/"));
  quiet();
  CHECK(syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */));
  execl("/bin/busybox", "sleep", "1000000", NULL);
}

static void end_process(pid_t pid) {
  CHECK(kill(pid, SIGKILL));
  CHECK(waitpid(pid, NULL, 0));
}

int main(int argc, char **argv) {
  if (argc > 0 && strcmp(argv[0], "pause") == 0) return pause();
  if (argc < 8) {
    fprintf(stderr, "usage: floor CONTAINERS BRIDGE ADDRESS/PREFIX GATEWAY ROOTFS SCRATCH CGROUP2|- [CGROUP1...]\n");
    return 2;
  }
  int containers = atoi(argv[1]), pod = -1, status[MAX_CONTAINERS], pause_status;
  pid_t pids[MAX_CONTAINERS];
  if (containers < 1 || containers > MAX_CONTAINERS) return 2;
  bridge = argv[2], address = argv[3], gateway = argv[4], rootfs = argv[5], scratch = argv[6];
  cgroup2 = strcmp(argv[7], "-") == 0 ? NULL : argv[7];
  cgroups1 = argv + 8;
  char *slash = strchr(address, '/');
  if (!slash) return 2;
  *slash = '\0', prefix = atoi(slash + 1);
  const char *link = path("mptf%d", getpid());

  double start = now_us();
  make_cgroup("pod");
  make_cgroup("pod/sandbox");
  CHECK(pipe2(go, O_CLOEXEC));
  pid_t pause_pid = spawn(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP, "pod/sandbox",
                          &pod, run_pause, -1, &pause_status);
  for (int i = 0; i < containers; i++) {
    make_cgroup(path("pod/%d", i));
    CHECK(mkdir(path("%s/%d", scratch, i), 0755));
    CHECK(mkdir(path("%s/%d/upper", scratch, i), 0755));
    CHECK(mkdir(path("%s/%d/work", scratch, i), 0755));
  }
  make_veth(link, pause_pid);
  CHECK(write(go[1], "g", 1));
  wait_for_exec(pause_status, pause_pid);
  for (int i = 0; i < containers; i++)
    pids[i] = spawn(CLONE_NEWPID, path("pod/%d", i), &pod, run_container, i, &status[i]);
  for (int i = 0; i < containers; i++) wait_for_exec(status[i], pids[i]);
  double running = now_us();

  for (int i = 0; i < containers; i++) end_process(pids[i]);
  end_process(pause_pid);
  remove_link(link);
  for (int i = 0; i < containers; i++) remove_cgroups(path("pod/%d", i));
  remove_cgroups("pod/sandbox");
  remove_cgroups("pod");
  double gone = now_us();
  printf("{\"start_us\": %.0f, \"teardown_us\": %.0f}\n", running - start, gone - running);
  return 0;
}
