/* See verdict.h. */
#include "tests/load/verdict.h"

/* A probe is no message, but what it sees while the generator is late is the generator. */
static uint64_t lag_p99_us(const struct tally *tally, const struct tally *probe)
{
    uint64_t of_messages = histogram_quantile(&tally->measures[MEASURE_LAG], 99000);
    const struct histogram *probes = &probe->measures[MEASURE_LAG];
    uint64_t of_probes = probes->count < VERDICT_PROBES_LEAST ? 0 : histogram_quantile(probes, 99000);
    return of_messages > of_probes ? of_messages : of_probes;
}

bool verdict_bottleneck(const struct tally *tally, const struct tally *probe, struct verdict_bottleneck *bottleneck)
{
    *bottleneck = (struct verdict_bottleneck){.lag_p99_us = lag_p99_us(tally, probe)};
    bottleneck->late = bottleneck->lag_p99_us > VERDICT_LAG_P99_MAX_US;
    bottleneck->out_of_ports = tally->failures[CLIENT_STAGE_CONNECT][ERROR_LIMIT];
    for (int stage = 0; stage < CLIENT_STAGE_COUNT; stage++) {
        bottleneck->out_of_files += tally->failures[stage][ERROR_NO_FILES];
        bottleneck->out_of_memory += tally->failures[stage][ERROR_NO_MEMORY];
    }
    return bottleneck->late || bottleneck->out_of_ports > 0 || bottleneck->out_of_files > 0 ||
           bottleneck->out_of_memory > 0;
}

bool verdict_damaged(const struct tally *tally)
{
    const struct message_faults *faults = &tally->faults;
    return faults->missing + faults->repeated + faults->altered + faults->broken + tally->wrong_status +
               tally->wrong_length >
           0;
}

bool verdict_served(const struct load_options *options, const struct tally *tally)
{
    return tally->opened == options->clients && tally->failed == 0 && tally->returned == tally->dropped &&
           tally->unanswered == 0 && tally->unsent == 0 && tally->silent == 0 && !verdict_damaged(tally) &&
           !tally->interrupted && !tally->cut_short;
}

bool verdict_probe(const struct load_options *options, const struct tally *probe)
{
    return options->probe.text == NULL ||
           (probe->opened > 0 && probe->failed == 0 && probe->unsent == 0 && probe->wrong_status == 0);
}

uint64_t verdict_back_us(const struct tally *tally, uint32_t percent)
{
    uint64_t rank = (tally->dropped * percent + 99) / 100;
    if (rank == 0) {
        return 0;
    }
    return rank > tally->returned ? UINT64_MAX : histogram_at_rank(&tally->measures[MEASURE_BACK], rank);
}
