/* The engine of one edge worker: see relay.h. Owns its clients, its pool, the scratch. One thread. */
#include "edge/relay.h"

#include <assert.h>
#include <string.h>

#include "edge/client.h"
#include "mux/memory.h"

static const char *const state_names[RELAY_STATE_COUNT] = {
    [RELAY_RUNNING] = "running",
    [RELAY_DRAINING] = "draining",
    [RELAY_CLOSING] = "closing",
    [RELAY_STOPPED] = "stopped",
};

#define MOVE(state) (1U << RELAY_##state)

static const unsigned legal_moves[RELAY_STATE_COUNT] = {
    [RELAY_RUNNING] = MOVE(DRAINING),
    [RELAY_DRAINING] = MOVE(CLOSING),
    [RELAY_CLOSING] = MOVE(STOPPED),
};

const char *relay_state_name(enum relay_state state)
{
    return state < RELAY_STATE_COUNT ? state_names[state] : "unknown";
}

static void relay_move(struct relay *relay, enum relay_state to)
{
    assert((legal_moves[relay->state] & (1U << to)) && "a relay made a move that its diagram does not have");
    LOG(LOG_DEBUG, "relay-state", LOG_TEXT("from", state_names[relay->state]), LOG_TEXT("to", state_names[to]));
    relay->state = (uint8_t)to;
}

/* ------------------------------------------------------------------------------------------------ settling */

void relay_settle_later(struct relay *relay)
{
    if (relay->state != RELAY_RUNNING || !list_empty(&relay->waiting) || pool_has_draining(&relay->pool) ||
        edge_resumes_waiting(relay)) {
        scheduler_defer(relay->scheduler, &relay->settle);
    }
}

static void relay_serve_waiting(struct relay *relay)
{
    struct list_node *node;
    while ((node = list_first(&relay->waiting)) != NULL) {
        if (!edge_client_open(container_of(node, struct edge_client_extra, waiting)->client, NULL)) {
            return;
        }
    }
}

static void relay_settle(struct task *task)
{
    struct relay *relay = container_of(task, struct relay, settle);
    pool_settle(&relay->pool);
    edge_resumes_serve(relay);
    relay_serve_waiting(relay);
    if (relay->state == RELAY_DRAINING && relay->client_count == 0) {
        scheduler_disarm(relay->scheduler, &relay->drain);
        relay_move(relay, RELAY_CLOSING);
        pool_close(&relay->pool);
    }
    if (relay->state == RELAY_CLOSING && pool_closed(&relay->pool)) {
        relay_move(relay, RELAY_STOPPED);
        relay->ops->stopped(relay->owner);
    }
}

/* ------------------------------------------------------------------------------------------------ draining */

static void relay_drain_over(struct timer *timer)
{
    struct relay *relay = container_of(timer, struct relay, drain);
    /* Whoever is reset is freed later, by a task. */
    for (struct edge_client *client = NULL; (client = slab_next(&relay->client_slab, client)) != NULL;) {
        if (client->state != EDGE_CLIENT_LINGERING && client->state != EDGE_CLIENT_CLOSED &&
            client->state != EDGE_CLIENT_EXPECT_HANDSHAKE) {
            relay->counters.sessions_forced++;
        }
        edge_client_reset(client);
    }
}

void relay_drain(struct relay *relay, uint64_t timeout_ms)
{
    if (relay->state == RELAY_RUNNING) {
        relay_move(relay, RELAY_DRAINING);
    }
    if (relay->state == RELAY_DRAINING) {
        scheduler_arm(relay->scheduler, &relay->drain, timeout_ms);
    }
    scheduler_defer(relay->scheduler, &relay->settle);
}

/* ------------------------------------------------------------------------------------------------ clients */

static enum error_code relay_over_limit(struct relay *relay, const struct address *peer, const char *limit)
{
    uint64_t suppressed = 0;
    char text[ADDRESS_TEXT_MAX];
    relay->counters.clients_over_limit++;
    if (log_counter_allow(&relay->log_limit, relay->scheduler->now_us, &suppressed)) {
        LOG(LOG_WARNING, "client-over-limit", LOG_TEXT("peer", address_format(peer, text)), LOG_TEXT("limit", limit),
            LOG_INTEGER("clients", relay->client_count), LOG_INTEGER("handshakes", relay->handshake_count),
            LOG_INTEGER("suppressed", suppressed));
    }
    return ERROR_LIMIT;
}

enum error_code relay_admit(struct relay *relay, size_t listener, const struct address *peer,
                            const struct address *local, struct edge_client **result)
{
    if (relay->state != RELAY_RUNNING) {
        return ERROR_SHUTDOWN;
    }
    if (relay->client_count >= relay->sessions_max) {
        return relay_over_limit(relay, peer, "sessions-max");
    }
    if (relay->handshake_count >= relay->handshakes_max) {
        return relay_over_limit(relay, peer, "handshakes-max");
    }
    if (buffer_budget_level(&relay->buffers) >= BUFFER_SHUT) {
        return relay_over_limit(relay, peer, "buffer-memory");
    }
    struct address_compact compact;
    address_pack(peer, &compact);
    const char *limit = admission_arrive(relay->admission, &compact, relay->scheduler->now_us);
    if (limit != NULL) {
        return relay_over_limit(relay, peer, limit);
    }
    struct edge_client *client = slab_alloc(&relay->client_slab);
    enum error_code error = ERROR_NO_MEMORY;
    if (client != NULL) {
        error = edge_client_init(client, listener, peer, local);
    }
    if (error != ERROR_NONE) {
        admission_leave(relay->admission, &compact, relay->scheduler->now_us);
        slab_free(&relay->client_slab, client);
        return error;
    }
    relay->client_count++;
    relay->handshake_count++;
    relay->counters.clients_accepted++;
    *result = client;
    return ERROR_NONE;
}

/* ------------------------------------------------------------------------------------------------ takeover */

void relay_inherit(struct relay *relay, const uint8_t secret[TLS_SESSION_SECRET_BYTES], uint64_t numbered)
{
    memcpy(relay->session_secret, secret, sizeof(relay->session_secret));
    relay->sessions_numbered = numbered;
}

static size_t relay_let_go_some(struct relay *relay)
{
    struct edge_client *client = slab_next(&relay->client_slab, NULL);
    size_t gone = 0;
    while (client != NULL) {
        struct edge_client *next = slab_next(&relay->client_slab, client);
        if (client->handed_over) {
            edge_client_let_go(client);
            gone++;
        }
        client = next;
    }
    return gone;
}

/* A walk may miss some, as each that goes changes the slab: it is repeated until it finds none. */
size_t relay_let_go(struct relay *relay)
{
    size_t gone = 0;
    size_t now;
    do {
        now = relay_let_go_some(relay);
        gone += now;
    } while (now > 0);
    return gone;
}

/* ------------------------------------------------------------------------------------------------ life */

void relay_reload(struct relay *relay, struct tls_context *client_context, struct tls_context *trunk_context)
{
    if (client_context != NULL) {
        tls_context_unref(&relay->client_context);
        relay->client_context = tls_context_ref(client_context);
    }
    if (trunk_context != NULL) {
        tls_context_unref(&relay->trunk_context);
        relay->trunk_context = tls_context_ref(trunk_context);
    }
}

enum error_code relay_init(struct relay *relay, const struct relay_settings *settings, struct scheduler *scheduler,
                           const struct relay_ops *ops, void *owner)
{
    *relay = (struct relay){
        .ops = ops,
        .owner = owner,
        .settings = settings->edge,
        .scheduler = scheduler,
        .sessions_max = settings->sessions_max,
        .handshakes_max = settings->handshakes_max,
        .admission = settings->admission,
        .worker = settings->worker,
        .edge_worker = settings->edge_worker,
    };
    list_init(&relay->waiting);
    list_init(&relay->due);
    chain_init(&relay->outbox.pending);
    metadata_pool_init(&relay->origins, settings->seed);
    buffer_budget_init(&relay->buffers, settings->buffer_memory_bytes, scheduler, &relay_buffer_events, relay);
    tls_memory_init(&relay->tls);
    task_init(&relay->run_due, edge_client_run_due);
    task_init(&relay->settle, relay_settle);
    timer_init(&relay->drain, relay_drain_over);
    edge_handshakes_init(&relay->handshakes, settings->handshakes_per_second);
    edge_resumes_init(&relay->resumes);
    memcpy(relay->session_secret, settings->session_secret, sizeof(relay->session_secret));
    trunk_work_slab_init(&relay->work_slab);
    edge_leaving_init(&relay->leaving);
    edge_idle_init(&relay->idle, settings->edge->idle_timeout_ms);
    random_seed(&relay->random, settings->seed);
    slab_init(&relay->client_slab, "edge-client", sizeof(struct edge_client));
    slab_init(&relay->extra_slab, "edge-client-extra", sizeof(struct edge_client_extra));
    enum error_code error = scratch_init(&relay->scratch);
    if (error != ERROR_NONE) {
        return error;
    }
    error = pool_init(&relay->pool, relay);
    if (error != ERROR_NONE) {
        scratch_dispose(&relay->scratch);
        return error;
    }
    relay->client_context = tls_context_ref(settings->client_context);
    relay->trunk_context = tls_context_ref(settings->trunk_context);
    return ERROR_NONE;
}

enum error_code relay_start(struct relay *relay)
{
    edge_idle_start(&relay->idle);
    return pool_start(&relay->pool);
}

void relay_dispose(struct relay *relay)
{
    struct edge_client *client;
    while ((client = slab_next(&relay->client_slab, NULL)) != NULL) {
        client->due = 0;
        edge_client_free(client);
    }
    pool_dispose(&relay->pool);
    scheduler_cancel(relay->scheduler, &relay->run_due);
    scheduler_cancel(relay->scheduler, &relay->settle);
    scheduler_cancel(relay->scheduler, &relay->handshakes.run);
    scheduler_cancel(relay->scheduler, &relay->leaving.run);
    scheduler_disarm(relay->scheduler, &relay->handshakes.wait);
    scheduler_disarm(relay->scheduler, &relay->drain);
    edge_idle_dispose(&relay->idle);
    edge_resumes_dispose(&relay->resumes);
    memory_wipe(relay->session_secret, sizeof(relay->session_secret));
    slab_dispose(&relay->work_slab);
    buffer_budget_dispose(&relay->buffers);
    slab_dispose(&relay->client_slab);
    slab_dispose(&relay->extra_slab);
    slab_group_dispose(&relay->tls);
    metadata_pool_dispose(&relay->origins);
    scratch_dispose(&relay->scratch);
    tls_context_unref(&relay->client_context);
    tls_context_unref(&relay->trunk_context);
}
