/*
 * What a trunk sends. Control frames go first, as nghttp2 orders them; then the streams that have bytes take turns,
 * one DATA frame each, at most one data item being known to nghttp2 at a time. So the turn is ours to give (nghttp2's
 * own order differs between versions), and an idle stream costs no data item. One thread.
 */
#include "mux/trunk_internal.h"

#include <assert.h>
#include <string.h>

#include "mux/limits.h"
#include "mux/memory.h"

#define FRAME_WORTH_BYTES 256U /* do not cut a stream's turn shorter than this just to fill a record */

void trunk_stream_make_ready(struct trunk_stream *stream)
{
    struct trunk *trunk = stream->trunk;
    if (trunk == NULL || (stream->flags & TRUNK_STREAM_RESUMING)) {
        return; /* not before the stream goes on */
    }
    if (!list_node_linked(&stream->work->ready)) {
        list_append(&trunk->ready, &stream->work->ready);
    }
    trunk_want_send(trunk);
}

static ssize_t trunk_on_read(nghttp2_session *h2, int32_t id, uint8_t *into, size_t length, uint32_t *flags,
                             nghttp2_data_source *source, void *user_data);

static size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* A peer that opens windows and acknowledges nothing must not make us keep all that it is sent. An honest one owes for
 * a window that is under way, one whose acknowledgement is, and what it gathers before it sends that; and its windows
 * are as large as ours may be. What is kept is charged to the budget as well. */
static int64_t trunk_retained_max(const struct trunk *trunk)
{
    uint32_t most = trunk->settings.stream_window_max_bytes;
    uint32_t window = trunk->peer_initial_window > most ? trunk->peer_initial_window : most;
    return 2 * ((int64_t)window + (int64_t)LIMIT_TRUNK_OWED_BYTES);
}

int64_t trunk_stream_window(const struct trunk_stream *stream)
{
    const struct trunk_work *work = stream->work;
    int64_t open = nghttp2_session_get_stream_remote_window_size(stream->trunk->h2, stream->id);
    int64_t kept = trunk_retained_max(stream->trunk);
    if (work != NULL) {
        open -= (int64_t)work->overhang + (int64_t)work->inherited;
        kept -= (int64_t)work->retained;
    }
    return !(stream->flags & TRUNK_STREAM_RESUMABLE) || open < kept ? open : kept;
}

/* nghttp2 holds back a DATA frame behind a shut window even when it is empty, and the turn with it. */
static bool trunk_window_shut(const struct trunk *trunk, const struct trunk_stream *stream)
{
    return nghttp2_session_get_stream_remote_window_size(trunk->h2, stream->id) <= 0 ||
           nghttp2_session_get_remote_window_size(trunk->h2) <= 0;
}

/* Bytes that the stream may put into one frame now; 0 also for a mere end. */
static size_t trunk_turn_size(const struct trunk *trunk, const struct trunk_stream *stream)
{
    size_t queued = trunk_stream_queued(stream);
    int64_t stream_window = trunk_stream_window(stream);
    int32_t trunk_window = nghttp2_session_get_remote_window_size(trunk->h2);
    if (stream_window <= 0 || trunk_window <= 0) {
        return 0;
    }
    size_t size = size_min(queued, size_min((size_t)stream_window, (size_t)trunk_window));
    size = size_min(size, LIMIT_TRUNK_QUANTUM_BYTES);
    return size_min(size, nghttp2_session_get_remote_settings(trunk->h2, NGHTTP2_SETTINGS_MAX_FRAME_SIZE));
}

enum turn_result { TURN_GIVEN, TURN_NONE, TURN_NO_SPACE, TURN_FAILED };

/* What a session that moves has left goes as far as the client's window: the next core is not kept waiting for more. */
static bool trunk_abort_shut(const struct trunk_stream *stream)
{
    return (stream->flags & TRUNK_STREAM_ABORTS) && stream->received == TRUNK_CODE_MOVED &&
           nghttp2_submit_rst_stream(stream->trunk->h2, NGHTTP2_FLAG_NONE, stream->id, stream->received) == 0;
}

/* Gives the next stream its turn: one DATA item becomes known to nghttp2. */
static enum turn_result trunk_give_turn(struct trunk *trunk)
{
    bool trunk_window_open = nghttp2_session_get_remote_window_size(trunk->h2) > 0;
    list_for_each(&trunk->ready, node) {
        struct trunk_stream *stream = container_of(node, struct trunk_work, ready)->stream;
        size_t queued = trunk_stream_queued(stream);
        size_t size = trunk_turn_size(trunk, stream);
        bool ends = stream->output == STREAM_ENDING && queued == 0 && !trunk_window_shut(trunk, stream);
        if (size == 0 && !ends) {
            if (trunk_window_open) {
                list_remove(node); /* its own window is shut: WINDOW_UPDATE makes it ready again */
                if (trunk_abort_shut(stream)) {
                    return TURN_GIVEN; /* there is a frame to be sent */
                }
            }
            continue;
        }
        size_t space = trunk->out_capacity - trunk->out_length;
        if (space < TRUNK_FRAME_HEADER_BYTES + size_min(size, FRAME_WORTH_BYTES)) {
            return TURN_NO_SPACE;
        }
        list_remove(node);
        trunk->turn = stream;
        trunk->turn_bytes = size_min(size, space - TRUNK_FRAME_HEADER_BYTES);
        bool last = stream->output == STREAM_ENDING && trunk->turn_bytes == queued;
        nghttp2_data_provider provider = {.source = {.ptr = stream}, .read_callback = trunk_on_read};
        int failure =
            nghttp2_submit_data(trunk->h2, last ? NGHTTP2_FLAG_END_STREAM : NGHTTP2_FLAG_NONE, stream->id, &provider);
        if (failure == NGHTTP2_ERR_NOMEM) {
            trunk->error = ERROR_NO_MEMORY;
            return TURN_FAILED;
        }
        assert(failure == 0 && "one data item at a time, and only on streams that are open");
        return TURN_GIVEN;
    }
    return TURN_NONE;
}

static ssize_t trunk_on_read(nghttp2_session *h2, int32_t id, uint8_t *into, size_t length, uint32_t *flags,
                             nghttp2_data_source *source, void *user_data)
{
    struct trunk *trunk = user_data;
    (void)h2;
    (void)into;
    (void)source;
    if (trunk->turn == NULL || trunk->turn->id != id) {
        /* The stream was detached after its turn was given: nothing of it may be sent. */
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (trunk->turn_bytes > length) {
        trunk->turn_bytes = length;
    }
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    bool last = trunk->turn->output == STREAM_ENDING && trunk->turn_bytes == trunk_stream_queued(trunk->turn);
    if (!last) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    }
    if (trunk->turn_bytes > 0) {
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    }
    return (ssize_t)trunk->turn_bytes;
}

/* Writes a DATA frame straight from the stream's queue into the output. */
int trunk_on_send_data(nghttp2_session *h2, nghttp2_frame *frame, const uint8_t *header, size_t length,
                       nghttp2_data_source *source, void *user_data)
{
    struct trunk *trunk = user_data;
    struct trunk_stream *stream = trunk->turn;
    (void)h2;
    (void)frame;
    (void)source;
    assert(stream != NULL && trunk->out_length + TRUNK_FRAME_HEADER_BYTES + length <= trunk->out_capacity);
    uint8_t *out = trunk->out + trunk->out_length;
    memcpy(out, header, TRUNK_FRAME_HEADER_BYTES);
    struct trunk_work *work = stream->work;
    size_t copied = chain_read(&work->queue, &work->next, out + TRUNK_FRAME_HEADER_BYTES, length);
    assert(copied == length);
    (void)copied;
    trunk_work_sent(stream, length);
    trunk->out_length += TRUNK_FRAME_HEADER_BYTES + length;
    return 0;
}

/* Room for the owner's next bytes, as some have left: it hears of it outside of nghttp2. Not for every frame: in steps
 * of half a backlog. */
static void trunk_room_made(struct trunk_stream *stream)
{
    struct trunk *trunk = stream->trunk;
    bool enough = trunk_stream_queued(stream) <= trunk->settings.stream_backlog_bytes / 2U;
    if (stream->wants_room && enough && !list_node_linked(&stream->work->roomy) && trunk_stream_room(stream) > 0) {
        list_append(&trunk->roomy, &stream->work->roomy);
        scheduler_defer(trunk->scheduler, &trunk->tell_room);
    }
}

void trunk_tell_room(struct task *task)
{
    struct trunk *trunk = container_of(task, struct trunk, tell_room);
    struct list_node *node;
    struct list batch;
    list_init(&batch);
    list_splice(&batch, &trunk->roomy);
    while ((node = list_first(&batch)) != NULL) {
        struct trunk_stream *stream = container_of(node, struct trunk_work, roomy)->stream;
        list_remove(node);
        bool tell = stream->wants_room && trunk_stream_room(stream) > 0;
        stream->wants_room = tell ? 0 : stream->wants_room;
        trunk_work_settle(stream);
        if (tell) {
            trunk->events->writable(trunk->owner, stream);
        }
    }
}

static void trunk_data_sent(struct trunk *trunk, const nghttp2_frame *frame)
{
    struct trunk_stream *stream = trunk->turn;
    if (stream == NULL || stream->id != frame->hd.stream_id) {
        return;
    }
    trunk->turn = NULL;
    stream->stalled = 0;
    trunk_budget_earn(&trunk->budget, TRUNK_EARN_SENT_FRAME + frame->hd.length / TRUNK_EARN_SENT_BYTES);
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        if (stream->flags & TRUNK_STREAM_RESUMABLE) {
            stream->sent++;
            stream->work->retained++;
        }
        stream_output_move(&stream->output, STREAM_ENDED);
        if ((stream->flags & TRUNK_STREAM_INTERNAL) && stream->input != STREAM_ENDED) {
            /* RFC 9113 section 8.1: the answer is complete, the rest of the request is not wanted. */
            nghttp2_submit_rst_stream(trunk->h2, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
        }
        trunk_work_settle(stream);
        return;
    }
    if (trunk_stream_queued(stream) == 0 && (stream->flags & TRUNK_STREAM_ABORTS)) {
        nghttp2_submit_rst_stream(trunk->h2, NGHTTP2_FLAG_NONE, stream->id, stream->received);
        return;
    }
    trunk_room_made(stream);
    if (trunk_stream_queued(stream) > 0 || stream->output == STREAM_ENDING) {
        list_append(&trunk->ready, &stream->work->ready); /* behind all others */
    } else {
        trunk_work_settle(stream);
    }
}

int trunk_on_frame_send(nghttp2_session *h2, const nghttp2_frame *frame, void *user_data)
{
    struct trunk *trunk = user_data;
    (void)h2;
    switch (frame->hd.type) {
    case NGHTTP2_DATA:
        trunk_data_sent(trunk, frame);
        break;
    case NGHTTP2_GOAWAY:
        if (frame->goaway.error_code != NGHTTP2_NO_ERROR && frame->goaway.error_code != trunk->goaway_code) {
            trunk_fail(trunk, ERROR_TRUNK_PROTOCOL); /* nghttp2 found the peer at fault */
        }
        break;
    default:
        break;
    }
    return 0;
}

int trunk_on_frame_not_send(nghttp2_session *h2, const nghttp2_frame *frame, int error, void *user_data)
{
    struct trunk *trunk = user_data;
    (void)h2;
    (void)error;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        struct trunk_stream *stream = trunk_stream_of(trunk, frame->hd.stream_id);
        if (stream != NULL) {
            stream->flags |= TRUNK_STREAM_UNPROCESSED; /* on_stream_close follows */
        }
    }
    return 0;
}

/* Copies as much of the frame that nghttp2 made as there is space for; the rest is carried to the next call. */
static void trunk_take_frame(struct trunk *trunk, const uint8_t *bytes, size_t length)
{
    size_t part = size_min(length, trunk->out_capacity - trunk->out_length);
    memcpy(trunk->out + trunk->out_length, bytes, part);
    trunk->out_length += part;
    trunk->carry = bytes + part;
    trunk->carry_length = length - part;
}

/* The acceptor's first frame is its SETTINGS: writes the real limit of streams into a copy (see trunk_submit_settings).
 */
static const uint8_t *trunk_announce_limit(struct trunk *trunk, const uint8_t *frame, size_t length)
{
    assert(length > TRUNK_FRAME_HEADER_BYTES && length <= sizeof(trunk->first_frame) && frame[3] == NGHTTP2_SETTINGS);
    memcpy(trunk->first_frame, frame, length);
    trunk->announced = 1;
    for (uint8_t *entry = trunk->first_frame + TRUNK_FRAME_HEADER_BYTES; entry < trunk->first_frame + length;
         entry += 6) {
        if (entry[0] == 0 && entry[1] == NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS) {
            for (int i = 0; i < 4; i++) {
                entry[2 + i] = (uint8_t)(trunk->settings.sessions_max >> (24 - 8 * i));
            }
        }
    }
    return trunk->first_frame;
}

static enum error_code trunk_fill(struct trunk *trunk)
{
    if (trunk->carry_length > 0) {
        trunk_take_frame(trunk, trunk->carry, trunk->carry_length);
    }
    while (trunk->carry_length == 0 && trunk->out_length < trunk->out_capacity) {
        const uint8_t *bytes = NULL;
        ssize_t length = nghttp2_session_mem_send(trunk->h2, &bytes);
        if (length < 0) {
            return trunk_error_from_nghttp2((int)length);
        }
        if (length > 0) {
            if (!trunk->announced && trunk->settings.role == TRUNK_ACCEPTOR) {
                bytes = trunk_announce_limit(trunk, bytes, (size_t)length);
            }
            trunk_take_frame(trunk, bytes, (size_t)length);
            continue;
        }
        size_t own = trunk_ack_write(trunk, trunk->out + trunk->out_length, trunk->out_capacity - trunk->out_length);
        if (own == 0) {
            own = trunk_note_write(trunk, trunk->out + trunk->out_length, trunk->out_capacity - trunk->out_length);
        }
        if (own > 0) {
            trunk->out_length += own;
            continue;
        }
        switch (trunk_give_turn(trunk)) {
        case TURN_GIVEN:
            break;
        case TURN_NONE:
        case TURN_NO_SPACE:
            return ERROR_NONE;
        case TURN_FAILED:
            return ERROR_NO_MEMORY;
        }
    }
    return ERROR_NONE;
}

enum error_code trunk_send(struct trunk *trunk, uint8_t *into, size_t capacity, size_t *length)
{
    assert(!trunk->busy && "a trunk must not be asked to send from within its own events");
    trunk->busy = 1;
    trunk->out = into;
    trunk->out_capacity = capacity;
    trunk->out_length = 0;
    enum error_code error = trunk_fill(trunk);
    *length = trunk->out_length;
    trunk->out = NULL;
    trunk->busy = 0;
    return error;
}
