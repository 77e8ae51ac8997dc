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
                                "Opens TLS clients against an echo service, keeps them open, and sends messages\n"
                                "on a fixed schedule. Latency counts from the time at which a message should have\n"
                                "been sent, so a stall of the server is not hidden. Every byte that comes back is\n"
                                "checked.\n"
                                "\n"
                                "Clients\n"
                                "  --connect ADDR:PORT        server under test (required)\n"
                                "  --clients N                concurrent clients (default 100)\n"
                                "  --rate N                   new connections per second (default 1000)\n"
                                "  --opening N                clients at most between connect and first echo\n"
                                "                             (default 500)\n"
                                "  --timeout SECONDS          for connect, handshake and first echo together, and\n"
                                "                             for the last echoes (default 15)\n"
                                "  --source-addresses CIDR    bind clients to these addresses in turn, for more\n"
                                "                             than one address has ports (127.0.1.0/28, say)\n"
                                "\n"
                                "TLS\n"
                                "  --server-name NAME         SNI, and the name that the certificate must bear\n"
                                "                             (default: the host of --connect)\n"
                                "  --ca FILE                  verify the server's certificate against FILE\n"
                                "                             (default: not verified)\n"
                                "  --alpn PROTOCOL            offer it; may repeat\n"
                                "\n"
                                "Traffic\n"
                                "  --messages-per-second N    of all clients together (default 1000)\n"
                                "  --size BYTES               of a message, 32 to 1048576 (default 100)\n"
                                "  --duration SECONDS         of the traffic (default 10; 0: none)\n"
                                "  --hold SECONDS             stay idle before the traffic (default 0)\n"
                                "  --wait-file PATH           when all clients are open, write \"ready\" to PATH and\n"
                                "                             stay idle until PATH.go exists, or --hold has passed\n"
                                "\n"
                                "Output\n"
                                "  --progress                 a live line on standard error\n"
                                "  --json FILE                figures for machines\n"
                                "  --help, --version\n"
                                "\n"
                                "Exit codes: 0 all clients and bytes were well; 1 a client failed, a byte was\n"
                                "wrong, or the generator fell behind its own schedule; 2 wrong usage; 3 the run\n"
                                "could not start (files, ports, certificates).\n";

enum option_code {
    OPTION_CONNECT = 1,
    OPTION_CLIENTS,
    OPTION_RATE,
    OPTION_OPENING,
    OPTION_TIMEOUT,
    OPTION_SOURCES,
    OPTION_SERVER_NAME,
    OPTION_CA,
    OPTION_ALPN,
    OPTION_MESSAGES,
    OPTION_SIZE,
    OPTION_DURATION,
    OPTION_HOLD,
    OPTION_WAIT_FILE,
    OPTION_PROGRESS,
    OPTION_JSON,
    OPTION_HELP,
    OPTION_VERSION,
};

static const struct option option_table[] = {
    {"connect", required_argument, NULL, OPTION_CONNECT},
    {"clients", required_argument, NULL, OPTION_CLIENTS},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"opening", required_argument, NULL, OPTION_OPENING},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"source-addresses", required_argument, NULL, OPTION_SOURCES},
    {"server-name", required_argument, NULL, OPTION_SERVER_NAME},
    {"ca", required_argument, NULL, OPTION_CA},
    {"alpn", required_argument, NULL, OPTION_ALPN},
    {"messages-per-second", required_argument, NULL, OPTION_MESSAGES},
    {"size", required_argument, NULL, OPTION_SIZE},
    {"duration", required_argument, NULL, OPTION_DURATION},
    {"hold", required_argument, NULL, OPTION_HOLD},
    {"wait-file", required_argument, NULL, OPTION_WAIT_FILE},
    {"progress", no_argument, NULL, OPTION_PROGRESS},
    {"json", required_argument, NULL, OPTION_JSON},
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
    default:
        return NULL;
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
    case OPTION_CLIENTS:
        return read_number(name, text, 1, LOAD_CLIENTS_MAX, &options->clients);
    case OPTION_RATE:
        return read_number(name, text, 1, LOAD_RATE_MAX, &options->rate);
    case OPTION_OPENING:
        return read_number(name, text, 1, LOAD_CLIENTS_MAX, &options->opening_max);
    case OPTION_MESSAGES:
        return read_number(name, text, 0, LOAD_RATE_MAX, &options->messages_per_second);
    case OPTION_SIZE:
        return read_number(name, text, MESSAGE_HEADER_BYTES, MESSAGE_MAX_BYTES, &options->size);
    case OPTION_TIMEOUT:
        return read_seconds(name, text, &options->timeout_ms);
    case OPTION_DURATION:
        return read_seconds(name, text, &options->duration_ms);
    case OPTION_HOLD:
        options->hold_given = true;
        return read_seconds(name, text, &options->hold_ms);
    default:
        options->progress = true;
        return LOAD_RUN;
    }
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
    return LOAD_RUN;
}

enum load_verdict load_options_read(struct load_options *options, int argc, char *const *argv)
{
    *options = (struct load_options){.duration_ms = 10000,
                                     .timeout_ms = 15000,
                                     .clients = 100,
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
    if (options->server_name == NULL) {
        options->server_name = options->host;
    }
    return check_whole(options);
}
