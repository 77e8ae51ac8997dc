/* See options.h. Runs on the main thread before anything else. */
#include "tests/load/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/load/message.h"

static const char help_text[] = "Usage: trunkline-load --connect ADDR:PORT [OPTION]...\n"
                                "\n"
                                "Opens TLS clients against a service, keeps them open, and sends on a fixed\n"
                                "schedule. Latency counts from the time at which a message should have been\n"
                                "sent, so a stall of the server is not hidden. Every byte that comes back is\n"
                                "checked.\n"
                                "\n"
                                "Clients\n"
                                "  --connect ADDR:PORT        server under test (required)\n"
                                "  --clients N                concurrent clients (default 100)\n"
                                "  --processes N              divide the clients among so many processes: open\n"
                                "                             files are limited per process (default 1)\n"
                                "  --rate N                   new connections per second (default 1000)\n"
                                "  --opening N                clients at most between connect and the service's\n"
                                "                             first answer (default 500)\n"
                                "  --timeout SECONDS          for connect, handshake and first answer together,\n"
                                "                             and for the last answers (default 15)\n"
                                "  --source-addresses BLOCKS  bind clients to these addresses in turn, for more\n"
                                "                             than one address has ports: 127.0.1.0/28, or\n"
                                "                             several blocks with commas between\n"
                                "\n"
                                "TLS\n"
                                "  --server-name NAME         SNI, and the name that the certificate must bear\n"
                                "                             (default: the host of --connect)\n"
                                "  --ca FILE                  verify the server's certificate against FILE\n"
                                "                             (default: not verified)\n"
                                "  --alpn PROTOCOL            offer it; may repeat\n"
                                "  --tls-version VERSION      offer nothing but 1.3 or 1.2 (default: both)\n"
                                "  --tls-suite SUITE          offer nothing but aes-128-gcm, aes-256-gcm or\n"
                                "                             chacha20-poly1305 (default: all, in this order)\n"
                                "  --resume                   each client keeps its ticket, and comes back with it\n"
                                "\n"
                                "Traffic\n"
                                "  --traffic KIND[,KIND]...   of each client in turn (default echo):\n"
                                "                               echo  messages that must come back\n"
                                "                               up    messages up only\n"
                                "                               down  one GET, then messages down only\n"
                                "                               http  GET after GET\n"
                                "                               mix   the same as echo,up,down,http\n"
                                "  --messages-per-second N    messages or requests of all clients together\n"
                                "                             (default 1000)\n"
                                "  --size BYTES               of a message, 32 to 1048576 (default 100)\n"
                                "  --path PATH                that down and http ask for (default /)\n"
                                "  --status N                 that their answers must have (default 200)\n"
                                "  --length BYTES             that the bodies of http must have (default: any)\n"
                                "  --random                   a client drawn by lot sends the next message (default:\n"
                                "                             each in turn)\n"
                                "  --ping-interval SECONDS    each echo client sends a message without a body so\n"
                                "                             often, also while nothing else goes on (default:\n"
                                "                             never)\n"
                                "  --duration SECONDS         of the traffic (default 10; 0: none)\n"
                                "  --hold SECONDS             stay idle before the traffic (default 0)\n"
                                "  --wait-file PATH           when all clients are open, write \"ready\" to PATH and\n"
                                "                             stay idle until PATH.go exists, or --hold has passed\n"
                                "\n"
                                "Storms\n"
                                "  --storm PERCENT            drop so many of the clients at once, and let them\n"
                                "                             come back: tells when 50, 90, 99 and 100 % are back\n"
                                "  --storm-at SECONDS         after the traffic has begun (default 0)\n"
                                "  --jitter SECONDS           they come back spread over so long (default 0: all at\n"
                                "                             once)\n"
                                "\n"
                                "Probe\n"
                                "  --probe URL                what one ordinary client sees meanwhile: again and\n"
                                "                             again a fresh connection to https://HOST[:PORT]/PATH,\n"
                                "                             until the first bytes of the answer\n"
                                "  --probe-rate N             per second (default 10)\n"
                                "\n"
                                "Output\n"
                                "  --progress                 a live line on standard error\n"
                                "  --json FILE                figures for machines\n"
                                "  --histogram FILE           percentiles as HdrHistogram writes them (.hgrm), in\n"
                                "                             milliseconds\n"
                                "  --histogram-of NAME        which: connect, handshake_full, handshake_resumed,\n"
                                "                             first_byte, echo, ping, answer, delivery,\n"
                                "                             schedule_lag, back (default: that of the traffic)\n"
                                "  --help, --version\n"
                                "\n"
                                "Exit codes: 0 all clients and bytes were well; 1 a client failed, or a byte was\n"
                                "wrong; 2 wrong usage; 3 the run could not start (files, ports, memory,\n"
                                "certificates); 4 the generator itself was the bottleneck: it fell behind its own\n"
                                "schedule, or ran out of ports, files or memory.\n";

enum option_code {
    OPTION_CONNECT = 1,
    OPTION_CLIENTS,
    OPTION_PROCESSES,
    OPTION_RATE,
    OPTION_OPENING,
    OPTION_TIMEOUT,
    OPTION_SOURCES,
    OPTION_SERVER_NAME,
    OPTION_CA,
    OPTION_ALPN,
    OPTION_TLS_VERSION,
    OPTION_TLS_SUITE,
    OPTION_RESUME,
    OPTION_TRAFFIC,
    OPTION_MESSAGES,
    OPTION_SIZE,
    OPTION_PATH,
    OPTION_STATUS,
    OPTION_LENGTH,
    OPTION_RANDOM,
    OPTION_PING_INTERVAL,
    OPTION_DURATION,
    OPTION_HOLD,
    OPTION_WAIT_FILE,
    OPTION_STORM,
    OPTION_STORM_AT,
    OPTION_JITTER,
    OPTION_PROBE,
    OPTION_PROBE_RATE,
    OPTION_PROGRESS,
    OPTION_JSON,
    OPTION_HISTOGRAM,
    OPTION_HISTOGRAM_OF,
    OPTION_HELP,
    OPTION_VERSION,
};

static const char *const traffic_names[EXCHANGE_KIND_COUNT] = {
    [EXCHANGE_ECHO] = "echo", [EXCHANGE_UP] = "up",       [EXCHANGE_DOWN] = "down",
    [EXCHANGE_HTTP] = "http", [EXCHANGE_PROBE] = "probe",
};

/* As the command line and GnuTLS call it. */
struct offer {
    const char *name;
    const char *gnutls;
};

static const struct offer suites[LOAD_SUITE_COUNT] = {
    [LOAD_SUITE_ANY] = {"", "+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305"},
    [LOAD_SUITE_AES_128_GCM] = {"aes-128-gcm", "+AES-128-GCM"},
    [LOAD_SUITE_AES_256_GCM] = {"aes-256-gcm", "+AES-256-GCM"},
    [LOAD_SUITE_CHACHA20_POLY1305] = {"chacha20-poly1305", "+CHACHA20-POLY1305"},
};

static const struct offer versions[LOAD_TLS_COUNT] = {
    [LOAD_TLS_ANY] = {"", "+VERS-TLS1.3:+VERS-TLS1.2"},
    [LOAD_TLS_1_2] = {"1.2", "+VERS-TLS1.2"},
    [LOAD_TLS_1_3] = {"1.3", "+VERS-TLS1.3"},
};

static const struct option option_table[] = {
    {"connect", required_argument, NULL, OPTION_CONNECT},
    {"clients", required_argument, NULL, OPTION_CLIENTS},
    {"processes", required_argument, NULL, OPTION_PROCESSES},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"opening", required_argument, NULL, OPTION_OPENING},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"source-addresses", required_argument, NULL, OPTION_SOURCES},
    {"server-name", required_argument, NULL, OPTION_SERVER_NAME},
    {"ca", required_argument, NULL, OPTION_CA},
    {"alpn", required_argument, NULL, OPTION_ALPN},
    {"tls-version", required_argument, NULL, OPTION_TLS_VERSION},
    {"tls-suite", required_argument, NULL, OPTION_TLS_SUITE},
    {"resume", no_argument, NULL, OPTION_RESUME},
    {"traffic", required_argument, NULL, OPTION_TRAFFIC},
    {"messages-per-second", required_argument, NULL, OPTION_MESSAGES},
    {"size", required_argument, NULL, OPTION_SIZE},
    {"path", required_argument, NULL, OPTION_PATH},
    {"status", required_argument, NULL, OPTION_STATUS},
    {"length", required_argument, NULL, OPTION_LENGTH},
    {"random", no_argument, NULL, OPTION_RANDOM},
    {"ping-interval", required_argument, NULL, OPTION_PING_INTERVAL},
    {"duration", required_argument, NULL, OPTION_DURATION},
    {"hold", required_argument, NULL, OPTION_HOLD},
    {"wait-file", required_argument, NULL, OPTION_WAIT_FILE},
    {"storm", required_argument, NULL, OPTION_STORM},
    {"storm-at", required_argument, NULL, OPTION_STORM_AT},
    {"jitter", required_argument, NULL, OPTION_JITTER},
    {"probe", required_argument, NULL, OPTION_PROBE},
    {"probe-rate", required_argument, NULL, OPTION_PROBE_RATE},
    {"progress", no_argument, NULL, OPTION_PROGRESS},
    {"json", required_argument, NULL, OPTION_JSON},
    {"histogram", required_argument, NULL, OPTION_HISTOGRAM},
    {"histogram-of", required_argument, NULL, OPTION_HISTOGRAM_OF},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

__attribute__((format(printf, 1, 2))) static enum load_verdict wrong(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("trunkline-load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("; see --help\n", stderr);
    va_end(arguments);
    return LOAD_WRONG;
}

static enum load_verdict read_number(const char *name, const char *text, uint32_t least, uint32_t most,
                                     uint32_t *number)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0') {
        return wrong("--%s: \"%s\" is not a whole number", name, text);
    }
    if (errno != 0 || value < least || value > most) {
        return wrong("--%s: must be between %u and %u", name, least, most);
    }
    *number = (uint32_t)value;
    return LOAD_RUN;
}

/* Seconds, with a fraction if need be, as milliseconds. */
static enum load_verdict read_seconds(const char *name, const char *text, uint64_t *milliseconds)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (text[0] < '0' || text[0] > '9' || *end != '\0') {
        return wrong("--%s: \"%s\" is not a number of seconds", name, text);
    }
    if (!(value <= LOAD_SECONDS_MAX)) {
        return wrong("--%s: must be at most %u seconds", name, LOAD_SECONDS_MAX);
    }
    *milliseconds = (uint64_t)(value * 1000.0 + 0.5);
    return LOAD_RUN;
}

static enum load_verdict read_peer(struct load_options *options, const char *text)
{
    options->connect_text = text;
    enum error_code error = address_parse(text, true, &options->peer);
    if (error == ERROR_UNREACHABLE) {
        return wrong("--connect: the name in \"%s\" does not resolve", text);
    }
    if (error != ERROR_NONE || options->peer.u.any.sa_family == AF_UNIX ||
        address_host(text, options->host, sizeof(options->host)) != ERROR_NONE) {
        return wrong("--connect: \"%s\" is not ADDR:PORT", text);
    }
    return LOAD_RUN;
}

const char *load_traffic_name(enum exchange_kind kind)
{
    return traffic_names[kind];
}

static enum load_verdict read_kind(struct load_options *options, const char *name, size_t length)
{
    const uint32_t mixed = EXCHANGE_HTTP - EXCHANGE_ECHO + 1;
    if (length == 3 && memcmp(name, "mix", 3) == 0 && options->traffic_count + mixed <= LOAD_TRAFFIC_MAX) {
        for (int kind = EXCHANGE_ECHO; kind <= EXCHANGE_HTTP; kind++) {
            options->traffic[options->traffic_count++] = (enum exchange_kind)kind;
        }
        return LOAD_RUN;
    }
    for (int kind = EXCHANGE_ECHO; kind <= EXCHANGE_HTTP; kind++) {
        if (strlen(traffic_names[kind]) == length && memcmp(name, traffic_names[kind], length) == 0 &&
            options->traffic_count < LOAD_TRAFFIC_MAX) {
            options->traffic[options->traffic_count++] = (enum exchange_kind)kind;
            return LOAD_RUN;
        }
    }
    return wrong("--traffic: at most %u of echo, up, down, http and mix, with commas between", LOAD_TRAFFIC_MAX);
}

static enum load_verdict read_traffic(struct load_options *options, const char *text)
{
    options->traffic_count = 0;
    for (;;) {
        size_t length = strcspn(text, ",");
        enum load_verdict verdict = read_kind(options, text, length);
        if (verdict != LOAD_RUN || text[length] == '\0') {
            return verdict;
        }
        text += length + 1;
    }
}

/* A path goes into a request as it is, so nothing in it may end the line. */
static enum load_verdict check_path(const char *name, const char *path)
{
    size_t length = strlen(path);
    if (path[0] != '/' || length > LOAD_PATH_MAX) {
        return wrong("--%s: a path begins with / and has at most %u bytes", name, LOAD_PATH_MAX);
    }
    for (size_t i = 0; i < length; i++) {
        if (path[i] <= ' ' || path[i] > '~') {
            return wrong("--%s: spaces and bytes outside ASCII must be percent-encoded", name);
        }
    }
    return LOAD_RUN;
}

static enum load_verdict read_probe(struct load_options *options, const char *text)
{
    static const char scheme[] = "https://";
    struct load_url *url = &options->probe;
    if (strncmp(text, scheme, sizeof(scheme) - 1) != 0) {
        return wrong("--probe: \"%s\" does not begin with https://", text);
    }
    const char *authority = text + sizeof(scheme) - 1;
    size_t length = strcspn(authority, "/");
    if (length == 0 || length >= sizeof(url->host) - sizeof(":443")) {
        return wrong("--probe: \"%s\" names no host", text);
    }
    memcpy(url->authority, authority, length);
    url->authority[length] = '\0';
    url->text = text;
    url->path = authority[length] == '/' ? authority + length : "/";
    char with_port[sizeof(url->authority) + sizeof(":443")];
    const char *bracket = strrchr(url->authority, ']');
    bool port = strchr(bracket == NULL ? url->authority : bracket, ':') != NULL;
    snprintf(with_port, sizeof(with_port), "%s%s", url->authority, port ? "" : ":443");
    enum error_code error = address_parse(with_port, true, &url->peer);
    if (error == ERROR_UNREACHABLE) {
        return wrong("--probe: the name in \"%s\" does not resolve", text);
    }
    if (error != ERROR_NONE || url->peer.u.any.sa_family == AF_UNIX ||
        address_host(with_port, url->host, sizeof(url->host)) != ERROR_NONE) {
        return wrong("--probe: \"%s\" is not https://HOST[:PORT][/PATH]", text);
    }
    return check_path("probe", url->path);
}

static enum load_verdict read_histogram_of(struct load_options *options, const char *text)
{
    options->histogram_of_given = true;
    if (!measure_find(text, &options->histogram_of)) {
        return wrong("--histogram-of: nothing is called \"%s\"", text);
    }
    return LOAD_RUN;
}

static enum load_verdict read_alpn(struct load_options *options, const char *text)
{
    if (options->alpn_count == LOAD_ALPN_MAX) {
        return wrong("--alpn: at most %u protocols", LOAD_ALPN_MAX);
    }
    if (text[0] == '\0' || strlen(text) > 255) {
        return wrong("--alpn: a protocol has 1 to 255 bytes");
    }
    options->alpn[options->alpn_count++] = text;
    return LOAD_RUN;
}

static enum load_verdict read_tls_version(struct load_options *options, const char *text)
{
    for (int tls = LOAD_TLS_ANY + 1; tls < LOAD_TLS_COUNT; tls++) {
        if (strcmp(text, versions[tls].name) == 0) {
            options->tls = (enum load_tls)tls;
            return LOAD_RUN;
        }
    }
    return wrong("--tls-version: 1.3 or 1.2, not \"%s\"", text);
}

static enum load_verdict read_tls_suite(struct load_options *options, const char *text)
{
    for (int suite = LOAD_SUITE_ANY + 1; suite < LOAD_SUITE_COUNT; suite++) {
        if (strcmp(text, suites[suite].name) == 0) {
            options->suite = (enum load_suite)suite;
            return LOAD_RUN;
        }
    }
    return wrong("--tls-suite: aes-128-gcm, aes-256-gcm or chacha20-poly1305, not \"%s\"", text);
}

/* But for versions and ciphers as the relay's own policy has it, so that a handshake costs the same. */
const char *load_priority(const struct load_options *options, char text[LOAD_PRIORITY_MAX])
{
    if (options->tls == LOAD_TLS_ANY && options->suite == LOAD_SUITE_ANY) {
        return NULL;
    }
    snprintf(text, LOAD_PRIORITY_MAX,
             "NONE:%s:+CTYPE-X509:+AEAD:+ECDHE-ECDSA:+ECDHE-RSA:%s:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1"
             ":+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SECP384R1-SHA384:+SIGN-ECDSA-SECP521R1-SHA512"
             ":+SIGN-EDDSA-ED25519:+SIGN-ECDSA-SHA256:+SIGN-ECDSA-SHA384:+SIGN-ECDSA-SHA512"
             ":+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-PSS-RSAE-SHA384:+SIGN-RSA-PSS-RSAE-SHA512"
             ":+SIGN-RSA-PSS-SHA256:+SIGN-RSA-PSS-SHA384:+SIGN-RSA-PSS-SHA512"
             ":+SIGN-RSA-SHA256:+SIGN-RSA-SHA384:+SIGN-RSA-SHA512:%%PROFILE_MEDIUM",
             versions[options->tls].gnutls, suites[options->suite].gnutls);
    return text;
}

/* Options whose argument is kept as it is. */
static const char **text_option(struct load_options *options, int code)
{
    switch (code) {
    case OPTION_SOURCES:
        return &options->sources;
    case OPTION_SERVER_NAME:
        return &options->server_name;
    case OPTION_CA:
        return &options->ca;
    case OPTION_WAIT_FILE:
        return &options->wait_file;
    case OPTION_JSON:
        return &options->json;
    case OPTION_HISTOGRAM:
        return &options->histogram;
    default:
        return NULL;
    }
}

static enum load_verdict read_number_option(struct load_options *options, int code, const char *name, const char *text)
{
    switch (code) {
    case OPTION_CLIENTS:
        return read_number(name, text, 1, LOAD_CLIENTS_MAX, &options->clients);
    case OPTION_PROCESSES:
        return read_number(name, text, 1, LOAD_PROCESSES_MAX, &options->processes);
    case OPTION_RATE:
        return read_number(name, text, 1, LOAD_RATE_MAX, &options->rate);
    case OPTION_OPENING:
        return read_number(name, text, 1, LOAD_CLIENTS_MAX, &options->opening_max);
    case OPTION_MESSAGES:
        return read_number(name, text, 0, LOAD_RATE_MAX, &options->messages_per_second);
    case OPTION_SIZE:
        return read_number(name, text, MESSAGE_HEADER_BYTES, MESSAGE_MAX_BYTES, &options->size);
    case OPTION_STATUS:
        return read_number(name, text, 200, 599, &options->status);
    case OPTION_LENGTH:
        options->length_given = true;
        return read_number(name, text, 0, UINT32_MAX, &options->length);
    case OPTION_STORM:
        return read_number(name, text, 1, 100, &options->storm_percent);
    default:
        return read_number(name, text, 1, 1000, &options->probe_rate);
    }
}

static enum load_verdict read_option(struct load_options *options, int code, const char *name, const char *text)
{
    const char **kept = text_option(options, code);
    if (kept != NULL) {
        *kept = text;
        return LOAD_RUN;
    }
    switch (code) {
    case OPTION_CONNECT:
        return read_peer(options, text);
    case OPTION_ALPN:
        return read_alpn(options, text);
    case OPTION_TLS_VERSION:
        return read_tls_version(options, text);
    case OPTION_TLS_SUITE:
        return read_tls_suite(options, text);
    case OPTION_TRAFFIC:
        return read_traffic(options, text);
    case OPTION_PATH:
        options->path = text;
        return check_path(name, text);
    case OPTION_PROBE:
        return read_probe(options, text);
    case OPTION_HISTOGRAM_OF:
        return read_histogram_of(options, text);
    case OPTION_TIMEOUT:
        return read_seconds(name, text, &options->timeout_ms);
    case OPTION_DURATION:
        return read_seconds(name, text, &options->duration_ms);
    case OPTION_PING_INTERVAL:
        return read_seconds(name, text, &options->ping_interval_ms);
    case OPTION_STORM_AT:
        return read_seconds(name, text, &options->storm_at_ms);
    case OPTION_JITTER:
        return read_seconds(name, text, &options->jitter_ms);
    case OPTION_HOLD:
        options->hold_given = true;
        return read_seconds(name, text, &options->hold_ms);
    case OPTION_RESUME:
        options->resume = true;
        return LOAD_RUN;
    case OPTION_RANDOM:
        options->random = true;
        return LOAD_RUN;
    case OPTION_PROGRESS:
        options->progress = true;
        return LOAD_RUN;
    default:
        return read_number_option(options, code, name, text);
    }
}

static bool has_traffic(const struct load_options *options, enum exchange_kind kind)
{
    for (uint32_t i = 0; i < options->traffic_count; i++) {
        if (options->traffic[i] == kind) {
            return true;
        }
    }
    return false;
}

static enum load_verdict check_whole(const struct load_options *options)
{
    if (options->connect_text == NULL) {
        return wrong("--connect is missing: where is the server?");
    }
    if (options->timeout_ms == 0) {
        return wrong("--timeout: must be above 0");
    }
    if (options->sources != NULL && options->peer.u.any.sa_family != AF_INET) {
        return wrong("--source-addresses: only for an IPv4 --connect");
    }
    if (options->processes > options->clients) {
        return wrong("--processes: more processes than clients");
    }
    if (options->storm_percent == 0 && (options->storm_at_ms > 0 || options->jitter_ms > 0)) {
        return wrong("--storm-at and --jitter need --storm");
    }
    if (options->storm_at_ms > options->duration_ms) {
        return wrong("--storm-at: the traffic is over by then (--duration)");
    }
    if (options->ping_interval_ms > 0 && !has_traffic(options, EXCHANGE_ECHO)) {
        return wrong("--ping-interval: only echo clients send pings, and there are none (--traffic)");
    }
    return LOAD_RUN;
}

/* What depends on other options. */
static void set_defaults(struct load_options *options)
{
    if (options->server_name == NULL) {
        options->server_name = options->host;
    }
    if (!options->histogram_of_given) {
        static const enum measure of[EXCHANGE_KIND_COUNT] = {
            [EXCHANGE_ECHO] = MEASURE_ECHO,   [EXCHANGE_UP] = MEASURE_LAG,           [EXCHANGE_DOWN] = MEASURE_DELIVERY,
            [EXCHANGE_HTTP] = MEASURE_ANSWER, [EXCHANGE_PROBE] = MEASURE_FIRST_BYTE,
        };
        options->histogram_of = of[options->traffic[0]];
    }
}

enum load_verdict load_options_read(struct load_options *options, int argc, char *const *argv)
{
    *options = (struct load_options){.duration_ms = 10000,
                                     .timeout_ms = 15000,
                                     .path = "/",
                                     .processes = 1,
                                     .clients = 100,
                                     .status = 200,
                                     .probe_rate = 10,
                                     .traffic_count = 1,
                                     .traffic = {EXCHANGE_ECHO},
                                     .rate = 1000,
                                     .messages_per_second = 1000,
                                     .size = 100,
                                     .opening_max = 500};
    opterr = 0;
    for (;;) {
        int index = 0;
        int before = optind;
        int code = getopt_long(argc, argv, ":", option_table, &index);
        if (code == -1) {
            break;
        }
        if (code == ':') {
            return wrong("%s: needs a value", argv[optind - 1]);
        }
        if (code == '?') {
            return wrong("unknown option %s", argv[before]);
        }
        if (code == OPTION_HELP) {
            fputs(help_text, stdout);
            return LOAD_DONE;
        }
        if (code == OPTION_VERSION) {
            puts("trunkline-load " TRUNKLINE_VERSION);
            return LOAD_DONE;
        }
        enum load_verdict verdict = read_option(options, code, option_table[index].name, optarg);
        if (verdict != LOAD_RUN) {
            return verdict;
        }
    }
    if (optind < argc) {
        return wrong("\"%s\" is not an option", argv[optind]);
    }
    set_defaults(options);
    return check_whole(options);
}
