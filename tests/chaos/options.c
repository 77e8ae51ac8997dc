/* See options.h. */
#include "tests/chaos/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mux/config.h"
#include "mux/memory.h"
#include "tests/chaos/flow.h"
#include "tests/chaos/timeline.h"

#define RECEIVE_BUFFER_MAX 1073741824U

static const char *const log_level_choices[] = {"error", "warning", "info", "debug", NULL};
static const char *const log_format_choices[] = {"text", "json", NULL};

static bool check_proxy(const char *text, struct option_fault *fault)
{
    struct proxy_spec spec;
    proxy_spec_init(&spec);
    char *copy = memory_strdup(text);
    bool valid = copy != NULL && timeline_read_proxy(copy, &spec, fault) == ERROR_NONE;
    memory_free(copy);
    proxy_spec_dispose(&spec);
    return valid;
}

static bool check_toxic(const char *text, struct option_fault *fault)
{
    struct toxic *toxic = NULL;
    const char *colon = strchr(text, ':');
    if (colon == NULL || colon == text) {
        return option_fault_set(fault, "must be PROXY:TYPE[,KEY=VALUE]...");
    }
    char *copy = memory_strdup(colon + 1);
    bool valid = copy != NULL && timeline_read_toxic(copy, ",", &toxic, fault) == ERROR_NONE;
    memory_free(copy);
    toxic_free(&toxic);
    return valid;
}

static bool seed_parse(const char *text, uint64_t *seed)
{
    char *end;
    errno = 0;
    *seed = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

static bool check_seed(const char *text, struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    uint64_t seed;
    return seed_parse(text, &seed) ||
           option_fault_set(fault, "%s is not a whole number of 64 bits", option_quote(text, quoted));
}

#define FIELD(name_) offsetof(struct chaos_settings, name_)

/* clang-format off */
static const struct option chaos_options[] = {
    {.name = "proxy", .kind = OPTION_TEXTS, .group = "Proxies", .value_name = "NAME=LISTEN,UPSTREAM",
     .help = "a proxy: listens on one address and connects to the other; with port 0 the system chooses one, which is "
             "printed",
     .offset = FIELD(proxies), .count_offset = FIELD(proxy_count), .check = check_proxy},
    {.name = "toxic", .kind = OPTION_TEXTS, .value_name = "PROXY:TYPE[,KEY=VALUE]...",
     .help = "a toxic of a proxy, there before its first connection; the manual page lists types and keys",
     .offset = FIELD(toxics), .count_offset = FIELD(toxic_count), .check = check_toxic},
    {.name = "config", .kind = OPTION_TEXT, .value_name = "FILE",
     .help = "proxies and toxics as JSON, like the body of /populate", .offset = FIELD(config)},
    {.name = "timeline", .kind = OPTION_TEXT, .value_name = "FILE",
     .help = "what changes when", .offset = FIELD(timeline)},
    {.name = "api", .kind = OPTION_TEXT, .value_name = "ADDR:PORT",
     .help = "serve the HTTP API here (Toxiproxy's clients expect 127.0.0.1:8474); none: no API", .offset = FIELD(api),
     .check = option_check_listen_address},

    {.name = "seed", .kind = OPTION_TEXT, .group = "Reproducing", .value_name = "NUMBER",
     .help = "of all random decisions; none: a new one, which is printed", .offset = FIELD(seed_text),
     .check = check_seed},
    {.name = "log", .kind = OPTION_TEXT, .value_name = "FILE",
     .help = "write every decision and every change to FILE", .offset = FIELD(log)},
    {.name = "replay", .kind = OPTION_TEXT, .value_name = "FILE",
     .help = "repeat the run that wrote the log FILE", .offset = FIELD(replay)},

    {.name = "receive-buffer", .kind = OPTION_SIZE, .group = "Limits", .value_name = "SIZE",
     .help = "the kernel's receive buffer of each socket, so that windows close soon; 0: the system's",
     .offset = FIELD(receive_buffer), .minimum = 0, .maximum = RECEIVE_BUFFER_MAX, .preset = 0},
    {.name = "latency-buffer", .kind = OPTION_SIZE, .value_name = "SIZE",
     .help = "what latency may hold for each direction of a connection", .offset = FIELD(latency_buffer),
     .minimum = 4096, .maximum = 1U << 31, .preset = FLOW_LATENCY_BYTES},

    {.name = "log-level", .kind = OPTION_CHOICE, .group = "General", .value_name = "LEVEL",
     .help = "least important lines to print: error, warning, info or debug", .offset = FIELD(log_level),
     .choices = log_level_choices, .preset = LOG_INFO},
    {.name = "log-format", .kind = OPTION_CHOICE, .value_name = "FORMAT",
     .help = "lines on standard error as text or json", .offset = FIELD(log_format),
     .choices = log_format_choices, .preset = LOG_FORMAT_TEXT},
    {.name = "version", .kind = OPTION_VERSION, .help = "print the version and exit"},
    {.name = "help", .kind = OPTION_HELP, .help = "print this page and exit"},
};
/* clang-format on */

const struct option_program chaos_program = {
    .name = "trunkline-chaos",
    .synopsis = "trunkline-chaos (--proxy NAME=LISTEN,UPSTREAM | --config FILE | --timeline FILE | --api ADDR:PORT | "
                "--replay FILE) [option ...]",
    .summary = "A TCP proxy that injects faults: latency, slices, pauses, resets and more, each run reproducible.",
    .epilogue = "  trunkline-chaos --proxy web=127.0.0.1:8080,127.0.0.1:80 \\\n"
                "      --toxic web:latency,latency=80,jitter=20 --seed 7 --log run.log\n",
    .options = chaos_options,
    .option_count = sizeof chaos_options / sizeof *chaos_options,
};

static bool proxy_known(const struct chaos_settings *settings, const char *toxic)
{
    size_t length = (size_t)(strchr(toxic, ':') - toxic);
    for (size_t i = 0; i < settings->proxy_count; i++) {
        if (strncmp(settings->proxies[i], toxic, length) == 0 && settings->proxies[i][length] == '=') {
            return true;
        }
    }
    return false;
}

static enum settings_verdict check(struct options *options, struct chaos_settings *settings)
{
    static const char *const given_by_log[] = {"proxy", "toxic", "config", "timeline", "seed"};
    char quoted[OPTION_QUOTED_MAX];
    if (settings->replay != NULL) {
        for (size_t i = 0; i < sizeof(given_by_log) / sizeof(*given_by_log); i++) {
            if (options_given(options, given_by_log[i])) {
                return options_wrong(options, given_by_log[i], "comes from the log when there is a --replay");
            }
        }
        if (settings->log != NULL && strcmp(settings->log, settings->replay) == 0) {
            return options_wrong(options, "log", "would overwrite the log that is replayed");
        }
    } else if (settings->proxy_count == 0 && settings->config == NULL && settings->timeline == NULL &&
               settings->api == NULL) {
        fprintf(options->errors,
                "%s: --proxy, --config, --timeline, --api or --replay is missing: there is nothing to do (see "
                "--help)\n",
                options->program->name);
        return SETTINGS_WRONG;
    }
    for (size_t i = 0; i < settings->toxic_count; i++) {
        if (!proxy_known(settings, settings->toxics[i])) {
            return options_wrong(options, "toxic", "no --proxy has the name in %s",
                                 option_quote(settings->toxics[i], quoted));
        }
    }
    if (settings->seed_text != NULL) {
        (void)seed_parse(settings->seed_text, &settings->seed);
    }
    return SETTINGS_RUN;
}

enum settings_verdict chaos_settings_read(struct chaos_settings *settings, int argc, char *const *argv, FILE *output,
                                          FILE *errors)
{
    struct options options;
    *settings = (struct chaos_settings){0};
    options_init(&options, &chaos_program, settings, output, errors);
    enum settings_verdict verdict = config_read(&options, argc, argv);
    if (verdict == SETTINGS_RUN) {
        verdict = check(&options, settings);
    }
    if (verdict != SETTINGS_RUN) {
        chaos_settings_dispose(settings);
    }
    return verdict;
}

void chaos_settings_dispose(struct chaos_settings *settings)
{
    options_clear(&chaos_program, settings);
}
