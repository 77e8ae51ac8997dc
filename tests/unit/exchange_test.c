/* Unit tests of what clients and services say to each other: each kind of traffic, well and ill. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "mux/memory.h"
#include "tests/load/exchange.h"

#define CLIENT 7U
#define SIZE   100U

static struct tally tally;
static struct slab answers, partials;
static struct exchange_plan plan;
static struct exchange exchange;
static uint8_t room[EXCHANGE_REQUEST_MAX_BYTES];
static unsigned results, proofs, measured[MEASURE_COUNT];

static void on_result(struct exchange *from, const struct exchange_result *result)
{
    assert_ptr_equal(from, &exchange);
    results++;
    proofs += result->proved;
    if (result->measured) {
        measured[result->measure]++;
    }
}

static int set_up(void **state)
{
    (void)state;
    tally_init(&tally);
    slab_init(&answers, "answers", sizeof(struct exchange_answer));
    slab_init(&partials, "partials", sizeof(struct message_partial));
    plan = (struct exchange_plan){.result = on_result,
                                  .tally = &tally,
                                  .answers = &answers,
                                  .host = "localhost",
                                  .path = "/x",
                                  .down_interval_us = 5000,
                                  .status = 200};
    exchange_plan_init(&plan, SIZE, &partials);
    results = proofs = 0;
    memset(measured, 0, sizeof(measured));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    exchange_end(&exchange, &plan);
    slab_dispose(&answers);
    slab_dispose(&partials);
    return 0;
}

static void begin(enum exchange_kind kind)
{
    exchange_init(&exchange, kind, CLIENT);
    assert_true(exchange_room(&plan) <= sizeof(room));
    size_t length = exchange_open(&exchange, &plan, 1000, room);
    assert_true(length > 0 && length <= exchange_room(&plan));
    assert_int_equal(tally.bytes_up, length);
}

static enum error_code answer(const char *text)
{
    return exchange_receive(&exchange, &plan, (const uint8_t *)text, strlen(text));
}

static void the_first_echo_proves_and_later_ones_are_measured(void **state)
{
    (void)state;
    begin(EXCHANGE_ECHO);
    assert_int_equal(exchange_outstanding(&exchange), 1);
    assert_int_equal(exchange_receive(&exchange, &plan, room, SIZE), ERROR_NONE);
    assert_int_equal(proofs, 1);
    assert_int_equal(measured[MEASURE_ECHO], 0);
    assert_int_equal(exchange_outstanding(&exchange), 0);
    assert_true(exchange_may_send(&exchange));
    assert_int_equal(exchange_send(&exchange, &plan, 2000, room), SIZE);
    assert_int_equal(exchange_receive(&exchange, &plan, room, SIZE), ERROR_NONE);
    assert_int_equal(proofs, 1);
    assert_int_equal(measured[MEASURE_ECHO], 1);
    assert_int_equal(tally.echoed, 2);
}

static void a_ping_between_messages_has_a_measure_of_its_own(void **state)
{
    (void)state;
    begin(EXCHANGE_ECHO);
    assert_int_equal(exchange_receive(&exchange, &plan, room, SIZE), ERROR_NONE);
    size_t length = exchange_ping(&exchange, &plan, 2000, room);
    assert_int_equal(length, MESSAGE_HEADER_BYTES);
    length += exchange_send(&exchange, &plan, 3000, room + length);
    for (size_t at = 0; at < length; at++) {
        assert_int_equal(exchange_receive(&exchange, &plan, room + at, 1), ERROR_NONE);
    }
    assert_int_equal(measured[MEASURE_PING], 1);
    assert_int_equal(measured[MEASURE_ECHO], 1);
    assert_int_equal(exchange_outstanding(&exchange), 0);
}

static void an_altered_echo_is_counted_and_a_foreign_one_breaks_off(void **state)
{
    (void)state;
    begin(EXCHANGE_ECHO);
    room[SIZE - 1] ^= 1;
    assert_int_equal(exchange_receive(&exchange, &plan, room, SIZE), ERROR_NONE);
    assert_int_equal(tally.faults.altered, 1);
    assert_int_equal(proofs, 0);
    assert_int_equal(answer("this is not a message of ours at all"), ERROR_INVALID);
    assert_int_equal(tally.faults.broken, 1);
}

static void one_way_up_proves_itself_and_takes_whatever_comes(void **state)
{
    (void)state;
    begin(EXCHANGE_UP);
    assert_true(exchange_proves_itself(&exchange));
    assert_int_equal(exchange_outstanding(&exchange), 0);
    assert_true(exchange_may_send(&exchange));
    assert_int_equal(answer("anything"), ERROR_NONE);
    assert_int_equal(tally.bytes_down, 8);
    assert_int_equal(results, 0);
}

/* The n-th message that a server of one-way down traffic sends. */
static size_t down_message(uint64_t sequence, uint32_t client, uint8_t *into)
{
    const struct message message = {.sequence = sequence, .intended_us = 5, .client = client, .size = SIZE};
    message_write(&message, into);
    return SIZE;
}

static void one_way_down_asks_once_and_checks_what_arrives(void **state)
{
    (void)state;
    static const char head[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    uint8_t stream[1024];
    begin(EXCHANGE_DOWN);
    room[SIZE * 2] = '\0';
    assert_non_null(strstr((char *)room, "GET /x?client=7&size=100&interval_us=5000 HTTP/1.1\r\n"));
    assert_int_equal(exchange_outstanding(&exchange), 1);
    assert_true(exchange_silent(&exchange));
    memcpy(stream, head, sizeof(head) - 1);
    size_t length = sizeof(head) - 1;
    length += down_message(0, CLIENT, stream + length);
    length += down_message(1, CLIENT, stream + length);
    assert_int_equal(exchange_receive(&exchange, &plan, stream, length), ERROR_NONE);
    assert_int_equal(proofs, 1);
    assert_int_equal(measured[MEASURE_DELIVERY], 2);
    assert_int_equal(tally.delivered, 2);
    assert_int_equal(tally.answered, 1);
    assert_false(exchange_silent(&exchange));
    assert_int_equal(exchange_outstanding(&exchange), 0);
    assert_false(exchange_may_send(&exchange));
    length = down_message(3, CLIENT, stream);
    assert_int_equal(exchange_receive(&exchange, &plan, stream, length), ERROR_NONE);
    assert_int_equal(tally.faults.missing, 1);
    length = down_message(4, CLIENT + 1, stream);
    assert_int_equal(exchange_receive(&exchange, &plan, stream, length), ERROR_INVALID);
}

static void a_refused_download_breaks_off(void **state)
{
    (void)state;
    begin(EXCHANGE_DOWN);
    assert_int_equal(answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), ERROR_INVALID);
    assert_int_equal(tally.wrong_status, 1);
}

static void a_path_with_a_query_keeps_it(void **state)
{
    (void)state;
    plan.path = "/x?topic=a";
    begin(EXCHANGE_DOWN);
    room[SIZE * 2] = '\0';
    assert_non_null(strstr((char *)room, "GET /x?topic=a&client=7&"));
}

static void one_request_follows_the_answer_to_another(void **state)
{
    (void)state;
    begin(EXCHANGE_HTTP);
    assert_false(exchange_may_send(&exchange));
    assert_int_equal(answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"), ERROR_NONE);
    assert_false(exchange_may_send(&exchange));
    assert_int_equal(answer("lo"), ERROR_NONE);
    assert_true(exchange_may_send(&exchange));
    assert_int_equal(proofs, 1);
    assert_int_equal(measured[MEASURE_ANSWER], 0);
    (void)exchange_send(&exchange, &plan, 2000, room);
    assert_int_equal(answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), ERROR_NONE);
    assert_int_equal(measured[MEASURE_ANSWER], 1);
    assert_int_equal(tally.requests, 2);
    assert_int_equal(tally.answered, 2);
}

static void wrong_answers_are_counted_by_what_is_wrong(void **state)
{
    (void)state;
    plan.body_bytes = 5;
    plan.body_bytes_given = true;
    begin(EXCHANGE_HTTP);
    assert_int_equal(answer("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhell"), ERROR_NONE);
    assert_int_equal(tally.wrong_length, 1);
    (void)exchange_send(&exchange, &plan, 2000, room);
    assert_int_equal(answer("HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
                     ERROR_NONE);
    assert_int_equal(tally.wrong_status, 1);
    assert_int_equal(tally.answered, 0);
    assert_int_equal(exchange_outstanding(&exchange), 0);
    assert_int_equal(answer("HTTP/1.1 200 OK\r\n"), ERROR_INVALID); /* nobody has asked */
}

static void chunked_answers_and_messages_are_judged_like_others(void **state)
{
    (void)state;
    plan.body_bytes = 5;
    plan.body_bytes_given = true;
    begin(EXCHANGE_HTTP);
    assert_int_equal(answer("HTTP/1.1 100 Continue\r\n\r\n"), ERROR_NONE);
    assert_int_equal(answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n"), ERROR_NONE);
    assert_int_equal(proofs, 0);
    assert_int_equal(answer("3\r\nllo\r\n0\r\n\r\n"), ERROR_NONE);
    assert_int_equal(proofs, 1);
    assert_int_equal(tally.answered, 1);
    tear_down(NULL);
    set_up(NULL);

    uint8_t message[SIZE];
    begin(EXCHANGE_DOWN);
    assert_int_equal(answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), ERROR_NONE);
    (void)down_message(0, CLIENT, message);
    for (size_t at = 0; at < SIZE; at += SIZE / 4) {
        assert_int_equal(answer("19\r\n"), ERROR_NONE);
        assert_int_equal(exchange_receive(&exchange, &plan, message + at, SIZE / 4), ERROR_NONE);
        assert_int_equal(answer("\r\n"), ERROR_NONE);
    }
    assert_int_equal(tally.delivered, 1);
    assert_int_equal(answer("0\r\n\r\n"), ERROR_NONE);
    assert_int_equal(exchange_outstanding(&exchange), 0);
    assert_int_equal(answer("more"), ERROR_INVALID);
}

static void what_follows_an_answer_unasked_breaks_off(void **state)
{
    (void)state;
    begin(EXCHANGE_HTTP);
    assert_int_equal(answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naH"), ERROR_INVALID);
    assert_int_equal(tally.answered, 1);
}

static void without_memory_nothing_is_asked(void **state)
{
    (void)state;
    exchange_init(&exchange, EXCHANGE_HTTP, CLIENT);
    memory_fail_at(1);
    assert_int_equal(exchange_open(&exchange, &plan, 1000, room), 0);
    memory_fail_at(0);
    assert_int_equal(exchange_outstanding(&exchange), 0);
    assert_int_equal(tally.requests, 0);
}

static void an_answer_without_a_length_cannot_be_judged(void **state)
{
    (void)state;
    begin(EXCHANGE_HTTP);
    assert_int_equal(answer("HTTP/1.1 200 OK\r\n\r\nbody"), ERROR_INVALID);
    assert_int_equal(tally.wrong_length, 1);
    tear_down(NULL);
    set_up(NULL);
    begin(EXCHANGE_HTTP);
    assert_int_equal(answer("not HTTP"), ERROR_INVALID);
}

static void a_probe_looks_at_the_head_only(void **state)
{
    (void)state;
    begin(EXCHANGE_PROBE);
    assert_int_equal(answer("HTTP/1.1 404 Not Found\r\n\r\nsome text"), ERROR_NONE);
    assert_int_equal(answer("more text"), ERROR_NONE);
    assert_int_equal(proofs, 1);
    assert_int_equal(tally.answered, 1);
    exchange_init(&exchange, EXCHANGE_PROBE, CLIENT);
    (void)exchange_open(&exchange, &plan, 1, room);
    assert_int_equal(answer("HTTP/1.1 502 Bad Gateway\r\n\r\n"), ERROR_NONE);
    assert_int_equal(tally.wrong_status, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_echo_proves_and_later_ones_are_measured, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_ping_between_messages_has_a_measure_of_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_altered_echo_is_counted_and_a_foreign_one_breaks_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_way_up_proves_itself_and_takes_whatever_comes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_way_down_asks_once_and_checks_what_arrives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_refused_download_breaks_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_path_with_a_query_keeps_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_request_follows_the_answer_to_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_answers_are_counted_by_what_is_wrong, set_up, tear_down),
        cmocka_unit_test_setup_teardown(chunked_answers_and_messages_are_judged_like_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_follows_an_answer_unasked_breaks_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_memory_nothing_is_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_answer_without_a_length_cannot_be_judged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_probe_looks_at_the_head_only, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
