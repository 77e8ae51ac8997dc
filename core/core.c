/*
 * The process trunkline-core. Main's thread owns everything here; the workers' threads are told what to do by posts
 * and answer by posts, so that a signal is answered at any time.
 */
#include "core/core.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "mux/clock.h"
#include "mux/log.h"
#include "mux/memory.h"

/* One line for whoever started the program. */
static void core_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void core_complain(const char *format, ...)
{
    char text[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    fprintf(stderr, "trunkline-core: %s\n", text);
}

static void core_move(struct core *core, enum core_state to)
{
    static const bool moves[CORE_STATE_COUNT][CORE_STATE_COUNT] = {
        [CORE_STARTING] = {[CORE_RUNNING] = true, [CORE_STOPPING] = true},
        [CORE_RUNNING] = {[CORE_DRAINING] = true, [CORE_STOPPING] = true},
        [CORE_DRAINING] = {[CORE_STOPPING] = true},
    };

    assert(moves[core->state][to]);
    core->state = (uint8_t)to;
}

/* ------------------------------------------------------------------------------------------------ the end */

static void core_stop(struct core *core)
{
    if (core->state == CORE_STOPPING) {
        return;
    }
    core_move(core, CORE_STOPPING);
    core->forced = atomic_load(&core->totals.sessions) > 0;
    scheduler_disarm(loop_scheduler(core->loop), &core->drain_deadline);
    core_acceptor_dispose(&core->acceptor);
    for (uint32_t i = 0; i < core->thread_count; i++) {
        core_thread_stop(&core->threads[i]);
    }
}

static void core_drain(struct core *core)
{
    core_move(core, CORE_DRAINING);
    process_notify("STOPPING=1");
    LOG(LOG_INFO, "core-draining", LOG_INTEGER("sessions", atomic_load(&core->totals.sessions)),
        LOG_INTEGER("trunks", atomic_load(&core->totals.trunks)),
        LOG_INTEGER("timeout_ms", core->settings.drain_timeout_ms));
    core_acceptor_dispose(&core->acceptor);
    scheduler_arm(loop_scheduler(core->loop), &core->drain_deadline, core->settings.drain_timeout_ms);
    for (uint32_t i = 0; i < core->thread_count; i++) {
        core_thread_drain(&core->threads[i]);
    }
}

static void core_on_drain_deadline(struct timer *timer)
{
    core_stop(container_of(timer, struct core, drain_deadline));
}

static void core_on_thread_drained(void *owner, struct core_thread *thread)
{
    struct core *core = owner;

    (void)thread;
    core->drained++;
    if (core->drained == core->thread_count && core->state == CORE_DRAINING) {
        core_stop(core);
    }
}

static void core_on_thread_stopped(void *owner, struct core_thread *thread)
{
    struct core *core = owner;

    (void)thread;
    core->stopped++;
    if (core->stopped == core->thread_count) {
        loop_stop(core->loop);
    }
}

static void core_log_stopped(const struct core *core)
{
    struct core_counters sum = {0};
    int64_t held_bytes = chain_held_bytes();

    for (uint32_t i = 0; i < core->thread_count; i++) {
        const struct core_counters *counters = &core->threads[i].worker.counters;

        held_bytes += core->threads[i].held_bytes;
        sum.trunks_up += counters->trunks_up;
        sum.trunks_refused += counters->trunks_refused;
        sum.sessions_opened += counters->sessions_opened;
        sum.sessions_closed += counters->sessions_closed;
        sum.sessions_suspended += counters->sessions_suspended;
        sum.sessions_resumed += counters->sessions_resumed;
        sum.sessions_reopened += counters->sessions_reopened;
        sum.sessions_moved += counters->sessions_moved;
        sum.resumes_refused += counters->resumes_refused;
        sum.sessions_refused += counters->sessions_refused;
        sum.sessions_shed += counters->sessions_shed;
        sum.streams_refused += counters->streams_refused;
    }
    LOG(LOG_INFO, "core-stopped", LOG_TEXT("end", core->forced ? "forced" : "clean"),
        LOG_INTEGER("sessions_opened", sum.sessions_opened), LOG_INTEGER("sessions_closed", sum.sessions_closed),
        LOG_INTEGER("sessions_suspended", sum.sessions_suspended),
        LOG_INTEGER("sessions_resumed", sum.sessions_resumed), LOG_INTEGER("sessions_reopened", sum.sessions_reopened),
        LOG_INTEGER("sessions_moved", sum.sessions_moved), LOG_INTEGER("resumes_refused", sum.resumes_refused),
        LOG_INTEGER("sessions_refused", sum.sessions_refused), LOG_INTEGER("sessions_shed", sum.sessions_shed),
        LOG_INTEGER("streams_refused", sum.streams_refused), LOG_INTEGER("trunks", sum.trunks_up),
        LOG_INTEGER("trunks_refused", sum.trunks_refused),
        LOG_INTEGER("sessions_left", atomic_load(&core->totals.sessions)),
        LOG_INTEGER("trunks_left", atomic_load(&core->totals.trunks)), LOG_INTEGER("buffered_left", held_bytes));
}

/* ------------------------------------------------------------------------------------------------ credentials */

static enum error_code core_make_context(const struct core_settings *settings, struct tls_context **context,
                                         struct tls_fault *fault)
{
    static const char *const alpn[] = {"h2"};
    const struct tls_certificate_files files = {settings->certificate, settings->key};
    const struct tls_server_settings server = {
        .certificates = &files,
        .certificate_count = 1,
        .alpn = alpn,
        .alpn_count = 1,
        .alpn_required = true,
        .client_auth = TLS_CLIENT_AUTH_REQUIRED,
        .client_ca = settings->client_ca,
    };

    fault->text[0] = '\0';
    return tls_context_new_server(&server, context, fault);
}

/* The trunks that are up keep what they were accepted with. */
static void core_reload(struct core *core)
{
    struct tls_context *context = NULL;
    struct tls_fault fault;
    enum error_code error = core_make_context(&core->settings, &context, &fault);

    for (uint32_t i = 0; i < core->thread_count && error == ERROR_NONE; i++) {
        error = core_thread_use_context(&core->threads[i], context);
    }
    tls_context_unref(&context);
    if (error == ERROR_NONE) {
        LOG(LOG_INFO, "core-reloaded", LOG_TEXT("certificate", core->settings.certificate));
    } else {
        LOG(LOG_ERROR, "core-reload-failed", LOG_ERROR_CODE(error),
            LOG_TEXT("text", fault.text[0] != '\0' ? fault.text : error_text(error)));
    }
}

static void core_on_signal(void *owner, enum process_signal signal)
{
    struct core *core = owner;

    switch (signal) {
    case PROCESS_SIGNAL_DRAIN:
        if (core->state == CORE_RUNNING) {
            core_drain(core);
        }
        break;
    case PROCESS_SIGNAL_STOP:
        core_stop(core);
        break;
    case PROCESS_SIGNAL_RELOAD:
        if (core->state == CORE_RUNNING) {
            core_reload(core);
        }
        break;
    }
}

/* ------------------------------------------------------------------------------------------------ the start */

static void core_prepare_workers(struct core *core, uint32_t count)
{
    const struct core_settings *settings = &core->settings;
    struct core_worker_settings *worker = &core->worker_settings;

    trunk_settings_init(&worker->trunk, TRUNK_ACCEPTOR);
    worker->trunk.sessions_max = settings->sessions_per_trunk;
    worker->trunk.stream_window_bytes = settings->stream_window_bytes;
    worker->trunk.stream_window_max_bytes = settings->stream_window_max_bytes;
    worker->trunk.trunk_window_bytes = settings->trunk_window_bytes;
    worker->buffer_memory_bytes = settings->buffer_memory_bytes / count;
    worker->trunk.header_bytes_max = settings->header_bytes_max;
    worker->trunk.ping_interval_ms = settings->ping_interval_ms;
    worker->trunk.ping_timeout_ms = settings->ping_timeout_ms;
    worker->sessions_max = settings->sessions_max;
    worker->trunks_max = settings->trunks_max;
    worker->resume_timeout_ms = settings->resume_timeout_ms;
    worker->handshake_timeout_ms = settings->handshake_timeout_ms;
    worker->allowed_names = settings->allowed_names;
    worker->allowed_name_count = settings->allowed_name_count;
    worker->services = &core->services;
    worker->totals = &core->totals;
    clock_random(&worker->seed, sizeof(worker->seed));
}

static int core_start_failed(const char *what, enum error_code error)
{
    core_complain("%s: %s", what, error_text(error));
    return PROCESS_EXIT_FAILURE;
}

/* The first thing that a start does: it forks, and plugins may bring threads. */
static int core_prepare_confinement(struct core *core)
{
    const struct core_settings *settings = &core->settings;
    const char *files[] = {settings->certificate, settings->key, settings->client_ca};
    const struct confinement_settings confinement = {.user = settings->user,
                                                     .mode = settings->sandbox,
                                                     .files = files,
                                                     .file_count = sizeof(files) / sizeof(*files),
                                                     .check_only = settings->check_only};
    struct option_fault fault;
    enum error_code error = confinement_init(&core->confinement, &confinement, &fault);

    if (error == ERROR_NONE) {
        return PROCESS_EXIT_OK;
    }
    core_complain("%s", fault.text);
    return error == ERROR_CONFIGURATION ? PROCESS_EXIT_USAGE : PROCESS_EXIT_FAILURE;
}

/* From here on the core serves sessions, and handlers may do what they were given leave to. */
static int core_confine(struct core *core)
{
    const struct core_settings *settings = &core->settings;
    const struct sandbox_plan plan = {
        .role = SANDBOX_CORE,
        .calls = (const char *const *)settings->sandbox_calls,
        .call_count = settings->sandbox_call_count,
        .read_paths = (const char *const *)settings->sandbox_reads,
        .read_path_count = settings->sandbox_read_count,
        .write_paths = (const char *const *)settings->sandbox_writes,
        .write_path_count = settings->sandbox_write_count,
        .abstract_sockets_used = process_notify_is_abstract(),
    };
    struct option_fault fault;

    if (confinement_enter(&core->confinement, &plan, &fault) == ERROR_NONE) {
        return PROCESS_EXIT_OK;
    }
    core_complain("%s", fault.text);
    return PROCESS_EXIT_FAILURE;
}

/* Everything that can be wrong with what the operator gave, before anything is opened. */
static int core_load(struct core *core, const trunkline_handler *const *handlers, size_t handler_count)
{
    struct core_service_fault service_fault;
    struct tls_fault tls_fault;
    enum error_code error = core_services_setup(&core->services, core->settings.services, core->settings.service_count,
                                                handlers, handler_count, &service_fault);

    if (error == ERROR_CONFIGURATION) {
        core_complain("%s", service_fault.text);
        return PROCESS_EXIT_USAGE;
    }
    if (error != ERROR_NONE) {
        return core_start_failed("services", error);
    }
    error = core_make_context(&core->settings, &core->context, &tls_fault);
    if (error != ERROR_NONE) {
        core_complain("%s", tls_fault.text[0] != '\0' ? tls_fault.text : error_text(error));
        return error == ERROR_CREDENTIALS ? PROCESS_EXIT_CREDENTIALS : PROCESS_EXIT_FAILURE;
    }
    return PROCESS_EXIT_OK;
}

static int core_bind(struct core *core)
{
    size_t failed = 0;
    enum error_code error;

    errno = 0;
    error = core_acceptor_bind(&core->acceptor, core->settings.listens, core->settings.listen_count, &failed);
    if (error == ERROR_NONE) {
        return PROCESS_EXIT_OK;
    }
    core_complain("cannot listen on %s: %s", core->settings.listens[failed],
                  error == ERROR_UNREACHABLE && errno == EADDRNOTAVAIL ? "not an address of this machine"
                  : error == ERROR_SYSTEM && errno != 0                ? strerror(errno)
                                                                       : error_text(error));
    return error == ERROR_NO_MEMORY ? PROCESS_EXIT_FAILURE : PROCESS_EXIT_ADDRESS;
}

static int core_start_threads(struct core *core)
{
    static const struct core_thread_reports reports = {core_on_thread_drained, core_on_thread_stopped};
    uint32_t count = core->settings.workers != 0 ? core->settings.workers : process_cpus();

    core->threads = memory_calloc(count, sizeof(*core->threads));
    if (core->threads == NULL) {
        return core_start_failed("workers", ERROR_NO_MEMORY);
    }
    core_prepare_workers(core, count);
    for (uint32_t i = 0; i < count; i++) {
        enum error_code error = core_thread_init(core->threads, i, count, &core->worker_settings, core->context,
                                                 core->loop, &reports, core);

        if (error != ERROR_NONE) {
            return core_start_failed("workers", error);
        }
        core->thread_count++;
    }
    for (uint32_t i = 0; i < count; i++) {
        enum error_code error = core_thread_start(&core->threads[i]);

        if (error != ERROR_NONE) {
            return core_start_failed("workers", error);
        }
    }
    return PROCESS_EXIT_OK;
}

/* The first of all: handlers may start threads in their setup, and those must find the signals blocked. */
static int core_open(struct core *core)
{
    enum error_code error = loop_new(&core->loop);

    timer_init(&core->drain_deadline, core_on_drain_deadline);
    if (error == ERROR_NONE) {
        error = process_new(&core->process, core->loop, core_on_signal, core);
    }
    if (error != ERROR_NONE) {
        return core_start_failed("start", error);
    }
    process_raise_files();
    return PROCESS_EXIT_OK;
}

static int core_start(struct core *core)
{
    int code = core_bind(core);
    enum error_code error;

    if (code == PROCESS_EXIT_OK) {
        code = core_confine(core); /* before the workers' threads, which inherit it */
    }
    if (code == PROCESS_EXIT_OK) {
        code = core_start_threads(core);
    }
    if (code != PROCESS_EXIT_OK) {
        return code;
    }
    error = core_acceptor_start(&core->acceptor, core->loop, core->threads, core->thread_count);
    return error == ERROR_NONE ? PROCESS_EXIT_OK : core_start_failed("listeners", error);
}

static void core_dispose(struct core *core)
{
    if (core->threads != NULL) {
        for (uint32_t i = 0; i < core->thread_count; i++) {
            core_thread_join(&core->threads[i]);
        }
        core_threads_dispose(core->threads, core->thread_count);
    }
    core_acceptor_dispose(&core->acceptor);
    if (core->process != NULL) {
        process_free(&core->process);
    }
    if (core->loop != NULL) {
        loop_free(&core->loop);
    }
    confinement_dispose(&core->confinement);
    memory_free(core->threads);
    tls_context_unref(&core->context);
    core_services_dispose(&core->services);
}

static int core_serve(struct core *core)
{
    core_move(core, CORE_RUNNING);
    LOG(LOG_INFO, "core-started", LOG_INTEGER("workers", core->thread_count),
        LOG_INTEGER("services", core->services.count), LOG_INTEGER("listeners", core->acceptor.count));
    process_notify("READY=1");
    loop_run(core->loop);
    for (uint32_t i = 0; i < core->thread_count; i++) {
        core_thread_join(&core->threads[i]);
    }
    core_log_stopped(core);
    return core->forced ? PROCESS_EXIT_FORCED : PROCESS_EXIT_OK;
}

int core_run(const struct core_settings *settings, const trunkline_handler *const *handlers, size_t handler_count)
{
    struct core core = {.settings = *settings};
    int code = core_open(&core);

    if (code == PROCESS_EXIT_OK) {
        code = core_prepare_confinement(&core);
    }
    if (code == PROCESS_EXIT_OK) {
        code = core_load(&core, handlers, handler_count);
    }
    if (code == PROCESS_EXIT_OK && !settings->check_only) {
        code = core_start(&core);
        if (code == PROCESS_EXIT_OK) {
            code = core_serve(&core);
        } else {
            core_stop(&core);
        }
    }
    core_dispose(&core);
    return code;
}

int trunkline_core_main(int argc, char *const *argv, const trunkline_handler *const *handlers, size_t count)
{
    struct core_settings settings;
    int code = PROCESS_EXIT_USAGE;

    memset(&settings, 0, sizeof(settings));
    switch (core_settings_read(&settings, argc, argv)) {
    case SETTINGS_RUN:
        log_configure(settings.log_level, settings.log_format);
        code = core_run(&settings, handlers, count);
        break;
    case SETTINGS_DONE:
        code = PROCESS_EXIT_OK;
        break;
    case SETTINGS_WRONG:
        break;
    }
    core_settings_dispose(&settings);
    return code;
}
