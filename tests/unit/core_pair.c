/* An edge's trunk facing a core's worker; see core_pair.h. Owns both trunks and the worker. */
#include "core_pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mux/limits.h"
#include "mux/memory.h"

#define PUMP_CAPACITY 16384U
#define AWAIT_TRIES   500
#define AWAIT_STEP_MS 10

static void client_push(struct core_client *client)
{
    if (!client->opened || !trunk_stream_attached(&client->stream)) {
        return;
    }
    while (client->to_send_length > 0) {
        size_t room = trunk_stream_room(&client->stream);
        size_t part = room < client->to_send_length ? room : client->to_send_length;

        if (part == 0) {
            trunk_stream_want_room(&client->stream);
            return;
        }
        if (trunk_stream_write(&client->stream, client->to_send, part) != ERROR_NONE) {
            return;
        }
        client->to_send += part;
        client->to_send_length -= part;
    }
    if (client->end_after) {
        trunk_stream_end(&client->stream);
    }
}

static struct core_client *client_of(struct trunk_stream *stream)
{
    return container_of(stream, struct core_client, stream);
}

static void client_on_opened(void *owner, struct trunk_stream *stream)
{
    (void)owner;
    client_of(stream)->opened++;
    client_push(client_of(stream));
}

static void client_on_data(void *owner, struct trunk_stream *stream, const uint8_t *bytes, size_t length)
{
    struct core_client *client = client_of(stream);

    (void)owner;
    if (chain_append(&client->received, bytes, length) != ERROR_NONE) {
        trunk_stream_reset(stream, TRUNK_CODE_INTERNAL_ERROR);
        client->closed++;
        return;
    }
    if (client->consume) {
        trunk_stream_consume(stream, length);
    }
}

static void client_on_end(void *owner, struct trunk_stream *stream)
{
    (void)owner;
    client_of(stream)->ended++;
}

static void client_on_writable(void *owner, struct trunk_stream *stream)
{
    (void)owner;
    client_of(stream)->writable++;
    client_push(client_of(stream));
}

static void client_on_closed(void *owner, struct trunk_stream *stream, enum error_code error, uint32_t detail)
{
    struct core_client *client = client_of(stream);

    (void)owner;
    client->closed++;
    client->error = error;
    client->detail = detail;
}

static void client_on_suspended(void *owner, struct trunk_stream *stream, enum error_code reason)
{
    (void)owner;
    client_of(stream)->suspended++;
    client_of(stream)->error = reason;
}

static void client_on_noted(void *owner, struct trunk_stream *stream, const struct metadata_note *note)
{
    struct core_client *client = client_of(stream);

    (void)owner;
    client->noted++;
    client->note = *note;
    client->note.bytes = memcpy(client->note_bytes, note->bytes, note->length);
}

static void client_on_resumed(void *owner, struct trunk_stream *stream)
{
    (void)owner;
    client_of(stream)->resumed++;
    client_push(client_of(stream));
}

static struct trunk_stream *client_on_opening(void *owner, const struct metadata *metadata, int *status)
{
    (void)status;
    (void)owner;
    (void)metadata;
    return NULL;
}

static void client_on_attached(void *owner, struct trunk_stream *stream)
{
    (void)owner;
    (void)stream;
}

static void client_on_ready(void *owner)
{
    (void)owner;
}

static void client_on_goaway(void *owner, uint32_t code)
{
    (void)owner;
    (void)code;
}

static void client_on_refused(void *owner, enum error_code error, int status)
{
    (void)owner;
    (void)error;
    (void)status;
}

static const struct trunk_events client_events = {
    .opening = client_on_opening,
    .attached = client_on_attached,
    .opened = client_on_opened,
    .data = client_on_data,
    .end = client_on_end,
    .writable = client_on_writable,
    .closed = client_on_closed,
    .suspended = client_on_suspended,
    .noted = client_on_noted,
    .resumed = client_on_resumed,
    .ready = client_on_ready,
    .goaway = client_on_goaway,
    .refused = client_on_refused,
};

/* The pump asks both trunks each time round: nobody needs to be told. */
static void pair_on_want_send(struct trunk_carrier *carrier)
{
    (void)carrier;
}

static void pair_on_failed(struct trunk_carrier *carrier, enum error_code error)
{
    container_of(carrier, struct core_pair, carrier)->failure = error;
}

static void pair_on_drained(struct core_worker *worker)
{
    container_of(worker, struct core_pair, worker)->drained++;
}

static void pair_on_stopped(struct core_worker *worker)
{
    container_of(worker, struct core_pair, worker)->stopped++;
}

static enum error_code pair_open_trunks(struct core_pair *pair, uint32_t window)
{
    struct trunk_settings edge;
    enum error_code error;

    trunk_settings_init(&edge, TRUNK_OPENER);
    trunk_settings_init(&pair->settings.trunk, TRUNK_ACCEPTOR);
    edge.resume = pair->settings.trunk.resume = pair->settings.resume_timeout_ms > 0;
    edge.work_slab = &pair->edge_works;
    pair->settings.trunk.work_slab = &pair->worker.work_slab;
    if (window != 0) {
        edge.stream_window_bytes = window;
        pair->settings.trunk.stream_window_bytes = window;
    }
    error = trunk_new(&pair->edge, &edge, pair->scheduler, &pair->carrier, &client_events, pair);
    if (error == ERROR_NONE) {
        pair->settings.trunk.buffers = &pair->worker.buffers;
        error = trunk_new(&pair->core, &pair->settings.trunk, pair->scheduler, &pair->carrier, &session_trunk_events,
                          &pair->origin);
    }
    return error;
}

static enum error_code pair_open(struct core_pair *pair, const trunkline_handler *handler, const char *argument,
                                 uint32_t window)
{
    char name[] = "test";
    char handler_name[64];
    char text[256];
    struct core_service_settings service = {.name = name, .handler = handler_name, .argument = text};
    struct core_service_fault fault;
    enum error_code error;

    snprintf(handler_name, sizeof(handler_name), "%s", handler->name);
    snprintf(text, sizeof(text), "%s", argument);
    error = core_services_setup(&pair->services, &service, 1, &handler, 1, &fault);
    if (error == ERROR_NONE) {
        error = core_worker_init(&pair->worker, 1, &pair->settings, &pair->events, pair->scheduler, pair->loop);
        if (error != ERROR_NONE) {
            core_services_dispose(&pair->services);
        }
    }
    if (error == ERROR_NONE) {
        error = pair_open_trunks(pair, window);
        if (error != ERROR_NONE) {
            core_pair_dispose(pair);
        }
    }
    return error;
}

static enum error_code pair_init(struct core_pair *pair, const trunkline_handler *handler, const char *argument,
                                 bool with_loop, uint32_t window)
{
    enum error_code error;

    scheduler_init(&pair->own, 1000000);
    trunk_work_slab_init(&pair->edge_works);
    pair->scheduler = &pair->own;
    if (with_loop) {
        assert_int_equal(loop_new(&pair->loop), ERROR_NONE);
        pair->scheduler = loop_scheduler(pair->loop);
    }
    pair->settings.sessions_max = 1000;
    pair->settings.buffer_memory_bytes = LIMIT_BUFFER_MEMORY_BYTES;
    pair->settings.trunks_max = 10;
    pair->settings.services = &pair->services;
    pair->settings.totals = &pair->totals;
    pair->events.drained = pair_on_drained;
    pair->events.stopped = pair_on_stopped;
    pair->origin.worker = &pair->worker;
    strcpy(pair->origin.peer, "203.0.113.1:1000");
    pair->origin.name = "edge.example";
    pair->carrier = (struct trunk_carrier){.want_send = pair_on_want_send, .failed = pair_on_failed};
    error = pair_open(pair, handler, argument, window);
    if (error != ERROR_NONE && pair->loop != NULL) {
        loop_free(&pair->loop);
    }
    return error;
}

enum error_code core_pair_init(struct core_pair *pair, const trunkline_handler *handler, const char *argument,
                               bool with_loop, uint32_t window)
{
    memset(pair, 0, sizeof(*pair));
    return pair_init(pair, handler, argument, with_loop, window);
}

enum error_code core_pair_init_resuming(struct core_pair *pair, const trunkline_handler *handler,
                                        uint32_t resume_timeout_ms)
{
    memset(pair, 0, sizeof(*pair));
    pair->settings.resume_timeout_ms = resume_timeout_ms;
    return pair_init(pair, handler, "", false, 0);
}

void core_pair_lose(struct core_pair *pair)
{
    trunk_free(&pair->edge);
    trunk_free(&pair->core);
}

enum error_code core_pair_connect(struct core_pair *pair, const char *name)
{
    pair->origin.name = name;
    enum error_code error = pair_open_trunks(pair, 0);
    core_pair_pump(pair);
    return error;
}

void core_pair_dispose(struct core_pair *pair)
{
    core_pair_lose(pair);
    for (int i = 0; i < 100 && !list_empty(&pair->worker.closing); i++) {
        scheduler_run_tasks(pair->scheduler);
    }
    /* Tasks that were deferred last must not find their worker gone. */
    scheduler_cancel(pair->scheduler, &pair->worker.finish);
    scheduler_cancel(pair->scheduler, &pair->worker.settle);
    assert_int_equal(core_worker_session_count(&pair->worker), 0);
    assert_int_equal(atomic_load(&pair->totals.sessions), 0);
    core_worker_dispose(&pair->worker);
    slab_dispose(&pair->edge_works);
    assert_int_equal(pair->scheduler->timers.armed, 0);
    core_services_dispose(&pair->services);
    if (pair->loop != NULL) {
        loop_free(&pair->loop);
    }
}

/* Moves what one trunk has to send to the other. True when there was something. */
static bool pair_move(struct core_pair *pair, struct trunk *from, struct trunk *to)
{
    uint8_t frames[PUMP_CAPACITY];
    size_t length = 0;
    enum error_code error = trunk_send(from, frames, sizeof(frames), &length);

    if (error == ERROR_NONE && length > 0) {
        error = trunk_receive(to, frames, length);
    }
    if (error != ERROR_NONE) {
        pair->failure = error;
    }
    return error == ERROR_NONE && length > 0;
}

void core_pair_pump(struct core_pair *pair)
{
    bool moved = true;

    while (moved && pair->failure == ERROR_NONE) {
        bool whole = pair->edge != NULL && pair->core != NULL;
        moved = whole && pair_move(pair, pair->edge, pair->core);
        moved = (whole && pair_move(pair, pair->core, pair->edge)) || moved;
        if (pair->loop != NULL) {
            loop_run_once(pair->loop, 0);
        } else {
            moved = moved || !list_empty(&pair->scheduler->tasks);
            scheduler_run_tasks(pair->scheduler);
        }
    }
}

void core_pair_await(struct core_pair *pair, const int *flag, int wanted)
{
    for (int i = 0; i < AWAIT_TRIES && *flag < wanted; i++) {
        core_pair_pump(pair);
        if (*flag < wanted) {
            loop_run_once(pair->loop, AWAIT_STEP_MS);
        }
    }
    assert_true(*flag >= wanted);
}

void core_pair_await_bytes(struct core_pair *pair, const struct core_client *client, size_t wanted)
{
    for (int i = 0; i < AWAIT_TRIES && core_client_received(client) < wanted; i++) {
        core_pair_pump(pair);
        if (core_client_received(client) < wanted) {
            loop_run_once(pair->loop, AWAIT_STEP_MS);
        }
    }
    assert_true(core_client_received(client) >= wanted);
}

void core_pair_wait(struct core_pair *pair, uint64_t milliseconds)
{
    for (uint64_t i = 0; i < milliseconds; i++) {
        scheduler_advance(pair->scheduler, pair->scheduler->now_us + 1000);
        core_pair_pump(pair);
    }
}

enum error_code core_client_open_as(struct core_pair *pair, struct core_client *client, const struct metadata *metadata)
{
    memset(client, 0, sizeof(*client));
    chain_init(&client->received);
    client->consume = true;
    core_pair_pump(pair);
    return trunk_stream_open(pair->edge, &client->stream, metadata);
}

enum error_code core_client_resume(struct core_pair *pair, struct core_client *client, const struct metadata *metadata)
{
    return trunk_stream_resume(pair->edge, &client->stream, metadata);
}

enum error_code core_client_open(struct core_pair *pair, struct core_client *client, const char *service)
{
    struct metadata metadata = {.service = service, .server_name = "example.com", .alpn = "h2"};

    metadata.client = (struct address_compact){.ip = {192, 0, 2, 1}, .port = 5000, .family = 4};
    metadata.listener = (struct address_compact){.ip = {198, 51, 100, 7}, .port = 443, .family = 4};
    metadata.tls_version = 0x0304;
    metadata.tls_suite = 0x1301;
    return core_client_open_as(pair, client, &metadata);
}

void core_client_send(struct core_client *client, const void *bytes, size_t length, bool end)
{
    client->to_send = bytes;
    client->to_send_length = length;
    client->end_after = end;
    client_push(client);
}

size_t core_client_received(const struct core_client *client)
{
    return chain_bytes(&client->received);
}

void core_client_take(struct core_client *client, size_t length)
{
    chain_consume(&client->received, length);
    trunk_stream_consume(&client->stream, length);
}

void core_client_dispose(struct core_client *client)
{
    if (trunk_stream_attached(&client->stream)) {
        trunk_stream_reset(&client->stream, TRUNK_CODE_CANCEL);
    }
    chain_clear(&client->received);
}
