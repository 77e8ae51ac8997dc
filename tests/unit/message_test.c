/* Unit tests of the load generator's messages: every kind of damage on the way must be found and named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "mux/clock.h"
#include "mux/memory.h"
#include "tests/load/message.h"

#define CLIENT   7U
#define SIZE     100U
#define MESSAGES 20U

static uint8_t stream[MESSAGES * SIZE]; /* MESSAGES messages, one after the other */
static struct message_faults faults;
static struct slab partials;
static struct message_rules rules;
static struct message_reader reader;
static uint64_t whole_count;
static uint64_t whole_last_intended_us;

static void on_whole(struct message_reader *from, const struct message_rules *by, const struct message *message)
{
    assert_ptr_equal(from, &reader);
    assert_ptr_equal(by, &rules);
    assert_int_equal(message->client, CLIENT);
    assert_int_equal(message->size, SIZE);
    assert_int_equal(message->intended_us, 1000 + message->sequence);
    whole_last_intended_us = message->intended_us;
    whole_count++;
}

static int set_up(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        const struct message message = {.sequence = i, .intended_us = 1000 + i, .client = CLIENT, .size = SIZE};
        message_write(&message, stream + i * SIZE);
    }
    memset(&faults, 0, sizeof(faults));
    whole_count = 0;
    slab_init(&partials, "partials", sizeof(struct message_partial));
    rules = (struct message_rules){.whole = on_whole, .faults = &faults, .partials = &partials, .size = SIZE};
    message_reader_init(&reader, CLIENT);
    reader.awaited = MESSAGES;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    message_reader_end(&reader, &rules);
    slab_dispose(&partials);
    return 0;
}

static enum error_code feed_message(uint32_t index)
{
    return message_reader_feed(&reader, &rules, stream + index * SIZE, SIZE);
}

static void assert_faults(uint64_t missing, uint64_t repeated, uint64_t altered, uint64_t broken)
{
    assert_int_equal(faults.missing, missing);
    assert_int_equal(faults.repeated, repeated);
    assert_int_equal(faults.altered, altered);
    assert_int_equal(faults.broken, broken);
}

static void an_undamaged_stream_has_no_faults_however_it_is_cut(void **state)
{
    (void)state;
    struct random_state random;
    uint64_t seed = clock_monotonic_us();
    random_seed(&random, seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 200; round++) {
        tear_down(NULL);
        set_up(NULL);
        size_t at = 0;
        while (at < sizeof(stream)) {
            size_t length = (size_t)random_below(&random, 1 + (round % 2 == 0 ? 3 : 3 * SIZE));
            length = length < sizeof(stream) - at ? length : sizeof(stream) - at;
            assert_int_equal(message_reader_feed(&reader, &rules, stream + at, length), ERROR_NONE);
            at += length;
        }
        assert_int_equal(whole_count, MESSAGES);
        assert_int_equal(whole_last_intended_us, 1000 + MESSAGES - 1);
        assert_int_equal(reader.awaited, 0);
        assert_faults(0, 0, 0, 0);
    }
}

static void every_altered_bit_is_found(void **state)
{
    (void)state;
    for (uint32_t at = 0; at < SIZE; at++) {
        for (uint32_t bit = 0; bit < 8; bit++) {
            tear_down(NULL);
            set_up(NULL);
            stream[SIZE + at] ^= (uint8_t)(1U << bit);
            assert_int_equal(feed_message(0), ERROR_NONE);
            enum error_code error = feed_message(1);
            if (at < MESSAGE_HEADER_BYTES) {
                assert_int_equal(error, ERROR_INVALID);
                assert_faults(0, 0, 0, 1);
            } else {
                assert_int_equal(error, ERROR_NONE);
                assert_faults(0, 0, 1, 0);
                assert_int_equal(feed_message(2), ERROR_NONE);
                assert_int_equal(whole_count, 2);
            }
        }
    }
}

static void a_lost_message_is_missing_once_and_the_rest_counts(void **state)
{
    (void)state;
    assert_int_equal(feed_message(0), ERROR_NONE);
    assert_int_equal(feed_message(3), ERROR_NONE);
    assert_int_equal(feed_message(4), ERROR_NONE);
    assert_faults(2, 0, 0, 0);
    assert_int_equal(whole_count, 3);
    assert_int_equal(reader.awaited, MESSAGES - 5);
}

static void a_repeated_message_is_not_counted_as_an_echo(void **state)
{
    (void)state;
    assert_int_equal(feed_message(0), ERROR_NONE);
    assert_int_equal(feed_message(0), ERROR_NONE);
    assert_int_equal(feed_message(1), ERROR_NONE);
    assert_faults(0, 1, 0, 0);
    assert_int_equal(whole_count, 2);
}

static void messages_out_of_order_are_found(void **state)
{
    (void)state;
    assert_int_equal(feed_message(1), ERROR_NONE);
    assert_int_equal(feed_message(0), ERROR_NONE);
    assert_faults(1, 1, 0, 0);
}

static void a_lost_byte_destroys_the_framing(void **state)
{
    (void)state;
    assert_int_equal(message_reader_feed(&reader, &rules, stream, SIZE - 1), ERROR_NONE);
    assert_int_equal(feed_message(1), ERROR_INVALID);
    assert_int_equal(faults.broken, 1);
    /* The last byte of the first message was the first of the second. */
    assert_int_equal(whole_count + faults.altered, 1);
}

static void a_message_of_another_client_is_found(void **state)
{
    (void)state;
    const struct message foreign = {.sequence = 0, .intended_us = 1000, .client = CLIENT + 1, .size = SIZE};
    message_write(&foreign, stream);
    assert_int_equal(feed_message(0), ERROR_INVALID);
    assert_faults(0, 0, 0, 1);
}

static void a_message_that_was_never_sent_is_found(void **state)
{
    (void)state;
    reader.awaited = 1;
    assert_int_equal(feed_message(0), ERROR_NONE);
    assert_int_equal(feed_message(1), ERROR_INVALID);
    assert_faults(0, 0, 0, 1);
}

static uint64_t small_count;

static void on_small(struct message_reader *from, const struct message_rules *by, const struct message *message)
{
    assert_ptr_equal(from, &reader);
    assert_ptr_equal(by, &rules);
    assert_int_equal(message->sequence, small_count);
    small_count++;
}

static void the_smallest_message_has_a_header_only(void **state)
{
    (void)state;
    uint8_t bytes[MESSAGE_HEADER_BYTES + 1];
    bytes[MESSAGE_HEADER_BYTES] = 0xee;
    rules.size = MESSAGE_HEADER_BYTES;
    rules.whole = on_small;
    reader.awaited = 3;
    small_count = 0;
    for (uint32_t i = 0; i < 3; i++) {
        const struct message message = {
            .sequence = i, .intended_us = 5, .client = CLIENT, .size = MESSAGE_HEADER_BYTES};
        message_write(&message, bytes);
        assert_int_equal(bytes[MESSAGE_HEADER_BYTES], 0xee);
        assert_int_equal(message_reader_feed(&reader, &rules, bytes, 20), ERROR_NONE);
        assert_int_equal(small_count, i);
        assert_int_equal(message_reader_feed(&reader, &rules, bytes + 20, MESSAGE_HEADER_BYTES - 20), ERROR_NONE);
        assert_int_equal(small_count, i + 1);
    }
    assert_faults(0, 0, 0, 0);
}

static void memory_is_held_only_while_a_message_has_come_in_part(void **state)
{
    (void)state;
    assert_int_equal(feed_message(0), ERROR_NONE);
    assert_null(reader.partial);
    assert_int_equal(message_reader_feed(&reader, &rules, stream + SIZE, 2 * SIZE - 1), ERROR_NONE);
    assert_non_null(reader.partial);
    assert_int_equal(partials.objects, 1);
    assert_int_equal(message_reader_feed(&reader, &rules, stream + 3 * SIZE - 1, 1), ERROR_NONE);
    assert_null(reader.partial);
    assert_int_equal(partials.objects, 0);
    assert_int_equal(whole_count, 3);
    memory_fail_at(1);
    assert_int_equal(message_reader_feed(&reader, &rules, stream + 3 * SIZE, 5), ERROR_NO_MEMORY);
    memory_fail_at(0);
    assert_faults(0, 0, 0, 0);
}

static void a_peer_that_sends_by_itself_may_send_any_number(void **state)
{
    (void)state;
    reader.awaited = MESSAGE_AWAITED_ANY;
    assert_int_equal(feed_message(0), ERROR_NONE);
    assert_int_equal(feed_message(1), ERROR_NONE);
    assert_int_equal(feed_message(3), ERROR_NONE);
    assert_int_equal(reader.awaited, MESSAGE_AWAITED_ANY);
    assert_faults(1, 0, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_undamaged_stream_has_no_faults_however_it_is_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_altered_bit_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_message_is_missing_once_and_the_rest_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_repeated_message_is_not_counted_as_an_echo, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_out_of_order_are_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_byte_destroys_the_framing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_message_of_another_client_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_message_that_was_never_sent_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(memory_is_held_only_while_a_message_has_come_in_part, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_peer_that_sends_by_itself_may_send_any_number, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_smallest_message_has_a_header_only, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
