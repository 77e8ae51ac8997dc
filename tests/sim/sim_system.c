/* Chance and time of the simulated process: see sim_system.h. The state is the process's. One thread. */
#include "tests/sim/sim_system.h"

#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "mux/clock.h"

/* The libraries must find these before the C library's, in spite of -fvisibility=hidden. */
#define EXPORTED __attribute__((visibility("default")))

#define BEGINNING_S 1893456000 /* 2030-01-01: when each simulation begins, by the clock on the wall */

/* Libraries ask for randomness before main: the generator must need no preparation. */
static struct random_state generator = {.state = 1};
static uint64_t calls;
static uint64_t now_us;

void sim_system_seed(uint64_t seed)
{
    random_seed(&generator, seed ^ UINT64_C(0x7472756e6b6c696e));
}

void sim_system_set_time(uint64_t time_us)
{
    now_us = time_us;
}

uint64_t sim_system_random_calls(void)
{
    return calls;
}

uint64_t sim_system_real_us(void)
{
    struct timespec now = {0};

    (void)syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000U + (uint64_t)now.tv_nsec / 1000U;
}

static void generate(void *into, size_t length)
{
    unsigned char *at = into;

    calls++;
    while (length > 0) {
        uint64_t word = random_next(&generator);
        size_t part = length < sizeof(word) ? length : sizeof(word);
        memcpy(at, &word, part);
        at += part;
        length -= part;
    }
}

EXPORTED ssize_t getrandom(void *into, size_t length, unsigned flags)
{
    (void)flags;
    generate(into, length);
    return (ssize_t)length;
}

EXPORTED int getentropy(void *into, size_t length)
{
    generate(into, length);
    return 0;
}

EXPORTED int clock_gettime(clockid_t clock, struct timespec *now)
{
    (void)clock;
    now->tv_sec = (time_t)(BEGINNING_S + now_us / 1000000U);
    now->tv_nsec = (long)(now_us % 1000000U * 1000U);
    return 0;
}

EXPORTED time_t time(time_t *into)
{
    time_t now = (time_t)(BEGINNING_S + now_us / 1000000U);

    if (into != NULL) {
        *into = now;
    }
    return now;
}

EXPORTED int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    now->tv_sec = (time_t)(BEGINNING_S + now_us / 1000000U);
    now->tv_usec = (suseconds_t)(now_us % 1000000U);
    return 0;
}
