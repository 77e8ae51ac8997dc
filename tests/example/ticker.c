/*
 * An example handler whose sessions outlive their core: it counts for each client, one numbered line after the other,
 * and no number is lost or said twice, whatever becomes of the core meanwhile.
 *
 *   --service ticker=plugin:./ticker.so:20 --reopen ticker        (milliseconds between two lines)
 *
 * The note is the offset of the next byte. All lines have the same length, so that what the edge has received after the
 * note says which line comes next, and from which byte on.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <trunkline.h>

#define LINE_LENGTH  11 /* "0000000042\n" */
#define NOTE_EVERY   16 /* lines: a note is a few bytes on the trunk */
#define INTERVAL_MAX 60000

struct ticker {
    trunkline_timer *timer;
    unsigned interval_ms;
    uint64_t offset; /* of the next byte, counted from line 0 on */
};

static void ticker_note(trunkline_session *session, const struct ticker *ticker)
{
    char note[24];
    int length = snprintf(note, sizeof(note), "%" PRIu64, ticker->offset);

    /* Without memory the older note goes on to count: `delivered` is larger then, no more. */
    trunkline_set_note(session, note, (size_t)length);
}

/* What fits of the line that is due. */
static void ticker_write(trunkline_session *session, struct ticker *ticker)
{
    char line[24];
    size_t start = (size_t)(ticker->offset % LINE_LENGTH);
    uint64_t number = ticker->offset / LINE_LENGTH;

    snprintf(line, sizeof(line), "%010" PRIu64 "\n", number % UINT64_C(10000000000));
    ticker->offset += trunkline_write(session, line + start, LINE_LENGTH - start);
    if (number % NOTE_EVERY == 0) {
        ticker_note(session, ticker);
    }
}

static void ticker_due(trunkline_session *session, void *argument)
{
    struct ticker *ticker = argument;

    ticker_write(session, ticker);
    trunkline_timer_start(ticker->timer, ticker->interval_ms);
}

/* Where the client is. 0, or -1 when the note is none of ours. */
static int ticker_go_on(const trunkline_reopening *reopening, struct ticker *ticker)
{
    char note[24] = "0";
    char *end;
    uint64_t noted;

    if (reopening->note_length >= sizeof(note)) {
        return -1;
    }
    if (reopening->note != NULL) {
        memcpy(note, reopening->note, reopening->note_length);
        note[reopening->note_length] = '\0';
    }
    noted = strtoull(note, &end, 10);
    if (*end != '\0' || (int64_t)noted + reopening->delivered < 0) {
        return -1;
    }
    /* Negative when the last bytes before the note never arrived: they are said again. */
    ticker->offset = (uint64_t)((int64_t)noted + reopening->delivered);
    return 0;
}

static void ticker_open(trunkline_session *session, void *service)
{
    struct ticker *ticker = calloc(1, sizeof(*ticker));
    trunkline_reopening reopening;

    if (ticker != NULL) {
        ticker->interval_ms = *(const unsigned *)service;
        ticker->timer = trunkline_timer_new(session, ticker_due, ticker);
    }
    if (ticker == NULL || ticker->timer == NULL ||
        (trunkline_get_reopening(session, &reopening) && ticker_go_on(&reopening, ticker) != 0)) {
        if (ticker != NULL) {
            trunkline_timer_free(&ticker->timer);
        }
        free(ticker);
        trunkline_refuse(session, 503, "cannot go on");
        return;
    }
    trunkline_set_data(session, ticker);
    if (trunkline_accept(session) == 0) {
        ticker_due(session, ticker);
    }
}

static void ticker_end(trunkline_session *session)
{
    trunkline_end(session);
}

static void ticker_closed(trunkline_session *session, trunkline_reason reason)
{
    (void)reason;
    free(trunkline_get_data(session)); /* the timer goes with the session */
}

static const char *ticker_setup(const char *argument, void **result)
{
    unsigned *interval_ms = malloc(sizeof(*interval_ms));
    char *end;
    unsigned long value = strtoul(argument, &end, 10);

    if (interval_ms == NULL) {
        return "out of memory";
    }
    if (*argument == '\0' || *end != '\0' || value == 0 || value > INTERVAL_MAX) {
        free(interval_ms);
        return "expected the milliseconds between two lines";
    }
    *interval_ms = (unsigned)value;
    *result = interval_ms;
    return NULL;
}

static const trunkline_handler ticker = {
    .abi = TRUNKLINE_ABI,
    .name = "ticker",
    .setup = ticker_setup,
    .teardown = free,
    .open = ticker_open,
    .end = ticker_end,
    .closed = ticker_closed,
};

const trunkline_handler *trunkline_plugin(void)
{
    return &ticker;
}
