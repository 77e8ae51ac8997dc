/*
 * The acceptor's trunk against a peer that resumes and whose frames are made by hand: acknowledgements in any pieces,
 * useless and malformed ones, requests with broken fields, bytes that must not come.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "mux/limits.h"
#include "mux/memory.h"
#include "mux/tls.h"
#include "mux/trunk_budget.h"
#include "tests/unit/trunk_pair.h"

#define SESSIONS_MAX 100U
#define TOKENS       (SESSIONS_MAX + TRUNK_BUDGET_SPARE)
#define STREAMS_MAX  4096U
#define PAYLOAD_MAX  16384U

enum {
    FRAME_DATA = 0,
    FRAME_HEADERS = 1,
    FRAME_RST_STREAM = 3,
    FRAME_SETTINGS = 4,
    FRAME_PING = 6,
    FRAME_GOAWAY = 7,
    FRAME_WINDOW_UPDATE = 8,
};

#define END_STREAM  1U
#define END_HEADERS 4U
#define PING_ACK    1U

/* What the peer saw of a stream. */
struct seen {
    size_t data;   /* bytes of DATA */
    bool answered; /* HEADERS came */
    bool reset;
    uint32_t code;
    bool acknowledged;
    uint32_t offset; /* the last */
};

struct hand {
    struct trunk_pair pair; /* only its acceptor is used, after pair_init */
    enum error_code error;
    struct seen seen[STREAMS_MAX];
    uint8_t out[TLS_RECORD_MAX_BYTES];
    uint32_t goaway_code;
    unsigned ack_frames;
    size_t split; /* bytes fed at a time; 0: whole frames */
};

static struct hand hand;

static uint32_t big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void put(uint8_t *into, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        into[i] = (uint8_t)(value >> (24 - 8 * i));
    }
}

/* ------------------------------------------------------------------------------------------------ reading */

static void hand_see(const uint8_t *frame, size_t length)
{
    uint32_t id = big_endian(frame + 5);
    const uint8_t *payload = frame + 9;
    assert_true(id < STREAMS_MAX);
    struct seen *seen = &hand.seen[id];
    if (frame[3] == FRAME_DATA) {
        seen->data += length;
    } else if (frame[3] == FRAME_HEADERS) {
        seen->answered = true;
    } else if (frame[3] == FRAME_RST_STREAM) {
        seen->reset = true;
        seen->code = big_endian(payload);
    } else if (frame[3] == FRAME_GOAWAY) {
        hand.goaway_code = big_endian(payload + 4);
    } else if (frame[3] == TRUNK_FRAME_ACK) {
        hand.ack_frames++;
        assert_int_equal(id, 0);
        assert_int_equal(length % 8, 0);
        for (size_t at = 0; at < length; at += 8) {
            struct seen *told = &hand.seen[big_endian(payload + at)];
            told->acknowledged = true;
            told->offset = big_endian(payload + at + 4);
        }
    }
}

/* Frames end with the records of these tests. */
static void hand_read(void)
{
    size_t length = 0;
    do {
        scheduler_run_tasks(&hand.pair.scheduler);
        enum error_code error = trunk_send(hand.pair.acceptor.trunk, hand.out, sizeof(hand.out), &length);
        assert_true(error == ERROR_NONE || hand.error != ERROR_NONE);
        for (size_t at = 0; at + 9 <= length;) {
            const uint8_t *frame = hand.out + at;
            size_t size = (size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2];
            assert_true(at + 9 + size <= length);
            hand_see(frame, size);
            at += 9U + size;
        }
    } while (length > 0);
}

static void hand_wait(uint64_t milliseconds)
{
    scheduler_advance(&hand.pair.scheduler, hand.pair.scheduler.now_us + 1000 * milliseconds);
    hand_read();
}

/* ------------------------------------------------------------------------------------------------ writing */

static void feed(const uint8_t *bytes, size_t length)
{
    size_t piece = hand.split > 0 ? hand.split : length;
    for (size_t at = 0; at < length && hand.error == ERROR_NONE; at += piece) {
        hand.error = trunk_receive(hand.pair.acceptor.trunk, bytes + at, piece < length - at ? piece : length - at);
    }
}

static void frame(unsigned type, unsigned flags, uint32_t id, const void *payload, size_t length)
{
    static uint8_t bytes[9 + PAYLOAD_MAX];
    assert_true(length <= PAYLOAD_MAX);
    bytes[0] = (uint8_t)(length >> 16);
    bytes[1] = (uint8_t)(length >> 8);
    bytes[2] = (uint8_t)length;
    bytes[3] = (uint8_t)type;
    bytes[4] = (uint8_t)flags;
    put(bytes + 5, id);
    if (length > 0) {
        memcpy(bytes + 9, payload, length);
    }
    feed(bytes, 9 + length);
}

static void acknowledge(uint32_t id, uint32_t offset)
{
    uint8_t pair[8];
    put(pair, id);
    put(pair + 4, offset);
    frame(TRUNK_FRAME_ACK, 0, 0, pair, sizeof(pair));
}

/* The answer to the PING that is outstanding. */
static void answer_ping(void)
{
    static const uint8_t opaque[8];
    frame(FRAME_PING, PING_ACK, 0, opaque, sizeof(opaque));
}

static void open_window(uint32_t id, uint32_t more)
{
    uint8_t payload[4];
    put(payload, more);
    frame(FRAME_WINDOW_UPDATE, 0, id, payload, sizeof(payload));
}

/* RFC 7541 section 6.2.2: a field without indexing, its name and value as they are. */
static size_t field(uint8_t *block, const char *name, const char *value)
{
    size_t name_length = strlen(name);
    size_t value_length = strlen(value);
    assert_true(name_length < 127 && value_length < 127);
    block[0] = 0;
    block[1] = (uint8_t)name_length;
    memcpy(block + 2, name, name_length);
    block[2 + name_length] = (uint8_t)value_length;
    memcpy(block + 3 + name_length, value, value_length);
    return 3 + name_length + value_length;
}

/* CONNECT with the fields of a session as given; NULL: without it. */
static void request(uint32_t id, const char *session, const char *received)
{
    uint8_t block[512];
    size_t length = field(block, ":method", "CONNECT");
    length += field(block + length, ":authority", "echo");
    if (session != NULL) {
        length += field(block + length, "trunkline-session", session);
    }
    if (received != NULL) {
        length += field(block + length, "trunkline-received", received);
    }
    frame(FRAME_HEADERS, END_HEADERS, id, block, length);
}

static void greet(bool resumes)
{
    static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const uint8_t setting[6] = {TRUNK_SETTING_RESUME >> 8, TRUNK_SETTING_RESUME & 0xff, 0, 0, 0, TRUNK_RESUME_VERSION};
    feed(preface, sizeof(preface) - 1);
    frame(FRAME_SETTINGS, 0, 0, setting, resumes ? sizeof(setting) : 0);
    frame(FRAME_SETTINGS, 1, 0, NULL, 0);
    hand_read();
}

/* A new trunk takes the place of the acceptor's. */
static void hand_connect(bool resumes)
{
    trunk_free(&hand.pair.acceptor.trunk);
    memset(hand.seen, 0, sizeof(hand.seen));
    hand.pair.acceptor.failure = hand.error = ERROR_NONE;
    assert_int_equal(trunk_new(&hand.pair.acceptor.trunk, &hand.pair.acceptor_settings, &hand.pair.scheduler,
                               &hand.pair.acceptor.carrier, &pair_acceptor_events, &hand.pair.acceptor),
                     ERROR_NONE);
    greet(resumes);
    assert_int_equal(hand.error, ERROR_NONE);
}

#define WINDOW_BYTES 65536U /* and no other: these tests are not about windows */

static void hand_init(bool resumes, size_t split)
{
    struct trunk_settings settings;
    memset(&hand, 0, sizeof(hand));
    trunk_settings_init(&settings, TRUNK_ACCEPTOR);
    settings.sessions_max = SESSIONS_MAX;
    settings.stream_window_bytes = WINDOW_BYTES;
    settings.stream_window_max_bytes = WINDOW_BYTES;
    settings.stream_backlog_bytes = UINT32_MAX;
    settings.trunk_backlog_bytes = UINT32_MAX;
    settings.resume = true;
    assert_int_equal(pair_init(&hand.pair, NULL, &settings), ERROR_NONE);
    hand.split = split;
    hand_connect(resumes);
}

#define SESSION_1 "000102030405060708090a0b0c0d0e0f"
#define SESSION_2 "100102030405060708090a0b0c0d0e0f"

static struct pair_stream *hand_open(uint32_t id, const char *session, size_t nth)
{
    request(id, session, NULL);
    hand_read();
    assert_true(hand.seen[id].answered);
    assert_non_null(pair_accepted(&hand.pair, nth));
    return pair_accepted(&hand.pair, nth);
}

/* ------------------------------------------------------------------------------------------------ tests */

static uint8_t zeros[PAYLOAD_MAX];

/* Acknowledgements between, in front of and behind frames of others, in pieces of every size. */
static void frames_may_be_split_anywhere(void **state)
{
    (void)state;
    for (size_t split = 0; split < 80; split++) {
        hand_init(true, split);
        struct pair_stream *stream = hand_open(1, SESSION_1, 0);
        assert_int_equal(trunk_stream_write(&stream->stream, zeros, 1000), ERROR_NONE);
        hand_read();
        assert_int_equal(hand.seen[1].data, 1000);
        acknowledge(1, 10);
        frame(FRAME_DATA, 0, 1, "abc", 3);
        acknowledge(1, 300);
        acknowledge(1, 700);
        frame(TRUNK_FRAME_ACK, 0, 0, NULL, 0);
        frame(FRAME_DATA, 0, 1, "de", 2);
        frame(FRAME_DATA, 0, 1, NULL, 0);
        assert_int_equal(hand.error, ERROR_NONE);
        assert_int_equal(stream->received_length, 5);
        assert_memory_equal(stream->received, "abcde", 5);
        assert_int_equal(trunk_stream_retained(&stream->stream), 300);
        hand_wait(TIMEOUT_TRUNK_OWED_MS + 1);
        assert_int_equal(hand.seen[1].offset, 5);
        pair_dispose(&hand.pair);
    }
}

static void acknowledgements_that_cannot_be_change_nothing(void **state)
{
    (void)state;
    static const uint32_t offsets[] = {0, 400, 1001, UINT32_MAX, 0x80000000U, 399};
    hand_init(true, 0);
    struct pair_stream *stream = hand_open(1, SESSION_1, 0);
    assert_int_equal(trunk_stream_write(&stream->stream, zeros, 1000), ERROR_NONE);
    hand_read();
    acknowledge(1, 400);
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        acknowledge(1, offsets[i]);
        assert_int_equal(trunk_stream_retained(&stream->stream), 600);
    }
    acknowledge(3, 1);
    acknowledge(0, 1);
    acknowledge(UINT32_MAX, 1);
    frame(TRUNK_FRAME_ACK, 0xff, 1, "\0\0\0\1\0\0\3", 7); /* no pair at all */
    assert_int_equal(trunk_stream_retained(&stream->stream), 600);
    acknowledge(1, 1000);
    assert_int_equal(trunk_stream_retained(&stream->stream), 0);
    assert_int_equal(hand.pair.acceptor_works.objects, 0);
    assert_int_equal(hand.error, ERROR_NONE);
    pair_dispose(&hand.pair);
}

static void useless_ack(void)
{
    acknowledge(1, 1);
}

static void empty_ack(void)
{
    frame(TRUNK_FRAME_ACK, 0, 0, NULL, 0);
}

static void crowded_ack(void)
{
    frame(TRUNK_FRAME_ACK, 0, 0, zeros, PAYLOAD_MAX);
}

static void malformed_ack(void)
{
    frame(TRUNK_FRAME_ACK, 0, 0, zeros, 9);
}

static void forged_resume(void)
{
    static uint32_t id = 1;
    id = hand.seen[3].answered ? id + 2 : 3;
    request(id % STREAMS_MAX, SESSION_2, "7");
}

static void floods_of_acknowledgements_end_with_a_word(void **state)
{
    (void)state;
    static const struct {
        void (*round)(void);
        unsigned rounds_max;
        bool resumes;
    } floods[] = {
        {useless_ack, TOKENS / 2, true},
        {empty_ack, TOKENS, true},
        {crowded_ack, TOKENS / 2048, true},
        {malformed_ack, TOKENS / TRUNK_COST_FAULT, true},
        {empty_ack, TOKENS / TRUNK_COST_FAULT, false},
        {crowded_ack, TOKENS / 2048, false},
        {forged_resume, TOKENS / (TRUNK_COST_OVER_LIMIT - TRUNK_EARN_SENT_FRAME), true},
    };
    for (size_t i = 0; i < sizeof(floods) / sizeof(floods[0]); i++) {
        unsigned rounds = 0;
        hand_init(floods[i].resumes, 0);
        (void)hand_open(1, SESSION_1, 0);
        while (hand.error == ERROR_NONE && rounds <= floods[i].rounds_max) {
            floods[i].round();
            rounds++;
            if (floods[i].round == forged_resume) {
                hand_read();
            }
        }
        assert_true(rounds <= floods[i].rounds_max + 1);
        assert_int_equal(hand.error, ERROR_TRUNK_FLOODED);
        hand_read();
        assert_int_equal(hand.goaway_code, TRUNK_CODE_ENHANCE_YOUR_CALM);
        pair_dispose(&hand.pair);
    }
}

/* A peer that takes bytes one at a time, and says so each time. */
static void acknowledgements_of_what_was_sent_cost_nothing(void **state)
{
    (void)state;
    hand_init(true, 0);
    struct pair_stream *stream = hand_open(1, SESSION_1, 0);
    for (uint32_t i = 1; i < 3 * TOKENS; i++) {
        assert_int_equal(trunk_stream_write(&stream->stream, zeros, 1), ERROR_NONE);
        hand_read();
        acknowledge(1, i);
        open_window(1, 1);
        open_window(0, 1);
        assert_int_equal(hand.error, ERROR_NONE);
    }
    pair_dispose(&hand.pair);
}

/* Windows are opened, and nothing is acknowledged. */
static void a_peer_that_acknowledges_nothing_is_sent_little(void **state)
{
    (void)state;
    size_t sent = 0;
    size_t most = 2 * (WINDOW_BYTES + LIMIT_TRUNK_OWED_BYTES);
    hand_init(true, 0);
    struct pair_stream *stream = hand_open(1, SESSION_1, 0);
    for (int i = 0; i < 1000; i++) {
        size_t room = trunk_stream_room(&stream->stream);
        room = room < PAYLOAD_MAX ? room : PAYLOAD_MAX;
        if (room > 0) {
            assert_int_equal(trunk_stream_write(&stream->stream, zeros, room), ERROR_NONE);
            sent += room;
            hand_read();
            open_window(1, (uint32_t)room);
            open_window(0, (uint32_t)room);
        }
    }
    assert_int_equal(sent, most);
    assert_int_equal(trunk_stream_retained(&stream->stream), most);
    trunk_stream_want_room(&stream->stream);
    assert_int_equal(trunk_stream_end(&stream->stream), ERROR_NONE);
    hand_read();
    acknowledge(1, (uint32_t)most);
    assert_int_equal(hand.pair.acceptor_works.objects, 1); /* its end */
    acknowledge(1, (uint32_t)most + 1);
    assert_int_equal(hand.pair.acceptor_works.objects, 0);
    pair_dispose(&hand.pair);
}

static void a_peer_that_acknowledges_late_goes_on(void **state)
{
    (void)state;
    hand_init(true, 0);
    struct pair_stream *stream = hand_open(1, SESSION_1, 0);
    open_window(1, 1000000);
    open_window(0, 1000000);
    size_t room = trunk_stream_room(&stream->stream);
    assert_int_equal(trunk_stream_write(&stream->stream, zeros, PAYLOAD_MAX), ERROR_NONE);
    for (size_t written = PAYLOAD_MAX; written < room; written += PAYLOAD_MAX) {
        size_t part = room - written < PAYLOAD_MAX ? room - written : PAYLOAD_MAX;
        assert_int_equal(trunk_stream_write(&stream->stream, zeros, part), ERROR_NONE);
    }
    hand_read();
    assert_int_equal(trunk_stream_room(&stream->stream), 0);
    trunk_stream_want_room(&stream->stream);
    acknowledge(1, 1000);
    assert_int_equal(stream->writable, 1);
    assert_int_equal(trunk_stream_room(&stream->stream), 1000);
    pair_dispose(&hand.pair);
}

static void malformed_fields_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *session;
        const char *received;
    } requests[] = {
        {NULL, "0"},
        {"", NULL},
        {"000102030405060708090a0b0c0d0e0", NULL},
        {SESSION_1 "0", NULL},
        {"000102030405060708090A0B0C0D0E0F", NULL},
        {"g00102030405060708090a0b0c0d0e0f", NULL},
        {SESSION_1, ""},
        {SESSION_1, "-1"},
        {SESSION_1, "+1"},
        {SESSION_1, " 1"},
        {SESSION_1, "1x"},
        {SESSION_1, "4294967296"},
        {SESSION_1, "00000000001"},
        {SESSION_1, "99999999999999999999"},
    };
    hand_init(true, 0);
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        uint32_t id = 1 + 2 * (uint32_t)i;
        request(id, requests[i].session, requests[i].received);
        hand_read();
        assert_true(hand.seen[id].data > 0 || hand.seen[id].reset); /* a text, or nghttp2 had its say first */
        assert_null(pair_accepted(&hand.pair, 0));
    }
    assert_int_equal(hand.error, ERROR_NONE);
    request(101, SESSION_1, "4294967295"); /* well-formed, of no session */
    hand_read();
    assert_true(hand.seen[101].data > 0);
    assert_null(pair_accepted(&hand.pair, 0));
    (void)hand_open(103, SESSION_1, 0);
    pair_dispose(&hand.pair);
}

static void fields_of_a_peer_that_does_not_resume_mean_nothing(void **state)
{
    (void)state;
    hand_init(false, 0);
    struct pair_stream *stream = hand_open(1, SESSION_1, 0);
    assert_false(stream->metadata->session.known);
    request(3, SESSION_1, "0");
    hand_read();
    assert_non_null(pair_accepted(&hand.pair, 1));
    assert_int_equal(trunk_stream_write(&stream->stream, zeros, 1000), ERROR_NONE);
    hand_read();
    assert_int_equal(hand.pair.acceptor_works.objects, 0);
    hand_connect(true);
    assert_int_equal(stream->suspended, 0);
    assert_int_equal(stream->error, ERROR_TRUNK_LOST);
    pair_dispose(&hand.pair);
}

/* On a stream that goes on, what was not consumed counts against the new window. */
static void bytes_beyond_the_window_of_both_trunks_are_refused(void **state)
{
    (void)state;
    hand_init(true, 0);
    hand.pair.consume = false;
    struct pair_stream *stream = hand_open(1, SESSION_1, 0);
    for (size_t sent = 0; sent < 49152; sent += PAYLOAD_MAX) {
        frame(FRAME_DATA, 0, 1, zeros, PAYLOAD_MAX);
    }
    hand_connect(true);
    request(1, SESSION_1, "0");
    hand_read();
    assert_int_equal(stream->resumed, 1);
    frame(FRAME_DATA, 0, 1, zeros, PAYLOAD_MAX);
    assert_int_equal(stream->received_length, 65536);
    frame(FRAME_DATA, 0, 1, zeros, 1);
    hand_read();
    assert_int_equal(stream->received_length, 65536);
    assert_true(hand.seen[1].reset);
    assert_int_equal(hand.seen[1].code, 3);
    assert_int_equal(stream->error, ERROR_PEER_RESET);
    assert_int_equal(hand.error, ERROR_NONE); /* the trunk goes on */
    pair_dispose(&hand.pair);
}

static void bytes_behind_an_end_are_refused(void **state)
{
    (void)state;
    hand_init(true, 0);
    struct pair_stream *stream = hand_open(1, SESSION_1, 0);
    frame(FRAME_DATA, END_STREAM, 1, "abc", 3);
    assert_int_equal(stream->ended, 1);
    hand_connect(true);
    request(1, SESSION_1, "0");
    hand_read();
    assert_int_equal(stream->resumed, 1);
    frame(FRAME_DATA, 0, 1, "d", 1);
    hand_read();
    assert_int_equal(stream->received_length, 3);
    assert_true(hand.seen[1].reset);
    assert_int_equal(stream->closed, 1);
    pair_dispose(&hand.pair);
}

/* The end that was told on the lost trunk is told again, and not twice to the owner. */
static void an_end_is_acknowledged_once_more(void **state)
{
    (void)state;
    hand_init(true, 0);
    struct pair_stream *stream = hand_open(1, SESSION_1, 0);
    frame(FRAME_DATA, END_STREAM, 1, "abc", 3);
    hand_connect(true);
    request(1, SESSION_1, "0");
    frame(FRAME_DATA, END_STREAM, 1, NULL, 0);
    assert_int_equal(trunk_stream_end(&stream->stream), ERROR_NONE);
    hand_read();
    assert_int_equal(stream->ended, 1);
    /* Not before its own end is acknowledged: the opener is to forget the stream last. */
    assert_int_equal(hand.seen[1].offset, 3);
    assert_int_equal(stream->closed, 0);
    acknowledge(1, 1);
    hand_read();
    assert_int_equal(hand.seen[1].offset, 4);
    assert_int_equal(stream->closed, 1);
    assert_int_equal(stream->error, ERROR_NONE);
    pair_dispose(&hand.pair);
}

/* Bytes and an end before the answer. */
static void what_comes_before_the_answer_is_counted(void **state)
{
    (void)state;
    hand_init(true, 0);
    hand.pair.hold = true;
    request(1, SESSION_1, NULL);
    frame(FRAME_DATA, END_STREAM, 1, "abc", 3);
    struct pair_stream *stream = pair_accepted(&hand.pair, 0);
    assert_int_equal(trunk_stream_accept(&stream->stream), ERROR_NONE);
    hand_read();
    assert_int_equal(stream->received_length, 3);
    assert_int_equal(stream->ended, 1);
    assert_int_equal(hand.seen[1].offset, 3);
    assert_int_equal(trunk_stream_end(&stream->stream), ERROR_NONE);
    hand_read();
    acknowledge(1, 1);
    hand_read();
    assert_int_equal(hand.seen[1].offset, 4);
    assert_int_equal(stream->closed, 1);

    /* A stream that holds such bytes is not kept. */
    request(3, SESSION_2, NULL);
    frame(FRAME_DATA, 0, 3, "abc", 3);
    hand_connect(true);
    assert_int_equal(pair_accepted(&hand.pair, 1)->suspended, 0);
    assert_int_equal(pair_accepted(&hand.pair, 1)->error, ERROR_TRUNK_LOST);
    pair_dispose(&hand.pair);
}

#define ENDED 5U

/* Both ends of some sessions are on the wire, and the peer acknowledges nothing. */
static void hand_end_all(void)
{
    hand_init(true, 0);
    answer_ping();
    for (uint32_t i = 0; i < ENDED; i++) {
        char session[] = SESSION_1;
        session[0] = (char)('0' + i);
        struct pair_stream *stream = hand_open(2 * i + 1, session, i);
        assert_int_equal(trunk_stream_write(&stream->stream, zeros, 1000), ERROR_NONE);
        assert_int_equal(trunk_stream_end(&stream->stream), ERROR_NONE);
        frame(FRAME_DATA, END_STREAM, 2 * i + 1, NULL, 0);
        hand_read();
    }
    assert_int_equal(trunk_stream_count(hand.pair.acceptor.trunk), ENDED);
}

static int hand_closed(void)
{
    int closed = 0;
    for (size_t i = 0; i < ENDED; i++) {
        closed += pair_accepted(&hand.pair, i)->closed;
        assert_int_equal(pair_accepted(&hand.pair, i)->error, ERROR_NONE);
    }
    return closed;
}

static void what_is_over_is_forgotten_when_the_peer_has_it_for_certain(void **state)
{
    (void)state;
    hand_end_all();
    for (unsigned answers = 0; answers < 2; answers++) {
        hand_wait(TIMEOUT_PING_INTERVAL_MS);
        assert_int_equal(hand_closed(), 0);
        answer_ping();
    }
    assert_int_equal(hand_closed(), ENDED);
    assert_int_equal(trunk_stream_count(hand.pair.acceptor.trunk), 0);
    assert_int_equal(hand.pair.acceptor_works.objects, 0);
    pair_dispose(&hand.pair);
}

static void what_is_over_on_a_silent_trunk_goes_on_elsewhere(void **state)
{
    (void)state;
    hand_end_all();
    scheduler_advance(&hand.pair.scheduler, hand.pair.scheduler.now_us + 1000U * TIMEOUT_PING_INTERVAL_MS);
    scheduler_advance(&hand.pair.scheduler, hand.pair.scheduler.now_us + 1000U * TIMEOUT_PING_ANSWER_MS);
    assert_int_equal(hand.pair.acceptor.failure, ERROR_TRUNK_PING_TIMEOUT);
    assert_int_equal(hand_closed(), 0);
    hand_connect(true);
    for (size_t i = 0; i < ENDED; i++) {
        assert_true(trunk_stream_suspended(&pair_accepted(&hand.pair, i)->stream));
    }
    pair_dispose(&hand.pair);
}

/* It sends other things, so it lives; but it is not to be remembered for ever. */
static void a_peer_that_answers_no_ping_makes_nothing_last(void **state)
{
    (void)state;
    hand_end_all();
    hand_wait(TIMEOUT_PING_INTERVAL_MS);
    for (unsigned timeouts = 0; timeouts < 6; timeouts++) {
        assert_int_equal(hand_closed(), 0);
        frame(FRAME_PING, 0, 0, zeros, 8);
        hand_wait(TIMEOUT_PING_ANSWER_MS);
    }
    assert_int_equal(hand_closed(), ENDED);
    pair_dispose(&hand.pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_may_be_split_anywhere),
        cmocka_unit_test(acknowledgements_that_cannot_be_change_nothing),
        cmocka_unit_test(floods_of_acknowledgements_end_with_a_word),
        cmocka_unit_test(acknowledgements_of_what_was_sent_cost_nothing),
        cmocka_unit_test(a_peer_that_acknowledges_nothing_is_sent_little),
        cmocka_unit_test(a_peer_that_acknowledges_late_goes_on),
        cmocka_unit_test(malformed_fields_are_refused),
        cmocka_unit_test(fields_of_a_peer_that_does_not_resume_mean_nothing),
        cmocka_unit_test(bytes_beyond_the_window_of_both_trunks_are_refused),
        cmocka_unit_test(what_is_over_is_forgotten_when_the_peer_has_it_for_certain),
        cmocka_unit_test(what_is_over_on_a_silent_trunk_goes_on_elsewhere),
        cmocka_unit_test(a_peer_that_answers_no_ping_makes_nothing_last),
        cmocka_unit_test(bytes_behind_an_end_are_refused),
        cmocka_unit_test(an_end_is_acknowledged_once_more),
        cmocka_unit_test(what_comes_before_the_answer_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
