/*
 * Client metadata to header fields and back. What comes from the peer is not trusted: lengths, alphabets and repeats
 * are checked before anything is kept. The parser owns one block of memory, reused for each request. One thread.
 */
#include "mux/metadata.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "mux/memory.h"
#include "mux/tls.h"

#define FIELD_OVERHEAD_BYTES 32U /* RFC 9113 section 10.5.1 */

enum field_bit {
    FIELD_METHOD = 1,
    FIELD_AUTHORITY = 2,
    FIELD_FORWARDED = 4,
    FIELD_CERTIFICATE = 8,
    FIELD_SERVER_NAME = 16,
    FIELD_ALPN = 32,
    FIELD_TLS = 64,
    FIELD_SESSION = 128,
    FIELD_RECEIVED = 256,
    FIELD_ACKNOWLEDGED = 512,
    FIELD_NOTE = 1024,
    FIELD_UNCONSUMED = 2048,
};

#define FIELD_NAME_SERVER_NAME  "trunkline-sni"
#define FIELD_NAME_ALPN         "trunkline-alpn"
#define FIELD_NAME_TLS          "trunkline-tls"
#define FIELD_NAME_SESSION      "trunkline-session"
#define FIELD_NAME_ACKNOWLEDGED "trunkline-acknowledged"
#define FIELD_NAME_UNCONSUMED   "trunkline-unconsumed"
#define FIELD_NAME_NOTE         "trunkline-note"

/* Visible ASCII without a space: what names may hold. */
static bool text_visible(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] <= ' ' || text[i] > '~') {
            return false;
        }
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------ encoding */

struct encoder {
    char *room;
    size_t used;
    size_t capacity;
    struct metadata_field *fields;
    size_t count;
    enum error_code error;
};

static void encoder_add(struct encoder *encoder, const char *name, const char *value, size_t length, bool unique)
{
    if (encoder->error != ERROR_NONE) {
        return;
    }
    if (encoder->count == METADATA_FIELDS_MAX || length > UINT16_MAX) {
        encoder->error = ERROR_LIMIT;
        return;
    }
    encoder->fields[encoder->count++] = (struct metadata_field){
        .name = name,
        .value = value,
        .name_length = (uint16_t)strlen(name),
        .value_length = (uint16_t)length,
        .unique = unique,
    };
}

/* Space for `length` bytes in the room, or NULL with the error set. */
static char *encoder_take(struct encoder *encoder, size_t length)
{
    if (encoder->error != ERROR_NONE || encoder->capacity - encoder->used < length) {
        encoder->error = encoder->error != ERROR_NONE ? encoder->error : ERROR_LIMIT;
        return NULL;
    }
    char *place = encoder->room + encoder->used;
    encoder->used += length;
    return place;
}

static void encode_forwarded(struct encoder *encoder, const struct metadata *metadata)
{
    if (metadata->client.family == 0) {
        return;
    }
    struct address address;
    char client[ADDRESS_TEXT_MAX];
    char listener[ADDRESS_TEXT_MAX];
    address_unpack(&metadata->client, &address);
    address_format(&address, client);
    char *value = encoder_take(encoder, 2 * ADDRESS_TEXT_MAX);
    if (value == NULL) {
        return;
    }
    int length;
    /* RFC 7239 section 4: an address with a port must be quoted. */
    if (metadata->listener.family != 0) {
        address_unpack(&metadata->listener, &address);
        address_format(&address, listener);
        length = snprintf(value, 2 * ADDRESS_TEXT_MAX, "for=\"%s\";by=\"%s\"", client, listener);
    } else {
        length = snprintf(value, 2 * ADDRESS_TEXT_MAX, "for=\"%s\"", client);
    }
    encoder_add(encoder, "forwarded", value, (size_t)length, true);
}

/* RFC 9440 section 2.1: a structured-field byte sequence, the DER in base64 between colons. */
static void encode_certificate(struct encoder *encoder, const struct metadata *metadata)
{
    if (metadata->certificate_length == 0) {
        return;
    }
    if (metadata->certificate_length > METADATA_CERTIFICATE_MAX) {
        encoder->error = ERROR_LIMIT;
        return;
    }
    size_t capacity = 4U * (((size_t)metadata->certificate_length + 2U) / 3U) + 3U;
    char *value = encoder_take(encoder, capacity);
    if (value == NULL) {
        return;
    }
    size_t written = 0;
    value[0] = ':';
    enum error_code error =
        tls_base64_encode(metadata->certificate, metadata->certificate_length, value + 1, capacity - 1, &written);
    if (error != ERROR_NONE) {
        encoder->error = error;
        return;
    }
    value[written + 1] = ':';
    encoder_add(encoder, "client-cert", value, written + 2, true);
}

static void encode_text(struct encoder *encoder, const char *name, const char *text, size_t longest)
{
    size_t length = text != NULL ? strlen(text) : 0;
    if (length == 0) {
        return;
    }
    if (length > longest || !text_visible(text, length)) {
        encoder->error = ERROR_INVALID;
        return;
    }
    encoder_add(encoder, name, text, length, false);
}

static void encode_tls(struct encoder *encoder, const struct metadata *metadata)
{
    if (metadata->tls_version == 0) {
        return;
    }
    char *value = encoder_take(encoder, 32);
    if (value != NULL) {
        int length = snprintf(value, 32, "version=%04x;suite=%04x", metadata->tls_version, metadata->tls_suite);
        encoder_add(encoder, FIELD_NAME_TLS, value, (size_t)length, false);
    }
}

size_t metadata_format_received(uint32_t received, char text[METADATA_RECEIVED_TEXT])
{
    return (size_t)snprintf(text, METADATA_RECEIVED_TEXT, "%" PRIu32, received);
}

/* A structured-field byte sequence (RFC 8941 section 3.3.5) with parameters. */
static void encode_note(struct encoder *encoder, const struct metadata_note *note)
{
    if (note->bytes == NULL) {
        return;
    }
    size_t capacity = 4U * (((size_t)note->length + 2U) / 3U) + 64U;
    char *value = encoder_take(encoder, capacity);
    if (value == NULL) {
        return;
    }
    size_t written = 0;
    value[0] = ':';
    enum error_code error = note->length > 0
                                ? tls_base64_encode(note->bytes, note->length, value + 1, capacity - 60, &written)
                                : ERROR_NONE;
    if (error != ERROR_NONE) {
        encoder->error = error;
        return;
    }
    int rest = snprintf(value + 1 + written, capacity - 1 - written, ":;sent=%" PRIu32 ";consumed=%" PRIu32, note->sent,
                        note->consumed);
    encoder_add(encoder, FIELD_NAME_NOTE, value, 1 + written + (size_t)rest, true);
}

static void encode_number(struct encoder *encoder, const char *name, uint32_t number)
{
    char *value = encoder_take(encoder, METADATA_RECEIVED_TEXT);
    if (value != NULL) {
        encoder_add(encoder, name, value, metadata_format_received(number, value), true);
    }
}

static void encode_session(struct encoder *encoder, const struct metadata_session *session)
{
    static const char digits[] = "0123456789abcdef";
    if (!session->known) {
        return;
    }
    char *value = encoder_take(encoder, 2U * METADATA_SESSION_BYTES);
    if (value != NULL) {
        for (size_t i = 0; i < METADATA_SESSION_BYTES; i++) {
            value[2 * i] = digits[session->id[i] >> 4];
            value[2 * i + 1] = digits[session->id[i] & 15U];
        }
        encoder_add(encoder, FIELD_NAME_SESSION, value, 2U * METADATA_SESSION_BYTES, true);
    }
    if (session->resumes) {
        encode_number(encoder, METADATA_RECEIVED_FIELD, session->received);
    }
    if (session->reopens) {
        encode_number(encoder, FIELD_NAME_ACKNOWLEDGED, session->acknowledged);
        if (session->unconsumed > 0) {
            encode_number(encoder, FIELD_NAME_UNCONSUMED, session->unconsumed);
        }
        encode_note(encoder, &session->note);
    }
}

size_t metadata_encode_bytes(const struct metadata *metadata)
{
    return METADATA_ENCODE_BYTES + 4U * ((size_t)metadata->certificate_length + metadata->session.note.length) / 3U +
           80U;
}

enum error_code metadata_encode(const struct metadata *metadata, char *room, size_t capacity,
                                struct metadata_field fields[METADATA_FIELDS_MAX], size_t *count)
{
    struct encoder encoder = {.room = room, .capacity = capacity, .fields = fields};
    if (metadata->service == NULL || metadata->service[0] == 0) {
        return ERROR_INVALID;
    }
    encoder_add(&encoder, ":method", "CONNECT", 7, false);
    encode_text(&encoder, ":authority", metadata->service, METADATA_SERVICE_MAX);
    encode_forwarded(&encoder, metadata);
    encode_text(&encoder, FIELD_NAME_SERVER_NAME, metadata->server_name, TLS_SERVER_NAME_MAX);
    encode_text(&encoder, FIELD_NAME_ALPN, metadata->alpn, TLS_ALPN_MAX);
    encode_tls(&encoder, metadata);
    encode_certificate(&encoder, metadata);
    encode_session(&encoder, &metadata->session);
    *count = encoder.count;
    return encoder.error;
}

/* ------------------------------------------------------------------------------------------------ parsing */

enum error_code metadata_parser_init(struct metadata_parser *parser, size_t limit_bytes)
{
    memset(parser, 0, sizeof(*parser));
    parser->limit_bytes = limit_bytes;
    /* Every kept value gets a terminating zero; what is kept is never more than what came. */
    parser->room_capacity = limit_bytes + 16U;
    parser->room = memory_alloc(parser->room_capacity);
    return parser->room != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
}

void metadata_parser_dispose(struct metadata_parser *parser)
{
    memory_free(parser->room);
    parser->room = NULL;
}

void metadata_parse_begin(struct metadata_parser *parser)
{
    parser->view = (struct metadata){.service = "", .server_name = "", .alpn = "", .edge = ""};
    parser->error = ERROR_NONE;
    parser->connect = 0;
    parser->seen = 0;
    parser->bytes = 0;
    parser->room_used = 0;
}

static void parser_fail(struct metadata_parser *parser, enum error_code error)
{
    if (parser->error == ERROR_NONE) {
        parser->error = error;
    }
}

/* A zero-terminated copy in the room. There is always room: the limit of the request was checked before. */
static char *parser_keep(struct metadata_parser *parser, const char *value, size_t length)
{
    if (parser->room_capacity - parser->room_used < length + 1) {
        parser_fail(parser, ERROR_METADATA_TOO_LARGE);
        return NULL;
    }
    char *copy = parser->room + parser->room_used;
    memcpy(copy, value, length);
    copy[length] = 0;
    parser->room_used += length + 1;
    return copy;
}

static void parse_text(struct metadata_parser *parser, const char **into, const char *value, size_t length,
                       size_t longest)
{
    if (length == 0 || length > longest || !text_visible(value, length)) {
        parser_fail(parser, ERROR_BAD_METADATA);
        return;
    }
    const char *copy = parser_keep(parser, value, length);
    if (copy != NULL) {
        *into = copy;
    }
}

/* `address:port` between quotes. */
static void parse_node(struct metadata_parser *parser, const char *value, size_t length,
                       struct address_compact *compact)
{
    char text[ADDRESS_TEXT_MAX];
    struct address address;
    if (length < 2 || value[0] != '"' || value[length - 1] != '"' || length - 2 >= sizeof(text)) {
        parser_fail(parser, ERROR_BAD_METADATA);
        return;
    }
    memcpy(text, value + 1, length - 2);
    text[length - 2] = 0;
    if (memchr(text, 0, length - 2) != NULL || address_parse(text, false, &address) != ERROR_NONE ||
        address.u.any.sa_family == AF_UNIX) {
        parser_fail(parser, ERROR_BAD_METADATA);
        return;
    }
    address_pack(&address, compact);
}

/* One forwarded-element with for= and, optionally, by= (RFC 7239 section 4); other parameters are skipped. */
static void parse_forwarded(struct metadata_parser *parser, const char *value, size_t length)
{
    const char *end = value + length;
    while (value < end) {
        const char *stop = memchr(value, ';', (size_t)(end - value));
        if (stop == NULL) {
            stop = end;
        }
        size_t size = (size_t)(stop - value);
        if (size > 4 && strncasecmp(value, "for=", 4) == 0) {
            parse_node(parser, value + 4, size - 4, &parser->view.client);
        } else if (size > 3 && strncasecmp(value, "by=", 3) == 0) {
            parse_node(parser, value + 3, size - 3, &parser->view.listener);
        } else if (memchr(value, ',', size) != NULL || memchr(value, '=', size) == NULL) {
            parser_fail(parser, ERROR_BAD_METADATA); /* a list tells of hops that a trunk does not have */
        }
        value = stop < end ? stop + 1 : end;
    }
    if (parser->view.client.family == 0) {
        parser_fail(parser, ERROR_BAD_METADATA);
    }
}

static void parse_certificate(struct metadata_parser *parser, const char *value, size_t length)
{
    size_t written = 0;
    if (length < 3 || value[0] != ':' || value[length - 1] != ':' ||
        length > 4U * ((METADATA_CERTIFICATE_MAX + 2U) / 3U) + 2U) {
        parser_fail(parser, ERROR_BAD_METADATA);
        return;
    }
    uint8_t *place = (uint8_t *)parser->room + parser->room_used;
    size_t capacity = parser->room_capacity - parser->room_used;
    enum error_code error = tls_base64_decode(value + 1, length - 2, place, capacity, &written);
    if (error != ERROR_NONE || written == 0) {
        parser_fail(parser, error == ERROR_NO_MEMORY ? error : ERROR_BAD_METADATA);
        return;
    }
    parser->room_used += written;
    parser->view.certificate = place;
    parser->view.certificate_length = (uint32_t)written;
}

/* The value of a lower-case hexadecimal digit; 16 for anything else. */
static unsigned hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return (unsigned)(c - '0');
    }
    return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10U : 16U;
}

/* `bytes` bytes from twice as many digits, the first of them the highest. */
static bool parse_hex(const char *text, uint8_t *into, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        unsigned high = hex_digit(text[2 * i]);
        unsigned low = hex_digit(text[2 * i + 1]);
        if (high > 15U || low > 15U) {
            return false;
        }
        into[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool hex16(const char *text, uint16_t *value)
{
    uint8_t bytes[2];
    if (!parse_hex(text, bytes, sizeof(bytes))) {
        return false;
    }
    *value = (uint16_t)(bytes[0] << 8 | bytes[1]);
    return true;
}

bool metadata_parse_received(const char *value, size_t length, uint32_t *received)
{
    uint64_t number = 0;
    if (length == 0 || length >= METADATA_RECEIVED_TEXT) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (value[i] < '0' || value[i] > '9') {
            return false;
        }
        number = number * 10U + (uint64_t)(value[i] - '0');
    }
    *received = (uint32_t)number;
    return number <= UINT32_MAX;
}

static void parse_session(struct metadata_parser *parser, const char *value, size_t length)
{
    struct metadata_session *session = &parser->view.session;
    session->known = length == 2U * METADATA_SESSION_BYTES && parse_hex(value, session->id, METADATA_SESSION_BYTES);
    if (!session->known) {
        parser_fail(parser, ERROR_BAD_METADATA);
    }
}

/* ";name=" and a number in front of `end`; NULL when there is something else. */
static const char *parse_parameter(const char *at, const char *end, const char *name, uint32_t *number)
{
    size_t length = strlen(name);
    if ((size_t)(end - at) <= length || memcmp(at, name, length) != 0) {
        return NULL;
    }
    at += length;
    const char *stop = memchr(at, ';', (size_t)(end - at));
    stop = stop != NULL ? stop : end;
    return metadata_parse_received(at, (size_t)(stop - at), number) ? stop : NULL;
}

static void parse_note(struct metadata_parser *parser, const char *value, size_t length)
{
    struct metadata_note *note = &parser->view.session.note;
    const char *end = value + length;
    const char *colon = length > 1 && value[0] == ':' ? memchr(value + 1, ':', length - 1) : NULL;
    const char *at = colon != NULL ? parse_parameter(colon + 1, end, ";sent=", &note->sent) : NULL;
    at = at != NULL ? parse_parameter(at, end, ";consumed=", &note->consumed) : NULL;
    if (at != end || colon - value > 4 * (int)(METADATA_NOTE_MAX + 2U) / 3 + 1) {
        parser_fail(parser, ERROR_BAD_METADATA);
        return;
    }
    uint8_t *place = (uint8_t *)parser->room + parser->room_used;
    size_t written = 0;
    if (colon > value + 1) {
        enum error_code error = tls_base64_decode(value + 1, (size_t)(colon - value) - 1, place,
                                                  parser->room_capacity - parser->room_used, &written);
        if (error != ERROR_NONE || written > METADATA_NOTE_MAX) {
            parser_fail(parser, error == ERROR_NO_MEMORY ? error : ERROR_BAD_METADATA);
            return;
        }
    }
    parser->room_used += written;
    note->bytes = place;
    note->length = (uint32_t)written;
}

/* An integer (RFC 8941 section 3.3.1). */
static bool parse_number(struct metadata_parser *parser, const char *value, size_t length, uint32_t *number)
{
    if (!metadata_parse_received(value, length, number)) {
        parser_fail(parser, ERROR_BAD_METADATA);
        return false;
    }
    return true;
}

/* "version=0304;suite=1301" */
static void parse_tls(struct metadata_parser *parser, const char *value, size_t length)
{
    if (length != 23 || memcmp(value, "version=", 8) != 0 || memcmp(value + 12, ";suite=", 7) != 0 ||
        !hex16(value + 8, &parser->view.tls_version) || !hex16(value + 19, &parser->view.tls_suite)) {
        parser_fail(parser, ERROR_BAD_METADATA);
    }
}

static const struct {
    const char *name;
    enum field_bit bit;
} parser_fields[] = {
    {":method", FIELD_METHOD},
    {":authority", FIELD_AUTHORITY},
    {"forwarded", FIELD_FORWARDED},
    {"client-cert", FIELD_CERTIFICATE},
    {FIELD_NAME_SERVER_NAME, FIELD_SERVER_NAME},
    {FIELD_NAME_ALPN, FIELD_ALPN},
    {FIELD_NAME_TLS, FIELD_TLS},
    {FIELD_NAME_SESSION, FIELD_SESSION},
    {METADATA_RECEIVED_FIELD, FIELD_RECEIVED},
    {FIELD_NAME_ACKNOWLEDGED, FIELD_ACKNOWLEDGED},
    {FIELD_NAME_UNCONSUMED, FIELD_UNCONSUMED},
    {FIELD_NAME_NOTE, FIELD_NOTE},
};

static unsigned parser_field_bit(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof(parser_fields) / sizeof(parser_fields[0]); i++) {
        if (strlen(parser_fields[i].name) == length && memcmp(parser_fields[i].name, name, length) == 0) {
            return parser_fields[i].bit;
        }
    }
    return 0;
}

void metadata_parse_field(struct metadata_parser *parser, const char *name, size_t name_length, const char *value,
                          size_t value_length)
{
    parser->bytes += name_length + value_length + FIELD_OVERHEAD_BYTES;
    if (parser->bytes > parser->limit_bytes) {
        parser_fail(parser, ERROR_METADATA_TOO_LARGE);
    }
    struct metadata_session *session = &parser->view.session;
    unsigned bit = parser_field_bit(name, name_length);
    if (bit == FIELD_METHOD) {
        parser->connect = value_length == 7 && memcmp(value, "CONNECT", 7) == 0;
    }
    if (parser->error != ERROR_NONE || bit == 0) {
        return;
    }
    if (parser->seen & bit) {
        parser_fail(parser, ERROR_BAD_METADATA);
        return;
    }
    parser->seen |= (uint16_t)bit;
    switch (bit) {
    case FIELD_AUTHORITY:
        parse_text(parser, &parser->view.service, value, value_length, METADATA_SERVICE_MAX);
        break;
    case FIELD_FORWARDED:
        parse_forwarded(parser, value, value_length);
        break;
    case FIELD_CERTIFICATE:
        parse_certificate(parser, value, value_length);
        break;
    case FIELD_SERVER_NAME:
        parse_text(parser, &parser->view.server_name, value, value_length, TLS_SERVER_NAME_MAX);
        break;
    case FIELD_ALPN:
        parse_text(parser, &parser->view.alpn, value, value_length, TLS_ALPN_MAX);
        break;
    case FIELD_TLS:
        parse_tls(parser, value, value_length);
        break;
    case FIELD_SESSION:
        parse_session(parser, value, value_length);
        break;
    case FIELD_RECEIVED:
        session->resumes = parse_number(parser, value, value_length, &session->received);
        break;
    case FIELD_ACKNOWLEDGED:
        session->reopens = parse_number(parser, value, value_length, &session->acknowledged);
        break;
    case FIELD_UNCONSUMED:
        (void)parse_number(parser, value, value_length, &session->unconsumed);
        break;
    case FIELD_NOTE:
        parse_note(parser, value, value_length);
        break;
    default:
        break;
    }
}

enum error_code metadata_parse_end(struct metadata_parser *parser)
{
    if (!parser->connect) {
        return ERROR_METHOD_NOT_ALLOWED;
    }
    const struct metadata_session *session = &parser->view.session;
    if (!(parser->seen & FIELD_AUTHORITY) || (session->resumes && !session->known) ||
        (session->reopens && !session->resumes)) {
        parser_fail(parser, ERROR_BAD_METADATA);
    }
    return parser->error;
}

/* ------------------------------------------------------------------------------------------------ copies */

size_t metadata_copy_bytes(const struct metadata *metadata)
{
    return strlen(metadata->service) + strlen(metadata->server_name) + strlen(metadata->alpn) + 4U +
           (metadata->edge != NULL ? strlen(metadata->edge) : 0) + metadata->certificate_length;
}

static const char *copy_text(char **place, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = memcpy(*place, text, bytes);
    *place += bytes;
    return copy;
}

void metadata_copy_into(struct metadata *copy, char *place, const struct metadata *metadata)
{
    *copy = *metadata;
    copy->service = copy_text(&place, metadata->service);
    copy->server_name = copy_text(&place, metadata->server_name);
    copy->alpn = copy_text(&place, metadata->alpn);
    copy->edge = copy_text(&place, metadata->edge != NULL ? metadata->edge : "");
    copy->certificate = NULL;
    if (metadata->certificate_length > 0) {
        copy->certificate = memcpy(place, metadata->certificate, metadata->certificate_length);
    }
}
