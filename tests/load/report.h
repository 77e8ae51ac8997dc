/* What people and scripts see of a run: the live line, the table, the files. Main thread. */
#ifndef LOAD_REPORT_H
#define LOAD_REPORT_H

#include <stdbool.h>

#include "tests/load/fleet.h"

/* Percentiles that are shown, in the order of columns. */
struct report_quantile {
    const char *name; /* in JSON */
    uint32_t quantile;
};

#define REPORT_QUANTILES 4
extern const struct report_quantile report_quantiles[REPORT_QUANTILES];

/* "handshake", as in failures["handshake.timeout"]. */
extern const char *const report_stage_keys[CLIENT_STAGE_COUNT];

/* CPU of this process and of the workers that have ended. */
double report_cpu_seconds(void);

/* The live line on standard error: rewritten in place on a terminal, else one line per second. A fleet_progress_fn. */
void report_progress(const struct fleet_snapshot *snapshot, bool final);

/* The table on standard output, ending with the verdict and every reason for a bad one. */
void report_table(const struct load_options *options, const struct tally *tally, const struct tally *probe);

/* ERROR_SYSTEM (errno set) when the file cannot be written. */
enum error_code report_json(const struct load_options *options, const struct tally *tally, const struct tally *probe,
                            const char *path);
enum error_code report_histogram(const struct tally *tally, enum measure measure, const char *path);

#endif
