/*
 * Windows of streams, from the receiver's side: when the peer is told that it may send more, and how much. mux/window.h
 * says how large a window should be; here it is measured, grown, shrunk, and told to the peer. What is needed for that
 * is made when a stream carries much, and freed when it rests. The trunk's slab owns it; one thread.
 *
 * nghttp2 counts for each stream the window (L) and what came and was not granted again (R); we count what came on this
 * trunk, was given to the consumer and not consumed (U). R - U is thus what was consumed and not granted again, padding
 * included, and
 *
 *   to grant again:  WINDOW_UPDATE of R - U;
 *   to grow by n:    L + n, by a WINDOW_UPDATE of n more;
 *   to shrink by n:  L - n and R - n, for n <= R - U: consumed bytes that are not granted again. Nothing that was
 * granted is ever taken back, and nothing is said of it.
 *
 * So the increments of WINDOW_UPDATE are what was consumed only while a window does not change, and no peer may take
 * them for acknowledgements.
 */
#include "mux/trunk_internal.h"

#include <assert.h>

#include "mux/limits.h"
#include "mux/memory.h"

#define TRUNK_WINDOW_STEPS 16U /* WINDOW_UPDATEs in a window: with few, a sender waits for each */

static struct trunk_window *trunk_window_of(const struct trunk_stream *stream)
{
    return stream->work != NULL ? stream->work->window : NULL;
}

/* ------------------------------------------------------------------------------------------------ what it costs */

/* Of the budget: what is there, or what was promised beyond the start, whichever is more. */
uint64_t trunk_stream_cost(const struct trunk_stream *stream)
{
    const struct trunk_window *grown = trunk_window_of(stream);
    uint32_t promised = grown != NULL ? grown->window.size_bytes - stream->trunk->settings.stream_window_bytes : 0;
    size_t unconsumed = trunk_stream_unconsumed(stream);
    return promised > unconsumed ? promised : unconsumed;
}

uint64_t trunk_stream_charged(const struct trunk_stream *stream)
{
    return stream->work != NULL ? trunk_stream_cost(stream) + chain_bytes(&stream->work->queue) : 0;
}

/* Of what is not consumed, what came on this trunk. */
static uint32_t trunk_stream_unconsumed_here(const struct trunk_stream *stream)
{
    return stream->work != NULL ? stream->work->unconsumed - stream->work->stale : 0;
}

/* ------------------------------------------------------------------------------------------------ frames */

/* Consumed, and not granted again. */
static uint32_t trunk_window_owed(const struct trunk_stream *stream)
{
    int32_t received = nghttp2_session_get_stream_effective_recv_data_length(stream->trunk->h2, stream->id);
    uint32_t unconsumed = trunk_stream_unconsumed_here(stream);
    return received > 0 && (uint32_t)received > unconsumed ? (uint32_t)received - unconsumed : 0;
}

/* Resizes to `size`, which is larger, or smaller by no more than what is owed. */
static int trunk_window_resize(struct trunk_stream *stream, struct trunk_window *grown, uint32_t size)
{
    struct trunk *trunk = stream->trunk;
    int32_t change = (int32_t)size - (int32_t)grown->window.size_bytes;
    int32_t now = nghttp2_session_get_stream_effective_local_window_size(trunk->h2, stream->id);
    int failure = nghttp2_session_set_local_window_size(trunk->h2, NGHTTP2_FLAG_NONE, stream->id, now + change);
    if (failure == 0) {
        uint64_t before = trunk_stream_cost(stream);
        grown->window.size_bytes = size;
        buffer_budget_change(trunk->settings.buffers, before, trunk_stream_cost(stream));
    }
    return failure;
}

/* Moves the window towards its target, and grants what is owed. 0, or nghttp2's error. */
static int trunk_window_update(struct trunk_stream *stream, struct trunk_window *grown)
{
    struct trunk *trunk = stream->trunk;
    uint32_t owed = trunk_window_owed(stream);
    int failure = 0;
    if (grown != NULL && grown->window.target_bytes != grown->window.size_bytes) {
        uint32_t size = grown->window.size_bytes;
        uint32_t target = grown->window.target_bytes;
        if (target < size && size - target > owed) {
            target = size - owed;
        }
        failure = target != size ? trunk_window_resize(stream, grown, target) : 0;
        owed = trunk_window_owed(stream);
    }
    if (failure == 0 && owed > 0) {
        failure = nghttp2_submit_window_update(trunk->h2, NGHTTP2_FLAG_NONE, stream->id, (int32_t)owed);
    }
    trunk_want_send(trunk);
    return failure;
}

/* ------------------------------------------------------------------------------------------------ measuring */

static void trunk_window_free(struct trunk_window *grown)
{
    struct trunk_stream *stream = grown->stream;
    struct trunk *trunk = stream->trunk;
    uint64_t before = trunk_stream_cost(stream);
    list_remove(&grown->node);
    stream->work->window = NULL;
    slab_free(&trunk->window_slab, grown);
    buffer_budget_change(trunk->settings.buffers, before, trunk_stream_cost(stream));
}

/* Looks after windows whose streams rest: they are not measured, and what they were promised is not charged, like a
 * start window that is not in use. When bytes come again, so is the charge. */
void trunk_windows_sweep(struct timer *timer)
{
    struct trunk *trunk = container_of(timer, struct trunk, sweep);
    list_for_each(&trunk->windows, node) {
        struct trunk_window *grown = container_of(node, struct trunk_window, node);
        struct trunk_stream *stream = grown->stream;
        if (!grown->seen && trunk_stream_unconsumed(stream) == 0) {
            trunk_window_free(grown);
            trunk_work_settle(stream);
        } else {
            grown->seen = 0;
        }
    }
    if (!list_empty(&trunk->windows)) {
        scheduler_arm(trunk->scheduler, &trunk->sweep, TRUNK_SWEEP_MS);
    }
}

/* How large it is: of one that has grown and rests only nghttp2 remembers. */
static uint32_t trunk_window_size(struct trunk_stream *stream)
{
    uint32_t start = stream->trunk->settings.stream_window_bytes;
    if (!stream->grown) {
        return start;
    }
    int32_t size = nghttp2_session_get_stream_effective_local_window_size(stream->trunk->h2, stream->id);
    return size > 0 && (uint32_t)size > start ? (uint32_t)size : start;
}

/* Begins to measure the stream. Without memory its window stays as it is. */
static void trunk_window_watch(struct trunk_stream *stream)
{
    struct trunk *trunk = stream->trunk;
    struct trunk_window *grown = slab_alloc(&trunk->window_slab);
    if (grown == NULL || trunk_work_get(stream) == NULL) {
        slab_free(&trunk->window_slab, grown);
        return;
    }
    uint64_t before = trunk_stream_cost(stream);
    window_init(&grown->window, trunk_window_size(stream), trunk->scheduler->now_us);
    grown->stream = stream;
    grown->seen = 1;
    list_append(&trunk->windows, &grown->node);
    stream->work->window = grown;
    buffer_budget_change(trunk->settings.buffers, before, trunk_stream_cost(stream));
    if (!timer_armed(&trunk->sweep)) {
        scheduler_arm(trunk->scheduler, &trunk->sweep, TRUNK_SWEEP_MS);
    }
}

static void trunk_window_measure(struct trunk_stream *stream, struct trunk_window *grown, uint32_t bytes)
{
    struct trunk *trunk = stream->trunk;
    const struct trunk_settings *settings = &trunk->settings;
    const struct window_limits limits = {
        .start_bytes = settings->stream_window_bytes,
        .max_bytes = settings->stream_window_max_bytes,
        .gain_percent = 200,
        .slack = 4,
        .round_trip_us = trunk_round_trip_us(trunk),
        .allowance_bytes = buffer_budget_allowance(settings->buffers, trunk_stream_cost(stream)),
        .level = buffer_budget_level(settings->buffers),
    };
    grown->seen = 1;
    window_consume(&grown->window, &limits, trunk->scheduler->now_us, bytes, (uint32_t)trunk_stream_unconsumed(stream));
}

/* Is the stream worth being measured? Not before the first answer to a PING, by when the peer knows our SETTINGS. */
static bool trunk_window_worth(const struct trunk_stream *stream, uint32_t owed)
{
    const struct trunk *trunk = stream->trunk;
    return trunk_round_trip_us(trunk) > 0 && owed >= trunk->settings.stream_window_bytes / 4U &&
           trunk->settings.stream_window_max_bytes > trunk->settings.stream_window_bytes;
}

/* ------------------------------------------------------------------------------------------------ the whole trunk */

#define TRUNK_WINDOW_GAIN_PERCENT 140U

static uint32_t trunk_window_first(const struct trunk *trunk)
{
    uint32_t most = trunk->settings.trunk_window_bytes;
    return most < LIMIT_TRUNK_WINDOW_START_BYTES ? most : LIMIT_TRUNK_WINDOW_START_BYTES;
}

int trunk_window_start(struct trunk *trunk)
{
    trunk->rtt_epoch_us = trunk->scheduler->now_us;
    window_init(&trunk->window, trunk_window_first(trunk), trunk->scheduler->now_us);
    return nghttp2_session_set_local_window_size(trunk->h2, NGHTTP2_FLAG_NONE, 0, (int32_t)trunk->window.size_bytes);
}

/* Towards the target: smaller only by what came and was not granted again. */
static int trunk_window_adjust(struct trunk *trunk, uint32_t owed)
{
    struct window *window = &trunk->window;
    uint32_t size = window->target_bytes;
    if (size < window->size_bytes && window->size_bytes - size > owed) {
        size = window->size_bytes - owed;
    }
    window->size_bytes = size;
    return nghttp2_session_set_local_window_size(trunk->h2, NGHTTP2_FLAG_NONE, 0, (int32_t)size);
}

int trunk_window_opened_by(struct trunk *trunk, size_t length)
{
    /* It holds no memory, as bytes are passed on at once; but what is under way beyond what the path carries waits in
     * the path, in front of whatever comes next. So the gain is smaller than a stream's, and memory has no say. */
    const struct window_limits limits = {
        .start_bytes = trunk_window_first(trunk),
        .max_bytes = trunk->settings.trunk_window_bytes,
        .gain_percent = TRUNK_WINDOW_GAIN_PERCENT,
        .slack = 2,
        .round_trip_us = trunk_round_trip_us(trunk),
        .allowance_bytes = UINT64_MAX,
        .level = BUFFER_AMPLE,
    };
    struct window *window = &trunk->window;
    int32_t owed = nghttp2_session_get_effective_recv_data_length(trunk->h2);
    if (limits.round_trip_us > 0) {
        window_consume(window, &limits, trunk->scheduler->now_us, (uint32_t)length, 0);
    }
    int failure = 0;
    if (window->target_bytes != window->size_bytes && owed > 0) {
        failure = trunk_window_adjust(trunk, (uint32_t)owed);
        owed = nghttp2_session_get_effective_recv_data_length(trunk->h2);
    }
    if (failure == 0 && owed > 0 && (uint32_t)owed >= window->size_bytes / TRUNK_WINDOW_STEPS) {
        failure = nghttp2_submit_window_update(trunk->h2, NGHTTP2_FLAG_NONE, 0, owed);
    }
    return failure;
}

/* ------------------------------------------------------------------------------------------------ bytes */

void trunk_window_received(struct trunk_stream *stream, size_t length)
{
    if (stream->grown && trunk_window_of(stream) == NULL) {
        trunk_window_watch(stream);
    }
    uint64_t before = trunk_stream_cost(stream);
    stream->work->unconsumed += (uint32_t)length;
    buffer_budget_change(stream->work->buffers, before, trunk_stream_cost(stream));
}

void trunk_window_consumed(struct trunk_stream *stream, uint32_t length)
{
    struct trunk *trunk = stream->trunk;
    struct trunk_window *grown = trunk_window_of(stream);
    if (grown != NULL) {
        trunk_window_measure(stream, grown, length);
    }
    bool grows = grown != NULL && grown->window.target_bytes > grown->window.size_bytes;
    uint32_t owed = trunk_window_owed(stream);
    uint32_t due = trunk->settings.stream_window_bytes / 2U;
    if (grown != NULL && grown->window.size_bytes / TRUNK_WINDOW_STEPS > due) {
        due = grown->window.size_bytes / TRUNK_WINDOW_STEPS;
    }
    if (!grows && owed < due) {
        return;
    }
    if (grown == NULL && trunk_window_worth(stream, owed)) {
        trunk_window_watch(stream);
    }
    int failure = trunk_window_update(stream, grown);
    if (grown != NULL) {
        stream->grown = grown->window.size_bytes > trunk->settings.stream_window_bytes;
    }
    if (failure != 0) {
        /* Without the update the stream would stand still for ever. */
        trunk_fail(trunk, trunk_error_from_nghttp2(failure));
    }
}

void trunk_stream_consume(struct trunk_stream *stream, size_t length)
{
    struct trunk_work *work = stream->work;
    if (work == NULL || length == 0) {
        return; /* detached */
    }
    assert(length <= work->unconsumed && "more was consumed than was received");
    size_t stale = length < work->stale ? length : work->stale;
    uint64_t before = trunk_stream_cost(stream);
    work->unconsumed -= (uint32_t)length;
    work->stale -= (uint32_t)stale;
    stream->stalled = 0;
    buffer_budget_change(work->buffers, before, trunk_stream_cost(stream));
    if (stream->trunk != NULL && !stream->trunk->failed && stream->input == STREAM_OPEN && length > stale) {
        trunk_window_consumed(stream, (uint32_t)(length - stale));
    }
    trunk_ack_later(stream, length);
    trunk_work_settle(stream);
}

void trunk_window_leave(struct trunk_stream *stream)
{
    struct trunk_window *grown = trunk_window_of(stream);
    if (grown != NULL) {
        trunk_window_free(grown);
    }
    stream->grown = 0;
}

void trunk_window_drop(struct trunk_stream *stream)
{
    trunk_window_leave(stream);
    if (stream->work != NULL) {
        buffer_budget_change(stream->work->buffers, trunk_stream_cost(stream), 0);
        stream->work->unconsumed = stream->work->stale = 0;
    }
}

/* ------------------------------------------------------------------------------------------------ when memory is out
 */

void trunk_stream_mark(struct trunk_stream *stream)
{
    stream->stalled = 1;
}

bool trunk_stream_marked(const struct trunk_stream *stream)
{
    return stream->stalled;
}

uint32_t trunk_stream_receive_window(const struct trunk_stream *stream)
{
    if (stream->trunk == NULL) {
        return 0;
    }
    int32_t size = nghttp2_session_get_stream_effective_local_window_size(stream->trunk->h2, stream->id);
    return size > 0 ? (uint32_t)size : 0;
}
