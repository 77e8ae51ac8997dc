/*
 * trunkline-chaos: a TCP proxy that injects faults. Reads its options, makes the proxies, and runs one loop until a
 * signal or the timeline ends it; docs/man/trunkline-chaos.1 tells the rest.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/clock.h"
#include "mux/log.h"
#include "mux/memory.h"
#include "mux/process.h"
#include "tests/chaos/api.h"
#include "tests/chaos/options.h"
#include "tests/chaos/schedule.h"

#define FILE_BYTES_MAX (UINT64_C(1) << 32)
#define FLUSH_MS       100U

struct chaos {
    struct chaos_settings settings;
    struct loop *loop;
    struct process *process;
    struct decisions decisions;
    struct registry registry;
    bool registered; /* `registry` is to be disposed of */
    struct api *api;
    struct timeline timeline;
    struct schedule schedule;
    FILE *log;
    bool log_failed;
    struct timer flush;
};

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("trunkline-chaos: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

static int exit_of(enum error_code error)
{
    switch (error) {
    case ERROR_ADDRESS_IN_USE:
    case ERROR_PERMISSION:
    case ERROR_UNREACHABLE:
        return PROCESS_EXIT_ADDRESS;
    case ERROR_CONFIGURATION:
    case ERROR_STATE:
    case ERROR_LIMIT:
        return PROCESS_EXIT_USAGE;
    default:
        return PROCESS_EXIT_FAILURE;
    }
}

/* ---- files ---- */

/* The whole file; NULL when it cannot be read, which is said. */
static char *read_file(const char *option, const char *path, size_t *length)
{
    FILE *file = fopen(path, "rbe");
    char *text = NULL;
    size_t room = 0;
    *length = 0;
    errno = 0;
    while (file != NULL && !ferror(file) && !feof(file)) {
        if (*length == room) {
            room = room == 0 ? 65536 : room * 2;
            char *grown = room <= FILE_BYTES_MAX ? memory_realloc(text, room + 1) : NULL;
            if (grown == NULL) {
                errno = room > FILE_BYTES_MAX ? EFBIG : ENOMEM;
                break;
            }
            text = grown;
        }
        *length += fread(text + *length, 1, room - *length, file);
    }
    if (file == NULL || errno != 0 || text == NULL) {
        complain("--%s: %s: %s", option, path, strerror(errno));
        memory_free(text);
        text = NULL;
    } else {
        text[*length] = '\0';
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return text;
}

static void on_log_line(void *owner, const char *line, size_t length)
{
    struct chaos *chaos = owner;
    if (fwrite(line, 1, length, chaos->log) != length && !chaos->log_failed) {
        chaos->log_failed = true;
        LOG(LOG_ERROR, "log-not-written", LOG_TEXT("file", chaos->settings.log), LOG_TEXT("text", strerror(errno)));
    }
    if (chaos->loop != NULL && !timer_armed(&chaos->flush)) {
        scheduler_arm(loop_scheduler(chaos->loop), &chaos->flush, FLUSH_MS);
    }
}

static void on_flush(struct timer *timer)
{
    (void)fflush(container_of(timer, struct chaos, flush)->log);
}

/* ---- start ---- */

static int open_decisions(struct chaos *chaos)
{
    struct chaos_settings *settings = &chaos->settings;
    struct option_fault fault;
    uint64_t seed = settings->seed;
    if (settings->seed_text == NULL) {
        clock_random(&seed, sizeof(seed));
        seed >>= 32; /* shorter to type, and enough */
    }
    decisions_init(&chaos->decisions, seed, clock_monotonic_us(), settings->log != NULL ? on_log_line : NULL, chaos);
    if (settings->replay != NULL) {
        size_t length;
        char *text = read_file("replay", settings->replay, &length);
        if (text == NULL) {
            return PROCESS_EXIT_USAGE;
        }
        enum error_code error = decisions_load(&chaos->decisions, text, length, &fault);
        memory_free(text);
        if (error != ERROR_NONE) {
            complain("--replay: %s: %s", settings->replay,
                     error == ERROR_CONFIGURATION ? fault.text : error_text(error));
            return exit_of(error);
        }
        settings->receive_buffer = (uint32_t)chaos->decisions.receive_buffer;
        settings->latency_buffer = (uint32_t)chaos->decisions.latency_buffer;
    }
    if (settings->log != NULL) {
        chaos->log = fopen(settings->log, "we");
        if (chaos->log == NULL) {
            complain("--log: %s: %s", settings->log, strerror(errno));
            return PROCESS_EXIT_USAGE;
        }
        decisions_write_header(&chaos->decisions, settings->receive_buffer, settings->latency_buffer);
    }
    return PROCESS_EXIT_OK;
}

static enum error_code read_spec(const struct chaos_settings *settings, size_t index, struct proxy_spec *spec,
                                 struct option_fault *fault)
{
    char *copy = memory_strdup(settings->proxies[index]);
    enum error_code error = copy != NULL ? timeline_read_proxy(copy, spec, fault) : ERROR_NO_MEMORY;
    memory_free(copy);
    for (size_t i = 0; i < settings->toxic_count && error == ERROR_NONE; i++) {
        const char *text = settings->toxics[i];
        struct toxic *toxic = NULL;
        if (strncmp(text, spec->name, strlen(spec->name)) != 0 || text[strlen(spec->name)] != ':') {
            continue;
        }
        copy = memory_strdup(text + strlen(spec->name) + 1);
        error = copy != NULL ? timeline_read_toxic(copy, ",", &toxic, fault) : ERROR_NO_MEMORY;
        memory_free(copy);
        list_for_each(&spec->toxics, node) {
            if (toxic != NULL && strcmp(container_of(node, struct toxic, node)->name, toxic->name) == 0) {
                option_fault_set(fault, "two toxics of %s have the name %s: give one a name=", spec->name, toxic->name);
                toxic_free(&toxic);
                return ERROR_CONFIGURATION;
            }
        }
        if (toxic != NULL) {
            list_append(&spec->toxics, &toxic->node);
        }
    }
    return error;
}

static int make_proxies(struct chaos *chaos)
{
    for (size_t i = 0; i < chaos->settings.proxy_count; i++) {
        struct option_fault fault = {.text = ""};
        struct proxy_spec spec;
        proxy_spec_init(&spec);
        enum error_code error = read_spec(&chaos->settings, i, &spec, &fault);
        if (error == ERROR_NONE) {
            error = registry_create(&chaos->registry, &spec, &fault);
        }
        proxy_spec_dispose(&spec);
        if (error != ERROR_NONE) {
            complain("--proxy: %s", fault.text[0] != '\0' ? fault.text : error_text(error));
            return exit_of(error);
        }
    }
    return PROCESS_EXIT_OK;
}

static int read_config(struct chaos *chaos)
{
    const char *path = chaos->settings.config;
    struct option_fault fault = {.text = ""};
    struct proxy_spec *specs = NULL;
    size_t count = 0;
    size_t length;
    json_error_t where;
    if (path == NULL) {
        return PROCESS_EXIT_OK;
    }
    char *text = read_file("config", path, &length);
    if (text == NULL) {
        return PROCESS_EXIT_USAGE;
    }
    json_t *json = json_loadb(text, length, 0, &where);
    memory_free(text);
    if (json == NULL) {
        complain("%s:%d: %s", path, where.line, where.text);
        return PROCESS_EXIT_USAGE;
    }
    enum error_code error = json_read_proxies(json, &specs, &count, &fault);
    json_decref(json);
    if (error == ERROR_NONE) {
        error = registry_populate(&chaos->registry, specs, count, &fault);
    }
    json_free_proxies(&specs, count);
    if (error != ERROR_NONE) {
        complain("--config: %s: %s", path, fault.text[0] != '\0' ? fault.text : error_text(error));
        return exit_of(error);
    }
    return PROCESS_EXIT_OK;
}

static int read_timeline(struct chaos *chaos)
{
    const char *path = chaos->settings.timeline;
    struct option_fault fault = {.text = ""};
    size_t length;
    if (path == NULL) {
        return PROCESS_EXIT_OK;
    }
    char *text = read_file("timeline", path, &length);
    if (text == NULL) {
        return PROCESS_EXIT_USAGE;
    }
    enum error_code error = timeline_read(&chaos->timeline, text, length, &fault);
    memory_free(text);
    if (error != ERROR_NONE) {
        complain("%s:%s", path, fault.text);
        return exit_of(error);
    }
    return PROCESS_EXIT_OK;
}

static int start_api(struct chaos *chaos, struct address *bound)
{
    struct address address;
    if (chaos->settings.api == NULL) {
        return PROCESS_EXIT_OK;
    }
    errno = 0;
    enum error_code error = address_parse(chaos->settings.api, true, &address);
    if (error == ERROR_NONE) {
        error = api_new(&chaos->registry, &address, &chaos->api, bound);
    }
    if (error != ERROR_NONE) {
        complain("--api: cannot listen on %s: %s", chaos->settings.api,
                 errno != 0 ? strerror(errno) : error_text(error));
        return exit_of(error);
    }
    return PROCESS_EXIT_OK;
}

static void tell(const struct chaos *chaos, const struct address *api)
{
    char text[ADDRESS_TEXT_MAX];
    list_for_each(&chaos->registry.proxies, node) {
        const struct proxy *proxy = container_of(node, struct proxy, node);
        if (proxy->enabled) {
            (void)printf("listening on %s\n", proxy->listen);
        }
    }
    if (chaos->api != NULL) {
        (void)printf("api on %s\n", address_format(api, text));
    }
    (void)printf("seed %" PRIu64 "\n", chaos->decisions.seed);
    (void)fflush(stdout);
}

static void on_signal(void *owner, enum process_signal signal)
{
    struct chaos *chaos = owner;
    if (signal != PROCESS_SIGNAL_RELOAD) {
        loop_stop(chaos->loop);
    }
}

static int start_loop(struct chaos *chaos)
{
    enum error_code error = loop_new(&chaos->loop);
    if (error == ERROR_NONE) {
        error = process_new(&chaos->process, chaos->loop, on_signal, chaos);
    }
    if (error == ERROR_NONE) {
        (void)process_raise_files();
        error = registry_init(&chaos->registry, chaos->loop, &chaos->decisions);
        chaos->registered = true;
    }
    if (error != ERROR_NONE) {
        complain("%s", error_text(error));
        return PROCESS_EXIT_FAILURE;
    }
    return PROCESS_EXIT_OK;
}

static int start(struct chaos *chaos)
{
    struct address api = {.length = 0};
    int status = read_timeline(chaos);
    if (status == PROCESS_EXIT_OK) {
        status = open_decisions(chaos);
    }
    if (status == PROCESS_EXIT_OK) {
        status = start_loop(chaos);
    }
    if (status != PROCESS_EXIT_OK) {
        return status;
    }
    chaos->registry.receive_buffer = (int)chaos->settings.receive_buffer;
    chaos->registry.latency_bytes = chaos->settings.latency_buffer;
    chaos->decisions.starting = true;
    status = make_proxies(chaos);
    if (status == PROCESS_EXIT_OK) {
        status = read_config(chaos);
    }
    if (status == PROCESS_EXIT_OK) {
        status = start_api(chaos, &api);
    }
    if (status != PROCESS_EXIT_OK) {
        return status;
    }
    if (chaos->settings.timeline != NULL || chaos->decisions.replaying) {
        schedule_start(&chaos->schedule, &chaos->registry, chaos->settings.timeline != NULL ? &chaos->timeline : NULL,
                       chaos->decisions.start_us);
        if (chaos->schedule.failed > 0) {
            complain("%s", chaos->schedule.fault);
            return PROCESS_EXIT_FAILURE;
        }
    }
    chaos->decisions.starting = false;
    tell(chaos, &api);
    LOG(LOG_INFO, "chaos-started", LOG_INTEGER("seed", chaos->decisions.seed),
        LOG_INTEGER("replay", chaos->decisions.replaying));
    process_notify("READY=1");
    return PROCESS_EXIT_OK;
}

static void dispose(struct chaos *chaos)
{
    schedule_stop(&chaos->schedule);
    api_free(&chaos->api);
    if (chaos->registered) {
        registry_dispose(&chaos->registry);
    }
    if (chaos->loop != NULL) {
        scheduler_disarm(loop_scheduler(chaos->loop), &chaos->flush);
    }
    process_free(&chaos->process);
    loop_free(&chaos->loop);
    timeline_dispose(&chaos->timeline);
    decisions_dispose(&chaos->decisions);
    if (chaos->log != NULL && (fclose(chaos->log) != 0 || chaos->log_failed)) {
        complain("--log: %s: not all was written", chaos->settings.log);
    }
    chaos_settings_dispose(&chaos->settings);
}

int main(int argc, char **argv)
{
    struct chaos chaos = {.log_failed = false};
    switch (chaos_settings_read(&chaos.settings, argc, argv, stdout, stderr)) {
    case SETTINGS_RUN:
        break;
    case SETTINGS_DONE:
        return PROCESS_EXIT_OK;
    case SETTINGS_WRONG:
        return PROCESS_EXIT_USAGE;
    }
    log_configure(chaos.settings.log_level, chaos.settings.log_format);
    timer_init(&chaos.flush, on_flush);
    int status = start(&chaos);
    if (status == PROCESS_EXIT_OK) {
        loop_run(chaos.loop);
        LOG(LOG_INFO, "chaos-stopped", LOG_INTEGER("steps_failed", chaos.schedule.failed),
            LOG_INTEGER("replay_missed", chaos.decisions.missed));
        status = chaos.schedule.failed > 0 ? PROCESS_EXIT_FAILURE : PROCESS_EXIT_OK;
    }
    dispose(&chaos);
    return status;
}
