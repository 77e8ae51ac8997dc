/*
 * What trunkline-core was told: command line and configuration file together. Filled once at the start (and again at
 * a reload), read-only after; owned by main, read by every worker.
 */
#ifndef CORE_SETTINGS_H
#define CORE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "mux/log.h"
#include "mux/options.h"
#include "mux/sandbox.h"

struct core_service_settings {
    char *name;     /* what :authority names */
    char *handler;  /* "echo", "forward", "plugin", or one that the program registered */
    char *argument; /* what follows the handler's name; "" when nothing does */
    bool reopens;   /* named by --reopen */
};

struct core_settings {
    char **listens;
    size_t listen_count;
    struct core_service_settings *services;
    size_t service_count;
    char **reopened; /* names of services whose sessions are opened again when their core is lost */
    size_t reopened_count;
    char **allowed_names; /* trunk certificates must bear one of these; none: any that the CA signed */
    size_t allowed_name_count;

    char *certificate;
    char *key;
    char *client_ca;

    uint32_t workers; /* 0: one per CPU */
    uint32_t sessions_max;
    uint32_t sessions_per_trunk;
    uint32_t trunks_max;
    uint32_t stream_window_bytes;
    uint32_t stream_window_max_bytes;
    uint32_t trunk_window_bytes;
    uint32_t buffer_memory_bytes; /* of the process */
    uint32_t header_bytes_max;

    uint32_t handshake_timeout_ms; /* of a trunk: TLS and the first SETTINGS */
    uint32_t resume_timeout_ms;    /* 0: sessions end with their trunk */
    uint32_t drain_timeout_ms;
    uint32_t ping_interval_ms;
    uint32_t ping_timeout_ms;

    char *user; /* NULL: stay who we are */
    enum sandbox_mode sandbox;
    char **sandbox_calls; /* what handlers need: system calls by name ... */
    size_t sandbox_call_count;
    char **sandbox_reads; /* ... and files or directories */
    size_t sandbox_read_count;
    char **sandbox_writes;
    size_t sandbox_write_count;

    enum log_level log_level;
    enum log_format log_format;
    bool check_only; /* --check-config */
};

/* Reads flags and the file that --config names (flags win over the file). Strings belong to `settings`. */
enum settings_verdict core_settings_read(struct core_settings *settings, int argc, char *const *argv);

/* The same from the text of a configuration file alone; `name` stands for it in what is said on `errors`. */
enum settings_verdict core_settings_read_text(struct core_settings *settings, const char *name, const char *text,
                                              size_t length, FILE *errors);

/* Frees what the settings hold, and zeroes them. Settings that were not read (SETTINGS_DONE, SETTINGS_WRONG) hold
 * nothing. */
void core_settings_dispose(struct core_settings *settings);

/* The table behind it, for --help and for the check that the manual page is complete. */
extern const struct option_program core_program;

#endif
