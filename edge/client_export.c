/*
 * Clients that go on in another process, as bytes and back: docs/ARCHITECTURE.md, "Takeover". To write one down changes
 * nothing, so that it can be gone on with here if the other process fails; once the other has begun, it is let go
 * without a word to anybody. A session goes on there as one whose trunk is lost, on a trunk of the other process. What
 * comes is from a process of the same user, and is checked all the same. The thread that has the relay.
 */
#include "edge/client.h"

#include <assert.h>
#include <string.h>

#include "edge/relay.h"
#include "edge/uplink.h"
#include "mux/memory.h"

/* The first byte of each. */
enum client_export_kind {
    CLIENT_EXPORT_FRESH = 1,  /* nothing was read from it yet */
    CLIENT_EXPORT_SESSION = 2 /* its handshake is complete */
};

#define NO_CORE UINT16_MAX

/* ------------------------------------------------------------------------------------------------ writing */

/* The core that has its session; NO_CORE without a stream. */
static uint16_t export_core(const struct edge_client *client)
{
    if (!trunk_stream_attached(&client->stream)) {
        return NO_CORE;
    }
    if (trunk_stream_suspended(&client->stream)) {
        return client->extra->core;
    }
    return ((const struct uplink *)trunk_owner(client->stream.trunk))->core;
}

static bool export_session_possible(const struct edge_client *client)
{
    bool has_stream = trunk_stream_attached(&client->stream);
    if (!tls_established(&client->tls) || client->failure != ERROR_NONE) {
        return false;
    }
    switch ((enum edge_client_state)client->state) {
    case EDGE_CLIENT_EXPECT_TRUNK:
        return !has_stream;
    case EDGE_CLIENT_EXPECT_ANSWER:
        return has_stream && trunk_stream_exportable(&client->stream);
    case EDGE_CLIENT_RELAYING:
        return !has_stream || trunk_stream_exportable(&client->stream);
    case EDGE_CLIENT_EXPECT_HANDSHAKE:
    case EDGE_CLIENT_LINGERING:
    case EDGE_CLIENT_CLOSED:
    case EDGE_CLIENT_STATE_COUNT:
        break;
    }
    return false;
}

enum edge_client_export edge_client_exportable(const struct edge_client *client, const struct edge_client_map *map)
{
    if (client->state == EDGE_CLIENT_EXPECT_HANDSHAKE) {
        bool taken = map->listeners[client->extra->listener] != EDGE_CLIENT_MAP_NONE;
        return !tls_initialized(&client->tls) && taken ? EDGE_CLIENT_EXPORT_YES : EDGE_CLIENT_EXPORT_NO;
    }
    if (!export_session_possible(client)) {
        return EDGE_CLIENT_EXPORT_NO;
    }
    uint16_t core = export_core(client);
    bool waits = core != NO_CORE && trunk_stream_suspended(&client->stream);
    return core == NO_CORE || waits || map->cores_up[core] ? EDGE_CLIENT_EXPORT_YES : EDGE_CLIENT_EXPORT_NO_CORE;
}

static bool client_unsettled(const struct edge_client *client)
{
    bool begun = client->state == EDGE_CLIENT_EXPECT_HANDSHAKE && tls_initialized(&client->tls);
    bool asked = trunk_stream_attached(&client->stream) && !trunk_stream_suspended(&client->stream) &&
                 (client->state == EDGE_CLIENT_EXPECT_ANSWER || trunk_stream_interrupted(&client->stream));
    return begun || asked;
}

size_t edge_clients_unsettled(const struct relay *relay)
{
    size_t count = 0;
    for (const struct edge_client *client = NULL; (client = slab_next(&relay->client_slab, client)) != NULL;) {
        count += client_unsettled(client);
    }
    return count;
}

static void export_address(const struct address_compact *address, struct pack *pack)
{
    pack_raw(pack, address->ip, sizeof(address->ip));
    pack_u16(pack, address->port);
    pack_u8(pack, address->family);
}

static void export_origin(const struct metadata *origin, struct pack *pack)
{
    pack_text(pack, origin->service);
    pack_text(pack, origin->server_name);
    pack_text(pack, origin->alpn);
    export_address(&origin->listener, pack);
    pack_u16(pack, origin->tls_version);
    pack_u16(pack, origin->tls_suite);
    pack_bytes(pack, origin->certificate, origin->certificate_length);
}

static void export_waiting(const struct edge_client *client, struct pack *pack)
{
    const struct edge_client_extra *extra = client->extra;
    uint64_t now_us = edge_client_relay(client)->scheduler->now_us;
    pack_u8(pack, extra != NULL);
    if (extra != NULL) {
        pack_chain(pack, &extra->pending);
        pack_chain(pack, &extra->input);
        pack_chain(pack, &extra->output);
        pack_u32(pack, extra->encrypted_bytes);
        pack_u32(pack, extra->suspended_us != 0 ? (uint32_t)((now_us - extra->suspended_us) / 1000U) : 0);
        pack_u8(pack, extra->attempts);
        pack_u8(pack, extra->moved);
        pack_u8(pack, extra->note != NULL);
    }
    if (extra != NULL && extra->note != NULL) {
        pack_u32(pack, extra->note->sent);
        pack_u32(pack, extra->note->consumed);
        pack_bytes(pack, extra->note->bytes, extra->note->length);
    }
}

/* How long no byte came or went, as far as the ticks tell. */
static uint32_t export_idle_ms(const struct edge_client *client)
{
    const struct edge_idle *idle = &edge_client_relay(client)->idle;
    return (uint8_t)(idle->tick - client->tick) * idle->tick_ms;
}

static void export_session(const struct edge_client *client, const struct edge_client_map *map, struct pack *pack)
{
    uint16_t core = export_core(client);
    pack_u8(pack, CLIENT_EXPORT_SESSION);
    pack_u64(pack, client->number);
    pack_u8(pack, client->state);
    pack_u8(pack, client->input_half);
    pack_u8(pack, client->output_half);
    pack_u8(pack, client->peer_finished);
    pack_u8(pack, client->reopens);
    pack_u32(pack, export_idle_ms(client));
    export_address(&client->peer, pack);
    export_origin(&client->origin->view, pack);
    export_waiting(client, pack);
    pack_u16(pack, core != NO_CORE ? map->cores[core] : NO_CORE);
    if (core != NO_CORE) {
        trunk_stream_export(&client->stream, pack);
    }
    if (tls_export(&client->tls, pack) != ERROR_NONE) {
        pack->failed = true;
    }
}

void edge_client_export(const struct edge_client *client, const struct edge_client_map *map, struct pack *pack)
{
    if (client->state == EDGE_CLIENT_EXPECT_HANDSHAKE) {
        pack_u8(pack, CLIENT_EXPORT_FRESH);
        pack_u16(pack, map->listeners[client->extra->listener]);
        export_address(&client->peer, pack);
        export_address(&client->extra->local, pack);
    } else {
        export_session(client, map, pack);
    }
}

void edge_client_let_go(struct edge_client *client)
{
    trunk_stream_forget(&client->stream);
    if (client->due) {
        client->due = 0;
        if (client->extra != NULL) {
            list_remove(&client->extra->due);
        }
    }
    /* Nothing is said to the client: there is another descriptor of its connection. */
    transport_close(&client->slot.transport, TRANSPORT_CLOSE_CLEAN);
    edge_client_free(client);
}

/* ------------------------------------------------------------------------------------------------ reading */

static void import_address(struct address_compact *address, struct unpack *unpack)
{
    const uint8_t *ip = unpack_raw(unpack, sizeof(address->ip));
    memset(address, 0, sizeof(*address));
    if (ip != NULL) {
        memcpy(address->ip, ip, sizeof(address->ip));
    }
    address->port = unpack_u16(unpack);
    address->family = unpack_u8(unpack);
    if (address->family != 0 && address->family != 4 && address->family != 6) {
        unpack_fail(unpack);
    }
}

/* NULL when it cannot be, or memory is out. */
static struct metadata_shared *import_origin(struct relay *relay, struct unpack *unpack)
{
    struct metadata_shared *origin = NULL;
    struct metadata metadata = {0};
    size_t certificate_length = 0;
    char *service = unpack_text(unpack, METADATA_SERVICE_MAX);
    char *server_name = unpack_text(unpack, TLS_SERVER_NAME_MAX);
    char *alpn = unpack_text(unpack, TLS_ALPN_MAX);
    import_address(&metadata.listener, unpack);
    metadata.tls_version = unpack_u16(unpack);
    metadata.tls_suite = unpack_u16(unpack);
    metadata.certificate = unpack_bytes(unpack, &certificate_length);
    if (!unpack->failed && certificate_length <= METADATA_CERTIFICATE_MAX) {
        metadata.service = service;
        metadata.server_name = server_name;
        metadata.alpn = alpn;
        metadata.certificate = certificate_length > 0 ? metadata.certificate : NULL;
        metadata.certificate_length = (uint32_t)certificate_length;
        origin = metadata_pool_share(&relay->origins, &metadata);
    }
    memory_free(service);
    memory_free(server_name);
    memory_free(alpn);
    return origin;
}

static void import_note(struct edge_client_extra *extra, struct unpack *unpack)
{
    struct metadata_note note = {.sent = unpack_u32(unpack)};
    size_t length = 0;
    note.consumed = unpack_u32(unpack);
    const uint8_t *bytes = unpack_bytes(unpack, &length);
    struct metadata_note *copy = NULL;
    if (bytes != NULL && length > 0 && length <= METADATA_NOTE_MAX) {
        copy = memory_alloc(sizeof(*copy) + length);
    }
    if (copy == NULL) {
        unpack_fail(unpack);
        return;
    }
    *copy = note;
    copy->bytes = memcpy(copy + 1, bytes, length);
    copy->length = (uint32_t)length;
    extra->note = copy;
}

/* *waited_ms: for another trunk, so far. */
static bool import_waiting(struct edge_client *client, struct unpack *unpack, uint32_t *waited_ms)
{
    struct edge_client_extra *extra = edge_client_extra_get(client);
    *waited_ms = 0;
    if (extra == NULL) {
        return false;
    }
    if (unpack_u8(unpack) != 0) {
        (void)unpack_chain(unpack, &extra->pending);
        (void)unpack_chain(unpack, &extra->input);
        (void)unpack_chain(unpack, &extra->output);
        extra->encrypted_bytes = unpack_u32(unpack);
        *waited_ms = unpack_u32(unpack);
        extra->attempts = unpack_u8(unpack);
        extra->moved = unpack_u8(unpack) != 0;
        if (unpack_u8(unpack) != 0) {
            import_note(extra, unpack);
        }
    }
    return !unpack->failed;
}

static void import_idle(struct edge_client *client, uint32_t idle_ms)
{
    const struct edge_idle *idle = &edge_client_relay(client)->idle;
    uint32_t ticks = idle->tick_ms > 0 ? idle_ms / idle->tick_ms : 0;
    client->tick = (uint8_t)(idle->tick - (ticks < UINT8_MAX / 2U ? ticks : UINT8_MAX / 2U));
}

/* What each state has, and no more. */
static bool import_possible(const struct edge_client *client)
{
    const struct edge_client_extra *extra = client->extra;
    const struct trunk_stream *stream = &client->stream;
    bool has_stream = trunk_stream_attached(stream);
    bool answered = has_stream && stream->output != STREAM_EXPECT_OPEN;
    size_t owed = extra->encrypted_bytes + chain_bytes(&extra->output);
    if (client->input_half == EDGE_CLIENT_HALF_FLUSHING) {
        return false;
    }
    switch ((enum edge_client_state)client->state) {
    case EDGE_CLIENT_EXPECT_TRUNK:
        return !has_stream && owed == 0 && client->output_half == EDGE_CLIENT_HALF_OPEN;
    case EDGE_CLIENT_EXPECT_ANSWER:
        return has_stream && !answered && owed == 0 && client->output_half == EDGE_CLIENT_HALF_OPEN;
    case EDGE_CLIENT_RELAYING:
        return has_stream ? answered && owed <= trunk_stream_unconsumed(stream)
                          : client->input_half == EDGE_CLIENT_HALF_ENDED;
    case EDGE_CLIENT_EXPECT_HANDSHAKE:
    case EDGE_CLIENT_LINGERING:
    case EDGE_CLIENT_CLOSED:
    case EDGE_CLIENT_STATE_COUNT:
        break;
    }
    return false;
}

/* Its place in the lists, and its timer, as if it had come to this state here. */
static enum error_code import_settle(struct edge_client *client, uint32_t waited_ms)
{
    struct relay *relay = edge_client_relay(client);
    const struct edge_settings *settings = relay->settings;
    enum error_code error = ERROR_NONE;
    if (client->state != EDGE_CLIENT_RELAYING) {
        error = edge_client_arm(client, settings->open_timeout_ms);
    } else if (edge_client_has_pending(client) && settings->stall_timeout_ms > 0) {
        error = edge_client_arm(client, settings->stall_timeout_ms);
    }
    if (client->state == EDGE_CLIENT_EXPECT_TRUNK) {
        list_append(&relay->waiting, &client->extra->waiting);
    } else if (trunk_stream_attached(&client->stream)) {
        edge_resumes_enlist(client, waited_ms);
        relay->resumes.moves = relay->resumes.moves || client->extra->moved;
    }
    if (client->state == EDGE_CLIENT_RELAYING &&
        (!trunk_stream_attached(&client->stream) || client->output_half == EDGE_CLIENT_HALF_ENDING)) {
        edge_client_defer(client); /* it ends when all has gone to the client, which may be so already */
    }
    relay_settle_later(relay);
    return error;
}

static enum error_code import_session(struct edge_client *client, struct unpack *unpack)
{
    struct relay *relay = edge_client_relay(client);
    uint32_t waited_ms = 0;
    client->number = unpack_u64(unpack);
    uint8_t state = unpack_u8(unpack);
    client->input_half = unpack_u8(unpack) & 3U;
    client->output_half = unpack_u8(unpack) & 3U;
    client->peer_finished = unpack_u8(unpack) != 0;
    client->reopens = unpack_u8(unpack) != 0;
    import_idle(client, unpack_u32(unpack));
    struct address_compact peer;
    import_address(&peer, unpack);
    if (unpack->failed || state >= EDGE_CLIENT_STATE_COUNT) {
        return ERROR_INVALID;
    }
    if (!admission_adopt(relay->admission, &peer, relay->scheduler->now_us)) {
        return ERROR_NO_MEMORY;
    }
    client->peer = peer;
    client->state = state & 0xfU; /* it begins in it */
    relay->handshake_count--;
    client->origin = import_origin(relay, unpack);
    if (client->origin == NULL || !import_waiting(client, unpack, &waited_ms)) {
        return unpack->failed ? ERROR_INVALID : ERROR_NO_MEMORY;
    }
    uint16_t core = unpack_u16(unpack);
    enum error_code error = ERROR_NONE;
    if (core != NO_CORE) {
        client->extra->core = core;
        error = core < relay->pool.core_count
                    ? trunk_stream_import(&client->stream, unpack, &relay->work_slab, &relay->buffers)
                    : ERROR_INVALID;
    }
    if (error == ERROR_NONE) {
        error = tls_import(&client->tls, unpack, &relay->tls);
    }
    if (error == ERROR_NONE && !import_possible(client)) {
        error = ERROR_INVALID;
    }
    return error != ERROR_NONE ? error : import_settle(client, waited_ms);
}

static enum error_code import_fresh(struct edge_client *client, struct unpack *unpack)
{
    struct relay *relay = edge_client_relay(client);
    struct address_compact peer;
    struct address_compact local;
    uint16_t listener = unpack_u16(unpack);
    import_address(&peer, unpack);
    import_address(&local, unpack);
    if (unpack->failed || listener >= relay->settings->listen_count) {
        return ERROR_INVALID;
    }
    struct edge_client_extra *extra = edge_client_extra_get(client);
    if (extra == NULL || !admission_adopt(relay->admission, &peer, relay->scheduler->now_us)) {
        return ERROR_NO_MEMORY;
    }
    client->peer = peer;
    extra->local = local;
    extra->listener = listener;
    return ERROR_NONE;
}

enum error_code edge_client_import(struct relay *relay, struct unpack *unpack, struct edge_client **result)
{
    enum error_code error = ERROR_INVALID;
    struct edge_client *client = slab_alloc(&relay->client_slab);
    *result = NULL;
    if (client == NULL) {
        return ERROR_NO_MEMORY;
    }
    relay->client_count++;
    relay->handshake_count++;
    switch (unpack_u8(unpack)) {
    case CLIENT_EXPORT_FRESH:
        error = import_fresh(client, unpack);
        break;
    case CLIENT_EXPORT_SESSION:
        error = import_session(client, unpack);
        break;
    default:
        break;
    }
    if (error != ERROR_NONE) {
        edge_client_let_go(client);
        return error;
    }
    relay->counters.clients_taken_over++;
    *result = client;
    return ERROR_NONE;
}
