// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * plan.c: a fuzz target for plan_validate(): whatever the bytes of a plan, validation reads nothing outside them; and
 * when it accepts them, neither does what the interpreter reads afterwards.
 *
 * With libFuzzer:  clang -g -D_GNU_SOURCE -DLIBFUZZER -fsanitize=fuzzer,address,undefined -Inative tests/fuzz/plan.c
 *                  native/plan.c && ./a.out DIRECTORY-WITH-PLANS
 * Without: the driver below mutates the plans that it is given, the same way each time, a number of times
 * (`plan ROUNDS SEED FILE…`), and prints how many were accepted. tests/root/test_native_fuzz.py runs it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/types.h>

#include "plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned char sink;

static void touch(const char *bytes, uint64_t size) {
  for (uint64_t i = 0; i < size; i++) sink = (unsigned char)bytes[i];
}

static void touch_list(const struct plan *plan, uint32_t offset, uint64_t count) {
  const char *item = plan_str(plan, offset);
  for (uint64_t i = 0; i < count; i++) {
    size_t length = strlen(item) + 1;
    touch(item, length);
    item += length;
  }
}

/* Read what the steps of native/step_*.c read. */
static void touch_step(const struct plan *plan, const struct mp_step *s) {
  const uint64_t *n = s->num;
  for (int i = 0; i < 4; i++) touch(plan_str(plan, s->str[i]), strlen(plan_str(plan, s->str[i])) + 1);
  if (s->op == MP_OP_FS) touch_list(plan, s->str[1], n[1]);
  if (s->op == MP_OP_OVERLAY || s->op == MP_OP_MASK || s->op == MP_OP_READONLY) touch_list(plan, s->str[0], n[1]);
  if (s->op == MP_OP_WRITE_FILE) touch(plan_str(plan, s->str[1]), n[1]);
  if (s->op == MP_OP_SECCOMP) touch(plan_str(plan, s->str[0]), n[1]);
  if (s->op == MP_OP_IDENTITY) touch(plan_str(plan, s->str[0]), n[2] * sizeof(gid_t));
  if (s->op == MP_OP_STDIO)
    for (int i = 0; i < 3; i++)
      if (n[i] >= MP_SLOTS) abort();
  if (s->op == MP_OP_EXEC) touch_list(plan, s->str[0], n[0]);
  if (s->op == MP_OP_EXEC || s->op == MP_OP_EXEC_FD) {
    if (n[1] == 0) abort();
    touch_list(plan, s->str[1], n[1]);
    touch_list(plan, s->str[2], n[2]);
  }
  if (s->op == MP_OP_IDENTITY || s->op == MP_OP_OWN_FILES || s->op == MP_OP_STDIO_OWNER)
    if ((uint32_t)n[0] != n[0] || (s->op != MP_OP_STDIO_OWNER && (uint32_t)n[1] != n[1])) abort();
  if (s->op == MP_OP_USERNS && (n[0] == 0 || n[1] == 0 || n[0] + n[1] > UINT32_MAX)) abort();
  if (s->op == MP_OP_SETNS && (int)n[0] == 0) abort();
  if (s->op == MP_OP_MKNOD && (n[1] > 0xfff || n[2] > 0xfffff)) abort();
  const int slots[] = {s->in, s->out, s->root};
  for (int i = 0; i < 3; i++)
    if (slots[i] < -1 || slots[i] >= MP_SLOTS) abort();
}

static unsigned long accepted;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct plan plan;
  /* A copy of exactly this size: one byte further is AddressSanitizer's. */
  char *copy = malloc(size ? size : 1);
  if (!copy) abort();
  memcpy(copy, data, size);
  if (plan_validate(&plan, copy, size) == 0) {
    accepted++;
    touch(plan_str(&plan, plan.head->log_path), strlen(plan_str(&plan, plan.head->log_path)) + 1);
    for (uint32_t i = 0; i < plan.head->steps; i++) touch_step(&plan, &plan.steps[i]);
  }
  free(copy);
  return 0;
}

#ifndef LIBFUZZER

/* xorshift64: small, and the same everywhere. */
static uint64_t state;
static uint64_t next_random(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}
static size_t below(size_t limit) { return limit ? next_random() % limit : 0; }

/* Numbers at which counts, offsets and sums go over the edge. */
static const uint64_t edges[] = {0,          1,          2,          7,          8,          159,        160,
                                 255,        256,        257,        4095,       4096,       4097,       32767,
                                 32768,      65535,      65536,      65537,      0x7fffffff, 0x80000000, 0xfffffff8,
                                 0xffffffff, 1ULL << 32, 1ULL << 61, 1ULL << 62, 1ULL << 63, ~7ULL,      ~0ULL};

/* Change one field of the head or of a step to an edge, or to an edge before or after what it is. */
static void change_field(uint8_t *data, size_t size) {
  static const size_t widths[] = {2, 4, 8};
  size_t width = widths[below(3)];
  if (size < width) return;
  size_t at = below(size - width + 1) / width * width;
  uint64_t value = edges[below(sizeof edges / sizeof *edges)], old = 0;
  memcpy(&old, data + at, width);
  if (below(2)) value = below(2) ? old + value : old - value;
  memcpy(data + at, &value, width);
}

static size_t mutate(uint8_t *data, size_t size, size_t room) {
  for (size_t times = 1 + below(4); times > 0; times--) {
    size_t structs = sizeof(struct mp_launch) + sizeof(struct mp_step) * 8;
    switch (below(8)) {
      case 0:
        if (size) data[below(size)] ^= (uint8_t)(1U << below(8));
        break;
      case 1:
        if (size) data[below(size)] = (uint8_t)next_random();
        break;
      case 2: /* shorter */
        size = below(size + 1);
        break;
      case 3: /* longer */
        for (size_t more = below(room - size < 256 ? room - size : 256); more > 0; more--)
          data[size++] = (uint8_t)below(3);
        break;
      case 4: /* strings run into each other */
        if (size) data[size - 1 - below(size < 64 ? size : 64)] = 'x';
        break;
      default:
        change_field(data, below(4) && size > structs ? structs : size);
    }
  }
  return size;
}

/* Make the sizes in the head agree again with the size of the whole, so that what is behind that check is met. */
static void mend(uint8_t *data, size_t size) {
  struct mp_launch head;
  if (size < sizeof head) return;
  memcpy(&head, data, sizeof head);
  size_t rest = size - sizeof head;
  head.magic = MP_MAGIC;
  head.version = MP_VERSION;
  if (head.steps * sizeof(struct mp_step) < rest) head.strings = (uint32_t)(rest - head.steps * sizeof(struct mp_step));
  memcpy(data, &head, sizeof head);
  if (below(4) && head.strings && head.steps * sizeof(struct mp_step) < rest) {
    data[size - 1] = 0;
    data[size - head.strings] = 0;
  }
}

int main(int argc, char **argv) {
  enum { ROOM = 1 << 16 };
  static uint8_t original[ROOM], data[ROOM];
  if (argc < 4) return 2;
  unsigned long rounds = strtoul(argv[1], NULL, 10);
  for (int i = 3; i < argc; i++) {
    FILE *file = fopen(argv[i], "rb");
    if (!file) return 2;
    size_t size = fread(original, 1, ROOM / 2, file);
    fclose(file);
    state = strtoull(argv[2], NULL, 10) * 2654435761U + (uint64_t)i;
    LLVMFuzzerTestOneInput(original, size);
    for (unsigned long round = 0; round < rounds; round++) {
      memcpy(data, original, size);
      size_t length = mutate(data, size, ROOM);
      if (below(4)) mend(data, length);
      LLVMFuzzerTestOneInput(data, length);
    }
  }
  printf("%lu\n", accepted);
  return 0;
}

#endif
