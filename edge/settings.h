/*
 * What trunkline-edge was told: command line and configuration file together. Filled once at the start (and again at
 * a reload), read-only after; owned by main, read by every worker.
 */
#ifndef EDGE_SETTINGS_H
#define EDGE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "mux/log.h"
#include "mux/options.h"
#include "mux/sandbox.h"
#include "mux/tls.h"

struct edge_listen_settings {
    char *address; /* "0.0.0.0:443", "[::]:443" */
    char *name;    /* for routes; NULL: its address */
};

struct edge_certificate_settings {
    char *certificate;
    char *key;
};

struct edge_core_settings {
    char *address;
    char *name; /* that the core's certificate must bear; NULL: the host of the address */
};

/* The first route whose every given part matches decides. */
struct edge_route_settings {
    char *listener;    /* name of a listener; NULL: any */
    char *server_name; /* SNI, or "*.example.com"; NULL: any */
    char *alpn;        /* NULL: any */
    char *service;
};

struct edge_settings {
    struct edge_listen_settings *listens;
    size_t listen_count;
    struct edge_certificate_settings *certificates;
    size_t certificate_count;
    struct edge_core_settings *cores;
    size_t core_count;
    struct edge_route_settings *routes;
    size_t route_count;
    char **alpn;
    size_t alpn_count;
    char *service; /* when no route matches; NULL: such clients are refused */

    char *core_ca;
    char *trunk_certificate;
    char *trunk_key;
    char *client_ca;
    char *ticket_key;
    char *control;  /* the control socket's path; NULL: none */
    char *takeover; /* the control socket of the process to take over from; NULL: none */
    enum tls_client_auth client_auth;
    bool unknown_name_refused;
    bool tickets;

    uint32_t trunks;  /* per worker and core */
    uint32_t workers; /* 0: one per CPU */
    uint32_t sessions_max;
    uint32_t handshakes_max;
    uint32_t handshakes_per_second; /* 0: any number; and so on */
    uint32_t connections_per_address;
    uint32_t connections_per_network;
    uint32_t arrivals_per_address; /* per second */
    uint32_t arrivals_per_network;
    uint32_t network_ip4_bits;
    uint32_t network_ip6_bits;
    uint32_t sessions_per_trunk;
    uint32_t trunk_opens_max;
    uint32_t stream_window_bytes;
    uint32_t stream_window_max_bytes;
    uint32_t trunk_window_bytes;
    uint32_t buffer_memory_bytes; /* of the process */

    uint32_t handshake_timeout_ms;
    uint32_t open_timeout_ms;
    uint32_t resume_timeout_ms; /* 0: sessions end with their trunk */
    uint32_t reopen_after_ms;   /* of it, for the session's own core */
    uint32_t linger_timeout_ms;
    uint32_t idle_timeout_ms;  /* 0: never */
    uint32_t stall_timeout_ms; /* 0: never */
    uint32_t keepalive_ms;     /* until the first probe; 0: none are sent */
    uint32_t drain_timeout_ms;
    uint32_t ping_interval_ms;
    uint32_t ping_timeout_ms;
    uint32_t reconnect_min_ms;
    uint32_t reconnect_max_ms;

    char *user; /* NULL: stay who we are */
    enum sandbox_mode sandbox;

    enum log_level log_level;
    enum log_format log_format;
    bool check_only; /* --check-config */
};

/* Reads flags and the file that --config names (flags win over the file). Strings belong to `settings`. */
enum settings_verdict edge_settings_read(struct edge_settings *settings, int argc, char *const *argv);

/* The same from the text of a configuration file alone; `name` stands for it in what is said on `errors`. */
enum settings_verdict edge_settings_read_text(struct edge_settings *settings, const char *name, const char *text,
                                              size_t length, FILE *errors);

/* Frees what the settings hold, and zeroes them. Settings that were not read (SETTINGS_DONE, SETTINGS_WRONG) hold
 * nothing. */
void edge_settings_dispose(struct edge_settings *settings);

/* The table behind it, for --help and for the check that the manual page is complete. */
extern const struct option_program edge_program;

#endif
