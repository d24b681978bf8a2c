/* Storage that fails: the calls of the C library on files below a folder return an error, one or all from the n-th on.
 * A negative error is a signal that the process gets instead.
 *
 * Loaded with LD_PRELOAD, so it reaches HDF5, LMDB, safetensors and Python alike. `fail_calls` arms it, `calls_seen` and
 * `calls_failed` count. The counters are shared by processes that are forked later.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READING = 1, WRITING = 2, NAMES = 4 };

static struct {
    long seen, failed;
} *count;

static char folder[4096];
static long first, times;
static int code, kinds;

void fail_calls(const char *below, int which, long from, long how_many, int error)
{
    if (!count)
        count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    count->seen = count->failed = 0;
    kinds = which, first = from, times = how_many, code = error;
    strncpy(folder, below, sizeof folder - 1);
}

long calls_seen(void) { return count->seen; }

long calls_failed(void) { return count->failed; }

static int fails(int kind, const char *path)
{
    if (!folder[0] || !(kinds & kind) || !path || strncmp(path, folder, strlen(folder)))
        return 0;
    long number = __sync_add_and_fetch(&count->seen, 1);
    if (number < first || number - first >= times)
        return 0;
    __sync_add_and_fetch(&count->failed, 1);
    if (code < 0) {
        kill(getpid(), -code);
        return 0;
    }
    errno = code;
    return 1;
}

static int fails_fd(int kind, int fd)
{
    char link[64], path[4096];
    int before = errno;
    if (!folder[0] || !(kinds & kind))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0)
        return 0;
    path[length] = 0;
    return fails(kind, path);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) \
        real = dlsym(RTLD_NEXT, name)

#define ON_FD(kind, type, name, parameters, ...) \
    type name parameters \
    { \
        static type (*real) parameters; \
        if (!real) \
            real = dlsym(RTLD_NEXT, #name); \
        return fails_fd(kind, fd) ? -1 : real(__VA_ARGS__); \
    }

ON_FD(READING, ssize_t, read, (int fd, void *data, size_t size), fd, data, size)
ON_FD(READING, ssize_t, pread, (int fd, void *data, size_t size, off_t at), fd, data, size, at)
ON_FD(READING, ssize_t, pread64, (int fd, void *data, size_t size, off64_t at), fd, data, size, at)
ON_FD(READING, ssize_t, preadv, (int fd, const struct iovec *v, int n, off_t at), fd, v, n, at)
ON_FD(READING, ssize_t, preadv64, (int fd, const struct iovec *v, int n, off64_t at), fd, v, n, at)
ON_FD(WRITING, ssize_t, write, (int fd, const void *data, size_t size), fd, data, size)
ON_FD(WRITING, ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), fd, data, size, at)
ON_FD(WRITING, ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), fd, data, size, at)
ON_FD(WRITING, ssize_t, writev, (int fd, const struct iovec *v, int n), fd, v, n)
ON_FD(WRITING, ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t at), fd, v, n, at)
ON_FD(WRITING, ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off64_t at), fd, v, n, at)
ON_FD(WRITING, int, fsync, (int fd), fd)
ON_FD(WRITING, int, fdatasync, (int fd), fd)
ON_FD(WRITING, int, ftruncate, (int fd, off_t size), fd, size)
ON_FD(WRITING, int, ftruncate64, (int fd, off64_t size), fd, size)

/* These return the error. */
int posix_fallocate(int fd, off_t at, off_t size)
{
    REAL(int, "posix_fallocate", int, off_t, off_t);
    return fails_fd(WRITING, fd) ? code : real(fd, at, size);
}

int posix_fallocate64(int fd, off64_t at, off64_t size)
{
    REAL(int, "posix_fallocate64", int, off64_t, off64_t);
    return fails_fd(WRITING, fd) ? code : real(fd, at, size);
}

ssize_t copy_file_range(int from, off64_t *read_at, int to, off64_t *write_at, size_t size, unsigned flags)
{
    REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    return fails_fd(READING, from) || fails_fd(WRITING, to) ? -1 : real(from, read_at, to, write_at, size, flags);
}

/* A network file system reports with it what could not be written before; the descriptor is closed all the same. */
int close(int fd)
{
    REAL(int, "close", int);
    int mode = folder[0] ? fcntl(fd, F_GETFL) : -1;
    int failing = mode >= 0 && (mode & O_ACCMODE) != O_RDONLY && fails_fd(WRITING, fd);
    int result = real(fd);
    if (failing)
        errno = code;
    return failing ? -1 : result;
}

#define OPENING(name) \
    int name(const char *path, int flags, ...) \
    { \
        static int (*real)(const char *, int, ...); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        if (!real) \
            real = dlsym(RTLD_NEXT, #name); \
        return fails(NAMES, path) ? -1 : real(path, flags, mode); \
    }

OPENING(open)
OPENING(open64)

#define ON_PATH(type, failure, name, parameters, ...) \
    type name parameters \
    { \
        static type (*real) parameters; \
        if (!real) \
            real = dlsym(RTLD_NEXT, #name); \
        return fails(NAMES, path) ? failure : real(__VA_ARGS__); \
    }

ON_PATH(int, -1, rename, (const char *path, const char *to), path, to)
ON_PATH(int, -1, unlink, (const char *path), path)
ON_PATH(int, -1, mkdir, (const char *path, mode_t mode), path, mode)
ON_PATH(int, -1, rmdir, (const char *path), path)
ON_PATH(int, -1, truncate, (const char *path, off_t size), path, size)
ON_PATH(int, -1, truncate64, (const char *path, off64_t size), path, size)
ON_PATH(int, -1, stat, (const char *path, struct stat *found), path, found)
ON_PATH(int, -1, stat64, (const char *path, struct stat64 *found), path, found)
ON_PATH(DIR *, NULL, opendir, (const char *path), path)
