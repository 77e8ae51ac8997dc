/*
 * Streams that go on in another process. It has trunks of its own, so to the peer this is nothing but a trunk that is
 * lost: what is written down is what trunk_stream_suspend would keep, and what is made of it is a suspended stream. One
 * thread.
 */
#include "mux/trunk_internal.h"

#include <string.h>

#include "mux/limits.h"

#define EXPORT_SUSPENDED_BYTES_MAX (1U << 30) /* no window is larger */

void *trunk_owner(const struct trunk *trunk)
{
    return trunk->owner;
}

bool trunk_stream_exportable(const struct trunk_stream *stream)
{
    return (stream->flags & TRUNK_STREAM_RESUMABLE) != 0 && (stream->work == NULL || stream->work->held == NULL);
}

void trunk_stream_export(const struct trunk_stream *stream, struct pack *pack)
{
    static const struct chain empty = {NULL};
    const struct trunk_work *work = stream->work;
    uint32_t retained = work != NULL ? work->retained : 0;
    if (stream->output == STREAM_ENDED && retained == 0) {
        retained = 1; /* as trunk_stream_suspend has it */
    }
    pack_u32(pack, stream->received);
    pack_u32(pack, stream->sent);
    pack_u8(pack, stream->input);
    pack_u8(pack, stream->output);
    pack_u8(pack, stream->wants_room || (work != NULL && list_node_linked(&work->roomy)));
    pack_u32(pack, retained);
    pack_u32(pack, work != NULL ? work->unconsumed : 0);
    pack_u32(pack, work != NULL ? work->inherited : 0);
    pack_chain(pack, work != NULL ? &work->queue : &empty);
}

/* What every stream keeps to. */
static bool trunk_stream_possible(const struct trunk_stream *stream)
{
    const struct trunk_work *work = stream->work;
    bool waits = stream->input == STREAM_EXPECT_OPEN && stream->output == STREAM_EXPECT_OPEN;
    bool open = (stream->input == STREAM_OPEN || stream->input == STREAM_ENDED) &&
                (stream->output == STREAM_OPEN || stream->output == STREAM_ENDING || stream->output == STREAM_ENDED);
    size_t queued = chain_bytes(&work->queue);
    size_t bytes = trunk_work_retained(stream);
    return (waits || open) && bytes <= queued &&
           (stream->output != STREAM_ENDED || (bytes == queued && work->retained > 0)) &&
           (!waits || (queued == 0 && work->unconsumed == 0)) && work->retained <= EXPORT_SUSPENDED_BYTES_MAX &&
           work->unconsumed <= EXPORT_SUSPENDED_BYTES_MAX && work->inherited <= EXPORT_SUSPENDED_BYTES_MAX;
}

enum error_code trunk_stream_import(struct trunk_stream *stream, struct unpack *unpack, struct slab *work_slab,
                                    struct buffer_budget *buffers)
{
    memset(stream, 0, sizeof(*stream));
    struct trunk_work *work = trunk_work_new(work_slab, NULL, stream);
    if (work == NULL) {
        return ERROR_NO_MEMORY;
    }
    stream->work = work;
    stream->flags = TRUNK_STREAM_RESUMABLE | TRUNK_STREAM_SUSPENDED;
    list_node_init(&stream->all);
    stream->received = unpack_u32(unpack);
    stream->sent = unpack_u32(unpack);
    stream->input = unpack_u8(unpack);
    stream->output = unpack_u8(unpack);
    stream->wants_room = (unpack_u8(unpack) != 0) & 1U;
    work->retained = unpack_u32(unpack);
    work->unconsumed = unpack_u32(unpack);
    work->stale = work->unconsumed;
    work->inherited = unpack_u32(unpack);
    bool unpacked = unpack_chain(unpack, &work->queue);
    work->buffers = buffers;
    buffer_budget_change(buffers, 0, trunk_stream_charged(stream));
    if (!unpacked || !trunk_stream_possible(stream)) {
        trunk_stream_forget(stream);
        return ERROR_INVALID;
    }
    return ERROR_NONE;
}

void trunk_stream_forget(struct trunk_stream *stream)
{
    struct trunk *trunk = stream->trunk;
    if (trunk == NULL) {
        trunk_window_drop(stream);
        trunk_work_drop(stream);
        stream->flags = 0;
        return;
    }
    trunk->ignored_bytes_expected += trunk_stream_receive_window(stream);
    trunk_stream_detach(stream);
}
