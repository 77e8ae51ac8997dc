/*
 * The receiving side of HTTP/1.1 as far as a load generator needs it: where an answer's head and its body end, its
 * status, and its length (RFC 9112). Only bodies with a Content-Length are told apart; an answer without one lasts
 * until the connection ends. Bytes in, events out; no memory of its own. One thread.
 */
#ifndef LOAD_HTTP_H
#define LOAD_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX_BYTES 65536U

enum http_event {
    HTTP_MORE,   /* all bytes are taken, nothing is complete */
    HTTP_HEAD,   /* status and length are known; the body follows, which may be empty */
    HTTP_DONE,   /* the body is complete: the reader is ready for the next answer */
    HTTP_BROKEN, /* this is not HTTP/1.1; the reader must not be fed again */
};

struct http_reader {
    uint64_t length;     /* of the body; meaningful when `has_length` */
    uint64_t body;       /* bytes of it that have come */
    uint32_t head_bytes; /* of the head so far */
    uint16_t status;
    uint8_t state;
    uint8_t match; /* how far the status line, or the name of a header field, has been recognized */
    uint8_t has_length;
};

void http_reader_init(struct http_reader *reader);

/* Takes bytes up to the next event and returns how many. The bytes of a body are taken at the ends of their reads: a
 * caller that wants them takes them itself, between HTTP_HEAD and HTTP_DONE, before it calls. */
size_t http_reader_feed(struct http_reader *reader, const uint8_t *bytes, size_t length, enum http_event *event);

#endif
