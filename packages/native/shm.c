/*
 * Shared memory for ray-ts: maps segment files into ArrayBuffers.
 *
 * A segment file is one header page and then the value:
 *
 *     | magic u32 | readers i32 | … to 4096 | data … |
 *
 * Invariants:
 *   H1. A reader's mapping is private and writable: its writes stay its own, the shared bytes stay as they were.
 *   H2. `readers` counts live reader mappings, over all processes. A segment is written anew only when it is zero.
 *   H3. Every mapping is unmapped once, by its finalizer. What failed half-way is undone before the error is thrown, and not again.
 *   H4. `mappings` counts what the kernel counts (a counted reader has two). Threads share it: it is atomic.
 *
 * Plain N-API (version 8): one binary serves every Node since 18.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <fcntl.h>
#include <node_api.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_BYTES 4096
#define MAGIC 0x53595252u /* "RRYS" */
#define PATH_BYTES_MAX 1024
/* Below it a second thread costs more than it saves. */
#define COPY_BY_TWO_MIN ((size_t)8 << 20)

typedef struct {
  uint32_t magic;
  int32_t readers;
} header_t;

typedef struct {
  void *data;
  size_t bytes;
  header_t *header; /* of a reader; NULL for a writer's mapping */
  bool is_live;     /* its buffer exists: the finalizer owns this */
} mapping_t;

static int64_t mappings = 0;

static void drop(mapping_t *mapping) {
  if (mapping->data != NULL) {
    munmap(mapping->data, mapping->bytes);
    mapping->data = NULL;
    __atomic_sub_fetch(&mappings, 1, __ATOMIC_RELAXED);
  }
  if (mapping->header != NULL) {
    __atomic_sub_fetch(&mapping->header->readers, 1, __ATOMIC_SEQ_CST);
    munmap(mapping->header, HEADER_BYTES);
    mapping->header = NULL;
    __atomic_sub_fetch(&mappings, 1, __ATOMIC_RELAXED);
  }
}

static void finalize(napi_env env, void *data, void *hint) {
  (void)env;
  (void)data;
  mapping_t *mapping = hint;
  drop(mapping);
  if (mapping->is_live) free(mapping);
}

static napi_value fail(napi_env env, const char *what) {
  char message[160];
  const char *reason = strerror(errno);
  size_t length = strlen(what);
  memcpy(message, what, length);
  message[length] = ':';
  message[length + 1] = ' ';
  strncpy(message + length + 2, reason, sizeof message - length - 3);
  message[sizeof message - 1] = 0;
  napi_throw_error(env, errno == ENOSPC ? "ENOSPC" : errno == ENOMEM ? "ENOMEM" : "EIO", message);
  return NULL;
}

static bool path_argument(napi_env env, napi_value value, char *path) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, path, PATH_BYTES_MAX, &length) == napi_ok && length < PATH_BYTES_MAX - 1) return true;
  napi_throw_type_error(env, NULL, "a path of at most 1022 bytes is expected");
  return false;
}

static napi_value to_buffer(napi_env env, mapping_t *mapping) {
  napi_value buffer;
  __atomic_add_fetch(&mappings, mapping->header == NULL ? 1 : 2, __ATOMIC_RELAXED);
  if (napi_create_external_arraybuffer(env, mapping->data, mapping->bytes, finalize, mapping, &buffer) == napi_ok) {
    mapping->is_live = true;
    return buffer;
  }
  /*
   * Too large for this Node, or forbidden by an embedder. The finalizer has run, runs later, or never does: that differs between
   * versions. So the pages go now, and these few bytes are never freed (H3).
   */
  drop(mapping);
  bool is_pending = false;
  napi_is_exception_pending(env, &is_pending);
  if (!is_pending) napi_throw_error(env, "EIO", "external ArrayBuffers are not allowed here");
  return NULL;
}

/*
 * openReader(path, offset, bytes, counted): ArrayBuffer | undefined when there is no such file, or it is shorter
 *
 * The header page lies at `offset`, the value behind it. `counted` is for segments that may be written anew, false for files on disk.
 */
static napi_value open_reader(napi_env env, napi_callback_info info) {
  size_t argc = 4;
  napi_value argv[4], nothing;
  char path[PATH_BYTES_MAX];
  int64_t offset = 0, bytes = 0;
  bool is_counted = false;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  napi_get_undefined(env, &nothing);
  if (!path_argument(env, argv[0], path)) return NULL;
  napi_get_value_int64(env, argv[1], &offset);
  napi_get_value_int64(env, argv[2], &bytes);
  napi_get_value_bool(env, argv[3], &is_counted);
  if (bytes <= 0 || offset < 0 || offset % HEADER_BYTES != 0) {
    napi_throw_range_error(env, NULL, "bytes must be positive, and offset a multiple of the page size");
    return NULL;
  }
  int fd = open(path, (is_counted ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? nothing : fail(env, "open");
  struct stat status;
  /* A file that is too short would turn reads into SIGBUS. */
  if (fstat(fd, &status) != 0 || status.st_size - HEADER_BYTES - offset < bytes) {
    close(fd);
    return nothing;
  }
  mapping_t *mapping = calloc(1, sizeof *mapping);
  header_t *header = NULL;
  if (mapping != NULL && is_counted) {
    header = mmap(NULL, HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
    if (header == MAP_FAILED) {
      free(mapping);
      mapping = NULL;
    } else {
      __atomic_add_fetch(&header->readers, 1, __ATOMIC_SEQ_CST);
    }
  }
  if (mapping == NULL) {
    int reason = errno;
    close(fd);
    errno = reason;
    return fail(env, "mmap of the header");
  }
  void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, offset + HEADER_BYTES);
  int reason = errno;
  close(fd);
  if (data == MAP_FAILED) {
    if (header != NULL) {
      __atomic_sub_fetch(&header->readers, 1, __ATOMIC_SEQ_CST);
      munmap(header, HEADER_BYTES);
    }
    free(mapping);
    errno = reason;
    return fail(env, "mmap of the data");
  }
  mapping->data = data;
  mapping->bytes = bytes;
  mapping->header = header;
  return to_buffer(env, mapping);
}

/* openWriter(path, bytes): ArrayBuffer over the first `bytes` of the file, shared with everyone */
static napi_value open_writer(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  char path[PATH_BYTES_MAX];
  int64_t bytes = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (!path_argument(env, argv[0], path)) return NULL;
  napi_get_value_int64(env, argv[1], &bytes);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return fail(env, "open");
  struct stat status;
  if (fstat(fd, &status) != 0 || status.st_size < bytes) {
    close(fd);
    errno = EINVAL;
    return fail(env, "the file is shorter than the mapping");
  }
  void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  close(fd);
  if (data == MAP_FAILED) return fail(env, "mmap");
  mapping_t *mapping = calloc(1, sizeof *mapping);
  if (mapping == NULL) {
    munmap(data, bytes);
    return fail(env, "calloc");
  }
  mapping->data = data;
  mapping->bytes = bytes;
  return to_buffer(env, mapping);
}

typedef struct {
  char *to;
  const char *from;
  size_t bytes;
} range_t;

static void *copy_range(void *argument) {
  const range_t *range = argument;
  memcpy(range->to, range->from, range->bytes);
  return NULL;
}

/* Both halves at once. One core does not saturate the memory: 26 GB/s alone, 35 with two. */
static void copy_by_two(range_t all) {
  size_t half = all.bytes / 2 / HEADER_BYTES * HEADER_BYTES;
  range_t first = {all.to, all.from, half};
  sigset_t every, before;
  pthread_t helper;
  sigfillset(&every);
  pthread_sigmask(SIG_SETMASK, &every, &before); /* Signals are for Node's threads. */
  bool has_helper = pthread_create(&helper, NULL, copy_range, &first) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (!has_helper) copy_range(&first);
  memcpy(all.to + half, all.from + half, all.bytes - half);
  if (has_helper) pthread_join(helper, NULL);
}

/* copy(target: Uint8Array, offset, source: Uint8Array): target.set(source, offset), by two threads when it is large */
static napi_value copy(napi_env env, napi_callback_info info) {
  size_t argc = 3, room = 0, bytes = 0;
  napi_value argv[3];
  void *target = NULL, *source = NULL;
  napi_typedarray_type target_type, source_type;
  int64_t offset = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  bool is_right =
      napi_get_typedarray_info(env, argv[0], &target_type, &room, &target, NULL, NULL) == napi_ok &&
      napi_get_value_int64(env, argv[1], &offset) == napi_ok &&
      napi_get_typedarray_info(env, argv[2], &source_type, &bytes, &source, NULL, NULL) == napi_ok &&
      target_type == napi_uint8_array && source_type == napi_uint8_array && offset >= 0 &&
      (size_t)offset <= room && bytes <= room - (size_t)offset;
  if (!is_right) {
    napi_throw_range_error(env, NULL, "copy takes a Uint8Array, an offset, and a Uint8Array that fits there");
    return NULL;
  }
  range_t range = {(char *)target + offset, source, bytes};
  if (bytes < COPY_BY_TWO_MIN) copy_range(&range);
  else copy_by_two(range);
  return NULL;
}

/* mappings(): how many this process holds by us (the kernel allows 65,530 in all) */
static napi_value count_mappings(napi_env env, napi_callback_info info) {
  (void)info;
  napi_value result;
  napi_create_int64(env, __atomic_load_n(&mappings, __ATOMIC_RELAXED), &result);
  return result;
}

/* endWithParent(pid): the kernel kills this process when its parent `pid` has ended, whatever it computes */
static napi_value end_with_parent(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argv[1];
  int32_t parent = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  napi_get_value_int32(env, argv[0], &parent);
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return fail(env, "prctl");
  if (getppid() != parent) raise(SIGKILL); /* It ended before we asked. */
  return NULL;
}

NAPI_MODULE_INIT() {
  napi_property_descriptor properties[] = {
      {"openReader", NULL, open_reader, NULL, NULL, NULL, napi_enumerable, NULL},
      {"openWriter", NULL, open_writer, NULL, NULL, NULL, napi_enumerable, NULL},
      {"copy", NULL, copy, NULL, NULL, NULL, napi_enumerable, NULL},
      {"endWithParent", NULL, end_with_parent, NULL, NULL, NULL, napi_enumerable, NULL},
      {"mappings", NULL, count_mappings, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  napi_define_properties(env, exports, sizeof properties / sizeof properties[0], properties);
  return exports;
}
