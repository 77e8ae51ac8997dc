/*
 * Threads of the core. Everything that crosses from one to another is a post: connections that were accepted, trunks
 * that belong to another worker, and what main wants done.
 */
#include "core/thread.h"

#include <stdio.h>
#include <unistd.h>

#include "core/downlink.h"
#include "core/reference.h"
#include "mux/chain.h"
#include "mux/limits.h"
#include "mux/memory.h"
#include "mux/process.h"
#include "mux/socket.h"

/* ------------------------------------------------------------------------------------------------ connections */

struct thread_adoption {
    struct loop_post post;
    struct core_thread *thread;
    struct address peer;
    int fd;
};

struct thread_transfer {
    struct loop_post post;
    struct core_thread *thread;
    struct core_downlink *downlink;
    int fd;
};

static struct socket_transport *thread_socket(struct core_downlink *downlink)
{
    /* The slot begins with the transport, as the socket does. */
    return (struct socket_transport *)(void *)&downlink->transport;
}

static const struct transport_binding downlink_binding = {&socket_transport_ops, core_downlink_ready};

/* Opens the socket in the downlink's slot; on an error the downlink is gone. */
static enum error_code thread_open_socket(struct core_thread *thread, struct core_downlink *downlink, int fd)
{
    enum error_code error = socket_transport_open(thread_socket(downlink), thread->loop, fd, &downlink_binding);

    if (error != ERROR_NONE) {
        core_downlink_discard(downlink, error);
        return error;
    }
    socket_tune_trunk(thread_socket(downlink), TIMEOUT_TRUNK_USER_MS, LIMIT_TRUNK_BACKLOG_BYTES);
    return ERROR_NONE;
}

static void thread_run_adoption(struct loop_post *post)
{
    struct thread_adoption *adoption = container_of(post, struct thread_adoption, post);
    struct core_thread *thread = adoption->thread;
    struct core_downlink *downlink = NULL;
    char peer[ADDRESS_TEXT_MAX];

    address_format(&adoption->peer, peer);
    if (core_downlink_new(&thread->worker, thread->context, peer, &downlink) == ERROR_NONE) {
        (void)thread_open_socket(thread, downlink, adoption->fd); /* an error is logged, and the socket closed */
    } else {
        close(adoption->fd);
    }
    memory_free(adoption);
}

void core_thread_adopt(struct core_thread *thread, int fd, const struct address *peer)
{
    struct thread_adoption *adoption = memory_zalloc(sizeof(*adoption));

    if (adoption == NULL) {
        char text[ADDRESS_TEXT_MAX];

        LOG(LOG_WARNING, "trunk-refused", LOG_TEXT("peer", address_format(peer, text)),
            LOG_ERROR_CODE(ERROR_NO_MEMORY));
        close(fd);
        return;
    }
    adoption->post.run = thread_run_adoption;
    adoption->thread = thread;
    adoption->peer = *peer;
    adoption->fd = fd;
    loop_post(thread->loop, &adoption->post);
}

static void thread_run_transfer(struct loop_post *post)
{
    struct thread_transfer *transfer = container_of(post, struct thread_transfer, post);
    struct core_thread *thread = transfer->thread;
    struct core_downlink *downlink = transfer->downlink;
    int fd = transfer->fd;

    memory_free(transfer);
    core_downlink_attach(downlink, &thread->worker);
    if (thread->worker.state != CORE_WORKER_RUNNING) {
        close(fd);
        core_downlink_discard(downlink, ERROR_SHUTDOWN);
        return;
    }
    if (thread_open_socket(thread, downlink, fd) == ERROR_NONE) {
        core_downlink_open_trunk(downlink);
    }
}

/* All trunks of an edge worker belong together; those of a peer that told no number stay where they are. */
static bool thread_on_route(struct core_worker *worker, struct core_downlink *downlink)
{
    struct core_thread *thread = container_of(worker, struct core_thread, worker);
    struct core_thread *target = &thread->all[downlink->edge_worker % thread->count];
    struct thread_transfer *transfer;

    if (downlink->edge_worker == 0 || target == thread) {
        return false;
    }
    transfer = memory_zalloc(sizeof(*transfer));
    if (transfer == NULL) {
        core_downlink_close(downlink, ERROR_NO_MEMORY); /* the edge dials again */
        return true;
    }
    transfer->post.run = thread_run_transfer;
    transfer->thread = target;
    transfer->downlink = downlink;
    transfer->fd = socket_transport_release(thread_socket(downlink));
    core_downlink_detach(downlink);
    loop_post(target->loop, &transfer->post);
    return true;
}

/* ------------------------------------------------------------------------------------------------ drain, stop */

static void thread_on_drained(struct core_worker *worker)
{
    struct core_thread *thread = container_of(worker, struct core_thread, worker);

    loop_post(thread->main_loop, &thread->drained);
}

static void thread_on_stopped(struct core_worker *worker)
{
    struct core_thread *thread = container_of(worker, struct core_thread, worker);

    loop_post(thread->main_loop, &thread->stopped);
    loop_stop(thread->loop);
}

static void thread_report_drained(struct loop_post *post)
{
    struct core_thread *thread = container_of(post, struct core_thread, drained);

    thread->reports->drained(thread->owner, thread);
}

static void thread_report_stopped(struct loop_post *post)
{
    struct core_thread *thread = container_of(post, struct core_thread, stopped);

    thread->reports->stopped(thread->owner, thread);
}

static void thread_run_drain(struct loop_post *post)
{
    core_worker_drain(&container_of(post, struct core_thread, drain)->worker);
}

static void thread_run_stop(struct loop_post *post)
{
    core_worker_stop(&container_of(post, struct core_thread, stop)->worker);
}

void core_thread_drain(struct core_thread *thread)
{
    loop_post(thread->loop, &thread->drain);
}

void core_thread_stop(struct core_thread *thread)
{
    loop_post(thread->loop, &thread->stop);
}

/* ------------------------------------------------------------------------------------------------ credentials */

struct thread_context_change {
    struct loop_post post;
    struct core_thread *thread;
    struct tls_context *context;
};

static void thread_run_context_change(struct loop_post *post)
{
    struct thread_context_change *change = container_of(post, struct thread_context_change, post);

    tls_context_unref(&change->thread->context);
    change->thread->context = change->context;
    memory_free(change);
}

enum error_code core_thread_use_context(struct core_thread *thread, struct tls_context *context)
{
    struct thread_context_change *change = memory_zalloc(sizeof(*change));

    if (change == NULL) {
        return ERROR_NO_MEMORY;
    }
    change->post.run = thread_run_context_change;
    change->thread = thread;
    change->context = tls_context_ref(context);
    loop_post(thread->loop, &change->post);
    return ERROR_NONE;
}

/* ------------------------------------------------------------------------------------------------ life */

enum error_code core_thread_init(struct core_thread *all, uint32_t index, uint32_t count,
                                 const struct core_worker_settings *settings, struct tls_context *context,
                                 struct loop *main_loop, const struct core_thread_reports *reports, void *owner)
{
    static const struct core_worker_events events = {
        .route = thread_on_route,
        .drained = thread_on_drained,
        .stopped = thread_on_stopped,
    };
    struct core_thread *thread = &all[index];
    enum error_code error;

    *thread = (struct core_thread){
        .all = all,
        .count = count,
        .main_loop = main_loop,
        .reports = reports,
        .owner = owner,
        .drain.run = thread_run_drain,
        .stop.run = thread_run_stop,
        .drained.run = thread_report_drained,
        .stopped.run = thread_report_stopped,
    };
    error = loop_new(&thread->loop);
    if (error != ERROR_NONE) {
        return error;
    }
    error = core_worker_init(&thread->worker, index, settings, &events, loop_scheduler(thread->loop), thread->loop);
    if (error != ERROR_NONE) {
        loop_free(&thread->loop);
        return error;
    }
    thread->context = tls_context_ref(context);
    return ERROR_NONE;
}

static void *thread_run(void *argument)
{
    struct core_thread *thread = argument;

    loop_run(thread->loop);
    thread->held_bytes = chain_held_bytes();
    return NULL;
}

enum error_code core_thread_start(struct core_thread *thread)
{
    char name[16];
    enum error_code error;

    snprintf(name, sizeof(name), "worker-%u", (unsigned)thread->worker.index);
    error = process_thread_start(&thread->handle, name, thread_run, thread);
    thread->started = error == ERROR_NONE;
    return error;
}

void core_thread_join(struct core_thread *thread)
{
    if (thread->started) {
        process_thread_join(thread->handle);
        thread->started = false;
    }
}

void core_threads_dispose(struct core_thread *all, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        /* From here on no handler's thread can post to the loop any more. */
        mailbox_close(all[i].worker.mailbox);
        loop_free(&all[i].loop);
    }
    for (uint32_t i = 0; i < count; i++) {
        core_worker_dispose(&all[i].worker);
        tls_context_unref(&all[i].context);
    }
}
