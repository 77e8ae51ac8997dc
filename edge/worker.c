/* A worker of the edge: see worker.h. Owns its loop, listeners and relay. */
#include "edge/worker.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "edge/client.h"
#include "edge/uplink.h"
#include "mux/chain.h"
#include "mux/clock.h"
#include "mux/limits.h"
#include "mux/memory.h"
#include "mux/process.h"
#include "mux/socket.h"
#include "mux/trim.h"

struct edge_listener {
    struct listener listener;
    struct edge_worker *worker;
    size_t number; /* in the settings */
};

/* A worker is lent by a post that does not return before it is given back. */
enum edge_lending {
    EDGE_LENDING_NONE,
    EDGE_LENDING_ASKED, /* the post is on its way */
    EDGE_LENDING_LENT,
    EDGE_LENDING_GIVEN_UP, /* the post is still on its way, and nobody waits for it */
};

struct edge_worker {
    struct edge_worker_settings settings;
    struct loop *loop;
    struct relay relay;
    struct edge_listener *listeners; /* one for each of the settings; some may not be started */
    uint64_t thread;
    int64_t held_bytes; /* what chain_held_bytes said at the thread's end */
    struct trim trim;   /* of clients */
    struct loop_post drain;
    struct loop_post stop;
    struct loop_post stopped;
    struct loop_post lend;
    pthread_mutex_t lending_lock;
    pthread_cond_t lending_changed;
    enum edge_lending lending; /* under the lock */
    uint8_t has_relay;
    uint8_t running;
};

struct edge_reload {
    struct loop_post post;
    struct edge_worker *worker;
    struct tls_context *client_context;
    struct tls_context *trunk_context;
};

/* ------------------------------------------------------------------------------------------------ sockets */

static void edge_worker_ignore(struct transport *transport, unsigned events)
{
    (void)transport;
    (void)events;
}

static const struct transport_binding client_binding = {&socket_transport_ops, edge_client_ready};
static const struct transport_binding uplink_binding = {&socket_transport_ops, uplink_ready};
static const struct transport_binding turned_away_binding = {&socket_transport_ops, edge_worker_ignore};

/* A client that cannot be taken: it is told at once, with RST, so that neither side keeps anything. */
static void edge_worker_turn_away(struct edge_worker *worker, int fd)
{
    struct socket_transport socket;
    if (socket_transport_open(&socket, worker->loop, fd, &turned_away_binding) == ERROR_NONE) {
        transport_close(&socket.transport, TRANSPORT_CLOSE_RESET);
    }
}

static void edge_worker_accept(void *owner, int fd, const struct address *peer)
{
    struct edge_listener *listener = owner;
    struct edge_worker *worker = listener->worker;
    struct edge_client *client = NULL;
    struct address local;
    if (socket_local_address(fd, &local) != ERROR_NONE) {
        local = listener->listener.bound;
    }
    enum error_code error = relay_admit(&worker->relay, listener->number, peer, &local, &client);
    if (error != ERROR_NONE) {
        edge_worker_turn_away(worker, fd);
        return;
    }
    trim_note(&worker->trim);
    struct socket_transport *socket = (struct socket_transport *)(void *)&client->slot;
    if (socket_transport_open(socket, worker->loop, fd, &client_binding) != ERROR_NONE) {
        edge_client_abandon(client);
        return;
    }
    edge_client_start(client);
}

static enum error_code edge_worker_dial(void *owner, size_t core, union transport_slot *slot)
{
    struct edge_worker *worker = owner;
    struct socket_transport *socket = (struct socket_transport *)(void *)slot;
    enum error_code error = socket_connect(socket, worker->loop, NULL, &worker->settings.cores[core], &uplink_binding);
    if (error == ERROR_NONE) {
        socket_tune_trunk(socket, TIMEOUT_TRUNK_USER_MS, LIMIT_TRUNK_BACKLOG_BYTES);
    }
    return error;
}

/* ------------------------------------------------------------------------------------------------ posts */

static void edge_worker_run_stopped(struct loop_post *post)
{
    struct edge_worker *worker = container_of(post, struct edge_worker, stopped);
    worker->settings.stopped(worker->settings.owner, worker);
}

static void edge_worker_relay_stopped(void *owner)
{
    struct edge_worker *worker = owner;
    trim_dispose(&worker->trim);
    loop_stop(worker->loop);
    loop_post(worker->settings.owner_loop, &worker->stopped);
}

void edge_worker_stop_listening(struct edge_worker *worker)
{
    for (size_t i = 0; i < worker->settings.edge->listen_count; i++) {
        listener_stop(&worker->listeners[i].listener);
    }
}

static void edge_worker_run_drain(struct loop_post *post)
{
    struct edge_worker *worker = container_of(post, struct edge_worker, drain);
    if (worker->has_relay) {
        edge_worker_stop_listening(worker);
        relay_drain(&worker->relay, worker->settings.edge->drain_timeout_ms);
    }
}

static void edge_worker_run_stop(struct loop_post *post)
{
    struct edge_worker *worker = container_of(post, struct edge_worker, stop);
    if (worker->has_relay) {
        edge_worker_stop_listening(worker);
        relay_drain(&worker->relay, 0);
    }
}

static void edge_worker_run_reload(struct loop_post *post)
{
    struct edge_reload *reload = container_of(post, struct edge_reload, post);
    if (reload->worker->has_relay) {
        relay_reload(&reload->worker->relay, reload->client_context, reload->trunk_context);
    }
    tls_context_unref(&reload->client_context);
    tls_context_unref(&reload->trunk_context);
    memory_free(reload);
}

void edge_worker_drain(struct edge_worker *worker)
{
    loop_post(worker->loop, &worker->drain);
}

void edge_worker_stop(struct edge_worker *worker)
{
    loop_post(worker->loop, &worker->stop);
}

enum error_code edge_worker_reload(struct edge_worker *worker, struct tls_context *client_context,
                                   struct tls_context *trunk_context)
{
    struct edge_reload *reload = memory_zalloc(sizeof(*reload));
    if (reload == NULL) {
        return ERROR_NO_MEMORY;
    }
    reload->post.run = edge_worker_run_reload;
    reload->worker = worker;
    reload->client_context = tls_context_ref(client_context);
    reload->trunk_context = tls_context_ref(trunk_context);
    loop_post(worker->loop, &reload->post);
    return ERROR_NONE;
}

/* ------------------------------------------------------------------------------------------------ lending */

static void edge_worker_run_lend(struct loop_post *post)
{
    struct edge_worker *worker = container_of(post, struct edge_worker, lend);
    pthread_mutex_lock(&worker->lending_lock);
    if (worker->lending == EDGE_LENDING_ASKED) {
        worker->lending = EDGE_LENDING_LENT;
        pthread_cond_broadcast(&worker->lending_changed);
        while (worker->lending == EDGE_LENDING_LENT) {
            pthread_cond_wait(&worker->lending_changed, &worker->lending_lock);
        }
    } else {
        worker->lending = EDGE_LENDING_NONE;
    }
    pthread_mutex_unlock(&worker->lending_lock);
}

static struct timespec edge_worker_deadline(uint32_t timeout_ms)
{
    struct timespec deadline;
    (void)clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += timeout_ms / 1000U;
    deadline.tv_nsec += 1000000L * (long)(timeout_ms % 1000U);
    if (deadline.tv_nsec >= 1000000000L) {
        deadline.tv_sec++;
        deadline.tv_nsec -= 1000000000L;
    }
    return deadline;
}

enum error_code edge_worker_borrow(struct edge_worker *worker, uint32_t timeout_ms)
{
    const struct timespec deadline = edge_worker_deadline(timeout_ms);
    int waited = 0;
    pthread_mutex_lock(&worker->lending_lock);
    bool on_its_way = worker->lending == EDGE_LENDING_GIVEN_UP;
    worker->lending = EDGE_LENDING_ASKED;
    if (!on_its_way) {
        loop_post(worker->loop, &worker->lend);
    }
    while (worker->lending == EDGE_LENDING_ASKED && waited == 0) {
        waited = pthread_cond_timedwait(&worker->lending_changed, &worker->lending_lock, &deadline);
    }
    bool lent = worker->lending == EDGE_LENDING_LENT;
    if (!lent) {
        worker->lending = EDGE_LENDING_GIVEN_UP;
    }
    pthread_mutex_unlock(&worker->lending_lock);
    return lent ? ERROR_NONE : ERROR_TIMEOUT;
}

void edge_worker_return(struct edge_worker *worker)
{
    pthread_mutex_lock(&worker->lending_lock);
    worker->lending = EDGE_LENDING_NONE;
    pthread_cond_broadcast(&worker->lending_changed);
    pthread_mutex_unlock(&worker->lending_lock);
}

struct relay *edge_worker_relay(struct edge_worker *worker)
{
    return &worker->relay;
}

int edge_worker_listener(const struct edge_worker *worker, size_t listener)
{
    return worker->listeners[listener].listener.loop != NULL ? worker->listeners[listener].listener.fd : -1;
}

int edge_worker_client_socket(const struct edge_client *client)
{
    return ((const struct socket_transport *)(const void *)&client->slot)->source.fd;
}

enum error_code edge_worker_adopt(struct edge_worker *worker, struct edge_client *client, int fd)
{
    struct socket_transport *socket = (struct socket_transport *)(void *)&client->slot;
    enum error_code error = socket_transport_open(socket, worker->loop, fd, &client_binding);
    if (error != ERROR_NONE) {
        edge_client_let_go(client);
        return error;
    }
    trim_note(&worker->trim);
    if (client->state == EDGE_CLIENT_EXPECT_HANDSHAKE) {
        edge_client_start(client);
    }
    return ERROR_NONE;
}

/* ------------------------------------------------------------------------------------------------ life */

/* Neighbours get neighbouring numbers, so that a core with as many workers spreads them evenly. 0 would mean that there
 * is none. */
static uint32_t edge_worker_identity(const struct edge_worker_settings *settings)
{
    uint32_t identity = settings->identity + settings->index;
    return identity != 0 ? identity : UINT32_MAX;
}

static enum error_code edge_worker_make_relay(struct edge_worker *worker)
{
    static const struct relay_ops ops = {.dial = edge_worker_dial, .stopped = edge_worker_relay_stopped};
    struct relay_settings settings = {
        .edge = worker->settings.edge,
        .client_context = worker->settings.client_context,
        .trunk_context = worker->settings.trunk_context,
        .sessions_max = worker->settings.sessions_max,
        .handshakes_max = worker->settings.handshakes_max,
        .handshakes_per_second = worker->settings.handshakes_per_second,
        .buffer_memory_bytes = worker->settings.buffer_memory_bytes,
        .admission = worker->settings.admission,
        .worker = worker->settings.index,
        .edge_worker = edge_worker_identity(&worker->settings),
    };
    clock_random(&settings.seed, sizeof(settings.seed));
    clock_random(settings.session_secret, sizeof(settings.session_secret));
    return relay_init(&worker->relay, &settings, loop_scheduler(worker->loop), &ops, worker);
}

/* Neither fails with these attributes. */
static void edge_worker_init_lending(struct edge_worker *worker)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&worker->lending_changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&worker->lending_lock, NULL);
}

enum error_code edge_worker_new(struct edge_worker **result, const struct edge_worker_settings *settings)
{
    struct edge_worker *worker = memory_zalloc(sizeof(*worker));
    if (worker == NULL) {
        return ERROR_NO_MEMORY;
    }
    worker->settings = *settings;
    worker->drain.run = edge_worker_run_drain;
    worker->stop.run = edge_worker_run_stop;
    worker->stopped.run = edge_worker_run_stopped;
    worker->lend.run = edge_worker_run_lend;
    edge_worker_init_lending(worker);
    worker->listeners = memory_calloc(settings->edge->listen_count, sizeof(*worker->listeners));
    enum error_code error = worker->listeners != NULL ? loop_new(&worker->loop) : ERROR_NO_MEMORY;
    if (error == ERROR_NONE) {
        trim_init(&worker->trim, loop_scheduler(worker->loop), &worker->relay.client_count,
                  &worker->relay.counters.handshakes_completed);
        error = edge_worker_make_relay(worker);
        worker->has_relay = error == ERROR_NONE;
    }
    if (error != ERROR_NONE) {
        edge_worker_free(&worker);
        return error;
    }
    *result = worker;
    return ERROR_NONE;
}

enum error_code edge_worker_listen(struct edge_worker *worker, size_t number, int fd)
{
    struct edge_listener *listener = &worker->listeners[number];
    listener->worker = worker;
    listener->number = number;
    return listener_start(&listener->listener, worker->loop, fd, edge_worker_accept, listener);
}

static void *edge_worker_thread(void *argument)
{
    struct edge_worker *worker = argument;
    loop_run(worker->loop);
    worker->held_bytes = chain_held_bytes();
    return NULL;
}

enum error_code edge_worker_start(struct edge_worker *worker)
{
    char name[16];
    enum error_code error = relay_start(&worker->relay);
    if (error == ERROR_NONE) {
        (void)snprintf(name, sizeof(name), "edge-%u", (unsigned)(worker->settings.index % 10000U));
        error = process_thread_start(&worker->thread, name, edge_worker_thread, worker);
        worker->running = error == ERROR_NONE;
    }
    return error;
}

void edge_worker_join(struct edge_worker *worker)
{
    if (worker->running) {
        process_thread_join(worker->thread);
        worker->running = 0;
    }
}

const struct relay_counters *edge_worker_counters(const struct edge_worker *worker)
{
    return &worker->relay.counters;
}

void edge_worker_add_left(const struct edge_worker *worker, struct edge_left *sum)
{
    sum->sessions += worker->relay.client_count;
    sum->streams += pool_streams(&worker->relay.pool);
    sum->bytes += worker->held_bytes;
}

void edge_worker_free(struct edge_worker **pointer)
{
    struct edge_worker *worker = *pointer;
    if (worker == NULL) {
        return;
    }
    *pointer = NULL;
    if (worker->running) {
        loop_stop(worker->loop);
        edge_worker_join(worker);
    }
    if (worker->has_relay) {
        edge_worker_stop_listening(worker);
        relay_dispose(&worker->relay);
        trim_dispose(&worker->trim);
        worker->has_relay = 0;
    }
    loop_free(&worker->loop);
    pthread_cond_destroy(&worker->lending_changed);
    pthread_mutex_destroy(&worker->lending_lock);
    memory_free(worker->listeners);
    memory_free(worker);
}
