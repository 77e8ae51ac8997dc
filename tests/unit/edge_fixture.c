/* The relay in memory; see the header. Everything belongs to the fixture, but the PKI, which is the program's. */
#include "tests/unit/edge_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/limits.h"
#include "mux/memory.h"

static struct test_pki pki;
static struct tls_context *edge_context;  /* server side, to clients */
static struct tls_context *trunk_context; /* client side, to cores */
static struct tls_context *core_context;
static struct tls_context *user_context;

bool fixture_global_init(void)
{
    static const char *const h2[] = {"h2"};
    static const char *const alpn[] = {"http/1.1", "mqtt"};
    struct tls_fault fault;
    if (!test_pki_create(&pki)) {
        return false;
    }
    const struct tls_certificate_files edge = test_identity_files(&pki.edge);
    const struct tls_certificate_files core = test_identity_files(&pki.core);
    const struct tls_server_settings to_clients = {
        .certificates = &edge, .certificate_count = 1, .alpn = alpn, .alpn_count = 2};
    const struct tls_server_settings of_core = {.certificates = &core,
                                                .certificate_count = 1,
                                                .alpn = h2,
                                                .alpn_count = 1,
                                                .alpn_required = true,
                                                .client_auth = TLS_CLIENT_AUTH_REQUIRED,
                                                .client_ca = pki.ca};
    const struct tls_client_settings to_cores = {.ca = pki.ca,
                                                 .certificate = test_identity_files(&pki.trunk),
                                                 .alpn = h2,
                                                 .alpn_count = 1,
                                                 .alpn_required = true};
    const struct tls_client_settings of_users = {.ca = NULL};
    return tls_context_new_server(&to_clients, &edge_context, &fault) == ERROR_NONE &&
           tls_context_new_server(&of_core, &core_context, &fault) == ERROR_NONE &&
           tls_context_new_client(&to_cores, &trunk_context, &fault) == ERROR_NONE &&
           tls_context_new_client(&of_users, &user_context, &fault) == ERROR_NONE;
}

void fixture_global_dispose(void)
{
    tls_context_unref(&edge_context);
    tls_context_unref(&core_context);
    tls_context_unref(&trunk_context);
    tls_context_unref(&user_context);
    test_pki_remove(&pki);
}

int fixture_group_setup(void **state)
{
    (void)state;
    log_configure(LOG_ERROR, LOG_FORMAT_TEXT);
    return fixture_global_init() ? 0 : -1;
}

int fixture_group_teardown(void **state)
{
    (void)state;
    fixture_global_dispose();
    return 0;
}

/* ------------------------------------------------------------------------------------------------ bytes */

static void bytes_append(struct fixture_bytes *to, const void *from, size_t length)
{
    if (to->length + length > to->capacity) {
        to->capacity = (to->length + length) * 2;
        to->bytes = realloc(to->bytes, to->capacity);
        if (to->bytes == NULL) {
            abort();
        }
    }
    if (length > 0) {
        memcpy(to->bytes + to->length, from, length);
    }
    to->length += length;
}

static size_t bytes_take(struct fixture_bytes *from, void *into, size_t capacity)
{
    size_t length = from->length < capacity ? from->length : capacity;
    if (length > 0) {
        memcpy(into, from->bytes, length);
        memmove(from->bytes, from->bytes + length, from->length - length);
    }
    from->length -= length;
    return length;
}

/* ------------------------------------------------------------------------------------------------ wires */

struct wire_transport {
    struct transport transport;
    struct wire_end *end;
};

_Static_assert(sizeof(struct wire_transport) <= TRANSPORT_SLOT_BYTES, "an owner's slot must hold a wire");

static struct wire_end *wire_of(struct transport *transport)
{
    return ((struct wire_transport *)(void *)transport)->end;
}

static void wire_space(struct wire_end *end)
{
    if (end->peer->wants_write && end->incoming.length < end->incoming_max) {
        end->peer->wants_write = false;
        end->peer->events |= TRANSPORT_WRITABLE;
    }
}

static enum error_code wire_read(struct transport *transport, void *into, size_t capacity, size_t *length)
{
    struct wire_end *end = wire_of(transport);
    *length = 0;
    if (end->incoming.length > 0 && !end->reset) {
        *length = bytes_take(&end->incoming, into, capacity);
        wire_space(end);
        return ERROR_NONE;
    }
    if (end->reset) {
        return ERROR_PEER_RESET;
    }
    return end->finished ? ERROR_NONE : ERROR_WOULD_BLOCK;
}

static enum error_code wire_end_write(struct wire_end *end, const void *bytes, size_t count, size_t *length)
{
    struct wire_end *peer = end->peer;
    *length = 0;
    if (end->reset || peer->closed) {
        return ERROR_PEER_RESET;
    }
    size_t space = peer->incoming.length < peer->incoming_max ? peer->incoming_max - peer->incoming.length : 0;
    if (space < count) {
        end->wants_write = true;
    }
    if (space == 0) {
        return ERROR_WOULD_BLOCK;
    }
    *length = space < count ? space : count;
    bytes_append(&peer->incoming, bytes, *length);
    peer->events |= TRANSPORT_READABLE;
    return ERROR_NONE;
}

static enum error_code wire_write(struct transport *transport, const void *bytes, size_t count, size_t *length)
{
    return wire_end_write(wire_of(transport), bytes, count, length);
}

static void wire_end_finish(struct wire_end *end)
{
    end->peer->finished = true;
    end->peer->events |= TRANSPORT_READABLE | TRANSPORT_HANGUP;
}

static void wire_finish(struct transport *transport)
{
    wire_end_finish(wire_of(transport));
}

static void wire_end_close(struct wire_end *end, enum transport_close how)
{
    end->closed = true;
    end->transport = NULL;
    end->events = 0;
    if (how == TRANSPORT_CLOSE_RESET || end->incoming.length > 0) {
        end->peer->reset = true;
        end->peer->events |= TRANSPORT_BROKEN;
    }
    wire_end_finish(end);
}

static void wire_close(struct transport *transport, enum transport_close how)
{
    struct wire_end *end = wire_of(transport);
    transport->binding = NULL;
    wire_end_close(end, how);
}

static const struct transport_ops wire_ops = {wire_read, wire_write, wire_finish, wire_close};

static struct wire_end *wire_new(struct fixture *fixture)
{
    struct wire_end *ends = calloc(2, sizeof(*ends));
    if (ends == NULL || fixture->wire_count == sizeof(fixture->wires) / sizeof(fixture->wires[0])) {
        abort();
    }
    ends[0].peer = &ends[1];
    ends[1].peer = &ends[0];
    ends[0].incoming_max = ends[1].incoming_max = 65536;
    fixture->wires[fixture->wire_count++] = ends;
    return ends;
}

static void wire_open(struct wire_end *end, union transport_slot *slot, const struct transport_binding *binding)
{
    struct wire_transport *transport = (struct wire_transport *)(void *)slot;
    memset(slot, 0, sizeof(*slot));
    transport->transport.binding = binding;
    transport->end = end;
    end->transport = &transport->transport;
    end->events = TRANSPORT_WRITABLE;
}

static bool wires_tell(struct fixture *fixture)
{
    bool told = false;
    for (size_t i = 0; i < fixture->wire_count * 2; i++) {
        struct wire_end *end = &fixture->wires[i / 2][i % 2];
        if (end->events != 0 && end->transport != NULL) {
            unsigned events = end->events;
            end->events = 0;
            transport_tell(end->transport, events);
            told = true;
        }
    }
    return told;
}

/* ------------------------------------------------------------------------------------------------ cores */

static struct fixture_stream *stream_of(struct trunk_stream *stream)
{
    return container_of(stream, struct fixture_stream, stream);
}

/* The stream of a session at the core that the link belongs to, or NULL. */
static struct fixture_stream *core_session(struct fixture_link *link, const struct metadata_session *session)
{
    struct fixture *fixture = link->fixture;
    for (size_t i = 0; i < fixture->stream_count && session->known; i++) {
        struct fixture_stream *stream = &fixture->streams[i];
        if (stream->session.known && fixture->links[stream->link].core == link->core &&
            memcmp(stream->session.id, session->id, sizeof(session->id)) == 0) {
            return stream;
        }
    }
    return NULL;
}

static struct trunk_stream *core_opening(void *owner, const struct metadata *metadata, int *status)
{
    struct fixture_link *link = owner;
    struct fixture *fixture = link->fixture;
    struct fixture_stream *same = core_session(link, &metadata->session);
    if (same != NULL || (metadata->session.resumes && !(fixture->reopens && metadata->session.reopens))) {
        if (same != NULL && !fixture->forgetful && trunk_stream_interrupt(&same->stream) == ERROR_NONE) {
            same->asked_again++;
            same->link = link->number;
            return &same->stream;
        }
        *status = 410;
        return NULL;
    }
    bool declines = fixture->answer == FIXTURE_DECLINE || fixture->decline_link == link->number;
    if (declines || fixture->stream_count == FIXTURE_STREAMS_MAX) {
        fixture->declined++;
        return NULL;
    }
    struct fixture_stream *stream = &fixture->streams[fixture->stream_count++];
    memset(stream, 0, sizeof(*stream));
    stream->fixture = fixture;
    stream->link = link->number;
    stream->client = metadata->client;
    stream->session = metadata->session;
    strncpy(stream->service, metadata->service, sizeof(stream->service) - 1);
    strncpy(stream->server_name, metadata->server_name, sizeof(stream->server_name) - 1);
    return &stream->stream;
}

static void core_attached(void *owner, struct trunk_stream *stream)
{
    struct fixture *fixture = ((struct fixture_link *)owner)->fixture;
    stream_of(stream)->attached = true;
    if (fixture->answer == FIXTURE_ACCEPT && trunk_stream_accept(stream) != ERROR_NONE) {
        trunk_stream_reset(stream, TRUNK_CODE_INTERNAL_ERROR);
    } else if (fixture->answer == FIXTURE_REFUSE) {
        stream_of(stream)->closed = true;
        trunk_stream_refuse(stream, fixture->status, "no\n");
    }
}

static void core_data(void *owner, struct trunk_stream *stream, const uint8_t *bytes, size_t length)
{
    struct fixture *fixture = ((struct fixture_link *)owner)->fixture;
    bytes_append(&stream_of(stream)->received, bytes, length);
    if (fixture->hold_data) {
        stream_of(stream)->unconsumed += length;
    } else {
        trunk_stream_consume(stream, length);
    }
}

static void core_end(void *owner, struct trunk_stream *stream)
{
    (void)owner;
    stream_of(stream)->ended = true;
}

static void core_closed(void *owner, struct trunk_stream *stream, enum error_code error, uint32_t detail)
{
    (void)owner;
    stream_of(stream)->closed = true;
    stream_of(stream)->error = error;
    stream_of(stream)->detail = detail;
}

static void core_suspended(void *owner, struct trunk_stream *stream, enum error_code reason)
{
    (void)reason;
    stream_of(stream)->suspended++;
    if (((struct fixture_link *)owner)->fixture->over) {
        trunk_stream_reset(stream, TRUNK_CODE_CANCEL);
    }
}

static void core_resumed(void *owner, struct trunk_stream *stream)
{
    (void)owner;
    stream_of(stream)->resumed++;
}

static void core_nothing(void *owner)
{
    (void)owner;
}

static void core_writable(void *owner, struct trunk_stream *stream)
{
    (void)owner;
    (void)stream;
}

static void core_goaway(void *owner, uint32_t code)
{
    (void)code;
    ((struct fixture_link *)owner)->goaways++;
}

static void core_refused(void *owner, enum error_code error, int status)
{
    (void)owner;
    (void)error;
    (void)status;
}

static const struct trunk_events core_events = {
    .opening = core_opening,
    .attached = core_attached,
    .data = core_data,
    .end = core_end,
    .writable = core_writable,
    .closed = core_closed,
    .suspended = core_suspended,
    .resumed = core_resumed,
    .ready = core_nothing,
    .goaway = core_goaway,
    .refused = core_refused,
};

static enum error_code core_established(struct link *link, const struct tls_peer_info *peer)
{
    (void)peer;
    (void)link;
    return ERROR_NONE;
}

static bool core_greeted(struct link *link, uint32_t edge_worker)
{
    struct fixture_link *owner = container_of(link, struct fixture_link, link);
    struct trunk_settings settings;
    (void)edge_worker;
    trunk_settings_init(&settings, TRUNK_ACCEPTOR);
    settings.resume = owner->fixture->resumes;
    settings.work_slab = &owner->fixture->core_works;
    if (owner->fixture->core_streams_max != 0) {
        settings.sessions_max = owner->fixture->core_streams_max;
    }
    if (link_open_trunk(link, &settings, &core_events, owner) == ERROR_NONE && owner->fixture->goaway_at_once) {
        (void)trunk_goaway(link->trunk, TRUNK_CODE_NO_ERROR);
    }
    return false;
}

static void core_link_closed(struct link *link, enum error_code error)
{
    (void)error;
    container_of(link, struct fixture_link, link)->live = false;
}

static const struct link_events core_link_events = {core_established, core_greeted, core_link_closed};

static void core_ready(struct transport *transport, unsigned events)
{
    link_ready(&container_of(transport, struct fixture_link, slot)->link, events);
}

static const struct transport_binding core_binding = {&wire_ops, core_ready};
static const struct transport_binding uplink_binding = {&wire_ops, uplink_ready};

static enum error_code fixture_dial(void *owner, size_t core, union transport_slot *slot)
{
    struct fixture *fixture = owner;
    fixture->dials++;
    if (fixture->dial_fails || fixture->lost_core == core || fixture->link_count == FIXTURE_LINKS_MAX) {
        return ERROR_UNREACHABLE;
    }
    struct wire_end *wire = wire_new(fixture);
    struct fixture_link *link = &fixture->links[fixture->link_count];
    link->fixture = fixture;
    link->core = core;
    link->number = fixture->link_count;
    if (!fixture->core_silent) {
        enum error_code error =
            link_init_acceptor(&link->link, &fixture->scheduler, &fixture->scratch, &link->slot.transport, core_context,
                               TIMEOUT_TRUNK_HANDSHAKE_MS, &core_link_events);
        if (error != ERROR_NONE) {
            return ERROR_UNREACHABLE;
        }
        link->live = true;
        wire_open(&wire[1], &link->slot, &core_binding);
    }
    fixture->link_count++;
    wire_open(&wire[0], slot, &uplink_binding);
    return ERROR_NONE;
}

void fixture_link_cut(struct fixture_link *link)
{
    link->live = false;
    link_dispose(&link->link);
}

struct fixture_stream *fixture_stream(struct fixture *fixture, size_t number)
{
    return number < fixture->stream_count ? &fixture->streams[number] : NULL;
}

void fixture_stream_send(struct fixture_stream *stream, const void *bytes, size_t length)
{
    if (trunk_stream_write(&stream->stream, bytes, length) != ERROR_NONE) {
        trunk_stream_reset(&stream->stream, TRUNK_CODE_INTERNAL_ERROR);
    }
}

void fixture_stream_consume(struct fixture_stream *stream)
{
    size_t bytes = stream->unconsumed;
    stream->unconsumed = 0;
    trunk_stream_consume(&stream->stream, bytes);
}

/* ------------------------------------------------------------------------------------------------ clients */

static struct fixture_client *client_of(struct tls_session *tls)
{
    return container_of(tls, struct fixture_client, tls);
}

static void user_output(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct wire_end *wire = client_of(tls)->wire;
    if (wire->closed || wire->peer->closed) {
        return;
    }
    bytes_append(&wire->peer->incoming, bytes, length); /* the network holds whatever the client sends */
    wire->peer->events |= TRANSPORT_READABLE;
}

static void user_established(struct tls_session *tls, const struct tls_peer_info *peer)
{
    (void)peer;
    client_of(tls)->established = true;
}

static void user_data(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    bytes_append(&client_of(tls)->received, bytes, length);
}

static void user_end(struct tls_session *tls)
{
    client_of(tls)->ended = true;
}

static const struct tls_events user_events = {user_output, user_established, user_data, user_end};
const struct tls_events *const fixture_tls_events = &user_events;

static const struct transport_binding client_binding = {&wire_ops, edge_client_ready};

static struct fixture_client *fixture_accept(struct fixture *fixture)
{
    struct fixture_client *client = &fixture->clients[fixture->client_count++];
    struct address peer;
    struct address local;
    struct edge_client *admitted = NULL;
    memset(client, 0, sizeof(*client));
    client->fixture = fixture;
    client->wire = wire_new(fixture);
    (void)address_parse("192.0.2.1:50000", false, &peer);
    (void)address_parse("198.51.100.1:443", false, &local);
    if (relay_admit(&fixture->relay, 0, &peer, &local, &admitted) != ERROR_NONE) {
        client->refused = true;
        client->wire->closed = true;
        return client;
    }
    wire_open(client->wire->peer, &admitted->slot, &client_binding);
    edge_client_start(admitted);
    return client;
}

struct fixture_client *fixture_connect_raw(struct fixture *fixture)
{
    return fixture_accept(fixture);
}

struct fixture_client *fixture_connect(struct fixture *fixture, const char *server_name)
{
    struct fixture_client *client = fixture_accept(fixture);
    client->error = tls_init_client(&client->tls, user_context, server_name, NULL);
    if (client->error == ERROR_NONE) {
        client->error = tls_start(&client->tls, &user_events);
    }
    return client;
}

struct fixture_client *fixture_connect_one(struct fixture *fixture)
{
    struct fixture_client *client = fixture_connect(fixture, "localhost");
    fixture_pump(fixture);
    return client;
}

void fixture_client_send(struct fixture_client *client, const void *bytes, size_t length)
{
    enum error_code error = tls_send(&client->tls, &user_events, bytes, length);
    if (client->error == ERROR_NONE) {
        client->error = error;
    }
}

void fixture_client_send_raw(struct fixture_client *client, const void *bytes, size_t length)
{
    bytes_append(&client->wire->peer->incoming, bytes, length);
    client->wire->peer->events |= TRANSPORT_READABLE;
}

void fixture_client_end(struct fixture_client *client)
{
    (void)tls_finish(&client->tls, &user_events);
}

void fixture_client_finish(struct fixture_client *client)
{
    client->sent_fin = true;
    wire_end_finish(client->wire);
}

void fixture_client_reset(struct fixture_client *client)
{
    wire_end_close(client->wire, TRANSPORT_CLOSE_RESET);
}

/* Reads what came for a client. */
static bool client_read(struct fixture_client *client)
{
    struct wire_end *wire = client->wire;
    uint8_t bytes[16384];
    if (client->stalled || wire->closed) {
        return false;
    }
    size_t length = bytes_take(&wire->incoming, bytes, sizeof(bytes));
    wire_space(wire);
    if (length > 0 && client->tls.backend != NULL && client->error == ERROR_NONE) {
        client->error = tls_receive(&client->tls, &user_events, bytes, length);
    } else if (length > 0) {
        bytes_append(&client->received, bytes, length);
    }
    client->finished = client->finished || (wire->incoming.length == 0 && wire->finished && !wire->reset);
    client->reset = wire->reset;
    return length > 0;
}

/* ------------------------------------------------------------------------------------------------ life */

void fixture_pump(struct fixture *fixture)
{
    bool moved = true;
    while (moved) {
        scheduler_advance(&fixture->scheduler, fixture->scheduler.now_us);
        scheduler_run_tasks(&fixture->scheduler);
        moved = wires_tell(fixture) || scheduler_wait_ms(&fixture->scheduler) == 0;
        for (size_t i = 0; i < fixture->client_count; i++) {
            moved |= client_read(&fixture->clients[i]);
        }
    }
}

void fixture_wait(struct fixture *fixture, uint64_t milliseconds)
{
    uint64_t end = fixture->scheduler.now_us + milliseconds * 1000U;
    while (fixture->scheduler.now_us < end) {
        int wait = scheduler_wait_ms(&fixture->scheduler);
        uint64_t step = wait < 0 ? end - fixture->scheduler.now_us : (uint64_t)(wait > 0 ? wait : 1) * 1000U;
        uint64_t left = end - fixture->scheduler.now_us;
        scheduler_advance(&fixture->scheduler, fixture->scheduler.now_us + (step < left ? step : left));
        fixture_pump(fixture);
    }
}

static void fixture_stopped(void *owner)
{
    ((struct fixture *)owner)->stops++;
}

void fixture_prepare(struct fixture *fixture)
{
    static char address[] = "198.51.100.1:443";
    static char first[] = "core-0:443";
    static char second[] = "core-1:443";
    static char name[] = "core";
    static char service[] = "echo";
    memset(fixture, 0, sizeof(*fixture));
    scheduler_init(&fixture->scheduler, 1000000U);
    trunk_work_slab_init(&fixture->core_works);
    fixture->decline_link = SIZE_MAX;
    fixture->lost_core = SIZE_MAX;
    fixture->listens[0].address = address;
    fixture->cores[0] = (struct edge_core_settings){.address = first, .name = name};
    fixture->cores[1] = (struct edge_core_settings){.address = second, .name = name};
    fixture->settings = (struct edge_settings){
        .listens = fixture->listens,
        .listen_count = 1,
        .cores = fixture->cores,
        .core_count = 1,
        .routes = fixture->routes,
        .service = service,
        .trunks = 1,
        .sessions_max = 1000,
        .handshakes_max = 1000,
        .sessions_per_trunk = LIMIT_SESSIONS_PER_TRUNK,
        .trunk_opens_max = LIMIT_TRUNK_OPENS,
        .stream_window_bytes = LIMIT_STREAM_WINDOW_BYTES,
        .stream_window_max_bytes = LIMIT_STREAM_WINDOW_MAX_BYTES,
        .trunk_window_bytes = LIMIT_TRUNK_WINDOW_BYTES,
        .buffer_memory_bytes = LIMIT_BUFFER_MEMORY_BYTES,
        .handshake_timeout_ms = TIMEOUT_HANDSHAKE_MS,
        .open_timeout_ms = TIMEOUT_OPEN_MS,
        .linger_timeout_ms = TIMEOUT_LINGER_MS,
        .stall_timeout_ms = TIMEOUT_STALL_MS,
        .drain_timeout_ms = TIMEOUT_DRAIN_MS,
        .ping_interval_ms = TIMEOUT_PING_INTERVAL_MS,
        .ping_timeout_ms = TIMEOUT_PING_ANSWER_MS,
        .reconnect_min_ms = TIMEOUT_RECONNECT_MIN_MS,
        .reconnect_max_ms = TIMEOUT_RECONNECT_MAX_MS,
    };
}

enum error_code fixture_start(struct fixture *fixture)
{
    static const struct relay_ops ops = {.dial = fixture_dial, .stopped = fixture_stopped};
    const struct relay_settings settings = {
        .edge = &fixture->settings,
        .client_context = edge_context,
        .trunk_context = trunk_context,
        .sessions_max = fixture->settings.sessions_max,
        .handshakes_max = fixture->settings.handshakes_max,
        .handshakes_per_second = fixture->settings.handshakes_per_second,
        .buffer_memory_bytes = fixture->settings.buffer_memory_bytes,
        .admission = fixture->admission,
        .edge_worker = 7,
        .seed = 1,
        .session_secret = "a secret of 32 bytes, and no mor",
    };
    enum error_code error = scratch_init(&fixture->scratch);
    if (error != ERROR_NONE) {
        return error;
    }
    error = relay_init(&fixture->relay, &settings, &fixture->scheduler, &ops, fixture);
    if (error != ERROR_NONE) {
        scratch_dispose(&fixture->scratch);
        return error;
    }
    fixture->started = true;
    error = relay_start(&fixture->relay);
    fixture_pump(fixture);
    return error;
}

void fixture_dispose(struct fixture *fixture)
{
    fixture->over = true;
    if (fixture->started) {
        relay_dispose(&fixture->relay);
        for (size_t i = 0; i < fixture->link_count; i++) {
            if (fixture->links[i].live) {
                link_dispose(&fixture->links[i].link);
            }
        }
        scratch_dispose(&fixture->scratch);
    }
    for (size_t i = 0; i < fixture->client_count; i++) {
        tls_dispose(&fixture->clients[i].tls);
        free(fixture->clients[i].received.bytes);
    }
    for (size_t i = 0; i < fixture->stream_count; i++) {
        trunk_stream_reset(&fixture->streams[i].stream, TRUNK_CODE_CANCEL);
        free(fixture->streams[i].received.bytes);
    }
    slab_dispose(&fixture->core_works);
    for (size_t i = 0; i < fixture->wire_count; i++) {
        free(fixture->wires[i][0].incoming.bytes);
        free(fixture->wires[i][1].incoming.bytes);
        free(fixture->wires[i]);
    }
}

void fixture_end(struct fixture *fixture)
{
    fixture_dispose(fixture);
    assert_int_equal(fixture->relay.client_count, 0);
    assert_int_equal(fixture->relay.handshake_count, 0);
    assert_int_equal(fixture->relay.client_slab.objects, 0);
    assert_int_equal(fixture->relay.work_slab.objects, 0);
    assert_int_equal(fixture->relay.pool.links, 0);
    assert_int_equal(fixture->scheduler.timers.armed, 0);
    assert_true(list_empty(&fixture->scheduler.tasks));
    assert_true(list_empty(&fixture->scheduler.background));
}

size_t fixture_trunks_up(struct fixture *fixture)
{
    size_t up = 0;
    for (size_t i = 0; i < fixture->relay.pool.place_count; i++) {
        const struct uplink *uplink = fixture->relay.pool.places[i].current;
        up += uplink != NULL && uplink->state == UPLINK_UP;
    }
    return up;
}
