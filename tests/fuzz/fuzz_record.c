/*
 * libFuzzer: records of an established connection. The first byte says role, version and suite, and whether what
 * follows is raw input or the contents of records, which are sealed here so that they are authentic. Contents: type,
 * padding, two bytes of length, bytes. In either case the input is cut in an order that it decides itself.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mux/memory.h"
#include "mux/record_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MODE_SERVER = 1, MODE_VERSION_13 = 2, MODE_SEALED = 4, MODE_SINGLE_BYTES = 8, MODE_ANSWERS = 16 };

struct room {
    struct record_state record;
    uint8_t material[2 * TLS_CIPHER_MATERIAL_MAX];
};

struct subject {
    struct room room;
    const struct record_sink *sink;
    uint8_t mode;
    unsigned alerts; /* records that went out after the failure: at most the alert */
    unsigned ends;
    size_t received;
};

static void check(int condition)
{
    if (!condition) {
        abort();
    }
}

static void on_output(void *owner, const uint8_t *bytes, size_t length)
{
    struct subject *subject = owner;

    check(length >= RECORD_HEADER_BYTES + TLS_CIPHER_TAG_BYTES && length <= RECORD_BYTES_MAX && bytes[1] == 3);
    if (subject->room.record.error != ERROR_NONE) {
        check(++subject->alerts == 1);
    }
}

static void on_data(void *owner, const uint8_t *bytes, size_t length)
{
    struct subject *subject = owner;

    check(length > 0 && length <= RECORD_PLAINTEXT_MAX && subject->ends == 0);
    check(subject->room.record.error == ERROR_NONE);
    subject->received += length + bytes[0];
    if (subject->mode & MODE_ANSWERS) {
        check(record_send(&subject->room.record, subject->sink, bytes, length) == ERROR_NONE);
    }
}

static void on_end(void *owner)
{
    struct subject *subject = owner;

    check(++subject->ends == 1);
}

static void on_ticket(void *owner)
{
    struct subject *subject = owner;

    check(!subject->room.record.server && subject->room.record.version_13);
}

static const struct record_events events = {.output = on_output, .data = on_data, .end = on_end, .ticket = on_ticket};

static void room_init(struct room *room, uint8_t mode, bool server)
{
    static const uint8_t secrets[2][TLS_CIPHER_MATERIAL_MAX] = {{1}, {2}};
    struct record_parameters parameters = {.server = server,
                                           .version_13 = (mode & MODE_VERSION_13) != 0,
                                           .suite = (enum tls_cipher_suite)((mode >> 5) % TLS_CIPHER_SUITE_COUNT)};

    parameters.material[RECORD_WRITE] = secrets[server];
    parameters.material[RECORD_READ] = secrets[!server];
    record_init(&room->record, &parameters);
}

/* Feeds memory of exactly this size, so that anything beyond is seen. */
static void feed(struct subject *subject, const uint8_t *bytes, size_t length)
{
    size_t step = subject->mode & MODE_SINGLE_BYTES ? 1 + length / 16 : length;

    for (size_t at = 0; at < length; at += step) {
        size_t part = length - at < step ? length - at : step;
        uint8_t *copy = malloc(part);
        check(copy != NULL);
        memcpy(copy, bytes + at, part);
        enum error_code error = record_receive(&subject->room.record, subject->sink, copy, part);
        check((error == ERROR_NONE) == (subject->room.record.error == ERROR_NONE));
        check(subject->room.record.error != ERROR_NO_MEMORY && subject->room.record.error != ERROR_TLS_INTERNAL);
        free(copy);
    }
}

/* One record from the peer with this content. A KeyUpdate that was taken is followed, or all that comes later would be
 * refused for its key. */
static void feed_sealed(struct subject *subject, struct record_state *peer, uint8_t type, size_t padding,
                        const uint8_t *content, size_t length)
{
    static uint8_t bytes[RECORD_BYTES_MAX + 65536];
    struct tls_cipher *cipher = NULL;
    uint8_t nonce[TLS_CIPHER_NONCE_BYTES];
    uint8_t additional[RECORD_ADDITIONAL_BYTES_MAX];
    size_t front = record_explicit_bytes(peer);
    size_t inner = length + (peer->version_13 ? 1 + padding : 0);
    size_t body = front + inner + TLS_CIPHER_TAG_BYTES;
    uint8_t *plain = bytes + RECORD_HEADER_BYTES + front;

    bytes[0] = peer->version_13 ? RECORD_TYPE_APPLICATION_DATA : type;
    bytes[1] = bytes[2] = 3;
    bytes[3] = (uint8_t)(body >> 8);
    bytes[4] = (uint8_t)body;
    memset(bytes + RECORD_HEADER_BYTES, 0, front + inner);
    memcpy(plain, content, length);
    if (peer->version_13) {
        plain[length] = type;
    }
    check(record_cipher(peer, RECORD_WRITE, &cipher) == ERROR_NONE);
    record_nonce(peer, RECORD_WRITE, cipher, front > 0 ? bytes + RECORD_HEADER_BYTES : NULL, nonce);
    size_t count = record_additional(peer, RECORD_WRITE, bytes, length, additional);
    check(tls_cipher_seal(cipher, nonce, additional, count, plain, inner) == ERROR_NONE);
    peer->sequence[RECORD_WRITE]++;
    feed(subject, bytes, RECORD_HEADER_BYTES + body);
    if (subject->room.record.error == ERROR_NONE && subject->room.record.sequence[RECORD_READ] == 0) {
        check(record_next_keys(peer, RECORD_WRITE) == ERROR_NONE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct subject subject;
    static struct room peer;
    struct record_sink sink = {.events = &events, .owner = &subject};

    if (size == 0) {
        return 0;
    }
    memset(&subject, 0, sizeof(subject));
    subject.mode = data[0];
    subject.sink = &sink;
    room_init(&subject.room, subject.mode, (subject.mode & MODE_SERVER) != 0);
    room_init(&peer, subject.mode, (subject.mode & MODE_SERVER) == 0);
    data++;
    size--;
    if (!(subject.mode & MODE_SEALED)) {
        feed(&subject, data, size);
    }
    while ((subject.mode & MODE_SEALED) && size >= 4 && subject.room.record.error == ERROR_NONE) {
        size_t length = (size_t)data[2] << 8 | data[3];
        length = length < size - 4 ? length : size - 4;
        size_t padding = data[1] == 255 ? RECORD_PLAINTEXT_MAX : data[1];
        feed_sealed(&subject, &peer.record, data[0], padding, data + 4, length);
        data += 4 + length;
        size -= 4 + length;
        if (subject.ends > 0) {
            break;
        }
    }
    record_dispose(&subject.room.record);
    record_dispose(&peer.record);
    check(tls_cipher_count() == 0);
    return 0;
}
