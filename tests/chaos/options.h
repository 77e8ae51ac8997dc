/* What trunkline-chaos was told on its command line. Filled once by main; owned by it. */
#ifndef CHAOS_OPTIONS_H
#define CHAOS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "mux/log.h"
#include "mux/options.h"

struct chaos_settings {
    char **proxies; /* NAME=LISTEN,UPSTREAM; checked */
    size_t proxy_count;
    char **toxics; /* PROXY:TYPE[,KEY=VALUE]...; checked */
    size_t toxic_count;
    char *config;
    char *timeline;
    char *replay;
    char *log;
    char *api;
    char *seed_text;
    uint64_t seed; /* of seed_text, if that was given */
    uint32_t receive_buffer;
    uint32_t latency_buffer;
    enum log_level log_level;
    enum log_format log_format;
};

/* SETTINGS_WRONG: one line on `errors` has named the option. Dispose of settings that are to be run with. */
enum settings_verdict chaos_settings_read(struct chaos_settings *settings, int argc, char *const *argv, FILE *output,
                                          FILE *errors);
void chaos_settings_dispose(struct chaos_settings *settings);

/* The table behind it, for --help and for the check that the manual page is complete. */
extern const struct option_program chaos_program;

#endif
