/*
 * Streams that outlive their trunk: what is kept when it is lost, and how a stream goes on on another one. Both sides
 * tell each other how much they have received; whoever has sent more than that sends the rest again. docs/PROTOCOL.md,
 * "Resuming", has the wire and the argument. One thread.
 */
#include "mux/trunk_internal.h"

#include <assert.h>

bool trunk_resumes(const struct trunk *trunk)
{
    return trunk->resumes;
}

uint32_t trunk_stream_written(const struct trunk_stream *stream)
{
    uint32_t end = stream->output == STREAM_ENDED ? 1U : 0U;
    return stream->sent - end + (uint32_t)trunk_stream_queued(stream);
}

uint32_t trunk_stream_consumed(const struct trunk_stream *stream)
{
    uint32_t end = stream->input == STREAM_ENDED ? 1U : 0U;
    return stream->received - end - (uint32_t)trunk_stream_unconsumed(stream);
}

bool trunk_stream_told(const struct trunk_stream *stream)
{
    bool owed = stream->work != NULL && list_node_linked(&stream->work->owed);
    return !owed && (stream->trunk == NULL || chain_empty(&stream->trunk->notes));
}

bool trunk_stream_suspend(struct trunk_stream *stream)
{
    if (!(stream->flags & TRUNK_STREAM_RESUMABLE)) {
        return false;
    }
    struct trunk_work *work = trunk_work_get(stream);
    if (work == NULL || work->held != NULL) {
        return false; /* without memory; or the peer spoke before it was answered, which ours never does */
    }
    trunk_window_leave(stream);
    list_remove(&work->ready);
    list_remove(&work->owed);
    if (list_node_linked(&work->roomy)) {
        list_remove(&work->roomy);
        stream->wants_room = 1;
    }
    work->stale = work->unconsumed;
    if (stream->output == STREAM_ENDED && work->retained == 0) {
        work->retained = 1; /* the end is told again on each trunk, and so acknowledged again */
    }
    trunk_stream_unlink(stream);
    stream->flags = TRUNK_STREAM_RESUMABLE | TRUNK_STREAM_SUSPENDED;
    return true;
}

enum error_code trunk_stream_interrupt(struct trunk_stream *stream)
{
    struct trunk *trunk = stream->trunk;
    int32_t id = stream->id;
    bool over = (stream->flags & TRUNK_STREAM_OVER) != 0;
    if (trunk == NULL) {
        return trunk_stream_suspended(stream) ? ERROR_NONE : ERROR_STATE;
    }
    if (!(stream->flags & TRUNK_STREAM_RESUMABLE) || (stream->work != NULL && stream->work->held != NULL)) {
        return ERROR_STATE;
    }
    uint32_t under_way = trunk_stream_receive_window(stream);
    if (!trunk_stream_suspend(stream)) {
        return ERROR_NO_MEMORY;
    }
    if (!trunk->failed && !over) {
        trunk->ignored_bytes_expected += under_way;
        nghttp2_submit_rst_stream(trunk->h2, NGHTTP2_FLAG_NONE, id, TRUNK_CODE_TAKEN);
        trunk_want_send(trunk);
    }
    return ERROR_NONE;
}

/* The peer has received `received` in all: false when that cannot be. Otherwise what it has not, the end included, is
 * to be sent again. */
static bool trunk_stream_rewind(struct trunk_stream *stream, uint32_t received)
{
    struct trunk_work *work = stream->work;
    uint32_t acknowledged = stream->sent - work->retained;
    uint32_t more = received - acknowledged; /* modulo 2^32 */
    bool ended = stream->output == STREAM_ENDED;
    /* An end that was told on an earlier trunk, and is to be told again, may have been received. */
    bool end_is_next = stream->output == STREAM_ENDING && trunk_stream_queued(stream) == 0;
    if (more > work->retained + (end_is_next ? 1U : 0U)) {
        return false;
    }
    uint32_t kept = (uint32_t)trunk_work_retained(stream);
    uint32_t bytes = more < kept ? more : kept;
    if (stream->trunk != NULL) {
        stream->trunk->queued_bytes += kept - bytes; /* sent before, and to be sent once more */
    }
    /* What the peer has it may not have consumed: should it be lost itself, another one needs these bytes. */
    work->next = (struct chain_cursor){NULL, 0};
    (void)chain_read(&work->queue, &work->next, NULL, bytes);
    work->retained = bytes;
    work->overhang = bytes;
    stream->sent = acknowledged + bytes; /* without the end */
    if (ended) {
        stream_output_move(&stream->output, STREAM_ENDING);
    }
    return true;
}

/* The stream goes on: sends what there is. */
static void trunk_stream_go_on(struct trunk_stream *stream)
{
    struct trunk *trunk = stream->trunk;
    int32_t id = stream->id;
    if (trunk_stream_queued(stream) > 0 || stream->output == STREAM_ENDING) {
        trunk_stream_make_ready(stream);
    }
    if (stream->received != 0) {
        /* What was said of it on the trunk that is lost may be lost, too; and the consumer of the rest may wait for
         * more, which the peer cannot send before it knows. */
        trunk_ack_later(stream, 0);
    }
    trunk_work_settle(stream);
    trunk->events->resumed(trunk->owner, stream);
    /* The owner may have ended and freed it. */
    if (trunk_stream_of(trunk, id) == stream && stream->wants_room) {
        trunk_stream_window_opened(stream);
    }
}

bool trunk_resume_request(struct trunk *trunk, struct trunk_stream *stream, int32_t id,
                          const struct metadata_session *session)
{
    bool answered = stream->output != STREAM_EXPECT_OPEN;
    if (nghttp2_session_set_stream_user_data(trunk->h2, id, stream) != 0) {
        return true; /* nghttp2 found the request at fault: it is gone already */
    }
    if (!trunk_stream_rewind(stream, session->received)) {
        nghttp2_session_set_stream_user_data(trunk->h2, id, NULL);
        trunk_respond(trunk, id, 409, "This is more than was sent, or less than was acknowledged.\n");
        trunk->events->refused(trunk->owner, ERROR_BAD_RESUME, 409);
        return false;
    }
    if (answered && trunk_submit_status(trunk, id, 200, false, &stream->received) != 0) {
        nghttp2_session_set_stream_user_data(trunk->h2, id, NULL);
        nghttp2_submit_rst_stream(trunk->h2, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
        trunk_want_send(trunk);
        return true;
    }
    trunk_stream_link(trunk, stream, id);
    trunk_want_send(trunk);
    stream->flags = TRUNK_STREAM_RESUMABLE;
    if (!answered && session->resumes) {
        stream->flags |= TRUNK_STREAM_RESUMING; /* its answer, when it comes, has to tell the offset */
    }
    trunk_stream_go_on(stream);
    return true;
}

bool trunk_stream_reopenable(const struct trunk_stream *stream)
{
    return stream->input == STREAM_OPEN && (stream->work == NULL || stream->work->inherited == 0);
}

enum error_code trunk_stream_resume(struct trunk *trunk, struct trunk_stream *stream, const struct metadata *metadata)
{
    enum error_code error = trunk_openable(trunk);
    struct metadata request = *metadata;
    int32_t id = 0;
    assert(trunk_stream_suspended(stream) && metadata->session.known);
    request.session.resumes = 1;
    request.session.received = stream->received;
    request.session.reopens = trunk_stream_reopenable(stream);
    request.session.acknowledged = stream->sent - (stream->work != NULL ? stream->work->retained : 0U);
    request.session.unconsumed = (uint32_t)trunk_stream_unconsumed(stream);
    if (error == ERROR_NONE && !trunk->resumes) {
        error = ERROR_STATE;
    }
    if (error == ERROR_NONE) {
        error = trunk_submit_request(trunk, stream, &request, &id);
    }
    if (error == ERROR_NONE) {
        trunk_stream_link(trunk, stream, id);
        stream->flags = TRUNK_STREAM_RESUMABLE | TRUNK_STREAM_RESUMING;
    }
    return error;
}

void trunk_resume_answered(struct trunk *trunk, struct trunk_stream *stream)
{
    if (trunk->has_answer && trunk_stream_rewind(stream, trunk->answer)) {
        stream->flags = TRUNK_STREAM_RESUMABLE;
        trunk_stream_go_on(stream);
        return;
    }
    int32_t id = stream->id;
    trunk_stream_detach(stream);
    nghttp2_submit_rst_stream(trunk->h2, NGHTTP2_FLAG_NONE, id, NGHTTP2_PROTOCOL_ERROR);
    trunk_want_send(trunk);
    trunk->events->closed(trunk->owner, stream, ERROR_BAD_RESUME, 0);
}
