/*
 * One trunk from an edge, from the accepted connection to its end. Listed in its worker, which owns it; it owns its
 * link, and the memory of its transport. Runs on one worker's thread at a time: it may move once, when its greeting
 * has told which edge worker it belongs to.
 */
#ifndef CORE_DOWNLINK_H
#define CORE_DOWNLINK_H

#include <stdint.h>

#include "core/session.h"
#include "core/worker.h"
#include "mux/link.h"
#include "mux/transport.h"

#define DOWNLINK_NAME_MAX 128U /* bytes of a certificate's name, for logs */

struct core_downlink {
    struct list_node node; /* in worker->downlinks; in none while it moves */
    union transport_slot transport;
    struct link link;
    struct session_origin origin; /* with the worker and the peer's address */
    uint64_t id;                  /* for logs */
    uint64_t up_since_us;         /* 0: not up */
    uint32_t edge_worker;         /* 0: the peer told none */
    char name[DOWNLINK_NAME_MAX]; /* that the peer's certificate bears; "" before it is known */
};

/* A connection was accepted from `peer` (for logs). The caller opens a transport in downlink->transport at once, with
 * core_downlink_ready as its `ready`, or else closes the downlink. ERROR_LIMIT, ERROR_SHUTDOWN, ERROR_NO_MEMORY or
 * ERROR_TLS_INTERNAL: refused and logged, and *downlink is NULL. */
enum error_code core_downlink_new(struct core_worker *worker, struct tls_context *context, const char *peer,
                                  struct core_downlink **downlink);

/* For the transport. */
void core_downlink_ready(struct transport *transport, unsigned events);

/* The transport could not be opened: frees the downlink. */
void core_downlink_discard(struct core_downlink *downlink, enum error_code error);

/* Takes it from its worker, within the worker's `route` event; the caller has released the transport before. */
void core_downlink_detach(struct core_downlink *downlink);

/* Gives it to another worker, on that one's thread; the caller then opens the transport again and calls
 * core_downlink_open_trunk. */
void core_downlink_attach(struct core_downlink *downlink, struct core_worker *worker);

/* The trunk is up from now on. An error closes the downlink by itself. */
void core_downlink_open_trunk(struct core_downlink *downlink);

/* GOAWAY when the trunk is up; an end when it is not. */
void core_downlink_drain(struct core_downlink *downlink);

/* Ends it, with what is queued sent before if the peer takes it soon. */
void core_downlink_close(struct core_downlink *downlink, enum error_code error);

#endif
