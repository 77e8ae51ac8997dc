/*
 * The new process's side of a takeover, on a thread of its own once the workers run. What it is given it makes into
 * clients that nobody serves, as the workers stand still; if it does not come to COMMITTED, they are let go, and the
 * running process has never lost them. Owns the connection, and the sockets that it was given until the workers have
 * them.
 *
 *   EXPECT_WELCOME --> (trunks come up) --> EXPECT_CLIENTS --> EXPECT_COMMIT --> serves
 *         \__________________\____________________\________________\--> fails
 */
#include "edge/takeover.h"

#include <assert.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "edge/client.h"
#include "mux/chain.h"
#include "mux/clock.h"
#include "mux/log.h"
#include "mux/memory.h"
#include "mux/process.h"
#include "mux/socket.h"

#define TRUNKS_LOOK_MS 10U

/* The old process numbers on for those who are completing their handshakes there: no number is used twice. */
#define NUMBERS_LEFT_TO_OLD (UINT64_C(1) << 32)

struct take_listener {
    uint32_t worker;
    size_t listener;
    int fd;
};

struct takeover_take {
    struct takeover_channel channel;
    struct takeover_welcome welcome;
    uint16_t *listeners;       /* of the welcome: our number */
    struct take_listener *own; /* sockets of our own */
    size_t own_count;
    struct takeover_edge edge;
    struct loop *loop;
    int control_fd; /* the running process's control socket; -1: not here, or passed on */
    takeover_over_fn *over;
    void *owner;
    uint64_t thread;
    bool running;
    atomic_bool hastened; /* our ear is closed: an end says nothing of the running process */
    struct takeover_outcome outcome;
    struct loop_post post;
    uint8_t *up;
    uint32_t borrowed; /* so many workers, the first ones */
    uint64_t frozen_since_us;
    struct pack pack;
};

static enum error_code take_fail(struct takeover_outcome *outcome, enum error_code error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Keeps the first reason. */
static enum error_code take_fail(struct takeover_outcome *outcome, enum error_code error, const char *format, ...)
{
    if (error != ERROR_NONE && outcome->reason[0] == 0) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(outcome->reason, sizeof(outcome->reason), format, arguments);
        va_end(arguments);
    }
    return error;
}

/* ------------------------------------------------------------------------------------------------ talking */

/* The frame is the caller's to dispose of. */
static enum error_code take_hear(struct takeover_take *take, struct takeover_frame *frame,
                                 struct takeover_outcome *outcome)
{
    enum error_code error = takeover_channel_receive(&take->channel, frame);
    if (error == ERROR_NONE && frame->message == TAKEOVER_REFUSE) {
        return take_fail(outcome, ERROR_REFUSED, "%.*s", (int)(frame->length < 250U ? frame->length : 250U),
                         frame->body != NULL ? (const char *)frame->body : "");
    }
    return take_fail(outcome, error, "the running process: %s", error_text(error));
}

static enum error_code take_expect(struct takeover_take *take, enum takeover_message message,
                                   struct takeover_frame *frame, struct takeover_outcome *outcome)
{
    enum error_code error = take_hear(take, frame, outcome);
    if (error == ERROR_NONE && frame->message != message) {
        error = take_fail(outcome, ERROR_INVALID, "the running process says what is not expected");
    }
    return error;
}

static enum error_code take_say(struct takeover_take *take, enum takeover_message message,
                                struct takeover_outcome *outcome)
{
    enum error_code error = take->pack.failed ? ERROR_NO_MEMORY : ERROR_NONE;
    if (error == ERROR_NONE) {
        error = takeover_channel_send(&take->channel, message, take->pack.bytes, take->pack.length, NULL, 0);
    }
    pack_clear(&take->pack);
    return take_fail(outcome, error, "the running process: %s", error_text(error));
}

/* ------------------------------------------------------------------------------------------------ asking */

static enum error_code take_hello(struct takeover_take *take, const struct takeover_edge *edge,
                                  struct takeover_outcome *outcome)
{
    struct takeover_hello hello = {
        .version_oldest = TAKEOVER_VERSION_OLDEST,
        .version = TAKEOVER_VERSION,
        .workers = edge->worker_count,
        .resumes = edge->settings->resume_timeout_ms > 0,
        .trunk_name = memory_strdup(edge->trunk_name),
    };
    enum error_code error = hello.trunk_name != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
    for (size_t i = 0; error == ERROR_NONE && i < edge->settings->core_count; i++) {
        error = takeover_texts_add(&hello.cores, edge->settings->cores[i].address);
    }
    if (error == ERROR_NONE) {
        takeover_hello_write(&hello, &take->pack);
    }
    takeover_hello_dispose(&hello);
    return error != ERROR_NONE ? take_fail(outcome, error, "%s", error_text(error))
                               : take_say(take, TAKEOVER_HELLO, outcome);
}

/* Equal addresses are one listener, in their order. */
static enum error_code take_map_listeners(struct takeover_take *take, const struct edge_settings *settings)
{
    const struct takeover_texts *listens = &take->welcome.listens;
    take->listeners = memory_calloc(listens->count + 1, sizeof(*take->listeners));
    if (take->listeners == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (size_t i = 0; i < listens->count; i++) {
        take->listeners[i] = EDGE_CLIENT_MAP_NONE;
        for (size_t k = 0; k < settings->listen_count; k++) {
            if (strcmp(settings->listens[k].address, listens->items[i]) == 0) {
                take->listeners[i] = (uint16_t)k;
                break;
            }
        }
    }
    return ERROR_NONE;
}

static enum error_code take_ask(struct takeover_take *take, const struct takeover_edge *edge, const char *path,
                                struct takeover_outcome *outcome)
{
    struct takeover_frame frame = {.body = NULL};
    enum error_code error = takeover_channel_connect(&take->channel, path);
    if (error != ERROR_NONE) {
        return take_fail(outcome, error, "%s: %s", path,
                         error == ERROR_UNREACHABLE ? "no running edge listens there" : error_text(error));
    }
    error = take_hello(take, edge, outcome);
    if (error == ERROR_NONE || error == ERROR_PEER_CLOSED) {
        outcome->reason[0] = 0;
        error = take_expect(take, TAKEOVER_WELCOME, &frame, outcome); /* or why it has closed */
    }
    if (error == ERROR_NONE) {
        error = takeover_welcome_read(&take->welcome, frame.body, frame.length);
        error =
            take_fail(outcome, error, "the running process writes a version of the takeover that this one cannot read");
    }
    if (error == ERROR_NONE) {
        error = take_fail(outcome, take_map_listeners(take, edge->settings), "%s", error_text(ERROR_NO_MEMORY));
    }
    takeover_frame_dispose(&frame);
    return error;
}

enum error_code takeover_take_new(struct takeover_take **result, const struct takeover_edge *edge, const char *path,
                                  struct takeover_outcome *outcome)
{
    struct takeover_take *take = memory_zalloc(sizeof(*take));
    *result = take;
    if (take == NULL) {
        return take_fail(outcome, ERROR_NO_MEMORY, "%s", error_text(ERROR_NO_MEMORY));
    }
    take->channel.fd = -1;
    take->control_fd = -1;
    return take_ask(take, edge, path, outcome);
}

uint32_t takeover_take_identity(const struct takeover_take *take)
{
    return take->welcome.identity;
}

bool takeover_take_has_listener(const struct takeover_take *take, size_t listener)
{
    for (size_t i = 0; i < take->welcome.listens.count; i++) {
        if (take->listeners[i] == listener) {
            return true;
        }
    }
    return false;
}

enum error_code takeover_take_add_listener(struct takeover_take *take, uint32_t worker, size_t listener, int fd)
{
    struct take_listener *own = memory_realloc(take->own, (take->own_count + 1) * sizeof(*own));
    if (own == NULL) {
        close(fd);
        return ERROR_NO_MEMORY;
    }
    take->own = own;
    own[take->own_count++] = (struct take_listener){.worker = worker, .listener = listener, .fd = fd};
    return ERROR_NONE;
}

/* ------------------------------------------------------------------------------------------------ workers */

static void take_return(struct takeover_take *take)
{
    while (take->borrowed > 0) {
        take->borrowed--;
        edge_worker_return(take->edge.workers[take->borrowed]);
    }
}

static enum error_code take_borrow(struct takeover_take *take)
{
    enum error_code error = edge_worker_borrow(take->edge.workers[take->borrowed], TIMEOUT_TAKEOVER_ANSWER_MS);
    if (error == ERROR_NONE) {
        take->borrowed++;
    }
    return take_fail(&take->outcome, error, "worker %u does not stand still", (unsigned)take->borrowed);
}

/* Notes which worker has a trunk that resumes to which core; true when each has one to each. */
static enum error_code take_look_for_trunks(struct takeover_take *take, bool *all)
{
    size_t cores = take->edge.settings->core_count;
    *all = true;
    for (uint32_t i = 0; i < take->edge.worker_count; i++) {
        enum error_code error = edge_worker_borrow(take->edge.workers[i], TIMEOUT_TAKEOVER_ANSWER_MS);
        if (error != ERROR_NONE) {
            return take_fail(&take->outcome, error, "worker %u does not stand still", (unsigned)i);
        }
        for (size_t k = 0; k < cores; k++) {
            bool up = pool_pick_core(&edge_worker_relay(take->edge.workers[i])->pool, k) != NULL;
            take->up[i * cores + k] = up;
            *all = *all && up;
        }
        edge_worker_return(take->edge.workers[i]);
    }
    return ERROR_NONE;
}

/* Until every worker has its trunks, or for long enough: then the running process decides whether sessions would have
 * to wait. It has nothing to say meanwhile, unless it is about to end. */
static enum error_code take_await_trunks(struct takeover_take *take)
{
    uint64_t until_us = clock_monotonic_us() + 1000U * (uint64_t)TIMEOUT_TAKEOVER_TRUNKS_MS;
    bool all = false;
    while (!all && clock_monotonic_us() < until_us) {
        enum error_code error = take_look_for_trunks(take, &all);
        if (error != ERROR_NONE) {
            return error;
        }
        if (!all && takeover_channel_pause(&take->channel, TRUNKS_LOOK_MS)) {
            struct takeover_frame frame;
            error = take_hear(take, &frame, &take->outcome);
            takeover_frame_dispose(&frame);
            return take_fail(&take->outcome, error != ERROR_NONE ? error : ERROR_INVALID,
                             "the running process says what is not expected");
        }
    }
    return ERROR_NONE;
}

static enum error_code take_ready(struct takeover_take *take)
{
    struct takeover_ready ready = {
        .listener_count = take->welcome.listens.count,
        .up_count = take->edge.worker_count * take->edge.settings->core_count,
        .up = take->up,
    };
    memcpy(ready.listeners, take->listeners, ready.listener_count * sizeof(ready.listeners[0]));
    takeover_ready_write(&ready, &take->pack);
    return take_say(take, TAKEOVER_READY, &take->outcome);
}

/* ------------------------------------------------------------------------------------------------ clients */

static enum error_code take_listen(struct takeover_take *take, uint32_t worker, size_t listener, int fd)
{
    enum error_code error = ERROR_INVALID;
    if (listener < take->edge.settings->listen_count &&
        edge_worker_listener(take->edge.workers[worker], listener) < 0) {
        socket_limit_unsent(fd, LIMIT_CLIENT_BACKLOG_BYTES);
        socket_keep_alive(fd, take->edge.settings->keepalive_ms);
        error = edge_worker_listen(take->edge.workers[worker], listener, fd); /* closes it on an error */
    } else {
        close(fd);
    }
    return take_fail(&take->outcome, error, "listener %u: %s", (unsigned)listener, error_text(error));
}

static enum error_code take_own_listeners(struct takeover_take *take, uint32_t worker)
{
    enum error_code error = ERROR_NONE;
    for (size_t i = 0; error == ERROR_NONE && i < take->own_count; i++) {
        if (take->own[i].worker == worker && take->own[i].fd >= 0) {
            int fd = take->own[i].fd;
            take->own[i].fd = -1;
            error = take_listen(take, worker, take->own[i].listener, fd);
        }
    }
    return error;
}

/* The next worker, which stands still from now on. */
static enum error_code take_worker(struct takeover_take *take, struct takeover_frame *frame)
{
    struct takeover_worker worker;
    enum error_code error = takeover_worker_read(&worker, frame->body, frame->length);
    if (error == ERROR_NONE && (worker.index != take->borrowed || worker.index >= take->edge.worker_count ||
                                worker.listener_count != frame->socket_count)) {
        error = ERROR_INVALID;
    }
    if (error == ERROR_NONE) {
        error = take_borrow(take);
    }
    if (error == ERROR_NONE) {
        relay_inherit(edge_worker_relay(take->edge.workers[worker.index]), worker.secret,
                      worker.numbered + NUMBERS_LEFT_TO_OLD);
    }
    for (size_t i = 0; error == ERROR_NONE && i < worker.listener_count; i++) {
        int fd = frame->sockets[i];
        frame->sockets[i] = -1;
        error = take_listen(take, worker.index, worker.listeners[i], fd);
    }
    memory_wipe(worker.secret, sizeof(worker.secret));
    return error != ERROR_NONE ? error : take_own_listeners(take, worker.index);
}

static enum error_code take_clients(struct takeover_take *take, struct takeover_frame *frame)
{
    enum error_code error = take->borrowed > 0 ? ERROR_NONE : ERROR_INVALID;
    struct unpack unpack;
    unpack_init(&unpack, frame->body, frame->length);
    for (size_t i = 0; error == ERROR_NONE && i < frame->socket_count; i++) {
        struct edge_worker *worker = take->edge.workers[take->borrowed - 1];
        struct edge_client *client = NULL;
        error = edge_client_import(edge_worker_relay(worker), &unpack, &client);
        if (error == ERROR_NONE) {
            int fd = frame->sockets[i];
            frame->sockets[i] = -1;
            client->handed_over = 1; /* until COMMITTED */
            take->outcome.clients++;
            error = edge_worker_adopt(worker, client, fd);
        }
    }
    return error == ERROR_NONE && unpack.left > 0 ? ERROR_INVALID : error;
}

static enum error_code take_message(struct takeover_take *take, struct takeover_frame *frame, bool *over)
{
    uint64_t count = 0;
    enum error_code error = ERROR_INVALID;
    switch (frame->message) {
    case TAKEOVER_WORKER:
        error = take_worker(take, frame);
        break;
    case TAKEOVER_CLIENTS:
        error = take_clients(take, frame);
        break;
    case TAKEOVER_END:
        error = takeover_count_read(&count, frame->body, frame->length);
        if (frame->socket_count == 1) {
            take->control_fd = frame->sockets[0];
            frame->sockets[0] = -1;
        }
        *over = true;
        if (error == ERROR_NONE && (count != take->outcome.clients || take->borrowed != take->edge.worker_count)) {
            error = ERROR_INVALID;
        }
        break;
    default:
        break;
    }
    return take_fail(&take->outcome, error, "what the running process gives cannot be taken: %s", error_text(error));
}

static enum error_code take_all(struct takeover_take *take)
{
    bool over = false;
    enum error_code error = ERROR_NONE;
    takeover_channel_allow(&take->channel,
                           TIMEOUT_TAKEOVER_SETTLE_MS + TIMEOUT_TAKEOVER_FREEZE_MS + TIMEOUT_TAKEOVER_ANSWER_MS);
    while (error == ERROR_NONE && !over) {
        struct takeover_frame frame;
        error = take_hear(take, &frame, &take->outcome);
        if (error == ERROR_NONE) {
            take->frozen_since_us = take->frozen_since_us != 0 ? take->frozen_since_us : clock_monotonic_us();
            error = take_message(take, &frame, &over);
        }
        takeover_frame_dispose(&frame);
    }
    if (error == ERROR_NONE) {
        LOG(LOG_INFO, "takeover-prepared", LOG_INTEGER("clients", take->outcome.clients));
        takeover_count_write(take->outcome.clients, &take->pack);
        error = take_say(take, TAKEOVER_PREPARED, &take->outcome);
    }
    return error;
}

/* ------------------------------------------------------------------------------------------------ commit */

/* COMMITTED could not be sent: the running process has taken its clients back, and says so or at least lives; or it has
 * died, and nobody has them but we. */
static enum error_code take_learn_fate(struct takeover_take *take)
{
    struct takeover_frame frame;
    takeover_channel_allow(&take->channel, TIMEOUT_TAKEOVER_ANSWER_MS);
    enum error_code error = takeover_channel_receive(&take->channel, &frame);
    takeover_frame_dispose(&frame);
    if (error == ERROR_PEER_CLOSED && !atomic_load(&take->hastened)) {
        return ERROR_NONE;
    }
    return take_fail(&take->outcome, ERROR_TIMEOUT, "the running process has taken its clients back");
}

static enum error_code take_commit(struct takeover_take *take)
{
    struct takeover_frame frame;
    enum error_code error = take_expect(take, TAKEOVER_COMMIT, &frame, &take->outcome);
    takeover_frame_dispose(&frame);
    if (error != ERROR_NONE) {
        return error;
    }
    error = takeover_channel_send(&take->channel, TAKEOVER_COMMITTED, NULL, 0, NULL, 0);
    return error == ERROR_NONE ? ERROR_NONE : take_learn_fate(take);
}

/* From now on they are ours. */
static void take_serve(struct takeover_take *take)
{
    for (uint32_t i = 0; i < take->borrowed; i++) {
        struct slab *clients = &edge_worker_relay(take->edge.workers[i])->client_slab;
        for (struct edge_client *client = NULL; (client = slab_next(clients, client)) != NULL;) {
            client->handed_over = 0;
        }
    }
    take_return(take);
    take->outcome.frozen_us = clock_monotonic_us() - take->frozen_since_us;
    if (take->edge.control != NULL && takeover_control_socket(take->edge.control) < 0 && take->control_fd >= 0) {
        takeover_control_adopt(take->edge.control, take->control_fd);
        take->control_fd = -1;
    }
}

/* Sockets are closed without a word: the running process has them. */
static void take_let_go(struct takeover_take *take)
{
    for (uint32_t i = 0; i < take->borrowed; i++) {
        edge_worker_stop_listening(take->edge.workers[i]);
        (void)relay_let_go(edge_worker_relay(take->edge.workers[i]));
    }
    take_return(take);
    if (take->channel.fd >= 0) {
        takeover_channel_allow(&take->channel, TIMEOUT_TAKEOVER_ANSWER_MS);
        (void)takeover_channel_send(&take->channel, TAKEOVER_REFUSE, take->outcome.reason, strlen(take->outcome.reason),
                                    NULL, 0);
    }
}

static void *take_run(void *argument)
{
    struct takeover_take *take = argument;
    enum error_code error = take_await_trunks(take);
    if (error == ERROR_NONE) {
        LOG(LOG_INFO, "takeover-ready", LOG_INTEGER("workers", take->edge.worker_count));
        error = take_ready(take);
    }
    if (error == ERROR_NONE) {
        error = take_all(take);
    }
    if (error == ERROR_NONE) {
        error = take_commit(take);
    }
    take->outcome.done = error == ERROR_NONE;
    if (take->outcome.done) {
        take_serve(take);
    } else {
        take_let_go(take);
    }
    pack_dispose(&take->pack);
    take->outcome.held_bytes = chain_held_bytes();
    loop_post(take->loop, &take->post);
    return NULL;
}

static void take_over(struct loop_post *post)
{
    struct takeover_take *take = container_of(post, struct takeover_take, post);
    if (take->running) {
        process_thread_join(take->thread);
        take->running = false;
        take->over(take->owner, &take->outcome);
    }
}

enum error_code takeover_take_start(struct takeover_take *take, const struct takeover_edge *edge, struct loop *loop,
                                    takeover_over_fn *over, void *owner)
{
    take->edge = *edge;
    take->loop = loop;
    take->over = over;
    take->owner = owner;
    take->post.run = take_over;
    take->up = memory_calloc(edge->worker_count, edge->settings->core_count);
    if (take->up == NULL) {
        return ERROR_NO_MEMORY;
    }
    enum error_code error = process_thread_start(&take->thread, "takeover", take_run, take);
    take->running = error == ERROR_NONE;
    return error;
}

void takeover_take_hasten(struct takeover_take *take)
{
    if (take->running) {
        atomic_store(&take->hastened, true); /* first: see take_learn_fate */
        takeover_channel_deafen(&take->channel);
    }
}

void takeover_take_tell_done(struct takeover_take *take)
{
    takeover_channel_allow(&take->channel, TIMEOUT_TAKEOVER_ANSWER_MS);
    (void)takeover_channel_send(&take->channel, TAKEOVER_DONE, NULL, 0, NULL, 0); /* it may have ended */
}

void takeover_take_stop(struct takeover_take *take)
{
    if (take != NULL && take->running) {
        takeover_take_hasten(take);
        process_thread_join(take->thread);
        take->running = false;
    }
}

void takeover_take_free(struct takeover_take **pointer)
{
    struct takeover_take *take = *pointer;
    if (take == NULL) {
        return;
    }
    *pointer = NULL;
    takeover_take_stop(take);
    takeover_channel_close(&take->channel);
    if (take->control_fd >= 0) {
        close(take->control_fd);
    }
    takeover_welcome_dispose(&take->welcome);
    pack_dispose(&take->pack);
    for (size_t i = 0; i < take->own_count; i++) {
        if (take->own[i].fd >= 0) {
            close(take->own[i].fd);
        }
    }
    memory_free(take->own);
    memory_free(take->listeners);
    memory_free(take->up);
    memory_free(take);
}
