/* Loaded before the C library: makes one write below a folder fail, as a disk would.
 *
 * CALIB8_FAULT_FOLDER  calls that touch no file below it are left alone
 * CALIB8_FAULT_AT      which of the calls fails, counted from 1; 0 for none
 * CALIB8_FAULT_ERRNO   with which error
 * CALIB8_FAULT_STAYS   1: all later calls fail as well, as on a disk that stays full
 * CALIB8_FAULT_LOCKS   the error of every lock; 0 for none
 * CALIB8_FAULT_COUNT   a file for the number of calls
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long calls;

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static int below(const char *path) {
    const char *folder = setting("CALIB8_FAULT_FOLDER");
    return *folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int of_descriptor(int descriptor) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

/* Whether this call is the one that fails. */
static int fails(const char *what) {
    pthread_mutex_lock(&lock);
    long call = ++calls, at = atol(setting("CALIB8_FAULT_AT"));
    const char *count = setting("CALIB8_FAULT_COUNT");
    if (*count) {
        FILE *file = fopen(count, "a");
        if (file) {
            fprintf(file, "%s\n", what);
            fclose(file);
        }
    }
    pthread_mutex_unlock(&lock);
    int hit = at && (call == at || (call > at && *setting("CALIB8_FAULT_STAYS") == '1'));
    if (hit) errno = atoi(setting("CALIB8_FAULT_ERRNO"));
    return hit;
}

#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

ssize_t write(int descriptor, const void *bytes, size_t count) {
    if (of_descriptor(descriptor) && fails("write")) return -1;
    return REAL(write)(descriptor, bytes, count);
}

int fsync(int descriptor) {
    if (of_descriptor(descriptor) && fails("fsync")) return -1;
    return REAL(fsync)(descriptor);
}

int fdatasync(int descriptor) {
    if (of_descriptor(descriptor) && fails("fdatasync")) return -1;
    return REAL(fdatasync)(descriptor);
}

int ftruncate64(int descriptor, off64_t length) {
    if (of_descriptor(descriptor) && fails("ftruncate")) return -1;
    return REAL(ftruncate64)(descriptor, length);
}

int ftruncate(int descriptor, off_t length) {
    if (of_descriptor(descriptor) && fails("ftruncate")) return -1;
    return REAL(ftruncate)(descriptor, length);
}

int rename(const char *from, const char *to) {
    if (below(to) && fails("rename")) return -1;
    return REAL(rename)(from, to);
}

int unlink(const char *path) {
    if (below(path) && fails("unlink")) return -1;
    return REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode) {
    if (below(path) && fails("mkdir")) return -1;
    return REAL(mkdir)(path, mode);
}

int flock(int descriptor, int operation) {
    int error = atoi(setting("CALIB8_FAULT_LOCKS"));
    if (error) {
        errno = error;
        return -1;
    }
    return REAL(flock)(descriptor, operation);
}

static int changes(int flags) {
    return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    if (changes(flags) && below(path) && fails("open")) return -1;
    return REAL(open64)(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    if (changes(flags) && below(path) && fails("open")) return -1;
    return REAL(open)(path, flags, mode);
}
