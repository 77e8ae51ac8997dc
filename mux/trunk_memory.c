/*
 * The allocator that a trunk gives to nghttp2. What nghttp2 keeps for each open stream is one object of a fixed size
 * (224 bytes in 1.52); objects of about that size come from slabs, without malloc's header and apart from what is
 * short-lived, so that an idle stream costs what it needs and the memory of streams that end goes back to the system.
 * Everything else comes from the heap. Belongs to the trunk; one thread.
 */
#include "mux/trunk_internal.h"

#include <string.h>

#include "mux/memory.h"

/* Sizes that come from slabs: from SLAB_LEAST on, TRUNK_MEMORY_SLABS steps of SLAB_STEP. */
#define SLAB_LEAST 208U
#define SLAB_STEP  16U /* multiples of it can be told from the heap's by their address */
#define SLAB_MOST  (SLAB_LEAST + (TRUNK_MEMORY_SLABS - 1U) * SLAB_STEP)

void trunk_memory_init(struct trunk_memory *memory)
{
    for (size_t i = 0; i < TRUNK_MEMORY_SLABS; i++) {
        slab_init(&memory->slabs[i], "nghttp2", SLAB_LEAST + i * SLAB_STEP);
    }
}

void trunk_memory_dispose(struct trunk_memory *memory)
{
    for (size_t i = 0; i < TRUNK_MEMORY_SLABS; i++) {
        slab_dispose(&memory->slabs[i]);
    }
}

static struct slab *slab_for(struct trunk_memory *memory, size_t bytes)
{
    if (bytes <= SLAB_LEAST - SLAB_STEP || bytes > SLAB_MOST) {
        return NULL;
    }
    return &memory->slabs[(bytes - (SLAB_LEAST - SLAB_STEP) - 1) / SLAB_STEP];
}

static void *h2_malloc(size_t bytes, void *user_data)
{
    struct slab *slab = slab_for(user_data, bytes);
    return slab != NULL ? slab_alloc(slab) : memory_alloc(bytes);
}

static void h2_free(void *pointer, void *user_data)
{
    (void)user_data;
    if (pointer != NULL && slab_holds_place(pointer)) {
        slab_free(slab_of(pointer), pointer);
    } else {
        memory_free(pointer);
    }
}

static void *h2_calloc(size_t count, size_t bytes, void *user_data)
{
    struct slab *slab = count > 0 && bytes <= SLAB_MOST / count ? slab_for(user_data, count * bytes) : NULL;
    return slab != NULL ? slab_alloc(slab) : memory_calloc(count, bytes);
}

static void *h2_realloc(void *pointer, size_t bytes, void *user_data)
{
    if (pointer == NULL || !slab_holds_place(pointer)) {
        return memory_realloc(pointer, bytes);
    }
    void *moved = h2_malloc(bytes, user_data);
    if (moved != NULL) {
        size_t held = slab_of(pointer)->object_bytes;
        memcpy(moved, pointer, held < bytes ? held : bytes);
        h2_free(pointer, user_data);
    }
    return moved;
}

nghttp2_mem trunk_memory_allocator(struct trunk_memory *memory)
{
    return (nghttp2_mem){memory, h2_malloc, h2_free, h2_calloc, h2_realloc};
}
