/*
 * libFuzzer: a client's handshake in clear, in front of the gate. The first byte says where the handshake stands and
 * how the input is cut, which must make no difference. What passes must be whole records within their limits; a
 * ClientHello in it is checked, as the first one and as the second.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mux/record_internal.h"
#include "mux/tls_gate.h"
#include "mux/tls_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MODE_ANSWERED = 1, MODE_VERSION_13 = 2, MODE_RETRIED = 4, MODE_EARLY_DATA = 8, MODE_LIMITED = 16 };

#define STEP_SHIFT   5
#define NOT_REFUSED  1000
#define LIMIT        512U
#define HEADER_BYTES 4U

struct outcome {
    uint8_t *given;
    size_t given_length;
    int alert; /* NOT_REFUSED: none */
};

static void check(int condition)
{
    if (!condition) {
        abort();
    }
}

static void gate_init(struct tls_gate *gate, uint8_t mode)
{
    tls_gate_init_server(gate);
    if (mode & MODE_ANSWERED) {
        tls_gate_answered(gate, mode & MODE_VERSION_13, mode & MODE_RETRIED, mode & MODE_EARLY_DATA);
    }
    if (mode & MODE_LIMITED) {
        tls_gate_limit(gate, LIMIT);
    }
}

/* Gives the gate `step` bytes at a time. */
static void pass(uint8_t mode, const uint8_t *bytes, size_t length, size_t step, struct outcome *outcome)
{
    struct tls_gate gate;

    gate_init(&gate, mode);
    outcome->given = malloc(length + 1);
    outcome->given_length = 0;
    outcome->alert = NOT_REFUSED;
    check(outcome->given != NULL);
    while (length > 0 && outcome->alert == NOT_REFUSED) {
        struct tls_message input = {.bytes = bytes, .length = step < length ? step : length};
        enum tls_gate_result result = TLS_GATE_BYTES;
        bytes += input.length;
        length -= input.length;
        while (result == TLS_GATE_BYTES) {
            size_t taken = 0;
            result =
                tls_gate_read(&gate, &input, outcome->given + outcome->given_length, 1 + step, &taken, &outcome->alert);
            check(result != TLS_GATE_BYTES || (taken > 0 && taken <= 1 + step));
            outcome->given_length += taken;
        }
        check(result == TLS_GATE_REFUSED || input.length == 0);
        check((result == TLS_GATE_REFUSED) == (outcome->alert != NOT_REFUSED));
    }
}

/* Of the records that passed: no type or length that the gate must not let through. */
static void records_check(uint8_t mode, const struct outcome *outcome)
{
    size_t most = (mode & MODE_LIMITED ? LIMIT : RECORD_PLAINTEXT_MAX) + 2048U;

    for (size_t at = 0; at + RECORD_HEADER_BYTES <= outcome->given_length;) {
        const uint8_t *header = outcome->given + at;
        size_t length = (size_t)header[3] << 8 | header[4];
        check(header[0] >= RECORD_TYPE_CHANGE_CIPHER_SPEC && header[0] <= RECORD_TYPE_APPLICATION_DATA);
        check(length <= most);
        at += RECORD_HEADER_BYTES + length;
    }
}

/* The same verdict each time, and a good one does not become good by coming again. */
static void hello_check(const uint8_t *bytes, size_t length)
{
    struct tls_hello first = {.seen = false};
    struct tls_hello again = {.seen = false};
    int verdict = tls_hello_check(&first, bytes, length);

    check(verdict == TLS_HELLO_GOOD || (verdict > 0 && verdict < 128));
    check(tls_hello_check(&again, bytes, length) == verdict);
    if (verdict == TLS_HELLO_GOOD) {
        check(first.constant == again.constant && first.suites == again.suites);
        int second = tls_hello_check(&again, bytes, length);
        check(second == TLS_HELLO_GOOD || second == RECORD_ALERT_ILLEGAL_PARAMETER);
        check(second != TLS_HELLO_GOOD || (first.version_13 && !first.early_data));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole;
    struct outcome cut;

    if (size == 0) {
        return 0;
    }
    uint8_t mode = data[0];
    pass(mode, data + 1, size - 1, size, &whole);
    pass(mode, data + 1, size - 1, (size_t)1 << (mode >> STEP_SHIFT), &cut);
    check(whole.alert == cut.alert);
    /* A record that is refused in its midst may have passed up to there. */
    check(whole.alert != NOT_REFUSED ||
          (whole.given_length == cut.given_length && memcmp(whole.given, cut.given, whole.given_length) == 0));
    records_check(mode, &whole);
    hello_check(data + 1, size - 1);
    if (whole.given_length > RECORD_HEADER_BYTES + HEADER_BYTES) {
        hello_check(whole.given + RECORD_HEADER_BYTES + HEADER_BYTES,
                    whole.given_length - RECORD_HEADER_BYTES - HEADER_BYTES);
    }
    free(whole.given);
    free(cut.given);
    return 0;
}
