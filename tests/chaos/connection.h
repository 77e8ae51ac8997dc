/*
 * One connection: two sockets, and a flow for each direction between them.
 *
 *   WAITING --(slow_open is over)--> DIALING --(connected)--> OPEN --> ENDED
 *
 * Each state may be followed by ENDED, in which both sockets are closed and a task frees it. Owned by its proxy.
 */
#ifndef CHAOS_CONNECTION_H
#define CHAOS_CONNECTION_H

#include "mux/socket.h"
#include "tests/chaos/flow.h"
#include "tests/chaos/proxy.h"
#include "tests/chaos/wake.h"

enum connection_state { CONNECTION_WAITING, CONNECTION_DIALING, CONNECTION_OPEN, CONNECTION_ENDED };

struct connection {
    struct list_node node;
    struct proxy *proxy;
    uint64_t number;
    enum connection_state state;
    struct socket_transport client;
    struct socket_transport server;
    struct flow flows[TOXIC_STREAM_COUNT]; /* by enum toxic_stream */
    struct wake wake;
    struct task again; /* goes on after the batch, or frees */
};

/* Takes an accepted socket; closes it when there is no memory. */
void connection_accept(struct proxy *proxy, int fd);

/* Closes both sides and takes it out of its proxy. */
void connection_free(struct connection **connection);

/* Ends it from outside: FIN or RST to both sides. */
void connection_end(struct connection *connection, enum transport_close how);

/* Something has changed that no event tells of: goes on at the end of the batch. */
void connection_nudge(struct connection *connection);

#endif
