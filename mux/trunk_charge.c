/*
 * What each frame of the peer costs of the trunk's budget (trunk_budget.h), and how a trunk ends whose peer has spent
 * it. nghttp2 tells of most frames as they begin; what it ignores without a word shows as bytes that belong to none.
 * One thread.
 */
#include "mux/trunk_internal.h"

enum error_code trunk_end_flood(struct trunk *trunk)
{
    trunk->error = ERROR_TRUNK_FLOODED;
    trunk->goaway_sent = 1;
    trunk->goaway_code = NGHTTP2_ENHANCE_YOUR_CALM;
    nghttp2_session_terminate_session(trunk->h2, NGHTTP2_ENHANCE_YOUR_CALM);
    return ERROR_TRUNK_FLOODED;
}

int trunk_charge(struct trunk *trunk, uint64_t tokens)
{
    if (tokens == 0 || trunk_budget_spend(&trunk->budget, trunk->scheduler->now_us, tokens)) {
        return 0;
    }
    (void)trunk_end_flood(trunk);
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* What a frame costs as it begins; DATA may pay for itself as its bytes come. */
static uint64_t trunk_frame_cost(struct trunk *trunk, const nghttp2_frame_hd *header)
{
    switch (header->type) {
    case NGHTTP2_RST_STREAM:
        /* The end of a session was paid for when it was opened. */
        return trunk_stream_of(trunk, header->stream_id) != NULL ? 0 : TRUNK_COST_FRAME;
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION:
        return TRUNK_COST_FRAME + header->length / TRUNK_COST_HEADER_BYTES;
    default:
        return TRUNK_COST_FRAME;
    }
}

int trunk_on_begin_frame(nghttp2_session *h2, const nghttp2_frame_hd *header, void *user_data)
{
    struct trunk *trunk = user_data;
    (void)h2;
    trunk->reported_bytes += TRUNK_FRAME_HEADER_BYTES + header->length;
    return trunk_charge(trunk, trunk_frame_cost(trunk, header));
}

int trunk_charge_ignored(struct trunk *trunk)
{
    if (trunk->received_bytes <= trunk->reported_bytes) {
        return 0; /* within a frame */
    }
    uint64_t ignored = trunk->received_bytes - trunk->reported_bytes;
    uint64_t expected = ignored < trunk->ignored_bytes_expected ? ignored : trunk->ignored_bytes_expected;
    uint64_t tokens = (ignored - expected) / TRUNK_COST_IGNORED_BYTES;
    trunk->ignored_bytes_expected -= expected;
    trunk->reported_bytes += expected + tokens * TRUNK_COST_IGNORED_BYTES;
    return trunk_charge(trunk, tokens);
}

/* nghttp2 ends the frame's stream, or the trunk. */
int trunk_on_invalid_frame(nghttp2_session *h2, const nghttp2_frame *frame, int error, void *user_data)
{
    struct trunk *trunk = user_data;
    (void)h2;
    (void)frame;
    (void)error;
    return trunk_charge(trunk, TRUNK_COST_FAULT);
}
