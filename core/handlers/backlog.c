/* A queue of bytes in one block, which is moved and grown as needed. */
#include "backlog.h"

#include <stdlib.h>
#include <string.h>

#define BACKLOG_LEAST_BYTES 512U

struct backlog {
    size_t start; /* of what is left */
    size_t length;
    size_t capacity;
    unsigned char bytes[];
};

int backlog_add(struct backlog **backlog, const void *bytes, size_t length)
{
    struct backlog *held = *backlog;
    size_t kept = held != NULL ? held->length : 0;

    if (length == 0) {
        return 0;
    }
    if (held != NULL && held->start > 0 && held->start + kept + length > held->capacity) {
        memmove(held->bytes, held->bytes + held->start, kept);
        held->start = 0;
    }
    if (held == NULL || kept + length > held->capacity) {
        size_t capacity = held != NULL ? 2 * held->capacity : BACKLOG_LEAST_BYTES;

        capacity = capacity < kept + length ? kept + length : capacity;
        held = realloc(held, sizeof(*held) + capacity);
        if (held == NULL) {
            return -1;
        }
        if (*backlog == NULL) {
            held->start = 0;
            held->length = 0;
        }
        held->capacity = capacity;
        *backlog = held;
    }
    memcpy(held->bytes + held->start + held->length, bytes, length);
    held->length += length;
    return 0;
}

const unsigned char *backlog_bytes(const struct backlog *backlog, size_t *length)
{
    if (backlog == NULL) {
        *length = 0;
        return NULL;
    }
    *length = backlog->length;
    return backlog->bytes + backlog->start;
}

void backlog_drop(struct backlog **backlog, size_t length)
{
    if (*backlog == NULL) {
        return;
    }
    if (length >= (*backlog)->length) {
        backlog_free(backlog);
        return;
    }
    (*backlog)->start += length;
    (*backlog)->length -= length;
}

void backlog_free(struct backlog **backlog)
{
    free(*backlog);
    *backlog = NULL;
}
