/*
 * The trunk engine: life of a trunk and of its streams. What comes from the peer is handled in trunk_receive.c, what
 * goes to it is made in trunk_send.c. The trunk owns its nghttp2 session; one thread.
 */
#include "mux/trunk_internal.h"

#include <assert.h>
#include <string.h>

#include "mux/limits.h"
#include "mux/memory.h"

enum error_code trunk_error_from_nghttp2(int code)
{
    switch (code) {
    case 0:
        return ERROR_NONE;
    case NGHTTP2_ERR_NOMEM:
        return ERROR_NO_MEMORY;
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
        return ERROR_TRUNK_PREFACE;
    case NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE:
        return ERROR_TRUNK_EXHAUSTED;
    default:
        return ERROR_TRUNK_PROTOCOL;
    }
}

void trunk_settings_init(struct trunk_settings *settings, enum trunk_role role)
{
    *settings = (struct trunk_settings){
        .role = role,
        .sessions_max = LIMIT_SESSIONS_PER_TRUNK,
        .opens_max = LIMIT_TRUNK_OPENS,
        .stream_window_bytes = LIMIT_STREAM_WINDOW_BYTES,
        .stream_window_max_bytes = LIMIT_STREAM_WINDOW_MAX_BYTES,
        .stream_backlog_bytes = LIMIT_STREAM_BACKLOG_BYTES,
        .trunk_backlog_bytes = LIMIT_TRUNK_QUEUE_BYTES,
        .trunk_window_bytes = LIMIT_TRUNK_WINDOW_BYTES,
        .header_bytes_max = LIMIT_HEADER_BYTES,
        .ping_interval_ms = TIMEOUT_PING_INTERVAL_MS,
        .ping_timeout_ms = TIMEOUT_PING_ANSWER_MS,
    };
}

static enum error_code trunk_options(const struct trunk_settings *settings, nghttp2_option **option)
{
    if (nghttp2_option_new(option) != 0) {
        return ERROR_NO_MEMORY;
    }
    /* Windows are opened by us, as consumers take the bytes. */
    nghttp2_option_set_no_auto_window_update(*option, 1);
    /* Otherwise nghttp2 keeps 240 bytes of every closed stream, up to the limit of streams. */
    nghttp2_option_set_no_closed_streams(*option, 1);
    /* Otherwise opens beyond 100 queue up inside nghttp2 without a word. */
    nghttp2_option_set_peer_max_concurrent_streams(*option, settings->sessions_max);
#ifdef HAVE_NGHTTP2_STREAM_RESET_RATE_LIMIT
    /* One radio outage resets more streams than the default (1000, then 33 a second) lets pass. */
    nghttp2_option_set_stream_reset_rate_limit(*option, LIMIT_STREAM_RESETS_PER_SECOND, LIMIT_STREAM_RESETS_PER_SECOND);
#endif
#ifdef HAVE_NGHTTP2_MAX_OUTBOUND_QUEUE_SIZE
    nghttp2_option_set_max_outbound_queue_size(*option, settings->sessions_max + 10000U);
#endif
    return ERROR_NONE;
}

static enum error_code trunk_session_new(struct trunk *trunk)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    enum error_code error = trunk_options(&trunk->settings, &option);
    if (error == ERROR_NONE && nghttp2_session_callbacks_new(&callbacks) != 0) {
        error = ERROR_NO_MEMORY;
    }
    if (error == ERROR_NONE) {
        nghttp2_mem mem = trunk_memory_allocator(&trunk->h2_memory);
        trunk_receive_callbacks(callbacks);
        nghttp2_session_callbacks_set_send_data_callback(callbacks, trunk_on_send_data);
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, trunk_on_frame_send);
        nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, trunk_on_frame_not_send);
        int failure = trunk->settings.role == TRUNK_OPENER
                          ? nghttp2_session_client_new3(&trunk->h2, callbacks, trunk, option, &mem)
                          : nghttp2_session_server_new3(&trunk->h2, callbacks, trunk, option, &mem);
        error = trunk_error_from_nghttp2(failure);
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return error;
}

static enum error_code trunk_submit_settings(struct trunk *trunk)
{
    const struct trunk_settings *settings = &trunk->settings;
    nghttp2_settings_entry entries[6];
    size_t count = 0;
    entries[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, settings->stream_window_bytes};
    entries[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, settings->header_bytes_max};
    if (settings->resume) {
        entries[count++] = (nghttp2_settings_entry){TRUNK_SETTING_RESUME, TRUNK_RESUME_VERSION};
    }
    if (settings->role == TRUNK_OPENER) {
        entries[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
        if (settings->edge_worker != 0) {
            entries[count++] = (nghttp2_settings_entry){TRUNK_SETTING_EDGE_WORKER, settings->edge_worker};
        }
    } else {
        /* nghttp2 ends the whole connection of a peer that goes over the limit; RFC 9113 section 5.1.2 asks for an
         * error of the stream only. So nghttp2 hears of no limit, trunk_announce_limit writes the real one into the
         * frame, and trunk_on_request enforces it. */
        entries[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, INT32_MAX};
    }
    int failure = nghttp2_submit_settings(trunk->h2, NGHTTP2_FLAG_NONE, entries, count);
    if (failure == 0) {
        failure = trunk_window_start(trunk);
    }
    return trunk_error_from_nghttp2(failure);
}

enum error_code trunk_new(struct trunk **result, const struct trunk_settings *settings, struct scheduler *scheduler,
                          struct trunk_carrier *carrier, const struct trunk_events *events, void *owner)
{
    struct trunk *trunk = memory_zalloc(sizeof(*trunk));
    assert((!settings->resume || settings->work_slab != NULL) && "what outlives the trunk cannot be in its own slab");
    if (trunk == NULL) {
        return ERROR_NO_MEMORY;
    }
    trunk->settings = *settings;
    trunk->scheduler = scheduler;
    trunk->carrier = carrier;
    trunk->events = events;
    trunk->owner = owner;
    trunk->peer_streams_max = UINT32_MAX;
    list_init(&trunk->streams);
    list_init(&trunk->ready);
    list_init(&trunk->held);
    list_init(&trunk->owed);
    list_init(&trunk->unacknowledged);
    chain_init(&trunk->last_pairs);
    chain_init(&trunk->notes);
    chain_init(&trunk->note_input);
    trunk_cut_init(&trunk->cut, settings->role);
    timer_init(&trunk->acknowledge, trunk_ack_due);
    trunk_work_slab_init(&trunk->own_works);
    trunk->work_slab = settings->work_slab != NULL ? settings->work_slab : &trunk->own_works;
    list_init(&trunk->windows);
    list_init(&trunk->roomy);
    task_init(&trunk->tell_room, trunk_tell_room);
    timer_init(&trunk->sweep, trunk_windows_sweep);
    slab_init(&trunk->window_slab, "trunk-window", sizeof(struct trunk_window));
    slab_group_init(&trunk->h2_memory, "nghttp2-stream", TRUNK_H2_STREAM_LEAST_BYTES);
    task_init(&trunk->deliver_held, trunk_deliver_held);
    trunk_budget_init(&trunk->budget, settings->sessions_max, scheduler->now_us);
    trunk_ping_start(trunk);

    enum error_code error = metadata_parser_init(&trunk->parser, settings->header_bytes_max);
    if (error == ERROR_NONE) {
        error = trunk_session_new(trunk);
    }
    if (error == ERROR_NONE) {
        error = trunk_submit_settings(trunk);
    }
    if (error != ERROR_NONE) {
        trunk_free(&trunk);
        return error;
    }
    *result = trunk;
    trunk_want_send(trunk);
    return ERROR_NONE;
}

static void trunk_lose_streams(struct trunk *trunk, struct list *streams)
{
    struct list_node *node;
    while ((node = list_first(streams)) != NULL) {
        struct trunk_stream *stream = container_of(node, struct trunk_stream, all);
        if (stream->flags & TRUNK_STREAM_INTERNAL) {
            trunk_internal_free(stream);
        } else if (trunk_stream_suspend(stream)) {
            trunk->events->suspended(trunk->owner, stream, ERROR_TRUNK_LOST);
        } else {
            trunk_stream_detach(stream);
            trunk->events->closed(trunk->owner, stream, ERROR_TRUNK_LOST, 0);
        }
    }
}

void trunk_free(struct trunk **pointer)
{
    struct trunk *trunk = *pointer;
    if (trunk == NULL) {
        return;
    }
    assert(!trunk->busy && "a trunk must not be freed from within its own events");
    *pointer = NULL;
    trunk->failed = 1; /* nothing that the owners do now reaches the peer */
    trunk_lose_streams(trunk, &trunk->streams);
    trunk_lose_streams(trunk, &trunk->unacknowledged);
    scheduler_disarm(trunk->scheduler, &trunk->ping);
    scheduler_disarm(trunk->scheduler, &trunk->acknowledge);
    scheduler_disarm(trunk->scheduler, &trunk->sweep);
    scheduler_cancel(trunk->scheduler, &trunk->deliver_held);
    scheduler_cancel(trunk->scheduler, &trunk->tell_room);
    if (trunk->h2 != NULL) {
        nghttp2_session_del(trunk->h2);
    }
    metadata_parser_dispose(&trunk->parser);
    chain_clear(&trunk->last_pairs);
    chain_clear(&trunk->notes);
    chain_clear(&trunk->note_input);
    slab_dispose(&trunk->own_works);
    slab_dispose(&trunk->window_slab);
    slab_group_dispose(&trunk->h2_memory);
    memory_free(trunk);
}

void trunk_want_send(struct trunk *trunk)
{
    if (!trunk->failed) {
        trunk->carrier->want_send(trunk->carrier);
    }
}

void trunk_fail(struct trunk *trunk, enum error_code error)
{
    if (trunk->error == ERROR_NONE) {
        trunk->error = error;
    }
    if (!trunk->failed) {
        trunk->failed = 1;
        trunk->carrier->failed(trunk->carrier, error);
    }
}

enum error_code trunk_goaway(struct trunk *trunk, enum trunk_code code)
{
    trunk->goaway_sent = 1;
    trunk->goaway_code = (uint32_t)code;
    int32_t last = nghttp2_session_get_last_proc_stream_id(trunk->h2);
    int failure = nghttp2_submit_goaway(trunk->h2, NGHTTP2_FLAG_NONE, last, (uint32_t)code, NULL, 0);
    trunk_want_send(trunk);
    return trunk_error_from_nghttp2(failure);
}

size_t trunk_stream_count(const struct trunk *trunk)
{
    return trunk->stream_count;
}

uint64_t trunk_round_trip_us(const struct trunk *trunk)
{
    uint64_t now_us = trunk->rtt_least_us[0];
    uint64_t before_us = trunk->rtt_least_us[1];
    return before_us == 0 || (now_us != 0 && now_us < before_us) ? now_us : before_us;
}

uint64_t trunk_rtt_us(const struct trunk *trunk)
{
    return trunk->rtt_us;
}

enum error_code trunk_openable(const struct trunk *trunk)
{
    if (trunk->failed) {
        return ERROR_TRUNK_LOST;
    }
    if (!trunk->ready_for_streams) {
        return ERROR_STATE;
    }
    if (trunk->goaway_received || trunk->goaway_sent) {
        return ERROR_TRUNK_GOAWAY;
    }
    if (nghttp2_session_get_next_stream_id(trunk->h2) / 2U >= trunk->settings.opens_max) {
        return ERROR_TRUNK_EXHAUSTED;
    }
    if (trunk->open_streams >= trunk->peer_streams_max || trunk->open_streams >= trunk->settings.sessions_max) {
        return ERROR_LIMIT;
    }
    return ERROR_NONE;
}

/* ------------------------------------------------------------------------------------------------ streams */

struct trunk_stream *trunk_stream_of(struct trunk *trunk, int32_t id)
{
    return nghttp2_session_get_stream_user_data(trunk->h2, id);
}

void trunk_stream_link(struct trunk *trunk, struct trunk_stream *stream, int32_t id)
{
    stream->trunk = trunk;
    stream->id = id;
    list_append(&trunk->streams, &stream->all);
    trunk->stream_count++;
    trunk->queued_bytes += trunk_stream_queued(stream);
}

void trunk_stream_attach(struct trunk *trunk, struct trunk_stream *stream, int32_t id)
{
    memset(stream, 0, sizeof(*stream));
    trunk_stream_link(trunk, stream, id);
}

/* Makes nghttp2 forget the stream's memory. */
void trunk_stream_unlink(struct trunk_stream *stream)
{
    struct trunk *trunk = stream->trunk;
    if (trunk->h2 != NULL) {
        nghttp2_session_set_stream_user_data(trunk->h2, stream->id, NULL);
    }
    if (trunk->turn == stream) {
        trunk->turn = NULL;
    }
    list_remove(&stream->all);
    trunk->stream_count--;
    trunk->queued_bytes -= trunk_stream_queued(stream);
    stream->trunk = NULL;
    stream->id = 0;
}

/* What is queued or held is dropped. */
void trunk_stream_detach(struct trunk_stream *stream)
{
    trunk_window_drop(stream);
    trunk_work_drop(stream);
    trunk_stream_unlink(stream);
    stream->flags &= TRUNK_STREAM_INTERNAL;
}

enum error_code trunk_submit_request(struct trunk *trunk, struct trunk_stream *stream, const struct metadata *metadata,
                                     int32_t *id)
{
    size_t capacity = metadata_encode_bytes(metadata);
    char *room = memory_alloc(capacity);
    if (room == NULL) {
        return ERROR_NO_MEMORY;
    }
    struct metadata_field fields[METADATA_FIELDS_MAX];
    size_t count = 0;
    enum error_code error = metadata_encode(metadata, room, capacity, fields, &count);
    if (error == ERROR_LIMIT) {
        error = ERROR_METADATA_TOO_LARGE; /* of this request, not of the trunk: another trunk will not do either */
    }
    if (error == ERROR_NONE) {
        nghttp2_nv pairs[METADATA_FIELDS_MAX];
        for (size_t i = 0; i < count; i++) {
            pairs[i] = (nghttp2_nv){
                .name = (uint8_t *)(uintptr_t)fields[i].name,
                .value = (uint8_t *)(uintptr_t)fields[i].value,
                .namelen = fields[i].name_length,
                .valuelen = fields[i].value_length,
                /* RFC 7541 section 6.2.3: what is unique to one client would only churn the table. */
                .flags = fields[i].unique ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE,
            };
        }
        *id = nghttp2_submit_headers(trunk->h2, NGHTTP2_FLAG_NONE, -1, NULL, pairs, count, stream);
        error = *id < 0 ? trunk_error_from_nghttp2(*id) : ERROR_NONE;
    }
    memory_free(room);
    if (error == ERROR_NONE) {
        trunk->open_streams++;
        trunk_want_send(trunk);
    }
    return error;
}

enum error_code trunk_stream_open(struct trunk *trunk, struct trunk_stream *stream, const struct metadata *metadata)
{
    enum error_code error = trunk_openable(trunk);
    struct metadata request = *metadata;
    int32_t id = 0;
    request.session.known = metadata->session.known && trunk->resumes;
    request.session.resumes = 0;
    if (error == ERROR_NONE) {
        error = trunk_submit_request(trunk, stream, &request, &id);
    }
    if (error == ERROR_NONE) {
        trunk_stream_attach(trunk, stream, id);
        stream->flags = request.session.known ? TRUNK_STREAM_RESUMABLE : 0;
    }
    return error;
}

int trunk_submit_status(struct trunk *trunk, int32_t id, int status, bool text, const uint32_t *received)
{
    char digits[4] = {(char)('0' + status / 100), (char)('0' + status / 10 % 10), (char)('0' + status % 10), 0};
    char number[METADATA_RECEIVED_TEXT];
    nghttp2_nv pairs[3] = {{(uint8_t *)(uintptr_t) ":status", (uint8_t *)digits, 7, 3, NGHTTP2_NV_FLAG_NONE}};
    size_t count = 1;
    if (text) {
        pairs[count++] = (nghttp2_nv){(uint8_t *)(uintptr_t) "content-type", (uint8_t *)(uintptr_t) "text/plain", 12,
                                      10, NGHTTP2_NV_FLAG_NONE};
    }
    if (received != NULL) {
        pairs[count++] = (nghttp2_nv){(uint8_t *)(uintptr_t)METADATA_RECEIVED_FIELD, (uint8_t *)number,
                                      sizeof(METADATA_RECEIVED_FIELD) - 1, metadata_format_received(*received, number),
                                      NGHTTP2_NV_FLAG_NO_INDEX};
    }
    return nghttp2_submit_headers(trunk->h2, NGHTTP2_FLAG_NONE, id, NULL, pairs, count, NULL);
}

enum error_code trunk_stream_accept(struct trunk_stream *stream)
{
    struct trunk *trunk = stream->trunk;
    if (trunk == NULL && trunk_stream_suspended(stream) && stream->output == STREAM_EXPECT_OPEN) {
        stream_input_move(&stream->input, STREAM_OPEN);
        stream_output_move(&stream->output, STREAM_OPEN);
        return ERROR_NONE; /* the opener will ask again, and be told then */
    }
    if (trunk == NULL || stream->output != STREAM_EXPECT_OPEN || trunk->settings.role != TRUNK_ACCEPTOR) {
        return ERROR_STATE;
    }
    bool reopened = (stream->flags & TRUNK_STREAM_RESUMING) != 0;
    int failure = trunk_submit_status(trunk, stream->id, 200, false, reopened ? &stream->received : NULL);
    if (failure != 0) {
        return trunk_error_from_nghttp2(failure);
    }
    stream_input_move(&stream->input, STREAM_OPEN);
    stream_output_move(&stream->output, STREAM_OPEN);
    stream->flags &= (uint8_t)~TRUNK_STREAM_RESUMING;
    if (stream->work != NULL && stream->work->held != NULL) {
        scheduler_defer(trunk->scheduler, &trunk->deliver_held);
    }
    trunk_want_send(trunk);
    return ERROR_NONE;
}

/* ---------------------------------------------------------------------------------------- streams of our own */

struct trunk_stream *trunk_internal_new(struct trunk *trunk, int32_t id, struct trunk_work *work)
{
    struct trunk_stream *stream = memory_zalloc(sizeof(*stream));
    if (stream == NULL || nghttp2_session_set_stream_user_data(trunk->h2, id, stream) != 0) {
        memory_free(stream);
        return NULL;
    }
    trunk_stream_attach(trunk, stream, id);
    trunk->internal_count++;
    stream->flags = TRUNK_STREAM_INTERNAL;
    stream->work = work;
    work->stream = stream;
    stream_input_move(&stream->input, STREAM_OPEN);
    stream_output_move(&stream->output, STREAM_OPEN);
    return stream;
}

void trunk_internal_free(struct trunk_stream *stream)
{
    stream->trunk->internal_count--;
    trunk_stream_detach(stream);
    memory_free(stream);
}

void trunk_internal_age(struct trunk *trunk)
{
    if (trunk->internal_count == 0) {
        return;
    }
    list_for_each(&trunk->streams, node) {
        struct trunk_stream *stream = container_of(node, struct trunk_stream, all);
        if (!(stream->flags & TRUNK_STREAM_INTERNAL)) {
            continue;
        }
        if (stream->flags & TRUNK_STREAM_AGED) {
            uint32_t code = (stream->flags & TRUNK_STREAM_ABORTS) ? stream->received : NGHTTP2_CONNECT_ERROR;
            nghttp2_submit_rst_stream(trunk->h2, NGHTTP2_FLAG_NONE, stream->id, code);
            trunk_internal_free(stream);
        } else {
            stream->flags |= TRUNK_STREAM_AGED;
        }
    }
}

/* A queue with a copy of the text, that belongs to no stream yet; NULL when memory is out. */
static struct trunk_work *trunk_body_new(struct trunk *trunk, const char *text)
{
    struct trunk_work *work = trunk_work_new(trunk->work_slab, trunk->settings.buffers, NULL);
    if (work != NULL && trunk_work_append(trunk, work, (const uint8_t *)text, strlen(text)) != ERROR_NONE) {
        trunk_work_free(trunk, work);
        return NULL;
    }
    return work;
}

void trunk_respond(struct trunk *trunk, int32_t id, int status, const char *text)
{
    if (trunk->failed) {
        return;
    }
    struct trunk_work *body = trunk_body_new(trunk, text);
    struct trunk_stream *stream = NULL;
    if (body != NULL && trunk_submit_status(trunk, id, status, true, NULL) == 0) {
        stream = trunk_internal_new(trunk, id, body);
    }
    if (stream == NULL) {
        if (body != NULL) {
            trunk_work_free(trunk, body);
        }
        /* Not REFUSED_STREAM: the opener would send the request again, though the owner has heard of it. */
        nghttp2_submit_rst_stream(trunk->h2, NGHTTP2_FLAG_NONE, id, NGHTTP2_INTERNAL_ERROR);
        trunk_want_send(trunk);
        return;
    }
    stream_output_move(&stream->output, STREAM_ENDING);
    trunk_stream_make_ready(stream);
}

/* Of a stream that has no trunk. */
static void trunk_stream_give_up(struct trunk_stream *stream)
{
    trunk_window_drop(stream);
    trunk_work_drop(stream);
    stream->flags = 0;
}

void trunk_stream_refuse(struct trunk_stream *stream, int status, const char *text)
{
    struct trunk *trunk = stream->trunk;
    if (trunk == NULL) {
        trunk_stream_give_up(stream);
        return;
    }
    if (stream->output != STREAM_EXPECT_OPEN || trunk->settings.role != TRUNK_ACCEPTOR) {
        trunk_stream_reset(stream, TRUNK_CODE_CANCEL);
        return;
    }
    int32_t id = stream->id;
    trunk_stream_detach(stream);
    trunk_respond(trunk, id, status, text);
}

size_t trunk_stream_room(const struct trunk_stream *stream)
{
    if (!trunk_stream_attached(stream) || stream->output != STREAM_OPEN) {
        return 0;
    }
    if (trunk_stream_interrupted(stream)) {
        size_t held = trunk_stream_retained(stream) + trunk_stream_queued(stream);
        return held < LIMIT_STREAM_SUSPENDED_BYTES ? LIMIT_STREAM_SUSPENDED_BYTES - held : 0;
    }
    const struct trunk *trunk = stream->trunk;
    int64_t window = trunk_stream_window(stream);
    size_t queued = trunk_stream_queued(stream);
    size_t most = trunk->settings.stream_backlog_bytes;
    if (trunk->queued_bytes >= trunk->settings.trunk_backlog_bytes && most > LIMIT_STREAM_SHARE_BYTES) {
        most = LIMIT_STREAM_SHARE_BYTES; /* everybody gets a turn, and nobody much */
    }
    if (window > 0 && (size_t)window < most) {
        most = (size_t)window;
    }
    return window > 0 && most > queued ? most - queued : 0;
}

void trunk_stream_want_room(struct trunk_stream *stream)
{
    if (trunk_stream_attached(stream)) {
        stream->wants_room = 1;
    }
}

enum error_code trunk_stream_write(struct trunk_stream *stream, const uint8_t *bytes, size_t length)
{
    if (!trunk_stream_attached(stream) || stream->output != STREAM_OPEN) {
        return ERROR_STATE;
    }
    if (length == 0) {
        return ERROR_NONE;
    }
    struct trunk_work *work = trunk_work_get(stream);
    enum error_code error = work != NULL ? trunk_work_append(stream->trunk, work, bytes, length) : ERROR_NO_MEMORY;
    if (error == ERROR_NONE) {
        trunk_stream_make_ready(stream);
    } else {
        trunk_work_settle(stream);
    }
    return error;
}

enum error_code trunk_stream_end(struct trunk_stream *stream)
{
    if (!trunk_stream_attached(stream) || stream->output != STREAM_OPEN) {
        return ERROR_NONE;
    }
    if (trunk_work_get(stream) == NULL) {
        return ERROR_NO_MEMORY;
    }
    stream_output_move(&stream->output, STREAM_ENDING);
    stream->wants_room = 0;
    trunk_stream_make_ready(stream);
    return ERROR_NONE;
}

void trunk_stream_reset(struct trunk_stream *stream, enum trunk_code code)
{
    struct trunk *trunk = stream->trunk;
    if (trunk == NULL) {
        trunk_stream_give_up(stream);
        return;
    }
    int32_t id = stream->id;
    bool over = (stream->flags & TRUNK_STREAM_OVER) != 0;
    uint32_t under_way = trunk_stream_receive_window(stream);
    trunk_stream_detach(stream);
    if (trunk->failed || over) {
        return;
    }
    trunk->ignored_bytes_expected += under_way;
    int failure = nghttp2_submit_rst_stream(trunk->h2, NGHTTP2_FLAG_NONE, id, (uint32_t)code);
    if (failure != 0) {
        trunk_fail(trunk, trunk_error_from_nghttp2(failure));
    }
    trunk_want_send(trunk);
}

void trunk_stream_abort(struct trunk_stream *stream, enum trunk_code code)
{
    struct trunk *trunk = stream->trunk;
    if (trunk == NULL || trunk->failed || trunk_stream_interrupted(stream) || trunk_stream_queued(stream) == 0) {
        /* While it resumes nobody knows which bytes the peer lacks: what is queued must not come without them. */
        trunk_stream_reset(stream, code);
        return;
    }
    int32_t id = stream->id;
    struct trunk_work *work = stream->work;
    uint32_t earlier = stream->sent - work->retained + work->overhang; /* where the bytes of this trunk begin */
    trunk_window_drop(stream);
    /* The rest goes with this trunk, or is lost with it. What the peer has from an earlier one takes room until it has
     * consumed it. */
    trunk_work_discard(work, trunk_work_retained(stream));
    work->next = (struct chain_cursor){NULL, 0};
    work->retained = 0;
    work->inherited += work->overhang;
    work->overhang = 0;
    list_remove(&work->ready);
    list_remove(&work->owed);
    list_remove(&work->roomy);
    stream->work = NULL;
    trunk_stream_detach(stream);
    struct trunk_stream *rest = trunk_internal_new(trunk, id, work);
    if (rest == NULL) {
        trunk_work_free(trunk, work);
        nghttp2_submit_rst_stream(trunk->h2, NGHTTP2_FLAG_NONE, id, (uint32_t)code);
        trunk_want_send(trunk);
        return;
    }
    rest->flags |= TRUNK_STREAM_ABORTS;
    rest->received = (uint32_t)code; /* unused otherwise: nothing of such a stream is received */
    rest->sent = earlier;            /* likewise: it keeps no count */
    trunk_stream_make_ready(rest);
}
