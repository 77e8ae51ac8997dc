/*
 * trunkline-load: opens TLS clients against an echo service behind a relay, measures them honestly, and checks every
 * byte. One thread, one loop; docs and options in options.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mux/memory.h"
#include "tests/load/report.h"

enum load_exit {
    LOAD_EXIT_PASSED = 0,
    LOAD_EXIT_FAILED = 1,
    LOAD_EXIT_USAGE = 2,
    LOAD_EXIT_NOT_STARTED = 3,
};

static int run_and_report(const struct load_options *options, struct tally *tally)
{
    char fault[640];
    enum error_code error = run_load(options, tally, options->progress ? report_progress : NULL, fault, sizeof(fault));
    if (error != ERROR_NONE) {
        fprintf(stderr, "trunkline-load: %s\n", fault);
        return LOAD_EXIT_NOT_STARTED;
    }
    report_table(options, tally);
    if (options->json != NULL && report_json(options, tally, options->json) != ERROR_NONE) {
        fprintf(stderr, "trunkline-load: %s: %s\n", options->json, strerror(errno));
        return LOAD_EXIT_FAILED;
    }
    return report_passed(options, tally) ? LOAD_EXIT_PASSED : LOAD_EXIT_FAILED;
}

int main(int argc, char **argv)
{
    struct load_options options;
    enum load_verdict verdict = load_options_read(&options, argc, argv);
    if (verdict != LOAD_RUN) {
        return verdict == LOAD_DONE ? LOAD_EXIT_PASSED : LOAD_EXIT_USAGE;
    }
    struct tally *tally = memory_zalloc(sizeof(*tally));
    if (tally == NULL) {
        fputs("trunkline-load: out of memory\n", stderr);
        return LOAD_EXIT_NOT_STARTED;
    }
    histogram_init(&tally->connect);
    histogram_init(&tally->handshake);
    histogram_init(&tally->first_echo);
    histogram_init(&tally->echo);
    histogram_init(&tally->lag);
    int status = run_and_report(&options, tally);
    memory_free(tally);
    return status;
}
