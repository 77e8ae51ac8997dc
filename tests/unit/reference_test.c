/*
 * Posts from other threads to sessions: they arrive, in order, on the worker's thread; with no session once it is
 * closed; and not at all, but with a word, once the worker has ended. To be run under a thread sanitizer, too.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/reference.h"
#include "core_pair.h"
#include "mux/memory.h"

#define THREADS 4
#define POSTS   2000

static trunkline_session *opened;
static pthread_t worker_thread;

static void keep_open(trunkline_session *session, void *service)
{
    (void)service;
    opened = session;
    trunkline_accept(session);
}

static void keep_closed(trunkline_session *session, trunkline_reason reason)
{
    (void)session;
    (void)reason;
    opened = NULL;
}

static const trunkline_handler keep_handler = {
    .abi = TRUNKLINE_ABI,
    .name = "keep",
    .open = keep_open,
    .closed = keep_closed,
};

static struct core_pair pair;
static struct core_client client;

static void start(bool with_loop)
{
    worker_thread = pthread_self();
    assert_int_equal(core_pair_init(&pair, &keep_handler, "", with_loop, 0), ERROR_NONE);
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_pair_pump(&pair);
    assert_non_null(opened);
}

static void finish(void)
{
    core_client_dispose(&client);
    core_pair_dispose(&pair);
}

struct poster {
    trunkline_ref *reference;
    pthread_t thread;
    int posted;      /* the poster's thread */
    int run;         /* this and the next two: the worker's thread */
    int without;     /* ran with no session */
    int out_of_turn; /* or on the wrong thread */
};

struct message {
    struct poster *poster;
    int number;
};

static int runs_in_all;

static void message_run(trunkline_session *session, void *argument)
{
    struct message *message = argument;
    struct poster *poster = message->poster;

    poster->out_of_turn += message->number != poster->run || !pthread_equal(pthread_self(), worker_thread);
    poster->without += session == NULL;
    poster->run++;
    runs_in_all++;
    free(message);
}

static void *poster_run(void *argument)
{
    struct poster *poster = argument;

    for (int i = 0; i < POSTS; i++) {
        struct message *message = malloc(sizeof(*message));

        if (message == NULL) {
            break;
        }
        *message = (struct message){poster, i};
        if (trunkline_post(poster->reference, message_run, message) != 0) {
            free(message);
            break;
        }
        poster->posted++;
    }
    trunkline_ref_release(&poster->reference);
    return NULL;
}

static void start_posters(struct poster posters[THREADS], trunkline_ref *reference)
{
    runs_in_all = 0;
    for (int i = 0; i < THREADS; i++) {
        posters[i] = (struct poster){.reference = trunkline_ref_retain(reference)};
        assert_int_equal(pthread_create(&posters[i].thread, NULL, poster_run, &posters[i]), 0);
    }
}

static void posts_of_each_thread_arrive_in_order_on_the_worker(void **state)
{
    struct poster posters[THREADS];
    trunkline_ref *reference;

    (void)state;
    start(true);
    reference = trunkline_session_ref(opened);
    assert_non_null(reference);
    start_posters(posters, reference);
    trunkline_ref_release(&reference);
    core_pair_await(&pair, &runs_in_all, THREADS * POSTS);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(posters[i].thread, NULL);
        assert_int_equal(posters[i].run, POSTS);
        assert_int_equal(posters[i].without, 0);
        assert_int_equal(posters[i].out_of_turn, 0);
    }
    finish();
}

static void posts_to_a_closed_session_run_without_it(void **state)
{
    struct poster posters[THREADS];
    trunkline_ref *reference;

    (void)state;
    start(true);
    reference = trunkline_session_ref(opened);
    assert_non_null(reference);
    start_posters(posters, reference);
    core_pair_await(&pair, &runs_in_all, 10);
    trunkline_abort(opened);
    core_pair_pump(&pair);
    core_pair_await(&pair, &runs_in_all, THREADS * POSTS);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(posters[i].thread, NULL);
        assert_int_equal(posters[i].out_of_turn, 0);
    }
    assert_null(opened);
    posters[0] = (struct poster){.reference = trunkline_ref_retain(reference)};
    poster_run(&posters[0]);
    core_pair_pump(&pair);
    assert_int_equal(posters[0].without, POSTS);
    trunkline_ref_release(&reference);
    finish();
}

static void every_accepted_post_runs_while_the_worker_ends(void **state)
{
    struct poster posters[THREADS];
    trunkline_ref *reference;
    int accepted = 0;

    (void)state;
    start(true);
    reference = trunkline_session_ref(opened);
    assert_non_null(reference);
    start_posters(posters, reference);
    core_pair_await(&pair, &runs_in_all, 10);
    finish(); /* the posters go on meanwhile */
    for (int i = 0; i < THREADS; i++) {
        pthread_join(posters[i].thread, NULL);
        assert_int_equal(posters[i].posted, posters[i].run);
        assert_int_equal(posters[i].out_of_turn, 0);
        accepted += posters[i].posted;
    }
    assert_int_equal(accepted, runs_in_all);
    assert_int_equal(trunkline_post(reference, message_run, NULL), -1);
    trunkline_ref_release(&reference);
    assert_null(reference);
}

static void without_a_loop_posts_wait_for_the_mailbox_to_be_run(void **state)
{
    struct poster poster = {0};
    trunkline_ref *reference;

    (void)state;
    start(false);
    reference = trunkline_session_ref(opened);
    assert_non_null(reference);
    poster.reference = trunkline_ref_retain(reference);
    runs_in_all = 0;
    poster_run(&poster);
    assert_int_equal(runs_in_all, 0);
    mailbox_run(pair.worker.mailbox);
    assert_int_equal(runs_in_all, POSTS);
    assert_int_equal(poster.without, 0);
    trunkline_ref_release(&reference);
    finish();
}

static void a_post_without_memory_is_refused(void **state)
{
    trunkline_ref *reference;

    (void)state;
    start(false);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        memory_fail_at(nth);
        assert_null(trunkline_session_ref(opened)); /* the session's extras, then the handle */
        assert_int_equal(memory_faults(), 1);
        memory_fail_at(0);
        if (nth == 1) {
            assert_null(opened->resources);
        }
    }
    reference = trunkline_session_ref(opened);
    assert_non_null(reference);
    memory_fail_at(1);
    assert_int_equal(trunkline_post(reference, message_run, NULL), -1);
    memory_fail_at(0);
    trunkline_ref_release(&reference);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_of_each_thread_arrive_in_order_on_the_worker),
        cmocka_unit_test(posts_to_a_closed_session_run_without_it),
        cmocka_unit_test(every_accepted_post_runs_while_the_worker_ends),
        cmocka_unit_test(without_a_loop_posts_wait_for_the_mailbox_to_be_run),
        cmocka_unit_test(a_post_without_memory_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
