/* Two trunks in memory; see the header. Everything belongs to the test that made the pair. */
#include "tests/unit/trunk_pair.h"

#include <string.h>

#include "mux/limits.h"
#include "mux/memory.h"
#include "mux/tls.h"

static void end_want_send(struct trunk_carrier *carrier)
{
    container_of(carrier, struct pair_end, carrier)->wants_send = true;
}

static void end_failed(struct trunk_carrier *carrier, enum error_code error)
{
    container_of(carrier, struct pair_end, carrier)->failure = error;
}

static struct pair_stream *pair_stream_of(struct trunk_stream *stream)
{
    return container_of(stream, struct pair_stream, stream);
}

static struct trunk_stream *on_opening(void *owner, const struct metadata *metadata, int *status)
{
    (void)status;
    struct trunk_pair *pair = ((struct pair_end *)owner)->pair;
    struct pair_stream *accepted = pair->refuse ? NULL : memory_zalloc(sizeof(*accepted));
    if (accepted == NULL) {
        return NULL;
    }
    accepted->metadata = memory_alloc(sizeof(*metadata) + metadata_copy_bytes(metadata));
    if (accepted->metadata == NULL) {
        memory_free(accepted);
        return NULL;
    }
    metadata_copy_into(accepted->metadata, (char *)(accepted->metadata + 1), metadata);
    accepted->consume = pair->consume;
    list_append(&pair->accepted, &accepted->node);
    return &accepted->stream;
}

static void on_attached(void *owner, struct trunk_stream *stream)
{
    struct trunk_pair *pair = ((struct pair_end *)owner)->pair;
    if (!pair->hold && trunk_stream_accept(stream) != ERROR_NONE) {
        trunk_stream_reset(stream, TRUNK_CODE_INTERNAL_ERROR);
    }
}

static void on_opened(void *owner, struct trunk_stream *stream)
{
    (void)owner;
    pair_stream_of(stream)->opened++;
}

static void on_data(void *owner, struct trunk_stream *stream, const uint8_t *bytes, size_t length)
{
    (void)owner;
    struct pair_stream *recorded = pair_stream_of(stream);
    if (recorded->received == NULL) {
        recorded->received = memory_alloc(PAIR_RECEIVED_MAX);
    }
    if (recorded->received == NULL || recorded->received_length + length > PAIR_RECEIVED_MAX) {
        trunk_stream_reset(stream, TRUNK_CODE_INTERNAL_ERROR);
        return;
    }
    memcpy(recorded->received + recorded->received_length, bytes, length);
    recorded->received_length += length;
    if (recorded->consume) {
        trunk_stream_consume(stream, length);
    }
}

static void on_end(void *owner, struct trunk_stream *stream)
{
    (void)owner;
    pair_stream_of(stream)->ended++;
}

static void on_writable(void *owner, struct trunk_stream *stream)
{
    (void)owner;
    pair_stream_of(stream)->writable++;
}

static void on_closed(void *owner, struct trunk_stream *stream, enum error_code error, uint32_t detail)
{
    (void)owner;
    struct pair_stream *recorded = pair_stream_of(stream);
    recorded->closed++;
    recorded->error = error;
    recorded->detail = detail;
}

static void on_ready(void *owner)
{
    ((struct pair_end *)owner)->ready = true;
}

static void on_goaway(void *owner, uint32_t code)
{
    (void)code;
    ((struct pair_end *)owner)->goaways++;
}

static void on_refused(void *owner, enum error_code error, int status)
{
    (void)status;
    struct pair_end *end = owner;
    end->refusals++;
    end->refusal = error;
}

const struct trunk_events pair_opener_events = {
    .opened = on_opened,
    .data = on_data,
    .end = on_end,
    .writable = on_writable,
    .closed = on_closed,
    .ready = on_ready,
    .goaway = on_goaway,
};

const struct trunk_events pair_acceptor_events = {
    .opening = on_opening,
    .attached = on_attached,
    .data = on_data,
    .end = on_end,
    .writable = on_writable,
    .closed = on_closed,
    .ready = on_ready,
    .goaway = on_goaway,
    .refused = on_refused,
};

static enum error_code end_init(struct trunk_pair *pair, struct pair_end *end, const struct trunk_settings *settings)
{
    end->pair = pair;
    list_init(&end->wire);
    end->carrier = (struct trunk_carrier){.want_send = end_want_send, .failed = end_failed};
    return trunk_new(&end->trunk, settings, &pair->scheduler, &end->carrier,
                     settings->role == TRUNK_OPENER ? &pair_opener_events : &pair_acceptor_events, end);
}

enum error_code pair_init(struct trunk_pair *pair, const struct trunk_settings *opener,
                          const struct trunk_settings *acceptor)
{
    return pair_init_lagged(pair, opener, acceptor, 0, 0);
}

enum error_code pair_init_lagged(struct trunk_pair *pair, const struct trunk_settings *opener,
                                 const struct trunk_settings *acceptor, uint64_t lag_us, size_t bytes_per_ms)
{
    struct trunk_settings defaults;
    memset(pair, 0, sizeof(*pair));
    pair->lag_us = lag_us;
    pair->bytes_per_ms = bytes_per_ms;
    pair->consume = true;
    list_init(&pair->accepted);
    random_seed(&pair->random, 1);
    scheduler_init(&pair->scheduler, 1000000);
    trunk_settings_init(&defaults, TRUNK_OPENER);
    enum error_code error = end_init(pair, &pair->opener, opener != NULL ? opener : &defaults);
    if (error == ERROR_NONE) {
        trunk_settings_init(&defaults, TRUNK_ACCEPTOR);
        error = end_init(pair, &pair->acceptor, acceptor != NULL ? acceptor : &defaults);
    }
    if (error == ERROR_NONE) {
        error = pair_pump(pair);
    }
    return error;
}

static void wire_clear(struct list *wire)
{
    if (wire->head.next == NULL) {
        return; /* the end was never made */
    }
    list_for_each(wire, node) {
        list_remove(node);
        memory_free(container_of(node, struct pair_packet, node));
    }
}

void pair_dispose(struct trunk_pair *pair)
{
    trunk_free(&pair->opener.trunk);
    trunk_free(&pair->acceptor.trunk);
    wire_clear(&pair->opener.wire);
    wire_clear(&pair->acceptor.wire);
    list_for_each(&pair->accepted, node) {
        struct pair_stream *accepted = container_of(node, struct pair_stream, node);
        list_remove(node);
        pair_stream_dispose(accepted);
        memory_free(accepted);
    }
}

void pair_stream_dispose(struct pair_stream *stream)
{
    memory_free(stream->metadata);
    memory_free(stream->received);
    stream->metadata = NULL;
    stream->received = NULL;
}

static enum error_code pair_feed(struct trunk_pair *pair, struct pair_end *to, const uint8_t *bytes, size_t length)
{
    enum error_code error = ERROR_NONE;
    while (length > 0 && error == ERROR_NONE) {
        size_t piece = length;
        if (pair->split_max > 0) {
            size_t split = 1 + (size_t)random_below(&pair->random, pair->split_max);
            piece = split < length ? split : length;
        }
        error = trunk_receive(to->trunk, bytes, piece);
        bytes += piece;
        length -= piece;
    }
    return error;
}

static enum error_code wire_put(struct trunk_pair *pair, struct pair_end *from, const uint8_t *bytes, size_t length)
{
    struct pair_packet *packet = memory_alloc(sizeof(*packet) + length);
    if (packet == NULL) {
        return ERROR_NO_MEMORY;
    }
    packet->due_us = pair->scheduler.now_us + pair->lag_us;
    packet->length = length;
    memcpy(packet->bytes, bytes, length);
    list_append(&from->wire, &packet->node);
    from->sent_in_ms += length;
    return ERROR_NONE;
}

/* Hands over what has arrived. */
static enum error_code wire_deliver(struct trunk_pair *pair, struct pair_end *from, struct pair_end *to, bool *moved)
{
    struct list_node *node;
    enum error_code error = ERROR_NONE;
    while (error == ERROR_NONE && (node = list_first(&from->wire)) != NULL) {
        struct pair_packet *packet = container_of(node, struct pair_packet, node);
        if (packet->due_us > pair->scheduler.now_us) {
            break;
        }
        list_remove(node);
        *moved = true;
        error = pair_feed(pair, to, packet->bytes, packet->length);
        memory_free(packet);
    }
    return error;
}

static enum error_code pair_move(struct trunk_pair *pair, struct pair_end *from, struct pair_end *to, bool *moved)
{
    uint8_t record[TLS_RECORD_MAX_BYTES];
    size_t length = 0;
    if (pair->bytes_per_ms > 0 && from->sent_in_ms >= pair->bytes_per_ms) {
        return wire_deliver(pair, from, to, moved);
    }
    from->wants_send = false;
    enum error_code error = trunk_send(from->trunk, record, sizeof(record), &length);
    if (error == ERROR_NONE && length > 0) {
        *moved = true;
        pair->frames_bytes += length;
        error = pair->lag_us > 0 ? wire_put(pair, from, record, length) : pair_feed(pair, to, record, length);
    }
    return error == ERROR_NONE ? wire_deliver(pair, from, to, moved) : error;
}

enum error_code pair_pump(struct trunk_pair *pair)
{
    bool moved = true;
    while (moved) {
        moved = false;
        enum error_code error = pair_move(pair, &pair->opener, &pair->acceptor, &moved);
        if (error == ERROR_NONE) {
            error = pair_move(pair, &pair->acceptor, &pair->opener, &moved);
        }
        if (error != ERROR_NONE) {
            return error;
        }
        scheduler_run_tasks(&pair->scheduler);
    }
    return ERROR_NONE;
}

enum error_code pair_wait(struct trunk_pair *pair, uint64_t milliseconds)
{
    enum error_code error = ERROR_NONE;
    for (uint64_t i = 0; i < milliseconds && error == ERROR_NONE; i++) {
        scheduler_advance(&pair->scheduler, pair->scheduler.now_us + 1000);
        pair->opener.sent_in_ms = 0;
        pair->acceptor.sent_in_ms = 0;
        error = pair_pump(pair);
    }
    return error;
}

enum error_code pair_open(struct trunk_pair *pair, struct pair_stream *stream)
{
    memset(stream, 0, sizeof(*stream));
    stream->consume = true;
    struct metadata metadata = {.service = "echo", .server_name = "www.example.com", .alpn = "h2"};
    struct address client;
    if (address_parse("192.0.2.7:5555", false, &client) == ERROR_NONE) {
        address_pack(&client, &metadata.client);
    }
    return trunk_stream_open(pair->opener.trunk, &stream->stream, &metadata);
}

struct pair_stream *pair_accepted(struct trunk_pair *pair, size_t nth)
{
    list_for_each(&pair->accepted, node) {
        if (nth-- == 0) {
            return container_of(node, struct pair_stream, node);
        }
    }
    return NULL;
}

void pair_fill(uint8_t *bytes, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)((i * 31U + seed + (i >> 8)) & 0xffU);
    }
}

enum error_code pair_send_all(struct trunk_pair *pair, struct pair_stream *from, const uint8_t *bytes, size_t length)
{
    enum error_code error = ERROR_NONE;
    for (size_t sent = 0; sent < length && error == ERROR_NONE;) {
        size_t room = trunk_stream_room(&from->stream);
        size_t part = room < length - sent ? room : length - sent;
        error = part == 0 ? ERROR_LIMIT : trunk_stream_write(&from->stream, bytes + sent, part);
        sent += part;
        error = error == ERROR_NONE ? pair_pump(pair) : error;
    }
    return error;
}
