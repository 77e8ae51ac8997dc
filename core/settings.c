/*
 * The core's options: their table, how services are read, and what must hold between options. A reading fills the
 * caller's settings, which own what they hold. Main's thread.
 */
#include "core/settings.h"

#include <string.h>

#include "mux/config.h"
#include "mux/limits.h"
#include "mux/memory.h"
#include "mux/privilege.h"

#define DURATION_MAX_MS 86400000U /* a day */
#define WINDOW_MAX      2147483647U

static const char *const service_parts[] = {"name", "handler", "argument", NULL};
static const char *const log_level_choices[] = {"error", "warning", "info", "debug", NULL};
static const char *const log_format_choices[] = {"text", "json", NULL};
static const char *const sandbox_choices[] = {"off", "on", "require", NULL};

static bool core_check_service(const struct core_settings *core, const char *name, const char *handler,
                               struct option_fault *fault)
{
    if (name == NULL || *name == '\0') {
        return option_fault_set(fault, "needs a name: NAME=HANDLER[:ARGUMENT]");
    }
    if (!option_check_name(name, fault)) {
        return false;
    }
    if (handler == NULL || *handler == '\0' || *handler == ':') {
        return option_fault_set(fault, "needs a handler: NAME=HANDLER[:ARGUMENT]");
    }
    for (size_t i = 0; i < core->service_count; i++) {
        if (strcmp(core->services[i].name, name) == 0) {
            return option_fault_set(fault, "%.100s is given twice", name);
        }
    }
    return true;
}

/* `handler` may bear its argument after a colon, unless `argument` is given. */
static enum error_code core_add_service(struct core_settings *core, const char *name, const char *handler,
                                        const char *argument)
{
    size_t handler_length = argument != NULL ? strlen(handler) : strcspn(handler, ":");
    const char *rest = handler + handler_length;
    struct core_service_settings *grown = option_list_extend(core->services, core->service_count, sizeof *grown);
    if (grown == NULL) {
        return ERROR_NO_MEMORY;
    }
    core->services = grown;
    struct core_service_settings *service = &grown[core->service_count];
    service->name = memory_strdup(name);
    service->handler = memory_strndup(handler, handler_length);
    service->argument = memory_strdup(argument != NULL ? argument : (*rest == ':' ? rest + 1 : rest));
    if (service->name == NULL || service->handler == NULL || service->argument == NULL) {
        memory_free(service->name);
        memory_free(service->handler);
        memory_free(service->argument);
        return ERROR_NO_MEMORY;
    }
    core->service_count++;
    return ERROR_NONE;
}

static enum error_code core_take_service(void *settings, const struct option_value *value, struct option_fault *fault)
{
    const char *name = value->parts[0];
    const char *handler = value->parts[1];
    char *copy = NULL;
    if (value->text != NULL) {
        copy = memory_strdup(value->text);
        if (copy == NULL) {
            return ERROR_NO_MEMORY;
        }
        char *mark = strchr(copy, '=');
        name = copy;
        if (mark != NULL) {
            *mark = '\0';
            handler = mark + 1;
        }
    }
    bool valid = core_check_service(settings, name, handler, fault);
    if (valid && value->parts[2] != NULL && strchr(handler, ':') != NULL) {
        valid = option_fault_set(fault, "has two arguments: one after the handler's colon, and one of its own");
    }
    enum error_code error = valid ? core_add_service(settings, name, handler, value->parts[2]) : ERROR_CONFIGURATION;
    memory_free(copy);
    return error;
}

static void core_clear_service(void *settings)
{
    struct core_settings *core = settings;
    for (size_t i = 0; i < core->service_count; i++) {
        memory_free(core->services[i].name);
        memory_free(core->services[i].handler);
        memory_free(core->services[i].argument);
    }
    memory_free(core->services);
    core->services = NULL;
    core->service_count = 0;
}

#define FIELD(name_) offsetof(struct core_settings, name_)

/* clang-format off */
static const struct option core_options[] = {
    {.name = "listen", .kind = OPTION_TEXTS, .required = true, .group = "Trunks", .value_name = "ADDR:PORT",
     .help = "where edges connect their trunks; with port 0 the system chooses one, which is printed",
     .offset = FIELD(listens), .count_offset = FIELD(listen_count), .check = option_check_listen_address},
    {.name = "certificate", .kind = OPTION_TEXT, .required = true, .value_name = "FILE",
     .help = "certificate shown to edges, PEM, leaf first", .offset = FIELD(certificate)},
    {.name = "key", .kind = OPTION_TEXT, .required = true, .value_name = "FILE",
     .help = "its private key, PEM", .offset = FIELD(key)},
    {.name = "client-ca", .kind = OPTION_TEXT, .required = true, .value_name = "FILE",
     .help = "CA certificates, PEM, that the edges' certificates must chain to", .offset = FIELD(client_ca)},
    {.name = "allow-name", .kind = OPTION_TEXTS, .value_name = "NAME",
     .help = "name that an edge's certificate must bear, one of these; none: any that the CA signed",
     .offset = FIELD(allowed_names), .count_offset = FIELD(allowed_name_count), .check = option_check_name},
    {.name = "ping-interval", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "time between the PINGs that test a trunk", .offset = FIELD(ping_interval_ms),
     .minimum = 1, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_PING_INTERVAL_MS},
    {.name = "ping-timeout", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "a trunk whose PING is unanswered for so long is lost", .offset = FIELD(ping_timeout_ms),
     .minimum = 1, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_PING_ANSWER_MS},

    {.name = "service", .kind = OPTION_ITEM, .required = true, .group = "Services",
     .value_name = "NAME=HANDLER[:ARGUMENT]",
     .help = "who serves the sessions that edges ask for by NAME: echo, forward:ADDR:PORT, forward:unix:PATH or "
             "plugin:FILE",
     .parts = service_parts, .title = "name", .take = core_take_service, .clear = core_clear_service},

    {.name = "reopen", .kind = OPTION_TEXTS, .value_name = "NAME",
     .help = "a service whose sessions outlive this core: its handler opens them again, here or at another core, with "
             "the note that it left", .offset = FIELD(reopened), .count_offset = FIELD(reopened_count),
     .check = option_check_name},

    {.name = "workers", .kind = OPTION_COUNT, .group = "Limits", .value_name = "NUMBER",
     .help = "threads; 0: one for each CPU", .offset = FIELD(workers),
     .minimum = 0, .maximum = LIMIT_WORKERS, .preset = 0},
    {.name = "sessions-max", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "sessions of the process; more are refused", .offset = FIELD(sessions_max),
     .minimum = 1, .maximum = 1000000000, .preset = LIMIT_CORE_SESSIONS},
    {.name = "sessions-per-trunk", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "sessions on one trunk at a time", .offset = FIELD(sessions_per_trunk),
     .minimum = 1, .maximum = 1U << 30, .preset = LIMIT_SESSIONS_PER_TRUNK},
    {.name = "trunks-max", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "trunks of the process; more are refused", .offset = FIELD(trunks_max),
     .minimum = 1, .maximum = 1000000, .preset = LIMIT_CORE_TRUNKS},
    {.name = "stream-window", .kind = OPTION_SIZE, .value_name = "SIZE",
     .help = "bytes in flight from one client to its handler, at the start",
     .offset = FIELD(stream_window_bytes),
     .minimum = 1024, .maximum = 1U << 30, .preset = LIMIT_STREAM_WINDOW_BYTES},
    {.name = "stream-window-max", .kind = OPTION_SIZE, .value_name = "SIZE",
     .help = "the same at most, when the path is long and fast",
     .offset = FIELD(stream_window_max_bytes),
     .minimum = 1024, .maximum = 1U << 30, .preset = LIMIT_STREAM_WINDOW_MAX_BYTES},
    {.name = "trunk-window", .kind = OPTION_SIZE, .value_name = "SIZE",
     .help = "bytes in flight on a whole trunk; must exceed --stream-window-max",
     .offset = FIELD(trunk_window_bytes),
     .minimum = 65536, .maximum = WINDOW_MAX, .preset = LIMIT_TRUNK_WINDOW_BYTES},
    {.name = "buffer-memory", .kind = OPTION_SIZE, .value_name = "SIZE",
     .help = "what sessions of the process hold in buffers; as it fills, windows shrink, then no new ones are taken, "
             "then stalled ones are reset",
     .offset = FIELD(buffer_memory_bytes),
     .minimum = LIMIT_BUFFER_MEMORY_MIN_BYTES, .maximum = WINDOW_MAX, .preset = LIMIT_BUFFER_MEMORY_BYTES},
    {.name = "header-bytes-max", .kind = OPTION_SIZE, .value_name = "SIZE",
     .help = "header fields of one request", .offset = FIELD(header_bytes_max),
     .minimum = 1024, .maximum = 1U << 20, .preset = LIMIT_HEADER_BYTES},
    {.name = "handshake-timeout", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "for a trunk's TLS handshake and first SETTINGS", .offset = FIELD(handshake_timeout_ms),
     .minimum = 1, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_TRUNK_HANDSHAKE_MS},
    {.name = "resume-timeout", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "a session whose trunk is lost is kept for so long for its edge to resume it; 0: it ends with its trunk",
     .offset = FIELD(resume_timeout_ms),
     .minimum = 0, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_RESUME_CORE_MS},
    {.name = "drain-timeout", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "after SIGTERM, sessions may end by themselves for so long", .offset = FIELD(drain_timeout_ms),
     .minimum = 0, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_DRAIN_MS},

    {.name = "user", .kind = OPTION_TEXT, .group = "Privileges", .value_name = "NAME[:GROUP]",
     .help = "whom to become once listeners are bound and secrets read; only root can",
     .offset = FIELD(user), .check = privilege_check_text},
    {.name = "sandbox", .kind = OPTION_CHOICE, .value_name = "MODE",
     .help = "whether the kernel is told to forbid what is not needed from then on, as far as it can (on) or in full "
             "(require): off, on or require",
     .offset = FIELD(sandbox), .choices = sandbox_choices, .preset = SANDBOX_ON},
    {.name = "sandbox-allow", .kind = OPTION_TEXTS, .value_name = "CALL",
     .help = "a system call that handlers need besides those that the core itself does, by name",
     .offset = FIELD(sandbox_calls), .count_offset = FIELD(sandbox_call_count), .check = sandbox_check_call},
    {.name = "sandbox-read", .kind = OPTION_TEXTS, .value_name = "PATH",
     .help = "a file, or a directory with all below, that handlers read",
     .offset = FIELD(sandbox_reads), .count_offset = FIELD(sandbox_read_count), .check = sandbox_check_path},
    {.name = "sandbox-write", .kind = OPTION_TEXTS, .value_name = "PATH",
     .help = "the same for files that handlers also write, make and remove",
     .offset = FIELD(sandbox_writes), .count_offset = FIELD(sandbox_write_count), .check = sandbox_check_path},

    {.name = "config", .kind = OPTION_CONFIG, .group = "General", .value_name = "FILE",
     .help = "read options from FILE first"},
    {.name = "check-config", .kind = OPTION_FLAG, .help = "check options, certificates and keys, and exit",
     .offset = FIELD(check_only)},
    {.name = "log-level", .kind = OPTION_CHOICE, .value_name = "LEVEL",
     .help = "least important lines to log: error, warning, info or debug", .offset = FIELD(log_level),
     .choices = log_level_choices, .preset = LOG_INFO},
    {.name = "log-format", .kind = OPTION_CHOICE, .value_name = "FORMAT",
     .help = "lines on standard error as text or json", .offset = FIELD(log_format),
     .choices = log_format_choices, .preset = LOG_FORMAT_TEXT},
    {.name = "version", .kind = OPTION_VERSION, .help = "print the version and exit"},
    {.name = "help", .kind = OPTION_HELP, .help = "print this page and exit"},
};
/* clang-format on */

const struct option_program core_program = {
    .name = "trunkline-core",
    .synopsis = "trunkline-core --listen ADDR:PORT --certificate FILE --key FILE --client-ca FILE "
                "--service NAME=HANDLER[:ARGUMENT] [option ...]",
    .summary = "Accepts trunks from edges, and hands each client's stream to the handler of its service.",
    .epilogue = "  trunkline-core --listen 0.0.0.0:8443 --certificate core.crt --key core.key \\\n"
                "      --client-ca ca.crt --service echo=echo --service web=forward:127.0.0.1:80\n",
    .options = core_options,
    .option_count = sizeof core_options / sizeof *core_options,
};

_Static_assert(sizeof core_options / sizeof *core_options <= OPTIONS_MAX, "the reader has room for fewer options");
_Static_assert(sizeof(enum log_level) == sizeof(int) && sizeof(enum sandbox_mode) == sizeof(int),
               "choices are stored as int");

/* NULL, or a name of --reopen that is no service's. */
static const char *core_mark_reopened(struct core_settings *settings)
{
    for (size_t i = 0; i < settings->reopened_count; i++) {
        bool found = false;
        for (size_t j = 0; j < settings->service_count; j++) {
            if (strcmp(settings->services[j].name, settings->reopened[i]) == 0) {
                settings->services[j].reopens = found = true;
            }
        }
        if (!found) {
            return settings->reopened[i];
        }
    }
    return NULL;
}

static enum settings_verdict core_finish(struct options *options, struct core_settings *settings,
                                         enum settings_verdict verdict)
{
    if (verdict == SETTINGS_RUN && settings->stream_window_max_bytes < settings->stream_window_bytes) {
        verdict =
            options_wrong(options, options_given(options, "stream-window-max") ? "stream-window-max" : "stream-window",
                          "stream-window-max must not be smaller than stream-window");
    }
    if (verdict == SETTINGS_RUN && settings->trunk_window_bytes <= settings->stream_window_max_bytes) {
        verdict = options_wrong(options, options_given(options, "trunk-window") ? "trunk-window" : "stream-window-max",
                                "trunk-window must be larger than stream-window-max, or one session stops them all");
    }
    const char *unknown = verdict == SETTINGS_RUN ? core_mark_reopened(settings) : NULL;
    if (unknown != NULL) {
        verdict = options_wrong(options, "reopen", "no service is named %.100s", unknown);
    }
    if (verdict != SETTINGS_RUN) {
        core_settings_dispose(settings);
    }
    return verdict;
}

enum settings_verdict core_settings_read(struct core_settings *settings, int argc, char *const *argv)
{
    struct options options;
    *settings = (struct core_settings){0};
    options_init(&options, &core_program, settings, stdout, stderr);
    return core_finish(&options, settings, config_read(&options, argc, argv));
}

enum settings_verdict core_settings_read_text(struct core_settings *settings, const char *name, const char *text,
                                              size_t length, FILE *errors)
{
    struct options options;
    *settings = (struct core_settings){0};
    options_init(&options, &core_program, settings, stdout, errors);
    enum settings_verdict verdict = config_read_text(&options, name, text, length);
    if (verdict == SETTINGS_RUN) {
        verdict = options_require(&options);
    }
    return core_finish(&options, settings, verdict);
}

void core_settings_dispose(struct core_settings *settings)
{
    options_clear(&core_program, settings);
    *settings = (struct core_settings){0};
}
