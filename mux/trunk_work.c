/*
 * What a stream holds only while it is not idle: its queue and place in the order of turns, and what came before it was
 * accepted. Made when the first of these is needed, freed with the last. Belongs to the trunk's slab; one thread.
 */
#include "mux/trunk_internal.h"

void trunk_work_init(struct trunk_work *work, struct trunk_stream *stream)
{
    list_node_init(&work->ready);
    list_node_init(&work->roomy);
    chain_init(&work->queue);
    work->stream = stream;
}

/* What a trunk's queues hold has changed. */
static void trunk_work_charge(struct trunk *trunk, size_t before, size_t after)
{
    trunk->queued_bytes += after - before;
    buffer_budget_change(trunk->settings.buffers, before, after);
}

enum error_code trunk_work_append(struct trunk *trunk, struct trunk_work *work, const uint8_t *bytes, size_t length)
{
    enum error_code error = chain_append(&work->queue, bytes, length);
    if (error == ERROR_NONE) {
        trunk_work_charge(trunk, 0, length);
    }
    return error;
}

void trunk_work_sent(struct trunk *trunk, struct trunk_work *work, size_t length)
{
    chain_consume(&work->queue, length);
    trunk_work_charge(trunk, length, 0);
}

struct trunk_work *trunk_work_get(struct trunk_stream *stream)
{
    if (stream->work == NULL) {
        struct trunk_work *work = slab_alloc(&stream->trunk->work_slab);
        if (work == NULL) {
            return NULL;
        }
        trunk_work_init(work, stream);
        stream->work = work;
    }
    return stream->work;
}

size_t trunk_stream_queued(const struct trunk_stream *stream)
{
    return stream->work != NULL ? chain_bytes(&stream->work->queue) : 0;
}

void trunk_work_settle(struct trunk_stream *stream)
{
    struct trunk_work *work = stream->work;
    if (work != NULL && chain_empty(&work->queue) && stream->output != STREAM_ENDING && work->held == NULL &&
        work->window == NULL && !list_node_linked(&work->roomy)) {
        trunk_work_drop(stream);
    }
}

void trunk_work_free(struct trunk *trunk, struct trunk_work *work)
{
    if (work->held != NULL) {
        trunk_held_free(work->held);
    }
    list_remove(&work->ready);
    list_remove(&work->roomy);
    trunk_work_charge(trunk, chain_bytes(&work->queue), 0);
    chain_clear(&work->queue);
    slab_free(&trunk->work_slab, work);
}

void trunk_work_drop(struct trunk_stream *stream)
{
    struct trunk_work *work = stream->work;
    stream->work = NULL;
    if (work != NULL) {
        trunk_work_free(stream->trunk, work);
    }
}
