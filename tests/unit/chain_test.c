/* Tests of mux/chain.c: bytes come out as they went in, and a failed append changes nothing. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "mux/chain.h"
#include "mux/clock.h"
#include "mux/memory.h"

#define MODEL_BYTES 262144U

static void an_empty_chain_is_one_null_pointer(void **state)
{
    (void)state;
    struct chain chain;
    const uint8_t *bytes = (const uint8_t *)"";
    char into[4];
    assert_int_equal(sizeof(chain), sizeof(void *));
    chain_init(&chain);
    assert_true(chain_empty(&chain));
    assert_int_equal(chain_bytes(&chain), 0);
    assert_int_equal(chain_peek(&chain, &bytes), 0);
    assert_null(bytes);
    assert_int_equal(chain_copy(&chain, 0, into, sizeof(into)), 0);
    assert_int_equal(chain_append(&chain, NULL, 0), ERROR_NONE);
    assert_null(chain.head);
    chain_consume(&chain, 0);
    chain_clear(&chain);
}

static void a_chain_that_was_emptied_holds_nothing(void **state)
{
    (void)state;
    struct chain chain;
    chain_init(&chain);
    assert_int_equal(chain_append(&chain, "hello", 5), ERROR_NONE);
    assert_int_equal(chain_bytes(&chain), 5);
    chain_consume(&chain, 5);
    assert_null(chain.head);
    assert_int_equal(chain_append(&chain, "again", 5), ERROR_NONE);
    chain_clear(&chain);
    assert_null(chain.head);
}

static void spare_room_at_the_end_is_used_first(void **state)
{
    (void)state;
    struct chain chain;
    const uint8_t *bytes;
    chain_init(&chain);
    /* The smallest chunk holds 64 bytes: what fits it needs no memory. */
    assert_int_equal(chain_append(&chain, "a", 1), ERROR_NONE);
    memory_fail_at(1);
    for (int i = 0; i < 63; i++) {
        assert_int_equal(chain_append(&chain, "b", 1), ERROR_NONE);
    }
    assert_int_equal(chain_append(&chain, "c", 1), ERROR_NO_MEMORY);
    memory_fail_at(0);
    assert_int_equal(chain_bytes(&chain), 64);
    assert_int_equal(chain_peek(&chain, &bytes), 64);
    assert_int_equal(bytes[0], 'a');
    assert_int_equal(bytes[63], 'b');
    chain_clear(&chain);
}

static void a_long_append_is_cut_to_chunks(void **state)
{
    (void)state;
    static uint8_t bytes[3 * CHAIN_CHUNK_MAX_BYTES + 1];
    struct chain chain;
    const uint8_t *part;
    chain_init(&chain);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 7 / 3);
    }
    assert_int_equal(chain_append(&chain, bytes, sizeof(bytes)), ERROR_NONE);
    size_t offset = 0;
    size_t length;
    while ((length = chain_peek(&chain, &part)) > 0) {
        assert_true(length <= CHAIN_CHUNK_MAX_BYTES);
        assert_memory_equal(part, bytes + offset, length);
        offset += length;
        chain_consume(&chain, length);
    }
    assert_int_equal(offset, sizeof(bytes));
}

static void smaller_chunks_keep_less_of_what_was_consumed(void **state)
{
    (void)state;
    static const uint8_t bytes[10000];
    struct chain chain;
    chain_init(&chain);
    int64_t before = chain_held_bytes();
    assert_int_equal(chain_append_in(&chain, bytes, sizeof(bytes), 1000), ERROR_NONE);
    assert_int_equal(chain_held_bytes() - before, 10000);
    chain_consume(&chain, 3500);
    assert_int_equal(chain_held_bytes() - before, 7000);
    assert_int_equal(chain_bytes(&chain), 6500);
    chain_clear(&chain);
    assert_int_equal(chain_held_bytes(), before);
}

static void an_append_is_all_or_nothing(void **state)
{
    (void)state;
    static uint8_t bytes[5 * CHAIN_CHUNK_MAX_BYTES];
    static uint8_t copy[sizeof(bytes) + 16];
    memset(bytes, 0x42, sizeof(bytes));
    for (uint64_t nth = 1;; nth++) {
        struct chain chain;
        chain_init(&chain);
        assert_int_equal(chain_append(&chain, "first", 5), ERROR_NONE);
        memory_fail_at(nth);
        enum error_code error = chain_append(&chain, bytes, sizeof(bytes));
        uint64_t faults = memory_faults();
        memory_fail_at(0);
        if (faults == 0) {
            assert_int_equal(error, ERROR_NONE);
            assert_int_equal(chain_copy(&chain, 0, copy, sizeof(copy)), 5 + sizeof(bytes));
            assert_memory_equal(copy + 5, bytes, sizeof(bytes));
            chain_clear(&chain);
            assert_true(nth > 5);
            return;
        }
        assert_int_equal(error, ERROR_NO_MEMORY);
        assert_int_equal(chain_bytes(&chain), 5);
        assert_int_equal(chain_append(&chain, "second", 6), ERROR_NONE);
        assert_int_equal(chain_copy(&chain, 0, copy, sizeof(copy)), 11);
        assert_memory_equal(copy, "firstsecond", 11);
        chain_clear(&chain);
    }
}

static void a_chain_behaves_like_an_array(void **state)
{
    (void)state;
    static uint8_t model[MODEL_BYTES];
    static uint8_t bytes[40000];
    size_t start = 0;
    size_t end = 0;
    uint64_t total = 0;
    struct random_state random;
    uint64_t seed = clock_monotonic_us();
    print_message("seed %llu\n", (unsigned long long)seed);
    random_seed(&random, seed);
    struct chain chain;
    chain_init(&chain);
    for (int step = 0; step < 20000; step++) {
        size_t length = (size_t)random_below(&random, random_below(&random, 20) == 0 ? sizeof(bytes) : 300);
        if (random_below(&random, 2) == 0) {
            if (length > MODEL_BYTES - end) {
                memmove(model, model + start, end - start);
                end -= start;
                start = 0;
            }
            length = length < MODEL_BYTES - end ? length : MODEL_BYTES - end;
            for (size_t i = 0; i < length; i++) {
                model[end + i] = (uint8_t)(total++ % 251);
            }
            assert_int_equal(chain_append(&chain, model + end, length), ERROR_NONE);
            end += length;
        } else {
            length = length < end - start ? length : end - start;
            chain_consume(&chain, length);
            start += length;
        }
        assert_int_equal(chain_bytes(&chain), end - start);
        assert_int_equal(chain_empty(&chain), end == start);
        const uint8_t *first;
        size_t peeked = chain_peek(&chain, &first);
        assert_int_equal(peeked == 0, end == start);
        assert_memory_equal(first, model + start, peeked);
        size_t offset = (size_t)random_below(&random, end - start + 10);
        size_t expected = offset < end - start ? end - start - offset : 0;
        expected = expected < 1000 ? expected : 1000;
        assert_int_equal(chain_copy(&chain, offset, bytes, 1000), expected);
        assert_memory_equal(bytes, model + start + offset, expected);
    }
    chain_clear(&chain);
}

static void what_chains_hold_is_counted(void **state)
{
    struct chain one;
    struct chain other;
    uint8_t bytes[40000] = {0};
    int64_t before = chain_held_bytes();
    (void)state;
    chain_init(&one);
    chain_init(&other);
    assert_int_equal(chain_append(&one, bytes, sizeof(bytes)), ERROR_NONE);
    assert_int_equal(chain_append(&other, bytes, 1), ERROR_NONE);
    assert_true(chain_held_bytes() >= before + (int64_t)sizeof(bytes) + 1);
    memory_fail_at(2);
    assert_int_equal(chain_append(&one, bytes, sizeof(bytes)), ERROR_NO_MEMORY);
    memory_fail_at(0);
    chain_consume(&one, sizeof(bytes));
    chain_clear(&other);
    assert_int_equal(chain_held_bytes(), before);
}

/* Bytes are read before they are consumed, as a stream sends before it is acknowledged; at times all is read again. */
static void a_cursor_reads_what_was_appended(void **state)
{
    (void)state;
    static uint8_t bytes[40000];
    static uint8_t read[40000];
    uint64_t appended = 0;
    uint64_t consumed = 0;
    uint64_t at = 0; /* of the cursor */
    struct chain chain;
    struct chain_cursor cursor = {NULL, 0};
    struct random_state random;
    uint64_t seed = clock_monotonic_us();
    print_message("seed %llu\n", (unsigned long long)seed);
    random_seed(&random, seed);
    chain_init(&chain);
    for (int step = 0; step < 50000; step++) {
        size_t length = (size_t)random_below(&random, random_below(&random, 20) == 0 ? sizeof(bytes) : 300);
        switch (random_below(&random, step % 1000 == 0 ? 4 : 3)) {
        case 0:
            for (size_t i = 0; i < length && appended - consumed < MODEL_BYTES; i++) {
                bytes[i] = (uint8_t)((appended + i) % 251);
            }
            if (appended - consumed < MODEL_BYTES) {
                assert_int_equal(chain_append(&chain, bytes, length), ERROR_NONE);
                appended += length;
            }
            break;
        case 1: {
            size_t expected = length < appended - at ? length : (size_t)(appended - at);
            assert_int_equal(chain_read(&chain, &cursor, read, length), expected);
            for (size_t i = 0; i < expected; i++) {
                assert_int_equal(read[i], (at + i) % 251);
            }
            at += expected;
            break;
        }
        case 2:
            length = length < at - consumed ? length : (size_t)(at - consumed);
            chain_consume(&chain, length);
            consumed += length;
            if (consumed == at) {
                cursor = (struct chain_cursor){NULL, 0};
            }
            break;
        default:
            cursor = (struct chain_cursor){NULL, 0};
            at = consumed;
            break;
        }
        assert_int_equal(chain_bytes(&chain), appended - consumed);
    }
    chain_clear(&chain);
    assert_int_equal(chain_read(&chain, &(struct chain_cursor){NULL, 0}, read, 10), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_chain_is_one_null_pointer),
        cmocka_unit_test(a_chain_that_was_emptied_holds_nothing),
        cmocka_unit_test(spare_room_at_the_end_is_used_first),
        cmocka_unit_test(a_long_append_is_cut_to_chunks),
        cmocka_unit_test(smaller_chunks_keep_less_of_what_was_consumed),
        cmocka_unit_test(an_append_is_all_or_nothing),
        cmocka_unit_test(a_chain_behaves_like_an_array),
        cmocka_unit_test(what_chains_hold_is_counted),
        cmocka_unit_test(a_cursor_reads_what_was_appended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
