/*
 * The allocator that a trunk gives to nghttp2. What nghttp2 keeps for each open stream is one object of a fixed size
 * (224 bytes in 1.52); objects of about that size come from slabs, without malloc's header and apart from what is
 * short-lived, so that an idle stream costs what it needs and the memory of streams that end goes back to the system.
 * Everything else comes from the heap. The slabs are the trunk's; one thread.
 */
#include "mux/trunk_internal.h"

#include <string.h>

#include "mux/memory.h"

static void *h2_malloc(size_t bytes, void *group)
{
    return slab_group_alloc(group, bytes);
}

static void h2_free(void *pointer, void *group)
{
    (void)group;
    slab_group_free(pointer);
}

static void *h2_calloc(size_t count, size_t bytes, void *group)
{
    (void)group;
    return memory_calloc(count, bytes);
}

static void *h2_realloc(void *pointer, size_t bytes, void *group)
{
    if (pointer == NULL || !slab_holds_place(pointer)) {
        return memory_realloc(pointer, bytes);
    }
    void *moved = slab_group_alloc(group, bytes);
    if (moved != NULL) {
        size_t held = slab_of(pointer)->object_bytes;
        memcpy(moved, pointer, held < bytes ? held : bytes);
        slab_group_free(pointer);
    }
    return moved;
}

nghttp2_mem trunk_memory_allocator(struct slab_group *group)
{
    return (nghttp2_mem){group, h2_malloc, h2_free, h2_calloc, h2_realloc};
}
