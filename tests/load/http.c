/*
 * See http.h. The library calls back while it is fed; the events to call are a matter of one feed only. It is stopped
 * after each answer, also an interim one: as Debian builds it, it does not look at the letters that an answer begins
 * with, and a generator that looks for altered bytes must.
 */
#include "tests/load/http.h"

#include "mux/memory.h"

#define STATUS_LEAST 100U
#define STATUS_MOST  599U

static const char answer_start[] = "HTTP/";

/* Of one call of http_reader_feed; the parser's `data` meanwhile. */
struct feed {
    const struct http_events *events;
    enum error_code error;
    bool over; /* an answer is complete */
};

void http_reader_init(struct http_reader *reader)
{
    http_parser_init(&reader->parser, HTTP_RESPONSE);
    reader->parser.data = NULL;
    reader->body_bytes = 0;
    reader->begun = 0;
}

static struct http_reader *reader_of(struct http_parser *parser)
{
    return container_of(parser, struct http_reader, parser);
}

/* An answer that only announces another one (RFC 9110 section 15.2). No protocol is ever switched to here. */
static bool interim(const struct http_parser *parser)
{
    return parser->status_code < 200 && parser->status_code != 101;
}

/* What a callback returns to the library: anything but 0 stops it. */
static int stop_at(struct feed *feed, enum error_code error)
{
    feed->error = error;
    return error != ERROR_NONE;
}

static int on_head(struct http_parser *parser)
{
    struct feed *feed = parser->data;
    if (parser->http_major != 1 || parser->status_code < STATUS_LEAST || parser->status_code > STATUS_MOST) {
        return stop_at(feed, ERROR_INVALID); /* the library takes any number in both places */
    }
    return interim(parser) ? 0 : stop_at(feed, feed->events->head(reader_of(parser)));
}

static int on_body(struct http_parser *parser, const char *bytes, size_t length)
{
    struct feed *feed = parser->data;
    struct http_reader *reader = reader_of(parser);
    reader->body_bytes += length;
    return stop_at(feed, feed->events->body(reader, (const uint8_t *)bytes, length));
}

static int on_done(struct http_parser *parser)
{
    struct feed *feed = parser->data;
    struct http_reader *reader = reader_of(parser);
    if (!interim(parser)) {
        feed->events->done(reader);
        feed->over = true;
    }
    reader->body_bytes = 0;
    reader->begun = 0;
    http_parser_pause(parser, 1);
    return 0;
}

static const struct http_parser_settings settings = {
    .on_headers_complete = on_head,
    .on_body = on_body,
    .on_message_complete = on_done,
};

/* Does the answer begin as it must, as far as it has come? */
static bool begins_well(struct http_reader *reader, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length && answer_start[reader->begun] != '\0'; i++) {
        if (bytes[i] != (uint8_t)answer_start[reader->begun++]) {
            return false;
        }
    }
    return true;
}

/* Takes bytes up to the end of one answer, interim or not, and counts them in *taken. */
static enum error_code feed_one(struct http_reader *reader, struct feed *feed, const uint8_t *bytes, size_t length,
                                size_t *taken)
{
    struct http_parser *parser = &reader->parser;
    if (!begins_well(reader, bytes, length)) {
        return ERROR_INVALID;
    }
    size_t count = http_parser_execute(parser, &settings, (const char *)bytes, length);
    *taken += count;
    if (feed->error != ERROR_NONE) {
        return feed->error;
    }
    if (HTTP_PARSER_ERRNO(parser) == HPE_PAUSED) {
        http_parser_pause(parser, 0);
        return ERROR_NONE;
    }
    return HTTP_PARSER_ERRNO(parser) == HPE_OK && count == length ? ERROR_NONE : ERROR_INVALID;
}

enum error_code http_reader_feed(struct http_reader *reader, const struct http_events *events, const uint8_t *bytes,
                                 size_t length, size_t *taken)
{
    struct feed feed = {.events = events, .error = ERROR_NONE};
    enum error_code error = ERROR_NONE;

    *taken = 0;
    reader->parser.data = &feed;
    while (*taken < length && !feed.over && error == ERROR_NONE) {
        error = feed_one(reader, &feed, bytes + *taken, length - *taken, taken);
    }
    reader->parser.data = NULL;
    return error;
}

bool http_reader_bounded(const struct http_reader *reader)
{
    const struct http_parser *parser = &reader->parser;
    /* RFC 9112 section 6.3: 204 and 304 never have a body. */
    return (parser->flags & (F_CHUNKED | F_CONTENTLENGTH)) != 0 || parser->status_code == 204 ||
           parser->status_code == 304;
}
