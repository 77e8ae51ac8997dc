/* See verdict.h. */
#include "tests/load/verdict.h"

bool verdict_bottleneck(const struct tally *tally, struct verdict_bottleneck *bottleneck)
{
    *bottleneck = (struct verdict_bottleneck){.late = histogram_quantile(&tally->measures[MEASURE_LAG], 99000) >
                                                      VERDICT_LAG_P99_MAX_US};
    bottleneck->out_of_ports = tally->failures[CLIENT_STAGE_CONNECT][ERROR_LIMIT];
    for (int stage = 0; stage < CLIENT_STAGE_COUNT; stage++) {
        bottleneck->out_of_files += tally->failures[stage][ERROR_NO_FILES];
        bottleneck->out_of_memory += tally->failures[stage][ERROR_NO_MEMORY];
    }
    return bottleneck->late || bottleneck->out_of_ports > 0 || bottleneck->out_of_files > 0 ||
           bottleneck->out_of_memory > 0;
}

bool verdict_served(const struct load_options *options, const struct tally *tally)
{
    const struct message_faults *faults = &tally->faults;
    return tally->opened == options->clients && tally->failed == 0 && tally->returned == tally->dropped &&
           tally->unanswered == 0 && tally->unsent == 0 && tally->wrong_status == 0 && tally->wrong_length == 0 &&
           faults->missing == 0 && faults->repeated == 0 && faults->altered == 0 && faults->broken == 0 &&
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
