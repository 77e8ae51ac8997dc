/* Tests of edge/admission.c, with a time that the tests make up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "edge/admission.h"
#include "mux/clock.h"
#include "mux/memory.h"
#include "mux/process.h"

#define SECOND 1000000U

static struct address_compact peer_of(const char *text)
{
    struct address address;
    struct address_compact compact;
    assert_int_equal(address_parse(text, false, &address), ERROR_NONE);
    address_pack(&address, &compact);
    return compact;
}

static struct admission *make(struct admission_limits limits)
{
    struct admission *admission = NULL;
    if (limits.network_ip4_bits == 0) {
        limits.network_ip4_bits = 24;
        limits.network_ip6_bits = 48;
    }
    assert_int_equal(admission_new(&admission, &limits, 7), ERROR_NONE);
    return admission;
}

static void without_limits_there_is_nothing(void **state)
{
    (void)state;
    struct address_compact peer = peer_of("192.0.2.1:1");
    struct admission *admission = make((struct admission_limits){.network_ip4_bits = 24});
    assert_null(admission);
    assert_null(admission_arrive(admission, &peer, 0));
    admission_leave(admission, &peer, 0);
    admission_free(&admission);
}

static void an_address_has_so_many_connections_and_others_their_own(void **state)
{
    (void)state;
    struct admission *admission = make((struct admission_limits){.connections_per_address = 2});
    struct address_compact one = peer_of("192.0.2.1:1");
    struct address_compact same = peer_of("192.0.2.1:2");
    struct address_compact other = peer_of("192.0.2.2:1");
    assert_null(admission_arrive(admission, &one, 0));
    assert_null(admission_arrive(admission, &same, 0));
    assert_string_equal(admission_arrive(admission, &one, 0), "connections-per-address");
    assert_null(admission_arrive(admission, &other, 0));
    admission_leave(admission, &one, SECOND);
    assert_null(admission_arrive(admission, &same, SECOND));
    assert_string_equal(admission_arrive(admission, &same, SECOND), "connections-per-address");
    admission_free(&admission);
}

static void a_host_of_ipv6_is_its_first_64_bits(void **state)
{
    (void)state;
    struct admission *admission = make((struct admission_limits){.connections_per_address = 1});
    struct address_compact one = peer_of("[2001:db8:1:2::1]:1");
    struct address_compact same = peer_of("[2001:db8:1:2:3:4:5:6]:1");
    struct address_compact other = peer_of("[2001:db8:1:3::1]:1");
    struct address_compact mapped = peer_of("[::ffff:192.0.2.1]:1");
    struct address_compact plain = peer_of("192.0.2.1:1");
    assert_null(admission_arrive(admission, &one, 0));
    assert_non_null(admission_arrive(admission, &same, 0));
    assert_null(admission_arrive(admission, &other, 0));
    assert_null(admission_arrive(admission, &mapped, 0));
    assert_non_null(admission_arrive(admission, &plain, 0));
    admission_free(&admission);
}

static void a_network_has_its_own_limit_and_length(void **state)
{
    (void)state;
    struct admission *admission = make((struct admission_limits){
        .connections_per_address = 10, .connections_per_network = 2, .network_ip4_bits = 20, .network_ip6_bits = 32});
    struct address_compact peers[] = {peer_of("10.0.0.1:1"), peer_of("10.0.15.1:1"), peer_of("10.0.1.1:1"),
                                      peer_of("10.0.16.1:1")};
    struct address_compact six[] = {peer_of("[2001:db8::1]:1"), peer_of("[2001:db8:ffff::1]:1"),
                                    peer_of("[2001:db8:1::1]:1")};
    assert_null(admission_arrive(admission, &peers[0], 0));
    assert_null(admission_arrive(admission, &peers[1], 0));
    assert_string_equal(admission_arrive(admission, &peers[2], 0), "connections-per-network");
    assert_null(admission_arrive(admission, &peers[3], 0));
    assert_null(admission_arrive(admission, &six[0], 0));
    assert_null(admission_arrive(admission, &six[1], 0));
    assert_string_equal(admission_arrive(admission, &six[2], 0), "connections-per-network");
    /* Whom the network refuses, the address has not counted. */
    admission_leave(admission, &peers[0], 0);
    assert_null(admission_arrive(admission, &peers[2], 0));
    admission_free(&admission);
}

static void arrivals_are_counted_by_the_second_refused_ones_too(void **state)
{
    (void)state;
    struct admission *admission = make((struct admission_limits){.arrivals_per_address = 3, .arrivals_per_network = 5});
    struct address_compact one = peer_of("192.0.2.1:1");
    struct address_compact other = peer_of("192.0.2.2:1");
    for (unsigned second = 0; second < 3; second++) {
        uint64_t now = second * SECOND + 5;
        for (unsigned i = 0; i < 3; i++) {
            assert_null(admission_arrive(admission, &one, now));
            admission_leave(admission, &one, now);
        }
        assert_string_equal(admission_arrive(admission, &one, now + SECOND - 6), "arrivals-per-address");
        assert_null(admission_arrive(admission, &other, now));
        assert_null(admission_arrive(admission, &other, now));
        assert_string_equal(admission_arrive(admission, &other, now), "arrivals-per-network");
        admission_leave(admission, &other, now);
        admission_leave(admission, &other, now);
    }
    admission_free(&admission);
}

static void who_is_gone_takes_no_memory(void **state)
{
    (void)state;
    struct admission *admission =
        make((struct admission_limits){.connections_per_address = 5, .connections_per_network = 1000000});
    struct random_state random;
    static struct address_compact peers[20000];
    random_seed(&random, 3);
    for (size_t i = 0; i < 20000; i++) {
        char text[64];
        snprintf(text, sizeof(text), "%u.%u.%u.%u:1", (unsigned)random_below(&random, 255), (unsigned)(i >> 8 & 255),
                 (unsigned)(i & 255), (unsigned)random_below(&random, 255));
        peers[i] = peer_of(text);
        assert_null(admission_arrive(admission, &peers[i], 0));
    }
    assert_true(admission_entries(admission) > 30000);
    /* Half of them leave in another order than they came, and those who stay are still known. */
    for (size_t i = 0; i < 20000; i += 2) {
        admission_leave(admission, &peers[(i * 7919) % 20000], 2 * SECOND);
    }
    for (size_t i = 1; i < 20000; i += 2) {
        for (unsigned more = 1; more < 5; more++) {
            assert_null(admission_arrive(admission, &peers[i], 2 * SECOND));
        }
        assert_string_equal(admission_arrive(admission, &peers[i], 2 * SECOND), "connections-per-address");
    }
    for (size_t i = 1; i < 20000; i += 2) {
        for (unsigned all = 0; all < 5; all++) {
            admission_leave(admission, &peers[i], 4 * SECOND);
        }
    }
    assert_int_equal(admission_entries(admission), 0);
    admission_free(&admission);
}

static void no_memory_is_a_refusal(void **state)
{
    (void)state;
    struct address_compact peer = peer_of("192.0.2.1:1");
    struct admission *admission =
        make((struct admission_limits){.connections_per_address = 1, .connections_per_network = 1});
    for (unsigned nth = 1; nth <= 2; nth++) {
        memory_fail_at(nth);
        assert_string_equal(admission_arrive(admission, &peer, 0), "memory");
        assert_int_equal(memory_faults(), 1);
    }
    memory_fail_at(0);
    assert_null(admission_arrive(admission, &peer, 0));
    admission_free(&admission);
}

/* ---- several workers ---- */

static struct admission *shared;

static void *come_and_go(void *argument)
{
    struct random_state random;
    random_seed(&random, *(unsigned *)argument);
    for (unsigned i = 0; i < 20000; i++) {
        struct address_compact peer = {.family = 4, .ip = {10, 0, (uint8_t)random_below(&random, 8), 1}};
        if (admission_arrive(shared, &peer, i) == NULL) {
            admission_leave(shared, &peer, i + 2 * SECOND);
        }
    }
    return NULL;
}

static void workers_share_the_limits(void **state)
{
    (void)state;
    uint64_t threads[3];
    unsigned seeds[3] = {1, 2, 3};
    shared = make((struct admission_limits){.connections_per_address = 2, .connections_per_network = 100});
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(process_thread_start(&threads[i], "worker", come_and_go, &seeds[i]), ERROR_NONE);
    }
    for (size_t i = 0; i < 3; i++) {
        process_thread_join(threads[i]);
    }
    assert_int_equal(admission_entries(shared), 0);
    admission_free(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_limits_there_is_nothing),
        cmocka_unit_test(an_address_has_so_many_connections_and_others_their_own),
        cmocka_unit_test(a_host_of_ipv6_is_its_first_64_bits),
        cmocka_unit_test(a_network_has_its_own_limit_and_length),
        cmocka_unit_test(arrivals_are_counted_by_the_second_refused_ones_too),
        cmocka_unit_test(who_is_gone_takes_no_memory),
        cmocka_unit_test(no_memory_is_a_refusal),
        cmocka_unit_test(workers_share_the_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
