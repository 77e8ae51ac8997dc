/*
 * Takes our own frames out of what the peer sends, in front of nghttp2: it reads nothing any more once GOAWAY was said
 * and the last stream is over, and just then the last acknowledgements come. Follows the frames' headers (RFC 9113
 * section 4.1) and looks at nothing else. One thread.
 */
#include "mux/trunk_internal.h"

#include <string.h>

#define PREFACE_BYTES 24U /* of a client, RFC 9113 section 3.4: not a frame */

void trunk_cut_init(struct trunk_cut *cut, enum trunk_role role)
{
    *cut = (struct trunk_cut){.left = role == TRUNK_ACCEPTOR ? PREFACE_BYTES : 0U};
}

static bool trunk_cut_ours(uint8_t type)
{
    return type == TRUNK_FRAME_ACK || type == TRUNK_FRAME_NOTE;
}

/* The header of the next frame. */
static int trunk_cut_begin(struct trunk *trunk, const uint8_t header[TRUNK_FRAME_HEADER_BYTES])
{
    struct trunk_cut *cut = &trunk->cut;
    cut->left = (uint32_t)header[0] << 16 | (uint32_t)header[1] << 8 | header[2];
    cut->ours = trunk_cut_ours(header[3]) ? header[3] : 0;
    switch (cut->ours) {
    case TRUNK_FRAME_ACK:
        return trunk_ack_begin(trunk, cut->left);
    case TRUNK_FRAME_NOTE:
        return trunk_note_begin(trunk, cut->left);
    default:
        return 0;
    }
}

/* A header that the reads before, or this one, have split. *run is how much of it is for nghttp2. */
static size_t trunk_cut_split_header(struct trunk *trunk, const uint8_t *bytes, size_t length, const uint8_t **run,
                                     size_t *run_length, int *verdict)
{
    struct trunk_cut *cut = &trunk->cut;
    size_t missing = TRUNK_FRAME_HEADER_BYTES - cut->header_length;
    size_t part = length < missing ? length : missing;
    memcpy(cut->header + cut->header_length, bytes, part);
    cut->header_length += (uint8_t)part;
    *run_length = 0;
    if (cut->header_length == TRUNK_FRAME_HEADER_BYTES) {
        cut->header_length = 0;
        *verdict = trunk_cut_begin(trunk, cut->header);
        *run = cut->header;
        *run_length = cut->ours ? 0 : TRUNK_FRAME_HEADER_BYTES;
    }
    return part;
}

size_t trunk_cut_next(struct trunk *trunk, const uint8_t *bytes, size_t length, const uint8_t **run, size_t *run_length,
                      int *verdict)
{
    struct trunk_cut *cut = &trunk->cut;
    size_t at = 0;
    *run = bytes;
    *run_length = 0;
    *verdict = 0;
    while (at < length) {
        size_t part = cut->left < length - at ? cut->left : length - at;
        if (part > 0 && cut->ours) {
            if (at > 0) {
                break; /* what is in front of it goes first */
            }
            cut->left -= (uint32_t)part;
            *verdict = cut->ours == TRUNK_FRAME_ACK ? trunk_ack_take(trunk, bytes, part)
                                                    : trunk_note_take(trunk, bytes, part, cut->left == 0);
            return part;
        }
        if (part > 0) {
            cut->left -= (uint32_t)part;
            at += part;
            continue;
        }
        if (cut->header_length > 0 || length - at < TRUNK_FRAME_HEADER_BYTES) {
            if (at > 0) {
                break;
            }
            return trunk_cut_split_header(trunk, bytes, length, run, run_length, verdict);
        }
        if (at > 0 && trunk_cut_ours(bytes[at + 3])) {
            break;
        }
        *verdict = trunk_cut_begin(trunk, bytes + at);
        if (cut->ours) {
            return TRUNK_FRAME_HEADER_BYTES;
        }
        at += TRUNK_FRAME_HEADER_BYTES;
    }
    *run_length = at;
    return at;
}
