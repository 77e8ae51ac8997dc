/*
 * What the processes of a run share: one page-aligned mapping that the conductor makes before it forks its workers. The
 * conductor writes the phase, each worker its own slot; counters that the live line shows are atomic, tallies are read
 * for good only when their worker has ended.
 *
 *   phase:  PREPARE --> RAMP --> HOLD --> TRAFFIC --> TAIL --> CLOSING --> OVER    (each may be passed over)
 */
#ifndef LOAD_BOARD_H
#define LOAD_BOARD_H

#include <stdatomic.h>
#include <stdint.h>

#include "mux/error.h"
#include "tests/load/pace.h"
#include "tests/load/tally.h"

#define BOARD_WORKERS_MAX 257U /* 256 with clients, one with probes */
#define BOARD_FAULT_BYTES 640U

enum run_phase {
    RUN_NOTHING,
    RUN_PREPARE, /* everything that can fail before the first connection */
    RUN_RAMP,    /* opens clients at the given rate; each must be served once */
    RUN_HOLD,    /* all is open and quiet, but for pings */
    RUN_TRAFFIC, /* messages on schedule, and the storm */
    RUN_TAIL,    /* expects what is still on its way */
    RUN_CLOSING, /* expects the clean end of each client */
    RUN_OVER,
    RUN_PHASE_COUNT,
};

/* One worker's. */
struct board_slot {
    _Atomic uint32_t finished; /* the last phase that it has come to the end of */
    _Atomic uint32_t opening;  /* clients between connect() and the service */
    _Atomic uint32_t open;
    _Atomic uint32_t closing;
    _Atomic uint64_t in_flight;
    _Atomic uint64_t opened; /* clients; as in the tally */
    _Atomic uint64_t failed;
    _Atomic uint64_t returned;
    _Atomic uint64_t sent;         /* messages and requests of the traffic phase */
    uint32_t error;                /* enum error_code, with `fault` set before PREPARE is finished */
    char fault[BOARD_FAULT_BYTES]; /* why it could not start */
    struct tally tally;
};

struct board {
    _Atomic uint32_t phase;          /* what all are to do now */
    _Atomic uint64_t phase_start_us; /* set before the phase: since when, or from when on */
    _Atomic uint32_t stop;           /* a second signal: end at once */
    struct tally probe;              /* of the probes */
    struct board_slot slots[];       /* of the workers, and last of the one with the probes if there are any */
};

#endif
