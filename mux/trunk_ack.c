/*
 * Acknowledgements: a peer that resumes keeps what it sent until it hears that it was consumed. They are sent in
 * bunches: pairs of a stream's identifier and what was consumed of it so far, as many as there are to tell, in one
 * frame of type TRUNK_FRAME_ACK; at the latest after TIMEOUT_TRUNK_OWED_MS or LIMIT_TRUNK_OWED_BYTES. Not
 * WINDOW_UPDATE, which cannot be sent for a stream that is over, and which grows windows as well. The frames are
 * written between those of nghttp2, which sends none of ours once GOAWAY was said and the last stream is over.
 * docs/PROTOCOL.md has the frame. One thread.
 */
#include "mux/trunk_internal.h"

#include <assert.h>

#include "mux/limits.h"
#include "mux/memory.h"

#define ACK_PAIR_BYTES       8U
#define ACK_FRAME_BYTES_MAX  16384U /* RFC 9113 section 4.2: what every peer takes */
#define ACK_PAIRS_WORTHWHILE 4U     /* space for fewer is left to others */

static void write_big_endian(uint8_t *into, uint32_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        into[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
    }
}

static uint32_t read_big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* ------------------------------------------------------------------------------------------------ sending */

/* All that this side has said is acknowledged, its end included. */
static bool trunk_stream_heard(const struct trunk_stream *stream)
{
    return stream->output == STREAM_ENDED && (stream->work == NULL || stream->work->retained == 0);
}

/* What was consumed: all that came but what the consumer has not taken. The end counts once nothing is before it; and
 * at the acceptor not before its own end is acknowledged, so that the opener, who can ask for the stream again, forgets
 * it last. */
static uint32_t trunk_stream_acknowledged(const struct trunk_stream *stream)
{
    uint32_t unconsumed = stream->work != NULL ? stream->work->unconsumed : 0;
    bool opener = stream->trunk->settings.role == TRUNK_OPENER;
    if (stream->input == STREAM_ENDED && (unconsumed > 0 || (!opener && !trunk_stream_heard(stream)))) {
        unconsumed++;
    }
    return stream->received - unconsumed;
}

/* What is owed is sent with the next frames. */
static void trunk_ack_submit(struct trunk *trunk)
{
    trunk->ack_due = 1;
    scheduler_disarm(trunk->scheduler, &trunk->acknowledge);
    trunk_want_send(trunk);
}

void trunk_ack_due(struct timer *timer)
{
    trunk_ack_submit(container_of(timer, struct trunk, acknowledge));
}

/* False when there is nobody to be told. */
static bool trunk_ack_note(struct trunk_stream *stream)
{
    const unsigned quiet = TRUNK_STREAM_RESUMING | TRUNK_STREAM_OVER;
    struct trunk *trunk = stream->trunk;
    if (trunk == NULL || trunk->failed || !(stream->flags & TRUNK_STREAM_RESUMABLE) || (stream->flags & quiet)) {
        return false;
    }
    struct trunk_work *work = trunk_work_get(stream);
    if (work == NULL) {
        return false; /* the peer keeps it until the next time */
    }
    if (!list_node_linked(&work->owed)) {
        list_append(&trunk->owed, &work->owed);
    }
    return true;
}

void trunk_ack_later(struct trunk_stream *stream, size_t length)
{
    struct trunk *trunk = stream->trunk;
    if (!trunk_ack_note(stream)) {
        return;
    }
    trunk->owed_bytes += length;
    bool last = stream->input == STREAM_ENDED && stream->work->unconsumed == 0;
    if (last || trunk->owed_bytes >= LIMIT_TRUNK_OWED_BYTES) {
        trunk_ack_submit(trunk);
    } else if (!trunk->ack_due && !timer_armed(&trunk->acknowledge)) {
        scheduler_arm(trunk->scheduler, &trunk->acknowledge, TIMEOUT_TRUNK_OWED_MS);
    }
}

void trunk_ack_now(struct trunk_stream *stream)
{
    if (trunk_ack_note(stream)) {
        trunk_ack_submit(stream->trunk);
    }
}

/* Everything that came is with the owner, whether it has consumed it or not; and the stream's memory may be gone before
 * the frame is made. Without memory for this the peer waits a while for nothing, no more. */
static void trunk_ack_all(struct trunk_stream *stream)
{
    struct trunk *trunk = stream->trunk;
    uint8_t pair[ACK_PAIR_BYTES];
    write_big_endian(pair, (uint32_t)stream->id, 4);
    write_big_endian(pair + 4, stream->received, 4);
    (void)chain_append(&trunk->last_pairs, pair, sizeof(pair));
    trunk_want_send(trunk);
    if (stream->work != NULL) {
        list_remove(&stream->work->owed);
    }
}

bool trunk_ack_last(struct trunk_stream *stream)
{
    struct trunk *trunk = stream->trunk;
    if (!(stream->flags & TRUNK_STREAM_RESUMABLE)) {
        return false;
    }
    bool heard = trunk_stream_heard(stream);
    if (heard || trunk->settings.role == TRUNK_OPENER) {
        trunk_ack_all(stream);
    }
    if (heard) {
        return false;
    }
    list_remove(&stream->work->owed);
    stream->flags |= TRUNK_STREAM_OVER;
    list_remove(&stream->all);
    list_append(&trunk->unacknowledged, &stream->all);
    return true;
}

void trunk_ack_age(struct trunk *trunk)
{
    struct list_node *node;
    /* The oldest are first. An event may reset any of them, so the walk begins anew after each. */
    while ((node = list_first(&trunk->unacknowledged)) != NULL) {
        struct trunk_stream *stream = container_of(node, struct trunk_stream, all);
        if (!(stream->flags & TRUNK_STREAM_AGED)) {
            break;
        }
        /* The peer has answered a PING that was sent after it: it has it, and does not say so. */
        trunk_stream_detach(stream);
        trunk->events->closed(trunk->owner, stream, ERROR_NONE, 0);
    }
    list_for_each(&trunk->unacknowledged, young) {
        container_of(young, struct trunk_stream, all)->flags |= TRUNK_STREAM_AGED;
    }
}

/* Writes pairs into the room; returns the bytes. */
static size_t trunk_ack_fill(struct trunk *trunk, uint8_t *into, size_t room)
{
    struct list_node *node;
    size_t used = chain_copy(&trunk->last_pairs, 0, into, room - room % ACK_PAIR_BYTES);
    chain_consume(&trunk->last_pairs, used);
    while (trunk->ack_due && room - used >= ACK_PAIR_BYTES && (node = list_first(&trunk->owed)) != NULL) {
        struct trunk_stream *stream = container_of(node, struct trunk_work, owed)->stream;
        list_remove(node);
        write_big_endian(into + used, (uint32_t)stream->id, 4);
        write_big_endian(into + used + 4, trunk_stream_acknowledged(stream), 4);
        used += ACK_PAIR_BYTES;
        trunk_work_settle(stream);
    }
    if (list_empty(&trunk->owed)) {
        trunk->ack_due = 0;
        trunk->owed_bytes = 0;
    }
    return used;
}

size_t trunk_ack_write(struct trunk *trunk, uint8_t *into, size_t capacity)
{
    bool owes = trunk->ack_due && !list_empty(&trunk->owed);
    if ((!owes && chain_empty(&trunk->last_pairs)) ||
        capacity < TRUNK_FRAME_HEADER_BYTES + ACK_PAIRS_WORTHWHILE * ACK_PAIR_BYTES) {
        return 0;
    }
    size_t room = capacity - TRUNK_FRAME_HEADER_BYTES;
    size_t length =
        trunk_ack_fill(trunk, into + TRUNK_FRAME_HEADER_BYTES, room < ACK_FRAME_BYTES_MAX ? room : ACK_FRAME_BYTES_MAX);
    write_big_endian(into, (uint32_t)length, 3);
    into[3] = TRUNK_FRAME_ACK;
    into[4] = NGHTTP2_FLAG_NONE;
    write_big_endian(into + 5, 0, 4);
    return TRUNK_FRAME_HEADER_BYTES + length;
}

/* ------------------------------------------------------------------------------------------------ receiving */

/* `walked` streams were looked at in vain. */
static struct trunk_stream *trunk_stream_of_ack(struct trunk *trunk, int32_t id, uint64_t *walked)
{
    struct trunk_stream *stream = trunk_stream_of(trunk, id);
    *walked = 0;
    if (stream != NULL) {
        return stream;
    }
    /* Each of them is here for one round trip, and they are acknowledged in about their order. */
    list_for_each(&trunk->unacknowledged, node) {
        stream = container_of(node, struct trunk_stream, all);
        if (stream->id == id) {
            return stream;
        }
        ++*walked;
    }
    return NULL;
}

/* The peer has consumed so much more of what it is sent on this trunk. */
static void trunk_stream_release(struct trunk_stream *stream, uint32_t more)
{
    struct trunk *trunk = stream->trunk;
    struct trunk_work *work = stream->work;
    size_t bytes = trunk_work_retained(stream);
    trunk_work_discard(work, more < bytes ? more : bytes);
    work->retained -= more;
    work->overhang = work->overhang > more ? work->overhang - more : 0;
    work->inherited = 0;
    if (work->retained == 0) {
        work->next = (struct chain_cursor){NULL, 0};
        if (stream->input == STREAM_ENDED) {
            trunk_ack_now(stream); /* its end counts now */
        }
    }
    if (work->retained == 0 && (stream->flags & TRUNK_STREAM_OVER)) {
        if (trunk->settings.role == TRUNK_ACCEPTOR) {
            trunk_ack_all(stream);
        }
        trunk_stream_detach(stream);
        trunk->events->closed(trunk->owner, stream, ERROR_NONE, 0);
    }
}

/* True when the pair told anything new. */
static bool trunk_stream_acknowledge(struct trunk_stream *stream, uint32_t offset)
{
    struct trunk_work *work = stream->work;
    if (work == NULL || (stream->flags & TRUNK_STREAM_RESUMING)) {
        return false;
    }
    uint32_t more = offset - (stream->sent - work->retained); /* modulo 2^32 */
    uint32_t less = 0U - more;
    bool news = true;
    if (more > 0 && more <= work->retained) {
        bool over = (stream->flags & TRUNK_STREAM_OVER) != 0;
        trunk_stream_release(stream, more);
        if (over) {
            return true;
        }
    } else if (less < work->inherited) {
        work->inherited = less;
    } else if ((stream->flags & TRUNK_STREAM_ABORTS) && work->inherited > 0 && more <= INT32_MAX) {
        work->inherited = 0; /* and some of what came on this trunk */
    } else {
        news = false;
    }
    if (news) {
        trunk_work_settle(stream);
        trunk_stream_window_opened(stream); /* the last: the owner may end and free it */
    }
    return news;
}

int trunk_ack_begin(struct trunk *trunk, uint32_t length)
{
    bool fault = !trunk->resumes || length > ACK_FRAME_BYTES_MAX || length % ACK_PAIR_BYTES != 0;
    trunk->ack_part_length = 0;
    return trunk_charge(trunk, fault ? TRUNK_COST_FAULT : TRUNK_COST_FRAME);
}

int trunk_ack_take(struct trunk *trunk, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        trunk->ack_part[trunk->ack_part_length++] = bytes[i];
        if (trunk->ack_part_length < ACK_PAIR_BYTES) {
            continue;
        }
        trunk->ack_part_length = 0;
        int32_t id = (int32_t)(read_big_endian(trunk->ack_part) & INT32_MAX);
        uint64_t walked = 0;
        struct trunk_stream *stream = trunk->resumes ? trunk_stream_of_ack(trunk, id, &walked) : NULL;
        if (stream != NULL && (stream->flags & (TRUNK_STREAM_RESUMABLE | TRUNK_STREAM_ABORTS)) &&
            trunk_stream_acknowledge(stream, read_big_endian(trunk->ack_part + 4))) {
            trunk_budget_earn(&trunk->budget, TRUNK_COST_FRAME);
        } else if (trunk_charge(trunk, TRUNK_COST_FRAME + walked / TRUNK_COST_WALK_STREAMS) != 0) {
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        }
    }
    return 0;
}
