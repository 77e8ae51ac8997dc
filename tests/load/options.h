/* What trunkline-load was told on its command line. Filled once by main, read-only after; strings point into argv. */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/address.h"
#include "tests/load/exchange.h"
#include "tests/load/tally.h"

#define LOAD_ALPN_MAX      8U /* --alpn may be given so often */
#define LOAD_TRAFFIC_MAX   16U
#define LOAD_CLIENTS_MAX   10000000U
#define LOAD_RATE_MAX      10000000U /* per second: connections, messages */
#define LOAD_SECONDS_MAX   1000000U  /* --duration, --hold */
#define LOAD_PATH_MAX      1024U     /* bytes of --path and of the path of --probe */
#define LOAD_PROCESSES_MAX 256U
#define LOAD_PRIORITY_MAX  1024U /* bytes of load_priority's text, with its zero */

/* What clients offer. */
enum load_suite {
    LOAD_SUITE_ANY,
    LOAD_SUITE_AES_128_GCM,
    LOAD_SUITE_AES_256_GCM,
    LOAD_SUITE_CHACHA20_POLY1305,
    LOAD_SUITE_COUNT,
};

enum load_tls {
    LOAD_TLS_ANY,
    LOAD_TLS_1_2,
    LOAD_TLS_1_3,
    LOAD_TLS_COUNT,
};

/* --probe https://HOST[:PORT][/PATH] */
struct load_url {
    const char *text; /* NULL: none */
    const char *path;
    char authority[264]; /* of the Host field */
    char host[256];      /* SNI, and the name that the certificate must bear */
    struct address peer;
};

struct load_options {
    const char *connect_text;
    const char *server_name; /* default: the host of --connect */
    const char *ca;          /* NULL: the server is not authenticated */
    const char *json;        /* NULL: none */
    const char *histogram;   /* file; NULL: none */
    const char *wait_file;   /* NULL: none */
    const char *sources;     /* CIDR blocks; NULL: the system chooses */
    const char *path;        /* HTTP; begins with a slash */
    const char *alpn[LOAD_ALPN_MAX];
    char host[256]; /* of --connect */
    struct address peer;
    struct load_url probe;
    uint64_t duration_ms;
    uint64_t hold_ms;
    uint64_t timeout_ms;       /* from connect() to the service; and for answers after the traffic */
    uint64_t ping_interval_ms; /* 0: no pings */
    uint64_t storm_at_ms;      /* of the traffic */
    uint64_t jitter_ms;        /* 0: all come back at once */
    uint32_t alpn_count;
    uint32_t processes;
    uint32_t clients;
    uint32_t rate; /* new connections per second */
    uint32_t messages_per_second;
    uint32_t size;          /* bytes of a message */
    uint32_t opening_max;   /* clients that may be between connect() and the service */
    uint32_t status;        /* HTTP: that answers must have */
    uint32_t length;        /* HTTP: of their bodies, when length_given */
    uint32_t storm_percent; /* 0: no storm */
    uint32_t probe_rate;    /* per second */
    uint32_t traffic_count;
    enum exchange_kind traffic[LOAD_TRAFFIC_MAX]; /* of each process's clients in turn */
    enum load_suite suite;
    enum load_tls tls;
    enum measure histogram_of;
    bool histogram_of_given;
    bool hold_given;
    bool length_given;
    bool resume;
    bool random; /* who sends next is drawn by lot */
    bool progress;
};

enum load_verdict {
    LOAD_RUN,
    LOAD_DONE,  /* --help or --version was answered */
    LOAD_WRONG, /* one line on standard error names the option */
};

enum load_verdict load_options_read(struct load_options *options, int argc, char *const *argv);

/* What --tls-suite and --tls-version come to, for tls_client_settings: NULL when neither was given, else `text`. */
const char *load_priority(const struct load_options *options, char text[LOAD_PRIORITY_MAX]);

/* "echo"; static. */
const char *load_traffic_name(enum exchange_kind kind);

#endif
