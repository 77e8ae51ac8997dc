/*
 * One worker of the edge: a thread, its event loop, its listening sockets and its relay. The process makes it, starts
 * it and frees it on the main thread; in between it is reached by posts only. Nothing is shared with other workers but
 * what is read-only.
 */
#ifndef EDGE_WORKER_H
#define EDGE_WORKER_H

#include <stddef.h>
#include <stdint.h>

#include "edge/relay.h"
#include "edge/settings.h"
#include "mux/address.h"
#include "mux/loop.h"
#include "mux/tls.h"

struct edge_worker;

struct edge_worker_settings {
    const struct edge_settings *edge; /* outlives the worker */
    const struct address *cores;      /* resolved, in the order of the settings; outlives the worker */
    struct tls_context *client_context;
    struct tls_context *trunk_context;
    uint32_t index;    /* 0 for the first worker */
    uint32_t identity; /* random, the same for all workers of the process */
    uint32_t sessions_max;
    uint32_t handshakes_max;
    uint32_t handshakes_per_second; /* 0: any number */
    uint64_t buffer_memory_bytes;   /* this worker's share */
    struct admission *admission;    /* of the process; outlives the worker */
    struct loop *owner_loop;        /* where `stopped` runs */
    void (*stopped)(void *owner, struct edge_worker *worker);
    void *owner;
};

/* ERROR_NO_MEMORY, ERROR_NO_FILES, ERROR_SYSTEM; ERROR_CONFIGURATION as relay_init. */
enum error_code edge_worker_new(struct edge_worker **worker, const struct edge_worker_settings *settings);

/* Before the start, or borrowed: accepts on `fd` (a socket that listens, the worker's from now on) as listener number
 * `listener`. */
enum error_code edge_worker_listen(struct edge_worker *worker, size_t listener, int fd);

/* Dials the trunks and starts the thread. ERROR_NO_MEMORY, ERROR_SYSTEM. */
enum error_code edge_worker_start(struct edge_worker *worker);

/* From the main thread, at most once each: stop accepting and wait at most `timeout_ms` for the clients; reset them
 * now. `stopped` is called once all have ended and the trunks are closed. */
void edge_worker_drain(struct edge_worker *worker);
void edge_worker_stop(struct edge_worker *worker);

/* From the main thread: new connections use these. ERROR_NO_MEMORY. */
enum error_code edge_worker_reload(struct edge_worker *worker, struct tls_context *client_context,
                                   struct tls_context *trunk_context);

/* For a takeover, from another thread, one at a time: the worker's thread stands still until edge_worker_return, and
 * the borrower may do with relay and listeners what only it may otherwise. ERROR_TIMEOUT: it did not come to it in
 * time. */
enum error_code edge_worker_borrow(struct edge_worker *worker, uint32_t timeout_ms);
void edge_worker_return(struct edge_worker *worker);

/* Of a worker that is borrowed. */
struct relay *edge_worker_relay(struct edge_worker *worker);

/* The socket of listener number `listener`; -1: it has none. */
int edge_worker_listener(const struct edge_worker *worker, size_t listener);

/* A client's socket, still the client's. */
int edge_worker_client_socket(const struct edge_client *client);

/* Opens the transport of a client that edge_client_import has made, and starts it if it is at its beginning. On an
 * error the client is freed; `fd` is closed then, too. */
enum error_code edge_worker_adopt(struct edge_worker *worker, struct edge_client *client, int fd);

/* Closes the listening sockets, and takes no more clients. */
void edge_worker_stop_listening(struct edge_worker *worker);

/* Waits for the thread, which must have `stopped` or never have been started. */
void edge_worker_join(struct edge_worker *worker);

/* After edge_worker_join. */
const struct relay_counters *edge_worker_counters(const struct edge_worker *worker);

/* What a worker still holds: all 0 when nothing has leaked. */
struct edge_left {
    uint64_t sessions; /* clients, whatever their state */
    uint64_t streams;
    int64_t bytes; /* in queues: has a meaning as the sum over all threads only (chain_held_bytes) */
};

/* After edge_worker_join: adds what is there. */
void edge_worker_add_left(const struct edge_worker *worker, struct edge_left *sum);

/* Nulls the pointer. */
void edge_worker_free(struct edge_worker **worker);

#endif
