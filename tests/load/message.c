/* See message.h. Numbers travel in network order. */
#include "tests/load/message.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

/* Where the fields are. */
#define AT_SEQUENCE 0U
#define AT_INTENDED 8U
#define AT_CLIENT   16U
#define AT_SIZE     20U
#define AT_CHECK    24U

#define WORD_BYTES 8U

static void put(uint8_t *into, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        into[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
    }
}

static uint64_t get(const uint8_t *from, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | from[i];
    }
    return value;
}

/* A cheap mix in which every bit of the input moves about half of the output's. */
static uint64_t mix(uint64_t value)
{
    value ^= value >> 32;
    value *= 0xd6e8feb86659fd93ULL;
    value ^= value >> 32;
    value *= 0xd6e8feb86659fd93ULL;
    value ^= value >> 32;
    return value;
}

static uint64_t check_value(const uint8_t *header)
{
    uint64_t value = 0x74726e6b6c6f6164ULL;
    for (unsigned at = 0; at < AT_CHECK; at += WORD_BYTES) {
        value = mix(value ^ get(header + at, WORD_BYTES));
    }
    return value;
}

/* The pattern's eight bytes with index `word`. */
static uint64_t pattern_word(uint32_t client, uint64_t sequence, uint32_t word)
{
    return mix(sequence << 20 ^ (uint64_t)client << 40 ^ word ^ 0x5bd1e995ULL);
}

void message_write(const struct message *message, uint8_t *into)
{
    assert(message->size >= MESSAGE_HEADER_BYTES && message->size <= MESSAGE_MAX_BYTES);
    put(into + AT_SEQUENCE, message->sequence, 8);
    put(into + AT_INTENDED, message->intended_us, 8);
    put(into + AT_CLIENT, message->client, 4);
    put(into + AT_SIZE, message->size, 4);
    put(into + AT_CHECK, check_value(into), 8);

    uint32_t word = 0;
    for (uint32_t at = MESSAGE_HEADER_BYTES; at < message->size; at += WORD_BYTES, word++) {
        uint8_t bytes[WORD_BYTES];
        put(bytes, pattern_word(message->client, message->sequence, word), WORD_BYTES);
        uint32_t left = message->size - at;
        memcpy(into + at, bytes, left < WORD_BYTES ? left : WORD_BYTES);
    }
}

void message_reader_init(struct message_reader *reader, uint32_t client)
{
    *reader = (struct message_reader){.client = client};
}

void message_reader_end(struct message_reader *reader, const struct message_rules *rules)
{
    slab_free(rules->partials, reader->partial);
    reader->partial = NULL;
}

/* The header is complete. */
static enum error_code judge_header(const struct message_reader *reader, const struct message_rules *rules,
                                    struct message_partial *now)
{
    const uint8_t *header = now->header;
    uint32_t size = (uint32_t)get(header + AT_SIZE, 4);
    now->sequence = get(header + AT_SEQUENCE, 8);
    bool awaited = reader->awaited == MESSAGE_AWAITED_ANY || now->sequence < reader->expected + reader->awaited;
    if (get(header + AT_CHECK, 8) != check_value(header) || get(header + AT_CLIENT, 4) != reader->client ||
        (size != rules->size && size != MESSAGE_HEADER_BYTES) || !awaited) {
        rules->faults->broken++;
        return ERROR_INVALID;
    }
    now->present = size;
    now->altered = 0;
    return ERROR_NONE;
}

/* Compares a piece of the pattern with what it must be. */
static void judge_pattern(const struct message_reader *reader, struct message_partial *now, const uint8_t *bytes,
                          uint32_t length)
{
    uint32_t at = now->offset - MESSAGE_HEADER_BYTES;
    while (length > 0) {
        uint8_t expected[WORD_BYTES];
        put(expected, pattern_word(reader->client, now->sequence, at / WORD_BYTES), WORD_BYTES);
        uint32_t skip = at % WORD_BYTES;
        uint32_t count = length < WORD_BYTES - skip ? length : WORD_BYTES - skip;
        if (memcmp(bytes, expected + skip, count) != 0) {
            now->altered = 1;
        }
        bytes += count;
        at += count;
        length -= count;
    }
}

/* The message is complete. */
static void judge_message(struct message_reader *reader, const struct message_rules *rules, struct message_partial *now)
{
    now->offset = 0;
    if (now->altered) {
        rules->faults->altered++;
    }
    if (now->sequence < reader->expected) {
        rules->faults->repeated++;
        return;
    }
    rules->faults->missing += now->sequence - reader->expected;
    if (reader->awaited != MESSAGE_AWAITED_ANY) {
        reader->awaited -= (uint32_t)(now->sequence + 1 - reader->expected);
    }
    reader->expected = now->sequence + 1;
    if (!now->altered) {
        const struct message message = {.sequence = now->sequence,
                                        .intended_us = get(now->header + AT_INTENDED, 8),
                                        .client = reader->client,
                                        .size = now->present};
        rules->whole(reader, rules, &message);
    }
}

static enum error_code take(struct message_reader *reader, const struct message_rules *rules,
                            struct message_partial *now, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        bool in_header = now->offset < MESSAGE_HEADER_BYTES;
        uint32_t left = (in_header ? MESSAGE_HEADER_BYTES : now->present) - now->offset;
        uint32_t count = length < left ? (uint32_t)length : left;
        if (in_header) {
            memcpy(now->header + now->offset, bytes, count);
        } else {
            judge_pattern(reader, now, bytes, count);
        }
        now->offset += count;
        bytes += count;
        length -= count;

        if (in_header && now->offset == MESSAGE_HEADER_BYTES) {
            enum error_code error = judge_header(reader, rules, now);
            if (error != ERROR_NONE) {
                return error;
            }
        }
        if (now->offset >= MESSAGE_HEADER_BYTES && now->offset == now->present) {
            judge_message(reader, rules, now);
        }
    }
    return ERROR_NONE;
}

enum error_code message_reader_feed(struct message_reader *reader, const struct message_rules *rules,
                                    const uint8_t *bytes, size_t length)
{
    struct message_partial now = {.offset = 0};
    if (reader->partial != NULL) {
        now = *reader->partial;
    }
    enum error_code error = take(reader, rules, &now, bytes, length);
    if (error != ERROR_NONE || now.offset == 0) {
        message_reader_end(reader, rules);
        return error;
    }
    if (reader->partial == NULL) {
        reader->partial = slab_alloc(rules->partials);
    }
    if (reader->partial == NULL) {
        return ERROR_NO_MEMORY;
    }
    *reader->partial = now;
    return ERROR_NONE;
}
