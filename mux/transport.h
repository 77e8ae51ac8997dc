/*
 * A byte stream to a peer, as engines see it: a non-blocking socket in production, a simulated link in tests.
 * Readiness is edge-triggered: after a read (or write) that did not return ERROR_WOULD_BLOCK there may be more; after
 * one that did, `ready` is called when it is worth trying again. The engine that embeds the transport owns it. One
 * thread.
 */
#ifndef MUX_TRANSPORT_H
#define MUX_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>

#include "mux/error.h"

enum transport_event {
    TRANSPORT_READABLE = 1, /* bytes, end or error can be read */
    TRANSPORT_WRITABLE = 2, /* also: a connection attempt has ended, well or not */
    TRANSPORT_BROKEN = 4,   /* the peer's reset came, or the connection failed: for engines that do not read now */
    TRANSPORT_HANGUP = 8,   /* behind the bytes that can be read comes the peer's FIN; not every transport tells */
};

enum transport_close {
    TRANSPORT_CLOSE_CLEAN, /* FIN, if none was sent yet */
    TRANSPORT_CLOSE_RESET, /* RST: the peer must not take it for a clean end */
};

struct transport;

struct transport_ops {
    /* Reads up to `capacity` bytes. ERROR_NONE with *length 0 is the peer's FIN; ERROR_WOULD_BLOCK,
     * ERROR_PEER_RESET, ERROR_SYSTEM otherwise. */
    enum error_code (*read)(struct transport *transport, void *into, size_t capacity, size_t *length);

    /* Writes a prefix of the bytes; *length says how many went (may be fewer than given only when the next call would
     * block). ERROR_WOULD_BLOCK, ERROR_PEER_RESET, ERROR_UNREACHABLE (a connection attempt failed), ERROR_SYSTEM. */
    enum error_code (*write)(struct transport *transport, const void *bytes, size_t count, size_t *length);

    /* Sends FIN; reading goes on. */
    void (*finish)(struct transport *transport);

    /* Ends it. No event comes after; `binding` is NULL then. */
    void (*close)(struct transport *transport, enum transport_close how);
};

/* What all transports of one implementation and one kind of owner have in common. A constant, put together by whoever
 * knows both: so one pointer in each transport will do, and threads may share it. */
struct transport_binding {
    const struct transport_ops *ops;                             /* of the implementation */
    void (*ready)(struct transport *transport, unsigned events); /* of the owner; bits of transport_event */
};

struct transport {
    const struct transport_binding *binding; /* NULL: closed, or never opened */
};

/* Room for any implementation, so that an owner can embed a transport without knowing which one it gets. */
#define TRANSPORT_SLOT_BYTES 16
union transport_slot {
    struct transport transport;
    void *align;
    unsigned char room[TRANSPORT_SLOT_BYTES];
};

static inline enum error_code transport_read(struct transport *transport, void *into, size_t capacity, size_t *length)
{
    return transport->binding->ops->read(transport, into, capacity, length);
}

static inline enum error_code transport_write(struct transport *transport, const void *bytes, size_t count,
                                              size_t *length)
{
    return transport->binding->ops->write(transport, bytes, count, length);
}

static inline void transport_finish(struct transport *transport)
{
    transport->binding->ops->finish(transport);
}

/* For implementations: bits of transport_event. */
static inline void transport_tell(struct transport *transport, unsigned events)
{
    transport->binding->ready(transport, events);
}

/* No effect on a transport that is closed. */
static inline void transport_close(struct transport *transport, enum transport_close how)
{
    if (transport->binding != NULL) {
        transport->binding->ops->close(transport, how);
    }
}

#endif
