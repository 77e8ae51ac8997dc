/* Unit tests of the load generator's HTTP reader: answers in any pieces, and everything that is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tests/load/http.h"

struct seen {
    unsigned heads;
    unsigned done;
    uint16_t status;
    uint64_t length;
    uint8_t has_length;
    enum http_event last;
};

/* Feeds `text` in pieces of `piece` bytes. */
static struct seen feed(struct http_reader *reader, const char *text, size_t piece)
{
    struct seen seen = {.last = HTTP_MORE};
    size_t left = strlen(text);
    while (left > 0 && seen.last != HTTP_BROKEN) {
        size_t count = piece < left ? piece : left;
        const uint8_t *bytes = (const uint8_t *)text;
        text += count;
        left -= count;
        do {
            size_t taken = http_reader_feed(reader, bytes, count, &seen.last);
            assert_true(taken <= count);
            bytes += taken;
            count -= taken;
            if (seen.last == HTTP_HEAD) {
                seen.heads++;
                seen.status = reader->status;
                seen.length = reader->length;
                seen.has_length = reader->has_length;
            }
            seen.done += seen.last == HTTP_DONE;
        } while (seen.last != HTTP_BROKEN && (count > 0 || seen.last == HTTP_HEAD));
    }
    return seen;
}

static void an_answer_is_understood_however_it_is_cut(void **state)
{
    (void)state;
    static const char text[] = "HTTP/1.1 200 OK\r\nServer: x\r\nCONTENT-length:  5\r\nX-Content-Length: 9\r\n\r\nhello";
    for (size_t piece = 1; piece <= sizeof(text); piece++) {
        struct http_reader reader;
        http_reader_init(&reader);
        struct seen seen = feed(&reader, text, piece);
        assert_int_equal(seen.heads, 1);
        assert_int_equal(seen.done, 1);
        assert_int_equal(seen.status, 200);
        assert_int_equal(seen.length, 5);
        assert_true(seen.has_length);
    }
}

static void answers_on_one_connection_are_told_apart(void **state)
{
    (void)state;
    struct http_reader reader;
    http_reader_init(&reader);
    struct seen seen = feed(&reader,
                            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
                            "HTTP/1.1 204 No Content\r\n\r\n"
                            "HTTP/1.1 404 Not Found\nContent-Length: 0\n\n"
                            "HTTP/1.0 500 x\r\nContent-Length: 2\r\n\r\nab",
                            7);
    assert_int_equal(seen.heads, 4);
    assert_int_equal(seen.done, 4);
    assert_int_equal(seen.status, 500);
}

static void an_answer_without_a_length_lasts_until_the_end(void **state)
{
    (void)state;
    struct http_reader reader;
    http_reader_init(&reader);
    struct seen seen = feed(&reader, "HTTP/1.1 200 OK\r\nContent-Lengthy: 3\r\n\r\nabcdef", 100);
    assert_int_equal(seen.heads, 1);
    assert_int_equal(seen.done, 0);
    assert_false(seen.has_length);
    assert_int_equal(reader.body, 6);
}

static void what_is_not_http_is_broken(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "HTTQ/1.1 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1  200\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        for (size_t piece = 1; piece < 60; piece += 9) {
            struct http_reader reader;
            http_reader_init(&reader);
            assert_int_equal(feed(&reader, texts[i], piece).last, HTTP_BROKEN);
        }
    }
}

static void a_head_without_end_is_broken(void **state)
{
    (void)state;
    struct http_reader reader;
    enum http_event event = HTTP_MORE;
    uint64_t fed = 0;
    http_reader_init(&reader);
    feed(&reader, "HTTP/1.1 200 OK\r\nX: ", 100);
    while (event != HTTP_BROKEN && fed <= HTTP_HEAD_MAX_BYTES) {
        (void)http_reader_feed(&reader, (const uint8_t *)"aaaaaaaaaaaaaaaa", 16, &event);
        fed += 16;
    }
    assert_int_equal(event, HTTP_BROKEN);
    assert_true(fed <= HTTP_HEAD_MAX_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_understood_however_it_is_cut),
        cmocka_unit_test(answers_on_one_connection_are_told_apart),
        cmocka_unit_test(an_answer_without_a_length_lasts_until_the_end),
        cmocka_unit_test(what_is_not_http_is_broken),
        cmocka_unit_test(a_head_without_end_is_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
