/*
 * A peer that is authenticated and hostile: frames made by hand, thousands of them, none of use to anybody. Each flood
 * ends with GOAWAY(ENHANCE_YOUR_CALM) after a bounded number of frames, and what honest peers do at their busiest does
 * not.
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

#define SESSIONS_MAX 1000U
#define TOKENS       (SESSIONS_MAX + TRUNK_BUDGET_SPARE)

enum frame_type {
    FRAME_DATA = 0,
    FRAME_HEADERS = 1,
    FRAME_PRIORITY = 2,
    FRAME_RST_STREAM = 3,
    FRAME_SETTINGS = 4,
    FRAME_PING = 6,
    FRAME_GOAWAY = 7,
    FRAME_WINDOW_UPDATE = 8,
    FRAME_CONTINUATION = 9,
    FRAME_UNKNOWN = 0xee,
};

#define END_STREAM  1U
#define END_HEADERS 4U
#define PADDED      8U

struct flood {
    struct trunk_pair pair; /* only its acceptor is used */
    enum error_code error;  /* the trunk's first */
    uint32_t next_id;
    uint8_t out[TLS_RECORD_MAX_BYTES];
    uint32_t goaway_code; /* the last that came */
    unsigned goaways;
};

/* RFC 7541 section 6.2.2: `:method CONNECT`, `:authority echo`, without indexing. */
static const uint8_t connect_block[] = {0x02, 7, 'C', 'O', 'N', 'N', 'E', 'C', 'T', 0x01, 4, 'e', 'c', 'h', 'o'};
/* A second `:method`. */
static const uint8_t malformed_block[] = {0x02, 7, 'C', 'O', 'N', 'N', 'E', 'C', 'T', 0x02, 3, 'G', 'E', 'T'};
static const uint8_t get_block[] = {0x82, 0x87, 0x84, 0x01, 4, 'e', 'c', 'h', 'o'};

/* ---- what the trunk says ---- */

static uint32_t big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Frames end with the records of these tests, as they are small. */
static void flood_read(struct flood *flood)
{
    size_t length = 0;
    do {
        scheduler_run_tasks(&flood->pair.scheduler);
        enum error_code error = trunk_send(flood->pair.acceptor.trunk, flood->out, sizeof(flood->out), &length);
        assert_true(error == ERROR_NONE || flood->error != ERROR_NONE);
        for (size_t at = 0; at + 9 <= length;) {
            const uint8_t *frame = flood->out + at;
            if (frame[3] == FRAME_GOAWAY && at + 17 <= length) {
                flood->goaways++;
                flood->goaway_code = big_endian(frame + 13);
            }
            at += 9U + ((size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2]);
        }
    } while (length > 0);
    if (flood->error == ERROR_NONE) {
        flood->error = flood->pair.acceptor.failure; /* found while sending */
    }
}

/* ---- what the peer says ---- */

static void feed(struct flood *flood, const uint8_t *bytes, size_t length)
{
    if (flood->error == ERROR_NONE) {
        flood->error = trunk_receive(flood->pair.acceptor.trunk, bytes, length);
    }
}

static void frame(struct flood *flood, enum frame_type type, unsigned flags, uint32_t id, const void *payload,
                  size_t length)
{
    uint8_t bytes[9 + 1024];
    assert_true(length <= sizeof(bytes) - 9);
    const uint8_t header[9] = {0,
                               (uint8_t)(length >> 8),
                               (uint8_t)length,
                               (uint8_t)type,
                               (uint8_t)flags,
                               (uint8_t)(id >> 24),
                               (uint8_t)(id >> 16),
                               (uint8_t)(id >> 8),
                               (uint8_t)id};
    memcpy(bytes, header, 9);
    if (length > 0) {
        memcpy(bytes + 9, payload, length);
    }
    feed(flood, bytes, 9 + length);
}

static uint32_t open_stream(struct flood *flood)
{
    uint32_t id = flood->next_id;
    flood->next_id += 2;
    frame(flood, FRAME_HEADERS, END_HEADERS, id, connect_block, sizeof(connect_block));
    return id;
}

static void flood_init(struct flood *flood)
{
    static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    struct trunk_settings settings;
    memset(flood, 0, sizeof(*flood));
    trunk_settings_init(&settings, TRUNK_ACCEPTOR);
    settings.sessions_max = SESSIONS_MAX;
    assert_int_equal(pair_init(&flood->pair, NULL, &settings), ERROR_NONE);
    trunk_free(&flood->pair.acceptor.trunk);
    assert_int_equal(trunk_new(&flood->pair.acceptor.trunk, &settings, &flood->pair.scheduler,
                               &flood->pair.acceptor.carrier, &pair_acceptor_events, &flood->pair.acceptor),
                     ERROR_NONE);
    flood->pair.consume = true;
    flood->next_id = 1;
    feed(flood, preface, sizeof(preface) - 1);
    frame(flood, FRAME_SETTINGS, 0, 0, NULL, 0);
    flood_read(flood);
    assert_int_equal(flood->error, ERROR_NONE);
}

/* ---- floods: one round each ---- */

static void pings(struct flood *flood, unsigned round)
{
    (void)round;
    frame(flood, FRAME_PING, 0, 0, "12345678", 8);
}

static void settings(struct flood *flood, unsigned round)
{
    (void)round;
    frame(flood, FRAME_SETTINGS, 0, 0, NULL, 0);
}

static void settings_that_change_every_window(struct flood *flood, unsigned round)
{
    const uint8_t entry[] = {0, 4, 0, 1, 0, (uint8_t)(round & 1U)};
    while (flood->next_id < 2 * SESSIONS_MAX) {
        open_stream(flood);
    }
    frame(flood, FRAME_SETTINGS, 0, 0, entry, sizeof(entry));
}

static void priorities(struct flood *flood, unsigned round)
{
    const uint8_t payload[] = {0, 0, 0, 0, (uint8_t)round};
    frame(flood, FRAME_PRIORITY, 0, 7, payload, sizeof(payload));
}

static uint32_t first_stream(struct flood *flood)
{
    return flood->next_id == 1 ? open_stream(flood) : 1;
}

static void empty_data(struct flood *flood, unsigned round)
{
    (void)round;
    frame(flood, FRAME_DATA, 0, first_stream(flood), NULL, 0);
}

static void padding_alone(struct flood *flood, unsigned round)
{
    static const uint8_t padded[101] = {100};
    (void)round;
    frame(flood, FRAME_DATA, PADDED, first_stream(flood), padded, sizeof(padded));
}

/* The window of the trunk must not overflow, so its updates are small. */
static void updates_of_the_trunk(struct flood *flood, unsigned round)
{
    (void)round;
    frame(flood, FRAME_WINDOW_UPDATE, 0, 0, "\0\0\0\1", 4);
}

static void updates_of_a_stream(struct flood *flood, unsigned round)
{
    (void)round;
    frame(flood, FRAME_WINDOW_UPDATE, 0, first_stream(flood), "\0\0\0\1", 4);
}

static void updates_of_nothing(struct flood *flood, unsigned round)
{
    (void)round;
    frame(flood, FRAME_WINDOW_UPDATE, 0, open_stream(flood), "\0\0\0\0", 4);
}

/* CVE-2023-44487. */
static void rapid_resets(struct flood *flood, unsigned round)
{
    (void)round;
    frame(flood, FRAME_RST_STREAM, 0, open_stream(flood), "\0\0\0\10", 4);
}

static void resets_of_what_is_over(struct flood *flood, unsigned round)
{
    (void)round;
    frame(flood, FRAME_RST_STREAM, 0, first_stream(flood), "\0\0\0\10", 4);
}

static void streams_beyond_the_limit(struct flood *flood, unsigned round)
{
    (void)round;
    open_stream(flood);
}

static void malformed_requests(struct flood *flood, unsigned round)
{
    (void)round;
    frame(flood, FRAME_HEADERS, END_HEADERS, flood->next_id, malformed_block, sizeof(malformed_block));
    flood->next_id += 2;
}

static void requests_that_are_refused(struct flood *flood, unsigned round)
{
    (void)round;
    frame(flood, FRAME_HEADERS, END_HEADERS | END_STREAM, flood->next_id, get_block, sizeof(get_block));
    flood->next_id += 2;
}

static void continuations(struct flood *flood, unsigned round)
{
    if (round == 0) {
        frame(flood, FRAME_HEADERS, 0, 1, connect_block, sizeof(connect_block));
    }
    frame(flood, FRAME_CONTINUATION, 0, 1, NULL, 0);
}

static void frames_that_nobody_knows(struct flood *flood, unsigned round)
{
    (void)round;
    frame(flood, FRAME_UNKNOWN, 0, 0, "12345678", 8);
}

static void data_of_a_stream_that_is_over(struct flood *flood, unsigned round)
{
    if (round == 0) {
        rapid_resets(flood, round);
    }
    frame(flood, FRAME_DATA, 0, 1, "x", 1);
}

static void farewells(struct flood *flood, unsigned round)
{
    static const uint8_t payload[8] = {0};
    (void)round;
    first_stream(flood); /* otherwise the first one ends the trunk */
    frame(flood, FRAME_GOAWAY, 0, 0, payload, sizeof(payload));
}

/* One entry of 4 KB in the table, then 900 references to it in each request: 3.6 MB of fields in a kilobyte. */
static void header_bombs(struct flood *flood, unsigned round)
{
    static uint8_t block[1000];
    size_t length = 0;
    if (round == 0) {
        static const uint8_t insert[] = {0x40, 1, 'x', 0x7f, 0x81, 0x06}; /* value of 127 + 769 bytes */
        memcpy(block, insert, sizeof(insert));
        memset(block + sizeof(insert), 'a', 896);
        length = sizeof(insert) + 896;
    } else {
        memset(block, 0xbe, 900);
        length = 900;
    }
    frame(flood, FRAME_HEADERS, END_HEADERS, flood->next_id, block, length);
    flood->next_id += 2;
}

static void every_flood_ends_with_a_word(void **state)
{
    static const struct {
        const char *name;
        void (*round)(struct flood *flood, unsigned round);
        unsigned rounds_max;
        bool read; /* the peer takes what it is sent */
        bool by_nghttp2;
    } floods[] = {
        {"pings", pings, TOKENS, true, false},
        {"pings, unread", pings, 2000, false, false},
        {"settings", settings, TOKENS, true, false},
        {"settings, unread", settings, 2000, false, false},
        {"window changes", settings_that_change_every_window, TOKENS / 30, true, false},
        {"priorities", priorities, TOKENS, true, false},
        {"empty data", empty_data, TOKENS, true, false},
        {"padding", padding_alone, TOKENS, true, false},
        {"trunk updates", updates_of_the_trunk, TOKENS, true, false},
        {"stream updates", updates_of_a_stream, TOKENS, true, false},
        {"empty updates", updates_of_nothing, TOKENS / 60, true, true},
        {"rapid resets", rapid_resets, TOKENS, true, false},
        {"late resets", resets_of_what_is_over, TOKENS, true, false},
        {"too many streams", streams_beyond_the_limit, SESSIONS_MAX + TOKENS / 16, true, false},
        {"malformed", malformed_requests, TOKENS / 60, true, false},
        {"refused", requests_that_are_refused, TOKENS / 60, true, false},
        {"refused, unread", requests_that_are_refused, TOKENS / 60, false, false},
        {"continuations", continuations, 100, true, true},
        {"unknown frames", frames_that_nobody_knows, TOKENS * 256 / 17 + 256, true, false},
        {"late data", data_of_a_stream_that_is_over, TOKENS * 256 / 10 + 256, true, false},
        {"farewells", farewells, TOKENS, true, false},
        {"header bombs", header_bombs, TOKENS / 60, true, false},
    };
    static struct flood flood;
    (void)state;
    for (size_t i = 0; i < sizeof(floods) / sizeof(floods[0]); i++) {
        unsigned rounds = 0;
        flood_init(&flood);
        while (flood.error == ERROR_NONE && rounds <= floods[i].rounds_max) {
            floods[i].round(&flood, rounds++);
            if (floods[i].read) {
                flood_read(&flood);
            }
        }
        flood_read(&flood);
        print_message("%-20s %5u rounds: %s, GOAWAY %u\n", floods[i].name, rounds, error_name(flood.error),
                      (unsigned)flood.goaway_code);
        assert_true(rounds <= floods[i].rounds_max);
        if (!floods[i].by_nghttp2) {
            assert_int_equal(flood.error, ERROR_TRUNK_FLOODED);
            assert_int_equal(flood.goaway_code, TRUNK_CODE_ENHANCE_YOUR_CALM);
            assert_int_equal(flood.goaways, 1);
        }
        pair_dispose(&flood.pair);
    }
}

/* A radio outage ends all sessions at once, and they all come back: many times over, as fast as TLS lets clients
 * connect. */
static void outages_are_not_floods(void **state)
{
    static struct flood flood;
    static uint32_t ids[SESSIONS_MAX];
    (void)state;
    flood_init(&flood);
    for (unsigned outage = 0; outage < 50; outage++) {
        for (unsigned i = 0; i < SESSIONS_MAX; i++) {
            ids[i] = open_stream(&flood);
        }
        flood_read(&flood);
        for (unsigned i = 0; i < SESSIONS_MAX; i++) {
            frame(&flood, FRAME_RST_STREAM, 0, ids[i], "\0\0\0\10", 4);
        }
        flood_read(&flood);
        scheduler_set_time(&flood.pair.scheduler, flood.pair.scheduler.now_us + 200000); /* 5,000 a second */
    }
    assert_int_equal(flood.error, ERROR_NONE);
    pair_dispose(&flood.pair);
}

/* A stock peer that gives back each window for itself, and as soon as it can. */
static void updates_that_follow_bytes_are_not_floods(void **state)
{
    static struct flood flood;
    static uint8_t bytes[1024];
    (void)state;
    flood_init(&flood);
    open_stream(&flood);
    flood_read(&flood);
    struct trunk_stream *stream = &pair_accepted(&flood.pair, 0)->stream;
    for (unsigned i = 0; i < 4 * TOKENS && flood.error == ERROR_NONE; i++) {
        assert_int_equal(trunk_stream_write(stream, bytes, sizeof(bytes)), ERROR_NONE);
        flood_read(&flood);
        frame(&flood, FRAME_WINDOW_UPDATE, 0, 0, "\0\0\4\0", 4);
        frame(&flood, FRAME_WINDOW_UPDATE, 0, 1, "\0\0\2\0", 4);
        frame(&flood, FRAME_WINDOW_UPDATE, 0, 1, "\0\0\2\0", 4);
    }
    assert_int_equal(flood.error, ERROR_NONE);
    pair_dispose(&flood.pair);
}

static void small_messages_are_not_floods(void **state)
{
    static struct flood flood;
    (void)state;
    flood_init(&flood);
    open_stream(&flood);
    for (unsigned i = 0; i < 4 * TOKENS && flood.error == ERROR_NONE; i++) {
        frame(&flood, FRAME_DATA, 0, 1, "x", 1);
        flood_read(&flood);
    }
    assert_int_equal(flood.error, ERROR_NONE);
    pair_dispose(&flood.pair);
}

static void tokens_come_back_with_time(void **state)
{
    struct trunk_budget budget;
    (void)state;
    trunk_budget_init(&budget, 90000, 5);
    assert_true(trunk_budget_spend(&budget, 5, 100000));
    assert_false(trunk_budget_spend(&budget, 5, 1));
    assert_false(trunk_budget_spend(&budget, 104, 1)); /* 99 microseconds: not yet one */
    assert_true(trunk_budget_spend(&budget, 105, 1));
    assert_false(trunk_budget_spend(&budget, 1000105, 10001));
    assert_true(trunk_budget_spend(&budget, 1000105, 10000));
    assert_true(trunk_budget_spend(&budget, UINT64_MAX / 2, 100000));
    assert_false(trunk_budget_spend(&budget, UINT64_MAX / 2, 1));
    trunk_budget_earn(&budget, UINT64_MAX);
    assert_true(trunk_budget_spend(&budget, UINT64_MAX / 2, 100000));
    assert_false(trunk_budget_spend(&budget, UINT64_MAX / 2, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flood_ends_with_a_word),
        cmocka_unit_test(outages_are_not_floods),
        cmocka_unit_test(updates_that_follow_bytes_are_not_floods),
        cmocka_unit_test(small_messages_are_not_floods),
        cmocka_unit_test(tokens_come_back_with_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
