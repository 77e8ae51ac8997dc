/* What trunkline-load was told on its command line. Filled once by main, read-only after; strings point into argv. */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/address.h"

#define LOAD_ALPN_MAX    8U /* --alpn may be given so often */
#define LOAD_CLIENTS_MAX 10000000U
#define LOAD_RATE_MAX    10000000U /* per second: connections, messages */
#define LOAD_SECONDS_MAX 1000000U  /* --duration, --hold */

struct load_options {
    const char *connect_text;
    const char *server_name; /* default: the host of --connect */
    const char *ca;          /* NULL: the server is not authenticated */
    const char *json;        /* NULL: none */
    const char *wait_file;   /* NULL: none */
    const char *sources;     /* CIDR; NULL: the system chooses */
    const char *alpn[LOAD_ALPN_MAX];
    char host[256]; /* of --connect */
    struct address peer;
    uint64_t duration_ms;
    uint64_t hold_ms;
    uint64_t timeout_ms; /* from connect() to the first echo; and for echoes after the traffic */
    uint32_t alpn_count;
    uint32_t clients;
    uint32_t rate; /* new connections per second */
    uint32_t messages_per_second;
    uint32_t size;        /* bytes of a message */
    uint32_t opening_max; /* clients that may be between connect() and their first echo */
    bool hold_given;
    bool progress;
};

enum load_verdict {
    LOAD_RUN,
    LOAD_DONE,  /* --help or --version was answered */
    LOAD_WRONG, /* one line on standard error names the option */
};

enum load_verdict load_options_read(struct load_options *options, int argc, char *const *argv);

#endif
