/* See exchange.h. */
#include "tests/load/exchange.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "mux/memory.h"

static message_fn on_message;

void exchange_plan_init(struct exchange_plan *plan, uint32_t message_bytes, struct slab *partials)
{
    plan->messages = (struct message_rules){
        .whole = on_message, .faults = &plan->tally->faults, .partials = partials, .size = message_bytes};
}

size_t exchange_room(const struct exchange_plan *plan)
{
    return plan->messages.size > EXCHANGE_REQUEST_MAX_BYTES ? plan->messages.size : EXCHANGE_REQUEST_MAX_BYTES;
}

void exchange_init(struct exchange *exchange, enum exchange_kind kind, uint32_t client)
{
    *exchange = (struct exchange){.kind = (uint8_t)kind, .first = 1};
    message_reader_init(&exchange->reader, client);
    if (kind == EXCHANGE_DOWN) {
        exchange->reader.awaited = MESSAGE_AWAITED_ANY;
    }
}

static void answer_end(struct exchange *exchange, const struct exchange_plan *plan)
{
    slab_free(plan->answers, exchange->answer);
    exchange->answer = NULL;
}

void exchange_end(struct exchange *exchange, const struct exchange_plan *plan)
{
    answer_end(exchange, plan);
    message_reader_end(&exchange->reader, &plan->messages);
}

static void tell(struct exchange *exchange, const struct exchange_plan *plan, struct exchange_result result)
{
    if (exchange->first) {
        exchange->first = 0;
        result.proved = true;
    }
    plan->result(exchange, &result);
}

/* ---- sending ---- */

static size_t write_message(struct exchange *exchange, const struct exchange_plan *plan, uint64_t intended_us,
                            uint32_t size, uint8_t *into)
{
    struct message_reader *reader = &exchange->reader;
    const struct message message = {.sequence = reader->expected + reader->awaited,
                                    .intended_us = intended_us,
                                    .client = reader->client,
                                    .size = size};
    message_write(&message, into);
    if (exchange->kind == EXCHANGE_UP) {
        reader->expected++; /* nothing is awaited */
    } else {
        reader->awaited++;
    }
    plan->tally->sent++;
    plan->tally->bytes_up += size;
    return size;
}

static size_t write_request(struct exchange *exchange, const struct exchange_plan *plan, uint64_t intended_us,
                            uint8_t *into)
{
    char query[96] = "";
    exchange->answer = slab_alloc(plan->answers);
    if (exchange->answer == NULL) {
        return 0;
    }
    exchange->answer->exchange = exchange;
    exchange->answer->plan = plan;
    exchange->answer->intended_us = intended_us;
    http_reader_init(&exchange->answer->http);
    if (exchange->kind == EXCHANGE_DOWN) {
        snprintf(query, sizeof(query), "%cclient=%" PRIu32 "&size=%" PRIu32 "&interval_us=%" PRIu64,
                 strchr(plan->path, '?') == NULL ? '?' : '&', exchange_client(exchange), plan->messages.size,
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

size_t exchange_open(struct exchange *exchange, const struct exchange_plan *plan, uint64_t now_us, uint8_t *into)
{
    if (exchange->kind == EXCHANGE_UP) {
        exchange->first = 0;
    }
    return exchange_send(exchange, plan, now_us, into);
}

bool exchange_may_send(const struct exchange *exchange)
{
    switch (exchange->kind) {
    case EXCHANGE_ECHO:
    case EXCHANGE_UP:
        return exchange->reader.awaited < MESSAGE_AWAITED_MAX;
    case EXCHANGE_HTTP:
        return exchange->answer == NULL;
    default:
        return false;
    }
}

size_t exchange_send(struct exchange *exchange, const struct exchange_plan *plan, uint64_t intended_us, uint8_t *into)
{
    if (exchange->kind == EXCHANGE_ECHO || exchange->kind == EXCHANGE_UP) {
        return write_message(exchange, plan, intended_us, plan->messages.size, into);
    }
    return write_request(exchange, plan, intended_us, into);
}

size_t exchange_ping(struct exchange *exchange, const struct exchange_plan *plan, uint64_t intended_us, uint8_t *into)
{
    assert(exchange->kind == EXCHANGE_ECHO);
    return write_message(exchange, plan, intended_us, MESSAGE_HEADER_BYTES, into);
}

/* ---- receiving ---- */

static void on_message(struct message_reader *reader, const struct message_rules *rules, const struct message *message)
{
    struct exchange *exchange = container_of(reader, struct exchange, reader);
    const struct exchange_plan *plan = container_of(rules, const struct exchange_plan, messages);
    struct exchange_result result = {.measured = true, .measure = MEASURE_DELIVERY, .since_us = message->intended_us};
    if (exchange->kind == EXCHANGE_DOWN) {
        plan->tally->delivered++;
    } else {
        plan->tally->echoed++;
        result.measure = message->size < rules->size ? MEASURE_PING : MEASURE_ECHO;
        result.measured = !exchange->first; /* the first one has a measure of its own */
    }
    tell(exchange, plan, result);
}

static struct exchange_answer *answer_of(struct http_reader *http)
{
    return container_of(http, struct exchange_answer, http);
}

static enum error_code on_head(struct http_reader *http)
{
    struct exchange_answer *answer = answer_of(http);
    struct exchange *exchange = answer->exchange;
    const struct exchange_plan *plan = answer->plan;
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
        plan->tally->answered++;
        tell(exchange, plan, (struct exchange_result){.measured = false});
    } else if (!http_reader_bounded(http)) {
        plan->tally->wrong_length++;
        return ERROR_INVALID; /* no other answer can follow on this connection */
    }
    return ERROR_NONE;
}

static enum error_code on_body(struct http_reader *http, const uint8_t *bytes, size_t length)
{
    const struct exchange_answer *answer = answer_of(http);
    return answer->exchange->kind == EXCHANGE_DOWN
               ? message_reader_feed(&answer->exchange->reader, &answer->plan->messages, bytes, length)
               : ERROR_NONE;
}

static void on_done(struct http_reader *http)
{
    struct exchange_answer *answer = answer_of(http);
    const struct exchange_plan *plan = answer->plan;
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

static enum error_code receive_http(struct exchange *exchange, const struct exchange_plan *plan, const uint8_t *bytes,
                                    size_t length)
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
    answer_end(exchange, plan);
    if (exchange->kind != EXCHANGE_DOWN) {
        tell(exchange, plan, result);
    }
    return taken < length ? receive_http(exchange, plan, bytes + taken, length - taken) : ERROR_NONE;
}

enum error_code exchange_receive(struct exchange *exchange, const struct exchange_plan *plan, const uint8_t *bytes,
                                 size_t length)
{
    plan->tally->bytes_down += length;
    switch (exchange->kind) {
    case EXCHANGE_UP:
        return ERROR_NONE;
    case EXCHANGE_ECHO:
        return message_reader_feed(&exchange->reader, &plan->messages, bytes, length);
    default:
        return receive_http(exchange, plan, bytes, length);
    }
}

uint64_t exchange_outstanding(const struct exchange *exchange)
{
    switch (exchange->kind) {
    case EXCHANGE_ECHO:
        return exchange->reader.awaited;
    case EXCHANGE_UP:
        return 0;
    case EXCHANGE_DOWN:
        return exchange->answer != NULL && exchange->first;
    default:
        return exchange->answer != NULL;
    }
}
