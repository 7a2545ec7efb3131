/* A disk that fails on command: cc -shared -fPIC -O1 -o fault_shim.so fault_shim.c -ldl, then LD_PRELOAD it.

   Each call that changes a file below a given folder is a step, counted from 1: create, write, fsync, truncate, rename,
   unlink, mkdir, rmdir. At step number `at` one of these happens:

       k  the process is killed before the step          t  half of what is to be written is, then the process is killed
       e  the step fails with EIO                        E  this step and all after it fail with EIO
       n  the step fails with ENOSPC                     N  this step and all writes after it fail with ENOSPC
       s  half of it is written, and the call says so

   It is armed by fault_arm(), or before the process starts by CLIPSEARCH_FAULT="AT:ACTION:LOG:FOLDER". LOG is the
   number of an open file that gets a line for each step, "name path"; -1 for none. Linux only: paths of open files
   come from /proc. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))real(#name))
#define EXPORT __attribute__((visibility("default")))

static char folder[PATH_MAX];
static size_t folder_length;
static long fault_at;
static char fault_action;
static int log_file = -1;
static atomic_long steps;
static atomic_int is_fired;

enum verdict { PASS, FAIL, HALF };

static void *real(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

EXPORT void fault_arm(const char *below, long at, char action, int log) {
    folder_length = 0;
    atomic_store(&steps, 0);
    atomic_store(&is_fired, 0);
    fault_at = at;
    fault_action = action;
    log_file = log;
    if (below && strlen(below) < sizeof folder) {
        strcpy(folder, below);
        folder_length = strlen(below);
    }
}

EXPORT long fault_steps(void) {
    return atomic_load(&steps);
}

EXPORT int fault_fired(void) {
    return atomic_load(&is_fired);
}

__attribute__((constructor)) static void arm_from_environment(void) {
    const char *given = getenv("CLIPSEARCH_FAULT");
    long at;
    char action;
    int log, read = 0;
    if (given && sscanf(given, "%ld:%c:%d:%n", &at, &action, &log, &read) == 3 && read)
        fault_arm(given + read, at, action, log);
}

static int is_below(const char *path) {
    return folder_length && !strncmp(path, folder, folder_length) && (!path[folder_length] || path[folder_length] == '/');
}

static int path_of(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return length > 0;
}

static void full_path(int at, const char *path, char *full) {
    char base[PATH_MAX] = "";
    if (path[0] == '/') {
        snprintf(full, PATH_MAX, "%s", path);
        return;
    }
    if (at == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) base[0] = 0;
    } else {
        path_of(at, base);
    }
    if ((size_t)snprintf(full, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) full[0] = 0;
}

/* Count a step and say what is to happen to it. is_write: whether a full disk refuses it. */
static enum verdict step(const char *name, const char *path, int is_write) {
    if (!is_below(path)) return PASS;
    long number = atomic_fetch_add(&steps, 1) + 1;
    if (log_file >= 0) {
        char line[PATH_MAX + 32];
        int length = snprintf(line, sizeof line, "%s %s\n", name, path + folder_length);
        if (REAL(write)(log_file, line, length) < 0) abort();
    }
    if (!fault_at || number < fault_at) return PASS;
    int is_lasting = fault_action == 'E' || fault_action == 'N';
    if (number > fault_at && !is_lasting) return PASS;
    if (fault_action == 'k' || (fault_action == 't' && !is_write)) kill(getpid(), SIGKILL);
    if ((fault_action == 'N' || fault_action == 'n' || fault_action == 's') && !is_write) return PASS;
    atomic_store(&is_fired, 1);
    if (fault_action == 's' || fault_action == 't') return HALF;
    errno = fault_action == 'n' || fault_action == 'N' ? ENOSPC : EIO;
    return FAIL;
}

static enum verdict step_of(const char *name, int descriptor, int is_write) {
    char path[PATH_MAX];
    if (!folder_length || !path_of(descriptor, path)) return PASS;
    return step(name, path, is_write);
}

static enum verdict step_at(const char *name, int at, const char *path, int is_write) {
    char full[PATH_MAX];
    if (!folder_length || !path) return PASS;
    full_path(at, path, full);
    return step(name, full, is_write);
}

static ssize_t halved(ssize_t written) {
    if (fault_action == 't') kill(getpid(), SIGKILL);
    return written;
}

#define WRITES(name, parameters, arguments, half)                           \
    EXPORT ssize_t name parameters {                                        \
        enum verdict verdict = step_of("write", descriptor, 1);             \
        if (verdict == FAIL) return -1;                                     \
        if (verdict == HALF) return halved(REAL(name) half);                \
        return REAL(name) arguments;                                        \
    }

WRITES(write, (int descriptor, const void *data, size_t size), (descriptor, data, size), (descriptor, data, size / 2))
WRITES(pwrite, (int descriptor, const void *data, size_t size, off_t place), (descriptor, data, size, place),
       (descriptor, data, size / 2, place))
WRITES(pwrite64, (int descriptor, const void *data, size_t size, off64_t place), (descriptor, data, size, place),
       (descriptor, data, size / 2, place))
WRITES(writev, (int descriptor, const struct iovec *data, int count), (descriptor, data, count),
       (descriptor, data, (count + 1) / 2))

EXPORT size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
    enum verdict verdict = folder_length ? step_of("write", fileno(file), 1) : PASS;
    if (verdict == FAIL) return 0;
    if (verdict == HALF) {
        size_t written = REAL(fwrite)(data, size, count / 2, file);
        fflush(file);
        return (size_t)halved((ssize_t)written);
    }
    return REAL(fwrite)(data, size, count, file);
}

#define ON_DESCRIPTOR(name, label, is_write, parameters, arguments)                        \
    EXPORT int name parameters {                                                           \
        return step_of(label, descriptor, is_write) == FAIL ? -1 : REAL(name) arguments;   \
    }

ON_DESCRIPTOR(fsync, "fsync", 0, (int descriptor), (descriptor))
ON_DESCRIPTOR(fdatasync, "fsync", 0, (int descriptor), (descriptor))
ON_DESCRIPTOR(ftruncate, "truncate", 0, (int descriptor, off_t size), (descriptor, size))
ON_DESCRIPTOR(ftruncate64, "truncate", 0, (int descriptor, off64_t size), (descriptor, size))

#define ON_PATH(name, label, is_write, at, path, parameters, arguments)                    \
    EXPORT int name parameters {                                                           \
        return step_at(label, at, path, is_write) == FAIL ? -1 : REAL(name) arguments;     \
    }

ON_PATH(truncate, "truncate", 0, AT_FDCWD, path, (const char *path, off_t size), (path, size))
ON_PATH(truncate64, "truncate", 0, AT_FDCWD, path, (const char *path, off64_t size), (path, size))
ON_PATH(unlink, "unlink", 0, AT_FDCWD, path, (const char *path), (path))
ON_PATH(unlinkat, "unlink", 0, at, path, (int at, const char *path, int flags), (at, path, flags))
ON_PATH(rmdir, "rmdir", 0, AT_FDCWD, path, (const char *path), (path))
ON_PATH(mkdir, "mkdir", 1, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
ON_PATH(mkdirat, "mkdir", 1, at, path, (int at, const char *path, mode_t mode), (at, path, mode))
ON_PATH(rename, "rename", 0, AT_FDCWD, to, (const char *from, const char *to), (from, to))
ON_PATH(renameat, "rename", 0, at, to, (int from_at, const char *from, int at, const char *to), (from_at, from, at, to))
ON_PATH(renameat2, "rename", 0, at, to, (int from_at, const char *from, int at, const char *to, unsigned flags),
        (from_at, from, at, to, flags))
ON_PATH(linkat, "link", 1, at, to, (int from_at, const char *from, int at, const char *to, int flags),
        (from_at, from, at, to, flags))
ON_PATH(link, "link", 1, AT_FDCWD, to, (const char *from, const char *to), (from, to))

/* Only a file that is new is a step: opening one that is there changes nothing but its length, when it is cut. */
static int is_change(int at, const char *path, int flags) {
    struct stat found;
    return folder_length && path && ((flags & O_TRUNC) || ((flags & O_CREAT) && fstatat(at, path, &found, 0)));
}

#define OPENS(name, parameters, at, arguments)                                             \
    EXPORT int name parameters {                                                           \
        mode_t mode = 0;                                                                   \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                             \
            va_list rest;                                                                  \
            va_start(rest, flags);                                                         \
            mode = va_arg(rest, mode_t);                                                   \
            va_end(rest);                                                                  \
        }                                                                                  \
        if (is_change(at, path, flags) && step_at("create", at, path, 1) == FAIL) return -1; \
        return REAL(name) arguments;                                                       \
    }

OPENS(open, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPENS(open64, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPENS(openat, (int at, const char *path, int flags, ...), at, (at, path, flags, mode))
OPENS(openat64, (int at, const char *path, int flags, ...), at, (at, path, flags, mode))
