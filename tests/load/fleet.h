/*
 * A whole run: forks the workers before anything else is started, leads them from phase to phase, and adds up what they
 * have counted. The calling process is the conductor: it connects to nothing, so it stays small and prompt. Main
 * thread.
 */
#ifndef LOAD_FLEET_H
#define LOAD_FLEET_H

#include "tests/load/board.h"
#include "tests/load/options.h"

/* What the progress line shows. */
struct fleet_snapshot {
    const struct load_options *options;
    uint32_t phase;      /* enum run_phase */
    uint64_t elapsed_ms; /* of the phase */
    uint64_t opening;
    uint64_t open;
    uint64_t closing;
    uint64_t in_flight;
    uint64_t opened;
    uint64_t failed;
    uint64_t returned;
    uint64_t sent;
    uint64_t p50_us; /* of the traffic's latency so far */
    uint64_t p99_us;
};

/* Called a few times per second, and once as each phase ends (`final`). */
typedef void fleet_progress_fn(const struct fleet_snapshot *snapshot, bool final);

/* Carries out the run. Both tallies become the sums over all processes. An error means that the run could not start,
 * and `fault` says why in one line; what goes wrong later is in the tally. `progress` may be NULL. */
enum error_code fleet_run(const struct load_options *options, struct tally *tally, struct tally *probe,
                          fleet_progress_fn *progress, char *fault, size_t capacity);

#endif
