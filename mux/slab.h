/*
 * Objects of one size, packed without a header each, in pages that go back to the system when their last object is
 * freed. One thread owns a slab. In sanitizer builds (TRUNKLINE_SLAB_MALLOC) each object is an allocation of its own,
 * so that a use after free is seen.
 *
 * An object of a multiple of 16 bytes lies at an address that is 8 modulo 16, where malloc never puts one: so memory of
 * a slab can be told from memory of the heap by its address (slab_holds_place).
 */
#ifndef MUX_SLAB_H
#define MUX_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/list.h"

struct slab {
    const char *name;    /* what it holds, for statistics; static */
    size_t object_bytes; /* rounded up to 8 */
    uint32_t capacity;   /* objects of a page */
    uint32_t first_at;   /* where they begin in it, in bytes */
    struct list partial; /* pages with room */
    struct list full;
    size_t objects; /* live ones */
    size_t pages;
    size_t empty_pages; /* kept for reuse; at most one */
};

void slab_init(struct slab *slab, const char *name, size_t object_bytes);

/* Every object must have been freed. */
void slab_dispose(struct slab *slab);

/* Zeroed memory, aligned to 8 bytes; NULL when memory is out. */
void *slab_alloc(struct slab *slab);

/* Takes back an object of this slab; NULL is allowed. Its bytes are overwritten. */
void slab_free(struct slab *slab, void *object);

/* The slab that a live object belongs to: an owner that embeds its slab is found from the object with container_of. */
struct slab *slab_of(const void *object);

/* Walks the live objects: the first for NULL, then the one after `object`; NULL at the end. The order is no one's
 * business, but holds as long as nothing is allocated or freed. */
void *slab_next(const struct slab *slab, const void *object);

/* Is this where an object of a multiple of 16 bytes may lie? False for whatever malloc returned. */
static inline bool slab_holds_place(const void *pointer)
{
    return ((uintptr_t)pointer & 15U) == 8U;
}

/* Bytes taken from the system now. */
size_t slab_footprint(const struct slab *slab);

#endif
