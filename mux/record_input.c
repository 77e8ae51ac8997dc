/*
 * Receiving: records are cut out of the input and decrypted where they are; one that is incomplete is collected in
 * memory that the connection owns until it is whole. Then what is in them: data, alerts, and the few handshake messages
 * that an established connection may see. Handshake messages may be split over records; of none more than its first 5
 * bytes is kept.
 */
#include "mux/record_internal.h"

#include <assert.h>
#include <string.h>

#include "mux/memory.h"

#define PARTIAL_BYTES_MIN    64U
#define MESSAGE_HEADER_BYTES 4U

/* A piece of decrypted content, while it is taken apart. */
struct content {
    const uint8_t *bytes;
    size_t length;
};

static enum error_code broken(struct record_state *record, const struct record_sink *sink, enum record_alert alert)
{
    return record_fail(record, sink, ERROR_TLS_RECORD, (int)alert);
}

static void partial_free(struct record_partial **partial)
{
    struct record_partial *gone = *partial;

    *partial = NULL;
    if (gone != NULL) {
        memory_wipe(gone->bytes, gone->capacity); /* decrypted in place */
        memory_free(gone);
    }
}

static bool begun_any(const struct record_begun *begun)
{
    return begun->skip_bytes > 0 || begun->message_length > 0 || begun->alert_begun;
}

static struct record_begun begun_load(const struct record_state *record)
{
    return record->partial != NULL ? record->partial->begun : (struct record_begun){0};
}

static enum error_code begun_store(struct record_state *record, const struct record_sink *sink,
                                   const struct record_begun *begun)
{
    if (record->partial == NULL) {
        if (!begun_any(begun)) {
            return ERROR_NONE;
        }
        record->partial = memory_zalloc(sizeof(*record->partial));
        if (record->partial == NULL) {
            return record_fail_self(record, sink, ERROR_NO_MEMORY);
        }
    }
    record->partial->begun = *begun;
    return ERROR_NONE;
}

void record_dispose(struct record_state *record)
{
    size_t material = record_material_bytes((enum tls_cipher_suite)record->suite, record->version_13);

    partial_free(&record->partial);
    tls_cipher_forget(record);
    memory_wipe(record, sizeof(*record) + material);
}

/* ---- handshake messages ---- */

static bool message_begun(const struct record_begun *begun)
{
    return begun->message_length > 0 || begun->skip_bytes > 0;
}

/* RFC 8446 section 4.6.3. */
static enum error_code take_key_update(struct record_state *record, const struct record_sink *sink, uint8_t request,
                                       bool last_of_record)
{
    if (request > 1) {
        return broken(record, sink, RECORD_ALERT_ILLEGAL_PARAMETER);
    }
    /* What follows it must be under the new key (RFC 8446 section 5.1). */
    if (!last_of_record) {
        return broken(record, sink, RECORD_ALERT_UNEXPECTED_MESSAGE);
    }
    enum error_code error = record_next_keys(record, RECORD_READ);
    if (error != ERROR_NONE) {
        return record_fail_self(record, sink, error);
    }
    record->key_update_asked = 0;
    /* However many come before we send again, one answer is due. */
    record->key_update_due |= request == 1;
    return ERROR_NONE;
}

/* The header of a message of TLS 1.3 is complete: what may it be? */
static enum error_code check_message(struct record_state *record, const struct record_sink *sink,
                                     struct record_begun *begun)
{
    const uint8_t *message = begun->message;
    uint32_t length = (uint32_t)message[1] << 16 | (uint32_t)message[2] << 8 | (uint32_t)message[3];

    if (message[0] == RECORD_MESSAGE_KEY_UPDATE) {
        return length == 1 ? ERROR_NONE : broken(record, sink, RECORD_ALERT_DECODE_ERROR);
    }
    assert(message[0] == RECORD_MESSAGE_NEW_SESSION_TICKET);
    if (length == 0 || length > RECORD_TICKET_BYTES_MAX) {
        return broken(record, sink, RECORD_ALERT_DECODE_ERROR);
    }
    begun->skip_bytes = length;
    begun->message_length = 0;
    return ERROR_NONE;
}

static void skip_ticket(const struct record_sink *sink, struct record_begun *begun, struct content *content)
{
    size_t part = content->length < begun->skip_bytes ? content->length : begun->skip_bytes;

    content->bytes += part;
    content->length -= part;
    begun->skip_bytes -= (uint32_t)part;
    if (begun->skip_bytes == 0 && sink->events->ticket != NULL) {
        sink->events->ticket(sink->owner);
    }
}

/* One byte of a message's first 5. */
static enum error_code take_message_byte(struct record_state *record, const struct record_sink *sink,
                                         struct record_begun *begun, uint8_t byte, bool last_of_record)
{
    if (begun->message_length == 0) {
        bool ticket = byte == RECORD_MESSAGE_NEW_SESSION_TICKET && !record->server;
        if (byte != RECORD_MESSAGE_KEY_UPDATE && !ticket) {
            return broken(record, sink, RECORD_ALERT_UNEXPECTED_MESSAGE);
        }
    }
    begun->message[begun->message_length++] = byte;
    if (begun->message_length == MESSAGE_HEADER_BYTES) {
        return check_message(record, sink, begun);
    }
    if (begun->message_length == RECORD_MESSAGE_BYTES) {
        begun->message_length = 0;
        return take_key_update(record, sink, byte, last_of_record);
    }
    return ERROR_NONE;
}

static enum error_code take_handshake_13(struct record_state *record, const struct record_sink *sink,
                                         struct record_begun *begun, struct content content)
{
    enum error_code error = ERROR_NONE;

    while (content.length > 0 && error == ERROR_NONE) {
        if (begun->skip_bytes > 0) {
            skip_ticket(sink, begun, &content);
            error = (enum error_code)record->error;
            continue;
        }
        error = take_message_byte(record, sink, begun, content.bytes[0], content.length == 1);
        content.bytes++;
        content.length--;
    }
    return error;
}

/* A warning alert came, or what counts like one. */
static enum error_code count_warning(struct record_state *record, const struct record_sink *sink)
{
    if (record->warning_alerts >= RECORD_WARNING_ALERTS_MAX) {
        return broken(record, sink, RECORD_ALERT_UNEXPECTED_MESSAGE);
    }
    record->warning_alerts = (record->warning_alerts + 1U) & 0x1fU;
    return ERROR_NONE;
}

/* Renegotiation is all that a handshake message can be about in TLS 1.2. A ClientHello is told no_renegotiation and
 * ends the connection; a HelloRequest is declined (RFC 5246 section 7.4.1.1). */
static enum error_code take_handshake_12(struct record_state *record, const struct record_sink *sink,
                                         struct record_begun *begun, struct content content)
{
    for (; content.length > 0; content.bytes++, content.length--) {
        if (begun->message_length == 0) {
            if (record->server && content.bytes[0] == RECORD_MESSAGE_CLIENT_HELLO) {
                return record_fail(record, sink, ERROR_TLS_RENEGOTIATION, RECORD_ALERT_NO_RENEGOTIATION);
            }
            if (record->server || content.bytes[0] != RECORD_MESSAGE_HELLO_REQUEST) {
                return broken(record, sink, RECORD_ALERT_UNEXPECTED_MESSAGE);
            }
        } else if (content.bytes[0] != 0) {
            return broken(record, sink, RECORD_ALERT_DECODE_ERROR);
        }
        if (++begun->message_length < MESSAGE_HEADER_BYTES) {
            continue;
        }
        begun->message_length = 0;
        enum error_code error = count_warning(record, sink);
        if (error == ERROR_NONE && record->output == RECORD_OPEN) {
            error = record_send_alert(record, sink, RECORD_ALERT_WARNING, RECORD_ALERT_NO_RENEGOTIATION);
            error = error == ERROR_NONE ? ERROR_NONE : record_fail_self(record, sink, error);
        }
        if (error != ERROR_NONE) {
            return error;
        }
    }
    return ERROR_NONE;
}

/* ---- alerts ---- */

static void take_end(struct record_state *record, const struct record_sink *sink)
{
    record->input = RECORD_ENDED;
    if (sink->events->end != NULL) {
        sink->events->end(sink->owner);
    }
}

static enum error_code take_fatal_alert(struct record_state *record, const struct record_sink *sink, uint8_t alert)
{
    if (record->error == ERROR_NONE) {
        record->alert = alert;
        record->alert_received = 1;
    }
    return record_fail(record, sink, ERROR_TLS_ALERT, RECORD_NO_ALERT);
}

/* In TLS 1.3 the description alone decides (RFC 8446 section 6): all but two are fatal. */
static enum error_code take_alert_13(struct record_state *record, const struct record_sink *sink,
                                     const struct record_begun *begun, struct content content)
{
    /* Never split, never two in one record (RFC 8446 section 5.1). */
    if (content.length != 2) {
        return broken(record, sink, RECORD_ALERT_DECODE_ERROR);
    }
    switch (content.bytes[1]) {
    case RECORD_ALERT_CLOSE_NOTIFY:
        take_end(record, sink);
        return (enum error_code)record->error;
    case RECORD_ALERT_USER_CANCELED:
        /* RFC 8446 section 5.1: nothing comes between the parts of a handshake message. */
        return message_begun(begun) ? broken(record, sink, RECORD_ALERT_UNEXPECTED_MESSAGE)
                                    : count_warning(record, sink);
    default:
        return take_fatal_alert(record, sink, content.bytes[1]);
    }
}

static enum error_code take_alert_12(struct record_state *record, const struct record_sink *sink, uint8_t level,
                                     uint8_t alert)
{
    if (level == RECORD_ALERT_FATAL) {
        return take_fatal_alert(record, sink, alert);
    }
    if (level != RECORD_ALERT_WARNING) {
        return broken(record, sink, RECORD_ALERT_ILLEGAL_PARAMETER);
    }
    if (alert == RECORD_ALERT_CLOSE_NOTIFY) {
        take_end(record, sink);
        return (enum error_code)record->error;
    }
    return count_warning(record, sink);
}

/* TLS 1.2 may split and join them like any other content. */
static enum error_code take_alerts_12(struct record_state *record, const struct record_sink *sink,
                                      struct record_begun *begun, struct content content)
{
    enum error_code error = ERROR_NONE;

    while (content.length > 0 && error == ERROR_NONE && record->input == RECORD_OPEN) {
        if (begun->alert_begun) {
            begun->alert_begun = 0;
            error = take_alert_12(record, sink, begun->alert_level, content.bytes[0]);
        } else {
            begun->alert_begun = 1;
            begun->alert_level = content.bytes[0];
        }
        content.bytes++;
        content.length--;
    }
    return error;
}

/* ---- records ---- */

static enum error_code take_data(struct record_state *record, const struct record_sink *sink, struct content content)
{
    if (content.length == 0) {
        return ERROR_NONE;
    }
    record->idle_records = 0;
    sink->events->data(sink->owner, content.bytes, content.length);
    return (enum error_code)record->error;
}

static enum error_code take_handshake(struct record_state *record, const struct record_sink *sink,
                                      struct record_begun *begun, struct content content)
{
    enum error_code error = record->version_13 ? take_handshake_13(record, sink, begun, content)
                                               : take_handshake_12(record, sink, begun, content);

    if (error == ERROR_NONE && sink->events->handshake != NULL) {
        sink->events->handshake(sink->owner);
    }
    return error;
}

static enum error_code take_content(struct record_state *record, const struct record_sink *sink, uint8_t type,
                                    struct content content)
{
    struct record_begun begun = begun_load(record);
    bool idle = type != RECORD_TYPE_APPLICATION_DATA || content.length == 0;
    enum error_code error = ERROR_NONE;

    if (idle && record->idle_records >= RECORD_IDLE_MAX) {
        return broken(record, sink, RECORD_ALERT_UNEXPECTED_MESSAGE);
    }
    record->idle_records = idle ? (record->idle_records + 1U) & 0x7ffU : record->idle_records;
    /* RFC 8446 section 5.4, RFC 5246 section 6.2.1: only application data may be empty. */
    if (type != RECORD_TYPE_APPLICATION_DATA && content.length == 0) {
        return broken(record, sink, RECORD_ALERT_UNEXPECTED_MESSAGE);
    }
    switch (type) {
    case RECORD_TYPE_APPLICATION_DATA:
        /* RFC 8446 section 5.1: nothing comes between the parts of a handshake message. */
        if (message_begun(&begun) && record->version_13) {
            return broken(record, sink, RECORD_ALERT_UNEXPECTED_MESSAGE);
        }
        return take_data(record, sink, content);
    case RECORD_TYPE_ALERT:
        error = record->version_13 ? take_alert_13(record, sink, &begun, content)
                                   : take_alerts_12(record, sink, &begun, content);
        break;
    case RECORD_TYPE_HANDSHAKE:
        error = take_handshake(record, sink, &begun, content);
        break;
    default:
        return broken(record, sink, RECORD_ALERT_UNEXPECTED_MESSAGE);
    }
    return error == ERROR_NONE ? begun_store(record, sink, &begun) : error;
}

/* TLSInnerPlaintext (RFC 8446 section 5.4): the type is the last byte that is not zero. */
static enum error_code take_inner(struct record_state *record, const struct record_sink *sink, struct content inner)
{
    if (inner.length > record_plaintext_max(record, RECORD_READ) + 1) {
        return broken(record, sink, RECORD_ALERT_RECORD_OVERFLOW);
    }
    while (inner.length > 0 && inner.bytes[inner.length - 1] == 0) {
        inner.length--;
    }
    if (inner.length == 0) {
        return broken(record, sink, RECORD_ALERT_UNEXPECTED_MESSAGE);
    }
    inner.length--;
    return take_content(record, sink, inner.bytes[inner.length], inner);
}

/* What can be said of a record before its body has come. In TLS 1.3 the version says nothing (RFC 8446 section 5.1),
 * but it is authenticated with the rest of the header. */
enum error_code record_check_header(struct record_state *record, const struct record_sink *sink,
                                    const uint8_t header[RECORD_HEADER_BYTES])
{
    size_t length = (size_t)header[3] << 8 | header[4];
    size_t expansion = record->version_13 ? RECORD_EXPANSION_MAX_13 : RECORD_EXPANSION_MAX_12;
    /* In TLS 1.3 even a content of nothing has a type; that it is missing shows when the record is authentic. */
    size_t least = record_explicit_bytes(record) + TLS_CIPHER_TAG_BYTES;
    bool known = record->version_13 ? header[0] == RECORD_TYPE_APPLICATION_DATA
                                    : header[0] >= RECORD_TYPE_ALERT && header[0] <= RECORD_TYPE_APPLICATION_DATA;

    if (!known) {
        return broken(record, sink, RECORD_ALERT_UNEXPECTED_MESSAGE);
    }
    if (!record->version_13 && (header[1] != 3 || header[2] != 3)) {
        return broken(record, sink, RECORD_ALERT_PROTOCOL_VERSION);
    }
    if (length > record_plaintext_max(record, RECORD_READ) + expansion) {
        return broken(record, sink, RECORD_ALERT_RECORD_OVERFLOW);
    }
    if (length < least) {
        return broken(record, sink, RECORD_ALERT_BAD_RECORD_MAC);
    }
    return ERROR_NONE;
}

/* A whole record, decrypted in place. */
static enum error_code take_record(struct record_state *record, const struct record_sink *sink, uint8_t *bytes,
                                   size_t length)
{
    struct tls_cipher *cipher = NULL;
    uint8_t nonce[TLS_CIPHER_NONCE_BYTES];
    uint8_t additional[RECORD_ADDITIONAL_BYTES_MAX];
    size_t front = record_explicit_bytes(record);
    uint8_t *body = bytes + RECORD_HEADER_BYTES;
    uint8_t *sealed = body + front;
    size_t sealed_length = length - RECORD_HEADER_BYTES - front;
    struct content content = {.bytes = sealed, .length = sealed_length - TLS_CIPHER_TAG_BYTES};

    if (sink->events->record != NULL) {
        sink->events->record(sink->owner, bytes, length);
    }
    if (record->sequence[RECORD_READ] == UINT64_MAX) {
        return record_fail_self(record, sink, ERROR_LIMIT); /* it must not wrap (RFC 8446 section 5.3) */
    }
    enum error_code error = record_cipher(record, RECORD_READ, &cipher);
    if (error != ERROR_NONE) {
        return record_fail_self(record, sink, error);
    }
    record_nonce(record, RECORD_READ, cipher, front > 0 ? body : NULL, nonce);
    size_t additional_length = record_additional(record, RECORD_READ, bytes, content.length, additional);
    error = tls_cipher_unseal(cipher, nonce, additional, additional_length, sealed, sealed_length);
    if (error == ERROR_TLS_RECORD) {
        return broken(record, sink, RECORD_ALERT_BAD_RECORD_MAC);
    }
    if (error != ERROR_NONE) {
        return record_fail_self(record, sink, error);
    }
    record->sequence[RECORD_READ]++;
    if (record->version_13) {
        return take_inner(record, sink, content);
    }
    if (content.length > record_plaintext_max(record, RECORD_READ)) {
        return broken(record, sink, RECORD_ALERT_RECORD_OVERFLOW);
    }
    return take_content(record, sink, bytes[0], content);
}

/* ---- input ---- */

/* Room for `length` bytes in all, of a record that will have `whole`: twice what there is, if that is more. */
enum error_code record_partial_reserve(struct record_state *record, size_t length, size_t whole)
{
    struct record_partial *old = record->partial;
    size_t capacity = 2 * length;

    if (old != NULL && old->capacity >= length) {
        return ERROR_NONE;
    }
    capacity = capacity < whole ? capacity : whole;
    capacity = capacity < PARTIAL_BYTES_MIN ? PARTIAL_BYTES_MIN : capacity;
    /* What is copied is ciphertext: no copy is to be wiped. */
    struct record_partial *grown = memory_realloc(old, sizeof(*grown) + capacity);
    if (grown == NULL) {
        return ERROR_NO_MEMORY;
    }
    if (old == NULL) {
        grown->begun = (struct record_begun){0};
        grown->length = 0;
    }
    grown->capacity = (uint32_t)capacity;
    record->partial = grown;
    return ERROR_NONE;
}

/* No record is incomplete any more: nothing is kept but what has begun in it. */
static void partial_settle(struct record_state *record)
{
    struct record_begun begun = record->partial->begun;

    if (!begun_any(&begun)) {
        partial_free(&record->partial);
        return;
    }
    memory_wipe(record->partial->bytes, record->partial->capacity);
    struct record_partial *shrunk = memory_realloc(record->partial, sizeof(*shrunk));
    if (shrunk != NULL) {
        shrunk->capacity = 0;
        record->partial = shrunk;
    }
}

static enum error_code partial_append(struct record_state *record, const struct record_sink *sink,
                                      struct content *input, size_t length, size_t whole)
{
    size_t held = record->partial == NULL ? 0 : record->partial->length;
    enum error_code error = record_partial_reserve(record, held + length, whole);

    if (error != ERROR_NONE) {
        return record_fail_self(record, sink, error);
    }
    memcpy(record->partial->bytes + held, input->bytes, length);
    record->partial->length += (uint32_t)length;
    input->bytes += length;
    input->length -= length;
    return ERROR_NONE;
}

/* Goes on with the record that is incomplete, as far as the input goes; a whole one is taken and its memory freed. */
static enum error_code continue_partial(struct record_state *record, const struct record_sink *sink,
                                        struct content *input)
{
    size_t held = record->partial == NULL ? 0 : record->partial->length;

    if (held < RECORD_HEADER_BYTES) {
        size_t missing = RECORD_HEADER_BYTES - held;
        size_t part = input->length < missing ? input->length : missing;
        enum error_code error = partial_append(record, sink, input, part, RECORD_BYTES_MAX);
        if (error != ERROR_NONE || part < missing) {
            return error;
        }
        error = record_check_header(record, sink, record->partial->bytes);
        if (error != ERROR_NONE) {
            return error;
        }
    }
    const uint8_t *header = record->partial->bytes;
    size_t whole = RECORD_HEADER_BYTES + ((size_t)header[3] << 8 | header[4]);
    size_t missing = whole - record->partial->length;
    size_t part = input->length < missing ? input->length : missing;
    enum error_code error = partial_append(record, sink, input, part, whole);
    if (error != ERROR_NONE || part < missing) {
        return error;
    }
    record->partial->length = 0; /* its bytes stay while the record is taken apart */
    error = take_record(record, sink, record->partial->bytes, whole);
    partial_settle(record);
    return error;
}

/* Takes a record that is whole in the input, where it is. False when it is not whole. */
static bool take_whole(struct record_state *record, const struct record_sink *sink, uint8_t *bytes, size_t length,
                       size_t *taken, enum error_code *error)
{
    if (length < RECORD_HEADER_BYTES) {
        return false;
    }
    *error = record_check_header(record, sink, bytes);
    if (*error != ERROR_NONE) {
        return true;
    }
    size_t whole = RECORD_HEADER_BYTES + ((size_t)bytes[3] << 8 | bytes[4]);
    if (whole > length) {
        return false;
    }
    *taken = whole;
    *error = take_record(record, sink, bytes, whole);
    return true;
}

enum error_code record_receive(struct record_state *record, const struct record_sink *sink, uint8_t *bytes,
                               size_t length)
{
    enum error_code error = ERROR_NONE;

    if (record->error != ERROR_NONE) {
        return ERROR_STATE;
    }
    while (length > 0 && error == ERROR_NONE && record->input == RECORD_OPEN) {
        size_t taken = 0;
        bool between = record->partial == NULL || record->partial->length == 0;
        if (between && take_whole(record, sink, bytes, length, &taken, &error)) {
            bytes += taken;
            length -= taken;
            if (record->partial != NULL) {
                partial_settle(record);
            }
            continue;
        }
        struct content input = {.bytes = bytes, .length = length};
        error = continue_partial(record, sink, &input);
        bytes += length - input.length;
        length = input.length;
    }
    return error == ERROR_NONE ? record_send_due(record, sink) : error;
}

size_t record_bytes_wanted(const struct record_state *record, const uint8_t *bytes, size_t length)
{
    uint8_t header[RECORD_HEADER_BYTES];
    size_t held = record->partial == NULL ? 0 : record->partial->length;
    size_t known = held < RECORD_HEADER_BYTES ? held : RECORD_HEADER_BYTES;
    size_t missing = RECORD_HEADER_BYTES - known;

    if (length <= missing) {
        return length;
    }
    if (known > 0) {
        memcpy(header, record->partial->bytes, known);
    }
    memcpy(header + known, bytes, missing);
    size_t wanted = RECORD_HEADER_BYTES + ((size_t)header[3] << 8 | header[4]) - held;
    return wanted < length ? wanted : length;
}
