/*
 * Records of a handshake on their way to GnuTLS. See mux/tls_gate.h.
 */
#include "mux/tls_gate.h"

#include <assert.h>
#include <string.h>

#include "mux/record_internal.h"
#include "mux/tls_hello.h"

#define VERDICT_PASS   (-1)
#define VERDICT_DROP   (-2)
#define VERDICT_PEER   (-1000) /* less the description of the alert that has come */
#define ALERT_BODY     2U
#define SPEC_BODY      1U
#define MESSAGE_HEADER 4U

void tls_gate_init_server(struct tls_gate *gate)
{
    memset(gate, 0, sizeof(*gate));
    gate->phase = TLS_GATE_EXPECT_HELLO;
    gate->plaintext_max = RECORD_PLAINTEXT_MAX;
}

void tls_gate_answered(struct tls_gate *gate, bool version_13, bool retry, bool early_data)
{
    if (gate->phase != TLS_GATE_EXPECT_HELLO) {
        return;
    }
    gate->retried = retry;
    gate->early_data = retry && early_data;
    gate->hello_whole = false;
    if (!retry) {
        gate->phase = version_13 ? TLS_GATE_PROTECTED_13 : TLS_GATE_EXPECT_12;
    }
}

void tls_gate_limit(struct tls_gate *gate, size_t plaintext_max)
{
    gate->plaintext_max = (uint32_t)plaintext_max;
}

void tls_gate_open(struct tls_gate *gate)
{
    gate->phase = TLS_GATE_OPEN;
}

bool tls_gate_between_records(const struct tls_gate *gate)
{
    return gate->held_length == 0 && gate->drop_left == 0;
}

static size_t record_length(const struct tls_gate *gate)
{
    return (size_t)gate->held[3] << 8 | gate->held[4];
}

static bool in_clear(const struct tls_gate *gate)
{
    return gate->phase == TLS_GATE_EXPECT_HELLO || gate->phase == TLS_GATE_EXPECT_12;
}

static bool within_message(const struct tls_gate *gate)
{
    return gate->message_length > 0 || gate->message_left > 0;
}

/* ---- single records ---- */

/* In TLS 1.3 it is dropped wherever it may come (RFC 8446 section 5), in TLS 1.2 GnuTLS judges whether it may. */
static int judge_spec(struct tls_gate *gate)
{
    bool version_13 = gate->phase == TLS_GATE_PROTECTED_13 || gate->retried;

    if (within_message(gate) || gate->phase == TLS_GATE_PROTECTED_12 ||
        (gate->phase == TLS_GATE_EXPECT_HELLO && !gate->retried)) {
        return RECORD_ALERT_UNEXPECTED_MESSAGE;
    }
    if (record_length(gate) != SPEC_BODY) {
        return version_13 ? RECORD_ALERT_UNEXPECTED_MESSAGE : RECORD_ALERT_DECODE_ERROR;
    }
    if (gate->held_length < RECORD_HEADER_BYTES + SPEC_BODY) {
        return VERDICT_PASS;
    }
    if (gate->held[RECORD_HEADER_BYTES] != 1) {
        return version_13 ? RECORD_ALERT_UNEXPECTED_MESSAGE : RECORD_ALERT_ILLEGAL_PARAMETER;
    }
    if (version_13) {
        return ++gate->specs <= TLS_GATE_CCS_MAX ? VERDICT_DROP : RECORD_ALERT_UNEXPECTED_MESSAGE;
    }
    gate->phase = TLS_GATE_PROTECTED_12;
    return VERDICT_PASS;
}

/* In clear: in TLS 1.3, of a client that cannot make out our flight. The end of a connection is one at any time; of
 * warnings GnuTLS makes errors, so it sees none. */
static int judge_alert(struct tls_gate *gate)
{
    const uint8_t *body = gate->held + RECORD_HEADER_BYTES;

    if (record_length(gate) != ALERT_BODY) {
        return RECORD_ALERT_DECODE_ERROR;
    }
    if (gate->held_length < RECORD_HEADER_BYTES + ALERT_BODY) {
        return VERDICT_PASS;
    }
    if (body[0] != RECORD_ALERT_WARNING && body[0] != RECORD_ALERT_FATAL) {
        return RECORD_ALERT_ILLEGAL_PARAMETER;
    }
    if (body[0] == RECORD_ALERT_FATAL || body[1] == RECORD_ALERT_CLOSE_NOTIFY) {
        return VERDICT_PEER - (int)body[1];
    }
    if (within_message(gate) || gate->warnings >= RECORD_WARNING_ALERTS_MAX) {
        return RECORD_ALERT_UNEXPECTED_MESSAGE;
    }
    gate->warnings++;
    return VERDICT_DROP;
}

/* RFC 8446 section 4.2.10: what was sent in the hope of 0-RTT, before the client knew of the HelloRetryRequest. */
static int judge_data(struct tls_gate *gate)
{
    if (gate->phase != TLS_GATE_EXPECT_HELLO || !gate->early_data || within_message(gate)) {
        return RECORD_ALERT_UNEXPECTED_MESSAGE;
    }
    gate->early_bytes += (uint32_t)record_length(gate);
    return gate->early_bytes <= TLS_GATE_EARLY_DATA_MAX ? VERDICT_DROP : RECORD_ALERT_UNEXPECTED_MESSAGE;
}

static int judge_clear(struct tls_gate *gate)
{
    size_t length = record_length(gate);

    if (length > gate->plaintext_max + (gate->early_data ? RECORD_EXPANSION_MAX_13 : 0)) {
        return RECORD_ALERT_RECORD_OVERFLOW;
    }
    switch (gate->held[0]) {
    case RECORD_TYPE_CHANGE_CIPHER_SPEC:
        return judge_spec(gate);
    case RECORD_TYPE_ALERT:
        return judge_alert(gate);
    case RECORD_TYPE_APPLICATION_DATA:
        return judge_data(gate);
    case RECORD_TYPE_HANDSHAKE:
        /* RFC 8446 section 5.1: never empty. A second ClientHello ends the early data. */
        gate->early_data = false;
        return length > 0 ? VERDICT_PASS : RECORD_ALERT_UNEXPECTED_MESSAGE;
    default:
        return RECORD_ALERT_UNEXPECTED_MESSAGE;
    }
}

static int judge_protected(struct tls_gate *gate)
{
    bool version_13 = gate->phase == TLS_GATE_PROTECTED_13;

    switch (gate->held[0]) {
    case RECORD_TYPE_CHANGE_CIPHER_SPEC:
        return judge_spec(gate);
    case RECORD_TYPE_APPLICATION_DATA:
        if (!version_13) {
            return RECORD_ALERT_UNEXPECTED_MESSAGE;
        }
        break;
    case RECORD_TYPE_HANDSHAKE:
        if (version_13) {
            return RECORD_ALERT_UNEXPECTED_MESSAGE;
        }
        break;
    case RECORD_TYPE_ALERT:
        if (version_13) {
            return judge_alert(gate);
        }
        break;
    default:
        return RECORD_ALERT_UNEXPECTED_MESSAGE;
    }
    size_t most = gate->plaintext_max + (version_13 ? RECORD_EXPANSION_MAX_13 : RECORD_EXPANSION_MAX_12);
    return record_length(gate) <= most ? VERDICT_PASS : RECORD_ALERT_RECORD_OVERFLOW;
}

/* The header is there, or all of what is to be held. */
static int judge(struct tls_gate *gate)
{
    if (gate->phase == TLS_GATE_OPEN) {
        return VERDICT_PASS;
    }
    return in_clear(gate) ? judge_clear(gate) : judge_protected(gate);
}

/* How much of the record must be there before GnuTLS gets any of it. */
static size_t bytes_to_hold(const struct tls_gate *gate)
{
    bool small = record_length(gate) <= ALERT_BODY;

    if (gate->phase == TLS_GATE_OPEN || !small) {
        return RECORD_HEADER_BYTES;
    }
    bool held = gate->held[0] == RECORD_TYPE_CHANGE_CIPHER_SPEC ||
                (gate->held[0] == RECORD_TYPE_ALERT && gate->phase != TLS_GATE_PROTECTED_12);
    return RECORD_HEADER_BYTES + (held ? record_length(gate) : 0);
}

/* ---- messages in clear ---- */

/* The header of a message is there. */
static int judge_message(const struct tls_gate *gate)
{
    bool hello = gate->message[0] == RECORD_MESSAGE_CLIENT_HELLO;
    uint32_t most = hello ? TLS_HELLO_BYTES_MAX : TLS_GATE_MESSAGE_MAX;

    if (hello != (gate->phase == TLS_GATE_EXPECT_HELLO)) {
        return RECORD_ALERT_UNEXPECTED_MESSAGE;
    }
    return gate->message_left <= most ? VERDICT_PASS : RECORD_ALERT_DECODE_ERROR;
}

/* Follows the messages through a part of a record. A ClientHello must be the last in its record: what follows it is
 * under other keys, or an answer to what the client cannot know yet. */
static int follow_messages(struct tls_gate *gate, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        if (gate->message_left > 0) {
            size_t part = length < gate->message_left ? length : gate->message_left;
            bytes += part;
            length -= part;
            gate->message_left -= (uint32_t)part;
        } else {
            if (gate->hello_whole) {
                return RECORD_ALERT_UNEXPECTED_MESSAGE;
            }
            gate->message[gate->message_length++] = *bytes++;
            length--;
            if (gate->message_length < MESSAGE_HEADER) {
                continue;
            }
            gate->message_left =
                (uint32_t)gate->message[1] << 16 | (uint32_t)gate->message[2] << 8 | (uint32_t)gate->message[3];
            int verdict = judge_message(gate);
            if (verdict != VERDICT_PASS) {
                return verdict;
            }
        }
        if (gate->message_left == 0) {
            gate->message_length = 0;
            gate->hello_whole = gate->phase == TLS_GATE_EXPECT_HELLO;
        }
    }
    return VERDICT_PASS;
}

/* ---- reading ---- */

static size_t least(size_t one, size_t other)
{
    return one < other ? one : other;
}

static void record_finish_if_given(struct tls_gate *gate)
{
    if (gate->passed && gate->body_left == 0 && gate->held_given == gate->held_length) {
        gate->held_length = 0;
        gate->held_given = 0;
        gate->passed = false;
    }
}

/* Collects what must be held, and judges it. VERDICT_DROP: nothing to give yet; `passed` tells that there is. */
static int hold(struct tls_gate *gate, struct tls_message *input)
{
    size_t whole = gate->held_length < RECORD_HEADER_BYTES ? RECORD_HEADER_BYTES : bytes_to_hold(gate);
    size_t part = least(whole - gate->held_length, input->length);
    struct tls_message bytes;

    (void)tls_message_part(input, part, &bytes);
    memcpy(gate->held + gate->held_length, bytes.bytes, part);
    gate->held_length = (uint8_t)(gate->held_length + part);
    if (gate->held_length < whole) {
        return VERDICT_DROP;
    }
    bool more = bytes_to_hold(gate) > gate->held_length;
    int verdict = judge(gate);
    if (verdict == VERDICT_DROP) {
        gate->drop_left = (uint32_t)(record_length(gate) + RECORD_HEADER_BYTES - gate->held_length);
        gate->held_length = 0;
    } else if (verdict == VERDICT_PASS && !more) {
        /* RFC 8446 section 5.1, RFC 5246 appendix E.1: the version of a ClientHello's record is of no importance. */
        if (gate->phase == TLS_GATE_EXPECT_HELLO) {
            gate->held[1] = 3;
            gate->held[2] = 3;
        }
        gate->passed = true;
        gate->body_left = (uint32_t)(record_length(gate) + RECORD_HEADER_BYTES - gate->held_length);
    }
    return verdict == VERDICT_PASS ? VERDICT_DROP : verdict;
}

/* Gives what is held, or what is there of the body. */
static int give(struct tls_gate *gate, struct tls_message *input, uint8_t *into, size_t capacity, size_t *taken)
{
    struct tls_message bytes = {.bytes = gate->held + gate->held_given};
    size_t held = (size_t)gate->held_length - gate->held_given;

    if (held > 0) {
        bytes.length = least(held, capacity);
        gate->held_given = (uint8_t)(gate->held_given + bytes.length);
    } else {
        (void)tls_message_part(input, least(least(gate->body_left, capacity), input->length), &bytes);
        gate->body_left -= (uint32_t)bytes.length;
        int verdict = in_clear(gate) ? follow_messages(gate, bytes.bytes, bytes.length) : VERDICT_PASS;
        if (verdict != VERDICT_PASS) {
            return verdict;
        }
    }
    memcpy(into, bytes.bytes, bytes.length);
    *taken = bytes.length;
    record_finish_if_given(gate);
    return VERDICT_PASS;
}

enum tls_gate_result tls_gate_read(struct tls_gate *gate, struct tls_message *input, uint8_t *into, size_t capacity,
                                   size_t *taken, int *alert)
{
    int verdict = VERDICT_DROP;

    *taken = 0;
    while (verdict == VERDICT_DROP) {
        bool waiting = gate->passed && gate->held_given < gate->held_length;
        if (input->length == 0 && !waiting) {
            return TLS_GATE_STARVED;
        }
        if (gate->drop_left > 0) {
            struct tls_message gone;
            (void)tls_message_part(input, least(gate->drop_left, input->length), &gone);
            gate->drop_left -= (uint32_t)gone.length;
        } else if (gate->passed) {
            verdict = give(gate, input, into, capacity, taken);
        } else {
            verdict = hold(gate, input);
        }
    }
    if (verdict == VERDICT_PASS) {
        return TLS_GATE_BYTES;
    }
    *alert = verdict <= VERDICT_PEER ? verdict - VERDICT_PEER : verdict;
    return TLS_GATE_REFUSED;
}
