/*
 * The process trunkline-edge: see edge.h. The main thread owns settings, contexts and workers; workers answer by
 * posts to the main loop.
 */
#include "edge/edge.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "edge/route.h"
#include "edge/settings.h"
#include "edge/takeover.h"
#include "edge/worker.h"
#include "mux/chain.h"
#include "mux/clock.h"
#include "mux/confinement.h"
#include "mux/limits.h"
#include "mux/log.h"
#include "mux/memory.h"
#include "mux/process.h"
#include "mux/socket.h"

struct edge {
    struct edge_settings settings;
    struct tls_context *client_context;
    struct tls_context *trunk_context;
    struct address *cores; /* resolved, in the order of the settings */
    struct loop *loop;     /* the main thread's: signals, and posts of workers */
    struct process *process;
    struct confinement confinement;
    struct admission *admission; /* shared by the workers; NULL: nothing is limited */
    struct edge_worker **workers;
    uint32_t worker_count;
    uint32_t stopped_count;
    uint32_t identity;
    struct takeover_control *control; /* NULL: no control socket */
    struct takeover_take *take;       /* NULL: nothing was to be taken over */
    uint64_t files_max;
    int64_t held_bytes; /* chain_held_bytes of the takeovers\' threads */
    bool taking;        /* it goes on */
    bool handed_over;   /* another process serves the clients */
    bool drain_wanted;  /* a signal came while it took over */
    bool draining;
    bool failed; /* the takeover */
};

/* One line for whoever started the program. */
static void edge_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void edge_complain(const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "trunkline-edge: %s\n", line);
}

/* An enum process_exit. */
static int edge_exit_for(enum error_code error)
{
    switch (error) {
    case ERROR_NONE:
        return PROCESS_EXIT_OK;
    case ERROR_CONFIGURATION:
        return PROCESS_EXIT_USAGE;
    case ERROR_CREDENTIALS:
        return PROCESS_EXIT_CREDENTIALS;
    case ERROR_ADDRESS_IN_USE:
    case ERROR_PERMISSION:
    case ERROR_UNREACHABLE:
        return PROCESS_EXIT_ADDRESS;
    default:
        return PROCESS_EXIT_FAILURE;
    }
}

/* ------------------------------------------------------------------------------------------------ credentials */

static enum error_code edge_make_client_context(const struct edge_settings *settings, struct tls_context **context,
                                                struct tls_fault *fault)
{
    struct tls_certificate_files *files = memory_calloc(settings->certificate_count, sizeof(*files));
    if (files == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (size_t i = 0; i < settings->certificate_count; i++) {
        files[i].certificate = settings->certificates[i].certificate;
        files[i].key = settings->certificates[i].key;
    }
    const struct tls_server_settings server = {
        .certificates = files,
        .certificate_count = settings->certificate_count,
        .alpn = (const char *const *)settings->alpn,
        .alpn_count = settings->alpn_count,
        .unknown_name_refused = settings->unknown_name_refused,
        .client_auth = settings->client_auth,
        .client_ca = settings->client_ca,
        .ticket_key_file = settings->ticket_key,
        .tickets = settings->tickets,
    };
    enum error_code error = tls_context_new_server(&server, context, fault);
    memory_free(files);
    return error;
}

static enum error_code edge_make_trunk_context(const struct edge_settings *settings, struct tls_context **context,
                                               struct tls_fault *fault)
{
    static const char *const alpn[] = {"h2"};
    const struct tls_client_settings client = {
        .ca = settings->core_ca,
        .certificate = {.certificate = settings->trunk_certificate, .key = settings->trunk_key},
        .alpn = alpn,
        .alpn_count = 1,
        .alpn_required = true,
        .tickets_ignored = true, /* trunks are few, and do not resume TLS */
    };
    return tls_context_new_client(&client, context, fault);
}

/* Both or none. */
static enum error_code edge_make_contexts(const struct edge_settings *settings, struct tls_context **client_context,
                                          struct tls_context **trunk_context, struct tls_fault *fault)
{
    fault->text[0] = 0;
    enum error_code error = edge_make_client_context(settings, client_context, fault);
    if (error == ERROR_NONE) {
        error = edge_make_trunk_context(settings, trunk_context, fault);
        if (error != ERROR_NONE) {
            tls_context_unref(client_context);
        }
    }
    return error;
}

/* ------------------------------------------------------------------------------------------------ signals */

/* Connections that are open keep what they began with. */
static void edge_reload(struct edge *edge)
{
    struct tls_context *client_context = NULL;
    struct tls_context *trunk_context = NULL;
    struct tls_fault fault;
    enum error_code error = edge_make_contexts(&edge->settings, &client_context, &trunk_context, &fault);
    if (error != ERROR_NONE) {
        LOG(LOG_ERROR, "edge-reload-failed", LOG_ERROR_CODE(error),
            LOG_TEXT("text", fault.text[0] != 0 ? fault.text : error_text(error)));
        return;
    }
    for (uint32_t i = 0; i < edge->worker_count; i++) {
        enum error_code posted = edge_worker_reload(edge->workers[i], client_context, trunk_context);
        if (posted != ERROR_NONE) {
            error = posted;
        }
    }
    tls_context_unref(&client_context);
    tls_context_unref(&trunk_context);
    if (error != ERROR_NONE) {
        LOG(LOG_ERROR, "edge-reload-failed", LOG_ERROR_CODE(error), LOG_TEXT("text", error_text(error)));
        return;
    }
    LOG(LOG_INFO, "edge-reloaded", LOG_INTEGER("certificates", edge->settings.certificate_count));
}

static void edge_on_signal(void *owner, enum process_signal signal)
{
    struct edge *edge = owner;
    if (edge->taking && signal != PROCESS_SIGNAL_RELOAD) {
        edge->drain_wanted = true;
        takeover_take_hasten(edge->take); /* the running process carries on, unless it is too late */
        return;
    }
    switch (signal) {
    case PROCESS_SIGNAL_RELOAD:
        edge_reload(edge);
        break;
    case PROCESS_SIGNAL_DRAIN:
        takeover_control_stop(edge->control, true);
        if (!edge->handed_over) {
            process_notify("STOPPING=1");
        }
        LOG(LOG_INFO, "edge-draining", LOG_INTEGER("timeout_ms", edge->settings.drain_timeout_ms));
        edge->draining = true;
        for (uint32_t i = 0; i < edge->worker_count; i++) {
            edge_worker_drain(edge->workers[i]);
        }
        break;
    case PROCESS_SIGNAL_STOP:
        if (edge->draining) {
            edge->draining = false; /* a third signal changes nothing */
            for (uint32_t i = 0; i < edge->worker_count; i++) {
                edge_worker_stop(edge->workers[i]);
            }
        }
        break;
    }
}

static void edge_on_worker_stopped(void *owner, struct edge_worker *worker)
{
    struct edge *edge = owner;
    (void)worker;
    edge->stopped_count++;
    if (edge->stopped_count == edge->worker_count) {
        loop_stop(edge->loop);
    }
}

/* ------------------------------------------------------------------------------------------------ start */

static enum error_code edge_resolve_cores(struct edge *edge)
{
    edge->cores = memory_calloc(edge->settings.core_count, sizeof(*edge->cores));
    if (edge->cores == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (size_t i = 0; i < edge->settings.core_count; i++) {
        const char *text = edge->settings.cores[i].address;
        enum error_code error = address_parse(text, true, &edge->cores[i]);
        if (error != ERROR_NONE) {
            edge_complain("core %s: %s", text,
                          error == ERROR_UNREACHABLE ? "the name does not resolve" : error_text(error));
            return ERROR_CONFIGURATION;
        }
    }
    return ERROR_NONE;
}

static enum error_code edge_make_admission(struct edge *edge)
{
    const struct edge_settings *settings = &edge->settings;
    const struct admission_limits limits = {
        .connections_per_address = settings->connections_per_address,
        .connections_per_network = settings->connections_per_network,
        .arrivals_per_address = settings->arrivals_per_address,
        .arrivals_per_network = settings->arrivals_per_network,
        .network_ip4_bits = settings->network_ip4_bits,
        .network_ip6_bits = settings->network_ip6_bits,
    };
    uint64_t seed = 0;
    clock_random(&seed, sizeof(seed));
    return admission_new(&edge->admission, &limits, seed);
}

static uint32_t edge_worker_total(const struct edge *edge)
{
    return edge->settings.workers != 0 ? edge->settings.workers : process_cpus();
}

static enum error_code edge_make_workers(struct edge *edge)
{
    const struct edge_settings *settings = &edge->settings;
    uint32_t count = edge_worker_total(edge);
    edge->workers = memory_calloc(count, sizeof(struct edge_worker *));
    if (edge->workers == NULL) {
        return ERROR_NO_MEMORY;
    }
    enum error_code error = edge_make_admission(edge);
    if (error != ERROR_NONE) {
        return error;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct edge_worker_settings worker = {
            .edge = settings,
            .cores = edge->cores,
            .client_context = edge->client_context,
            .trunk_context = edge->trunk_context,
            .index = i,
            .identity = edge->identity,
            .sessions_max = (settings->sessions_max + count - 1) / count,
            .handshakes_max = (settings->handshakes_max + count - 1) / count,
            .handshakes_per_second = (settings->handshakes_per_second + count - 1) / count,
            .buffer_memory_bytes = settings->buffer_memory_bytes / count,
            .admission = edge->admission,
            .owner_loop = edge->loop,
            .stopped = edge_on_worker_stopped,
            .owner = edge,
        };
        error = edge_worker_new(&edge->workers[i], &worker);
        if (error != ERROR_NONE) {
            edge_complain("worker %u: %s", (unsigned)i, error_text(error));
            return error;
        }
        edge->worker_count++;
    }
    return ERROR_NONE;
}

/* SO_REUSEPORT would let a second edge share the port of the first without a word: an address in use must show. */
static enum error_code edge_probe(const struct address *address)
{
    int fd = -1;
    enum error_code error = socket_listen(address, false, &fd);
    if (error == ERROR_NONE) {
        (void)close(fd);
    }
    return error;
}

static bool edge_port_is_chosen(const struct address *address)
{
    switch (address->u.any.sa_family) {
    case AF_INET:
        return address->u.ip4.sin_port != 0;
    case AF_INET6:
        return address->u.ip6.sin6_port != 0;
    default:
        return false;
    }
}

/* One socket for each worker; with port 0 all take the port that the first one got. *bound is where they listen. */
static enum error_code edge_listen(struct edge *edge, size_t listener, struct address *bound)
{
    enum error_code error = address_parse(edge->settings.listens[listener].address, true, bound);
    bool local = error == ERROR_NONE && bound->u.any.sa_family == AF_UNIX;
    if (error == ERROR_NONE && edge->worker_count > 1 && edge_port_is_chosen(bound)) {
        error = edge_probe(bound);
    }
    for (uint32_t i = 0; error == ERROR_NONE && i < edge->worker_count; i++) {
        int fd = -1;
        if (local && i > 0) {
            break; /* a path has one socket: the first worker serves it */
        }
        error = socket_listen(bound, !local && edge->worker_count > 1, &fd);
        if (error == ERROR_NONE && i == 0) {
            error = socket_local_address(fd, bound);
        }
        if (error == ERROR_NONE) {
            socket_limit_unsent(fd, LIMIT_CLIENT_BACKLOG_BYTES);
        }
        if (error == ERROR_NONE && edge->take != NULL) {
            error = takeover_take_add_listener(edge->take, i, listener, fd);
        } else if (error == ERROR_NONE) {
            socket_keep_alive(fd, edge->settings.keepalive_ms);
            error = edge_worker_listen(edge->workers[i], listener, fd);
        } else if (fd >= 0) {
            (void)close(fd);
        }
    }
    return error;
}

/* Of a listener that came with a takeover. */
static void edge_tell_listening(struct edge *edge, size_t listener)
{
    char text[ADDRESS_TEXT_MAX];
    struct address bound;
    int fd = edge_worker_listener(edge->workers[0], listener);
    if (takeover_take_has_listener(edge->take, listener) && fd >= 0 && socket_local_address(fd, &bound) == ERROR_NONE) {
        (void)printf("listening on %s\n", address_format(&bound, text));
        (void)fflush(stdout);
    }
}

static enum error_code edge_listen_all(struct edge *edge)
{
    char text[ADDRESS_TEXT_MAX];
    for (size_t i = 0; i < edge->settings.listen_count; i++) {
        struct address bound;
        if (edge->take != NULL && takeover_take_has_listener(edge->take, i)) {
            continue; /* its sockets come with the clients */
        }
        errno = 0;
        enum error_code error = edge_listen(edge, i, &bound);
        if (error != ERROR_NONE) {
            edge_complain("cannot listen on %s: %s", edge->settings.listens[i].address,
                          error == ERROR_SYSTEM && errno != 0 ? strerror(errno) : error_text(error));
            return error;
        }
        (void)printf("listening on %s\n", address_format(&bound, text));
    }
    (void)fflush(stdout);
    return ERROR_NONE;
}

/* ------------------------------------------------------------------------------------------------ privileges */

/* Everything that a reload reads is read by a process that keeps the right to. */
static enum error_code edge_prepare_confinement(struct edge *edge)
{
    const struct edge_settings *settings = &edge->settings;
    const char *others[] = {settings->core_ca, settings->trunk_certificate, settings->trunk_key, settings->client_ca,
                            settings->ticket_key};
    size_t count = sizeof(others) / sizeof(*others);
    const char **files = memory_calloc(2 * settings->certificate_count + count, sizeof(*files));
    struct option_fault fault = {.text = "out of memory"};
    enum error_code error = ERROR_NO_MEMORY;

    if (files != NULL) {
        memcpy(files, others, sizeof(others));
        for (size_t i = 0; i < settings->certificate_count; i++) {
            files[count++] = settings->certificates[i].certificate;
            files[count++] = settings->certificates[i].key;
        }
        const struct confinement_settings confinement = {.user = settings->user,
                                                         .mode = settings->sandbox,
                                                         .files = files,
                                                         .file_count = count,
                                                         .check_only = settings->check_only};
        error = confinement_init(&edge->confinement, &confinement, &fault);
    }
    memory_free(files);
    if (error != ERROR_NONE) {
        edge_complain("%s", fault.text);
    }
    return error;
}

/* From here on the edge relays, dials its cores, and does nothing else. */
static enum error_code edge_confine(struct edge *edge)
{
    struct option_fault fault = {.text = "out of memory"};
    uint16_t *ports = memory_calloc(edge->settings.core_count, sizeof(*ports));
    size_t count = 0;
    enum error_code error = ERROR_NO_MEMORY;
    /* Messages can carry open files: only a takeover needs that. */
    static const char *const takeover_calls[] = {"sendmsg", "recvmsg"};
    bool takeover = edge->settings.control != NULL || edge->settings.takeover != NULL;

    if (ports != NULL) {
        for (size_t i = 0; i < edge->settings.core_count; i++) {
            const struct address *core = &edge->cores[i];
            if (core->u.any.sa_family != AF_UNIX) {
                ports[count++] = ntohs(core->u.any.sa_family == AF_INET ? core->u.ip4.sin_port : core->u.ip6.sin6_port);
            }
        }
        const struct sandbox_plan plan = {.role = SANDBOX_EDGE,
                                          .calls = takeover_calls,
                                          .call_count = takeover ? 2 : 0,
                                          .ports = ports,
                                          .port_count = count,
                                          .ports_limited = true,
                                          .abstract_sockets_used = process_notify_is_abstract()};
        error = confinement_enter(&edge->confinement, &plan, &fault);
    }
    memory_free(ports);
    if (error != ERROR_NONE) {
        edge_complain("%s", fault.text);
    }
    return error;
}

/* ------------------------------------------------------------------------------------------------ takeover */

static struct takeover_edge edge_for_takeover(const struct edge *edge)
{
    return (struct takeover_edge){
        .control = edge->control,
        .settings = &edge->settings,
        .workers = edge->workers,
        .worker_count = edge_worker_total(edge),
        .identity = edge->identity,
        .trunk_name = tls_context_name(edge->trunk_context),
    };
}

/* A new process took the clients over, or failed to. */
static void edge_on_given(void *owner, const struct takeover_outcome *outcome)
{
    struct edge *edge = owner;
    edge->held_bytes += outcome->held_bytes;
    if (!outcome->done) {
        LOG(LOG_WARNING, "takeover-failed", LOG_TEXT("reason", outcome->reason),
            LOG_INTEGER("frozen_ms", outcome->frozen_us / 1000U));
        return;
    }
    edge->handed_over = true;
    LOG(LOG_INFO, "edge-handed-over", LOG_INTEGER("clients", outcome->clients),
        LOG_INTEGER("staying", outcome->staying), LOG_INTEGER("frozen_ms", outcome->frozen_us / 1000U));
}

static enum error_code edge_open_control(struct edge *edge)
{
    const struct edge_settings *settings = &edge->settings;
    if (settings->control == NULL) {
        return ERROR_NONE;
    }
    bool comes = settings->takeover != NULL && strcmp(settings->takeover, settings->control) == 0;
    enum error_code error = takeover_control_new(&edge->control, settings->control, comes);
    if (error != ERROR_NONE) {
        edge_complain("control %s: %s", settings->control,
                      error == ERROR_INVALID       ? "the path is too long"
                      : error == ERROR_UNREACHABLE ? "there is no such directory"
                                                   : error_text(error));
    }
    return error;
}

static void edge_start_control(struct edge *edge)
{
    const struct takeover_edge self = edge_for_takeover(edge);
    if (edge->control != NULL &&
        takeover_control_start(edge->control, edge->loop, &self, edge_on_given, edge) != ERROR_NONE) {
        LOG(LOG_ERROR, "control-failed", LOG_TEXT("text", "nobody can take over from this process"));
    }
}

/* Asks the running process, before anything else is made. */
static enum error_code edge_ask(struct edge *edge)
{
    struct takeover_outcome outcome = {.done = false};
    const struct takeover_edge self = edge_for_takeover(edge);
    enum error_code error = takeover_take_new(&edge->take, &self, edge->settings.takeover, &outcome);
    if (error != ERROR_NONE) {
        edge_complain("takeover: %s", outcome.reason);
        return ERROR_REFUSED; /* whatever it was: one exit code */
    }
    edge->identity = takeover_take_identity(edge->take);
    return ERROR_NONE;
}

static void edge_tell_started(struct edge *edge)
{
    char text[sizeof("READY=1\nMAINPID=") + 20];
    LOG(LOG_INFO, "edge-started", LOG_INTEGER("workers", edge->worker_count),
        LOG_INTEGER("listeners", edge->settings.listen_count), LOG_INTEGER("cores", edge->settings.core_count),
        LOG_INTEGER("trunks", edge->settings.trunks), LOG_INTEGER("files_max", edge->files_max));
    (void)snprintf(text, sizeof(text), "READY=1\nMAINPID=%ld", (long)getpid());
    process_notify(text);
}

static void edge_on_taken(void *owner, const struct takeover_outcome *outcome)
{
    struct edge *edge = owner;
    edge->taking = false;
    edge->held_bytes += outcome->held_bytes;
    if (!outcome->done) {
        edge_complain("takeover: %s", outcome->reason);
        edge->failed = true;
        loop_stop(edge->loop);
        return;
    }
    for (size_t i = 0; i < edge->settings.listen_count; i++) {
        edge_tell_listening(edge, i);
    }
    LOG(LOG_INFO, "edge-took-over", LOG_INTEGER("clients", outcome->clients),
        LOG_INTEGER("frozen_ms", outcome->frozen_us / 1000U));
    edge_tell_started(edge);
    edge_start_control(edge);
    takeover_take_tell_done(edge->take);
    takeover_take_free(&edge->take);
    if (edge->drain_wanted) {
        edge_on_signal(edge, PROCESS_SIGNAL_DRAIN);
    }
}

/* ------------------------------------------------------------------------------------------------ start */

static enum error_code edge_make_loop(struct edge *edge)
{
    enum error_code error = loop_new(&edge->loop);
    if (error == ERROR_NONE) {
        error = process_new(&edge->process, edge->loop, edge_on_signal, edge);
    }
    if (error != ERROR_NONE) {
        edge_complain("%s", error_text(error));
    }
    return error;
}

static enum error_code edge_run_workers(struct edge *edge)
{
    for (uint32_t i = 0; i < edge->worker_count; i++) {
        enum error_code error = edge_worker_start(edge->workers[i]);
        if (error != ERROR_NONE) {
            edge_complain("worker %u: %s", (unsigned)i, error_text(error));
            return error;
        }
    }
    return ERROR_NONE;
}

/* Everything runs: serves at once, or takes over first. */
static enum error_code edge_go(struct edge *edge)
{
    if (edge->take != NULL) {
        const struct takeover_edge self = edge_for_takeover(edge);
        edge->taking = true;
        return takeover_take_start(edge->take, &self, edge->loop, edge_on_taken, edge);
    }
    edge_tell_started(edge);
    edge_start_control(edge);
    return ERROR_NONE;
}

static enum error_code edge_start(struct edge *edge)
{
    clock_random(&edge->identity, sizeof(edge->identity));
    enum error_code error = edge->settings.takeover != NULL ? edge_ask(edge) : ERROR_NONE;
    if (error == ERROR_NONE) {
        error = edge_open_control(edge);
    }
    if (error == ERROR_NONE) {
        error = edge_make_loop(edge);
    }
    if (error != ERROR_NONE) {
        return error;
    }
    edge->files_max = process_raise_files();
    error = edge_make_workers(edge);
    if (error == ERROR_NONE) {
        error = edge_listen_all(edge);
    }
    if (error == ERROR_NONE) {
        error = edge_confine(edge); /* before the workers' threads, which inherit it */
    }
    if (error == ERROR_NONE) {
        error = edge_run_workers(edge);
    }
    return error == ERROR_NONE ? edge_go(edge) : error;
}

/* ------------------------------------------------------------------------------------------------ end */

static void edge_add_counters(struct relay_counters *sum, const struct relay_counters *worker)
{
    sum->clients_accepted += worker->clients_accepted;
    sum->clients_over_limit += worker->clients_over_limit;
    sum->handshakes_failed += worker->handshakes_failed;
    sum->sessions_opened += worker->sessions_opened;
    sum->sessions_ended += worker->sessions_ended;
    sum->sessions_refused += worker->sessions_refused;
    sum->sessions_truncated += worker->sessions_truncated;
    sum->sessions_client_lost += worker->sessions_client_lost;
    sum->sessions_trunk_lost += worker->sessions_trunk_lost;
    sum->sessions_idle += worker->sessions_idle;
    sum->sessions_stalled += worker->sessions_stalled;
    sum->sessions_suspended += worker->sessions_suspended;
    sum->sessions_resumed += worker->sessions_resumed;
    sum->sessions_shed += worker->sessions_shed;
    sum->sessions_forced += worker->sessions_forced;
    sum->clients_taken_over += worker->clients_taken_over;
    sum->clients_handed_over += worker->clients_handed_over;
    sum->bytes_from_clients += worker->bytes_from_clients;
    sum->bytes_to_clients += worker->bytes_to_clients;
}

static int edge_finish(struct edge *edge)
{
    struct relay_counters sum = {0};
    takeover_control_stop(edge->control, false); /* the new process tells the supervisor before we end */
    struct edge_left left = {.bytes = chain_held_bytes() + edge->held_bytes};
    if (edge->failed) {
        return PROCESS_EXIT_FAILURE;
    }
    for (uint32_t i = 0; i < edge->worker_count; i++) {
        edge_worker_join(edge->workers[i]);
        edge_worker_add_left(edge->workers[i], &left);
        edge_add_counters(&sum, edge_worker_counters(edge->workers[i]));
    }
    LOG(LOG_INFO, "edge-stopped", LOG_INTEGER("clients", sum.clients_accepted),
        LOG_INTEGER("over_limit", sum.clients_over_limit), LOG_INTEGER("handshakes_failed", sum.handshakes_failed),
        LOG_INTEGER("opened", sum.sessions_opened), LOG_INTEGER("ended", sum.sessions_ended),
        LOG_INTEGER("refused", sum.sessions_refused), LOG_INTEGER("truncated", sum.sessions_truncated),
        LOG_INTEGER("client_lost", sum.sessions_client_lost), LOG_INTEGER("trunk_lost", sum.sessions_trunk_lost),
        LOG_INTEGER("idle", sum.sessions_idle), LOG_INTEGER("stalled", sum.sessions_stalled),
        LOG_INTEGER("shed", sum.sessions_shed), LOG_INTEGER("suspended", sum.sessions_suspended),
        LOG_INTEGER("resumed", sum.sessions_resumed), LOG_INTEGER("taken_over", sum.clients_taken_over),
        LOG_INTEGER("handed_over", sum.clients_handed_over), LOG_INTEGER("forced", sum.sessions_forced),
        LOG_INTEGER("bytes_in", sum.bytes_from_clients), LOG_INTEGER("bytes_out", sum.bytes_to_clients),
        LOG_INTEGER("sessions_left", left.sessions), LOG_INTEGER("streams_left", left.streams),
        LOG_INTEGER("buffered_left", left.bytes));
    return sum.sessions_forced > 0 ? PROCESS_EXIT_FORCED : PROCESS_EXIT_OK;
}

static void edge_dispose(struct edge *edge)
{
    takeover_control_stop(edge->control, true);
    takeover_take_stop(edge->take);
    for (uint32_t i = 0; i < edge->worker_count; i++) {
        edge_worker_free(&edge->workers[i]);
    }
    memory_free(edge->workers);
    admission_free(&edge->admission);
    process_free(&edge->process);
    confinement_dispose(&edge->confinement);
    loop_free(&edge->loop);
    takeover_control_free(&edge->control);
    takeover_take_free(&edge->take);
    memory_free(edge->cores);
    tls_context_unref(&edge->client_context);
    tls_context_unref(&edge->trunk_context);
    edge_settings_dispose(&edge->settings);
}

static enum error_code edge_prepare(struct edge *edge)
{
    struct tls_fault fault;
    size_t route = 0;
    enum error_code error = edge_prepare_confinement(edge); /* forks: before anything else */
    if (error != ERROR_NONE) {
        return error;
    }
    error = route_check(&edge->settings, &route);
    if (error != ERROR_NONE) {
        edge_complain("route: no listener has the name %s", edge->settings.routes[route].listener);
        return error;
    }
    error = edge_make_contexts(&edge->settings, &edge->client_context, &edge->trunk_context, &fault);
    if (error != ERROR_NONE) {
        edge_complain("%s", fault.text[0] != 0 ? fault.text : error_text(error));
        return error;
    }
    return edge_resolve_cores(edge);
}

int edge_run(int argc, char *const *argv)
{
    struct edge edge = {0};
    switch (edge_settings_read(&edge.settings, argc, argv)) {
    case SETTINGS_RUN:
        break;
    case SETTINGS_DONE:
        return PROCESS_EXIT_OK;
    case SETTINGS_WRONG:
        return PROCESS_EXIT_USAGE;
    }
    log_configure(edge.settings.log_level, edge.settings.log_format);
    enum error_code error = edge_prepare(&edge);
    int code = edge_exit_for(error);
    if (error == ERROR_NONE && !edge.settings.check_only) {
        error = edge_start(&edge);
        code = edge_exit_for(error);
        if (error == ERROR_NONE) {
            loop_run(edge.loop);
            code = edge_finish(&edge);
        }
    }
    edge_dispose(&edge);
    return code;
}
