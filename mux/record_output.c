/*
 * Sending: one record at a time is made in memory of the thread and handed to `output`, so that a connection needs none
 * of its own. KeyUpdate, alerts and data all leave through record_seal, which alone counts sequence numbers.
 */
#include "mux/record_internal.h"

#include <assert.h>
#include <string.h>

#include "mux/memory.h"

/* Room for any record that is sent: header, nonce, content, its type, tag. Holds ciphertext only when it is at rest. */
static _Thread_local uint8_t
    scratch[RECORD_HEADER_BYTES + RECORD_EXPLICIT_NONCE_BYTES + RECORD_PLAINTEXT_MAX + 1 + TLS_CIPHER_TAG_BYTES];

/* One record. The sequence number is used up even when the library fails halfway: a nonce is never tried twice. */
static enum error_code record_seal(struct record_state *record, const struct record_sink *sink, enum record_type type,
                                   const uint8_t *bytes, size_t length)
{
    struct tls_cipher *cipher = NULL;
    uint8_t nonce[TLS_CIPHER_NONCE_BYTES];
    uint8_t additional[RECORD_ADDITIONAL_BYTES_MAX];
    size_t front = record_explicit_bytes(record);
    size_t inner = length + (record->version_13 ? 1 : 0);
    size_t body = front + inner + TLS_CIPHER_TAG_BYTES;
    uint8_t *content = scratch + RECORD_HEADER_BYTES + front;
    enum error_code error = record_cipher(record, RECORD_WRITE, &cipher);

    if (error != ERROR_NONE) {
        return error;
    }
    scratch[0] = (uint8_t)(record->version_13 ? RECORD_TYPE_APPLICATION_DATA : type);
    scratch[1] = 3;
    scratch[2] = 3;
    scratch[3] = (uint8_t)(body >> 8);
    scratch[4] = (uint8_t)body;
    for (size_t i = 0; i < front; i++) {
        scratch[RECORD_HEADER_BYTES + i] = (uint8_t)(record->sequence[RECORD_WRITE] >> (56 - 8 * i));
    }
    memcpy(content, bytes, length);
    if (record->version_13) {
        content[length] = (uint8_t)type;
    }
    record_nonce(record, RECORD_WRITE, cipher, front > 0 ? scratch + RECORD_HEADER_BYTES : NULL, nonce);
    size_t additional_length = record_additional(record, RECORD_WRITE, scratch, length, additional);
    record->sequence[RECORD_WRITE]++;
    error = tls_cipher_seal(cipher, nonce, additional, additional_length, content, inner);
    if (error != ERROR_NONE) {
        memory_wipe(content, inner);
        return error;
    }
    sink->events->output(sink->owner, scratch, RECORD_HEADER_BYTES + body);
    return ERROR_NONE;
}

enum error_code record_send_alert(struct record_state *record, const struct record_sink *sink,
                                  enum record_alert_level level, uint8_t alert)
{
    uint8_t bytes[2] = {(uint8_t)level, alert};

    return record_seal(record, sink, RECORD_TYPE_ALERT, bytes, sizeof(bytes));
}

/* RFC 8446 section 4.6.3: the message goes under the old key. */
static enum error_code send_key_update(struct record_state *record, const struct record_sink *sink, bool ask_peer)
{
    uint8_t message[RECORD_MESSAGE_BYTES] = {RECORD_MESSAGE_KEY_UPDATE, 0, 0, 1, ask_peer ? 1 : 0};
    enum error_code error = record_seal(record, sink, RECORD_TYPE_HANDSHAKE, message, sizeof(message));

    if (error != ERROR_NONE) {
        return record_fail_self(record, sink, error);
    }
    error = record_next_keys(record, RECORD_WRITE);
    if (error != ERROR_NONE) {
        /* The peer expects the new key, which we have not: nothing that it could read can be sent. */
        return record_fail(record, sink, error, RECORD_NO_ALERT);
    }
    if (!ask_peer) {
        record->key_update_due = 0;
    } else {
        record->key_update_asked = 1;
    }
    return ERROR_NONE;
}

enum error_code record_send_due(struct record_state *record, const struct record_sink *sink)
{
    if (record->output != RECORD_OPEN || record->error != ERROR_NONE) {
        return (enum error_code)record->error;
    }
    /* The answer asks for nothing, or two peers would keep each other busy for ever. */
    if (record->key_update_due) {
        return send_key_update(record, sink, false);
    }
    bool worn = record->version_13 && record->sequence[RECORD_READ] >= RECORD_KEY_RECORDS_MAX;
    if (worn && !record->key_update_asked && record->input == RECORD_OPEN) {
        return send_key_update(record, sink, true);
    }
    return ERROR_NONE;
}

/* Before each record of data: the KeyUpdate that is due, and fresh keys when these are used up. */
static enum error_code prepare_keys(struct record_state *record, const struct record_sink *sink)
{
    enum error_code error = record->key_update_due ? record_send_due(record, sink) : ERROR_NONE;

    if (error != ERROR_NONE) {
        return error;
    }
    if (record->version_13) {
        return record->sequence[RECORD_WRITE] >= RECORD_KEY_RECORDS_MAX ? send_key_update(record, sink, false)
                                                                        : ERROR_NONE;
    }
    return record->sequence[RECORD_WRITE] >= RECORD_KEY_RECORDS_MAX_12 ? record_fail_self(record, sink, ERROR_LIMIT)
                                                                       : ERROR_NONE;
}

enum error_code record_send(struct record_state *record, const struct record_sink *sink, const uint8_t *bytes,
                            size_t length)
{
    if (record->error != ERROR_NONE || record->output != RECORD_OPEN) {
        return ERROR_STATE;
    }
    size_t most = record_plaintext_max(record, RECORD_WRITE);
    while (length > 0) {
        size_t piece = length < most ? length : most;
        enum error_code error = prepare_keys(record, sink);
        if (error != ERROR_NONE) {
            return error;
        }
        error = record_seal(record, sink, RECORD_TYPE_APPLICATION_DATA, bytes, piece);
        if (error != ERROR_NONE) {
            return record_fail_self(record, sink, error);
        }
        bytes += piece;
        length -= piece;
    }
    return ERROR_NONE;
}

enum error_code record_finish(struct record_state *record, const struct record_sink *sink)
{
    if (record->error != ERROR_NONE || record->output != RECORD_OPEN) {
        return ERROR_STATE;
    }
    enum error_code error = record_send_alert(record, sink, RECORD_ALERT_WARNING, RECORD_ALERT_CLOSE_NOTIFY);
    record->output = RECORD_ENDED;
    return error == ERROR_NONE ? ERROR_NONE : record_fail_self(record, sink, error);
}

enum error_code record_update_keys(struct record_state *record, const struct record_sink *sink, bool ask_peer)
{
    if (!record->version_13) {
        return ERROR_INVALID;
    }
    if (record->error != ERROR_NONE || record->output != RECORD_OPEN) {
        return ERROR_STATE;
    }
    return send_key_update(record, sink, ask_peer && !record->key_update_asked);
}
