/*
 * Slabs: pages of 64 KiB, mapped at multiples of their size so that an object finds its page's header by masking its
 * own address. A page's free objects form a list through their first bytes; objects that were never handed out are
 * counted, not listed, so that a new page is touched only as far as it is used. A slab owns its pages; each object
 * belongs to whoever allocated it. One thread per slab.
 */
#include "mux/slab.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "mux/memory.h"

#define SLAB_FREED_BYTE 0xe5 /* what freed objects are filled with: a stale pointer read from one is never valid */

static size_t slab_round(size_t bytes)
{
    return bytes == 0 ? 8 : (bytes + 7) & ~(size_t)7;
}

#ifdef TRUNKLINE_SLAB_MALLOC

/* What stands before each object: as many bytes as make its place 8 modulo 16. */
struct slab_prefix {
    struct slab *slab;
    struct list_node node; /* in the slab's `full` */
};

_Static_assert(sizeof(struct slab_prefix) % 16 == 8, "objects lie at 8 modulo 16");

void slab_init(struct slab *slab, const char *name, size_t object_bytes)
{
    *slab = (struct slab){.name = name, .object_bytes = slab_round(object_bytes)};
    list_init(&slab->partial);
    list_init(&slab->full);
}

static struct slab_prefix *slab_prefix_of(const void *object)
{
    return (struct slab_prefix *)(uintptr_t)object - 1;
}

void slab_dispose(struct slab *slab)
{
    assert(slab->objects == 0 && "an object outlives its slab");
    (void)slab;
}

void *slab_alloc(struct slab *slab)
{
    struct slab_prefix *prefix = memory_zalloc(sizeof(*prefix) + slab->object_bytes);
    if (prefix == NULL) {
        return NULL;
    }
    prefix->slab = slab;
    list_append(&slab->full, &prefix->node);
    slab->objects++;
    return prefix + 1;
}

void slab_free(struct slab *slab, void *object)
{
    if (object == NULL) {
        return;
    }
    assert(slab_of(object) == slab && slab->objects > 0);
    memset(object, SLAB_FREED_BYTE, slab->object_bytes);
    list_remove(&slab_prefix_of(object)->node);
    memory_free(slab_prefix_of(object));
    slab->objects--;
}

struct slab *slab_of(const void *object)
{
    return slab_prefix_of(object)->slab;
}

void *slab_next(const struct slab *slab, const void *object)
{
    const struct list_node *node = object != NULL ? slab_prefix_of(object)->node.next : slab->full.head.next;
    return node != &slab->full.head ? container_of(node, struct slab_prefix, node) + 1 : NULL;
}

size_t slab_footprint(const struct slab *slab)
{
    return slab->objects * slab->object_bytes;
}

#else

#define SLAB_PAGE_BYTES ((size_t)65536)

struct slab_page {
    struct list_node node; /* in the slab's `partial` (empty pages at its end) or `full` */
    struct slab *slab;
    void *free;      /* the first freed object; each holds a pointer to the next */
    uint32_t used;   /* objects handed out now */
    uint32_t fresh;  /* objects from here to the end were never handed out, and are zero */
    uint64_t live[]; /* a bit per object that is handed out */
};

/* The bits, and room up to 8 modulo 16. */
static size_t slab_first_at(size_t capacity)
{
    size_t bits_end = sizeof(struct slab_page) + (capacity + 63) / 64 * sizeof(uint64_t);
    return (bits_end + 7) / 16 * 16 + 8;
}

void slab_init(struct slab *slab, const char *name, size_t object_bytes)
{
    *slab = (struct slab){.name = name, .object_bytes = slab_round(object_bytes)};
    size_t capacity = SLAB_PAGE_BYTES / slab->object_bytes;
    while (capacity > 0 && slab_first_at(capacity) + capacity * slab->object_bytes > SLAB_PAGE_BYTES) {
        capacity--;
    }
    assert(capacity > 0 && "objects must fit a page");
    slab->capacity = (uint32_t)capacity;
    slab->first_at = (uint32_t)slab_first_at(capacity);
    list_init(&slab->partial);
    list_init(&slab->full);
}

static struct slab_page *slab_page_of(const void *object)
{
    return (struct slab_page *)((uintptr_t)object & ~(uintptr_t)(SLAB_PAGE_BYTES - 1));
}

struct slab *slab_of(const void *object)
{
    return slab_page_of(object)->slab;
}

static char *slab_object_at(const struct slab *slab, const struct slab_page *page, size_t index)
{
    return (char *)(uintptr_t)page + slab->first_at + index * slab->object_bytes;
}

static size_t slab_index_of(const struct slab *slab, const void *object)
{
    size_t offset = (uintptr_t)object & (SLAB_PAGE_BYTES - 1);
    return (offset - slab->first_at) / slab->object_bytes;
}

static void slab_mark(const struct slab *slab, struct slab_page *page, const void *object, bool live)
{
    size_t index = slab_index_of(slab, object);
    uint64_t bit = UINT64_C(1) << (index % 64);
    assert(((page->live[index / 64] & bit) != 0) != live && "an object is freed once, and handed out to one owner");
    page->live[index / 64] ^= bit;
}

/* The first live object from `index` on; NULL when the page has none. */
static void *slab_live_from(const struct slab *slab, const struct slab_page *page, size_t index)
{
    while (index < slab->capacity) {
        uint64_t rest = page->live[index / 64] >> (index % 64);
        if (rest != 0) {
            return slab_object_at(slab, page, index + (size_t)__builtin_ctzll(rest));
        }
        index = (index / 64 + 1) * 64;
    }
    return NULL;
}

void *slab_next(const struct slab *slab, const void *object)
{
    const struct list_node *node = slab->full.head.next;
    void *next = NULL;
    if (object != NULL) {
        const struct slab_page *page = slab_page_of(object);
        next = slab_live_from(slab, page, slab_index_of(slab, object) + 1);
        node = page->node.next;
    }
    while (next == NULL) {
        if (node == &slab->full.head) {
            node = slab->partial.head.next;
        }
        if (node == &slab->partial.head) {
            return NULL;
        }
        next = slab_live_from(slab, container_of(node, struct slab_page, node), 0);
        node = node->next;
    }
    return next;
}

static void *slab_map(size_t bytes)
{
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

/* The kernel tends to put a new mapping right before the last one, so that after one aligned page the next ones are
 * aligned by themselves; otherwise twice as much is mapped and the ends are cut off. */
static void *slab_map_aligned(void)
{
    void *mapped = slab_map(SLAB_PAGE_BYTES);
    if (mapped == NULL || ((uintptr_t)mapped & (SLAB_PAGE_BYTES - 1)) == 0) {
        return mapped;
    }
    munmap(mapped, SLAB_PAGE_BYTES);
    char *area = slab_map(2 * SLAB_PAGE_BYTES);
    if (area == NULL) {
        return NULL;
    }
    size_t before = (SLAB_PAGE_BYTES - ((uintptr_t)area & (SLAB_PAGE_BYTES - 1))) & (SLAB_PAGE_BYTES - 1);
    if (before > 0) {
        munmap(area, before);
    }
    munmap(area + before + SLAB_PAGE_BYTES, SLAB_PAGE_BYTES - before);
    return area + before;
}

static struct slab_page *slab_page_new(struct slab *slab)
{
    struct slab_page *page = slab_map_aligned();
    if (page == NULL) {
        return NULL;
    }
    page->slab = slab;
    list_prepend(&slab->partial, &page->node);
    slab->pages++;
    slab->empty_pages++;
    return page;
}

static void slab_page_free(struct slab *slab, struct slab_page *page)
{
    list_remove(&page->node);
    slab->pages--;
    slab->empty_pages--;
    munmap(page, SLAB_PAGE_BYTES);
}

void slab_dispose(struct slab *slab)
{
    assert(slab->objects == 0 && "an object outlives its slab");
    list_for_each(&slab->partial, node) {
        slab_page_free(slab, container_of(node, struct slab_page, node));
    }
}

void *slab_alloc(struct slab *slab)
{
    if (memory_must_fail()) {
        return NULL;
    }
    struct list_node *first = list_first(&slab->partial);
    struct slab_page *page = first != NULL ? container_of(first, struct slab_page, node) : slab_page_new(slab);
    if (page == NULL) {
        return NULL;
    }
    void *object = page->free;
    if (object != NULL) {
        memcpy(&page->free, object, sizeof(page->free));
        memset(object, 0, slab->object_bytes);
    } else {
        object = slab_object_at(slab, page, page->fresh);
        page->fresh++;
    }
    if (page->used == 0) {
        slab->empty_pages--;
    }
    page->used++;
    slab_mark(slab, page, object, true);
    slab->objects++;
    if (page->used == slab->capacity) {
        list_remove(&page->node);
        list_append(&slab->full, &page->node);
    }
    return object;
}

void slab_free(struct slab *slab, void *object)
{
    if (object == NULL) {
        return;
    }
    struct slab_page *page = slab_page_of(object);
    assert(page->slab == slab && page->used > 0);
    slab_mark(slab, page, object, false);
    memset(object, SLAB_FREED_BYTE, slab->object_bytes);
    memcpy(object, &page->free, sizeof(page->free));
    page->free = object;
    bool was_full = page->used == slab->capacity;
    page->used--;
    slab->objects--;
    if (page->used > 0) {
        if (was_full) {
            list_remove(&page->node);
            list_prepend(&slab->partial, &page->node);
        }
        return;
    }
    /* Empty pages wait at the end, so that the others fill up first. */
    list_remove(&page->node);
    list_append(&slab->partial, &page->node);
    slab->empty_pages++;
    if (slab->empty_pages > 1) {
        slab_page_free(slab, page);
    }
}

size_t slab_footprint(const struct slab *slab)
{
    return slab->pages * SLAB_PAGE_BYTES;
}

#endif
