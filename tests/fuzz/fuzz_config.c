/*
 * Fuzz target: the bytes are the text of a configuration file, read as the edge's and as the core's. Whatever they are,
 * the reader accepts them, or says one line that begins with the program or the file.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/settings.h"
#include "edge/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* One line exactly, if the reading failed; nothing, if it did not. */
static void verdict_check(enum settings_verdict verdict, const char *errors, size_t length)
{
    bool said = length > 0 && errors[length - 1] == '\n' && memchr(errors, '\n', length) == errors + length - 1 &&
                (strncmp(errors, "fuzz.conf:", 10) == 0 || strncmp(errors, "trunkline-", 10) == 0);
    if (verdict == SETTINGS_DONE || (verdict == SETTINGS_WRONG ? !said : length != 0)) {
        abort();
    }
}

static void edge_read(const char *text, size_t length)
{
    struct edge_settings settings;
    char *errors = NULL;
    size_t errors_length = 0;
    FILE *stream = open_memstream(&errors, &errors_length);
    if (stream == NULL) {
        abort();
    }
    enum settings_verdict verdict = edge_settings_read_text(&settings, "fuzz.conf", text, length, stream);
    fclose(stream);
    verdict_check(verdict, errors, errors_length);
    if (verdict == SETTINGS_RUN && (settings.listen_count == 0 || settings.certificate_count == 0 ||
                                    settings.trunks == 0 || settings.ping_timeout_ms == 0)) {
        abort();
    }
    edge_settings_dispose(&settings);
    free(errors);
}

static void core_read(const char *text, size_t length)
{
    struct core_settings settings;
    char *errors = NULL;
    size_t errors_length = 0;
    FILE *stream = open_memstream(&errors, &errors_length);
    if (stream == NULL) {
        abort();
    }
    enum settings_verdict verdict = core_settings_read_text(&settings, "fuzz.conf", text, length, stream);
    fclose(stream);
    verdict_check(verdict, errors, errors_length);
    if (verdict == SETTINGS_RUN &&
        (settings.listen_count == 0 || settings.service_count == 0 || settings.ping_timeout_ms == 0)) {
        abort();
    }
    core_settings_dispose(&settings);
    free(errors);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    edge_read((const char *)bytes, length);
    core_read((const char *)bytes, length);
    return 0;
}
