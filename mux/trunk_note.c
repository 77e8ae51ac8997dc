/*
 * Notes: what an acceptor leaves with the opener for the session that may take a session's place. A frame of type
 * TRUNK_FRAME_NOTE holds the stream's identifier, two offsets and the note; docs/PROTOCOL.md has it. One thread.
 */
#include "mux/trunk_internal.h"

#include <assert.h>
#include <string.h>

#include "mux/limits.h"

#define NOTE_FIXED_BYTES 12U /* identifier, sent, consumed */

static void write_big_endian(uint8_t *into, uint32_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        into[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
    }
}

static uint32_t read_big_endian(const uint8_t *bytes, unsigned count)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < count; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

enum error_code trunk_stream_note(struct trunk_stream *stream, const struct metadata_note *note)
{
    struct trunk *trunk = stream->trunk;
    uint8_t head[TRUNK_FRAME_HEADER_BYTES + NOTE_FIXED_BYTES] = {0};
    if (trunk == NULL || !(stream->flags & TRUNK_STREAM_RESUMABLE) || note->length > METADATA_NOTE_MAX) {
        return ERROR_STATE;
    }
    if (chain_bytes(&trunk->notes) > LIMIT_TRUNK_NOTES_BYTES) {
        return ERROR_WOULD_BLOCK;
    }
    write_big_endian(head, NOTE_FIXED_BYTES + note->length, 3);
    head[3] = TRUNK_FRAME_NOTE;
    write_big_endian(head + 9, (uint32_t)stream->id, 4);
    write_big_endian(head + 13, note->sent, 4);
    write_big_endian(head + 17, note->consumed, 4);
    uint8_t frame[sizeof(head) + METADATA_NOTE_MAX];
    memcpy(frame, head, sizeof(head));
    if (note->length > 0) {
        memcpy(frame + sizeof(head), note->bytes, note->length);
    }
    enum error_code error = chain_append(&trunk->notes, frame, sizeof(head) + note->length);
    if (error == ERROR_NONE) {
        trunk_want_send(trunk);
    }
    return error;
}

size_t trunk_note_write(struct trunk *trunk, uint8_t *into, size_t capacity)
{
    uint8_t header[3];
    if (chain_copy(&trunk->notes, 0, header, sizeof(header)) < sizeof(header)) {
        return 0;
    }
    size_t length = TRUNK_FRAME_HEADER_BYTES + read_big_endian(header, sizeof(header));
    if (length > capacity) {
        return 0; /* a frame is not cut: it goes into the next record */
    }
    size_t copied = chain_copy(&trunk->notes, 0, into, length);
    chain_consume(&trunk->notes, copied);
    return copied;
}

int trunk_note_begin(struct trunk *trunk, uint32_t length)
{
    bool fault = !trunk->resumes || trunk->settings.role != TRUNK_OPENER || length < NOTE_FIXED_BYTES ||
                 length > NOTE_FIXED_BYTES + METADATA_NOTE_MAX;
    chain_clear(&trunk->note_input);
    trunk->note_skipped = fault;
    return trunk_charge(trunk, fault ? TRUNK_COST_FAULT : TRUNK_COST_FRAME);
}

int trunk_note_take(struct trunk *trunk, const uint8_t *bytes, size_t length, bool whole)
{
    uint8_t input[NOTE_FIXED_BYTES + METADATA_NOTE_MAX];
    if (trunk->note_skipped) {
        return 0; /* as its header said, and paid for: no part of it is kept */
    }
    assert(chain_bytes(&trunk->note_input) + length <= sizeof(input));
    if (chain_append(&trunk->note_input, bytes, length) != ERROR_NONE) {
        trunk->error = ERROR_NO_MEMORY;
        return NGHTTP2_ERR_CALLBACK_FAILURE; /* the note that would be lost may be the one that counts */
    }
    if (!whole) {
        return 0;
    }
    size_t held = chain_copy(&trunk->note_input, 0, input, sizeof(input));
    chain_clear(&trunk->note_input);
    struct trunk_stream *stream = trunk_stream_of(trunk, (int32_t)(read_big_endian(input, 4) & INT32_MAX));
    if (stream != NULL && (stream->flags & TRUNK_STREAM_RESUMABLE)) {
        const struct metadata_note note = {
            .bytes = input + NOTE_FIXED_BYTES,
            .length = (uint32_t)(held - NOTE_FIXED_BYTES),
            .sent = read_big_endian(input + 4, 4),
            .consumed = read_big_endian(input + 8, 4),
        };
        trunk->events->noted(trunk->owner, stream, &note);
    }
    return 0;
}
