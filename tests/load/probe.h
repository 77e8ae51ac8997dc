/*
 * What one ordinary client sees while the load runs: at fixed times a fresh connection, a full TLS handshake, one GET,
 * and the first bytes of the answer. In a worker that does nothing else; its own TLS context, clients and tally. One
 * thread.
 */
#ifndef LOAD_PROBE_H
#define LOAD_PROBE_H

#include "tests/load/client.h"
#include "tests/load/options.h"
#include "tests/load/pace.h"

#define PROBE_CLIENTS 64U /* probes under way at a time; one that finds all of them busy is counted as unsent */

struct probe {
    struct client_party party;
    struct exchange_plan plan;
    struct dial dial;
    struct tls_context *context;
    struct client clients[PROBE_CLIENTS];
    uint32_t prepared;
    struct pace pace;
    struct task done; /* ends those that have seen enough */
};

/* Prepares; nothing is sent before probe_begin. On an error `fault` may say why; probe_dispose is allowed then. The
 * loop and the scratch are the worker's. */
enum error_code probe_init(struct probe *probe, const struct load_options *options, struct loop *loop,
                           struct scratch *scratch, struct tally *tally, char *fault, size_t capacity);

/* From now on, until probe_end. */
void probe_begin(struct probe *probe, uint64_t start_us);

/* Starts what is due. */
void probe_pump(struct probe *probe);

/* Starts no more; those under way are cut off and not counted as failed. */
void probe_end(struct probe *probe);

void probe_dispose(struct probe *probe);

#endif
