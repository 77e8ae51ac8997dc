/*
 * A queue of bytes made of chunks; empty it is one NULL pointer (8 bytes). Appending copies; consuming frees chunks
 * as they empty. Whoever embeds it owns it. One thread.
 */
#ifndef MUX_CHAIN_H
#define MUX_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/error.h"

#define CHAIN_CHUNK_MAX_BYTES 16384U /* payload of the largest chunk */

struct chain_chunk;

struct chain {
    struct chain_chunk *head; /* NULL when empty; the head chunk also holds the tail and the total */
};

static inline void chain_init(struct chain *chain)
{
    chain->head = NULL;
}

/* Frees everything. With `wipe` in mind: contents are not secret keys and are not wiped. */
void chain_clear(struct chain *chain);

static inline bool chain_empty(const struct chain *chain)
{
    return chain->head == NULL;
}

/* Bytes queued. */
size_t chain_bytes(const struct chain *chain);

/* Copies `length` bytes to the end: all of them or, with ERROR_NO_MEMORY, none. */
enum error_code chain_append(struct chain *chain, const void *bytes, size_t length);

/* The same in chunks of at most `chunk_bytes`, up to CHAIN_CHUNK_MAX_BYTES: for a queue that is emptied bit by bit and
 * may stand still at any byte, as a chunk is freed when its last byte is. */
enum error_code chain_append_in(struct chain *chain, const void *bytes, size_t length, size_t chunk_bytes);

/* The first contiguous bytes and how many there are (0 and NULL when empty). Valid until the next call that changes
 * the chain. */
size_t chain_peek(const struct chain *chain, const uint8_t **bytes);

/* Copies up to `length` bytes from `offset` on into `into` without consuming; returns how many. */
size_t chain_copy(const struct chain *chain, size_t offset, void *into, size_t length);

/* A place in a chain, for a reader that does not consume yet: {NULL, 0} is its beginning. It stays good while bytes are
 * appended, and while no byte in front of which it stands is consumed but all of those before it; then set it back. */
struct chain_cursor {
    const struct chain_chunk *chunk;
    uint32_t offset; /* into the chunk's bytes */
};

/* Copies the next `length` bytes from the cursor on, as far as there are any, and moves it behind them; returns how
 * many. `into` NULL: only moves it. */
size_t chain_read(const struct chain *chain, struct chain_cursor *cursor, void *into, size_t length);

/* Drops the first `length` bytes; there must be that many. */
void chain_consume(struct chain *chain, size_t length);

/* Bytes of the chunks that the calling thread has made, less those that it has freed: negative when it frees what
 * others made. The sum over all threads is what all chains of the process hold. */
int64_t chain_held_bytes(void);

#endif
