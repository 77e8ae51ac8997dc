/*
 * The process trunkline-core: from its settings to its exit code. Lives on main's stack; on main's thread.
 *
 *   state:  STARTING --> RUNNING --> DRAINING --> STOPPING
 *               \            \-----------------------^
 *                \-----------------------------------^
 */
#ifndef CORE_CORE_H
#define CORE_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/acceptor.h"
#include "core/service.h"
#include "core/settings.h"
#include "core/thread.h"
#include "mux/confinement.h"
#include "mux/process.h"
#include "mux/tls.h"

enum core_state {
    CORE_STARTING,
    CORE_RUNNING,
    CORE_DRAINING, /* no trunk is accepted; sessions may end by themselves */
    CORE_STOPPING, /* everything is closed; the threads end */
    CORE_STATE_COUNT,
};

struct core {
    struct core_settings settings;
    struct core_services services;
    struct core_worker_settings worker_settings;
    struct core_totals totals;
    struct loop *loop; /* main's: listeners and signals */
    struct process *process;
    struct confinement confinement;
    struct tls_context *context;
    struct core_acceptor acceptor;
    struct core_thread *threads;
    uint32_t thread_count; /* made */
    uint32_t drained;      /* threads that said so */
    uint32_t stopped;
    struct timer drain_deadline;
    uint8_t state; /* enum core_state */
    bool forced;   /* sessions were ended by us */
};

/* Runs a core with settings that were read, until it has stopped; `handlers` are known beside those built in. Returns
 * an exit code of mux/process.h. The settings stay the caller's. */
int core_run(const struct core_settings *settings, const trunkline_handler *const *handlers, size_t handler_count);

#endif
