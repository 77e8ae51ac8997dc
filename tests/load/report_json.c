/* The files of report.h: figures as JSON, percentiles as text. Durations in JSON are microseconds. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "tests/load/report.h"
#include "tests/load/verdict.h"

static const char *boolean(bool value)
{
    return value ? "true" : "false";
}

/* What is quoted came from a command line: anything may be in it. */
static void json_text(FILE *file, const char *text)
{
    fputc('"', file);
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\') {
            fprintf(file, "\\%c", byte);
        } else if (byte < ' ') {
            fprintf(file, "\\u%04x", byte);
        } else {
            fputc(byte, file);
        }
    }
    fputc('"', file);
}

static void json_histogram(FILE *file, const char *name, const struct histogram *histogram, const char *after)
{
    uint64_t smallest = histogram->count == 0 ? 0 : histogram->smallest;
    fprintf(file, "    \"%s\": {\"count\": %" PRIu64 ", \"min\": %" PRIu64 ", \"mean\": %" PRIu64, name,
            histogram->count, smallest, histogram_mean(histogram));
    for (size_t i = 0; i < REPORT_QUANTILES; i++) {
        fprintf(file, ", \"%s\": %" PRIu64, report_quantiles[i].name,
                histogram_quantile(histogram, report_quantiles[i].quantile));
    }
    fprintf(file, ", \"max\": %" PRIu64 "}%s\n", histogram->largest, after);
}

static void json_failures(FILE *file, const struct tally *tally)
{
    const char *before = "";
    fputs("\"failures\": {", file);
    for (int stage = 0; stage < CLIENT_STAGE_COUNT; stage++) {
        for (int code = 0; code < ERROR_CODE_COUNT; code++) {
            if (tally->failures[stage][code] > 0) {
                fprintf(file, "%s\"%s.%s\": %" PRIu64, before, report_stage_keys[stage],
                        error_name((enum error_code)code), tally->failures[stage][code]);
                before = ", ";
            }
        }
    }
    fputs("}", file);
}

static void json_options(FILE *file, const struct load_options *options)
{
    fputs("  \"connect\": ", file);
    json_text(file, options->connect_text);
    fprintf(file, ",\n  \"processes\": %" PRIu32 ",\n  \"traffic\": [", options->processes);
    for (uint32_t i = 0; i < options->traffic_count; i++) {
        fprintf(file, "%s\"%s\"", i == 0 ? "" : ", ", load_traffic_name(options->traffic[i]));
    }
    fprintf(file,
            "],\n  \"rate\": %" PRIu32 ",\n  \"messages_per_second\": %" PRIu32 ",\n  \"resume\": %s,\n"
            "  \"clients\": %" PRIu32 ",\n",
            options->rate, options->messages_per_second, boolean(options->resume), options->clients);
}

static void json_bottleneck(FILE *file, const struct tally *tally, const struct tally *probe)
{
    struct verdict_bottleneck bottleneck;
    bool any = verdict_bottleneck(tally, probe, &bottleneck);
    fprintf(file,
            "  \"bottleneck\": %s,\n  \"late\": %s,\n  \"out_of_ports\": %" PRIu64 ",\n  \"out_of_files\": %" PRIu64
            ",\n  \"out_of_memory\": %" PRIu64 ",\n",
            boolean(any), boolean(bottleneck.late), bottleneck.out_of_ports, bottleneck.out_of_files,
            bottleneck.out_of_memory);
}

static void json_clients(FILE *file, const struct tally *tally)
{
    fprintf(file, "  \"opened\": %" PRIu64 ",\n  \"failed\": %" PRIu64 ",\n  ", tally->opened, tally->failed);
    json_failures(file, tally);
    fputs(",\n  \"first_failure\": ", file);
    json_text(file, tally->first_failure);
    fprintf(file, ",\n  \"ended_clean\": %" PRIu64 ",\n  \"ended_other\": %" PRIu64 ",\n", tally->ended_clean,
            tally->ended_other);
    fprintf(file, "  \"handshakes\": {\"full\": %" PRIu64 ", \"resumed\": %" PRIu64 "},\n",
            tally->measures[MEASURE_HANDSHAKE_FULL].count, tally->measures[MEASURE_HANDSHAKE_RESUMED].count);
    fprintf(file, "  \"ramp_seconds\": %.3f,\n  \"traffic_seconds\": %.3f,\n  \"cpu_seconds\": %.3f,\n",
            (double)tally->ramp_us / 1e6, (double)tally->traffic_us / 1e6, report_cpu_seconds());
    fprintf(file, "  \"busiest_process_cpu\": %.3f,\n",
            tally->traffic_us == 0 ? 0.0 : (double)tally->traffic_cpu_us / (double)tally->traffic_us);
    fprintf(file, "  \"tls_version\": %u,\n  \"tls_suite\": %u,\n", tally->tls_version, tally->tls_suite);
}

static void json_storm(FILE *file, const struct load_options *options, const struct tally *tally)
{
    static const uint32_t percents[] = {50, 90, 99, 100};
    if (options->storm_percent == 0) {
        return;
    }
    fprintf(file,
            "  \"storm\": {\"percent\": %" PRIu32 ", \"jitter_seconds\": %.3f, \"dropped\": %" PRIu64
            ", \"returned\": %" PRIu64 ", \"abandoned_messages\": %" PRIu64 ", \"missed_messages\": %" PRIu64
            ", \"back_microseconds\": {",
            options->storm_percent, (double)options->jitter_ms / 1e3, tally->dropped, tally->returned, tally->abandoned,
            tally->missed);
    for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        uint64_t back_us = verdict_back_us(tally, percents[i]);
        fprintf(file, "%s\"%" PRIu32 "\": ", i == 0 ? "" : ", ", percents[i]);
        if (back_us == UINT64_MAX) {
            fputs("null", file);
        } else {
            fprintf(file, "%" PRIu64, back_us);
        }
    }
    fputs("}},\n", file);
}

static void json_traffic(FILE *file, const struct load_options *options, const struct tally *tally)
{
    fprintf(file,
            "  \"messages\": {\"bytes\": %u, \"sent\": %" PRIu64 ", \"echoed\": %" PRIu64 ", \"delivered\": %" PRIu64
            ", \"scheduled\": %" PRIu64 ", \"silent_clients\": %" PRIu64 ", \"stalled_clients\": %" PRIu64
            ", \"missing\": %" PRIu64 ", \"repeated\": %" PRIu64 ", \"altered\": %" PRIu64
            ", \"broken_streams\": %" PRIu64 ", \"unanswered\": %" PRIu64 ", \"unsent\": %" PRIu64 "},\n",
            options->size, tally->sent, tally->echoed, tally->delivered, tally->scheduled, tally->silent,
            tally->stalled, tally->faults.missing, tally->faults.repeated, tally->faults.altered, tally->faults.broken,
            tally->unanswered, tally->unsent);
    fprintf(file,
            "  \"http\": {\"requests\": %" PRIu64 ", \"answered\": %" PRIu64 ", \"wrong_status\": %" PRIu64
            ", \"wrong_length\": %" PRIu64 "},\n",
            tally->requests, tally->answered, tally->wrong_status, tally->wrong_length);
    fprintf(file, "  \"bytes\": {\"up\": %" PRIu64 ", \"down\": %" PRIu64 "},\n", tally->bytes_up, tally->bytes_down);
}

static void json_probe(FILE *file, const struct load_options *options, const struct tally *probe)
{
    if (options->probe.text == NULL) {
        return;
    }
    fputs("  \"probe\": {\n    \"url\": ", file);
    json_text(file, options->probe.text);
    fprintf(file,
            ",\n    \"started\": %" PRIu64 ",\n    \"served\": %" PRIu64 ",\n    \"failed\": %" PRIu64
            ",\n    \"unsent\": %" PRIu64 ",\n    \"server_errors\": %" PRIu64 ",\n    ",
            probe->started, probe->opened, probe->failed, probe->unsent, probe->wrong_status);
    json_failures(file, probe);
    fputs(",\n", file);
    json_histogram(file, "connect", &probe->measures[MEASURE_CONNECT], ",");
    json_histogram(file, "handshake", &probe->measures[MEASURE_HANDSHAKE_FULL], ",");
    json_histogram(file, "first_byte", &probe->measures[MEASURE_FIRST_BYTE], ",");
    json_histogram(file, "schedule_lag", &probe->measures[MEASURE_LAG], "");
    fputs("  },\n", file);
}

static void json_write(FILE *file, const struct load_options *options, const struct tally *tally,
                       const struct tally *probe)
{
    static struct histogram handshakes; /* 35 KB: too much for a stack; main thread only */
    struct verdict_bottleneck bottleneck;
    bool passed = verdict_served(options, tally) && verdict_probe(options, probe) &&
                  !verdict_bottleneck(tally, probe, &bottleneck);
    fprintf(file, "{\n  \"passed\": %s,\n  \"interrupted\": %s,\n", boolean(passed), boolean(tally->interrupted));
    json_bottleneck(file, tally, probe);
    json_options(file, options);
    json_clients(file, tally);
    json_storm(file, options, tally);
    json_traffic(file, options, tally);
    json_probe(file, options, probe);
    tally_handshakes(tally, &handshakes);
    fputs("  \"microseconds\": {\n", file);
    json_histogram(file, "handshake", &handshakes, ",");
    for (int measure = 0; measure < MEASURE_COUNT; measure++) {
        json_histogram(file, measure_name((enum measure)measure), &tally->measures[measure],
                       measure == MEASURE_COUNT - 1 ? "" : ",");
    }
    fputs("  }\n}\n", file);
}

static enum error_code close_written(FILE *file)
{
    bool failed = ferror(file) != 0;
    return fclose(file) != 0 || failed ? ERROR_SYSTEM : ERROR_NONE;
}

enum error_code report_json(const struct load_options *options, const struct tally *tally, const struct tally *probe,
                            const char *path)
{
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return ERROR_SYSTEM;
    }
    json_write(file, options, tally, probe);
    return close_written(file);
}

enum error_code report_histogram(const struct tally *tally, enum measure measure, const char *path)
{
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return ERROR_SYSTEM;
    }
    histogram_write_percentiles(&tally->measures[measure], 1000.0, file);
    return close_written(file);
}
