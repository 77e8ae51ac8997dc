/*
 * What a stream holds only while it is not idle: its queue and place in the order of turns, what awaits acknowledgement
 * either way, and what came before it was accepted. Made when the first of these is needed, freed with the last.
 * Belongs to a slab that outlives the trunk if the stream may; one thread.
 */
#include "mux/trunk_internal.h"

/* What the peer does not consume is kept: no more than this and the window for one whose client does not read. */
#define WORK_CHUNK_BYTES 4048U /* a page, with what the chunk and its allocation take */

void trunk_work_slab_init(struct slab *slab)
{
    slab_init(slab, "trunk-work", sizeof(struct trunk_work));
}

struct trunk_work *trunk_work_new(struct slab *slab, struct buffer_budget *buffers, struct trunk_stream *stream)
{
    struct trunk_work *work = slab_alloc(slab);
    if (work != NULL) {
        list_node_init(&work->ready);
        list_node_init(&work->owed);
        list_node_init(&work->roomy);
        chain_init(&work->queue);
        work->buffers = buffers;
        work->stream = stream;
    }
    return work;
}

enum error_code trunk_work_append(struct trunk *trunk, struct trunk_work *work, const uint8_t *bytes, size_t length)
{
    enum error_code error = chain_append_in(&work->queue, bytes, length, WORK_CHUNK_BYTES);
    if (error == ERROR_NONE) {
        buffer_budget_change(work->buffers, 0, length);
        if (trunk != NULL) {
            trunk->queued_bytes += length;
        }
    }
    return error;
}

void trunk_work_discard(struct trunk_work *work, size_t length)
{
    chain_consume(&work->queue, length);
    buffer_budget_change(work->buffers, length, 0);
}

void trunk_work_sent(struct trunk_stream *stream, size_t length)
{
    struct trunk_work *work = stream->work;
    stream->trunk->queued_bytes -= length;
    if (stream->flags & TRUNK_STREAM_RESUMABLE) {
        stream->sent += (uint32_t)length;
        work->retained += (uint32_t)length;
    } else {
        trunk_work_discard(work, length);
        work->next = (struct chain_cursor){NULL, 0};
    }
}

struct trunk_work *trunk_work_get(struct trunk_stream *stream)
{
    if (stream->work == NULL) {
        stream->work = trunk_work_new(stream->trunk->work_slab, stream->trunk->settings.buffers, stream);
    }
    return stream->work;
}

/* Without the end, which is the last to be acknowledged. */
static size_t work_retained(const struct trunk_work *work)
{
    return work->retained == 0 ? 0 : work->retained - (work->stream->output == STREAM_ENDED ? 1U : 0U);
}

size_t trunk_work_retained(const struct trunk_stream *stream)
{
    return stream->work != NULL ? work_retained(stream->work) : 0;
}

size_t trunk_stream_queued(const struct trunk_stream *stream)
{
    return stream->work != NULL ? chain_bytes(&stream->work->queue) - trunk_work_retained(stream) : 0;
}

size_t trunk_stream_retained(const struct trunk_stream *stream)
{
    return trunk_work_retained(stream);
}

size_t trunk_stream_unconsumed(const struct trunk_stream *stream)
{
    return stream->work != NULL ? stream->work->unconsumed : 0;
}

void trunk_work_settle(struct trunk_stream *stream)
{
    const struct trunk_work *work = stream->work;
    if (work != NULL && chain_empty(&work->queue) && stream->output != STREAM_ENDING && work->held == NULL &&
        work->retained == 0 && work->unconsumed == 0 && work->inherited == 0 && !list_node_linked(&work->owed) &&
        work->window == NULL && !list_node_linked(&work->roomy) && !trunk_stream_interrupted(stream)) {
        trunk_work_drop(stream);
    }
}

void trunk_work_free(struct trunk *trunk, struct trunk_work *work)
{
    if (work->held != NULL) {
        trunk_held_free(work->held);
    }
    list_remove(&work->ready);
    list_remove(&work->owed);
    list_remove(&work->roomy);
    buffer_budget_change(work->buffers, chain_bytes(&work->queue), 0);
    if (trunk != NULL) {
        trunk->queued_bytes -= chain_bytes(&work->queue) - work_retained(work);
    }
    chain_clear(&work->queue);
    slab_free(slab_of(work), work);
}

void trunk_work_drop(struct trunk_stream *stream)
{
    struct trunk_work *work = stream->work;
    stream->work = NULL;
    if (work != NULL) {
        trunk_work_free(stream->trunk, work);
    }
}
