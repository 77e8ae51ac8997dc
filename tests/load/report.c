/* See report.h. Plain printf; numbers are grouped by thousands for people and bare in JSON. */
#include "tests/load/report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "mux/clock.h"

#define NUMBER_TEXT 32

static const struct {
    const char *name;
    uint32_t quantile;
} quantiles[] = {{"p50", 50000}, {"p90", 90000}, {"p99", 99000}, {"p99_9", 99900}};

#define QUANTILE_COUNT (sizeof(quantiles) / sizeof(quantiles[0]))

static const char *const phase_names[RUN_PHASE_COUNT] = {
    [RUN_RAMP] = "ramp",        [RUN_HOLD] = "hold",       [RUN_TRAFFIC] = "traffic",
    [RUN_LAST_ECHOES] = "tail", [RUN_CLOSING] = "closing", [RUN_OVER] = "over",
};

static const char *const stage_keys[CLIENT_STAGE_COUNT] = {
    [CLIENT_STAGE_CONNECT] = "connect",
    [CLIENT_STAGE_HANDSHAKE] = "handshake",
    [CLIENT_STAGE_FIRST_ECHO] = "first_echo",
    [CLIENT_STAGE_OPEN] = "open",
};

/* "1,234,567" */
static const char *grouped(uint64_t number, char text[NUMBER_TEXT])
{
    char digits[NUMBER_TEXT];
    int length = snprintf(digits, sizeof(digits), "%" PRIu64, number);
    char *into = text;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) {
            *into++ = ',';
        }
        *into++ = digits[i];
    }
    *into = '\0';
    return text;
}

/* Microseconds as milliseconds with about three significant digits. */
static const char *milliseconds(uint64_t us, char text[NUMBER_TEXT])
{
    double ms = (double)us / 1000.0;
    snprintf(text, NUMBER_TEXT, "%.*f", ms < 10.0 ? 2 : (ms < 100.0 ? 1 : 0), ms);
    return text;
}

static double per_second(uint64_t count, uint64_t us)
{
    return us == 0 ? 0.0 : (double)count * 1e6 / (double)us;
}

/* Messages that were due in the traffic phase and went out. */
static uint64_t traffic_sent(const struct tally *tally)
{
    return tally->lag.count;
}

static void progress_text(const struct run_snapshot *snapshot, char *text, size_t capacity)
{
    const struct tally *tally = snapshot->tally;
    char a[NUMBER_TEXT], b[NUMBER_TEXT], c[NUMBER_TEXT], d[NUMBER_TEXT];
    const char *name = phase_names[snapshot->phase];
    double seconds = (double)snapshot->elapsed_ms / 1000.0;
    switch (snapshot->phase) {
    case RUN_RAMP:
        snprintf(text, capacity, "%-8s %5.1f s  %s of %s clients open  %u opening  %s failed", name, seconds,
                 grouped(tally->opened, a), grouped(snapshot->options->clients, b), snapshot->opening,
                 grouped(tally->failed, c));
        return;
    case RUN_TRAFFIC:
    case RUN_LAST_ECHOES:
        snprintf(text, capacity, "%-8s %5.1f s  %s sent  %s in flight  p50 %s ms  p99 %s ms  %" PRIu64 " failed", name,
                 seconds, grouped(traffic_sent(tally), a), grouped(snapshot->in_flight, b),
                 milliseconds(histogram_quantile(&tally->echo, 50000), c),
                 milliseconds(histogram_quantile(&tally->echo, 99000), d), tally->failed);
        return;
    default:
        snprintf(text, capacity, "%-8s %5.1f s  %s clients open  %s failed", name, seconds,
                 grouped(snapshot->open + snapshot->closing, a), grouped(tally->failed, b));
        return;
    }
}

void report_progress(const struct run_snapshot *snapshot, bool final)
{
    static uint64_t last_line_us; /* there is one progress line per process */
    bool terminal = isatty(STDERR_FILENO) == 1;
    uint64_t now_us = clock_monotonic_us();
    if (!terminal && !final && now_us - last_line_us < 1000000U) {
        return;
    }
    /* A phase that was over at once is not worth a line. */
    if (final && snapshot->elapsed_ms < 100) {
        if (terminal) {
            fputs("\r\033[K", stderr);
        }
        return;
    }
    last_line_us = now_us;
    char text[256];
    progress_text(snapshot, text, sizeof(text));
    fprintf(stderr, terminal ? (final ? "\r\033[K  %s\n" : "\r\033[K  %s") : "  %s\n", text);
    fflush(stderr);
}

static bool generator_was_late(const struct tally *tally)
{
    return histogram_quantile(&tally->lag, 99000) > REPORT_LAG_P99_MAX_US;
}

bool report_passed(const struct load_options *options, const struct tally *tally)
{
    const struct message_faults *faults = &tally->faults;
    return tally->opened == options->clients && tally->failed == 0 && tally->unanswered == 0 && tally->unsent == 0 &&
           faults->missing == 0 && faults->repeated == 0 && faults->altered == 0 && faults->broken == 0 &&
           !tally->interrupted && !tally->cut_short && !generator_was_late(tally);
}

static void table_row(const char *name, const struct histogram *histogram)
{
    char text[NUMBER_TEXT];
    if (histogram->count == 0) {
        return;
    }
    printf("  %-13s %11s", name, grouped(histogram->count, text));
    for (size_t i = 0; i < QUANTILE_COUNT; i++) {
        printf(" %9s", milliseconds(histogram_quantile(histogram, quantiles[i].quantile), text));
    }
    printf(" %9s\n", milliseconds(histogram->largest, text));
}

static void table_failures(const struct tally *tally)
{
    static const char *const stages[CLIENT_STAGE_COUNT] = {
        [CLIENT_STAGE_CONNECT] = "connecting",
        [CLIENT_STAGE_HANDSHAKE] = "in the handshake",
        [CLIENT_STAGE_FIRST_ECHO] = "before the first echo",
        [CLIENT_STAGE_OPEN] = "while open",
    };
    for (int stage = 0; stage < CLIENT_STAGE_COUNT; stage++) {
        for (int code = 0; code < ERROR_CODE_COUNT; code++) {
            if (tally->failures[stage][code] > 0) {
                printf("  failed        %" PRIu64 " %s: %s\n", tally->failures[stage][code], stages[stage],
                       tally_error_text((enum error_code)code));
            }
        }
    }
}

/* One line if `count` is not zero. */
static void reason(const char *what, uint64_t count)
{
    char text[NUMBER_TEXT];
    if (count > 0) {
        printf("                %s: %s\n", what, grouped(count, text));
    }
}

static void table_verdict(const struct load_options *options, const struct tally *tally)
{
    char text[NUMBER_TEXT];
    if (report_passed(options, tally)) {
        printf("\n  PASSED        every client was served, every byte came back once and in order\n");
        return;
    }
    printf("\n  FAILED\n");
    reason("clients that failed", tally->failed);
    if (tally->failed > 0) {
        printf("                the first was %s\n", tally->first_failure);
    }
    reason("messages lost between others", tally->faults.missing);
    reason("messages that came twice or out of order", tally->faults.repeated);
    reason("messages that came back with altered bytes", tally->faults.altered);
    reason("streams that came back with their framing destroyed", tally->faults.broken);
    reason("messages that never came back", tally->unanswered);
    reason("messages that could not be sent, as the server did not read", tally->unsent);
    if (generator_was_late(tally)) {
        printf("                the generator fell behind its own schedule (p99 %s ms late):\n"
               "                its latencies say more of this machine than of the server\n",
               milliseconds(histogram_quantile(&tally->lag, 99000), text));
    }
    if (tally->interrupted) {
        printf("                the run was interrupted\n");
    } else if (tally->cut_short) {
        printf("                the traffic ended early: no client was left\n");
    }
}

static double own_cpu_seconds(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) {
        return 0.0;
    }
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static const char *tls_text(uint16_t version)
{
    return version == 0x0304 ? "TLS 1.3" : (version == 0x0303 ? "TLS 1.2" : "no TLS connection");
}

void report_table(const struct load_options *options, const struct tally *tally)
{
    char a[NUMBER_TEXT], b[NUMBER_TEXT], c[NUMBER_TEXT];
    printf("\n  %s, %s, %s\n\n", options->connect_text, tls_text(tally->tls_version),
           options->ca != NULL ? "certificate verified" : "certificate not verified");
    printf("  clients       %s of %s open after %.1f s (%.0f/s), %s failed\n", grouped(tally->opened, a),
           grouped(options->clients, b), (double)tally->ramp_us / 1e6, per_second(tally->opened, tally->ramp_us),
           grouped(tally->failed, c));
    if (tally->traffic_us > 0) {
        printf("  messages      %s sent, %s echoed, of %u bytes, %.0f/s\n", grouped(tally->sent, a),
               grouped(tally->echoed, b), options->size, per_second(traffic_sent(tally), tally->traffic_us));
    } else {
        printf("  messages      %s sent, %s echoed, of %u bytes\n", grouped(tally->sent, a), grouped(tally->echoed, b),
               options->size);
    }
    printf("  clean ends    %s of %s\n", grouped(tally->ended_clean, a),
           grouped(tally->ended_clean + tally->ended_other, b));
    printf("  generator     %.1f s of CPU\n", own_cpu_seconds());
    table_failures(tally);
    printf("\n  %-13s %11s %9s %9s %9s %9s %9s\n", "milliseconds", "count", "p50", "p90", "p99", "p99.9", "max");
    table_row("connect", &tally->connect);
    table_row("handshake", &tally->handshake);
    table_row("first echo", &tally->first_echo);
    table_row("echo", &tally->echo);
    table_row("schedule lag", &tally->lag);
    table_verdict(options, tally);
}

static void json_histogram(FILE *file, const char *name, const struct histogram *histogram, const char *after)
{
    uint64_t smallest = histogram->count == 0 ? 0 : histogram->smallest;
    fprintf(file, "    \"%s\": {\"count\": %" PRIu64 ", \"min\": %" PRIu64 ", \"mean\": %" PRIu64, name,
            histogram->count, smallest, histogram_mean(histogram));
    for (size_t i = 0; i < QUANTILE_COUNT; i++) {
        fprintf(file, ", \"%s\": %" PRIu64, quantiles[i].name, histogram_quantile(histogram, quantiles[i].quantile));
    }
    fprintf(file, ", \"max\": %" PRIu64 "}%s\n", histogram->largest, after);
}

static void json_failures(FILE *file, const struct tally *tally)
{
    const char *before = "";
    fputs("  \"failures\": {", file);
    for (int stage = 0; stage < CLIENT_STAGE_COUNT; stage++) {
        for (int code = 0; code < ERROR_CODE_COUNT; code++) {
            if (tally->failures[stage][code] > 0) {
                fprintf(file, "%s\"%s.%s\": %" PRIu64, before, stage_keys[stage], error_name((enum error_code)code),
                        tally->failures[stage][code]);
                before = ", ";
            }
        }
    }
    fputs("},\n", file);
}

static void json_write(FILE *file, const struct load_options *options, const struct tally *tally)
{
    fprintf(file, "{\n  \"passed\": %s,\n", report_passed(options, tally) ? "true" : "false");
    fprintf(file, "  \"interrupted\": %s,\n", tally->interrupted ? "true" : "false");
    fprintf(file, "  \"late\": %s,\n", generator_was_late(tally) ? "true" : "false");
    fprintf(file, "  \"clients\": %u,\n  \"opened\": %" PRIu64 ",\n  \"failed\": %" PRIu64 ",\n", options->clients,
            tally->opened, tally->failed);
    json_failures(file, tally);
    fprintf(file, "  \"ended_clean\": %" PRIu64 ",\n  \"ended_other\": %" PRIu64 ",\n", tally->ended_clean,
            tally->ended_other);
    fprintf(file, "  \"ramp_seconds\": %.3f,\n  \"traffic_seconds\": %.3f,\n  \"cpu_seconds\": %.3f,\n",
            (double)tally->ramp_us / 1e6, (double)tally->traffic_us / 1e6, own_cpu_seconds());
    fprintf(file, "  \"tls_version\": %u,\n  \"tls_suite\": %u,\n", tally->tls_version, tally->tls_suite);
    fprintf(file,
            "  \"messages\": {\"bytes\": %u, \"sent\": %" PRIu64 ", \"echoed\": %" PRIu64 ", \"missing\": %" PRIu64
            ", \"repeated\": %" PRIu64 ", \"altered\": %" PRIu64 ", \"broken_streams\": %" PRIu64
            ", \"unanswered\": %" PRIu64 ", \"unsent\": %" PRIu64 "},\n",
            options->size, tally->sent, tally->echoed, tally->faults.missing, tally->faults.repeated,
            tally->faults.altered, tally->faults.broken, tally->unanswered, tally->unsent);
    fputs("  \"microseconds\": {\n", file);
    json_histogram(file, "connect", &tally->connect, ",");
    json_histogram(file, "handshake", &tally->handshake, ",");
    json_histogram(file, "first_echo", &tally->first_echo, ",");
    json_histogram(file, "echo", &tally->echo, ",");
    json_histogram(file, "schedule_lag", &tally->lag, "");
    fputs("  }\n}\n", file);
}

enum error_code report_json(const struct load_options *options, const struct tally *tally, const char *path)
{
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return ERROR_SYSTEM;
    }
    json_write(file, options, tally);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) {
        return ERROR_SYSTEM;
    }
    return ERROR_NONE;
}
