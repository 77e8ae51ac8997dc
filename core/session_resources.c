/*
 * What a handler may hang on a session: timers, watched descriptors, a handle. Allocated when first asked for, so that
 * a session that needs none pays one pointer. Owned by the session; the worker's thread.
 */
#include <errno.h>

#include "core/reference.h"
#include "core/session.h"
#include "core/worker.h"
#include "mux/loop.h"
#include "mux/memory.h"

struct trunkline_timer {
    struct list_node node;
    trunkline_session *session;
    struct timer timer;
    void (*fire)(trunkline_session *session, void *argument);
    void *argument;
};

struct trunkline_watch {
    struct list_node node;
    trunkline_session *session;
    struct loop_source source;
    void (*ready)(trunkline_session *session, unsigned events, void *argument);
    void *argument;
};

struct session_resources *session_resources_get(trunkline_session *session)
{
    struct session_resources *resources = session->resources;

    if (resources == NULL) {
        resources = memory_zalloc(sizeof(*resources));
        if (resources != NULL) {
            list_init(&resources->timers);
            list_init(&resources->watches);
            list_node_init(&resources->noting);
            resources->session = session;
            session->resources = resources;
        }
    }
    return resources;
}

static void session_watch_stop(struct trunkline_watch *watch)
{
    if (watch->source.fd >= 0) {
        loop_unwatch(watch->session->worker->loop, &watch->source);
    }
}

void session_resources_stop(trunkline_session *session)
{
    struct session_resources *resources = session->resources;

    if (resources == NULL) {
        return;
    }
    list_for_each(&resources->timers, node) {
        trunkline_timer_stop(container_of(node, struct trunkline_timer, node));
    }
    /* Before `closed`, in which the handler closes its descriptors: their numbers may belong to others after. */
    list_for_each(&resources->watches, node) {
        session_watch_stop(container_of(node, struct trunkline_watch, node));
    }
    reference_detach(&resources->reference);
}

void session_resources_free(trunkline_session *session)
{
    struct session_resources *resources = session->resources;

    if (resources == NULL) {
        return;
    }
    session_resources_stop(session);
    list_for_each(&resources->timers, node) {
        memory_free(container_of(node, struct trunkline_timer, node));
    }
    list_for_each(&resources->watches, node) {
        memory_free(container_of(node, struct trunkline_watch, node));
    }
    list_remove(&resources->noting);
    memory_free((void *)(uintptr_t)resources->note.bytes);
    memory_free(resources);
    session->resources = NULL;
}

/* ------------------------------------------------------------------------------------------------ timers */

static void session_timer_fire(struct timer *timer)
{
    struct trunkline_timer *fired = container_of(timer, struct trunkline_timer, timer);

    if (session_live(fired->session)) {
        fired->fire(fired->session, fired->argument); /* may free the timer */
    }
}

trunkline_timer *trunkline_timer_new(trunkline_session *session,
                                     void (*fire)(trunkline_session *session, void *argument), void *argument)
{
    struct session_resources *resources = session_resources_get(session);
    struct trunkline_timer *timer = resources != NULL ? memory_zalloc(sizeof(*timer)) : NULL;

    if (timer == NULL) {
        return NULL;
    }
    timer->session = session;
    timer->fire = fire;
    timer->argument = argument;
    timer_init(&timer->timer, session_timer_fire);
    list_append(&resources->timers, &timer->node);
    return timer;
}

void trunkline_timer_start(trunkline_timer *timer, uint64_t delay_ms)
{
    if (session_live(timer->session)) {
        scheduler_arm(timer->session->worker->scheduler, &timer->timer, delay_ms);
    }
}

void trunkline_timer_stop(trunkline_timer *timer)
{
    scheduler_disarm(timer->session->worker->scheduler, &timer->timer);
}

void trunkline_timer_free(trunkline_timer **timer)
{
    if (*timer != NULL) {
        trunkline_timer_stop(*timer);
        list_remove(&(*timer)->node);
        memory_free(*timer);
        *timer = NULL;
    }
}

/* ------------------------------------------------------------------------------------------------ watches */

static void session_watch_ready(struct loop_source *source, unsigned events)
{
    struct trunkline_watch *watch = container_of(source, struct trunkline_watch, source);
    unsigned told = 0;

    if ((events & (LOOP_READABLE | LOOP_HANGUP)) != 0) {
        told |= TRUNKLINE_READABLE;
    }
    if ((events & LOOP_WRITABLE) != 0) {
        told |= TRUNKLINE_WRITABLE;
    }
    if (told != 0 && session_live(watch->session)) {
        watch->ready(watch->session, told, watch->argument); /* may free the watch */
    }
}

static int session_watch_errno(enum error_code error)
{
    switch (error) {
    case ERROR_NO_MEMORY:
        return ENOMEM;
    case ERROR_LIMIT:
        return ENOSPC;
    default:
        return errno != 0 ? errno : EINVAL;
    }
}

trunkline_watch *trunkline_watch_new(trunkline_session *session, int fd,
                                     void (*ready)(trunkline_session *session, unsigned events, void *argument),
                                     void *argument)
{
    struct session_resources *resources;
    struct trunkline_watch *watch;
    enum error_code error;

    if (session->worker->loop == NULL || !session_live(session)) {
        errno = ENOTSUP;
        return NULL;
    }
    resources = session_resources_get(session);
    watch = resources != NULL ? memory_zalloc(sizeof(*watch)) : NULL;
    if (watch == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    watch->session = session;
    watch->ready = ready;
    watch->argument = argument;
    error = loop_watch(session->worker->loop, &watch->source, fd, LOOP_EDGE, session_watch_ready);
    if (error != ERROR_NONE) {
        int cause = session_watch_errno(error);

        memory_free(watch);
        errno = cause;
        return NULL;
    }
    list_append(&resources->watches, &watch->node);
    return watch;
}

void trunkline_watch_free(trunkline_watch **watch)
{
    if (*watch != NULL) {
        session_watch_stop(*watch);
        list_remove(&(*watch)->node);
        memory_free(*watch);
        *watch = NULL;
    }
}

/* ------------------------------------------------------------------------------------------------ handles */

trunkline_ref *trunkline_session_ref(trunkline_session *session)
{
    struct session_resources *resources = session_live(session) ? session_resources_get(session) : NULL;

    if (resources == NULL) {
        return NULL;
    }
    if (resources->reference == NULL) {
        resources->reference = reference_new(session->worker->mailbox, session);
        if (resources->reference == NULL) {
            return NULL;
        }
    }
    return trunkline_ref_retain(resources->reference);
}
