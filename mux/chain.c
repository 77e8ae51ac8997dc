/*
 * Byte queues made of chunks. A chain owns its chunks; each is as large as what was appended when it was made, within
 * bounds, so that a short wait costs little and a long one few allocations. One thread per chain.
 */
#include "mux/chain.h"

#include <assert.h>
#include <string.h>

#include "mux/memory.h"

#define CHAIN_CHUNK_MIN_BYTES 64U

struct chain_chunk {
    struct chain_chunk *next;
    struct chain_chunk *tail; /* the last chunk of the chain; kept in the head only */
    size_t total;             /* bytes in the whole chain; kept in the head only */
    uint32_t start;           /* bytes[start .. end - 1] are queued */
    uint32_t end;
    uint32_t capacity;
    uint8_t bytes[];
};

static _Thread_local int64_t held_bytes;

int64_t chain_held_bytes(void)
{
    return held_bytes;
}

static void chunk_free(struct chain_chunk *chunk)
{
    held_bytes -= (int64_t)chunk->capacity;
    memory_free(chunk);
}

static void chunks_free(struct chain_chunk *chunk)
{
    while (chunk != NULL) {
        struct chain_chunk *next = chunk->next;
        chunk_free(chunk);
        chunk = next;
    }
}

/* Makes empty chunks for `length` bytes in all, of `most` each; NULL when memory is out. The first one knows the last.
 */
static struct chain_chunk *chunks_new(size_t length, size_t most)
{
    struct chain_chunk *first = NULL;
    while (length > 0) {
        size_t part = length < most ? length : most;
        size_t capacity = part < CHAIN_CHUNK_MIN_BYTES ? CHAIN_CHUNK_MIN_BYTES : part;
        struct chain_chunk *chunk = memory_alloc(offsetof(struct chain_chunk, bytes) + capacity);
        if (chunk == NULL) {
            chunks_free(first);
            return NULL;
        }
        *chunk = (struct chain_chunk){.tail = chunk, .capacity = (uint32_t)capacity};
        held_bytes += (int64_t)capacity;
        if (first == NULL) {
            first = chunk;
        } else {
            first->tail->next = chunk;
            first->tail = chunk;
        }
        length -= part;
    }
    return first;
}

static size_t chunk_fill(struct chain_chunk *chunk, const uint8_t *bytes, size_t length)
{
    size_t spare = chunk->capacity - chunk->end;
    size_t part = length < spare ? length : spare;
    memcpy(chunk->bytes + chunk->end, bytes, part);
    chunk->end += (uint32_t)part;
    return part;
}

void chain_clear(struct chain *chain)
{
    chunks_free(chain->head);
    chain->head = NULL;
}

size_t chain_bytes(const struct chain *chain)
{
    return chain->head != NULL ? chain->head->total : 0;
}

enum error_code chain_append(struct chain *chain, const void *bytes, size_t length)
{
    return chain_append_in(chain, bytes, length, CHAIN_CHUNK_MAX_BYTES);
}

enum error_code chain_append_in(struct chain *chain, const void *bytes, size_t length, size_t chunk_bytes)
{
    assert(chunk_bytes > 0 && chunk_bytes <= CHAIN_CHUNK_MAX_BYTES);
    if (length == 0) {
        return ERROR_NONE;
    }
    struct chain_chunk *tail = chain->head != NULL ? chain->head->tail : NULL;
    size_t spare = tail != NULL ? tail->capacity - tail->end : 0;
    struct chain_chunk *added = NULL;
    if (length > spare) {
        added = chunks_new(length - spare, chunk_bytes);
        if (added == NULL) {
            return ERROR_NO_MEMORY;
        }
    }
    const uint8_t *from = bytes;
    size_t left = length;
    if (spare > 0) {
        size_t part = chunk_fill(tail, from, left);
        from += part;
        left -= part;
    }
    for (struct chain_chunk *chunk = added; chunk != NULL; chunk = chunk->next) {
        size_t part = chunk_fill(chunk, from, left);
        from += part;
        left -= part;
    }
    assert(left == 0);
    if (chain->head == NULL) {
        chain->head = added;
    } else if (added != NULL) {
        tail->next = added;
        chain->head->tail = added->tail;
    }
    chain->head->total += length;
    return ERROR_NONE;
}

size_t chain_peek(const struct chain *chain, const uint8_t **bytes)
{
    const struct chain_chunk *head = chain->head;
    if (head == NULL) {
        *bytes = NULL;
        return 0;
    }
    *bytes = head->bytes + head->start;
    return head->end - head->start;
}

size_t chain_copy(const struct chain *chain, size_t offset, void *into, size_t length)
{
    uint8_t *to = into;
    size_t copied = 0;
    for (const struct chain_chunk *chunk = chain->head; chunk != NULL && copied < length; chunk = chunk->next) {
        size_t held = chunk->end - chunk->start;
        if (offset >= held) {
            offset -= held;
            continue;
        }
        size_t part = held - offset < length - copied ? held - offset : length - copied;
        memcpy(to + copied, chunk->bytes + chunk->start + offset, part);
        copied += part;
        offset = 0;
    }
    return copied;
}

size_t chain_read(const struct chain *chain, struct chain_cursor *cursor, void *into, size_t length)
{
    uint8_t *to = into;
    size_t copied = 0;
    if (cursor->chunk == NULL && chain->head != NULL) {
        *cursor = (struct chain_cursor){chain->head, chain->head->start};
    }
    while (copied < length && cursor->chunk != NULL) {
        size_t held = cursor->chunk->end - cursor->offset;
        size_t part = held < length - copied ? held : length - copied;
        if (to != NULL) {
            memcpy(to + copied, cursor->chunk->bytes + cursor->offset, part);
        }
        copied += part;
        cursor->offset += (uint32_t)part;
        if (part < held || cursor->chunk->next == NULL) {
            break; /* at the very end the cursor stays in its chunk, which may be filled further */
        }
        *cursor = (struct chain_cursor){cursor->chunk->next, cursor->chunk->next->start};
    }
    return copied;
}

void chain_consume(struct chain *chain, size_t length)
{
    assert(length <= chain_bytes(chain) && "more was consumed than is queued");
    while (length > 0) {
        struct chain_chunk *head = chain->head;
        size_t held = head->end - head->start;
        size_t part = length < held ? length : held;
        head->start += (uint32_t)part;
        head->total -= part;
        length -= part;
        if (part == held) {
            struct chain_chunk *next = head->next;
            if (next != NULL) {
                next->tail = head->tail;
                next->total = head->total;
            }
            chunk_free(head);
            chain->head = next;
        }
    }
}
