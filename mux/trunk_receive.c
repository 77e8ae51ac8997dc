/*
 * What a trunk receives: frames as nghttp2 reports them become events of streams. Also liveness (PING) and the look at
 * a peer's first bytes. One thread.
 */
#include "mux/trunk_internal.h"

#include <assert.h>
#include <string.h>

#include "mux/memory.h"

/* ------------------------------------------------------------------------------------------------ held input */

static bool trunk_stream_held(const struct trunk_stream *stream)
{
    return stream->work != NULL && stream->work->held != NULL;
}

static struct trunk_held *trunk_held_make(struct trunk_stream *stream)
{
    struct trunk_work *work = trunk_work_get(stream);
    if (work == NULL || work->held != NULL) {
        return work != NULL ? work->held : NULL;
    }
    struct trunk_held *held = memory_zalloc(sizeof(*held));
    if (held != NULL) {
        held->stream = stream;
        chain_init(&held->bytes);
        list_append(&stream->trunk->held, &held->node);
    }
    work->held = held;
    trunk_work_settle(stream);
    return held;
}

void trunk_held_free(struct trunk_held *held)
{
    list_remove(&held->node);
    chain_clear(&held->bytes);
    memory_free(held);
}

/* Gives a stream that has been accepted what came before. The owner may reset the stream in any of these events. */
static void trunk_held_deliver(struct trunk_held *held)
{
    struct trunk_stream *stream = held->stream;
    struct trunk *trunk = stream->trunk;
    /* From here on the held object is ours alone, so that a reset from within an event cannot free it under us. */
    stream->work->held = NULL;
    list_remove(&held->node);
    trunk_work_settle(stream);
    const uint8_t *bytes = NULL;
    size_t length;
    while (stream->trunk == trunk && (length = chain_peek(&held->bytes, &bytes)) > 0) {
        trunk->events->data(trunk->owner, stream, bytes, length);
        chain_consume(&held->bytes, length);
    }
    if (stream->trunk == trunk && held->ended) {
        int32_t id = stream->id;
        stream->received++;
        stream_input_move(&stream->input, STREAM_ENDED);
        trunk->events->end(trunk->owner, stream);
        if (trunk_stream_of(trunk, id) == stream) {
            trunk_ack_now(stream);
        }
    }
    trunk_held_free(held);
}

void trunk_deliver_held(struct task *task)
{
    struct trunk *trunk = container_of(task, struct trunk, deliver_held);
    for (;;) {
        struct trunk_held *next = NULL;
        list_for_each(&trunk->held, node) {
            struct trunk_held *held = container_of(node, struct trunk_held, node);
            if (held->stream->input == STREAM_OPEN) {
                next = held;
                break;
            }
        }
        if (next == NULL) {
            return;
        }
        trunk_held_deliver(next);
    }
}

/* ------------------------------------------------------------------------------------------------ streams */

/* The stream goes on elsewhere, or may: a request to resume it was not processed; or an earlier one, which a trunk had
 * still under way when it was lost here, has overtaken the one that counts, and took the session to that trunk. */
static bool trunk_stream_goes_on(const struct trunk *trunk, const struct trunk_stream *stream, uint32_t code)
{
    bool refused = code == NGHTTP2_REFUSED_STREAM || (stream->flags & TRUNK_STREAM_UNPROCESSED);
    bool taken = code == TRUNK_CODE_TAKEN && trunk->settings.role == TRUNK_OPENER;
    return ((stream->flags & TRUNK_STREAM_RESUMING) && refused) || taken;
}

static void trunk_stream_close(struct trunk *trunk, struct trunk_stream *stream, uint32_t code)
{
    enum error_code error = ERROR_PEER_RESET;
    uint32_t detail = code;
    if (stream->flags & TRUNK_STREAM_INTERNAL) {
        trunk_internal_free(stream);
        return;
    }
    if (trunk_stream_held(stream) && stream->input == STREAM_OPEN) {
        /* Accepted and over within one batch: its bytes come before its end. The owner may reset it meanwhile. */
        int32_t id = stream->id;
        trunk_held_deliver(stream->work->held);
        if (trunk_stream_of(trunk, id) != stream) {
            return;
        }
    }
    if (stream->input == STREAM_ENDED && stream->output == STREAM_ENDED && code == NGHTTP2_NO_ERROR &&
        !(stream->flags & TRUNK_STREAM_RESUMING)) { /* whose ends were told on another trunk */
        if (trunk_ack_last(stream)) {
            return;
        }
        error = ERROR_NONE;
    } else if (trunk->settings.role == TRUNK_OPENER && stream->output == STREAM_EXPECT_OPEN &&
               (code == NGHTTP2_REFUSED_STREAM || (stream->flags & TRUNK_STREAM_UNPROCESSED))) {
        error = ERROR_REFUSED;
        detail = 0;
    } else if (trunk_stream_goes_on(trunk, stream, code) && trunk_stream_suspend(stream)) {
        trunk->events->suspended(trunk->owner, stream,
                                 code == NGHTTP2_REFUSED_STREAM ? ERROR_REFUSED : ERROR_TRUNK_LOST);
        return;
    } else if (code == TRUNK_CODE_MOVED && trunk->settings.role == TRUNK_OPENER &&
               stream->output != STREAM_EXPECT_OPEN && trunk_stream_suspend(stream)) {
        trunk->events->suspended(trunk->owner, stream, ERROR_SHUTDOWN);
        return;
    }
    trunk_stream_detach(stream);
    trunk->events->closed(trunk->owner, stream, error, detail);
}

static int trunk_on_stream_close(nghttp2_session *h2, int32_t id, uint32_t code, void *user_data)
{
    struct trunk *trunk = user_data;
    (void)h2;
    struct trunk_stream *stream = trunk_stream_of(trunk, id);
    if (trunk->open_streams > 0) {
        trunk->open_streams--;
    }
    if (stream != NULL) {
        trunk_stream_close(trunk, stream, code);
    }
    return 0;
}

static void trunk_break_stream(struct trunk *trunk, int32_t id, uint32_t code)
{
    nghttp2_submit_rst_stream(trunk->h2, NGHTTP2_FLAG_NONE, id, code);
    trunk_want_send(trunk);
}

/* On a trunk that a stream came to, its window is new, though it may hold bytes from before: the peer knows how many,
 * and sends no more than the window in all. */
static bool trunk_stream_overrun(const struct trunk_stream *stream, size_t length)
{
    const struct trunk_work *work = stream->work;
    uint32_t window = trunk_stream_receive_window(stream);
    return work->stale > 0 && work->unconsumed + length > (work->stale > window ? work->stale : window);
}

static int trunk_on_data(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *bytes, size_t length,
                         void *user_data)
{
    struct trunk *trunk = user_data;
    (void)h2;
    (void)flags;
    /* The trunk's window is opened on receipt, whatever becomes of the stream's bytes. */
    int failure = trunk_window_opened_by(trunk, length);
    if (failure != 0) {
        trunk->error = trunk_error_from_nghttp2(failure);
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    struct trunk_stream *stream = trunk_stream_of(trunk, id);
    if (stream == NULL || (stream->flags & TRUNK_STREAM_INTERNAL)) {
        return 0;
    }
    trunk_budget_earn(&trunk->budget, TRUNK_COST_FRAME + length / TRUNK_EARN_RECEIVED_BYTES);
    struct trunk_work *work = length > 0 ? trunk_work_get(stream) : NULL;
    if (work == NULL) {
        if (length > 0) {
            trunk_break_stream(trunk, id, NGHTTP2_INTERNAL_ERROR);
        }
        return 0;
    }
    if (stream->input == STREAM_ENDED || trunk_stream_overrun(stream, length)) {
        /* The former: it ended the stream on a trunk that is lost, and had no more to say. */
        trunk_break_stream(trunk, id, NGHTTP2_FLOW_CONTROL_ERROR);
        return trunk_charge(trunk, TRUNK_COST_FAULT) == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    stream->received += (uint32_t)length;
    trunk_window_received(stream, length);
    if (stream->input == STREAM_OPEN && !trunk_stream_held(stream)) {
        trunk->events->data(trunk->owner, stream, bytes, length);
        return 0;
    }
    struct trunk_held *held = trunk_held_make(stream);
    if (held == NULL || chain_append(&held->bytes, bytes, length) != ERROR_NONE) {
        trunk_break_stream(trunk, id, NGHTTP2_INTERNAL_ERROR);
    }
    return 0;
}

static void trunk_on_stream_end(struct trunk *trunk, int32_t id)
{
    struct trunk_stream *stream = trunk_stream_of(trunk, id);
    if (stream == NULL) {
        return;
    }
    trunk_budget_earn(&trunk->budget, TRUNK_COST_FRAME);
    if (stream->flags & TRUNK_STREAM_INTERNAL) {
        stream_input_move(&stream->input, STREAM_ENDED);
        return;
    }
    if (stream->input == STREAM_ENDED) {
        trunk_ack_now(stream); /* told again on this trunk */
        return;
    }
    if (stream->input == STREAM_OPEN && !trunk_stream_held(stream)) {
        stream->received++;
        stream_input_move(&stream->input, STREAM_ENDED);
        trunk->events->end(trunk->owner, stream);
        if (trunk_stream_of(trunk, id) == stream) {
            trunk_ack_now(stream);
        }
        return;
    }
    struct trunk_held *held = trunk_held_make(stream);
    if (held == NULL) {
        trunk_break_stream(trunk, id, NGHTTP2_INTERNAL_ERROR);
        return;
    }
    held->ended = 1;
}

/* ------------------------------------------------------------------------------------------------ header blocks */

static int trunk_on_begin_headers(nghttp2_session *h2, const nghttp2_frame *frame, void *user_data)
{
    struct trunk *trunk = user_data;
    (void)h2;
    trunk->status = 0;
    trunk->has_answer = 0;
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        trunk->open_streams++;
        metadata_parse_begin(&trunk->parser);
    }
    return 0;
}

static int trunk_on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                           const uint8_t *value, size_t value_length, uint8_t flags, void *user_data)
{
    struct trunk *trunk = user_data;
    (void)h2;
    (void)flags;
    if (trunk->settings.role == TRUNK_ACCEPTOR) {
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
            metadata_parse_field(&trunk->parser, (const char *)name, name_length, (const char *)value, value_length);
        }
    } else if (name_length == 7 && memcmp(name, ":status", 7) == 0 && value_length == 3) {
        /* nghttp2 has checked that these are three digits. */
        trunk->status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');
    } else if (name_length == sizeof(METADATA_RECEIVED_FIELD) - 1 &&
               memcmp(name, METADATA_RECEIVED_FIELD, name_length) == 0) {
        trunk->has_answer = metadata_parse_received((const char *)value, value_length, &trunk->answer);
    }
    return 0;
}

static void trunk_refuse_request(struct trunk *trunk, int32_t id, enum error_code error)
{
    static const struct {
        enum error_code error;
        int status;
        const char *text;
    } answers[] = {
        {ERROR_METHOD_NOT_ALLOWED, 405, "This is a Trunkline trunk: only CONNECT is served.\n"},
        {ERROR_METADATA_TOO_LARGE, 431, "The header fields of the CONNECT request are too large.\n"},
        {ERROR_BAD_METADATA, 400, "A header field of the CONNECT request is malformed.\n"},
    };
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        if (answers[i].error == error) {
            trunk_respond(trunk, id, answers[i].status, answers[i].text);
            trunk->events->refused(trunk->owner, error, answers[i].status);
            return;
        }
    }
    trunk_break_stream(trunk, id, NGHTTP2_INTERNAL_ERROR);
    trunk->events->refused(trunk->owner, error, 0);
}

/* Of the window so many bytes are the peer's, until it has consumed them. False when memory is out. */
static bool trunk_stream_hold_back(struct trunk_stream *stream, uint32_t bytes)
{
    if (bytes > 0) {
        struct trunk_work *work = trunk_work_get(stream);
        if (work == NULL) {
            return false;
        }
        work->inherited = bytes;
    }
    return true;
}

static int trunk_on_request(struct trunk *trunk, const nghttp2_frame *frame)
{
    int32_t id = frame->hd.stream_id;
    enum error_code error = metadata_parse_end(&trunk->parser);
    if (error != ERROR_NONE) {
        trunk_refuse_request(trunk, id, error);
        return trunk_charge(trunk, TRUNK_COST_FAULT);
    }
    struct metadata *metadata = &trunk->parser.view;
    bool over = trunk->open_streams > trunk->settings.sessions_max;
    int status = 0;
    if (trunk->goaway_sent) {
        trunk_break_stream(trunk, id, NGHTTP2_REFUSED_STREAM); /* as GOAWAY tells, which may not be under way yet */
        return 0;
    }
    if (!trunk->resumes) {
        memset(&metadata->session, 0, sizeof(metadata->session));
    }
    struct trunk_stream *stream = over ? NULL : trunk->events->opening(trunk->owner, metadata, &status);
    if (over) {
        trunk->events->refused(trunk->owner, ERROR_LIMIT, 0);
    }
    if (stream == NULL && status != 0) {
        trunk_respond(trunk, id, status, "There is no such session to be resumed.\n");
        return trunk_charge(trunk, TRUNK_COST_OVER_LIMIT);
    }
    if (stream == NULL) {
        nghttp2_submit_rst_stream(trunk->h2, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
        trunk_want_send(trunk);
        return trunk_charge(trunk, over ? TRUNK_COST_OVER_LIMIT : 0);
    }
    if (trunk_stream_suspended(stream)) {
        return trunk_resume_request(trunk, stream, id, &metadata->session) ? 0 : trunk_charge(trunk, TRUNK_COST_FAULT);
    }
    trunk_stream_attach(trunk, stream, id);
    stream->flags = metadata->session.known ? TRUNK_STREAM_RESUMABLE : 0;
    if (metadata->session.resumes) {
        /* It takes the place of one that is not known here: its counts go on from where the peer is. */
        stream->flags |= TRUNK_STREAM_RESUMING;
        stream->received = metadata->session.acknowledged;
        stream->sent = metadata->session.received;
        if (!trunk_stream_hold_back(stream, metadata->session.unconsumed)) {
            trunk_break_stream(trunk, id, NGHTTP2_REFUSED_STREAM);
            stream->flags = 0; /* nothing has begun that could go on */
            trunk_stream_close(trunk, stream, NGHTTP2_REFUSED_STREAM);
            return 0;
        }
    }
    if (nghttp2_session_set_stream_user_data(trunk->h2, id, stream) != 0) {
        /* The request's stream is gone already: nghttp2 found it at fault. */
        trunk_stream_close(trunk, stream, NGHTTP2_PROTOCOL_ERROR);
        return 0;
    }
    trunk->events->attached(trunk->owner, stream);
    return 0;
}

static void trunk_on_response(struct trunk *trunk, const nghttp2_frame *frame)
{
    struct trunk_stream *stream = trunk_stream_of(trunk, frame->hd.stream_id);
    int status = trunk->status;
    bool resuming = stream != NULL && (stream->flags & TRUNK_STREAM_RESUMING);
    if (stream == NULL || (stream->output != STREAM_EXPECT_OPEN && !resuming) || status < 200) {
        return; /* detached, trailers, or an interim response */
    }
    if (status < 300 && resuming) {
        trunk_resume_answered(trunk, stream);
        return;
    }
    if (status < 300) {
        stream_input_move(&stream->input, STREAM_OPEN);
        stream_output_move(&stream->output, STREAM_OPEN);
        trunk->events->opened(trunk->owner, stream);
        return;
    }
    int32_t id = stream->id;
    trunk_stream_detach(stream);
    nghttp2_submit_rst_stream(trunk->h2, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
    trunk_want_send(trunk);
    trunk->events->closed(trunk->owner, stream, ERROR_REFUSED, (uint32_t)status);
}

/* ------------------------------------------------------------------------------------------------ other frames */

void trunk_stream_window_opened(struct trunk_stream *stream)
{
    struct trunk *trunk = stream->trunk;
    if (trunk_stream_queued(stream) > 0 || stream->output == STREAM_ENDING) {
        trunk_stream_make_ready(stream);
    }
    if (stream->wants_room && trunk_stream_room(stream) > 0) {
        stream->wants_room = 0;
        trunk->events->writable(trunk->owner, stream);
    }
}

static int trunk_on_settings(struct trunk *trunk, const nghttp2_settings *frame)
{
    for (size_t i = 0; i < frame->niv && !trunk->ready_for_streams; i++) {
        if (frame->iv[i].settings_id == TRUNK_SETTING_RESUME && trunk->settings.resume) {
            trunk->resumes = frame->iv[i].value == TRUNK_RESUME_VERSION;
        }
    }
    trunk->peer_streams_max = nghttp2_session_get_remote_settings(trunk->h2, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    uint32_t window = nghttp2_session_get_remote_settings(trunk->h2, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);
    bool grown = window > trunk->peer_initial_window;
    /* nghttp2 has gone through all streams. */
    uint64_t walked = window != trunk->peer_initial_window ? trunk->stream_count / TRUNK_COST_WALK_STREAMS : 0;
    trunk->peer_initial_window = window;
    if (!trunk->ready_for_streams) {
        trunk->ready_for_streams = 1;
        trunk_ping_early(trunk);
        trunk->events->ready(trunk->owner);
        return 0;
    }
    int verdict = trunk_charge(trunk, walked);
    if (!grown || verdict != 0) {
        return verdict;
    }
    /* Every window has grown. An event may detach its own stream, so the walk restarts from a copy of the list. */
    struct list walk;
    list_init(&walk);
    list_splice(&walk, &trunk->streams);
    struct list_node *node;
    while ((node = list_first(&walk)) != NULL) {
        struct trunk_stream *stream = container_of(node, struct trunk_stream, all);
        list_remove(node);
        list_append(&trunk->streams, node);
        trunk_stream_window_opened(stream);
    }
    return 0;
}

static void trunk_on_window_update(struct trunk *trunk, int32_t id)
{
    if (id == 0) {
        trunk_want_send(trunk);
        return;
    }
    struct trunk_stream *stream = trunk_stream_of(trunk, id);
    if (stream != NULL) {
        trunk_stream_window_opened(stream);
    }
}

static void trunk_round_trip_note(struct trunk *trunk, uint64_t rtt_us)
{
    uint64_t now_us = trunk->scheduler->now_us;
    if (now_us - trunk->rtt_epoch_us >= TRUNK_RTT_EPOCH_US) {
        trunk->rtt_epoch_us = now_us;
        trunk->rtt_least_us[1] = trunk->rtt_least_us[0];
        trunk->rtt_least_us[0] = 0;
    }
    if (trunk->rtt_least_us[0] == 0 || rtt_us < trunk->rtt_least_us[0]) {
        trunk->rtt_least_us[0] = rtt_us;
    }
}

static void trunk_on_ping_answer(struct trunk *trunk)
{
    if (trunk->ping_sent_us == 0) {
        return;
    }
    trunk->rtt_us = trunk->scheduler->now_us - trunk->ping_sent_us;
    trunk_round_trip_note(trunk, trunk->rtt_us > 0 ? trunk->rtt_us : 1);
    trunk->ping_sent_us = 0;
    trunk->ping_overdue = 0;
    scheduler_arm(trunk->scheduler, &trunk->ping, trunk->settings.ping_interval_ms);
    trunk_ack_age(trunk);
}

static int trunk_on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *user_data)
{
    struct trunk *trunk = user_data;
    int verdict = 0;
    (void)h2;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
            verdict = trunk_on_request(trunk, frame);
        } else if (trunk->settings.role == TRUNK_OPENER) {
            trunk_on_response(trunk, frame);
        }
        break;
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK)) {
            verdict = trunk_on_settings(trunk, &frame->settings);
        }
        break;
    case NGHTTP2_WINDOW_UPDATE:
        trunk_on_window_update(trunk, frame->hd.stream_id);
        break;
    case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK) {
            trunk_on_ping_answer(trunk);
        }
        break;
    case NGHTTP2_GOAWAY:
        trunk->goaway_received = 1;
        trunk->events->goaway(trunk->owner, frame->goaway.error_code);
        /* Not told of at its beginning; and nghttp2 has gone through all streams. */
        trunk->reported_bytes += TRUNK_FRAME_HEADER_BYTES + frame->hd.length;
        verdict = trunk_charge(trunk, TRUNK_COST_FRAME + trunk->stream_count / TRUNK_COST_WALK_STREAMS);
        break;
    default:
        break;
    }
    bool carries_end = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;
    if (carries_end && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
        trunk_on_stream_end(trunk, frame->hd.stream_id);
    }
    return verdict;
}

void trunk_receive_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, trunk_on_begin_frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, trunk_on_invalid_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, trunk_on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, trunk_on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, trunk_on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, trunk_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, trunk_on_stream_close);
}

/* Feeds nghttp2, but for frames that are ours where they may come. What nghttp2_session_mem_recv returns. */
static ssize_t trunk_feed(struct trunk *trunk, const uint8_t *bytes, size_t length)
{
    ssize_t taken = 0;
    while (length > 0 && taken >= 0) {
        const uint8_t *run = bytes;
        size_t run_length = length;
        int verdict = 0;
        size_t done =
            trunk->settings.resume ? trunk_cut_next(trunk, bytes, length, &run, &run_length, &verdict) : length;
        if (run_length > 0) {
            trunk->received_bytes += run_length;
            taken = nghttp2_session_mem_recv(trunk->h2, run, run_length);
        } else {
            trunk->received_own_bytes += done;
        }
        if (verdict != 0) {
            return verdict;
        }
        bytes += done;
        length -= done;
    }
    return taken;
}

enum error_code trunk_receive(struct trunk *trunk, const uint8_t *bytes, size_t length)
{
    assert(!trunk->busy && "a trunk must not be fed from within its own events");
    trunk->busy = 1;
    ssize_t taken = trunk_feed(trunk, bytes, length);
    trunk->busy = 0;
    trunk_want_send(trunk); /* answers of nghttp2's own: SETTINGS and PING acknowledgements, window updates */
    if (taken == NGHTTP2_ERR_CALLBACK_FAILURE) {
        return trunk->error != ERROR_NONE ? trunk->error : ERROR_TRUNK_PROTOCOL;
    }
    if (taken == NGHTTP2_ERR_FLOODED) {
        return trunk_end_flood(trunk); /* too many acknowledgements wait for it */
    }
    if (taken < 0) {
        return trunk_error_from_nghttp2((int)taken);
    }
    if (trunk_charge_ignored(trunk) != 0) {
        return trunk->error;
    }
    /* Two frames for each stream (a reset, a window) and some: a peer that makes us owe it more does not read. */
    if (nghttp2_session_get_outbound_queue_size(trunk->h2) > 2U * (size_t)trunk->settings.sessions_max + 10000U) {
        return trunk_end_flood(trunk);
    }
    return ERROR_NONE;
}

/* ------------------------------------------------------------------------------------------------ liveness */

#define PINGS_OVERDUE 4U /* so many timeouts without an answer: a peer that lives and hears nothing has given up */

static void trunk_ping_send(struct trunk *trunk)
{
    int failure = nghttp2_submit_ping(trunk->h2, NGHTTP2_FLAG_NONE, NULL);
    if (failure != 0) {
        trunk_fail(trunk, trunk_error_from_nghttp2(failure));
        return;
    }
    trunk->ping_sent_us = trunk->scheduler->now_us != 0 ? trunk->scheduler->now_us : 1;
    trunk->received_bytes_at_ping = trunk->received_bytes + trunk->received_own_bytes;
    scheduler_arm(trunk->scheduler, &trunk->ping, trunk->settings.ping_timeout_ms);
    trunk_want_send(trunk);
}

/* One as soon as the peer is there, as windows cannot grow before the first answer. */
void trunk_ping_early(struct trunk *trunk)
{
    if (trunk->ping_sent_us == 0) {
        trunk_ping_send(trunk);
    }
}

static void trunk_ping_due(struct timer *timer)
{
    struct trunk *trunk = container_of(timer, struct trunk, ping);
    trunk_internal_age(trunk);
    if (trunk->ping_sent_us != 0) {
        if (trunk->received_bytes + trunk->received_own_bytes == trunk->received_bytes_at_ping) {
            trunk_fail(trunk, ERROR_TRUNK_PING_TIMEOUT);
            return;
        }
        /* Bytes came since: the peer lives, its answer waits behind a backlog. Or nothing reaches the peer, who will
         * find out; or it does not answer, and is not to be remembered for ever. */
        if (trunk->ping_overdue < PINGS_OVERDUE) {
            trunk->ping_overdue++;
        } else {
            trunk_ack_age(trunk);
        }
        trunk->received_bytes_at_ping = trunk->received_bytes + trunk->received_own_bytes;
        scheduler_arm(trunk->scheduler, &trunk->ping, trunk->settings.ping_timeout_ms);
        return;
    }
    trunk_ping_send(trunk);
}

void trunk_ping_start(struct trunk *trunk)
{
    timer_init(&trunk->ping, trunk_ping_due);
    scheduler_arm(trunk->scheduler, &trunk->ping, trunk->settings.ping_interval_ms);
}

/* ------------------------------------------------------------------------------------------------ greeting */

#define GREETING_PREFACE_BYTES 24U
#define GREETING_SETTING_BYTES 6U

static uint32_t big_endian(const uint8_t *bytes, size_t count)
{
    uint32_t value = 0;
    for (size_t i = 0; i < count; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

enum error_code trunk_greeting_parse(const uint8_t *bytes, size_t length, uint32_t *edge_worker)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"; /* RFC 9113 section 3.4 */
    size_t compared = length < GREETING_PREFACE_BYTES ? length : GREETING_PREFACE_BYTES;
    if (memcmp(bytes, preface, compared) != 0) {
        return ERROR_TRUNK_PREFACE;
    }
    if (length < GREETING_PREFACE_BYTES + TRUNK_FRAME_HEADER_BYTES) {
        return ERROR_WOULD_BLOCK;
    }
    const uint8_t *header = bytes + GREETING_PREFACE_BYTES;
    uint32_t payload = big_endian(header, 3);
    size_t total = GREETING_PREFACE_BYTES + TRUNK_FRAME_HEADER_BYTES + payload;
    if (header[3] != NGHTTP2_SETTINGS || (header[4] & NGHTTP2_FLAG_ACK) || big_endian(header + 5, 4) != 0 ||
        payload % GREETING_SETTING_BYTES != 0 || total > TRUNK_GREETING_MAX_BYTES) {
        return ERROR_TRUNK_PREFACE;
    }
    if (length < total) {
        return ERROR_WOULD_BLOCK;
    }
    *edge_worker = 0;
    for (const uint8_t *entry = header + TRUNK_FRAME_HEADER_BYTES; entry < bytes + total;
         entry += GREETING_SETTING_BYTES) {
        if (big_endian(entry, 2) == TRUNK_SETTING_EDGE_WORKER) {
            *edge_worker = big_endian(entry + 2, 4);
        }
    }
    return ERROR_NONE;
}
