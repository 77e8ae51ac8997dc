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

/* The accepted stream of that session that is not over, or NULL. */
static struct pair_stream *pair_session(struct trunk_pair *pair, const struct metadata_session *session)
{
    list_for_each(&pair->accepted, node) {
        struct pair_stream *accepted = container_of(node, struct pair_stream, node);
        const struct metadata_session *known = &accepted->metadata->session;
        bool over = !trunk_stream_attached(&accepted->stream) && !trunk_stream_suspended(&accepted->stream);
        if (!over && session->known && known->known && memcmp(known->id, session->id, sizeof(session->id)) == 0) {
            return accepted;
        }
    }
    return NULL;
}

static struct trunk_stream *on_opening(void *owner, const struct metadata *metadata, int *status)
{
    struct trunk_pair *pair = ((struct pair_end *)owner)->pair;
    struct pair_stream *same = pair_session(pair, &metadata->session);
    if (same != NULL || (metadata->session.resumes && !(pair->reopen && metadata->session.reopens))) {
        if (same != NULL && trunk_stream_interrupt(&same->stream) == ERROR_NONE) {
            return &same->stream;
        }
        *status = 410;
        return NULL;
    }
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

static bool pair_stream_reserve(struct pair_stream *stream, size_t length)
{
    size_t needed = stream->received_length + length;
    if (needed <= stream->received_capacity) {
        return true;
    }
    size_t capacity = needed > PAIR_RECEIVED_MAX ? 0 : 2U * needed;
    uint8_t *received = capacity > 0 ? memory_realloc(stream->received, capacity) : NULL;
    if (received == NULL) {
        return false;
    }
    stream->received = received;
    stream->received_capacity = capacity;
    return true;
}

static void on_data(void *owner, struct trunk_stream *stream, const uint8_t *bytes, size_t length)
{
    (void)owner;
    struct pair_stream *recorded = pair_stream_of(stream);
    if (!pair_stream_reserve(recorded, length)) {
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

static void on_suspended(void *owner, struct trunk_stream *stream, enum error_code reason)
{
    pair_stream_of(stream)->suspended++;
    pair_stream_of(stream)->suspended_for = reason;
    if (((struct pair_end *)owner)->pair->over) {
        trunk_stream_reset(stream, TRUNK_CODE_CANCEL);
    }
}

static void on_resumed(void *owner, struct trunk_stream *stream)
{
    (void)owner;
    pair_stream_of(stream)->resumed++;
}

static void on_noted(void *owner, struct trunk_stream *stream, const struct metadata_note *note)
{
    struct pair_stream *recorded = pair_stream_of(stream);
    (void)owner;
    recorded->noted++;
    recorded->noted_sum = 0;
    for (uint32_t i = 0; i < note->length; i++) {
        recorded->noted_sum += note->bytes[i];
    }
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
    struct pair_end *end = owner;
    end->refusals++;
    end->refusal_status = status;
    end->refusal = error;
}

const struct trunk_events pair_opener_events = {
    .opened = on_opened,
    .data = on_data,
    .end = on_end,
    .writable = on_writable,
    .closed = on_closed,
    .suspended = on_suspended,
    .resumed = on_resumed,
    .noted = on_noted,
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
    .suspended = on_suspended,
    .resumed = on_resumed,
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

static enum error_code pair_connect_ends(struct trunk_pair *pair, struct pair_end *opener, struct pair_end *acceptor)
{
    memset(opener, 0, sizeof(*opener));
    memset(acceptor, 0, sizeof(*acceptor));
    enum error_code error = end_init(pair, opener, &pair->opener_settings);
    if (error == ERROR_NONE) {
        error = end_init(pair, acceptor, &pair->acceptor_settings);
    }
    return error == ERROR_NONE ? pair_pump(pair) : error;
}

enum error_code pair_connect(struct trunk_pair *pair)
{
    return pair_connect_ends(pair, &pair->opener, &pair->acceptor);
}

enum error_code pair_connect_second(struct trunk_pair *pair)
{
    return pair_connect_ends(pair, &pair->second_opener, &pair->second_acceptor);
}

void pair_lose(struct trunk_pair *pair)
{
    trunk_free(&pair->opener.trunk);
    trunk_free(&pair->acceptor.trunk);
}

void pair_lose_second(struct trunk_pair *pair)
{
    trunk_free(&pair->second_opener.trunk);
    trunk_free(&pair->second_acceptor.trunk);
}

enum error_code pair_init(struct trunk_pair *pair, const struct trunk_settings *opener,
                          const struct trunk_settings *acceptor)
{
    return pair_init_lagged(pair, opener, acceptor, 0, 0);
}

enum error_code pair_init_lagged(struct trunk_pair *pair, const struct trunk_settings *opener,
                                 const struct trunk_settings *acceptor, uint64_t lag_us, size_t bytes_per_ms)
{
    memset(pair, 0, sizeof(*pair));
    pair->lag_us = lag_us;
    pair->bytes_per_ms = bytes_per_ms;
    pair->consume = true;
    list_init(&pair->accepted);
    random_seed(&pair->random, 1);
    scheduler_init(&pair->scheduler, 1000000);
    trunk_work_slab_init(&pair->opener_works);
    trunk_work_slab_init(&pair->acceptor_works);
    trunk_settings_init(&pair->opener_settings, TRUNK_OPENER);
    trunk_settings_init(&pair->acceptor_settings, TRUNK_ACCEPTOR);
    if (opener != NULL) {
        pair->opener_settings = *opener;
    }
    if (acceptor != NULL) {
        pair->acceptor_settings = *acceptor;
    }
    if (pair->opener_settings.resume && pair->opener_settings.work_slab == NULL) {
        pair->opener_settings.work_slab = &pair->opener_works;
    }
    if (pair->acceptor_settings.resume && pair->acceptor_settings.work_slab == NULL) {
        pair->acceptor_settings.work_slab = &pair->acceptor_works;
    }
    return pair_connect(pair);
}

enum error_code pair_init_resuming(struct trunk_pair *pair, uint32_t stream_window_bytes)
{
    struct trunk_settings opener;
    struct trunk_settings acceptor;
    trunk_settings_init(&opener, TRUNK_OPENER);
    trunk_settings_init(&acceptor, TRUNK_ACCEPTOR);
    opener.resume = acceptor.resume = true;
    opener.stream_window_bytes = acceptor.stream_window_bytes = stream_window_bytes;
    opener.stream_window_max_bytes = acceptor.stream_window_max_bytes = stream_window_bytes;
    opener.stream_backlog_bytes = acceptor.stream_backlog_bytes = UINT32_MAX;
    opener.trunk_backlog_bytes = acceptor.trunk_backlog_bytes = UINT32_MAX;
    return pair_init(pair, &opener, &acceptor);
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
    pair->over = true;
    pair_lose(pair);
    pair_lose_second(pair);
    wire_clear(&pair->opener.wire);
    wire_clear(&pair->acceptor.wire);
    list_for_each(&pair->accepted, node) {
        struct pair_stream *accepted = container_of(node, struct pair_stream, node);
        list_remove(node);
        trunk_stream_reset(&accepted->stream, TRUNK_CODE_CANCEL);
        pair_stream_dispose(accepted);
        memory_free(accepted);
    }
    slab_dispose(&pair->opener_works);
    slab_dispose(&pair->acceptor_works);
}

void pair_stream_dispose(struct pair_stream *stream)
{
    memory_free(stream->metadata);
    memory_free(stream->received);
    stream->metadata = NULL;
    stream->received = NULL;
    stream->received_capacity = 0;
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
        if (pair->cut_at != 0 && piece > pair->cut_at - pair->frames_bytes) {
            piece = (size_t)(pair->cut_at - pair->frames_bytes);
            length = piece; /* the rest is lost */
        }
        pair->frames_bytes += piece;
        if (piece > 0) {
            error = trunk_receive(to->trunk, bytes, piece);
        }
        bytes += piece;
        length -= piece;
    }
    bool cut = pair->cut_at != 0 && pair->frames_bytes >= pair->cut_at;
    return error == ERROR_NONE && cut ? ERROR_TRUNK_LOST : error;
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
        error = pair->lag_us > 0 ? wire_put(pair, from, record, length) : pair_feed(pair, to, record, length);
    }
    return error == ERROR_NONE ? wire_deliver(pair, from, to, moved) : error;
}

static enum error_code pair_exchange(struct trunk_pair *pair, struct pair_end *opener, struct pair_end *acceptor,
                                     bool *moved)
{
    if (opener->trunk == NULL || acceptor->trunk == NULL) {
        return ERROR_NONE;
    }
    enum error_code error = pair_move(pair, opener, acceptor, moved);
    return error == ERROR_NONE ? pair_move(pair, acceptor, opener, moved) : error;
}

enum error_code pair_pump(struct trunk_pair *pair)
{
    bool moved = true;
    while (moved) {
        moved = false;
        enum error_code error = pair_exchange(pair, &pair->opener, &pair->acceptor, &moved);
        if (error == ERROR_NONE) {
            error = pair_exchange(pair, &pair->second_opener, &pair->second_acceptor, &moved);
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

struct metadata pair_metadata(uint32_t number)
{
    struct metadata metadata = {.service = "echo", .server_name = "www.example.com", .alpn = "h2"};
    struct address client;
    if (address_parse("192.0.2.7:5555", false, &client) == ERROR_NONE) {
        address_pack(&client, &metadata.client);
    }
    metadata.session.known = number != 0;
    memcpy(metadata.session.id, &number, sizeof(number));
    return metadata;
}

enum error_code pair_open_session(struct trunk_pair *pair, struct pair_stream *stream, uint32_t number)
{
    memset(stream, 0, sizeof(*stream));
    stream->consume = true;
    struct metadata metadata = pair_metadata(number);
    return trunk_stream_open(pair->opener.trunk, &stream->stream, &metadata);
}

enum error_code pair_open(struct trunk_pair *pair, struct pair_stream *stream)
{
    return pair_open_session(pair, stream, 0);
}

enum error_code pair_resume(struct trunk *trunk, struct pair_stream *stream, uint32_t number)
{
    struct metadata metadata = pair_metadata(number);
    return trunk_stream_resume(trunk, &stream->stream, &metadata);
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
