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
    if (kind == EXCHANGE_ECHO || kind == EXCHANGE_UP) {
        message_reader_init(&exchange->u.reader, client, plan->message_bytes);
    } else {
        http_reader_init(&exchange->u.http.reader);
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
        .sequence = exchange->u.reader.sent, .intended_us = intended_us, .client = exchange->client, .size = size};
    message_write(&message, into);
    exchange->u.reader.sent++;
    tally->sent++;
    tally->bytes_up += size;
    return size;
}

static size_t write_request(struct exchange *exchange, uint64_t intended_us, uint8_t *into)
{
    const struct exchange_plan *plan = exchange->plan;
    char query[96] = "";
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
    exchange->u.http.intended_us = intended_us;
    exchange->waiting = 1;
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
        return !exchange->waiting;
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
    struct exchange *exchange = container_of(reader, struct exchange, u.reader);
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
    return message_reader_feed(&exchange->u.reader, bytes, length, &exchange->plan->tally->faults, on_message);
}

/* The head of an answer is complete. */
static enum error_code judge_head(struct exchange *exchange)
{
    const struct exchange_plan *plan = exchange->plan;
    const struct http_reader *http = &exchange->u.http.reader;
    if (exchange->kind == EXCHANGE_PROBE) {
        if (http->status >= 500) {
            plan->tally->wrong_status++;
        } else {
            plan->tally->answered++;
        }
        exchange->waiting = 0;
        tell(exchange, (struct exchange_result){.measured = false});
        return ERROR_NONE;
    }
    if (http->status != plan->status) {
        plan->tally->wrong_status++;
        return exchange->kind == EXCHANGE_DOWN ? ERROR_INVALID : ERROR_NONE;
    }
    if (exchange->kind == EXCHANGE_DOWN) {
        exchange->waiting = 0;
        message_reader_init(&exchange->u.reader, exchange->client, plan->message_bytes);
        exchange->u.reader.sent = UINT64_MAX; /* the server may send any number */
        tell(exchange, (struct exchange_result){.measured = false});
        return ERROR_NONE;
    }
    if (!http->has_length) {
        plan->tally->wrong_length++;
        return ERROR_INVALID;
    }
    if (plan->body_bytes_given && http->length != plan->body_bytes) {
        plan->tally->wrong_length++;
    } else {
        plan->tally->answered++;
    }
    return ERROR_NONE;
}

static enum error_code receive_http(struct exchange *exchange, const uint8_t *bytes, size_t length)
{
    enum http_event event = HTTP_MORE;
    do {
        if (!exchange->waiting) {
            return ERROR_INVALID; /* nobody has asked */
        }
        size_t count = http_reader_feed(&exchange->u.http.reader, bytes, length, &event);
        bytes += count;
        length -= count;
        if (event == HTTP_BROKEN) {
            return ERROR_INVALID;
        }
        if (event == HTTP_HEAD) {
            enum error_code error = judge_head(exchange);
            if (error != ERROR_NONE || exchange->kind == EXCHANGE_PROBE) {
                return error;
            }
            if (exchange->kind == EXCHANGE_DOWN) {
                return receive_messages(exchange, bytes, length);
            }
        }
        if (event == HTTP_DONE) {
            exchange->waiting = 0;
            tell(exchange, (struct exchange_result){.measured = !exchange->first,
                                                    .measure = MEASURE_ANSWER,
                                                    .since_us = exchange->u.http.intended_us});
        }
    } while (length > 0 || event == HTTP_HEAD);
    return ERROR_NONE;
}

enum error_code exchange_receive(struct exchange *exchange, const uint8_t *bytes, size_t length)
{
    exchange->plan->tally->bytes_down += length;
    switch (exchange->kind) {
    case EXCHANGE_UP:
        return ERROR_NONE;
    case EXCHANGE_ECHO:
        return receive_messages(exchange, bytes, length);
    case EXCHANGE_PROBE:
        return exchange->waiting ? receive_http(exchange, bytes, length) : ERROR_NONE;
    case EXCHANGE_DOWN:
        return exchange->waiting ? receive_http(exchange, bytes, length) : receive_messages(exchange, bytes, length);
    default:
        return receive_http(exchange, bytes, length);
    }
}

uint64_t exchange_outstanding(const struct exchange *exchange)
{
    switch (exchange->kind) {
    case EXCHANGE_ECHO:
        return message_reader_outstanding(&exchange->u.reader);
    case EXCHANGE_UP:
        return 0;
    default:
        return exchange->waiting;
    }
}
