/*
 * A few slabs for objects whose sizes are near each other, such as one that another library allocates; what is smaller
 * or larger comes from the heap. Freeing needs no group: slab and heap are told apart by the address. One thread owns a
 * group.
 */
#ifndef MUX_SLAB_GROUP_H
#define MUX_SLAB_GROUP_H

#include "mux/slab.h"

#define SLAB_GROUP_SLABS 4U
#define SLAB_GROUP_STEP  16U

struct slab_group {
    size_t least_bytes; /* of the objects of the first slab; each next one has SLAB_GROUP_STEP more */
    struct slab slabs[SLAB_GROUP_SLABS];
};

/* `least_bytes` is a multiple of SLAB_GROUP_STEP. `name` as for a slab. */
void slab_group_init(struct slab_group *group, const char *name, size_t least_bytes);

/* Every object that came from its slabs must have been freed. */
void slab_group_dispose(struct slab_group *group);

/* Memory aligned to 8 bytes, zeroed only when it comes from a slab; NULL when memory is out. Without a group, from the
 * heap. */
void *slab_group_alloc(struct slab_group *group, size_t bytes);

/* Takes back what slab_group_alloc or the memory_* functions gave; NULL is allowed. */
void slab_group_free(void *pointer);

/* Objects in its slabs now. */
size_t slab_group_objects(const struct slab_group *group);

#endif
