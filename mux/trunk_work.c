/*
 * What a stream holds only while it is not idle: its queue and place in the order of turns, and what came before it was
 * accepted. Made when the first of these is needed, freed with the last. Belongs to the trunk's slab; one thread.
 */
#include "mux/trunk_internal.h"

struct trunk_work *trunk_work_get(struct trunk_stream *stream)
{
    if (stream->work == NULL) {
        struct trunk_work *work = slab_alloc(&stream->trunk->work_slab);
        if (work == NULL) {
            return NULL;
        }
        list_node_init(&work->ready);
        chain_init(&work->queue);
        work->stream = stream;
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
    if (work != NULL && chain_empty(&work->queue) && stream->output != STREAM_ENDING && work->held == NULL) {
        trunk_work_drop(stream);
    }
}

void trunk_work_free(struct trunk *trunk, struct trunk_work *work)
{
    if (work->held != NULL) {
        trunk_held_free(work->held);
    }
    list_remove(&work->ready);
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
