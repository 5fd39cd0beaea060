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
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define HEADER_BYTES 4096
#define MAGIC 0x53595252u /* "RRYS" */
#define PATH_BYTES_MAX 1024
/* Below it a second thread costs more than it saves, and a reader may still find the copy in the cache. */
#define LARGE_MIN ((size_t)8 << 20)

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

/*
 * Stores past the cache. What is written here is not read soon by this core, and an ordinary store reads the line that it overwrites
 * first: two processes move 1.5 to 2.5 times as much this way (docs/benchmarks.md). SSE2 belongs to every x64: nothing to detect, and
 * wider registers were not faster. Elsewhere the C library knows best.
 */
#if defined(__SSE2__)
#define LINE_BYTES 64
#define AHEAD_BYTES 1024
static void copy_past_cache(range_t range) {
  size_t head = -(uintptr_t)range.to % LINE_BYTES;
  if (head > range.bytes) head = range.bytes;
  memcpy(range.to, range.from, head);
  char *to = range.to + head;
  const char *from = range.from + head;
  size_t left = range.bytes - head;
  for (; left >= LINE_BYTES; to += LINE_BYTES, from += LINE_BYTES, left -= LINE_BYTES) {
    const __m128i *source = (const __m128i *)from;
    __m128i *target = (__m128i *)to;
    _mm_prefetch(from + AHEAD_BYTES, _MM_HINT_NTA);
    __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
    __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, a);
    _mm_stream_si128(target + 1, b);
    _mm_stream_si128(target + 2, c);
    _mm_stream_si128(target + 3, d);
  }
  memcpy(to, from, left);
  _mm_sfence(); /* Such stores are not ordered: all are done before anybody hears of the value. */
}
#else
static void copy_past_cache(range_t range) { memcpy(range.to, range.from, range.bytes); }
#endif

static void *copy_half(void *argument) {
  copy_past_cache(*(const range_t *)argument);
  return NULL;
}

/* Both halves at once. */
static void copy_by_two(range_t all) {
  size_t half = all.bytes / 2 / HEADER_BYTES * HEADER_BYTES;
  range_t first = {all.to, all.from, half}, second = {all.to + half, all.from + half, all.bytes - half};
  sigset_t every, before;
  pthread_t helper;
  sigfillset(&every);
  pthread_sigmask(SIG_SETMASK, &every, &before); /* Signals are for Node's threads. */
  bool has_helper = pthread_create(&helper, NULL, copy_half, &first) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (!has_helper) copy_past_cache(first);
  copy_past_cache(second);
  if (has_helper) pthread_join(helper, NULL);
}

/*
 * Large pages for the pages that lie wholly in `source`, where the kernel leaves that to its callers (`madvise`, the usual setting).
 * Reading memory that nobody has written faults once a page: 20,000 times for 80 MB, a quarter of the time of such a copy. What is
 * there already stays as it is. NumPy asks for the same when it makes an array. A refusal changes nothing.
 */
static void advise_large_pages(const char *source, size_t bytes) {
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  uintptr_t begin = ((uintptr_t)source + page - 1) / page * page, end = ((uintptr_t)source + bytes) / page * page;
  if (end > begin) madvise((void *)begin, end - begin, MADV_HUGEPAGE);
}

/* adviseLargePages(source: Uint8Array): it is about to be read whole, by a system call */
static napi_value advise(napi_env env, napi_callback_info info) {
  size_t argc = 1, bytes = 0;
  napi_value argv[1];
  void *source = NULL;
  napi_typedarray_type type;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  bool is_right = napi_get_typedarray_info(env, argv[0], &type, &bytes, &source, NULL, NULL) == napi_ok;
  if (is_right && type == napi_uint8_array) advise_large_pages(source, bytes);
  return NULL;
}

/* copy(target: Uint8Array, offset, source: Uint8Array, byTwo): target.set(source, offset); a large one by two threads if `byTwo` */
static napi_value copy(napi_env env, napi_callback_info info) {
  size_t argc = 4, room = 0, bytes = 0;
  napi_value argv[4];
  void *target = NULL, *source = NULL;
  napi_typedarray_type target_type, source_type;
  int64_t offset = 0;
  bool by_two = false;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  bool is_right =
      napi_get_typedarray_info(env, argv[0], &target_type, &room, &target, NULL, NULL) == napi_ok &&
      napi_get_value_int64(env, argv[1], &offset) == napi_ok &&
      napi_get_typedarray_info(env, argv[2], &source_type, &bytes, &source, NULL, NULL) == napi_ok &&
      napi_get_value_bool(env, argv[3], &by_two) == napi_ok &&
      target_type == napi_uint8_array && source_type == napi_uint8_array && offset >= 0 &&
      (size_t)offset <= room && bytes <= room - (size_t)offset;
  if (!is_right) {
    napi_throw_range_error(env, NULL, "copy takes a Uint8Array, an offset, a Uint8Array that fits there, and a boolean");
    return NULL;
  }
  range_t range = {(char *)target + offset, source, bytes};
  if (bytes < LARGE_MIN) {
    if (bytes > 0) memmove(range.to, range.from, bytes);
    return NULL;
  }
  advise_large_pages(range.from, bytes);
  if (by_two) copy_by_two(range);
  else copy_past_cache(range);
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
      {"adviseLargePages", NULL, advise, NULL, NULL, NULL, napi_enumerable, NULL},
      {"copy", NULL, copy, NULL, NULL, NULL, napi_enumerable, NULL},
      {"endWithParent", NULL, end_with_parent, NULL, NULL, NULL, napi_enumerable, NULL},
      {"mappings", NULL, count_mappings, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  napi_define_properties(env, exports, sizeof properties / sizeof properties[0], properties);
  return exports;
}
