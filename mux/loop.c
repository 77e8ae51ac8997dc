/*
 * The event loop: one epoll instance, one eventfd to be woken by, and a list of posts that any thread may push to. A
 * loop owns these three; sources and posts belong to others. It runs on one thread; only loop_post and loop_stop come
 * from elsewhere, and they touch nothing but the atomic fields and the eventfd.
 */
#include "mux/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mux/clock.h"
#include "mux/memory.h"

#define LOOP_BATCH_EVENTS 256
#define LOOP_COMPACT_TAG  UINT64_C(1) /* in an event's data: the pointer is to a compact source */

struct loop {
    struct scheduler scheduler;
    int epoll_fd;
    uint32_t number;                    /* its place in loop_table */
    size_t watched;                     /* sources, `wake` not counted */
    struct loop_source wake;            /* the eventfd */
    loop_compact_fn *compact_ready;     /* NULL: no compact source was watched yet */
    _Atomic(struct loop_post *) posted; /* the newest first */
    atomic_bool stopping;
    int event_next; /* of the batch: those before it were reported */
    int event_count;
    struct epoll_event events[LOOP_BATCH_EVENTS];
};

/* Sources name their loop by its number here. A loop's own entry is written before its thread can know it, and after
 * its last source is gone. */
static struct loop *loop_table[LOOP_MAX];
static pthread_mutex_t loop_table_lock = PTHREAD_MUTEX_INITIALIZER;

static enum error_code loop_error(int number)
{
    switch (number) {
    case ENOMEM:
        return ERROR_NO_MEMORY;
    case EMFILE:
    case ENFILE:
        return ERROR_NO_FILES;
    case ENOSPC:
        return ERROR_LIMIT;
    default:
        return ERROR_SYSTEM;
    }
}

static enum error_code loop_register(struct loop *loop)
{
    enum error_code error = ERROR_LIMIT;
    pthread_mutex_lock(&loop_table_lock);
    for (uint32_t number = 0; number < LOOP_MAX; number++) {
        if (loop_table[number] == NULL) {
            loop_table[number] = loop;
            loop->number = number;
            error = ERROR_NONE;
            break;
        }
    }
    pthread_mutex_unlock(&loop_table_lock);
    return error;
}

static void loop_unregister(struct loop *loop)
{
    pthread_mutex_lock(&loop_table_lock);
    loop_table[loop->number] = NULL;
    pthread_mutex_unlock(&loop_table_lock);
}

static void loop_run_posts(struct loop *loop)
{
    struct loop_post *newest = atomic_exchange_explicit(&loop->posted, NULL, memory_order_acquire);
    struct loop_post *oldest = NULL;
    while (newest != NULL) {
        struct loop_post *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct loop_post *next = oldest->next; /* the post may be freed by its function */
        oldest->run(oldest);
        oldest = next;
    }
}

/* The eventfd is watched edge-triggered and never read: each write is an event of its own. */
static void loop_wake_ready(struct loop_source *source, unsigned events)
{
    (void)events;
    loop_run_posts(container_of(source, struct loop, wake));
}

static void loop_wake(struct loop *loop)
{
    const uint64_t one = 1;
    ssize_t written = write(loop->wake.fd, &one, sizeof(one));
    assert(written == (ssize_t)sizeof(one) && "2^64 wake-ups take longer than any process lives");
    (void)written;
}

static enum error_code loop_open(struct loop *loop)
{
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        return loop_error(errno);
    }
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return loop_error(errno);
    }
    enum error_code error = loop_watch(loop, &loop->wake, fd, LOOP_EDGE, loop_wake_ready);
    if (error != ERROR_NONE) {
        close(fd);
    }
    return error;
}

static void loop_close(struct loop *loop)
{
    if (loop->wake.fd >= 0) {
        close(loop->wake.fd);
    }
    if (loop->epoll_fd >= 0) {
        close(loop->epoll_fd);
    }
    memory_free(loop);
}

enum error_code loop_new(struct loop **loop)
{
    *loop = NULL;
    struct loop *made = memory_zalloc(sizeof(*made));
    if (made == NULL) {
        return ERROR_NO_MEMORY;
    }
    made->epoll_fd = -1;
    made->wake.fd = -1;
    scheduler_init(&made->scheduler, clock_monotonic_us());
    atomic_init(&made->posted, NULL);
    atomic_init(&made->stopping, false);
    enum error_code error = loop_open(made);
    if (error == ERROR_NONE) {
        error = loop_register(made);
    }
    if (error != ERROR_NONE) {
        loop_close(made);
        return error;
    }
    made->wake.loop = made->number;
    made->watched = 0;
    *loop = made;
    return ERROR_NONE;
}

void loop_free(struct loop **loop)
{
    struct loop *freed = *loop;
    if (freed == NULL) {
        return;
    }
    while (atomic_load_explicit(&freed->posted, memory_order_relaxed) != NULL) {
        loop_run_posts(freed);
    }
    assert(freed->watched == 0 && "a source outlives its loop");
    loop_unregister(freed);
    loop_close(freed);
    *loop = NULL;
}

struct scheduler *loop_scheduler(struct loop *loop)
{
    return &loop->scheduler;
}

static enum error_code loop_add(struct loop *loop, int fd, enum loop_mode mode, uint64_t data)
{
    struct epoll_event event = {
        .events = mode == LOOP_EDGE ? (uint32_t)EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET : (uint32_t)EPOLLIN,
        .data.u64 = data,
    };
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        return loop_error(errno);
    }
    loop->watched++;
    return ERROR_NONE;
}

enum error_code loop_watch(struct loop *loop, struct loop_source *source, int fd, enum loop_mode mode,
                           loop_ready_fn *ready)
{
    source->fd = -1;
    enum error_code error = loop_add(loop, fd, mode, (uint64_t)(uintptr_t)source);
    if (error == ERROR_NONE) {
        source->ready = ready;
        source->fd = fd;
        source->loop = loop->number;
    }
    return error;
}

enum error_code loop_watch_compact(struct loop *loop, struct loop_compact *source, int fd, loop_compact_fn *ready)
{
    assert((loop->compact_ready == NULL || loop->compact_ready == ready) && "compact sources share one function");
    loop->compact_ready = ready;
    source->fd = -1;
    enum error_code error = loop_add(loop, fd, LOOP_EDGE, (uint64_t)(uintptr_t)source | LOOP_COMPACT_TAG);
    if (error == ERROR_NONE) {
        source->fd = fd;
        source->loop = (uint16_t)loop->number;
    }
    return error;
}

/* Stops watching, and drops the event of this batch that was not reported yet. */
static void loop_remove(struct loop *loop, int fd, uint64_t data)
{
    struct epoll_event unused = {0};
    int failed = epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, &unused);
    assert(!failed && "the descriptor is closed after it is unwatched, not before");
    (void)failed;
    loop->watched--;
    for (int i = loop->event_next; i < loop->event_count; i++) {
        if (loop->events[i].data.u64 == data) {
            loop->events[i].data.u64 = 0;
            break;
        }
    }
}

void loop_unwatch(struct loop *loop, struct loop_source *source)
{
    if (source->fd < 0) {
        return;
    }
    assert(source->loop == loop->number && "a source is unwatched by the loop that watches it");
    loop_remove(loop, source->fd, (uint64_t)(uintptr_t)source);
    source->fd = -1;
}

void loop_unwatch_compact(struct loop_compact *source)
{
    if (source->fd >= 0) {
        loop_remove(loop_table[source->loop], source->fd, (uint64_t)(uintptr_t)source | LOOP_COMPACT_TAG);
        source->fd = -1;
    }
}

void loop_post(struct loop *loop, struct loop_post *post)
{
    struct loop_post *newest = atomic_load_explicit(&loop->posted, memory_order_relaxed);
    do {
        post->next = newest;
    } while (!atomic_compare_exchange_weak_explicit(&loop->posted, &newest, post, memory_order_release,
                                                    memory_order_relaxed));
    /* Whoever finds the list empty wakes the loop, for all who post until it takes the list. */
    if (newest == NULL) {
        loop_wake(loop);
    }
}

void loop_stop(struct loop *loop)
{
    atomic_store_explicit(&loop->stopping, true, memory_order_release);
    loop_wake(loop);
}

static unsigned loop_translate(uint32_t events)
{
    unsigned translated = 0;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        translated |= LOOP_READABLE;
    }
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
        translated |= LOOP_WRITABLE;
    }
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        translated |= LOOP_HANGUP;
    }
    if (events & EPOLLERR) {
        translated |= LOOP_BROKEN;
    }
    return translated;
}

static int loop_wait_ms(const struct loop *loop, int wait_max_ms)
{
    int wait_ms = scheduler_wait_ms(&loop->scheduler);
    if (wait_ms > 0) {
        /* The scheduler's time is that of the last batch, whose handling may have taken a while. */
        uint64_t passed_ms = (clock_monotonic_us() - loop->scheduler.now_us) / 1000U;
        wait_ms = passed_ms < (uint64_t)wait_ms ? wait_ms - (int)passed_ms : 0;
    }
    if (wait_max_ms >= 0 && (wait_ms < 0 || wait_ms > wait_max_ms)) {
        return wait_max_ms;
    }
    return wait_ms;
}

static void loop_report(struct loop *loop, const struct epoll_event *event)
{
    unsigned events = loop_translate(event->events);
    if (event->data.u64 & LOOP_COMPACT_TAG) {
        loop->compact_ready((struct loop_compact *)(uintptr_t)(event->data.u64 & ~LOOP_COMPACT_TAG), events);
    } else if (event->data.ptr != NULL) {
        struct loop_source *source = event->data.ptr;
        source->ready(source, events);
    }
}

void loop_run_once(struct loop *loop, int wait_max_ms)
{
    assert(loop->event_count == 0 && "a batch runs no other batch");
    int count = epoll_wait(loop->epoll_fd, loop->events, LOOP_BATCH_EVENTS, loop_wait_ms(loop, wait_max_ms));
    assert((count >= 0 || errno == EINTR) && "the arguments of epoll_wait never change");
    scheduler_set_time(&loop->scheduler, clock_monotonic_us());
    loop->event_count = count > 0 ? count : 0;
    loop->event_next = 0;
    while (loop->event_next < loop->event_count) {
        struct epoll_event event = loop->events[loop->event_next];
        loop->event_next++;
        loop_report(loop, &event);
    }
    loop->event_next = 0;
    loop->event_count = 0;
    scheduler_advance(&loop->scheduler, loop->scheduler.now_us);
    scheduler_run_tasks(&loop->scheduler);
}

void loop_run(struct loop *loop)
{
    while (!atomic_load_explicit(&loop->stopping, memory_order_acquire)) {
        loop_run_once(loop, -1);
    }
    atomic_store_explicit(&loop->stopping, false, memory_order_relaxed);
}
