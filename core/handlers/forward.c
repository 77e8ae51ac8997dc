/*
 * Connects each session to a TCP or Unix socket and relays bytes both ways, each direction with its own end. What the
 * backend cannot take yet is kept and not consumed; from the backend only as much is read as the client has room for.
 * So neither side is ever buffered beyond its window. A session owns its struct forward, with the descriptor; the
 * worker's thread.
 *
 *   state:  CONNECTING --> RELAYING --> DISCARDING
 *
 * DISCARDING: the backend has ended its direction cleanly and then stopped taking bytes. Its answer still reaches the
 * client; what the client sends goes nowhere.
 */
#include "handlers.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backlog.h"
#include "forward_target.h"
#include "proxy_header.h"

#define FORWARD_READ_BYTES 65536U
#define FORWARD_TURN_BYTES 262144U /* read from one backend before the others get their turn */

enum forward_state {
    FORWARD_CONNECTING,
    FORWARD_RELAYING,
    FORWARD_DISCARDING,
};

struct forward {
    const struct forward_target *target;
    trunkline_session *session;
    trunkline_watch *watch;
    trunkline_timer *timer;     /* the connection attempt's deadline; later the next turn of a long read */
    struct backlog *to_backend; /* not yet written; all but `header_left` not yet consumed */
    int fd;                     /* -1: none */
    int failure;                /* errno of the last attempt to connect */
    uint16_t header_left;       /* bytes of the PROXY header at the front of to_backend */
    uint8_t next;               /* address to try next */
    uint8_t state;              /* enum forward_state */
    bool client_ended;
    bool output_ended; /* the backend was told of it */
    bool backend_ended;
    bool write_failed; /* before the backend's end: what it still sent is read, then the session is aborted */
};

/* What a read brings: contents last for one event. */
static _Thread_local unsigned char forward_buffer[FORWARD_READ_BYTES];

static void forward_connect(struct forward *forward);
static void forward_read(struct forward *forward);

/* ------------------------------------------------------------------------------------------------ the end */

static void forward_close_socket(struct forward *forward, bool reset)
{
    trunkline_watch_free(&forward->watch);
    if (forward->fd < 0) {
        return;
    }
    if (reset) {
        /* A Unix socket knows no reset: there, the backend finds bytes missing only by its own protocol. */
        const struct linger linger = {.l_onoff = 1, .l_linger = 0};

        (void)setsockopt(forward->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    }
    close(forward->fd);
    forward->fd = -1;
}

static void forward_closed(trunkline_session *session, trunkline_reason reason)
{
    struct forward *forward = trunkline_get_data(session);

    if (forward == NULL) {
        return;
    }
    forward_close_socket(forward, reason != TRUNKLINE_REASON_DONE || forward->write_failed);
    backlog_free(&forward->to_backend);
    free(forward); /* the timer goes with the session */
}

/* ------------------------------------------------------------------------------------------------ to the backend */

static void forward_end_output(struct forward *forward)
{
    if (forward->client_ended && forward->to_backend == NULL && !forward->output_ended &&
        forward->state == FORWARD_RELAYING) {
        forward->output_ended = true;
        (void)shutdown(forward->fd, SHUT_WR); /* fails only when the backend is gone, which the next read tells */
    }
}

/* The backend takes no more bytes. */
static void forward_output_failed(struct forward *forward)
{
    size_t kept;

    (void)backlog_bytes(forward->to_backend, &kept);
    backlog_free(&forward->to_backend);
    if (forward->backend_ended) {
        forward->state = FORWARD_DISCARDING;
    } else {
        forward->write_failed = true;
    }
    trunkline_consume(forward->session, kept - forward->header_left);
    forward->header_left = 0;
    if (forward->write_failed) {
        forward_read(forward);
    }
}

/* Writes until the socket is full: how many bytes went, or -1 when the backend is gone. */
static ssize_t forward_send(int fd, const unsigned char *bytes, size_t length)
{
    size_t sent = 0;

    while (sent < length) {
        ssize_t count = send(fd, bytes + sent, length - sent, MSG_NOSIGNAL);

        if (count >= 0) {
            sent += (size_t)count;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            break;
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return (ssize_t)sent;
}

static void forward_flush(struct forward *forward)
{
    size_t length;
    const unsigned char *bytes = backlog_bytes(forward->to_backend, &length);
    size_t header;
    ssize_t sent;

    if (length == 0) {
        forward_end_output(forward);
        return;
    }
    sent = forward_send(forward->fd, bytes, length);
    if (sent < 0) {
        forward_output_failed(forward);
        return;
    }
    header = (size_t)sent < forward->header_left ? (size_t)sent : forward->header_left;
    forward->header_left = (uint16_t)(forward->header_left - header);
    backlog_drop(&forward->to_backend, (size_t)sent);
    forward_end_output(forward);
    trunkline_consume(forward->session, (size_t)sent - header);
}

static void forward_data(trunkline_session *session, const void *bytes, size_t length)
{
    struct forward *forward = trunkline_get_data(session);
    ssize_t sent = 0;

    if (forward->state == FORWARD_DISCARDING || forward->write_failed) {
        trunkline_consume(session, length);
        return;
    }
    if (forward->to_backend == NULL) {
        sent = forward_send(forward->fd, bytes, length);
    }
    if (sent < 0) {
        trunkline_consume(session, length);
        forward_output_failed(forward);
        return;
    }
    if (backlog_add(&forward->to_backend, (const unsigned char *)bytes + sent, length - (size_t)sent) != 0) {
        trunkline_abort(session);
        return;
    }
    trunkline_consume(session, (size_t)sent);
}

static void forward_end(trunkline_session *session)
{
    struct forward *forward = trunkline_get_data(session);

    forward->client_ended = true;
    forward_end_output(forward);
}

/* ------------------------------------------------------------------------------------------------ to the client */

static void forward_on_turn(trunkline_session *session, void *argument)
{
    (void)session;
    forward_read(argument);
}

/* The turn is over and the socket may hold more: goes on after the others of the worker. */
static void forward_yield(struct forward *forward)
{
    if (forward->timer == NULL) {
        forward->timer = trunkline_timer_new(forward->session, forward_on_turn, forward);
    }
    if (forward->timer != NULL) {
        trunkline_timer_start(forward->timer, 0);
    } else {
        trunkline_abort(forward->session);
    }
}

static void forward_backend_ended(struct forward *forward)
{
    if (forward->write_failed) {
        /* It went away with bytes of the client unread: never show that as a clean end. */
        trunkline_abort(forward->session);
        return;
    }
    forward->backend_ended = true;
    trunkline_end(forward->session);
}

static void forward_read(struct forward *forward)
{
    size_t total = 0;

    while (forward->state == FORWARD_RELAYING && !forward->backend_ended) {
        size_t room = trunkline_room(forward->session);
        ssize_t count;

        if (room == 0) {
            trunkline_want_room(forward->session);
            return;
        }
        if (total >= FORWARD_TURN_BYTES) {
            forward_yield(forward);
            return;
        }
        count = recv(forward->fd, forward_buffer, room < FORWARD_READ_BYTES ? room : FORWARD_READ_BYTES, 0);
        if (count > 0) {
            total += (size_t)count;
            if (trunkline_write(forward->session, forward_buffer, (size_t)count) != (size_t)count) {
                return; /* memory is out, and the session is closing */
            }
        } else if (count == 0) {
            forward_backend_ended(forward);
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            trunkline_abort(forward->session);
            return;
        }
    }
}

static void forward_drained(trunkline_session *session)
{
    forward_read(trunkline_get_data(session));
}

/* ------------------------------------------------------------------------------------------------ connecting */

static void forward_refuse(struct forward *forward)
{
    char text[FORWARD_NAME_MAX + 128];
    char reason[96];

    snprintf(text, sizeof(text), "%s: %s", forward->target->name, strerror_r(forward->failure, reason, sizeof(reason)));
    trunkline_refuse(forward->session, 502, text);
}

static int forward_keep_header(struct forward *forward)
{
    uint8_t header[PROXY_HEADER_MAX_BYTES];
    trunkline_client client;
    char text[256];
    size_t length;

    trunkline_get_client(forward->session, &client, text);
    length = proxy_header_make(&client, header);
    forward->header_left = (uint16_t)length;
    return backlog_add(&forward->to_backend, header, length);
}

static void forward_connected(struct forward *forward)
{
    trunkline_timer_free(&forward->timer);
    if (forward->target->proxy && forward_keep_header(forward) != 0) {
        forward->failure = ENOMEM;
        forward_close_socket(forward, true);
        forward_refuse(forward);
        return;
    }
    forward->state = FORWARD_RELAYING;
    if (trunkline_accept(forward->session) == 0) {
        forward_flush(forward);
        forward_read(forward);
    }
}

/* How the attempt ended: 0 well, an errno, or EINPROGRESS. */
static int forward_outcome(int fd)
{
    struct sockaddr_storage peer;
    socklen_t length = sizeof(peer);
    int failure = 0;
    socklen_t failure_length = sizeof(failure);

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &failure_length) != 0) {
        return errno;
    }
    if (failure == 0 && getpeername(fd, (struct sockaddr *)&peer, &length) != 0) {
        return errno == ENOTCONN ? EINPROGRESS : errno;
    }
    return failure;
}

static void forward_on_ready(trunkline_session *session, unsigned events, void *argument)
{
    struct forward *forward = argument;

    (void)session;
    if (forward->state == FORWARD_CONNECTING) {
        int outcome = forward_outcome(forward->fd);

        if (outcome == 0) {
            forward_connected(forward);
        } else if (outcome != EINPROGRESS) {
            forward->failure = outcome;
            forward_connect(forward);
        }
        return;
    }
    if ((events & TRUNKLINE_WRITABLE) != 0 && forward->state == FORWARD_RELAYING && !forward->write_failed) {
        forward_flush(forward);
    }
    if ((events & TRUNKLINE_READABLE) != 0) {
        forward_read(forward);
    }
}

static void forward_on_deadline(trunkline_session *session, void *argument)
{
    struct forward *forward = argument;

    (void)session;
    forward->failure = ETIMEDOUT;
    forward_connect(forward);
}

/* Starts an attempt: 0, or -1 with `failure` set and nothing left open. */
static int forward_attempt(struct forward *forward, const struct forward_address *address)
{
    const int on = 1;

    forward->fd = socket(address->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (forward->fd < 0) {
        forward->failure = errno;
        return -1;
    }
    /* A Unix socket knows neither, nor needs them. Keep-alive finds backends that vanished without a word. */
    (void)setsockopt(forward->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(forward->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    if (connect(forward->fd, (const struct sockaddr *)&address->address, address->length) != 0 &&
        errno != EINPROGRESS && errno != EINTR) {
        forward->failure = errno;
        forward_close_socket(forward, false);
        return -1;
    }
    forward->watch = trunkline_watch_new(forward->session, forward->fd, forward_on_ready, forward);
    if (forward->watch == NULL) {
        forward->failure = errno;
        forward_close_socket(forward, true);
        return -1;
    }
    return 0;
}

/* Tries the next address; refuses the session when there is none left. Each gets an equal share of the time. */
static void forward_connect(struct forward *forward)
{
    const struct forward_target *target = forward->target;

    forward_close_socket(forward, true);
    while (forward->next < target->count) {
        const struct forward_address *address = &target->addresses[forward->next];

        forward->next++;
        if (forward_attempt(forward, address) == 0) {
            trunkline_timer_start(forward->timer, target->connect_timeout_ms / target->count + 1);
            return;
        }
    }
    forward_refuse(forward);
}

static void forward_open(trunkline_session *session, void *service)
{
    struct forward *forward = calloc(1, sizeof(*forward));

    if (forward == NULL) {
        trunkline_refuse(session, 503, "out of memory");
        return;
    }
    forward->target = service;
    forward->session = session;
    forward->fd = -1;
    trunkline_set_data(session, forward);
    forward->timer = trunkline_timer_new(session, forward_on_deadline, forward);
    if (forward->timer == NULL) {
        trunkline_refuse(session, 503, "out of memory");
        return;
    }
    forward_connect(forward);
}

/* ------------------------------------------------------------------------------------------------ the service */

static const char *forward_setup(const char *argument, void **service)
{
    struct forward_target *target = NULL;
    const char *wrong = forward_target_new(argument, &target);

    *service = target;
    return wrong;
}

static void forward_teardown(void *service)
{
    forward_target_free(service);
}

const trunkline_handler handler_forward = {
    .abi = TRUNKLINE_ABI,
    .name = "forward",
    .setup = forward_setup,
    .teardown = forward_teardown,
    .open = forward_open,
    .data = forward_data,
    .end = forward_end,
    .drained = forward_drained,
    .closed = forward_closed,
};
