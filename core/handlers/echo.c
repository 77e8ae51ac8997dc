/*
 * Sends back what it receives. What the client cannot take back yet is kept and not consumed, so that a client that
 * does not read is stopped by its own window. A session owns its echo only while something is kept. The session's
 * worker.
 *
 * A session that is opened again needs no note: what came from the client and what went to it are the same bytes, so
 * the two counts tell where to go on.
 */
#include "handlers.h"

#include <stdlib.h>

#include "backlog.h"

struct echo {
    struct backlog *kept;
    size_t skip; /* bytes that come once more, and were sent back before */
    int ended;   /* the client's end came: ours follows what is kept */
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

/* The session's, made if need be; NULL when memory is out. */
static struct echo *echo_get(trunkline_session *session)
{
    struct echo *echo = trunkline_get_data(session);

    if (echo == NULL) {
        echo = calloc(1, sizeof(*echo));
        trunkline_set_data(session, echo);
    }
    return echo;
}

/* -1 when memory is out. */
static int echo_keep(trunkline_session *session, const unsigned char *bytes, size_t length)
{
    struct echo *echo = echo_get(session);

    return echo != NULL ? backlog_add(&echo->kept, bytes, length) : -1;
}

/* 0, or the status to refuse with. */
static int echo_reopen(trunkline_session *session)
{
    trunkline_reopening reopening;
    int32_t ahead;
    struct echo *echo;

    if (!trunkline_get_reopening(session, &reopening)) {
        return 0;
    }
    ahead = (int32_t)((uint32_t)reopening.delivered - (uint32_t)reopening.consumed);
    if (ahead < 0) {
        return 503; /* some bytes were consumed, and their echo was lost with the earlier core */
    }
    if (ahead > 0) {
        echo = echo_get(session);
        if (echo == NULL) {
            return 503;
        }
        echo->skip = (size_t)ahead;
    }
    return 0;
}

static void echo_open(trunkline_session *session, void *service)
{
    int status = echo_reopen(session);

    (void)service;
    if (status != 0) {
        trunkline_refuse(session, status, "the echo of some bytes is lost");
        return;
    }
    trunkline_accept(session);
}

/* How many of the bytes are not to be sent back. */
static size_t echo_skip(trunkline_session *session, size_t length)
{
    struct echo *echo = trunkline_get_data(session);
    size_t skipped = echo == NULL ? 0 : (length < echo->skip ? length : echo->skip);

    if (skipped > 0) {
        echo->skip -= skipped;
        trunkline_consume(session, skipped);
        if (echo->skip == 0) {
            echo_free(session); /* nothing is kept while bytes are skipped */
        }
    }
    return skipped;
}

static void echo_data(trunkline_session *session, const void *data, size_t size)
{
    size_t skipped = echo_skip(session, size);
    const unsigned char *bytes = (const unsigned char *)data + skipped;
    size_t length = size - skipped;
    size_t taken = 0;

    if (trunkline_get_data(session) == NULL) {
        taken = trunkline_write(session, bytes, length);
        trunkline_consume(session, taken);
    }
    if (taken < length && echo_keep(session, bytes + taken, length - taken) != 0) {
        trunkline_abort(session);
    }
}

static void echo_end(trunkline_session *session)
{
    struct echo *echo = trunkline_get_data(session);

    if (echo == NULL || (echo->kept == NULL && echo->skip > 0)) {
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

    if (echo == NULL || echo->kept == NULL) {
        return; /* nothing is kept; but bytes may still have to be skipped */
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
