/*
 * Bytes that a handler has been given and could not pass on yet. NULL while there are none, so that a session costs
 * nothing for it; bounded by the session's window as long as what is in it is not consumed. Whoever holds the pointer
 * owns it.
 */
#ifndef CORE_HANDLERS_BACKLOG_H
#define CORE_HANDLERS_BACKLOG_H

#include <stddef.h>

struct backlog;

/* Adds a copy to the end: 0, or -1 when memory is out (nothing is added). */
int backlog_add(struct backlog **backlog, const void *bytes, size_t length);

/* The bytes, and how many: all of them in one piece. Valid until the next call. */
const unsigned char *backlog_bytes(const struct backlog *backlog, size_t *length);

/* Drops the first `length` bytes, and frees the memory with the last one. */
void backlog_drop(struct backlog **backlog, size_t length);

void backlog_free(struct backlog **backlog);

#endif
