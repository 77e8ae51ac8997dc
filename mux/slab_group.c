/* Slabs for a range of sizes: see slab_group.h. No state beside the group's own. */
#include "mux/slab_group.h"

#include <assert.h>

#include "mux/memory.h"

void slab_group_init(struct slab_group *group, const char *name, size_t least_bytes)
{
    assert(least_bytes >= SLAB_GROUP_STEP && least_bytes % SLAB_GROUP_STEP == 0);
    group->least_bytes = least_bytes;
    for (size_t i = 0; i < SLAB_GROUP_SLABS; i++) {
        slab_init(&group->slabs[i], name, least_bytes + i * SLAB_GROUP_STEP);
    }
}

void slab_group_dispose(struct slab_group *group)
{
    for (size_t i = 0; i < SLAB_GROUP_SLABS; i++) {
        slab_dispose(&group->slabs[i]);
    }
}

void *slab_group_alloc(struct slab_group *group, size_t bytes)
{
    if (group == NULL || bytes <= group->least_bytes - SLAB_GROUP_STEP) {
        return memory_alloc(bytes);
    }
    size_t place = (bytes - (group->least_bytes - SLAB_GROUP_STEP) - 1) / SLAB_GROUP_STEP;
    return place < SLAB_GROUP_SLABS ? slab_alloc(&group->slabs[place]) : memory_alloc(bytes);
}

void slab_group_free(void *pointer)
{
    if (pointer != NULL && slab_holds_place(pointer)) {
        slab_free(slab_of(pointer), pointer);
    } else {
        memory_free(pointer);
    }
}

size_t slab_group_objects(const struct slab_group *group)
{
    size_t objects = 0;
    for (size_t i = 0; i < SLAB_GROUP_SLABS; i++) {
        objects += group->slabs[i].objects;
    }
    return objects;
}
