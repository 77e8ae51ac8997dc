/*
 * Sends back what it receives. What the client cannot take back yet is kept and not consumed, so that a client that
 * does not read is stopped by its own window. A session owns its echo only while something is kept. The session's
 * worker.
 */
#include "handlers.h"

#include <stdlib.h>

#include "backlog.h"

struct echo {
    struct backlog *kept;
    int ended; /* the client's end came: ours follows what is kept */
};

static void echo_free(trunkline_session *session)
{
    struct echo *echo = trunkline_get_data(session);

    if (echo != NULL) {
        backlog_free(&echo->kept);
        free(echo);
        trunkline_set_data(session, NULL);
    }
}

/* -1 when memory is out. */
static int echo_keep(trunkline_session *session, const unsigned char *bytes, size_t length)
{
    struct echo *echo = trunkline_get_data(session);

    if (echo == NULL) {
        echo = calloc(1, sizeof(*echo));
        if (echo == NULL) {
            return -1;
        }
        trunkline_set_data(session, echo);
    }
    return backlog_add(&echo->kept, bytes, length);
}

static void echo_open(trunkline_session *session, void *service)
{
    (void)service;
    trunkline_accept(session);
}

static void echo_data(trunkline_session *session, const void *bytes, size_t length)
{
    size_t taken = 0;

    if (trunkline_get_data(session) == NULL) {
        taken = trunkline_write(session, bytes, length);
        trunkline_consume(session, taken);
    }
    if (taken < length && echo_keep(session, (const unsigned char *)bytes + taken, length - taken) != 0) {
        trunkline_abort(session);
    }
}

static void echo_end(trunkline_session *session)
{
    struct echo *echo = trunkline_get_data(session);

    if (echo == NULL) {
        trunkline_end(session);
    } else {
        echo->ended = 1;
    }
}

static void echo_drained(trunkline_session *session)
{
    struct echo *echo = trunkline_get_data(session);
    const unsigned char *bytes;
    size_t length;
    size_t taken;
    int ended;

    if (echo == NULL) {
        return;
    }
    bytes = backlog_bytes(echo->kept, &length);
    taken = trunkline_write(session, bytes, length);
    backlog_drop(&echo->kept, taken);
    if (taken == length) {
        ended = echo->ended;
        echo_free(session);
        if (ended) {
            trunkline_end(session);
        }
    }
    trunkline_consume(session, taken);
}

static void echo_closed(trunkline_session *session, trunkline_reason reason)
{
    (void)reason;
    echo_free(session);
}

const trunkline_handler handler_echo = {
    .abi = TRUNKLINE_ABI,
    .name = "echo",
    .open = echo_open,
    .data = echo_data,
    .end = echo_end,
    .drained = echo_drained,
    .closed = echo_closed,
};
