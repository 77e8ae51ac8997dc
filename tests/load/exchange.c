/* See exchange.h. */
#include "tests/load/exchange.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "mux/memory.h"

size_t exchange_room(const struct exchange_plan *plan)
{
    return plan->message_bytes > EXCHANGE_REQUEST_MAX_BYTES ? plan->message_bytes : EXCHANGE_REQUEST_MAX_BYTES;
}

void exchange_init(struct exchange *exchange, const struct exchange_plan *plan, enum exchange_kind kind,
                   uint32_t client, exchange_result_fn *result)
{
    memset(exchange, 0, sizeof(*exchange));
    exchange->plan = plan;
    exchange->result = result;
    exchange->client = client;
    exchange->kind = (uint8_t)kind;
    exchange->first = 1;
    message_reader_init(&exchange->reader, client, plan->message_bytes);
    if (kind == EXCHANGE_DOWN) {
        exchange->reader.sent = UINT64_MAX; /* the server may send any number */
    }
}

void exchange_end(struct exchange *exchange)
{
    if (exchange->answer != NULL) {
        slab_free(exchange->plan->answers, exchange->answer);
        exchange->answer = NULL;
    }
}

static void tell(struct exchange *exchange, struct exchange_result result)
{
    if (exchange->first) {
        exchange->first = 0;
        result.proved = true;
    }
    exchange->result(exchange, &result);
}

/* ---- sending ---- */

static size_t write_message(struct exchange *exchange, uint64_t intended_us, uint32_t size, uint8_t *into)
{
    struct tally *tally = exchange->plan->tally;
    const struct message message = {
        .sequence = exchange->reader.sent, .intended_us = intended_us, .client = exchange->client, .size = size};
    message_write(&message, into);
    exchange->reader.sent++;
    tally->sent++;
    tally->bytes_up += size;
    return size;
}

static size_t write_request(struct exchange *exchange, uint64_t intended_us, uint8_t *into)
{
    const struct exchange_plan *plan = exchange->plan;
    char query[96] = "";
    exchange->answer = slab_alloc(plan->answers);
    if (exchange->answer == NULL) {
        return 0;
    }
    exchange->answer->exchange = exchange;
    exchange->answer->intended_us = intended_us;
    http_reader_init(&exchange->answer->http);
    if (exchange->kind == EXCHANGE_DOWN) {
        snprintf(query, sizeof(query), "%cclient=%" PRIu32 "&size=%" PRIu32 "&interval_us=%" PRIu64,
                 strchr(plan->path, '?') == NULL ? '?' : '&', exchange->client, plan->message_bytes,
                 plan->down_interval_us);
    }
    int length =
        snprintf((char *)into, EXCHANGE_REQUEST_MAX_BYTES,
                 "GET %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: trunkline-load\r\nAccept: */*\r\n%s\r\n", plan->path,
                 query, plan->host, exchange->kind == EXCHANGE_PROBE ? "Connection: close\r\n" : "");
    assert(length > 0 && length < (int)EXCHANGE_REQUEST_MAX_BYTES && "the options bound path and host");
    plan->tally->requests++;
    plan->tally->bytes_up += (uint64_t)length;
    return (size_t)length;
}

size_t exchange_open(struct exchange *exchange, uint64_t now_us, uint8_t *into)
{
    if (exchange->kind == EXCHANGE_UP) {
        exchange->first = 0;
    }
    return exchange_send(exchange, now_us, into);
}

bool exchange_may_send(const struct exchange *exchange)
{
    switch (exchange->kind) {
    case EXCHANGE_ECHO:
    case EXCHANGE_UP:
        return true;
    case EXCHANGE_HTTP:
        return exchange->answer == NULL;
    default:
        return false;
    }
}

size_t exchange_send(struct exchange *exchange, uint64_t intended_us, uint8_t *into)
{
    if (exchange->kind == EXCHANGE_ECHO || exchange->kind == EXCHANGE_UP) {
        return write_message(exchange, intended_us, exchange->plan->message_bytes, into);
    }
    return write_request(exchange, intended_us, into);
}

size_t exchange_ping(struct exchange *exchange, uint64_t intended_us, uint8_t *into)
{
    assert(exchange->kind == EXCHANGE_ECHO);
    return write_message(exchange, intended_us, MESSAGE_HEADER_BYTES, into);
}

/* ---- receiving ---- */

static void on_message(struct message_reader *reader, const struct message *message)
{
    struct exchange *exchange = container_of(reader, struct exchange, reader);
    struct exchange_result result = {.measured = true, .measure = MEASURE_DELIVERY, .since_us = message->intended_us};
    if (exchange->kind == EXCHANGE_DOWN) {
        exchange->plan->tally->delivered++;
    } else {
        exchange->plan->tally->echoed++;
        result.measure = message->size < reader->size ? MEASURE_PING : MEASURE_ECHO;
        result.measured = !exchange->first; /* the first one has a measure of its own */
    }
    tell(exchange, result);
}

static enum error_code receive_messages(struct exchange *exchange, const uint8_t *bytes, size_t length)
{
    return message_reader_feed(&exchange->reader, bytes, length, &exchange->plan->tally->faults, on_message);
}

static struct exchange_answer *answer_of(struct http_reader *http)
{
    return container_of(http, struct exchange_answer, http);
}

static enum error_code on_head(struct http_reader *http)
{
    struct exchange_answer *answer = answer_of(http);
    struct exchange *exchange = answer->exchange;
    const struct exchange_plan *plan = exchange->plan;
    if (exchange->kind == EXCHANGE_PROBE) {
        if (http->parser.status_code >= 500) {
            plan->tally->wrong_status++;
        } else {
            plan->tally->answered++;
        }
        answer->over = 1;
    } else if (exchange->kind == EXCHANGE_DOWN) {
        if (http->parser.status_code != plan->status) {
            plan->tally->wrong_status++;
            return ERROR_INVALID;
        }
        tell(exchange, (struct exchange_result){.measured = false});
    } else if (!http_reader_bounded(http)) {
        plan->tally->wrong_length++;
        return ERROR_INVALID; /* no other answer can follow on this connection */
    }
    return ERROR_NONE;
}

static enum error_code on_body(struct http_reader *http, const uint8_t *bytes, size_t length)
{
    struct exchange *exchange = answer_of(http)->exchange;
    return exchange->kind == EXCHANGE_DOWN ? receive_messages(exchange, bytes, length) : ERROR_NONE;
}

static void on_done(struct http_reader *http)
{
    struct exchange_answer *answer = answer_of(http);
    const struct exchange_plan *plan = answer->exchange->plan;
    answer->over = 1;
    if (answer->exchange->kind != EXCHANGE_HTTP) {
        return;
    }
    if (http->parser.status_code != plan->status) {
        plan->tally->wrong_status++;
    } else if (plan->body_bytes_given && http->body_bytes != plan->body_bytes) {
        plan->tally->wrong_length++;
    } else {
        plan->tally->answered++;
    }
}

static const struct http_events http_events = {.head = on_head, .body = on_body, .done = on_done};

static enum error_code receive_http(struct exchange *exchange, const uint8_t *bytes, size_t length)
{
    struct exchange_answer *answer = exchange->answer;
    size_t taken = 0;
    if (answer == NULL) {
        return exchange->kind == EXCHANGE_PROBE ? ERROR_NONE : ERROR_INVALID; /* nobody has asked */
    }
    enum error_code error = http_reader_feed(&answer->http, &http_events, bytes, length, &taken);
    if (error != ERROR_NONE || !answer->over) {
        return error;
    }
    const struct exchange_result result = {.measured = exchange->kind == EXCHANGE_HTTP && !exchange->first,
                                           .measure = MEASURE_ANSWER,
                                           .since_us = answer->intended_us};
    exchange_end(exchange);
    if (exchange->kind != EXCHANGE_DOWN) {
        tell(exchange, result);
    }
    return taken < length ? receive_http(exchange, bytes + taken, length - taken) : ERROR_NONE;
}

enum error_code exchange_receive(struct exchange *exchange, const uint8_t *bytes, size_t length)
{
    exchange->plan->tally->bytes_down += length;
    switch (exchange->kind) {
    case EXCHANGE_UP:
        return ERROR_NONE;
    case EXCHANGE_ECHO:
        return receive_messages(exchange, bytes, length);
    default:
        return receive_http(exchange, bytes, length);
    }
}

uint64_t exchange_outstanding(const struct exchange *exchange)
{
    switch (exchange->kind) {
    case EXCHANGE_ECHO:
        return message_reader_outstanding(&exchange->reader);
    case EXCHANGE_UP:
        return 0;
    case EXCHANGE_DOWN:
        return exchange->answer != NULL && exchange->first;
    default:
        return exchange->answer != NULL;
    }
}
