/* The live line and the table of report.h. Plain printf; numbers are grouped by thousands. */
#include "tests/load/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "mux/clock.h"
#include "tests/load/verdict.h"

#define NUMBER_TEXT 32

const struct report_quantile report_quantiles[REPORT_QUANTILES] = {
    {"p50", 50000}, {"p90", 90000}, {"p99", 99000}, {"p99_9", 99900}};

static const char *const phase_names[RUN_PHASE_COUNT] = {
    [RUN_NOTHING] = "start",   [RUN_PREPARE] = "start", [RUN_RAMP] = "ramp",       [RUN_HOLD] = "hold",
    [RUN_TRAFFIC] = "traffic", [RUN_TAIL] = "tail",     [RUN_CLOSING] = "closing", [RUN_OVER] = "over",
};

const char *const report_stage_keys[CLIENT_STAGE_COUNT] = {
    [CLIENT_STAGE_CONNECT] = "connect",
    [CLIENT_STAGE_HANDSHAKE] = "handshake",
    [CLIENT_STAGE_FIRST_BYTE] = "first_byte",
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

static void progress_text(const struct fleet_snapshot *snapshot, char *text, size_t capacity)
{
    char a[NUMBER_TEXT], b[NUMBER_TEXT], c[NUMBER_TEXT], d[NUMBER_TEXT];
    const char *name = phase_names[snapshot->phase];
    double seconds = (double)snapshot->elapsed_ms / 1000.0;
    int length = 0;
    switch (snapshot->phase) {
    case RUN_RAMP:
        length = snprintf(text, capacity, "%-8s %5.1f s  %s of %s clients open  %" PRIu64 " opening", name, seconds,
                          grouped(snapshot->opened, a), grouped(snapshot->options->clients, b), snapshot->opening);
        break;
    case RUN_TRAFFIC:
    case RUN_TAIL:
        length =
            snprintf(text, capacity, "%-8s %5.1f s  %s open  %s sent  %s in flight  p50 %s ms  p99 %s ms", name,
                     seconds, grouped(snapshot->open, a), grouped(snapshot->sent, b), grouped(snapshot->in_flight, c),
                     milliseconds(snapshot->p50_us, d), milliseconds(snapshot->p99_us, (char[NUMBER_TEXT]){0}));
        break;
    default:
        length = snprintf(text, capacity, "%-8s %5.1f s  %s clients open", name, seconds,
                          grouped(snapshot->open + snapshot->closing, a));
        break;
    }
    if (length > 0 && (size_t)length < capacity) {
        snprintf(text + length, capacity - (size_t)length, "  %s failed", grouped(snapshot->failed, a));
    }
}

void report_progress(const struct fleet_snapshot *snapshot, bool final)
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

static void table_row(const char *name, const struct histogram *histogram)
{
    char text[NUMBER_TEXT];
    if (histogram->count == 0) {
        return;
    }
    printf("  %-18s %10s", name, grouped(histogram->count, text));
    for (size_t i = 0; i < REPORT_QUANTILES; i++) {
        printf(" %9s", milliseconds(histogram_quantile(histogram, report_quantiles[i].quantile), text));
    }
    printf(" %9s\n", milliseconds(histogram->largest, text));
}

static void table_failures(const struct tally *tally)
{
    static const char *const stages[CLIENT_STAGE_COUNT] = {
        [CLIENT_STAGE_CONNECT] = "connecting",
        [CLIENT_STAGE_HANDSHAKE] = "in the handshake",
        [CLIENT_STAGE_FIRST_BYTE] = "before the service answered",
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

static void table_bottleneck(const struct verdict_bottleneck *bottleneck)
{
    char text[NUMBER_TEXT];
    printf("                the generator itself was the bottleneck: its figures say more of this machine than of "
           "the server\n");
    if (bottleneck->late) {
        printf("                it fell behind its own schedule (p99 %s ms late): give --processes, a lower --rate or "
               "fewer messages\n",
               milliseconds(bottleneck->lag_p99_us, text));
    }
    reason("clients that found no free port (--source-addresses)", bottleneck->out_of_ports);
    reason("clients that found no free file (--processes, ulimit -n)", bottleneck->out_of_files);
    reason("clients for whom there was no memory", bottleneck->out_of_memory);
}

static void table_faults(const struct tally *tally)
{
    reason("clients that failed", tally->failed);
    if (tally->failed > 0) {
        printf("                the first was %s\n", tally->first_failure);
    }
    reason("clients that did not come back after the storm", tally->dropped - tally->returned);
    reason("messages lost between others", tally->faults.missing);
    reason("clients of one-way down traffic to whom nothing came", tally->silent);
    reason("messages that came twice or out of order", tally->faults.repeated);
    reason("messages that came back with altered bytes", tally->faults.altered);
    reason("streams that came back with their framing destroyed", tally->faults.broken);
    reason("messages and requests that were never answered", tally->unanswered);
    reason("messages and requests that could not be sent, as the server did not read or answer", tally->unsent);
    reason("HTTP answers with a wrong status", tally->wrong_status);
    reason("HTTP answers of a wrong length", tally->wrong_length);
    if (tally->interrupted) {
        printf("                the run was interrupted\n");
    } else if (tally->cut_short) {
        printf("                the traffic ended early: no client was left\n");
    }
}

static void table_probe_faults(const struct tally *probe)
{
    reason("probes that failed", probe->failed);
    if (probe->failed > 0) {
        printf("                the first was %s\n", probe->first_failure);
    }
    reason("probes that could not start, as too many were under way", probe->unsent);
    reason("probes that got an answer of status 500 or above", probe->wrong_status);
    if (probe->opened == 0) {
        printf("                no probe was served\n");
    }
}

static void table_verdict(const struct load_options *options, const struct tally *tally, const struct tally *probe)
{
    struct verdict_bottleneck bottleneck;
    bool limited = verdict_bottleneck(tally, probe, &bottleneck);
    bool served = verdict_served(options, tally);
    bool probed = verdict_probe(options, probe);
    if (served && probed && !limited) {
        printf("\n  PASSED        every client was served, every byte came once and in order\n");
        return;
    }
    printf("\n  FAILED\n");
    if (limited) {
        table_bottleneck(&bottleneck);
    }
    if (!served) {
        table_faults(tally);
    }
    if (!probed) {
        table_probe_faults(probe);
    }
}

static double usage_seconds(int who)
{
    struct rusage usage;
    if (getrusage(who, &usage) != 0) {
        return 0.0;
    }
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

double report_cpu_seconds(void)
{
    return usage_seconds(RUSAGE_SELF) + usage_seconds(RUSAGE_CHILDREN);
}

static const char *tls_text(uint16_t version)
{
    return version == 0x0304 ? "TLS 1.3" : (version == 0x0303 ? "TLS 1.2" : "no TLS connection");
}

static const char *suite_text(uint16_t suite)
{
    switch (suite) {
    case 0x1301:
    case 0xc02b:
    case 0xc02f:
        return ", AES-128-GCM";
    case 0x1302:
    case 0xc02c:
    case 0xc030:
        return ", AES-256-GCM";
    case 0x1303:
    case 0xcca8:
    case 0xcca9:
        return ", ChaCha20-Poly1305";
    default:
        return "";
    }
}

static void table_storm(const struct load_options *options, const struct tally *tally)
{
    static const uint32_t percents[] = {50, 90, 99, 100};
    char text[NUMBER_TEXT];
    if (options->storm_percent == 0) {
        return;
    }
    printf("  storm         %s clients dropped at once, back:", grouped(tally->dropped, text));
    for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        uint64_t back_us = verdict_back_us(tally, percents[i]);
        if (back_us == UINT64_MAX) {
            printf("%s %" PRIu32 " %% never", i == 0 ? "" : ",", percents[i]);
        } else {
            printf("%s %" PRIu32 " %% in %.2f s", i == 0 ? "" : ",", percents[i], (double)back_us / 1e6);
        }
    }
    printf("\n");
}

static void table_traffic(const struct load_options *options, const struct tally *tally)
{
    char a[NUMBER_TEXT], b[NUMBER_TEXT], c[NUMBER_TEXT];
    if (tally->sent > 0) {
        printf("  messages      %s sent, %s echoed, of %u bytes\n", grouped(tally->sent, a), grouped(tally->echoed, b),
               options->size);
    }
    if (tally->delivered > 0) {
        printf("  delivered     %s messages of %u bytes, one way\n", grouped(tally->delivered, a), options->size);
    }
    if (tally->requests > 0) {
        printf("  requests      %s sent, %s answered well\n", grouped(tally->requests, a), grouped(tally->answered, b));
    }
    printf("  bytes         %s up, %s down", grouped(tally->bytes_up, a), grouped(tally->bytes_down, b));
    if (tally->scheduled > 0) {
        printf("; %s messages or requests on schedule, %.0f/s", grouped(tally->scheduled, c),
               per_second(tally->scheduled, tally->traffic_us));
    }
    printf("\n");
}

static void table_clients(const struct load_options *options, const struct tally *tally)
{
    char a[NUMBER_TEXT], b[NUMBER_TEXT], c[NUMBER_TEXT];
    uint64_t full = tally->measures[MEASURE_HANDSHAKE_FULL].count;
    uint64_t resumed = tally->measures[MEASURE_HANDSHAKE_RESUMED].count;
    printf("\n  %s, %s%s, %s\n\n", options->connect_text, tls_text(tally->tls_version), suite_text(tally->tls_suite),
           options->ca != NULL ? "certificate verified" : "certificate not verified");
    printf("  clients       %s of %s open after %.1f s (%.0f/s), %s failed\n", grouped(tally->opened, a),
           grouped(options->clients, b), (double)tally->ramp_us / 1e6, per_second(tally->opened, tally->ramp_us),
           grouped(tally->failed, c));
    printf("  handshakes    %s full, %s resumed (%.1f %%)\n", grouped(full, a), grouped(resumed, b),
           full + resumed == 0 ? 0.0 : 100.0 * (double)resumed / (double)(full + resumed));
}

void report_table(const struct load_options *options, const struct tally *tally, const struct tally *probe)
{
    static const struct {
        const char *name;
        enum measure measure;
    } rows[] = {
        {"connect", MEASURE_CONNECT},
        {"handshake, full", MEASURE_HANDSHAKE_FULL},
        {"handshake, resumed", MEASURE_HANDSHAKE_RESUMED},
        {"first byte", MEASURE_FIRST_BYTE},
        {"echo", MEASURE_ECHO},
        {"ping", MEASURE_PING},
        {"answer", MEASURE_ANSWER},
        {"delivery", MEASURE_DELIVERY},
        {"back after storm", MEASURE_BACK},
        {"schedule lag", MEASURE_LAG},
    };
    char a[NUMBER_TEXT], b[NUMBER_TEXT];
    table_clients(options, tally);
    table_storm(options, tally);
    table_traffic(options, tally);
    printf("  clean ends    %s of %s\n", grouped(tally->ended_clean, a),
           grouped(tally->ended_clean + tally->ended_other, b));
    printf("  generator     %u process%s, %.1f s of CPU\n", options->processes, options->processes == 1 ? "" : "es",
           report_cpu_seconds());
    table_failures(tally);
    printf("\n  %-18s %10s %9s %9s %9s %9s %9s\n", "milliseconds", "count", "p50", "p90", "p99", "p99.9", "max");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        table_row(rows[i].name, &tally->measures[rows[i].measure]);
    }
    if (options->probe.text != NULL) {
        table_row("probe: connect", &probe->measures[MEASURE_CONNECT]);
        table_row("probe: handshake", &probe->measures[MEASURE_HANDSHAKE_FULL]);
        table_row("probe: first byte", &probe->measures[MEASURE_FIRST_BYTE]);
    }
    table_verdict(options, tally, probe);
}
