/* A trunk from an edge; see downlink.h. */
#include "core/downlink.h"

#include <stdio.h>

#include "mux/memory.h"

static struct core_downlink *downlink_of(struct link *link)
{
    return container_of(link, struct core_downlink, link);
}

static void downlink_log_refused(struct core_worker *worker, const char *peer, const char *name, enum error_code error)
{
    uint64_t suppressed = 0;

    worker->counters.trunks_refused++;
    if (log_counter_allow(&worker->trunk_refusals, worker->scheduler->now_us, &suppressed)) {
        LOG(LOG_WARNING, "trunk-refused", LOG_TEXT("peer", peer), LOG_TEXT("name", name[0] != '\0' ? name : NULL),
            LOG_ERROR_CODE(error), LOG_INTEGER("refused", worker->trunk_refusals.total),
            LOG_INTEGER("suppressed", suppressed));
    }
}

static void downlink_log_down(const struct core_downlink *downlink, enum error_code error)
{
    const struct core_worker *worker = downlink->origin.worker;
    uint64_t up_ms = (worker->scheduler->now_us - downlink->up_since_us) / 1000U;
    enum log_level level =
        error == ERROR_NONE || error == ERROR_PEER_CLOSED || error == ERROR_SHUTDOWN ? LOG_INFO : LOG_WARNING;

    LOG(level, "trunk-down", LOG_TEXT("peer", downlink->origin.peer), LOG_TEXT("name", downlink->name),
        LOG_HEX("trunk", downlink->id), LOG_ERROR_CODE(error), LOG_INTEGER("sessions", downlink->origin.opened),
        LOG_INTEGER("up_ms", up_ms));
}

static void downlink_free(struct core_downlink *downlink)
{
    struct core_worker *worker = downlink->origin.worker;

    list_remove(&downlink->node);
    memory_free(downlink);
    atomic_fetch_sub_explicit(&worker->settings->totals->trunks, 1, memory_order_relaxed);
    core_worker_downlink_gone(worker);
}

/* ------------------------------------------------------------------------------------------------ link events */

static bool downlink_name_allowed(const struct core_worker_settings *settings, const struct tls_peer_info *info)
{
    for (size_t i = 0; i < settings->allowed_name_count; i++) {
        if (tls_certificate_has_name(info->certificate, info->certificate_length, settings->allowed_names[i])) {
            return true;
        }
    }
    return settings->allowed_name_count == 0;
}

static enum error_code downlink_on_established(struct link *link, const struct tls_peer_info *peer)
{
    struct core_downlink *downlink = downlink_of(link);

    if (peer->certificate == NULL) {
        return ERROR_TLS_CERTIFICATE;
    }
    tls_certificate_name(peer->certificate, peer->certificate_length, downlink->name, sizeof(downlink->name));
    return downlink_name_allowed(downlink->origin.worker->settings, peer) ? ERROR_NONE : ERROR_TLS_CERTIFICATE;
}

static bool downlink_on_greeted(struct link *link, uint32_t edge_worker)
{
    struct core_downlink *downlink = downlink_of(link);
    struct core_worker *worker = downlink->origin.worker;

    downlink->edge_worker = edge_worker;
    if (worker->state == CORE_WORKER_RUNNING && worker->events->route != NULL &&
        worker->events->route(worker, downlink)) {
        return true;
    }
    core_downlink_open_trunk(downlink);
    return false;
}

static void downlink_on_closed(struct link *link, enum error_code error)
{
    struct core_downlink *downlink = downlink_of(link);

    if (downlink->up_since_us != 0) {
        downlink_log_down(downlink, error);
    } else {
        downlink_log_refused(downlink->origin.worker, downlink->origin.peer, downlink->name, error);
    }
    downlink_free(downlink);
}

static const struct link_events downlink_link_events = {
    .established = downlink_on_established,
    .greeted = downlink_on_greeted,
    .closed = downlink_on_closed,
};

/* ------------------------------------------------------------------------------------------------ life */

/* Makes room for one more: whoever has taken longest to say who it is goes, so that connections that say nothing do not
 * keep those out that have a certificate. False when every trunk of the worker is up. */
static bool downlink_evict(struct core_worker *worker)
{
    list_for_each(&worker->downlinks, node) {
        struct core_downlink *downlink = container_of(node, struct core_downlink, node);
        if (downlink->up_since_us == 0) {
            core_downlink_discard(downlink, ERROR_LIMIT);
            return true;
        }
    }
    return false;
}

static enum error_code downlink_admit(struct core_worker *worker)
{
    struct core_totals *totals = worker->settings->totals;

    if (worker->state != CORE_WORKER_RUNNING) {
        return ERROR_SHUTDOWN;
    }
    if (atomic_fetch_add_explicit(&totals->trunks, 1, memory_order_relaxed) >= worker->settings->trunks_max &&
        !downlink_evict(worker)) {
        atomic_fetch_sub_explicit(&totals->trunks, 1, memory_order_relaxed);
        return ERROR_LIMIT;
    }
    return ERROR_NONE;
}

static enum error_code downlink_make(struct core_worker *worker, struct tls_context *context, const char *peer,
                                     struct core_downlink **made)
{
    struct core_downlink *downlink = memory_zalloc(sizeof(*downlink));
    enum error_code error;

    if (downlink == NULL) {
        return ERROR_NO_MEMORY;
    }
    error = link_init_acceptor(&downlink->link, worker->scheduler, &worker->scratch, &downlink->transport.transport,
                               context, worker->settings->handshake_timeout_ms, &downlink_link_events);
    if (error != ERROR_NONE) {
        memory_free(downlink);
        return error;
    }
    downlink->origin.worker = worker;
    downlink->origin.name = downlink->name;
    snprintf(downlink->origin.peer, sizeof(downlink->origin.peer), "%s", peer);
    downlink->id = core_worker_session_id(worker);
    list_append(&worker->downlinks, &downlink->node);
    *made = downlink;
    return ERROR_NONE;
}

enum error_code core_downlink_new(struct core_worker *worker, struct tls_context *context, const char *peer,
                                  struct core_downlink **downlink)
{
    enum error_code error = downlink_admit(worker);

    *downlink = NULL;
    if (error == ERROR_NONE) {
        error = downlink_make(worker, context, peer, downlink);
        if (error != ERROR_NONE) {
            atomic_fetch_sub_explicit(&worker->settings->totals->trunks, 1, memory_order_relaxed);
        }
    }
    if (error != ERROR_NONE) {
        downlink_log_refused(worker, peer, "", error);
    }
    return error;
}

void core_downlink_ready(struct transport *transport, unsigned events)
{
    union transport_slot *slot = container_of(transport, union transport_slot, transport);

    link_ready(&container_of(slot, struct core_downlink, transport)->link, events);
}

void core_downlink_discard(struct core_downlink *downlink, enum error_code error)
{
    downlink_log_refused(downlink->origin.worker, downlink->origin.peer, downlink->name, error);
    link_dispose(&downlink->link);
    downlink_free(downlink);
}

void core_downlink_detach(struct core_downlink *downlink)
{
    list_remove(&downlink->node);
    link_detach(&downlink->link);
    downlink->origin.worker = NULL;
}

void core_downlink_attach(struct core_downlink *downlink, struct core_worker *worker)
{
    downlink->origin.worker = worker;
    list_append(&worker->downlinks, &downlink->node);
    link_attach(&downlink->link, worker->scheduler, &worker->scratch);
}

void core_downlink_open_trunk(struct core_downlink *downlink)
{
    struct core_worker *worker = downlink->origin.worker;
    struct trunk_settings settings = worker->settings->trunk;

    if (worker->state != CORE_WORKER_RUNNING) {
        link_close(&downlink->link, ERROR_SHUTDOWN);
        return;
    }
    /* Before the trunk is: sessions may open in the greeting's wake. */
    downlink->up_since_us = worker->scheduler->now_us != 0 ? worker->scheduler->now_us : 1;
    worker->counters.trunks_up++;
    LOG(LOG_INFO, "trunk-up", LOG_TEXT("peer", downlink->origin.peer), LOG_TEXT("name", downlink->name),
        LOG_HEX("trunk", downlink->id), LOG_HEX("edge_worker", downlink->edge_worker),
        LOG_INTEGER("worker", worker->index));
    settings.resume = worker->settings->resume_timeout_ms > 0;
    settings.work_slab = &worker->work_slab;
    settings.buffers = &worker->buffers;
    /* An error has closed the link already: `closed` follows. */
    (void)link_open_trunk(&downlink->link, &settings, &session_trunk_events, &downlink->origin);
}

void core_downlink_drain(struct core_downlink *downlink)
{
    if (downlink->link.trunk == NULL) {
        link_close(&downlink->link, ERROR_SHUTDOWN);
    } else if (trunk_goaway(downlink->link.trunk, TRUNK_CODE_NO_ERROR) != ERROR_NONE) {
        link_close(&downlink->link, ERROR_NO_MEMORY);
    }
}

void core_downlink_close(struct core_downlink *downlink, enum error_code error)
{
    link_close(&downlink->link, error);
}
