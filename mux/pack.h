/*
 * State as bytes, for another process of this program: whole numbers in network order and strings of bytes with their
 * length in front. A pack grows as it is written, and is wiped when it grows or ends, as keys may be in it. An unpack
 * reads bytes that somebody else holds. Either remembers its first failure: so callers write or read all there is, and
 * ask once. One thread.
 */
#ifndef MUX_PACK_H
#define MUX_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chain;

struct pack {
    uint8_t *bytes; /* NULL: none yet */
    size_t length;
    size_t capacity;
    bool failed; /* memory was out: what was written since is missing */
};

static inline void pack_init(struct pack *pack)
{
    *pack = (struct pack){.bytes = NULL};
}

/* Wipes and frees. */
void pack_dispose(struct pack *pack);

/* Wipes what is in it and begins again, in the same memory. */
void pack_clear(struct pack *pack);

/* Forgets, and wipes, what was written behind `length`. */
void pack_cut(struct pack *pack, size_t length);

void pack_u8(struct pack *pack, uint8_t value);
void pack_u16(struct pack *pack, uint16_t value);
void pack_u32(struct pack *pack, uint32_t value);
void pack_u64(struct pack *pack, uint64_t value);
void pack_raw(struct pack *pack, const void *bytes, size_t length); /* without a length: the reader knows it */
void pack_bytes(struct pack *pack, const void *bytes, size_t length);
void pack_text(struct pack *pack, const char *text); /* "" for NULL */
void pack_chain(struct pack *pack, const struct chain *chain);

struct unpack {
    const uint8_t *bytes;
    size_t left;
    bool failed; /* it ended early, or something in it cannot be: all that is read from then on is 0 */
};

static inline void unpack_init(struct unpack *unpack, const void *bytes, size_t length)
{
    *unpack = (struct unpack){.bytes = bytes, .left = length};
}

uint8_t unpack_u8(struct unpack *unpack);
uint16_t unpack_u16(struct unpack *unpack);
uint32_t unpack_u32(struct unpack *unpack);
uint64_t unpack_u64(struct unpack *unpack);

/* What follows, where it is; NULL when it is not all there. */
const uint8_t *unpack_raw(struct unpack *unpack, size_t length);

/* What pack_bytes wrote; *length 0 (and a pointer that is not NULL) for nothing. NULL after a failure. */
const uint8_t *unpack_bytes(struct unpack *unpack, size_t *length);

/* A copy of what pack_text wrote, of the caller's from then on (memory_free). NULL after a failure: it is longer than
 * `length_max`, has a zero in it, or memory is out. */
char *unpack_text(struct unpack *unpack, size_t length_max);

/* Appends what pack_chain wrote. False after a failure, memory included. */
bool unpack_chain(struct unpack *unpack, struct chain *chain);

/* What was read cannot be. */
static inline void unpack_fail(struct unpack *unpack)
{
    unpack->failed = true;
    unpack->left = 0;
}

#endif
