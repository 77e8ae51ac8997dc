/*
 * The allocator behind everything: the C library's, with a thread-local counter through which tests make one chosen
 * allocation fail. Holds nothing else. Any thread.
 */
#include "mux/memory.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local uint64_t allocations_until_fault; /* 0: no fault is planned */
static _Thread_local uint64_t faults;

int memory_must_fail(void)
{
    if (allocations_until_fault == 0) {
        return 0;
    }
    allocations_until_fault--;
    if (allocations_until_fault > 0) {
        return 0;
    }
    faults++;
    return 1;
}

void memory_fail_at(uint64_t nth)
{
    allocations_until_fault = nth;
    faults = 0;
}

uint64_t memory_faults(void)
{
    return faults;
}

void *memory_alloc(size_t bytes)
{
    if (memory_must_fail()) {
        return NULL;
    }
    return malloc(bytes > 0 ? bytes : 1);
}

void *memory_zalloc(size_t bytes)
{
    return memory_calloc(1, bytes);
}

void *memory_calloc(size_t count, size_t bytes)
{
    if (memory_must_fail()) {
        return NULL;
    }
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total)) {
        return NULL;
    }
    return calloc(1, total > 0 ? total : 1);
}

void *memory_realloc(void *pointer, size_t bytes)
{
    if (memory_must_fail()) {
        return NULL;
    }
    /* realloc(pointer, 0) would free the block, and our callers could not tell that from a failure. */
    return realloc(pointer, bytes > 0 ? bytes : 1);
}

char *memory_strdup(const char *text)
{
    return memory_strndup(text, strlen(text));
}

char *memory_strndup(const char *text, size_t length)
{
    if (length == SIZE_MAX) {
        return NULL;
    }
    char *copy = memory_alloc(length + 1);
    if (copy == NULL) {
        return NULL;
    }
    if (length > 0) {
        memcpy(copy, text, length);
    }
    copy[length] = '\0';
    return copy;
}

void memory_free(void *pointer)
{
    free(pointer);
}

void memory_wipe(void *pointer, size_t bytes)
{
    if (bytes > 0) {
        explicit_bzero(pointer, bytes);
    }
}

/* glibc raises both by itself, to the size of the largest mapped block that was ever freed and twice that: a table that
 * nghttp2 has outgrown would let each arena keep megabytes for good, and malloc_trim leaves the ends of arenas alone.
 */
#define MEMORY_MAP_BYTES  (128 * 1024)
#define MEMORY_TRIM_BYTES (128 * 1024)

void memory_tune(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, MEMORY_MAP_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, MEMORY_TRIM_BYTES);
}

void memory_trim(void)
{
    malloc_trim(0);
}
