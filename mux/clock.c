/* The clocks, the system's random source, and a seeded generator. No state of its own. Any thread. */
#include "mux/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static uint64_t clock_read_us(clockid_t clock)
{
    struct timespec now;
    int failed = clock_gettime(clock, &now);
    assert(!failed && "the kernel has had these clocks for longer than it has had epoll");
    (void)failed;
    return (uint64_t)now.tv_sec * 1000000U + (uint64_t)now.tv_nsec / 1000U;
}

uint64_t clock_monotonic_us(void)
{
    return clock_read_us(CLOCK_MONOTONIC);
}

uint64_t clock_wall_us(void)
{
    return clock_read_us(CLOCK_REALTIME);
}

void clock_random(void *into, size_t bytes)
{
    unsigned char *at = into;
    while (bytes > 0) {
        ssize_t got = getrandom(at, bytes, 0);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            /* Nothing that needs an unpredictable value may go on with a predictable one. */
            (void)fprintf(stderr, "trunkline: getrandom: %s\n", strerror(errno));
            abort();
        }
        at += got;
        bytes -= (size_t)got;
    }
}

void random_seed(struct random_state *random, uint64_t seed)
{
    random->state = seed;
}

uint64_t random_next(struct random_state *random)
{
    /* SplitMix64 (Steele, Lea, Flood 2014): any seed is a good one, zero included. */
    random->state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t mixed = random->state;
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

uint64_t random_below(struct random_state *random, uint64_t bound)
{
    assert(bound > 0);
    /* Values below 2^64 mod bound would make the small results more likely. */
    uint64_t skipped = (UINT64_MAX - bound + 1) % bound;
    uint64_t value;
    do {
        value = random_next(random);
    } while (value < skipped);
    return value % bound;
}
