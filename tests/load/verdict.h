/*
 * What a run comes to: was everything well, and if not, was it the server or the generator itself? Pure functions of
 * what was counted. Any thread.
 */
#ifndef LOAD_VERDICT_H
#define LOAD_VERDICT_H

#include <stdbool.h>

#include "tests/load/options.h"
#include "tests/load/tally.h"

#define VERDICT_LAG_P99_MAX_US 50000U /* a generator that is later than this measured itself, not the server */
#define VERDICT_PROBES_LEAST   100U   /* whose lag is judged: of fewer, a single one would be over 1 % */

/* How the generator itself fell short. */
struct verdict_bottleneck {
    uint64_t lag_p99_us;   /* of the messages, or of the probes if they were later */
    bool late;             /* behind its own schedule */
    uint64_t out_of_ports; /* clients that failed for it */
    uint64_t out_of_files;
    uint64_t out_of_memory;
};

/* True when any of it is so. */
bool verdict_bottleneck(const struct tally *tally, const struct tally *probe, struct verdict_bottleneck *bottleneck);

/* Has a byte or an answer come that was wrong? No shortcoming of the generator makes up for that. */
bool verdict_damaged(const struct tally *tally);

/* Did every client and every byte do well? The generator's own shortcomings are not looked at. */
bool verdict_served(const struct load_options *options, const struct tally *tally);

/* Did every probe get an answer? True when there was none. */
bool verdict_probe(const struct load_options *options, const struct tally *probe);

/* When `percent` of the clients that a storm dropped were back, in microseconds; UINT64_MAX: never. */
uint64_t verdict_back_us(const struct tally *tally, uint32_t percent);

#endif
