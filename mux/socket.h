/*
 * Sockets: listening, connecting, and the transport over a connected stream socket. With loop.c and clock.c the only
 * files that make network system calls. A socket belongs to the thread of its loop.
 */
#ifndef MUX_SOCKET_H
#define MUX_SOCKET_H

#include "mux/address.h"
#include "mux/loop.h"
#include "mux/transport.h"

enum socket_output {
    SOCKET_OUTPUT_UNTRIED, /* nothing was written yet: the first WRITABLE is reported */
    SOCKET_OUTPUT_READY,   /* the last write took all: WRITABLE is no news */
    SOCKET_OUTPUT_BLOCKED, /* no need to try before the next WRITABLE */
};

enum socket_connect {
    SOCKET_CONNECT_DONE,
    SOCKET_CONNECT_PENDING,
    SOCKET_CONNECT_FAILED,
};

/* A transport over a TCP or Unix stream socket. TRANSPORT_WRITABLE is reported once at the start, and after a write
 * that did not take all. */
struct socket_transport {
    struct transport transport; /*  0 */
    struct loop_compact source; /*  8 */
    uint8_t drained : 1;        /* 14: the last read took all there was: no need to try before the next event */
    uint8_t hangup : 1;         /*     FIN or an error waits behind the bytes: read until it shows */
    uint8_t finished : 1;       /*     FIN was sent */
    uint8_t output : 2;         /*     enum socket_output */
    uint8_t connect : 2;        /*     enum socket_connect */
    uint8_t failure;            /* 15: errno of a connection attempt that failed */
};

_Static_assert(sizeof(struct socket_transport) == TRANSPORT_SLOT_BYTES, "an owner's slot must hold a socket");

/* For the bindings of transports that are sockets. */
extern const struct transport_ops socket_transport_ops;

struct listener;

/* Called per accepted connection; `fd` is non-blocking, close-on-exec and now the callee's. */
typedef void listener_accept_fn(void *owner, int fd, const struct address *peer);

struct listener {
    struct loop_source source;
    struct loop *loop;    /* NULL: not started */
    int fd;               /* also while `source` is unwatched in a pause */
    struct address bound; /* with the port that the kernel chose */
    listener_accept_fn *accept;
    void *owner;
    struct timer retry; /* accepting is paused while files or memory are out */
    uint64_t accepted;
    uint64_t pauses;
};

/* Binds and listens (not yet accepting). `reuse_port`: SO_REUSEPORT, one listener per worker. A Unix path that no
 * process listens on is replaced. Backlog is net.core.somaxconn. On an error *fd is -1 and errno tells more:
 * ERROR_ADDRESS_IN_USE, ERROR_PERMISSION, ERROR_UNREACHABLE (not an address of this host), ERROR_NO_FILES,
 * ERROR_SYSTEM. IPv6 sockets are IPV6_V6ONLY. */
enum error_code socket_listen(const struct address *address, bool reuse_port, int *fd);

/* The address that a socket is bound to, or ERROR_SYSTEM. */
enum error_code socket_local_address(int fd, struct address *address);

/* Starts accepting on `fd`, which it owns from then on. At most 16 connections per event, so that established clients
 * get their turn. When files or memory are out it stops watching for 100 ms. `accept` may stop the listener. On an
 * error the descriptor is closed, and listener_stop has no effect. */
enum error_code listener_start(struct listener *listener, struct loop *loop, int fd, listener_accept_fn *accept,
                               void *owner);

/* Stops accepting and closes the socket. No effect on one that is zeroed or stopped. */
void listener_stop(struct listener *listener);

/* Takes a connected non-blocking descriptor, sets TCP_NODELAY, and watches it. The binding is one of
 * socket_transport_ops and outlives the transport. On an error the descriptor is closed. */
enum error_code socket_transport_open(struct socket_transport *socket, struct loop *loop, int fd,
                                      const struct transport_binding *binding);

/* Starts a connection, from the address `source` (its port 0: chosen for this peer, IP_BIND_ADDRESS_NO_PORT, so that
 * one source address reaches every peer from each port), or from where the system likes when it is NULL. The
 * transport's first TRANSPORT_WRITABLE tells its end: a write then gives ERROR_UNREACHABLE (errno set to the cause)
 * when it failed. At once: ERROR_UNREACHABLE, ERROR_LIMIT (no port is left), ERROR_NO_FILES, ERROR_NO_MEMORY,
 * ERROR_SYSTEM. */
enum error_code socket_connect(struct socket_transport *socket, struct loop *loop, const struct address *source,
                               const struct address *peer, const struct transport_binding *binding);

/* How a connection attempt ended: ERROR_NONE, ERROR_AGAIN_LATER while it goes on, ERROR_UNREACHABLE (errno set). */
enum error_code socket_connected(struct socket_transport *socket);

/* For long-lived trunks: TCP_USER_TIMEOUT, and TCP_NOTSENT_LOWAT so that at most `unsent_max_bytes` of what is written
 * waits in the kernel before it is sent. No effect on Unix sockets. */
void socket_tune_trunk(struct socket_transport *socket, unsigned user_timeout_ms, unsigned unsent_max_bytes);

/* Connections that are accepted on it let no more than so many bytes wait in the kernel to be sent, whatever the peer's
 * window: what a client that does not read holds. No effect on Unix sockets. */
void socket_limit_unsent(int fd, unsigned unsent_max_bytes);

/* For peers that may vanish without a word: TCP keep-alive, the first probe after `idle_ms` of silence (rounded up to
 * seconds), then four more, each a quarter of that later; then the connection fails. 0: none. On a listening socket it
 * holds for all that it accepts. No effect on Unix sockets. */
void socket_keep_alive(int fd, unsigned idle_ms);

/* Unwatches without closing, and gives up the descriptor: to hand it to another loop. -1 when it is closed. */
int socket_transport_release(struct socket_transport *socket);

#endif
