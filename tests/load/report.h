/* What people and scripts see of a run: the live line, the table, the JSON file, the verdict. Main thread. */
#ifndef LOAD_REPORT_H
#define LOAD_REPORT_H

#include <stdbool.h>

#include "tests/load/run.h"

#define REPORT_LAG_P99_MAX_US 50000U /* a generator that is later than this measured itself, not the server */

/* The live line on standard error: rewritten in place on a terminal, else one line per second. A run_progress_fn. */
void report_progress(const struct run_snapshot *snapshot, bool final);

/* Did every client and every byte do well, and did the generator keep its schedule? */
bool report_passed(const struct load_options *options, const struct tally *tally);

/* The table on standard output, ending with the verdict and every reason for a bad one. */
void report_table(const struct load_options *options, const struct tally *tally);

/* ERROR_SYSTEM (errno set) when the file cannot be written. */
enum error_code report_json(const struct load_options *options, const struct tally *tally, const char *path);

#endif
