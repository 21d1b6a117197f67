/* Between bellpull and the files beneath one directory, its state directory: preloaded, it counts calls, makes one of them fail or kills the
 * process at it, and logs what changed the disk. Built by run.sh: cc -shared -fPIC -O2 -o shim.so shim.c -ldl -pthread
 *
 *   FAULTS_DIR       the directory, absolute and without links; without it nothing is done
 *   FAULTS_CONTROL   a file of sizeof(struct control), mapped shared with the harness (shim.py), which arms a rule and reads what came of it
 *   FAULTS_LOG       a file outside of the directory, to which each call that changes the disk is appended in order (disk.py reads it)
 *
 * Paths of descriptors are asked of /proc, so that no table of them can be wrong after a dup or a rename. Calls that change the disk are made
 * one at a time: the order of the log is the order of the calls. What a program does by raw system calls is not seen; power.py compares what
 * the log says with what is there, and would tell.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PATH 4096

/* Kinds of calls. CREATE is an open that makes the file. shim.py and disk.py have the same numbers. */
enum kind { READ, WRITE, SYNC, TRUNCATE, OPEN, CREATE, RENAME, UNLINK, MKDIR, KINDS };
enum action { NOTHING, FAIL, SHORT, KILL_BEFORE, KILL_AFTER, KILL_HALF };
enum entry { E_CREATE, E_TRUNCATE, E_WRITE, E_RENAME, E_UNLINK, E_MKDIR, E_SYNC, E_RANGE };

struct control {
    /* Written by the harness, `armed` last. */
    uint32_t armed;
    uint32_t kinds; /* A bit for each kind that counts. */
    uint64_t nth;   /* The rule holds for this one of them, from 1 */
    uint32_t lasting; /* and for all that follow. */
    uint32_t action;
    int32_t error;
    uint32_t slow_ms; /* Each sync takes so much longer, whatever is armed. */
    char thread[16]; /* Empty: on any thread. */
    char part[64];   /* Empty: any file; else what its path has in it. */
    /* Written here. */
    uint64_t counted;
    uint64_t fired;
    uint64_t calls[KINDS];
    char where[128]; /* The path at which it fired last. */
};

/* A record of the log; path, other path and data follow. */
struct __attribute__((packed)) record {
    uint32_t size;
    uint32_t entry;
    int32_t error;
    uint64_t began, ended; /* CLOCK_MONOTONIC, ns */
    uint64_t offset, length;
    uint16_t path, other;
    uint32_t data;
};

static char directory[PATH];
static size_t directory_length;
static struct control *control;
static int log_file = -1;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static __thread int owed; /* After a short write the next one on this thread fails with this. */

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    void *symbol = dlsym(RTLD_NEXT, name);
    if (!symbol) {
        fprintf(stderr, "shim: there is no %s\n", name);
        abort();
    }
    return symbol;
}

static int (*open_)(const char *, int, ...);
static int (*openat_)(int, const char *, int, ...);
static ssize_t (*read_)(int, void *, size_t);
static ssize_t (*pread_)(int, void *, size_t, off64_t);
static ssize_t (*write_)(int, const void *, size_t);
static ssize_t (*pwrite_)(int, const void *, size_t, off64_t);

static void start(void) {
    open_ = REAL(open64);
    openat_ = REAL(openat64);
    read_ = REAL(read);
    pread_ = REAL(pread64);
    write_ = REAL(write);
    pwrite_ = REAL(pwrite64);
    const char *of = getenv("FAULTS_DIR"), *at = getenv("FAULTS_CONTROL"), *log = getenv("FAULTS_LOG");
    if (!of)
        return;
    snprintf(directory, sizeof directory, "%s", of);
    directory_length = strlen(directory);
    if (at) {
        int file = open_(at, O_RDWR | O_CLOEXEC);
        void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (map == MAP_FAILED) {
            perror("shim: FAULTS_CONTROL");
            abort();
        }
        close(file);
        control = map;
    }
    if (log && (log_file = open_(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600)) < 0) {
        perror("shim: FAULTS_LOG");
        abort();
    }
}

__attribute__((constructor)) static void ready(void) { pthread_once(&once, start); }

static uint64_t now(void) {
    struct timespec t;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t); /* Not the one that clock.c offsets. */
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#define ON_DESCRIPTOR(fd, otherwise)                                                                                                      \
    char buffer[PATH];                                                                                                                    \
    const char *path = of_descriptor(fd, buffer);                                                                                         \
    if (!path)                                                                                                                            \
        return otherwise
#define ON_PATH(at, name, otherwise)                                                                                                      \
    char buffer[PATH];                                                                                                                    \
    const char *path = of_path(at, name, buffer);                                                                                         \
    if (!path)                                                                                                                            \
        return otherwise

/* What an absolute path is within the directory, or NULL. The directory itself is "". */
static const char *within(const char *path) {
    if (!directory_length || strncmp(path, directory, directory_length))
        return NULL;
    path += directory_length;
    return *path == '/' ? path + 1 : *path == 0 ? path : NULL;
}

/* The same of a descriptor. A file that has no name any more is none of the directory's. */
static const char *of_descriptor(int fd, char *buffer) {
    char link[32];
    if (!directory_length)
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, PATH - 1);
    if (length <= 0)
        return NULL;
    buffer[length] = 0;
    return strstr(buffer, " (deleted)") ? NULL : within(buffer);
}

/* The same of what the *at calls are given. */
static const char *of_path(int at, const char *path, char *buffer) {
    if (!directory_length || !path)
        return NULL;
    if (*path == '/') {
        snprintf(buffer, PATH, "%s", path);
        return within(buffer);
    }
    char link[32];
    if (at == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    ssize_t length = readlink(link, buffer, PATH - 2);
    if (length <= 0)
        return NULL;
    buffer[length] = '/';
    snprintf(buffer + length + 1, (size_t)(PATH - length - 1), "%s", path);
    return within(buffer);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Counts a call, and says what is to be done with it. */
static enum action verdict(enum kind kind, const char *path) {
    if (!control)
        return NOTHING;
    __atomic_add_fetch(&control->calls[kind], 1, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&control->armed, __ATOMIC_SEQ_CST) || !(control->kinds & 1u << kind))
        return NOTHING;
    if (control->thread[0]) {
        char name[16] = {0};
        prctl(PR_GET_NAME, name);
        if (strncmp(name, control->thread, sizeof name))
            return NOTHING;
    }
    if (control->part[0] && !strstr(path, control->part))
        return NOTHING;
    uint64_t n = __atomic_add_fetch(&control->counted, 1, __ATOMIC_SEQ_CST);
    if (n != control->nth && !(control->lasting && n > control->nth))
        return NOTHING;
    snprintf(control->where, sizeof control->where, "%s", path);
    __atomic_add_fetch(&control->fired, 1, __ATOMIC_SEQ_CST);
    return control->action;
}

static void append(enum entry entry, int error, uint64_t began, const char *path, const char *other, uint64_t offset, uint64_t length,
                   const void *data, size_t size) {
    if (log_file < 0)
        return;
    struct record record = {.entry = entry, .error = error, .began = began, .ended = now(), .offset = offset, .length = length,
                            .path = (uint16_t)strlen(path), .other = (uint16_t)(other ? strlen(other) : 0), .data = (uint32_t)size};
    record.size = (uint32_t)(sizeof record + record.path + record.other + size);
    struct iovec parts[4] = {{&record, sizeof record}, {(void *)path, record.path}, {(void *)other, record.other}, {(void *)data, size}};
    if (REAL(writev)(log_file, parts, 4) != (ssize_t)record.size) {
        perror("shim: writing FAULTS_LOG");
        abort();
    }
}

#define DONE(entry, other, length) (error ? (void)0 : append(entry, 0, began, path, other, 0, length, NULL, 0))

/* The rest of a function that changes the disk at `path`: what decides, the call, its record, the return. */
#define CHANGE(kind, call, record)                                                                                                        \
    pthread_mutex_lock(&one_at_a_time);                                                                                                   \
    uint64_t began = now();                                                                                                               \
    enum action action = verdict(kind, path);                                                                                             \
    int result = -1;                                                                                                                      \
    if (action == KILL_BEFORE || action == KILL_HALF)                                                                                     \
        die();                                                                                                                            \
    if (action == FAIL || action == SHORT)                                                                                                \
        errno = control->error;                                                                                                           \
    else                                                                                                                                  \
        result = call;                                                                                                                    \
    int error = result < 0 ? errno : 0;                                                                                                   \
    record;                                                                                                                               \
    if (action == KILL_AFTER)                                                                                                             \
        die();                                                                                                                            \
    pthread_mutex_unlock(&one_at_a_time);                                                                                                 \
    errno = error;                                                                                                                        \
    return result

/* ---- reads, and opens that make nothing: counted, never in the way of each other */

static int refused(enum kind kind, const char *path) {
    enum action action = path ? verdict(kind, path) : NOTHING;
    if (action >= KILL_BEFORE)
        die();
    if (action)
        errno = control->error;
    return action != NOTHING;
}

static int unreadable(int fd) {
    char buffer[PATH];
    return refused(READ, of_descriptor(fd, buffer));
}

ssize_t read(int fd, void *to, size_t size) {
    ready();
    return unreadable(fd) ? -1 : read_(fd, to, size);
}
ssize_t pread64(int fd, void *to, size_t size, off64_t at) { return unreadable(fd) ? -1 : pread_(fd, to, size, at); }
ssize_t pread(int fd, void *to, size_t size, off_t at) { return pread64(fd, to, size, at); }
ssize_t readv(int fd, const struct iovec *to, int n) { return unreadable(fd) ? -1 : REAL(readv)(fd, to, n); }
ssize_t preadv64(int fd, const struct iovec *to, int n, off64_t at) { return unreadable(fd) ? -1 : REAL(preadv64)(fd, to, n, at); }
ssize_t preadv(int fd, const struct iovec *to, int n, off_t at) { return preadv64(fd, to, n, at); }

/* ---- writes; `at` is -1 for those that go where the file's position is */

static ssize_t change(int fd, const char *path, const void *from, size_t size, off64_t at) {
    pthread_mutex_lock(&one_at_a_time);
    uint64_t began = now();
    enum action action = NOTHING;
    ssize_t done = -1;
    off64_t offset = at >= 0 ? at : lseek64(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    if (owed) {
        errno = owed;
        owed = 0;
    } else {
        action = verdict(WRITE, path);
        if (action == KILL_BEFORE)
            die();
        if (action == FAIL || (action == SHORT && size < 2)) {
            errno = control->error;
        } else {
            size_t part = action == SHORT || action == KILL_HALF ? size / 2 : size;
            done = at < 0 ? write_(fd, from, part) : pwrite_(fd, from, part, at);
            owed = action == SHORT ? control->error : 0;
        }
    }
    int error = done < 0 ? errno : 0;
    if (done > 0)
        append(E_WRITE, 0, began, path, NULL, (uint64_t)offset, (uint64_t)done, from, (size_t)done);
    if (action == KILL_AFTER || action == KILL_HALF)
        die();
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return done;
}

ssize_t write(int fd, const void *from, size_t size) {
    ready();
    ON_DESCRIPTOR(fd, write_(fd, from, size));
    return change(fd, path, from, size, -1);
}

ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) {
    ON_DESCRIPTOR(fd, pwrite_(fd, from, size, at));
    return change(fd, path, from, size, at);
}
ssize_t pwrite(int fd, const void *from, size_t size, off_t at) { return pwrite64(fd, from, size, at); }

/* A vector is one write. */
static ssize_t gather(int fd, const char *path, const struct iovec *from, int n, off64_t at) {
    size_t size = 0, done = 0;
    for (int i = 0; i < n; i++)
        size += from[i].iov_len;
    char *whole = malloc(size + 1);
    for (int i = 0; i < n; done += from[i++].iov_len)
        memcpy(whole + done, from[i].iov_base, from[i].iov_len);
    ssize_t result = change(fd, path, whole, size, at);
    int error = errno;
    free(whole);
    errno = error;
    return result;
}

ssize_t writev(int fd, const struct iovec *from, int n) {
    ON_DESCRIPTOR(fd, REAL(writev)(fd, from, n));
    return gather(fd, path, from, n, -1);
}

ssize_t pwritev64(int fd, const struct iovec *from, int n, off64_t at) {
    ON_DESCRIPTOR(fd, REAL(pwritev64)(fd, from, n, at));
    return gather(fd, path, from, n, at);
}
ssize_t pwritev(int fd, const struct iovec *from, int n, off_t at) { return pwritev64(fd, from, n, at); }

/* ---- syncs: also those that failed are in the log */

static void slowly(void) {
    if (control && control->slow_ms)
        usleep(control->slow_ms * 1000);
}

int fsync(int fd) {
    ON_DESCRIPTOR(fd, REAL(fsync)(fd));
    CHANGE(SYNC, (slowly(), REAL(fsync)(fd)), append(E_SYNC, error, began, path, NULL, 0, 0, NULL, 0));
}

int fdatasync(int fd) {
    ON_DESCRIPTOR(fd, REAL(fdatasync)(fd));
    CHANGE(SYNC, (slowly(), REAL(fdatasync)(fd)), append(E_SYNC, error, began, path, NULL, 0, 0, NULL, 0));
}

int sync_file_range(int fd, off64_t at, off64_t length, unsigned flags) {
    ON_DESCRIPTOR(fd, REAL(sync_file_range)(fd, at, length, flags));
    CHANGE(SYNC, (slowly(), REAL(sync_file_range)(fd, at, length, flags)),
           append(E_RANGE, error, began, path, NULL, (uint64_t)at, (uint64_t)length, NULL, 0));
}

/* ---- lengths; room that is asked for counts as a length where it makes the file longer */

int ftruncate64(int fd, off64_t length) {
    ON_DESCRIPTOR(fd, REAL(ftruncate64)(fd, length));
    CHANGE(TRUNCATE, REAL(ftruncate64)(fd, length), DONE(E_TRUNCATE, NULL, (uint64_t)length));
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fallocate64(int fd, int mode, off64_t at, off64_t length) {
    struct stat64 stat = {0};
    ON_DESCRIPTOR(fd, REAL(fallocate64)(fd, mode, at, length));
    CHANGE(TRUNCATE, REAL(fallocate64)(fd, mode, at, length), fstat64(fd, &stat); DONE(E_TRUNCATE, NULL, (uint64_t)stat.st_size));
}
int fallocate(int fd, int mode, off_t at, off_t length) { return fallocate64(fd, mode, at, length); }
int posix_fallocate64(int fd, off64_t at, off64_t length) { return fallocate64(fd, 0, at, length) ? errno : 0; }
int posix_fallocate(int fd, off_t at, off_t length) { return posix_fallocate64(fd, at, length); }

/* ---- names */

static int open_at(int at, const char *name, int flags, mode_t mode) {
    struct stat64 stat = {0};
    ready();
    ON_PATH(at, name, openat_(at, name, flags, mode));
    if (!(flags & (O_CREAT | O_TRUNC)))
        return refused(OPEN, path) ? -1 : openat_(at, name, flags, mode);
    int there = fstatat64(at, name, &stat, 0) == 0;
    CHANGE(there ? OPEN : CREATE, openat_(at, name, flags, mode), {
        if (!there)
            DONE(E_CREATE, NULL, 0);
        else if (flags & O_TRUNC && stat.st_size)
            DONE(E_TRUNCATE, NULL, 0);
    });
}

/* Calls `open_at` with the mode, which is there only where a file may be made. */
#define OPEN_AT(at)                                                                                                                       \
    va_list more;                                                                                                                         \
    va_start(more, flags);                                                                                                                \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                                                               \
    va_end(more);                                                                                                                         \
    return open_at(at, name, flags, mode)

int open(const char *name, int flags, ...) { OPEN_AT(AT_FDCWD); }
int open64(const char *name, int flags, ...) { OPEN_AT(AT_FDCWD); }
int openat(int at, const char *name, int flags, ...) { OPEN_AT(at); }
int openat64(int at, const char *name, int flags, ...) { OPEN_AT(at); }

DIR *opendir(const char *name) {
    ON_PATH(AT_FDCWD, name, REAL(opendir)(name));
    return refused(OPEN, path) ? NULL : REAL(opendir)(name);
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char other_buffer[PATH];
    const char *other = of_path(to_at, to, other_buffer);
    ON_PATH(from_at, from, REAL(renameat2)(from_at, from, to_at, to, flags));
    CHANGE(RENAME, REAL(renameat2)(from_at, from, to_at, to, flags), DONE(E_RENAME, other, 0));
}
int renameat(int from_at, const char *from, int to_at, const char *to) { return renameat2(from_at, from, to_at, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int at, const char *name, int flags) {
    ON_PATH(at, name, REAL(unlinkat)(at, name, flags));
    CHANGE(UNLINK, REAL(unlinkat)(at, name, flags), DONE(E_UNLINK, NULL, 0));
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int at, const char *name, mode_t mode) {
    ON_PATH(at, name, REAL(mkdirat)(at, name, mode));
    CHANGE(MKDIR, REAL(mkdirat)(at, name, mode), DONE(E_MKDIR, NULL, 0));
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

/* ---- copies within the kernel: not there, so that a copy is reads and writes */

static int not_ours(int in, int out) {
    char buffer[PATH];
    if (!of_descriptor(in, buffer) && !of_descriptor(out, buffer))
        return 1;
    errno = ENOSYS;
    return 0;
}

ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t size, unsigned flags) {
    return not_ours(in, out) ? REAL(copy_file_range)(in, in_at, out, out_at, size, flags) : -1;
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t size) { return not_ours(in, out) ? REAL(sendfile64)(out, in, at, size) : -1; }
ssize_t sendfile(int out, int in, off_t *at, size_t size) { return sendfile64(out, in, at, size); }
