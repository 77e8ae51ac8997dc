/* See tally.h. Adding is plain arithmetic over two structures; nothing here allocates. */
#include "tests/load/tally.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const char *const measure_names[MEASURE_COUNT] = {
    [MEASURE_CONNECT] = "connect",
    [MEASURE_HANDSHAKE_FULL] = "handshake_full",
    [MEASURE_HANDSHAKE_RESUMED] = "handshake_resumed",
    [MEASURE_FIRST_BYTE] = "first_byte",
    [MEASURE_ECHO] = "echo",
    [MEASURE_PING] = "ping",
    [MEASURE_ANSWER] = "answer",
    [MEASURE_DELIVERY] = "delivery",
    [MEASURE_LAG] = "schedule_lag",
    [MEASURE_BACK] = "back",
};

/* Counters that add up. */
static const size_t sums[] = {
    offsetof(struct tally, failed),         offsetof(struct tally, started),
    offsetof(struct tally, opened),         offsetof(struct tally, dropped),
    offsetof(struct tally, returned),       offsetof(struct tally, ended_clean),
    offsetof(struct tally, ended_other),    offsetof(struct tally, sent),
    offsetof(struct tally, echoed),         offsetof(struct tally, delivered),
    offsetof(struct tally, requests),       offsetof(struct tally, answered),
    offsetof(struct tally, wrong_status),   offsetof(struct tally, wrong_length),
    offsetof(struct tally, unanswered),     offsetof(struct tally, abandoned),
    offsetof(struct tally, unsent),         offsetof(struct tally, bytes_up),
    offsetof(struct tally, bytes_down),     offsetof(struct tally, missed),
    offsetof(struct tally, scheduled),      offsetof(struct tally, silent),
    offsetof(struct tally, stalled),

    offsetof(struct tally, faults.missing), offsetof(struct tally, faults.repeated),
    offsetof(struct tally, faults.altered), offsetof(struct tally, faults.broken),
};

/* Durations of which the longest counts. */
static const size_t longest[] = {
    offsetof(struct tally, ramp_us),
    offsetof(struct tally, traffic_us),
    offsetof(struct tally, traffic_cpu_us),
};

static uint64_t read_counter(const struct tally *tally, size_t offset)
{
    uint64_t value;
    memcpy(&value, (const char *)tally + offset, sizeof(value));
    return value;
}

static void write_counter(struct tally *tally, size_t offset, uint64_t value)
{
    memcpy((char *)tally + offset, &value, sizeof(value));
}

void tally_init(struct tally *tally)
{
    memset(tally, 0, sizeof(*tally));
    for (int measure = 0; measure < MEASURE_COUNT; measure++) {
        histogram_init(&tally->measures[measure]);
    }
}

void tally_add(struct tally *into, const struct tally *from)
{
    for (int measure = 0; measure < MEASURE_COUNT; measure++) {
        histogram_add(&into->measures[measure], &from->measures[measure]);
    }
    for (int stage = 0; stage < CLIENT_STAGE_COUNT; stage++) {
        for (int code = 0; code < ERROR_CODE_COUNT; code++) {
            into->failures[stage][code] += from->failures[stage][code];
        }
    }
    for (size_t i = 0; i < sizeof(sums) / sizeof(sums[0]); i++) {
        write_counter(into, sums[i], read_counter(into, sums[i]) + read_counter(from, sums[i]));
    }
    for (size_t i = 0; i < sizeof(longest) / sizeof(longest[0]); i++) {
        uint64_t other = read_counter(from, longest[i]);
        if (other > read_counter(into, longest[i])) {
            write_counter(into, longest[i], other);
        }
    }
    if (into->first_failure[0] == '\0') {
        memcpy(into->first_failure, from->first_failure, sizeof(into->first_failure));
    }
    if (into->tls_version == 0) {
        into->tls_version = from->tls_version;
        into->tls_suite = from->tls_suite;
    }
    into->interrupted = into->interrupted || from->interrupted;
    into->cut_short = into->cut_short || from->cut_short;
}

void tally_handshakes(const struct tally *tally, struct histogram *both)
{
    histogram_init(both);
    histogram_add(both, &tally->measures[MEASURE_HANDSHAKE_FULL]);
    histogram_add(both, &tally->measures[MEASURE_HANDSHAKE_RESUMED]);
}

const char *measure_name(enum measure measure)
{
    return measure_names[measure];
}

bool measure_find(const char *name, enum measure *measure)
{
    for (int i = 0; i < MEASURE_COUNT; i++) {
        if (strcmp(name, measure_names[i]) == 0) {
            *measure = (enum measure)i;
            return true;
        }
    }
    return false;
}
