/*
 * A client's resumption data as it is kept: without what it shares with the others of its context. GnuTLS puts the
 * server's certificates into the middle of each, which would be most of the memory of an idle client. The first one of
 * a context is its pattern for good; the others are kept without the longest run of bytes that is the same in the same
 * place. Any thread, as the pattern is set once and only read afterwards.
 */
#include <string.h>

#include "mux/memory.h"
#include "mux/tls_backend.h"

#define SHARED_LEAST_BYTES 64U /* less is not worth it */

struct tls_ticket {
    uint32_t length;        /* of the resumption data */
    uint32_t shared_at;     /* this part is the pattern's, and not in `bytes` */
    uint32_t shared_length; /* 0: none */
    uint8_t bytes[];
};

struct tls_ticket_pattern {
    size_t length;
    uint8_t bytes[];
};

/* The context's pattern, which `data` becomes if there is none; NULL when memory is out. */
static const struct tls_ticket_pattern *pattern_of(struct tls_context *context, const gnutls_datum_t *data)
{
    struct tls_ticket_pattern *pattern = atomic_load_explicit(&context->pattern, memory_order_acquire);

    if (pattern != NULL) {
        return pattern;
    }
    struct tls_ticket_pattern *made = memory_alloc(sizeof(*made) + data->size);
    if (made == NULL) {
        return NULL;
    }
    made->length = data->size;
    memcpy(made->bytes, data->data, data->size);
    if (atomic_compare_exchange_strong_explicit(&context->pattern, &pattern, made, memory_order_acq_rel,
                                                memory_order_acquire)) {
        return made;
    }
    tls_ticket_pattern_free(made); /* another thread was faster */
    return pattern;
}

void tls_ticket_pattern_free(struct tls_ticket_pattern *pattern)
{
    if (pattern != NULL) {
        memory_wipe(pattern->bytes, pattern->length);
        memory_free(pattern);
    }
}

/* Fills in the longest run that is the same in the same place. */
static void find_shared(const struct tls_ticket_pattern *pattern, const gnutls_datum_t *data, struct tls_ticket *shape)
{
    size_t length = pattern->length < data->size ? pattern->length : data->size;
    size_t run = 0;

    for (size_t i = 0; i < length; i++) {
        run = pattern->bytes[i] == data->data[i] ? run + 1 : 0;
        if (run >= SHARED_LEAST_BYTES && run > shape->shared_length) {
            shape->shared_length = (uint32_t)run;
            shape->shared_at = (uint32_t)(i + 1 - run);
        }
    }
}

struct tls_ticket *tls_ticket_new(struct tls_context *context, const gnutls_datum_t *data)
{
    const struct tls_ticket_pattern *pattern = pattern_of(context, data);
    struct tls_ticket shape = {.length = data->size, .shared_length = 0};

    if (pattern != NULL) {
        find_shared(pattern, data, &shape);
    }
    struct tls_ticket *ticket = memory_alloc(sizeof(*ticket) + shape.length - shape.shared_length);
    if (ticket == NULL) {
        return NULL;
    }
    size_t after = shape.shared_at + shape.shared_length;
    *ticket = shape;
    memcpy(ticket->bytes, data->data, shape.shared_at);
    memcpy(ticket->bytes + shape.shared_at, data->data + after, shape.length - after);
    return ticket;
}

size_t tls_ticket_length(const struct tls_ticket *ticket)
{
    return ticket->length;
}

void tls_ticket_read(const struct tls_ticket *ticket, const struct tls_context *context, uint8_t *into)
{
    size_t after = ticket->shared_at + ticket->shared_length;

    memcpy(into, ticket->bytes, ticket->shared_at);
    memcpy(into + after, ticket->bytes + ticket->shared_at, ticket->length - after);
    if (ticket->shared_length > 0) {
        const struct tls_ticket_pattern *pattern = atomic_load_explicit(&context->pattern, memory_order_acquire);
        memcpy(into + ticket->shared_at, pattern->bytes + ticket->shared_at, ticket->shared_length);
    }
}

void tls_ticket_free(struct tls_ticket **ticket)
{
    struct tls_ticket *gone = *ticket;

    *ticket = NULL;
    if (gone != NULL) {
        memory_wipe(gone->bytes, gone->length - gone->shared_length);
        memory_free(gone);
    }
}
