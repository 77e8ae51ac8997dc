/*
 * The running process's side of a takeover, on a thread of its own that waits for the other process. Until COMMIT it
 * changes nothing but that the workers stand still, so that whatever fails, they go on where they stood. Owns what it
 * packs, and wipes it.
 *
 *   EXPECT_HELLO --> EXPECT_READY --> (clients stand still) EXPECT_PREPARED --> EXPECT_COMMITTED --> handed over
 *        \_______________\________________________\__________________\--> all clients go on here
 */
#include "edge/takeover.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "edge/client.h"
#include "mux/chain.h"
#include "mux/clock.h"
#include "mux/log.h"
#include "mux/memory.h"

#define SETTLE_LOOK_MS 10U

struct give {
    struct takeover_channel *channel;
    const struct takeover_edge *edge;
    struct takeover_outcome *outcome;
    struct takeover_hello hello;
    struct takeover_ready ready;
    struct takeover_frame ready_frame; /* what `ready` points into */
    uint16_t *cores;                   /* by our numbers: the other process's */
    bool *cores_up;                    /* of the worker at hand, by our numbers */
    uint32_t borrowed;                 /* so many workers, the first ones */
    uint64_t frozen_since_us;
    struct pack pack;
    int sockets[LIMIT_TAKEOVER_SOCKETS];
    size_t socket_count;
};

/* Keeps the first reason. */
static enum error_code give_fail(struct give *give, enum error_code error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum error_code give_fail(struct give *give, enum error_code error, const char *format, ...)
{
    if (error != ERROR_NONE && give->outcome->reason[0] == 0) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(give->outcome->reason, sizeof(give->outcome->reason), format, arguments);
        va_end(arguments);
    }
    return error;
}

/* ------------------------------------------------------------------------------------------------ talking */

/* What the other process says next must be this. The frame is the caller's to dispose of. */
static enum error_code give_expect(struct give *give, enum takeover_message message, struct takeover_frame *frame)
{
    enum error_code error = takeover_channel_receive(give->channel, frame);
    if (error == ERROR_NONE && frame->message == TAKEOVER_REFUSE) {
        return give_fail(give, ERROR_REFUSED, "the new process refuses: %.*s",
                         (int)(frame->length < 200U ? frame->length : 200U),
                         frame->body != NULL ? (const char *)frame->body : "");
    }
    if (error == ERROR_NONE && frame->message != message) {
        error = ERROR_INVALID;
    }
    return give_fail(give, error, "the new process: %s", error_text(error));
}

static enum error_code give_say(struct give *give, enum takeover_message message)
{
    enum error_code error = give->pack.failed ? ERROR_NO_MEMORY : ERROR_NONE;
    if (error == ERROR_NONE) {
        error = takeover_channel_send(give->channel, message, give->pack.bytes, give->pack.length, give->sockets,
                                      give->socket_count);
    }
    pack_clear(&give->pack);
    give->socket_count = 0;
    return give_fail(give, error, "the new process: %s", error_text(error));
}

/* ------------------------------------------------------------------------------------------------ agreeing */

static enum error_code give_check_hello(struct give *give)
{
    const struct takeover_hello *hello = &give->hello;
    const struct edge_settings *settings = give->edge->settings;
    if (hello->version_oldest > TAKEOVER_VERSION || hello->version < TAKEOVER_VERSION) {
        return give_fail(give, ERROR_REFUSED,
                         "the running process writes version %u of the takeover, the new one reads %u to %u",
                         TAKEOVER_VERSION, (unsigned)hello->version_oldest, (unsigned)hello->version);
    }
    if (hello->workers != give->edge->worker_count) {
        return give_fail(give, ERROR_REFUSED,
                         "the running process has %u workers, the new one %u: they must be as many",
                         (unsigned)give->edge->worker_count, (unsigned)hello->workers);
    }
    if (!hello->resumes || settings->resume_timeout_ms == 0) {
        return give_fail(give, ERROR_REFUSED, "resume-timeout is 0: sessions cannot go on in another process");
    }
    if (strcmp(hello->trunk_name, give->edge->trunk_name) != 0) {
        return give_fail(give, ERROR_REFUSED,
                         "the trunk certificate bears %.60s, not %.60s: cores would not know the sessions",
                         hello->trunk_name, give->edge->trunk_name);
    }
    for (size_t i = 0; i < settings->core_count; i++) {
        size_t place = takeover_texts_find(&hello->cores, settings->cores[i].address);
        if (place == SIZE_MAX) {
            return give_fail(give, ERROR_REFUSED,
                             "the new process does not know the core %.100s, which may have sessions",
                             settings->cores[i].address);
        }
        give->cores[i] = (uint16_t)place;
    }
    return ERROR_NONE;
}

static enum error_code give_welcome(struct give *give)
{
    const struct edge_settings *settings = give->edge->settings;
    struct takeover_welcome welcome = {.version = TAKEOVER_VERSION, .identity = give->edge->identity};
    enum error_code error = ERROR_NONE;
    for (size_t i = 0; error == ERROR_NONE && i < settings->listen_count; i++) {
        error = takeover_texts_add(&welcome.listens, settings->listens[i].address);
    }
    takeover_welcome_write(&welcome, &give->pack);
    takeover_welcome_dispose(&welcome);
    return error != ERROR_NONE ? give_fail(give, error, "%s", error_text(error)) : give_say(give, TAKEOVER_WELCOME);
}

/* Both know what they need to know; the new process has its trunks. */
static enum error_code give_agree(struct give *give)
{
    const struct edge_settings *settings = give->edge->settings;
    struct takeover_frame frame;
    enum error_code error = give_expect(give, TAKEOVER_HELLO, &frame);
    if (error == ERROR_NONE) {
        error = takeover_hello_read(&give->hello, frame.body, frame.length);
        error = give_fail(give, error, "what has connected is no edge that takes over");
    }
    takeover_frame_dispose(&frame);
    if (error == ERROR_NONE) {
        error = give_check_hello(give);
    }
    if (error == ERROR_NONE) {
        error = give_welcome(give);
    }
    if (error == ERROR_NONE) {
        takeover_channel_allow(give->channel, TIMEOUT_TAKEOVER_TRUNKS_MS + TIMEOUT_TAKEOVER_ANSWER_MS);
        error = give_expect(give, TAKEOVER_READY, &give->ready_frame);
    }
    if (error == ERROR_NONE) {
        error = takeover_ready_read(&give->ready, give->ready_frame.body, give->ready_frame.length);
        if (give->ready.listener_count != settings->listen_count ||
            give->ready.up_count != (size_t)give->edge->worker_count * give->hello.cores.count) {
            error = ERROR_INVALID;
        }
        error = give_fail(give, error, "the new process: %s", error_text(error));
    }
    return error;
}

/* ------------------------------------------------------------------------------------------------ standing still */

static void give_return(struct give *give)
{
    while (give->borrowed > 0) {
        give->borrowed--;
        edge_worker_return(give->edge->workers[give->borrowed]);
    }
}

static enum error_code give_borrow(struct give *give)
{
    while (give->borrowed < give->edge->worker_count) {
        enum error_code error = edge_worker_borrow(give->edge->workers[give->borrowed], TIMEOUT_TAKEOVER_ANSWER_MS);
        if (error != ERROR_NONE) {
            return give_fail(give, error, "worker %u does not stand still", (unsigned)give->borrowed);
        }
        give->borrowed++;
    }
    return ERROR_NONE;
}

static void give_hold(struct give *give, bool hold)
{
    for (uint32_t i = 0; i < give->borrowed; i++) {
        edge_handshakes_hold(edge_worker_relay(give->edge->workers[i]), hold);
    }
}

/* A handshake that has begun cannot be handed over, so it is completed first, within a bound; who has not begun waits
 * for the new process. Likewise what cores were asked for: the new process would ask again, and be overtaken. */
static enum error_code give_freeze(struct give *give)
{
    uint64_t until_us = clock_monotonic_us() + 1000U * (uint64_t)TIMEOUT_TAKEOVER_SETTLE_MS;
    for (;;) {
        size_t unsettled = 0;
        uint64_t since_us = clock_monotonic_us();
        enum error_code error = give_borrow(give);
        if (error != ERROR_NONE) {
            return error;
        }
        give_hold(give, true);
        for (uint32_t i = 0; i < give->borrowed; i++) {
            struct relay *relay = edge_worker_relay(give->edge->workers[i]);
            unsettled += edge_clients_unsettled(relay);
            if (relay->state != RELAY_RUNNING) {
                return give_fail(give, ERROR_SHUTDOWN, "the running process is about to end");
            }
        }
        if (unsettled == 0 || since_us >= until_us) {
            give->frozen_since_us = since_us;
            takeover_channel_allow(give->channel, TIMEOUT_TAKEOVER_FREEZE_MS);
            return ERROR_NONE;
        }
        give_return(give);
        if (takeover_channel_pause(give->channel, SETTLE_LOOK_MS)) {
            return give_fail(give, ERROR_PEER_CLOSED, "the new process has given up");
        }
    }
}

/* They go on as if nothing had been. */
static void give_thaw(struct give *give)
{
    /* Some may have been told to hold and returned: those that cannot be borrowed now stand still for good, or end. */
    while (give->borrowed < give->edge->worker_count &&
           edge_worker_borrow(give->edge->workers[give->borrowed], TIMEOUT_TAKEOVER_ANSWER_MS) == ERROR_NONE) {
        give->borrowed++;
    }
    for (uint32_t i = 0; i < give->borrowed; i++) {
        struct slab *clients = &edge_worker_relay(give->edge->workers[i])->client_slab;
        for (struct edge_client *client = NULL; (client = slab_next(clients, client)) != NULL;) {
            client->handed_over = 0;
        }
    }
    give_hold(give, false);
    give_return(give);
}

/* ------------------------------------------------------------------------------------------------ clients */

static enum error_code give_worker(struct give *give, uint32_t index)
{
    struct edge_worker *worker = give->edge->workers[index];
    const struct relay *relay = edge_worker_relay(worker);
    struct takeover_worker message = {.index = index, .numbered = relay->sessions_numbered};
    memcpy(message.secret, relay->session_secret, sizeof(message.secret));
    for (size_t i = 0; i < give->ready.listener_count; i++) {
        int fd = edge_worker_listener(worker, i);
        if (give->ready.listeners[i] == EDGE_CLIENT_MAP_NONE || fd < 0) {
            continue;
        }
        if (give->socket_count == LIMIT_TAKEOVER_SOCKETS) {
            memory_wipe(message.secret, sizeof(message.secret));
            return give_fail(give, ERROR_LIMIT, "more than %u listeners", LIMIT_TAKEOVER_SOCKETS);
        }
        give->sockets[give->socket_count++] = fd;
        message.listeners[message.listener_count++] = give->ready.listeners[i];
    }
    takeover_worker_write(&message, &give->pack);
    memory_wipe(message.secret, sizeof(message.secret));
    for (size_t i = 0; i < give->edge->settings->core_count; i++) {
        give->cores_up[i] = give->ready.up[index * give->hello.cores.count + give->cores[i]] != 0;
    }
    return give_say(give, TAKEOVER_WORKER);
}

static enum error_code give_clients(struct give *give, uint32_t index)
{
    const struct edge_client_map map = {
        .listeners = give->ready.listeners, .cores = give->cores, .cores_up = give->cores_up};
    struct relay *relay = edge_worker_relay(give->edge->workers[index]);
    enum error_code error = ERROR_NONE;
    struct edge_client *client = NULL;
    while (error == ERROR_NONE && (client = slab_next(&relay->client_slab, client)) != NULL) {
        enum edge_client_export verdict = edge_client_exportable(client, &map);
        if (verdict == EDGE_CLIENT_EXPORT_NO_CORE) {
            return give_fail(give, ERROR_UNREACHABLE,
                             "worker %u of the new process has no trunk to a core with sessions", (unsigned)index);
        }
        client->handed_over = verdict == EDGE_CLIENT_EXPORT_YES;
        if (!client->handed_over) {
            give->outcome->staying++;
            continue;
        }
        edge_client_export(client, &map, &give->pack);
        give->sockets[give->socket_count++] = edge_worker_client_socket(client);
        give->outcome->clients++;
        if (give->socket_count == LIMIT_TAKEOVER_SOCKETS || give->pack.length >= LIMIT_TAKEOVER_BATCH_BYTES) {
            error = give_say(give, TAKEOVER_CLIENTS);
        }
    }
    if (error == ERROR_NONE && give->socket_count > 0) {
        error = give_say(give, TAKEOVER_CLIENTS);
    }
    return error;
}

static enum error_code give_all(struct give *give)
{
    enum error_code error = ERROR_NONE;
    for (uint32_t i = 0; error == ERROR_NONE && i < give->edge->worker_count; i++) {
        error = give_worker(give, i);
        if (error == ERROR_NONE) {
            error = give_clients(give, i);
        }
    }
    if (error == ERROR_NONE) {
        takeover_count_write(give->outcome->clients, &give->pack);
        give->sockets[give->socket_count++] = takeover_control_socket(give->edge->control);
        error = give_say(give, TAKEOVER_END);
    }
    struct takeover_frame frame = {.body = NULL};
    if (error == ERROR_NONE) {
        error = give_expect(give, TAKEOVER_PREPARED, &frame);
    }
    if (error == ERROR_NONE) {
        uint64_t count = 0;
        error = takeover_count_read(&count, frame.body, frame.length);
        if (error == ERROR_NONE && count != give->outcome->clients) {
            error = ERROR_INVALID;
        }
        error = give_fail(give, error, "the new process has not taken what it was given");
    }
    takeover_frame_dispose(&frame);
    return error;
}

/* ------------------------------------------------------------------------------------------------ commit */

static bool give_hears_committed(struct give *give)
{
    struct takeover_frame frame;
    enum error_code error = takeover_channel_receive(give->channel, &frame);
    bool committed = error == ERROR_NONE && frame.message == TAKEOVER_COMMITTED;
    takeover_frame_dispose(&frame);
    return committed;
}

/* The new process serves the clients if, and only if, the kernel has taken its COMMITTED for us; after we have closed
 * our ear it takes none, and what it took before can be heard. */
static enum error_code give_commit(struct give *give)
{
    takeover_channel_allow(give->channel, TIMEOUT_TAKEOVER_COMMIT_MS);
    enum error_code error = give_say(give, TAKEOVER_COMMIT);
    if (error != ERROR_NONE || give_hears_committed(give)) {
        return error;
    }
    takeover_channel_deafen(give->channel);
    takeover_channel_allow(give->channel, 0);
    if (give_hears_committed(give)) {
        return ERROR_NONE;
    }
    takeover_channel_allow(give->channel, TIMEOUT_TAKEOVER_ANSWER_MS);
    (void)takeover_channel_send(give->channel, TAKEOVER_TAKEN_BACK, NULL, 0, NULL, 0);
    return give_fail(give, ERROR_TIMEOUT, "the new process did not say that it serves the clients");
}

/* Neither clients nor cores hear anything of it. */
static void give_let_go(struct give *give)
{
    for (uint32_t i = 0; i < give->borrowed; i++) {
        struct relay *relay = edge_worker_relay(give->edge->workers[i]);
        edge_worker_stop_listening(give->edge->workers[i]);
        relay->counters.clients_handed_over += relay_let_go(relay);
        edge_handshakes_hold(relay, false);
        relay_drain(relay, give->edge->settings->drain_timeout_ms);
    }
    give_return(give);
}

static void give_dispose(struct give *give)
{
    takeover_frame_dispose(&give->ready_frame);
    takeover_hello_dispose(&give->hello);
    pack_dispose(&give->pack);
    memory_free(give->cores);
    memory_free(give->cores_up);
}

static enum error_code give_run(struct give *give)
{
    size_t cores = give->edge->settings->core_count;
    give->cores = memory_calloc(cores, sizeof(*give->cores));
    give->cores_up = memory_calloc(cores, sizeof(*give->cores_up));
    if (give->cores == NULL || give->cores_up == NULL) {
        return give_fail(give, ERROR_NO_MEMORY, "%s", error_text(ERROR_NO_MEMORY));
    }
    enum error_code error = give_agree(give);
    if (error != ERROR_NONE) {
        return error;
    }
    error = give_freeze(give);
    if (error == ERROR_NONE) {
        error = give_all(give);
    }
    if (error == ERROR_NONE) {
        error = give_commit(give);
    }
    if (error == ERROR_NONE) {
        give_let_go(give);
    } else {
        give_thaw(give);
    }
    if (give->frozen_since_us != 0) {
        give->outcome->frozen_us = clock_monotonic_us() - give->frozen_since_us;
    }
    return error;
}

void takeover_give(struct takeover_channel *channel, const struct takeover_edge *edge, struct takeover_outcome *outcome)
{
    struct give give = {.channel = channel, .edge = edge, .outcome = outcome};
    enum error_code error = give_run(&give);
    outcome->done = error == ERROR_NONE;
    if (outcome->done) {
        /* Whoever watches over us must know the other process before we end. */
        struct takeover_frame frame;
        takeover_channel_allow(channel, TIMEOUT_TAKEOVER_ANSWER_MS);
        (void)takeover_channel_receive(channel, &frame);
        takeover_frame_dispose(&frame);
    } else {
        takeover_channel_allow(channel, TIMEOUT_TAKEOVER_ANSWER_MS);
        (void)takeover_channel_send(channel, TAKEOVER_REFUSE, outcome->reason, strlen(outcome->reason), NULL, 0);
    }
    give_dispose(&give);
    outcome->held_bytes = chain_held_bytes();
}
