/*
 * A link pumps bytes between a transport, TLS and a trunk. It owns the TLS session, the trunk and what is pending for
 * the transport; the transport's memory is its owner's. It ends in one place, link_finish, which runs as a task of its
 * own so that no event of a link ever frees it under the feet of the code that called. One thread.
 */
#include "mux/link.h"

#include <assert.h>
#include <string.h>

#include "mux/limits.h"
#include "mux/memory.h"

#define LINK_READS_PER_TURN 8     /* 512 KiB, then the others of the worker get their turn */
#define LINK_LAST_FLUSH_MS  1000U /* for GOAWAY and resets, when the link is closing */

enum error_code scratch_init(struct scratch *scratch)
{
    memset(scratch, 0, sizeof(*scratch));
    scratch->input = memory_alloc(SCRATCH_INPUT_BYTES);
    scratch->output = memory_alloc(SCRATCH_OUTPUT_BYTES);
    scratch->frames = memory_alloc(TLS_RECORD_MAX_BYTES);
    if (scratch->input == NULL || scratch->output == NULL || scratch->frames == NULL) {
        scratch_dispose(scratch);
        return ERROR_NO_MEMORY;
    }
    return ERROR_NONE;
}

void scratch_dispose(struct scratch *scratch)
{
    memory_free(scratch->input);
    memory_free(scratch->output);
    memory_free(scratch->frames);
    memset(scratch, 0, sizeof(*scratch));
}

static const struct tls_events link_tls_events;

/* ------------------------------------------------------------------------------------------------ outbox */

void outbox_begin(struct outbox *outbox, struct scratch *scratch)
{
    assert(scratch->gathering == NULL && "one outbox gathers at a time");
    scratch->gathering = outbox;
    scratch->output_length = 0;
}

/* Writes what is pending, then `bytes`; what the transport does not take becomes pending. */
static enum error_code outbox_write(struct outbox *outbox, struct transport *transport, const uint8_t *bytes,
                                    size_t length)
{
    const uint8_t *first = NULL;
    size_t count;
    while ((count = chain_peek(&outbox->pending, &first)) > 0) {
        size_t written = 0;
        enum error_code error = transport_write(transport, first, count, &written);
        chain_consume(&outbox->pending, written);
        if (error == ERROR_WOULD_BLOCK || (error == ERROR_NONE && written < count)) {
            return chain_append(&outbox->pending, bytes, length);
        }
        if (error != ERROR_NONE) {
            return error;
        }
    }
    size_t written = 0;
    if (length > 0) {
        enum error_code error = transport_write(transport, bytes, length, &written);
        if (error != ERROR_NONE && error != ERROR_WOULD_BLOCK) {
            return error;
        }
    }
    return chain_append(&outbox->pending, bytes + written, length - written);
}

enum error_code outbox_add(struct outbox *outbox, struct scratch *scratch, struct transport *transport,
                           const uint8_t *bytes, size_t length)
{
    if (scratch->gathering != outbox) {
        return chain_append(&outbox->pending, bytes, length);
    }
    if (scratch->output_length + length > SCRATCH_OUTPUT_BYTES) {
        enum error_code error = outbox_write(outbox, transport, scratch->output, scratch->output_length);
        scratch->output_length = 0;
        if (error != ERROR_NONE) {
            return error;
        }
    }
    if (length > SCRATCH_OUTPUT_BYTES) {
        return outbox_write(outbox, transport, bytes, length);
    }
    memcpy(scratch->output + scratch->output_length, bytes, length);
    scratch->output_length += length;
    return ERROR_NONE;
}

enum error_code outbox_flush(struct outbox *outbox, struct scratch *scratch, struct transport *transport)
{
    size_t gathered = 0;
    if (scratch->gathering == outbox) {
        gathered = scratch->output_length;
        scratch->gathering = NULL;
        scratch->output_length = 0;
    }
    return outbox_write(outbox, transport, scratch->output, gathered);
}

/* ------------------------------------------------------------------------------------------------ ending */

static void link_move(struct link *link, enum link_state to)
{
    static const bool moves[LINK_STATE_COUNT][LINK_STATE_COUNT] = {
        [LINK_CONNECTING] = {[LINK_HANDSHAKE] = true, [LINK_CLOSED] = true},
        [LINK_HANDSHAKE] = {[LINK_GREETING] = true, [LINK_OPEN] = true, [LINK_CLOSED] = true},
        [LINK_GREETING] = {[LINK_OPEN] = true, [LINK_CLOSED] = true},
        [LINK_OPEN] = {[LINK_CLOSED] = true},
    };
    assert(moves[link->state][to]);
    link->state = (uint8_t)to;
}

/* Frees all that the link holds, with its trunk's streams told first; the transport is closed. */
static void link_release(struct link *link, enum transport_close how)
{
    if (link->state == LINK_CLOSED) {
        return;
    }
    link_move(link, LINK_CLOSED);
    scheduler_disarm(link->scheduler, &link->deadline);
    scheduler_cancel(link->scheduler, &link->flush);
    scheduler_cancel(link->scheduler, &link->read_more);
    transport_close(link->transport, how);
    trunk_free(&link->trunk);
    tls_dispose(&link->tls);
    chain_clear(&link->outbox.pending);
    chain_clear(&link->greeting);
}

void link_dispose(struct link *link)
{
    link_release(link, TRANSPORT_CLOSE_RESET);
}

static void link_finish(struct link *link)
{
    enum error_code error = link->error;
    /* An alert or GOAWAY that was flushed must reach the peer: a reset could overtake it. */
    link_release(link, link->closing == LINK_CLOSING ? TRANSPORT_CLOSE_CLEAN : TRANSPORT_CLOSE_RESET);
    link->events->closed(link, error);
}

void link_close(struct link *link, enum error_code error)
{
    if (link->closing || link->state == LINK_CLOSED) {
        return;
    }
    link->closing = LINK_CLOSING;
    link->error = error;
    scheduler_arm(link->scheduler, &link->deadline, LINK_LAST_FLUSH_MS);
    scheduler_defer(link->scheduler, &link->flush);
}

/* The transport is of no more use: nothing is flushed. */
static void link_abandon(struct link *link, enum error_code error)
{
    if (!link->closing) {
        link->error = error;
    }
    link->closing = LINK_ABANDONED;
    scheduler_defer(link->scheduler, &link->flush);
}

static void link_deadline(struct timer *timer)
{
    struct link *link = container_of(timer, struct link, deadline);
    if (link->lingering) {
        /* All was written and FIN follows: the system delivers it without us, and a reset would drop it. */
        link->peer_finished = 1;
        scheduler_defer(link->scheduler, &link->flush);
        return;
    }
    link_abandon(link, ERROR_TIMEOUT);
}

/* ------------------------------------------------------------------------------------------------ sending */

/* Lets the trunk make frames, a TLS record's worth at a time, until the transport is full. */
static enum error_code link_send_frames(struct link *link)
{
    while (chain_empty(&link->outbox.pending)) {
        size_t length = 0;
        enum error_code error = trunk_send(link->trunk, link->scratch->frames, TLS_RECORD_MAX_BYTES, &length);
        if (error != ERROR_NONE) {
            return error;
        }
        if (length == 0) {
            break;
        }
        outbox_begin(&link->outbox, link->scratch);
        error = tls_send(&link->tls, &link_tls_events, link->scratch->frames, length);
        enum error_code flushed = outbox_flush(&link->outbox, link->scratch, link->transport);
        if (error != ERROR_NONE || flushed != ERROR_NONE) {
            return error != ERROR_NONE ? error : flushed;
        }
    }
    return ERROR_NONE;
}

static enum error_code link_send(struct link *link)
{
    if (link->state == LINK_CONNECTING) {
        return ERROR_NONE;
    }
    enum error_code error = outbox_flush(&link->outbox, link->scratch, link->transport);
    if (error == ERROR_NONE && link->trunk != NULL && tls_established(&link->tls) && !link->goodbye) {
        error = link_send_frames(link);
    }
    return error;
}

/* After the last frame of a clean end: close_notify, once. */
static enum error_code link_say_goodbye(struct link *link)
{
    bool clean = link->error == ERROR_NONE || link->error == ERROR_PEER_CLOSED || link->error == ERROR_SHUTDOWN;
    if (!clean || link->goodbye || !chain_empty(&link->outbox.pending) || !tls_established(&link->tls)) {
        return ERROR_NONE;
    }
    link->goodbye = 1;
    outbox_begin(&link->outbox, link->scratch);
    (void)tls_finish(&link->tls, &link_tls_events);
    return outbox_flush(&link->outbox, link->scratch, link->transport);
}

/* Reads and drops what still comes, until the peer's FIN. */
static void link_discard(struct link *link)
{
    for (int reads = 0; reads < LINK_READS_PER_TURN; reads++) {
        size_t length = 0;
        enum error_code error = transport_read(link->transport, link->scratch->input, SCRATCH_INPUT_BYTES, &length);
        if (error == ERROR_WOULD_BLOCK) {
            return;
        }
        if (error != ERROR_NONE) {
            link_abandon(link, error);
            return;
        }
        if (length == 0) {
            link->peer_finished = 1;
            scheduler_defer(link->scheduler, &link->flush);
            return;
        }
    }
    scheduler_defer(link->scheduler, &link->read_more);
}

/* All is said. FIN, and then the peer's: bytes of its that meet a closed socket would make a reset, which drops what
 * is still on its way to it: the last bytes of sessions that ended well, or an alert. The streams need not wait. */
static void link_linger(struct link *link)
{
    link->lingering = 1;
    trunk_free(&link->trunk);
    transport_finish(link->transport);
    link_discard(link);
}

static void link_run_flush(struct task *task)
{
    struct link *link = container_of(task, struct link, flush);
    bool quiet = link->lingering || link->closing == LINK_ABANDONED;
    enum error_code error = quiet ? ERROR_NONE : link_send(link);
    if (error == ERROR_NONE && !quiet && link->closing == LINK_CLOSING) {
        error = link_say_goodbye(link);
    }
    if (error != ERROR_NONE) {
        link_abandon(link, error);
    }
    bool said = link->closing == LINK_CLOSING && chain_empty(&link->outbox.pending);
    if (link->closing == LINK_ABANDONED || link->peer_finished || (said && link->state == LINK_CONNECTING)) {
        link_finish(link);
    } else if (said && !link->lingering) {
        link_linger(link);
    }
}

/* ------------------------------------------------------------------------------------------------ receiving */

static void link_on_output(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct link *link = container_of(tls, struct link, tls);
    enum error_code error = outbox_add(&link->outbox, link->scratch, link->transport, bytes, length);
    if (error != ERROR_NONE) {
        link_abandon(link, error);
    }
    scheduler_defer(link->scheduler, &link->flush);
}

static void link_on_established(struct tls_session *tls, const struct tls_peer_info *peer)
{
    struct link *link = container_of(tls, struct link, tls);
    enum error_code error = link->events->established(link, peer);
    if (error != ERROR_NONE) {
        tls_abort(tls, &link_tls_events,
                  error == ERROR_TLS_CERTIFICATE ? TLS_ALERT_ACCESS_DENIED : TLS_ALERT_INTERNAL_ERROR);
        link_close(link, error);
    } else if (link->state == LINK_HANDSHAKE) {
        link_move(link, LINK_GREETING);
    }
}

/* Collects the greeting. Once it is complete the owner is told from a task, outside of TLS and of this read, as it may
 * send the link to another thread; what came after the greeting waits with it. */
static void link_on_greeting(struct link *link, const uint8_t *bytes, size_t length)
{
    if (chain_append(&link->greeting, bytes, length) != ERROR_NONE) {
        link_close(link, ERROR_NO_MEMORY);
        return;
    }
    if (link->greeted) {
        return;
    }
    uint8_t first[TRUNK_GREETING_MAX_BYTES];
    size_t count = chain_copy(&link->greeting, 0, first, sizeof(first));
    enum error_code error = trunk_greeting_parse(first, count, &link->edge_worker);
    if (error == ERROR_NONE) {
        link->greeted = 1;
        scheduler_defer(link->scheduler, &link->read_more);
    } else if (error != ERROR_WOULD_BLOCK) {
        link_close(link, error);
    }
}

static void link_feed_trunk(struct link *link, const uint8_t *bytes, size_t length)
{
    enum error_code error = trunk_receive(link->trunk, bytes, length);
    if (error != ERROR_NONE) {
        link_close(link, error);
    }
}

static void link_on_data(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct link *link = container_of(tls, struct link, tls);
    if (link->closing) {
        return;
    }
    if (link->trunk != NULL) {
        link_feed_trunk(link, bytes, length);
    } else if (link->state == LINK_GREETING) {
        link_on_greeting(link, bytes, length);
    }
}

static void link_on_end(struct tls_session *tls)
{
    link_close(container_of(tls, struct link, tls), ERROR_PEER_CLOSED);
}

static const struct tls_events link_tls_events = {
    .output = link_on_output,
    .established = link_on_established,
    .data = link_on_data,
    .end = link_on_end,
};

/* The greeting is complete and the owner has not yet said what becomes of it. */
static bool link_awaits_trunk(const struct link *link)
{
    return link->greeted && link->state == LINK_GREETING;
}

/* Reads until the transport is empty or the turn is over. */
static void link_read(struct link *link)
{
    if (link->lingering) {
        link_discard(link);
        return;
    }
    for (int reads = 0; !link->closing && !link_awaits_trunk(link); reads++) {
        if (reads == LINK_READS_PER_TURN) {
            scheduler_defer(link->scheduler, &link->read_more);
            return;
        }
        size_t length = 0;
        enum error_code error = transport_read(link->transport, link->scratch->input, SCRATCH_INPUT_BYTES, &length);
        if (error == ERROR_WOULD_BLOCK) {
            return;
        }
        if (error != ERROR_NONE || length == 0) {
            link_abandon(link, error != ERROR_NONE ? error : ERROR_TRUNCATED);
            return;
        }
        error = tls_receive(&link->tls, &link_tls_events, link->scratch->input, length);
        if (error != ERROR_NONE) {
            link_close(link, error); /* an alert waits in the outbox */
            return;
        }
    }
}

static void link_run_read(struct task *task)
{
    struct link *link = container_of(task, struct link, read_more);
    if (!link->closing && link_awaits_trunk(link) && link->events->greeted(link, link->edge_worker)) {
        return; /* it may be another thread's by now: not even a look at it is allowed */
    }
    link_read(link);
}

static enum error_code link_connected(struct link *link)
{
    link_move(link, LINK_HANDSHAKE);
    outbox_begin(&link->outbox, link->scratch);
    enum error_code error = tls_start(&link->tls, &link_tls_events);
    enum error_code flushed = outbox_flush(&link->outbox, link->scratch, link->transport);
    return error != ERROR_NONE ? error : flushed;
}

void link_ready(struct link *link, unsigned transport_events)
{
    if (link->state == LINK_CLOSED || link->scheduler == NULL) {
        return;
    }
    if ((transport_events & TRANSPORT_WRITABLE) && link->state == LINK_CONNECTING) {
        enum error_code error = link_connected(link);
        if (error != ERROR_NONE) {
            link_abandon(link, error);
            return;
        }
    }
    if (transport_events & TRANSPORT_WRITABLE) {
        scheduler_defer(link->scheduler, &link->flush);
    }
    if ((transport_events & TRANSPORT_READABLE) && link->state != LINK_CONNECTING && link->state != LINK_CLOSED) {
        link_read(link);
    }
}

/* ------------------------------------------------------------------------------------------------ trunk */

static void link_on_want_send(struct trunk_carrier *carrier)
{
    struct link *link = container_of(carrier, struct link, carrier);
    scheduler_defer(link->scheduler, &link->flush);
}

static void link_on_failed(struct trunk_carrier *carrier, enum error_code error)
{
    link_close(container_of(carrier, struct link, carrier), error);
}

static enum error_code link_feed_greeting(struct link *link)
{
    struct chain early = link->greeting;
    chain_init(&link->greeting);
    enum error_code error = ERROR_NONE;
    const uint8_t *bytes = NULL;
    size_t length;
    while (error == ERROR_NONE && (length = chain_peek(&early, &bytes)) > 0) {
        error = trunk_receive(link->trunk, bytes, length);
        chain_consume(&early, length);
    }
    chain_clear(&early);
    return error;
}

enum error_code link_open_trunk(struct link *link, const struct trunk_settings *settings,
                                const struct trunk_events *events, void *owner)
{
    enum error_code error = trunk_new(&link->trunk, settings, link->scheduler, &link->carrier, events, owner);
    if (error == ERROR_NONE) {
        link_move(link, LINK_OPEN);
        scheduler_disarm(link->scheduler, &link->deadline);
        error = link_feed_greeting(link);
    }
    if (error != ERROR_NONE) {
        link_close(link, error);
    }
    return error;
}

/* ------------------------------------------------------------------------------------------------ beginning */

static void link_prepare(struct link *link, struct transport *transport, uint32_t handshake_timeout_ms,
                         const struct link_events *events)
{
    memset(link, 0, sizeof(*link));
    link->events = events;
    link->transport = transport;
    link->carrier = (struct trunk_carrier){.want_send = link_on_want_send, .failed = link_on_failed};
    link->handshake_timeout_ms = handshake_timeout_ms;
    chain_init(&link->outbox.pending);
    chain_init(&link->greeting);
    task_init(&link->flush, link_run_flush);
    task_init(&link->read_more, link_run_read);
    timer_init(&link->deadline, link_deadline);
}

void link_attach(struct link *link, struct scheduler *scheduler, struct scratch *scratch)
{
    link->scheduler = scheduler;
    link->scratch = scratch;
    scheduler_arm(scheduler, &link->deadline, link->handshake_timeout_ms);
    if (!chain_empty(&link->outbox.pending)) {
        scheduler_defer(scheduler, &link->flush);
    }
}

void link_detach(struct link *link)
{
    assert(link->state == LINK_GREETING && !link->closing);
    scheduler_disarm(link->scheduler, &link->deadline);
    scheduler_cancel(link->scheduler, &link->flush);
    scheduler_cancel(link->scheduler, &link->read_more);
    tls_rest(&link->tls);
    link->scheduler = NULL;
    link->scratch = NULL;
}

enum error_code link_init_opener(struct link *link, struct scheduler *scheduler, struct scratch *scratch,
                                 struct transport *transport, struct tls_context *context, const char *server_name,
                                 uint32_t handshake_timeout_ms, const struct link_events *events)
{
    link_prepare(link, transport, handshake_timeout_ms, events);
    enum error_code error = tls_init_client(&link->tls, context, server_name, NULL);
    if (error == ERROR_NONE) {
        link_attach(link, scheduler, scratch);
    }
    return error;
}

enum error_code link_init_acceptor(struct link *link, struct scheduler *scheduler, struct scratch *scratch,
                                   struct transport *transport, struct tls_context *context,
                                   uint32_t handshake_timeout_ms, const struct link_events *events)
{
    link_prepare(link, transport, handshake_timeout_ms, events);
    enum error_code error = tls_init_server(&link->tls, context, NULL);
    if (error == ERROR_NONE) {
        link->state = LINK_HANDSHAKE; /* the transport is connected already */
        link_attach(link, scheduler, scratch);
    }
    return error;
}
