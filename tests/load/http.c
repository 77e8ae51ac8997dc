/* See http.h. One state for each place in the head, one byte at a time: heads are short and come in any pieces. */
#include "tests/load/http.h"

#include <string.h>

enum http_state {
    HTTP_EXPECT_STATUS,
    HTTP_EXPECT_FIELD, /* or the empty line */
    HTTP_IN_NAME,
    HTTP_IN_LENGTH, /* the value of Content-Length, before its digits */
    HTTP_IN_DIGITS, /* in them */
    HTTP_IN_VALUE,  /* of any other field */
    HTTP_IN_BODY,
};

#define STATUS_DIGITS_AT  9U /* "HTTP/1.1 " */
#define STATUS_DIGITS_END 12U
#define LENGTH_MAX        (1ULL << 50)

static const char status_start[] = "HTTP/1.";
static const char length_name[] = "content-length";

void http_reader_init(struct http_reader *reader)
{
    memset(reader, 0, sizeof(*reader));
}

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static bool take_status(struct http_reader *reader, uint8_t byte)
{
    uint8_t at = reader->match;
    if (at >= STATUS_DIGITS_END) {
        if (byte == '\n') {
            reader->state = HTTP_EXPECT_FIELD;
        }
        return true;
    }
    reader->match++;
    if (at < sizeof(status_start) - 1) {
        return byte == (uint8_t)status_start[at];
    }
    if (at == STATUS_DIGITS_AT - 1) {
        return byte == ' ';
    }
    if (at >= STATUS_DIGITS_AT) {
        reader->status = (uint16_t)(reader->status * 10 + (byte - '0'));
    }
    return is_digit(byte);
}

static bool take_name(struct http_reader *reader, uint8_t byte)
{
    size_t name_bytes = sizeof(length_name) - 1;
    if (byte == ':') {
        reader->state = reader->match == name_bytes ? HTTP_IN_LENGTH : HTTP_IN_VALUE;
        return true;
    }
    uint8_t lower = byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + ('a' - 'A')) : byte;
    bool matches = reader->match < name_bytes && lower == (uint8_t)length_name[reader->match];
    /* Beyond the name's end means: another name. */
    reader->match = matches ? (uint8_t)(reader->match + 1) : (uint8_t)(name_bytes + 1);
    return byte > ' ';
}

static bool take_length(struct http_reader *reader, uint8_t byte)
{
    if (is_digit(byte)) {
        if (reader->state == HTTP_IN_LENGTH && reader->has_length) {
            return false; /* two lengths: nobody can tell which is true */
        }
        reader->state = HTTP_IN_DIGITS;
        reader->has_length = 1;
        reader->length = reader->length * 10 + (uint64_t)(byte - '0');
        return reader->length <= LENGTH_MAX;
    }
    if (byte == '\n') {
        bool any = reader->state == HTTP_IN_DIGITS;
        reader->state = HTTP_EXPECT_FIELD;
        return any;
    }
    return byte == ' ' || byte == '\t' || byte == '\r';
}

/* False when the byte cannot stand here. */
static bool take_head(struct http_reader *reader, uint8_t byte)
{
    switch (reader->state) {
    case HTTP_EXPECT_STATUS:
        return take_status(reader, byte);
    case HTTP_EXPECT_FIELD:
        if (byte == '\n') {
            reader->state = HTTP_IN_BODY;
            return true;
        }
        if (byte == '\r') {
            return true;
        }
        reader->match = 0;
        reader->state = HTTP_IN_NAME;
        return take_name(reader, byte);
    case HTTP_IN_NAME:
        return take_name(reader, byte);
    case HTTP_IN_LENGTH:
    case HTTP_IN_DIGITS:
        return take_length(reader, byte);
    default:
        if (byte == '\n') {
            reader->state = HTTP_EXPECT_FIELD;
        }
        return true;
    }
}

/* Answers that never have a body (RFC 9112 section 6.3). */
static bool bodiless(uint16_t status)
{
    return status == 204 || status == 304;
}

static size_t take_body(struct http_reader *reader, size_t length, enum http_event *event)
{
    uint64_t left = reader->has_length ? reader->length - reader->body : UINT64_MAX;
    size_t count = length < left ? length : (size_t)left;
    reader->body += count;
    *event = HTTP_MORE;
    if (reader->has_length && reader->body == reader->length) {
        *event = HTTP_DONE;
        http_reader_init(reader);
    }
    return count;
}

size_t http_reader_feed(struct http_reader *reader, const uint8_t *bytes, size_t length, enum http_event *event)
{
    if (reader->state == HTTP_IN_BODY) {
        return take_body(reader, length, event);
    }
    for (size_t i = 0; i < length; i++) {
        if (!take_head(reader, bytes[i]) || ++reader->head_bytes > HTTP_HEAD_MAX_BYTES) {
            *event = HTTP_BROKEN;
            return i;
        }
        if (reader->state == HTTP_IN_BODY) {
            if (bodiless(reader->status)) {
                reader->has_length = 1;
                reader->length = 0;
            }
            *event = HTTP_HEAD;
            return i + 1;
        }
    }
    *event = HTTP_MORE;
    return length;
}
