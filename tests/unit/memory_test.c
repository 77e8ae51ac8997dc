/* Tests of mux/memory.c: injected faults, sizes at the edges, copies of text. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "mux/memory.h"

static void the_nth_allocation_fails_once(void **state)
{
    (void)state;
    memory_fail_at(3);
    void *first = memory_alloc(8);
    void *second = memory_zalloc(8);
    void *third = memory_calloc(1, 8);
    void *fourth = memory_alloc(8);
    assert_non_null(first);
    assert_non_null(second);
    assert_null(third);
    assert_non_null(fourth);
    assert_int_equal(memory_faults(), 1);
    memory_fail_at(0);
    assert_int_equal(memory_faults(), 0);
    memory_free(first);
    memory_free(second);
    memory_free(fourth);
}

static void every_allocating_call_can_fail(void **state)
{
    (void)state;
    memory_fail_at(1);
    assert_null(memory_alloc(1));
    memory_fail_at(1);
    assert_null(memory_zalloc(1));
    memory_fail_at(1);
    assert_null(memory_calloc(2, 2));
    memory_fail_at(1);
    assert_null(memory_strdup("text"));
    memory_fail_at(1);
    assert_null(memory_strndup("text", 2));
    memory_fail_at(1);
    assert_true(memory_must_fail());
    assert_false(memory_must_fail());
    assert_int_equal(memory_faults(), 1);
    memory_fail_at(0);
}

static void a_failed_realloc_keeps_the_block(void **state)
{
    (void)state;
    char *block = memory_strdup("kept");
    assert_non_null(block);
    memory_fail_at(1);
    assert_null(memory_realloc(block, 1000));
    memory_fail_at(0);
    assert_string_equal(block, "kept");
    char *larger = memory_realloc(block, 1000);
    assert_non_null(larger);
    assert_string_equal(larger, "kept");
    memory_free(larger);
}

static void a_size_of_zero_gives_a_block(void **state)
{
    (void)state;
    void *blocks[] = {memory_alloc(0), memory_zalloc(0), memory_calloc(0, 8), memory_calloc(8, 0),
                      memory_realloc(NULL, 0)};
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        assert_non_null(blocks[i]);
        memory_free(blocks[i]);
    }
    memory_free(NULL);
}

static void an_overflowing_count_is_refused(void **state)
{
    (void)state;
    volatile size_t huge = SIZE_MAX / 2 + 2; /* hidden from the compiler, which would warn */
    assert_null(memory_calloc(huge, 2));
    assert_null(memory_strndup("x", SIZE_MAX));
}

static void zeroed_memory_is_zero(void **state)
{
    (void)state;
    unsigned char *block = memory_alloc(256);
    assert_non_null(block);
    memset(block, 0xff, 256);
    memory_free(block);
    block = memory_zalloc(256);
    assert_non_null(block);
    for (size_t i = 0; i < 256; i++) {
        assert_int_equal(block[i], 0);
    }
    memory_free(block);
}

static void a_copy_of_part_of_a_text_ends_with_a_zero(void **state)
{
    (void)state;
    char *part = memory_strndup("trunkline", 5);
    assert_non_null(part);
    assert_string_equal(part, "trunk");
    memory_free(part);
    char *none = memory_strndup(NULL, 0);
    assert_non_null(none);
    assert_string_equal(none, "");
    memory_free(none);
}

static void wiping_overwrites(void **state)
{
    (void)state;
    char secret[] = "secret";
    memory_wipe(secret, sizeof(secret));
    const char zero[sizeof(secret)] = {0};
    assert_memory_equal(secret, zero, sizeof(secret));
    memory_wipe(NULL, 0);
    memory_trim();
}

static void *allocate_on_another_thread(void *argument)
{
    (void)argument;
    void *block = memory_alloc(8);
    uint64_t faults = memory_faults();
    memory_free(block);
    return block != NULL && faults == 0 ? argument : NULL;
}

static void a_fault_hits_only_the_thread_that_asked_for_it(void **state)
{
    (void)state;
    int token;
    void *result = NULL;
    pthread_t thread;
    memory_fail_at(1);
    assert_int_equal(pthread_create(&thread, NULL, allocate_on_another_thread, &token), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, &token);
    assert_null(memory_alloc(8));
    assert_int_equal(memory_faults(), 1);
    memory_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nth_allocation_fails_once),
        cmocka_unit_test(every_allocating_call_can_fail),
        cmocka_unit_test(a_failed_realloc_keeps_the_block),
        cmocka_unit_test(a_size_of_zero_gives_a_block),
        cmocka_unit_test(an_overflowing_count_is_refused),
        cmocka_unit_test(zeroed_memory_is_zero),
        cmocka_unit_test(a_copy_of_part_of_a_text_ends_with_a_zero),
        cmocka_unit_test(wiping_overwrites),
        cmocka_unit_test(a_fault_hits_only_the_thread_that_asked_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
