/* Tests of mux/slab.c. What is said of pages holds for the paged slab; sanitizer builds allocate each object alone. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "mux/clock.h"
#include "mux/memory.h"
#include "mux/slab.h"
#include "mux/slab_group.h"

#define PAGE_BYTES   65536U
#define OBJECTS      2000U
#define OBJECT_BYTES 300U

static void objects_are_zeroed_aligned_and_apart(void **state)
{
    (void)state;
    struct slab slab;
    unsigned char *objects[OBJECTS];
    const unsigned char zero[OBJECT_BYTES] = {0};
    slab_init(&slab, "test", OBJECT_BYTES);
    assert_int_equal(slab.object_bytes, 304);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < OBJECTS; i++) {
            objects[i] = slab_alloc(&slab);
            assert_non_null(objects[i]);
            assert_int_equal((uintptr_t)objects[i] % 8, 0);
            assert_memory_equal(objects[i], zero, OBJECT_BYTES);
            memset(objects[i], (int)(i % 251), OBJECT_BYTES);
        }
        assert_int_equal(slab.objects, OBJECTS);
        for (size_t i = 0; i < OBJECTS; i++) {
            assert_int_equal(objects[i][0], i % 251);
            assert_int_equal(objects[i][OBJECT_BYTES - 1], i % 251);
            slab_free(&slab, objects[i]);
        }
        assert_int_equal(slab.objects, 0);
    }
    slab_free(&slab, NULL);
    slab_dispose(&slab);
}

static void objects_come_and_go_in_any_order(void **state)
{
    (void)state;
    struct slab slab;
    uint64_t *objects[OBJECTS] = {NULL};
    struct random_state random;
    uint64_t seed = clock_monotonic_us();
    print_message("seed %llu\n", (unsigned long long)seed);
    random_seed(&random, seed);
    slab_init(&slab, "test", 64);
    size_t live = 0;
    for (int step = 0; step < 100000; step++) {
        size_t i = (size_t)random_below(&random, OBJECTS);
        if (objects[i] == NULL) {
            objects[i] = slab_alloc(&slab);
            assert_non_null(objects[i]);
            assert_int_equal(objects[i][0] | objects[i][7], 0);
            objects[i][0] = objects[i][7] = i + 1;
            live++;
        } else {
            assert_int_equal(objects[i][0], i + 1);
            assert_int_equal(objects[i][7], i + 1);
            slab_free(&slab, objects[i]);
            objects[i] = NULL;
            live--;
        }
        assert_int_equal(slab.objects, live);
    }
    for (size_t i = 0; i < OBJECTS; i++) {
        slab_free(&slab, objects[i]);
    }
    assert_int_equal(slab.objects, 0);
    slab_dispose(&slab);
}

static void an_allocation_that_must_fail_fails(void **state)
{
    (void)state;
    struct slab slab;
    slab_init(&slab, "test", 1);
    assert_int_equal(slab.object_bytes, 8);
    memory_fail_at(2);
    void *first = slab_alloc(&slab);
    void *second = slab_alloc(&slab);
    void *third = slab_alloc(&slab);
    memory_fail_at(0);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    assert_int_equal(slab.objects, 2);
    slab_free(&slab, first);
    slab_free(&slab, third);
    slab_dispose(&slab);
    assert_int_equal(slab_footprint(&slab), 0);
}

static void an_object_tells_its_slab_and_is_told_from_the_heap(void **state)
{
    (void)state;
    for (size_t bytes = 16; bytes <= 256; bytes += 16) {
        struct slab slab;
        struct slab other;
        slab_init(&slab, "test", bytes);
        slab_init(&other, "other", bytes);
        void *objects[300];
        for (size_t i = 0; i < 300; i++) {
            objects[i] = slab_alloc(i % 3 == 0 ? &other : &slab);
            assert_non_null(objects[i]);
            assert_ptr_equal(slab_of(objects[i]), i % 3 == 0 ? &other : &slab);
            assert_true(slab_holds_place(objects[i]));
        }
        void *heap = memory_alloc(bytes);
        assert_false(slab_holds_place(heap));
        memory_free(heap);
        for (size_t i = 0; i < 300; i++) {
            slab_free(slab_of(objects[i]), objects[i]);
        }
        slab_dispose(&slab);
        slab_dispose(&other);
    }
}

static void a_walk_meets_every_live_object_once(void **state)
{
    (void)state;
    static const size_t sizes[] = {8, 40, 96, 128, 224, 304, 5000, 65000};
    struct random_state random;
    uint64_t seed = clock_monotonic_us();
    print_message("seed %llu\n", (unsigned long long)seed);
    random_seed(&random, seed);
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        struct slab slab;
        uint64_t *objects[OBJECTS] = {NULL};
        size_t count = sizes[k] > 1000 ? 40 : OBJECTS;
        size_t live = 0;
        slab_init(&slab, "test", sizes[k]);
        assert_null(slab_next(&slab, NULL));
        for (size_t i = 0; i < count; i++) {
            objects[i] = slab_alloc(&slab);
            assert_non_null(objects[i]);
        }
        for (size_t i = 0; i < count; i++) {
            if (random_below(&random, 3) == 0) {
                slab_free(&slab, objects[i]);
                objects[i] = NULL;
            } else {
                live++;
            }
        }
        for (uint64_t *object = NULL; (object = slab_next(&slab, object)) != NULL;) {
            assert_int_equal(*object, 0);
            *object = 1;
            assert_true(live > 0);
            live--;
        }
        assert_int_equal(live, 0);
        /* Everything may be freed on the way, as long as the walk begins anew. */
        void *object;
        while ((object = slab_next(&slab, NULL)) != NULL) {
            slab_free(&slab, object);
        }
        assert_int_equal(slab.objects, 0);
        slab_dispose(&slab);
    }
}

static void a_group_serves_a_range_of_sizes_and_leaves_the_rest_to_the_heap(void **state)
{
    (void)state;
    struct slab_group group;
    slab_group_init(&group, "test", 80);
    for (size_t bytes = 1; bytes <= 200; bytes++) {
        unsigned char *object = slab_group_alloc(&group, bytes);
        assert_non_null(object);
        memset(object, 0x55, bytes);
        bool served = bytes > 64 && bytes <= 128;
        assert_int_equal(slab_holds_place(object), served);
        assert_int_equal(slab_group_objects(&group), served ? 1 : 0);
        if (served) {
            assert_in_range(slab_of(object)->object_bytes, bytes, bytes + SLAB_GROUP_STEP - 1);
        }
        slab_group_free(object);
        assert_int_equal(slab_group_objects(&group), 0);
    }
    void *object = slab_group_alloc(NULL, 100);
    assert_false(slab_holds_place(object));
    slab_group_free(object);
    slab_group_free(NULL);
    slab_group_dispose(&group);
}

#ifdef TRUNKLINE_SLAB_MALLOC

static void each_object_is_an_allocation_of_its_own(void **state)
{
    (void)state;
    struct slab slab;
    slab_init(&slab, "test", 100);
    assert_int_equal(slab_footprint(&slab), 0);
    void *object = slab_alloc(&slab);
    assert_non_null(object);
    assert_int_equal(slab_footprint(&slab), 104);
    assert_int_equal(slab.pages, 0);
    slab_free(&slab, object);
    slab_dispose(&slab);
}

#else

static void empty_pages_go_back_but_for_one(void **state)
{
    (void)state;
    struct slab slab;
    void *objects[OBJECTS];
    slab_init(&slab, "test", 1000); /* 65 a page */
    for (size_t i = 0; i < OBJECTS; i++) {
        objects[i] = slab_alloc(&slab);
        assert_non_null(objects[i]);
    }
    assert_int_equal(slab.pages, (OBJECTS + 64) / 65);
    assert_int_equal(slab_footprint(&slab), slab.pages * PAGE_BYTES);
    for (size_t i = 0; i < OBJECTS; i++) {
        slab_free(&slab, objects[i]);
        assert_true(slab.empty_pages <= 1);
    }
    assert_int_equal(slab.pages, 1);
    assert_int_equal(slab.empty_pages, 1);
    void *again = slab_alloc(&slab);
    assert_non_null(again);
    assert_int_equal(slab.pages, 1);
    assert_int_equal(slab.empty_pages, 0);
    slab_free(&slab, again);
    slab_dispose(&slab);
    assert_int_equal(slab_footprint(&slab), 0);
}

static void pages_in_use_fill_up_before_the_empty_one(void **state)
{
    (void)state;
    struct slab slab;
    void *objects[6];
    slab_init(&slab, "test", 20000); /* three a page */
    for (size_t i = 0; i < 6; i++) {
        objects[i] = slab_alloc(&slab);
        assert_non_null(objects[i]);
    }
    assert_int_equal(slab.pages, 2);
    slab_free(&slab, objects[0]);
    slab_free(&slab, objects[3]);
    slab_free(&slab, objects[4]);
    slab_free(&slab, objects[5]); /* the second page is empty now */
    void *object = slab_alloc(&slab);
    assert_ptr_equal(object, objects[0]);
    assert_int_equal(slab.empty_pages, 1);
    slab_free(&slab, object);
    slab_free(&slab, objects[1]);
    slab_free(&slab, objects[2]);
    slab_dispose(&slab);
}

static void a_freed_object_is_overwritten(void **state)
{
    (void)state;
    struct slab slab;
    slab_init(&slab, "test", 64);
    unsigned char *kept = slab_alloc(&slab); /* keeps the page mapped */
    unsigned char *object = slab_alloc(&slab);
    assert_non_null(kept);
    assert_non_null(object);
    memset(object, 0x55, 64);
    slab_free(&slab, object);
    for (size_t i = 8; i < 64; i++) {
        assert_int_not_equal(object[i], 0x55);
    }
    slab_free(&slab, kept);
    slab_dispose(&slab);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_zeroed_aligned_and_apart),
        cmocka_unit_test(objects_come_and_go_in_any_order),
        cmocka_unit_test(an_allocation_that_must_fail_fails),
        cmocka_unit_test(an_object_tells_its_slab_and_is_told_from_the_heap),
        cmocka_unit_test(a_walk_meets_every_live_object_once),
        cmocka_unit_test(a_group_serves_a_range_of_sizes_and_leaves_the_rest_to_the_heap),
#ifdef TRUNKLINE_SLAB_MALLOC
        cmocka_unit_test(each_object_is_an_allocation_of_its_own),
#else
        cmocka_unit_test(empty_pages_go_back_but_for_one),
        cmocka_unit_test(pages_in_use_fill_up_before_the_empty_one),
        cmocka_unit_test(a_freed_object_is_overwritten),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
