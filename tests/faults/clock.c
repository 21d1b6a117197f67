/* Another clock for bellpull: preloaded, it adds to the wall clock and to the monotonic one what stands in the file $FAULTS_CLOCK, which the
 * harness (shim.py) has mapped as well and may change at any time. Built by run.sh: cc -shared -fPIC -O2 -o clock.so clock.c
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct offsets {
    int64_t wall_ms, monotonic_ms;
};

static const struct offsets none;
static const struct offsets *offsets = &none;

__attribute__((constructor)) static void start(void) {
    const char *at = getenv("FAULTS_CLOCK");
    if (!at)
        return;
    int file = open(at, O_RDONLY | O_CLOEXEC);
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) {
        perror("clock: FAULTS_CLOCK");
        abort();
    }
    close(file);
    offsets = map;
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    int result = (int)syscall(SYS_clock_gettime, clock, t);
    int wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
    int monotonic = clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_BOOTTIME;
    int64_t ms = wall ? offsets->wall_ms : monotonic ? offsets->monotonic_ms : 0;
    if (result == 0 && ms) {
        int64_t ns = t->tv_nsec + ms % 1000 * 1000000;
        t->tv_sec += ms / 1000 + (ns < 0 ? -1 : ns >= 1000000000 ? 1 : 0);
        t->tv_nsec = ns + (ns < 0 ? 1000000000 : ns >= 1000000000 ? -1000000000 : 0);
    }
    return result;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t)
        *t = now.tv_sec;
    return now.tv_sec;
}
