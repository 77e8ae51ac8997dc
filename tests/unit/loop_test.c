/* Tests of mux/loop.c with socket pairs: readiness, what unwatching does to a batch, posts from other threads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mux/clock.h"
#include "mux/loop.h"
#include "mux/memory.h"

#define POSTERS    4U
#define POSTS_EACH 20000U

struct pair {
    struct loop_source source;
    int peer;
    unsigned events; /* seen so far */
    unsigned calls;
    struct pair *unwatches; /* when called: these are unwatched */
    struct pair *rewatches;
};

static struct loop *loop;

static void pair_ready(struct loop_source *source, unsigned events);

static void pair_watch(struct pair *pair, int fd, enum loop_mode mode)
{
    assert_int_equal(loop_watch(loop, &pair->source, fd, mode, pair_ready), ERROR_NONE);
}

static void pair_ready(struct loop_source *source, unsigned events)
{
    struct pair *pair = container_of(source, struct pair, source);
    pair->events |= events;
    pair->calls++;
    if (pair->unwatches != NULL) {
        loop_unwatch(loop, &pair->unwatches->source);
    }
    if (pair->rewatches != NULL) {
        int fd = pair->rewatches->source.fd;
        loop_unwatch(loop, &pair->rewatches->source);
        pair_watch(pair->rewatches, fd, LOOP_LEVEL_READ);
    }
}

static int pair_open(struct pair *pair, enum loop_mode mode)
{
    int fds[2];
    memset(pair, 0, sizeof(*pair));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    pair->peer = fds[1];
    pair_watch(pair, fds[0], mode);
    return fds[0];
}

static void pair_close(struct pair *pair, int fd)
{
    loop_unwatch(loop, &pair->source);
    assert_int_equal(pair->source.fd, -1);
    loop_unwatch(loop, &pair->source);
    close(fd);
    if (pair->peer >= 0) {
        close(pair->peer);
    }
}

static int open_loop(void **state)
{
    (void)state;
    return loop_new(&loop) == ERROR_NONE ? 0 : -1;
}

static int close_loop(void **state)
{
    (void)state;
    loop_free(&loop);
    loop_free(&loop);
    return loop == NULL ? 0 : -1;
}

static void an_edge_is_told_once(void **state)
{
    (void)state;
    struct pair pair;
    int fd = pair_open(&pair, LOOP_EDGE);
    loop_run_once(loop, 0);
    assert_int_equal(pair.events, LOOP_WRITABLE);
    pair.events = 0;
    assert_int_equal(write(pair.peer, "x", 1), 1);
    loop_run_once(loop, -1);
    assert_true(pair.events & LOOP_READABLE);
    assert_false(pair.events & LOOP_HANGUP);
    unsigned calls = pair.calls;
    loop_run_once(loop, 0); /* nothing was read, yet nothing is new */
    assert_int_equal(pair.calls, calls);
    assert_int_equal(write(pair.peer, "y", 1), 1);
    loop_run_once(loop, -1);
    assert_int_equal(pair.calls, calls + 1);
    pair_close(&pair, fd);
}

static void a_level_is_told_while_it_lasts(void **state)
{
    (void)state;
    struct pair pair;
    char byte;
    int fd = pair_open(&pair, LOOP_LEVEL_READ);
    loop_run_once(loop, 0);
    assert_int_equal(pair.calls, 0);
    assert_int_equal(write(pair.peer, "x", 1), 1);
    loop_run_once(loop, -1);
    loop_run_once(loop, -1);
    assert_int_equal(pair.calls, 2);
    assert_int_equal(pair.events, LOOP_READABLE);
    assert_int_equal(read(fd, &byte, 1), 1);
    loop_run_once(loop, 0);
    assert_int_equal(pair.calls, 2);
    pair_close(&pair, fd);
}

static void the_end_of_the_peer_is_a_hangup(void **state)
{
    (void)state;
    struct pair half;
    struct pair whole;
    int half_fd = pair_open(&half, LOOP_EDGE);
    int whole_fd = pair_open(&whole, LOOP_EDGE);
    assert_int_equal(shutdown(half.peer, SHUT_WR), 0);
    close(whole.peer);
    whole.peer = -1;
    loop_run_once(loop, -1);
    assert_int_equal(half.events, LOOP_READABLE | LOOP_WRITABLE | LOOP_HANGUP);
    assert_int_equal(whole.events, LOOP_READABLE | LOOP_WRITABLE | LOOP_HANGUP);
    pair_close(&half, half_fd);
    pair_close(&whole, whole_fd);
}

static void a_source_unwatched_within_a_batch_hears_no_more(void **state)
{
    (void)state;
    struct pair pairs[3];
    int fds[3];
    for (size_t i = 0; i < 3; i++) {
        fds[i] = pair_open(&pairs[i], LOOP_LEVEL_READ);
        assert_int_equal(write(pairs[i].peer, "x", 1), 1);
    }
    /* Whichever comes first silences the next one; of three that unwatch in a circle, two or one are called. */
    for (size_t i = 0; i < 3; i++) {
        pairs[i].unwatches = &pairs[(i + 1) % 3];
    }
    loop_run_once(loop, -1);
    unsigned calls = 0;
    for (size_t i = 0; i < 3; i++) {
        assert_true(pairs[i].calls <= 1);
        /* The one after a pair that was called is unwatched: it was called before, or never. */
        calls += pairs[i].calls;
    }
    assert_true(calls == 1 || calls == 2);
    for (size_t i = 0; i < 3; i++) {
        pairs[i].unwatches = NULL;
        pair_close(&pairs[i], fds[i]);
    }
}

static void a_source_watched_anew_within_a_batch_hears_only_new_events(void **state)
{
    (void)state;
    struct pair first;
    struct pair second;
    int first_fd = pair_open(&first, LOOP_LEVEL_READ);
    int second_fd = pair_open(&second, LOOP_LEVEL_READ);
    first.rewatches = &second;
    second.rewatches = &first;
    assert_int_equal(write(first.peer, "x", 1), 1);
    assert_int_equal(write(second.peer, "x", 1), 1);
    loop_run_once(loop, -1);
    assert_int_equal(first.calls + second.calls, 1);
    first.rewatches = NULL;
    second.rewatches = NULL;
    loop_run_once(loop, -1);
    assert_int_equal(first.calls + second.calls, 3);
    pair_close(&first, first_fd);
    pair_close(&second, second_fd);
}

struct compact_pair {
    uint64_t align;
    struct loop_compact source;
    struct compact_pair *unwatches;
    unsigned events;
    unsigned calls;
};

static void compact_ready(struct loop_compact *source, unsigned events)
{
    struct compact_pair *pair = container_of(source, struct compact_pair, source);
    pair->events |= events;
    pair->calls++;
    if (pair->unwatches != NULL) {
        loop_unwatch_compact(&pair->unwatches->source);
    }
}

static void compact_sources_hear_the_same_beside_others(void **state)
{
    (void)state;
    struct compact_pair ends[2] = {{.calls = 0}, {.calls = 0}};
    struct pair other;
    int fds[2];
    int fd = pair_open(&other, LOOP_EDGE);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(loop_watch_compact(loop, &ends[i].source, fds[i], compact_ready), ERROR_NONE);
        assert_int_equal(ends[i].source.fd, fds[i]);
    }
    loop_run_once(loop, 0);
    assert_int_equal(ends[0].events, LOOP_WRITABLE);
    assert_int_equal(ends[1].events, LOOP_WRITABLE);
    assert_int_equal(other.events, LOOP_WRITABLE);
    assert_int_equal(write(fds[0], "x", 1), 1);
    loop_run_once(loop, -1);
    assert_true(ends[1].events & LOOP_READABLE);
    assert_false(ends[0].events & LOOP_READABLE);

    /* Whichever of two is told first silences the other. */
    ends[0].unwatches = &ends[1];
    ends[1].unwatches = &ends[0];
    unsigned calls = ends[0].calls + ends[1].calls;
    assert_int_equal(write(fds[0], "x", 1), 1);
    assert_int_equal(write(fds[1], "x", 1), 1);
    loop_run_once(loop, -1);
    assert_int_equal(ends[0].calls + ends[1].calls, calls + 1);
    for (int i = 0; i < 2; i++) {
        loop_unwatch_compact(&ends[i].source);
        assert_int_equal(ends[i].source.fd, -1);
        close(fds[i]);
    }
    assert_int_equal(loop_watch_compact(loop, &ends[0].source, fds[0], compact_ready), ERROR_SYSTEM);
    assert_int_equal(ends[0].source.fd, -1);
    pair_close(&other, fd);
}

static void what_cannot_be_watched_is_an_error(void **state)
{
    (void)state;
    struct loop_source source = {.fd = 7};
    assert_int_equal(loop_watch(loop, &source, -1, LOOP_EDGE, pair_ready), ERROR_SYSTEM);
    assert_int_equal(source.fd, -1);
    loop_unwatch(loop, &source);
}

struct waiting {
    struct timer timer;
    struct task task;
    uint64_t fired_us;
    unsigned runs;
};

static void waiting_fire(struct timer *timer)
{
    struct waiting *waiting = container_of(timer, struct waiting, timer);
    waiting->fired_us = loop_scheduler(loop)->now_us;
    scheduler_defer(loop_scheduler(loop), &waiting->task);
}

static void waiting_run(struct task *task)
{
    struct waiting *waiting = container_of(task, struct waiting, task);
    waiting->runs++;
    loop_stop(loop);
}

static void timers_and_tasks_run_on_real_time(void **state)
{
    (void)state;
    struct waiting waiting = {.fired_us = 0};
    timer_init(&waiting.timer, waiting_fire);
    task_init(&waiting.task, waiting_run);
    uint64_t start_us = clock_monotonic_us();
    scheduler_set_time(loop_scheduler(loop), start_us);
    scheduler_arm(loop_scheduler(loop), &waiting.timer, 5);
    loop_run(loop);
    assert_int_equal(waiting.runs, 1);
    assert_true(waiting.fired_us >= start_us + 5000);
    assert_true(waiting.fired_us <= clock_monotonic_us());
}

struct late_input {
    struct loop_source source;
    struct timer timer;
    char order[8];
};

static void late_input_ready(struct loop_source *source, unsigned events)
{
    struct late_input *late = container_of(source, struct late_input, source);
    (void)events;
    strcat(late->order, "i");
}

static void late_input_fire(struct timer *timer)
{
    strcat(container_of(timer, struct late_input, timer)->order, "t");
}

static void input_that_waited_is_handled_before_a_timer_that_misses_it(void **state)
{
    (void)state;
    struct late_input late = {.order = ""};
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(loop_watch(loop, &late.source, fds[0], LOOP_LEVEL_READ, late_input_ready), ERROR_NONE);
    timer_init(&late.timer, late_input_fire);
    scheduler_arm(loop_scheduler(loop), &late.timer, 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    loop_run_once(loop, -1);
    assert_string_equal(late.order, "it");
    loop_unwatch(loop, &late.source);
    close(fds[0]);
    close(fds[1]);
}

struct numbered_post {
    struct loop_post post;
    uint32_t poster;
    uint32_t number;
};

static uint32_t next_number[POSTERS];
static uint32_t posts_run;

static void numbered_post_run(struct loop_post *post)
{
    struct numbered_post *numbered = container_of(post, struct numbered_post, post);
    assert_int_equal(numbered->number, next_number[numbered->poster]);
    next_number[numbered->poster]++;
    posts_run++;
    if (posts_run == POSTERS * POSTS_EACH) {
        loop_stop(loop);
    }
    memory_free(numbered);
}

static void *post_many(void *argument)
{
    uint32_t poster = *(const uint32_t *)argument;
    for (uint32_t number = 0; number < POSTS_EACH; number++) {
        struct numbered_post *numbered = memory_zalloc(sizeof(*numbered));
        if (numbered == NULL) {
            abort();
        }
        numbered->post.run = numbered_post_run;
        numbered->poster = poster;
        numbered->number = number;
        loop_post(loop, &numbered->post);
    }
    return NULL;
}

static void posts_of_many_threads_run_all_and_in_order(void **state)
{
    (void)state;
    pthread_t threads[POSTERS];
    uint32_t numbers[POSTERS];
    memset(next_number, 0, sizeof(next_number));
    posts_run = 0;
    for (uint32_t i = 0; i < POSTERS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &numbers[i]), 0);
    }
    loop_run(loop);
    for (uint32_t i = 0; i < POSTERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(next_number[i], POSTS_EACH);
    }
}

struct chain_post {
    struct loop_post post;
    unsigned left;
    unsigned *runs;
};

static void chain_post_run(struct loop_post *post)
{
    struct chain_post *again = container_of(post, struct chain_post, post);
    (*again->runs)++;
    if (again->left > 0) {
        again->left--;
        loop_post(loop, &again->post);
    } else {
        memory_free(again);
    }
}

static void chain_post_start(unsigned left, unsigned *runs)
{
    struct chain_post *chain = memory_zalloc(sizeof(*chain));
    assert_non_null(chain);
    chain->post.run = chain_post_run;
    chain->left = left;
    chain->runs = runs;
    loop_post(loop, &chain->post);
}

static void a_post_may_post_again_but_not_in_the_same_batch(void **state)
{
    (void)state;
    unsigned runs = 0;
    chain_post_start(2, &runs);
    loop_run_once(loop, -1);
    assert_int_equal(runs, 1);
    loop_run_once(loop, -1);
    loop_run_once(loop, -1);
    assert_int_equal(runs, 3);
    loop_run_once(loop, 0);
    assert_int_equal(runs, 3);
}

static void posts_that_were_not_run_are_run_when_the_loop_is_freed(void **state)
{
    unsigned runs = 0;
    assert_int_equal(open_loop(state), 0);
    chain_post_start(3, &runs);
    loop_free(&loop);
    assert_int_equal(runs, 4);
    assert_null(loop);
}

static void a_stop_before_the_run_is_not_lost(void **state)
{
    (void)state;
    loop_stop(loop);
    loop_run(loop);
    unsigned runs = 0;
    chain_post_start(0, &runs);
    loop_stop(loop);
    loop_run(loop); /* stops at once again; the post waits */
    loop_run_once(loop, 0);
    assert_int_equal(runs, 1);
}

static void a_loop_that_cannot_be_made_says_why(void **state)
{
    (void)state;
    struct loop *made = NULL;
    memory_fail_at(1);
    assert_int_equal(loop_new(&made), ERROR_NO_MEMORY);
    memory_fail_at(0);
    assert_null(made);

    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = dup(STDERR_FILENO);
    assert_true(next >= 0);
    close(next);
    /* Room for no file, and then for one, which is the epoll instance without its eventfd. */
    for (rlim_t room = 0; room < 2; room++) {
        struct rlimit tight = before;
        tight.rlim_cur = (rlim_t)next + room;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
        enum error_code error = loop_new(&made);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(error, ERROR_NO_FILES);
        assert_null(made);
    }
    int after = dup(STDERR_FILENO);
    assert_int_equal(after, next); /* nothing was left open */
    close(after);
}

static void loops_are_limited_in_number(void **state)
{
    (void)state;
    static struct loop *loops[LOOP_MAX + 1];
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit wide = before;
    wide.rlim_cur = wide.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &wide), 0);
    if (wide.rlim_cur < 2 * LOOP_MAX + 64) {
        skip();
    }
    for (size_t i = 0; i < LOOP_MAX; i++) {
        assert_int_equal(loop_new(&loops[i]), ERROR_NONE);
    }
    assert_int_equal(loop_new(&loops[LOOP_MAX]), ERROR_LIMIT);
    loop_free(&loops[500]);
    assert_int_equal(loop_new(&loops[500]), ERROR_NONE);
    for (size_t i = 0; i < LOOP_MAX; i++) {
        loop_free(&loops[i]);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_edge_is_told_once, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_level_is_told_while_it_lasts, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(the_end_of_the_peer_is_a_hangup, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_source_unwatched_within_a_batch_hears_no_more, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_source_watched_anew_within_a_batch_hears_only_new_events, open_loop,
                                        close_loop),
        cmocka_unit_test_setup_teardown(compact_sources_hear_the_same_beside_others, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(what_cannot_be_watched_is_an_error, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(timers_and_tasks_run_on_real_time, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(input_that_waited_is_handled_before_a_timer_that_misses_it, open_loop,
                                        close_loop),
        cmocka_unit_test_setup_teardown(posts_of_many_threads_run_all_and_in_order, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(a_post_may_post_again_but_not_in_the_same_batch, open_loop, close_loop),
        cmocka_unit_test(posts_that_were_not_run_are_run_when_the_loop_is_freed),
        cmocka_unit_test_setup_teardown(a_stop_before_the_run_is_not_lost, open_loop, close_loop),
        cmocka_unit_test(a_loop_that_cannot_be_made_says_why),
        cmocka_unit_test(loops_are_limited_in_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
