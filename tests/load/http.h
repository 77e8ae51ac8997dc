/*
 * The receiving side of HTTP/1 as far as a load generator needs it: one answer after another on a connection, its
 * status, its body, and where it ends (RFC 9112). The parsing is the http-parser library's. Interim answers (1xx) are
 * passed over. Bytes in, events out; no memory of its own. One thread.
 */
#ifndef LOAD_HTTP_H
#define LOAD_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <http_parser.h>

#include "mux/error.h"

#define HTTP_HEAD_MAX_BYTES HTTP_MAX_HEADER_SIZE /* status line and fields; the library refuses more */

struct http_reader;

/* What a reader tells its owner. An error that `head` or `body` returns ends the feeding with it; none of the three may
 * dispose of the reader. */
struct http_events {
    /* The head of an answer is complete: `parser.status_code` and http_reader_bounded tell of it. */
    enum error_code (*head)(struct http_reader *reader);

    /* Bytes of the body, without its framing; valid during the call. */
    enum error_code (*body)(struct http_reader *reader, const uint8_t *bytes, size_t length);

    /* The answer is complete. */
    void (*done)(struct http_reader *reader);
};

struct http_reader {
    struct http_parser parser;
    uint64_t body_bytes; /* that have come */
    uint8_t begun;       /* bytes of "HTTP/" that an answer has begun with */
};

void http_reader_init(struct http_reader *reader);

/* Takes bytes up to the end of one answer; *taken says how many. ERROR_INVALID: this is not HTTP/1; the reader must not
 * be fed again, nor after an error of `events`. */
enum error_code http_reader_feed(struct http_reader *reader, const struct http_events *events, const uint8_t *bytes,
                                 size_t length, size_t *taken);

/* From `head` on: does the body end before the connection does? */
bool http_reader_bounded(const struct http_reader *reader);

#endif
