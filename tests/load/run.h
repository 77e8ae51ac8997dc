/*
 * A run of the load generator from the first connect() to the last close, on the calling thread.
 *
 *   phase:  RAMP --> HOLD --> TRAFFIC --> LAST_ECHOES --> CLOSING --> OVER     (each may be passed over, none comes
 * again)
 */
#ifndef LOAD_RUN_H
#define LOAD_RUN_H

#include "tests/load/options.h"
#include "tests/load/tally.h"

enum run_phase {
    RUN_RAMP,        /* opens clients at the given rate; each proves itself by one echo */
    RUN_HOLD,        /* all is open and quiet */
    RUN_TRAFFIC,     /* messages on schedule */
    RUN_LAST_ECHOES, /* expects what is still on its way */
    RUN_CLOSING,     /* expects the clean end of each client */
    RUN_OVER,
    RUN_PHASE_COUNT,
};

/* What the progress line shows. */
struct run_snapshot {
    const struct tally *tally;
    const struct load_options *options;
    enum run_phase phase;
    uint64_t elapsed_ms; /* of the phase */
    uint64_t in_flight;
    uint32_t opening;
    uint32_t open;
    uint32_t closing;
};

/* Called a few times per second, and once as each phase ends (`final`). */
typedef void run_progress_fn(const struct run_snapshot *snapshot, bool final);

/* Carries out the run. `tally` must be zeroed with its histograms initialized. An error means that the run could not
 * start, and `fault` says why in one line; what goes wrong later is in the tally. `progress` may be NULL. */
enum error_code run_load(const struct load_options *options, struct tally *tally, run_progress_fn *progress,
                         char *fault, size_t fault_capacity);

#endif
