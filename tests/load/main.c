/*
 * trunkline-load: opens TLS clients against a service behind a relay, measures them honestly, and checks every byte. A
 * conductor process and one process per --processes; docs in options.c and the manual page.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mux/memory.h"
#include "tests/load/report.h"
#include "tests/load/verdict.h"

enum load_exit {
    LOAD_EXIT_PASSED = 0,
    LOAD_EXIT_FAILED = 1,
    LOAD_EXIT_USAGE = 2,
    LOAD_EXIT_NOT_STARTED = 3,
    LOAD_EXIT_BOTTLENECK = 4,
};

struct tallies {
    struct tally clients;
    struct tally probe;
};

/* Can the file be written? It is made now, so that a long run does not end with figures that nobody gets. */
static bool can_write(const char *path)
{
    FILE *file = path == NULL ? NULL : fopen(path, "ae");
    if (path != NULL && file == NULL) {
        fprintf(stderr, "trunkline-load: %s: %s\n", path, strerror(errno));
        return false;
    }
    return file == NULL || fclose(file) == 0;
}

static int not_written(const char *path)
{
    fprintf(stderr, "trunkline-load: %s: %s\n", path, strerror(errno));
    return LOAD_EXIT_FAILED;
}

static int run_and_report(const struct load_options *options, struct tally *tally, struct tally *probe)
{
    char fault[BOARD_FAULT_BYTES];
    struct verdict_bottleneck bottleneck;
    enum error_code error =
        fleet_run(options, tally, probe, options->progress ? report_progress : NULL, fault, sizeof(fault));
    if (error != ERROR_NONE) {
        fprintf(stderr, "trunkline-load: %s\n", fault);
        return LOAD_EXIT_NOT_STARTED;
    }
    report_table(options, tally, probe);
    if (options->json != NULL && report_json(options, tally, probe, options->json) != ERROR_NONE) {
        return not_written(options->json);
    }
    if (options->histogram != NULL &&
        report_histogram(tally, options->histogram_of, options->histogram) != ERROR_NONE) {
        return not_written(options->histogram);
    }
    if (verdict_bottleneck(tally, probe, &bottleneck) && !verdict_damaged(tally)) {
        return LOAD_EXIT_BOTTLENECK;
    }
    bool passed = verdict_served(options, tally) && verdict_probe(options, probe);
    return passed ? LOAD_EXIT_PASSED : LOAD_EXIT_FAILED;
}

int main(int argc, char **argv)
{
    struct load_options options;
    enum load_verdict verdict = load_options_read(&options, argc, argv);
    if (verdict != LOAD_RUN) {
        return verdict == LOAD_DONE ? LOAD_EXIT_PASSED : LOAD_EXIT_USAGE;
    }
    if (!can_write(options.json) || !can_write(options.histogram)) {
        return LOAD_EXIT_NOT_STARTED;
    }
    struct tallies *tallies = memory_alloc(sizeof(*tallies));
    if (tallies == NULL) {
        fputs("trunkline-load: out of memory\n", stderr);
        return LOAD_EXIT_NOT_STARTED;
    }
    tally_init(&tallies->clients);
    tally_init(&tallies->probe);
    int status = run_and_report(&options, &tallies->clients, &tallies->probe);
    memory_free(tallies);
    return status;
}
