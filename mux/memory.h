/*
 * Every allocation of Trunkline goes through here, so that tests can make any one of them fail, and so that nghttp2
 * uses the same allocator. Thread safe.
 */
#ifndef MUX_MEMORY_H
#define MUX_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* The pointer to the structure of `type` whose field `member` is at `pointer`. */
#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* NULL when memory is out. A size of 0 gives a pointer that memory_free takes. */
void *memory_alloc(size_t bytes);
void *memory_zalloc(size_t bytes);                 /* zeroed */
void *memory_calloc(size_t count, size_t bytes);   /* zeroed; NULL also when count * bytes overflows */
void *memory_realloc(void *pointer, size_t bytes); /* the old block stays valid on NULL */
char *memory_strdup(const char *text);
char *memory_strndup(const char *text, size_t length); /* copies exactly `length` bytes and adds a zero */
void memory_free(void *pointer);                       /* NULL is allowed */

/* Overwrites secrets; never optimised away. */
void memory_wipe(void *pointer, size_t bytes);

/* Once for a process, before its threads: what the heap has at its ends goes back to the system as it is freed, however
 * large the blocks were that came and went before. */
void memory_tune(void);

/* Gives free heap pages back to the system. Costs a walk over the heap: call it rarely, after a burst. */
void memory_trim(void);

/* For tests: makes the nth allocation of the calling thread from now on (1 = the next one) return NULL, once; 0 turns
 * it off. memory_faults() says how many failures were injected on this thread since the last call of memory_fail_at.
 */
void memory_fail_at(uint64_t nth);
uint64_t memory_faults(void);

/* For slabs and other allocators that do not come here for each object: true when the allocation that is about to
 * be made must fail. Counts as one allocation. */
int memory_must_fail(void);

#endif
