/* The core's engine on one thread; see worker.h. Owns its slab, its scratch and its downlinks. */
#include "core/worker.h"

#include "core/downlink.h"
#include "core/reference.h"
#include "core/session.h"
#include "mux/memory.h"

#define FINISHES_PER_BATCH 1024 /* a lost trunk may end 100,000 sessions: the others get their turn between */

static void core_worker_finish(struct task *task)
{
    struct core_worker *worker = container_of(task, struct core_worker, finish);
    struct list_node *node;

    for (int i = 0; i < FINISHES_PER_BATCH && (node = list_first(&worker->closing)) != NULL; i++) {
        list_remove(node);
        session_finish(container_of(node, trunkline_session, node));
    }
    if (!list_empty(&worker->closing)) {
        scheduler_defer(worker->scheduler, &worker->finish);
    }
}

/* Tells once that what was asked for is complete. */
static void core_worker_settle(struct task *task)
{
    struct core_worker *worker = container_of(task, struct core_worker, settle);

    if (worker->reported == worker->state || core_worker_session_count(worker) > 0) {
        return;
    }
    if (worker->state == CORE_WORKER_DRAINING) {
        worker->reported = CORE_WORKER_DRAINING;
        if (worker->events->drained != NULL) {
            worker->events->drained(worker);
        }
    } else if (worker->state == CORE_WORKER_STOPPING && list_empty(&worker->downlinks)) {
        worker->reported = CORE_WORKER_STOPPING;
        /* Whoever hears of it may free the loop. */
        trim_dispose(&worker->trim);
        scheduler_disarm(worker->scheduler, &worker->resume_deadline);
        if (worker->events->stopped != NULL) {
            worker->events->stopped(worker);
        }
    }
}

enum error_code core_worker_init(struct core_worker *worker, uint32_t index,
                                 const struct core_worker_settings *settings, const struct core_worker_events *events,
                                 struct scheduler *scheduler, struct loop *loop)
{
    enum error_code error;

    *worker = (struct core_worker){
        .settings = settings,
        .events = events,
        .scheduler = scheduler,
        .loop = loop,
        .index = index,
    };
    trim_init(&worker->trim, scheduler, &worker->sessions.objects, NULL);
    slab_init(&worker->sessions, "session", sizeof(trunkline_session));
    trunk_work_slab_init(&worker->work_slab);
    session_table_init(&worker->table, settings->seed);
    metadata_pool_init(&worker->metadata, settings->seed);
    list_init(&worker->downlinks);
    list_init(&worker->lingering);
    list_init(&worker->noting);
    timer_init(&worker->notes, session_notes_due);
    timer_init(&worker->move, session_move_due);
    list_init(&worker->suspended);
    timer_init(&worker->resume_deadline, session_resume_deadline);
    list_init(&worker->closing);
    task_init(&worker->finish, core_worker_finish);
    task_init(&worker->settle, core_worker_settle);
    buffer_budget_init(&worker->buffers, settings->buffer_memory_bytes, scheduler, &core_buffer_events, worker);
    error = mailbox_new(&worker->mailbox, loop);
    if (error != ERROR_NONE) {
        return error;
    }
    error = scratch_init(&worker->scratch);
    if (error != ERROR_NONE) {
        mailbox_release(&worker->mailbox);
    }
    return error;
}

void core_worker_dispose(struct core_worker *worker)
{
    trim_dispose(&worker->trim);
    buffer_budget_dispose(&worker->buffers);
    mailbox_close(worker->mailbox);
    mailbox_release(&worker->mailbox);
    scratch_dispose(&worker->scratch);
    scheduler_disarm(worker->scheduler, &worker->resume_deadline);
    scheduler_disarm(worker->scheduler, &worker->notes);
    scheduler_disarm(worker->scheduler, &worker->move);
    session_table_dispose(&worker->table);
    slab_dispose(&worker->sessions);
    slab_dispose(&worker->work_slab);
    metadata_pool_dispose(&worker->metadata);
}

void core_worker_drain(struct core_worker *worker)
{
    if (worker->state != CORE_WORKER_RUNNING) {
        return;
    }
    worker->state = CORE_WORKER_DRAINING;
    list_for_each(&worker->downlinks, node) {
        core_downlink_drain(container_of(node, struct core_downlink, node));
    }
    list_for_each(&worker->suspended, waiting_node) {
        session_resume_end(container_of(waiting_node, trunkline_session, node));
    }
    scheduler_arm(worker->scheduler, &worker->move, 0);
    scheduler_defer(worker->scheduler, &worker->settle);
}

void core_worker_stop(struct core_worker *worker)
{
    if (worker->state == CORE_WORKER_STOPPING) {
        return;
    }
    worker->state = CORE_WORKER_STOPPING;
    /* The loss of a trunk would not end them: the edges would wait for another one. */
    for (trunkline_session *session = NULL; (session = slab_next(&worker->sessions, session)) != NULL;) {
        bool reopens = session->state == SESSION_OPEN && session->service->reopens;

        trunk_stream_reset(&session->stream, reopens ? TRUNK_CODE_MOVED : TRUNK_CODE_CANCEL);
        session_close(session, TRUNKLINE_REASON_SHUTDOWN);
    }
    /* Nobody waits any more; and the loop goes before the worker does. */
    scheduler_disarm(worker->scheduler, &worker->resume_deadline);
    scheduler_disarm(worker->scheduler, &worker->notes);
    scheduler_disarm(worker->scheduler, &worker->move);
    list_for_each(&worker->downlinks, node) {
        core_downlink_close(container_of(node, struct core_downlink, node), ERROR_SHUTDOWN);
    }
    scheduler_defer(worker->scheduler, &worker->settle);
}

size_t core_worker_session_count(const struct core_worker *worker)
{
    return worker->sessions.objects;
}

enum error_code core_worker_session_admit(struct core_worker *worker)
{
    struct core_totals *totals = worker->settings->totals;

    if (worker->state != CORE_WORKER_RUNNING) {
        return ERROR_SHUTDOWN;
    }
    if (buffer_budget_level(&worker->buffers) >= BUFFER_SHUT) {
        return ERROR_BUFFERS_FULL;
    }
    if (atomic_fetch_add_explicit(&totals->sessions, 1, memory_order_relaxed) >= worker->settings->sessions_max) {
        atomic_fetch_sub_explicit(&totals->sessions, 1, memory_order_relaxed);
        return ERROR_LIMIT;
    }
    return ERROR_NONE;
}

static void core_worker_check(struct core_worker *worker)
{
    if (worker->state != CORE_WORKER_RUNNING) {
        scheduler_defer(worker->scheduler, &worker->settle);
    }
}

void core_worker_session_gone(struct core_worker *worker)
{
    atomic_fetch_sub_explicit(&worker->settings->totals->sessions, 1, memory_order_relaxed);
    core_worker_check(worker);
}

uint64_t core_worker_session_id(struct core_worker *worker)
{
    return (uint64_t)worker->index << 48 | ++worker->next_id;
}

void core_worker_downlink_gone(struct core_worker *worker)
{
    core_worker_check(worker);
}
