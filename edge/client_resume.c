/*
 * Clients whose trunk is lost: their session is still with its core, so they wait for another trunk to that one, up to
 * the resume timeout. Meanwhile both directions go on within bounds: the stream takes what the client sends, and what
 * had come for the client is delivered. A client that waits has an `extra` in the list of its core. One thread.
 */
#include "edge/client.h"

#include <string.h>

#include "edge/relay.h"
#include "edge/uplink.h"
#include "mux/memory.h"

#define RESUMES_PER_BATCH 256U  /* a lost trunk may have had 15,000 sessions: the others get their turn between */
#define GIVEN_UP_PER_TURN 1024U /* likewise */
#define MOVE_LOOK_MS      100U  /* how much later than it may a client is moved to another core */
#define REFUSED_PAUSE_MS  100U  /* a core that has no room now is left alone for so long */

static uint64_t resume_timeout_us(const struct relay *relay)
{
    return 1000U * (uint64_t)relay->settings->resume_timeout_ms;
}

static struct edge_client_extra *resume_first(struct list *suspended)
{
    struct list_node *node = list_first(suspended);
    return node != NULL ? container_of(node, struct edge_client_extra, waiting) : NULL;
}

bool edge_resumes_waiting(const struct relay *relay)
{
    for (size_t i = 0; i < relay->pool.core_count; i++) {
        if (!list_empty(&relay->pool.cores[i].suspended)) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------------------------------------ deadline */

/* Until the longest of all waits is too long. */
static void resume_arm(struct relay *relay)
{
    uint64_t oldest_us = UINT64_MAX;
    for (size_t i = 0; i < relay->pool.core_count; i++) {
        const struct edge_client_extra *extra = resume_first(&relay->pool.cores[i].suspended);
        if (extra != NULL && extra->suspended_us < oldest_us) {
            oldest_us = extra->suspended_us;
        }
    }
    if (oldest_us == UINT64_MAX) {
        return;
    }
    uint64_t due_us = oldest_us + resume_timeout_us(relay);
    uint64_t now_us = relay->scheduler->now_us;
    scheduler_arm(relay->scheduler, &relay->resumes.deadline, due_us > now_us ? (due_us - now_us) / 1000U + 1U : 0U);
}

static void resume_give_up(struct edge_client_extra *extra)
{
    struct edge_client *client = extra->client;
    list_remove(&extra->waiting);
    edge_client_stream_lost(client, ERROR_TIMEOUT, 0);
}

static void resume_deadline(struct timer *timer)
{
    struct edge_resumes *resumes = container_of(timer, struct edge_resumes, deadline);
    struct relay *relay = container_of(resumes, struct relay, resumes);
    uint64_t now_us = relay->scheduler->now_us;
    unsigned given_up = 0;
    for (size_t i = 0; i < relay->pool.core_count; i++) {
        struct edge_client_extra *extra;
        while (given_up < GIVEN_UP_PER_TURN && (extra = resume_first(&relay->pool.cores[i].suspended)) != NULL &&
               extra->suspended_us + resume_timeout_us(relay) <= now_us) {
            resume_give_up(extra);
            given_up++;
        }
    }
    resume_arm(relay);
}

static void resume_move_due(struct timer *timer)
{
    struct edge_resumes *resumes = container_of(timer, struct edge_resumes, move);
    struct relay *relay = container_of(resumes, struct relay, resumes);
    if (edge_resumes_waiting(relay)) {
        resumes->moves = true;
        relay_settle_later(relay);
        uint32_t after_ms = relay->settings->reopen_after_ms;
        /* Others were suspended later: they must not wait for twice as long. */
        scheduler_arm(relay->scheduler, &resumes->move, (after_ms < MOVE_LOOK_MS ? after_ms : MOVE_LOOK_MS) + 1U);
    }
}

/* ------------------------------------------------------------------------------------------------ no room */

static void resume_pause_over(struct timer *timer)
{
    struct edge_resumes *resumes = container_of(timer, struct edge_resumes, pause);
    struct relay *relay = container_of(resumes, struct relay, resumes);
    relay_settle_later(relay);
}

void edge_client_suspend_refused(struct edge_client *client, struct uplink *uplink)
{
    struct relay *relay = edge_client_relay(client);
    if (uplink->state == UPLINK_UP) {
        relay->pool.cores[uplink->core].resumes_after_us =
            relay->scheduler->now_us + 1000U * (uint64_t)REFUSED_PAUSE_MS;
        scheduler_arm(relay->scheduler, &relay->resumes.pause, REFUSED_PAUSE_MS + 1U);
    }
    if (client->extra != NULL) {
        client->extra->foreign = true;
    }
    relay->resumes.moves = relay->resumes.moves || client->reopens;
    edge_client_suspend(client, uplink);
}

/* ------------------------------------------------------------------------------------------------ beginning and end */

void edge_resumes_init(struct edge_resumes *resumes)
{
    timer_init(&resumes->pause, resume_pause_over);
    timer_init(&resumes->deadline, resume_deadline);
    timer_init(&resumes->move, resume_move_due);
}

void edge_resumes_dispose(struct edge_resumes *resumes)
{
    struct relay *relay = container_of(resumes, struct relay, resumes);
    scheduler_disarm(relay->scheduler, &resumes->deadline);
    scheduler_disarm(relay->scheduler, &resumes->move);
    scheduler_disarm(relay->scheduler, &resumes->pause);
}

/* ------------------------------------------------------------------------------------------------ resuming */

/* The wait counts from the first loss on: a trunk that is lost before it has answered does not prolong it, so that the
 * list is searched from its end for the place. */
static void resume_enlist(struct edge_client_extra *extra, struct pool_core *core)
{
    struct list_node *node = core->suspended.head.previous;
    while (node != &core->suspended.head &&
           container_of(node, struct edge_client_extra, waiting)->suspended_us > extra->suspended_us) {
        node = node->previous;
    }
    list_insert_after(node, &extra->waiting);
    core->own_waits = core->own_waits || !extra->foreign;
}

/* Of one who waits: the deadlines. */
static void resume_await(struct edge_client *client)
{
    struct relay *relay = edge_client_relay(client);
    if (!timer_armed(&relay->resumes.deadline)) {
        resume_arm(relay);
    }
    if (client->reopens && !timer_armed(&relay->resumes.move)) {
        scheduler_arm(relay->scheduler, &relay->resumes.move, relay->settings->reopen_after_ms + 1U);
    }
}

void edge_client_suspend(struct edge_client *client, struct uplink *uplink)
{
    struct relay *relay = edge_client_relay(client);
    struct edge_client_extra *extra = edge_client_extra_get(client);
    if (extra == NULL) {
        edge_client_stream_lost(client, ERROR_NO_MEMORY, 0);
        return;
    }
    if (extra->suspended_us == 0) {
        extra->suspended_us = relay->scheduler->now_us != 0 ? relay->scheduler->now_us : 1;
        relay->counters.sessions_suspended++;
    }
    extra->core = uplink->core;
    uplink->suspended++;
    if (extra->leaving) {
        return; /* it is looked at soon, and is most likely over */
    }
    resume_enlist(extra, &relay->pool.cores[extra->core]);
    resume_await(client);
    relay_settle_later(relay);
}

void edge_resumes_enlist(struct edge_client *client, uint32_t waited_ms)
{
    struct relay *relay = edge_client_relay(client);
    struct edge_client_extra *extra = client->extra;
    uint64_t now_us = relay->scheduler->now_us;
    uint64_t waited_us = 1000U * (uint64_t)waited_ms;
    extra->suspended_us = now_us > waited_us ? now_us - waited_us : 1;
    resume_enlist(extra, &relay->pool.cores[extra->core]);
    resume_await(client);
}

void edge_client_wait_again(struct edge_client *client)
{
    struct relay *relay = edge_client_relay(client);
    struct edge_client_extra *extra = client->extra;
    if (client->state != EDGE_CLIENT_RELAYING || extra == NULL || !trunk_stream_suspended(&client->stream) ||
        list_node_linked(&extra->waiting)) {
        return;
    }
    resume_enlist(extra, &relay->pool.cores[extra->core]);
    resume_await(client);
    relay->resumes.moves = true;
    relay_settle_later(relay);
}

void edge_client_stream_suspended(void *owner, struct trunk_stream *stream, enum error_code reason)
{
    struct edge_client *client = container_of(stream, struct edge_client, stream);
    if (reason == ERROR_REFUSED) {
        edge_client_suspend_refused(client, owner);
    } else {
        edge_client_suspend(client, owner);
    }
    if (client->extra != NULL && reason == ERROR_SHUTDOWN) {
        client->extra->moved = true;
        edge_client_relay(client)->resumes.moves = true;
    }
}

void edge_client_stream_noted(void *owner, struct trunk_stream *stream, const struct metadata_note *note)
{
    struct edge_client *client = container_of(stream, struct edge_client, stream);
    /* Without offsets nothing was left: it only says that the session may be opened again. */
    bool left = note->length > 0 || note->sent != 0 || note->consumed != 0;
    struct edge_client_extra *extra = left ? edge_client_extra_get(client) : client->extra;
    struct metadata_note *copy = NULL;
    (void)owner;
    if (left) {
        copy = extra != NULL ? memory_alloc(sizeof(*copy) + note->length) : NULL;
        if (copy == NULL) {
            edge_client_abort(client, TLS_ALERT_INTERNAL_ERROR,
                              ERROR_NO_MEMORY); /* an older note would be a wrong one */
            return;
        }
        *copy = *note;
        copy->bytes = memcpy(copy + 1, note->bytes, note->length);
    }
    client->reopens = 1;
    if (extra != NULL) {
        memory_free(extra->note);
        extra->note = copy;
        edge_client_extra_settle(client);
    }
}

void edge_client_stream_resumed(void *owner, struct trunk_stream *stream)
{
    struct edge_client *client = container_of(stream, struct edge_client, stream);
    (void)owner;
    client->extra->suspended_us = 0;
    client->extra->moved = false;
    client->extra->foreign = false;
    edge_client_relay(client)->counters.sessions_resumed++;
    edge_client_defer(client); /* whether reading may go on */
}

/* A request that was not answered may have been processed: it is sent again under the same id, so that a core that has
 * the session goes on with it, and one that has not begins it. */
static enum error_code resume_request(struct edge_client *client, struct trunk *trunk)
{
    struct metadata metadata = edge_client_metadata(client);
    if (client->state == EDGE_CLIENT_RELAYING) {
        return trunk_stream_resume(trunk, &client->stream, &metadata);
    }
    trunk_stream_reset(&client->stream, TRUNK_CODE_CANCEL); /* nothing has come or gone on it */
    return trunk_stream_open(trunk, &client->stream, &metadata);
}

/* False when no trunk takes it now. */
static bool resume_ask(struct edge_client_extra *extra, struct uplink *uplink)
{
    if (resume_request(extra->client, uplink->link.trunk) != ERROR_NONE) {
        return false;
    }
    list_remove(&extra->waiting);
    uplink_count_open(uplink);
    return true;
}

/* Under a new id: the core that had the session may have it still, and others that were asked in vain; none of them
 * knows what is said from now on, so none may go on with it. */
static bool resume_ask_elsewhere(struct relay *relay, struct edge_client_extra *extra, struct uplink *uplink)
{
    struct edge_client *client = extra->client;
    uint64_t number = client->number;
    if (uplink->core != extra->core) {
        client->number = ++relay->sessions_numbered;
    }
    bool asked = resume_ask(extra, uplink);
    if (!asked) {
        client->number = number;
    }
    return asked;
}

/* May another core have it, which opens it again? */
static bool resume_may_move(const struct relay *relay, const struct edge_client_extra *extra)
{
    uint64_t since_us = extra->suspended_us + 1000U * (uint64_t)relay->settings->reopen_after_ms;
    return extra->client->reopens && extra->client->state == EDGE_CLIENT_RELAYING &&
           trunk_stream_reopenable(&extra->client->stream) && (extra->moved || since_us <= relay->scheduler->now_us);
}

/* Those whose core has no trunk, on trunks to others. False when so many were asked for that the rest has to wait. */
static bool resume_elsewhere(struct relay *relay, struct list *suspended, unsigned *asked)
{
    list_for_each(suspended, node) {
        struct edge_client_extra *extra = container_of(node, struct edge_client_extra, waiting);
        if (!resume_may_move(relay, extra)) {
            continue;
        }
        struct uplink *uplink = pool_pick_resuming(&relay->pool);
        if (uplink == NULL || !resume_ask_elsewhere(relay, extra, uplink)) {
            return true;
        }
        if (++*asked == RESUMES_PER_BATCH) {
            return false;
        }
    }
    return true;
}

/* Those of one core, on trunks to it; while it pauses, only those whose session may be there. As above. */
static bool resume_there(struct relay *relay, size_t number, unsigned *asked)
{
    struct pool_core *core = &relay->pool.cores[number];
    bool pauses = pool_core_pauses(&relay->pool, number);
    if (pauses && !core->own_waits) {
        return true; /* thousands may wait, and need not be gone through */
    }
    list_for_each(&core->suspended, node) {
        struct edge_client_extra *extra = container_of(node, struct edge_client_extra, waiting);
        if (pauses && extra->foreign) {
            continue;
        }
        struct uplink *uplink = pool_pick_core(&relay->pool, number);
        if (uplink == NULL || !resume_ask(extra, uplink)) {
            return true;
        }
        if (++*asked == RESUMES_PER_BATCH) {
            return false;
        }
    }
    core->own_waits = false;
    return true;
}

void edge_resumes_serve(struct relay *relay)
{
    /* The lists are gone through only when there may be somebody to be found, as thousands may wait in vain. */
    bool moves = relay->resumes.moves && pool_pick_resuming(&relay->pool) != NULL;
    unsigned asked = 0;
    for (size_t i = 0; i < relay->pool.core_count; i++) {
        if (!resume_there(relay, i, &asked) ||
            (moves && !resume_elsewhere(relay, &relay->pool.cores[i].suspended, &asked))) {
            scheduler_defer(relay->scheduler, &relay->settle);
            return;
        }
    }
    relay->resumes.moves = relay->resumes.moves && !moves;
}
