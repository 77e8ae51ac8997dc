/* Unit tests of the load generator's HTTP reader: answers in any pieces, and everything that is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tests/load/http.h"

#define BODY_MAX 64

/* What the reader has told. */
static struct {
    unsigned heads;
    unsigned done;
    unsigned status;
    uint64_t body_bytes; /* of the last answer that was complete */
    bool bounded;
    enum error_code head_error; /* what `head` returns */
    enum error_code body_error;
    size_t length;
    char body[BODY_MAX]; /* of all answers */
} told;

static enum error_code on_head(struct http_reader *reader)
{
    told.heads++;
    told.status = reader->parser.status_code;
    told.bounded = http_reader_bounded(reader);
    return told.head_error;
}

static enum error_code on_body(struct http_reader *reader, const uint8_t *bytes, size_t length)
{
    (void)reader;
    assert_true(told.length + length < BODY_MAX);
    memcpy(told.body + told.length, bytes, length);
    told.length += length;
    return told.body_error;
}

static void on_done(struct http_reader *reader)
{
    told.done++;
    told.body_bytes = reader->body_bytes;
}

static const struct http_events events = {.head = on_head, .body = on_body, .done = on_done};

/* Feeds `text` in pieces of `piece` bytes up to the first error. */
static enum error_code feed(struct http_reader *reader, const char *text, size_t piece)
{
    size_t left = strlen(text);
    while (left > 0) {
        size_t count = piece < left ? piece : left;
        size_t taken = 0;
        unsigned done = told.done;
        enum error_code error = http_reader_feed(reader, &events, (const uint8_t *)text, count, &taken);
        if (error != ERROR_NONE) {
            return error;
        }
        assert_true(taken == count || (taken < count && taken > 0 && told.done == done + 1));
        text += taken;
        left -= taken;
    }
    return ERROR_NONE;
}

/* The same with a new reader, when nothing has been told. */
static enum error_code read_text(const char *text, size_t piece)
{
    struct http_reader reader;
    memset(&told, 0, sizeof(told));
    http_reader_init(&reader);
    return feed(&reader, text, piece);
}

static void an_answer_is_understood_however_it_is_cut(void **state)
{
    (void)state;
    static const char text[] = "HTTP/1.1 200 OK\r\nServer: x\r\nCONTENT-length:  5\r\nX-Content-Length: 9\r\n\r\nhello";
    for (size_t piece = 1; piece <= sizeof(text); piece++) {
        assert_int_equal(read_text(text, piece), ERROR_NONE);
        assert_int_equal(told.heads, 1);
        assert_int_equal(told.done, 1);
        assert_int_equal(told.status, 200);
        assert_int_equal(told.body_bytes, 5);
        assert_string_equal(told.body, "hello");
        assert_true(told.bounded);
    }
}

static void chunks_are_put_together(void **state)
{
    (void)state;
    static const char text[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                               "4\r\nwiki\r\nA;name=value\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
                               "HTTP/1.1 204 No Content\r\n\r\n";
    for (size_t piece = 1; piece <= sizeof(text); piece++) {
        assert_int_equal(read_text(text, piece), ERROR_NONE);
        assert_int_equal(told.heads, 2);
        assert_int_equal(told.done, 2);
        assert_int_equal(told.status, 204);
        assert_string_equal(told.body, "wiki0123456789");
    }
}

static void interim_answers_are_passed_over(void **state)
{
    (void)state;
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
                               "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
    for (size_t piece = 1; piece <= sizeof(text); piece++) {
        assert_int_equal(read_text(text, piece), ERROR_NONE);
        assert_int_equal(told.heads, 1);
        assert_int_equal(told.done, 1);
        assert_int_equal(told.status, 200);
        assert_string_equal(told.body, "ab");
    }
}

static void a_switch_of_protocols_is_an_answer_like_another(void **state)
{
    (void)state;
    static const char text[] = "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n";
    for (size_t piece = 1; piece <= sizeof(text); piece++) {
        assert_int_equal(read_text(text, piece), ERROR_NONE);
        assert_int_equal(told.heads, 1);
        assert_int_equal(told.done, 1);
        assert_int_equal(told.status, 101);
    }
}

static void answers_on_one_connection_are_told_apart(void **state)
{
    (void)state;
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
                               "HTTP/1.1 204 No Content\r\n\r\n"
                               "HTTP/1.1 404 Not Found\nContent-Length: 0\n\n"
                               "HTTP/1.0 500 x\r\nContent-Length: 2\r\n\r\nde";
    for (size_t piece = 1; piece <= sizeof(text); piece++) {
        assert_int_equal(read_text(text, piece), ERROR_NONE);
        assert_int_equal(told.heads, 4);
        assert_int_equal(told.done, 4);
        assert_int_equal(told.status, 500);
        assert_int_equal(told.body_bytes, 2);
        assert_string_equal(told.body, "abcde");
    }
}

static void an_answer_without_a_length_lasts_until_the_end(void **state)
{
    (void)state;
    assert_int_equal(read_text("HTTP/1.1 200 OK\r\nContent-Lengthy: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n", 5),
                     ERROR_NONE);
    assert_int_equal(told.heads, 1);
    assert_int_equal(told.done, 0);
    assert_false(told.bounded);
    assert_string_equal(told.body, "abcHTTP/1.1 200 OK\r\n\r\n");
}

static void the_owner_can_refuse_a_head_or_a_body(void **state)
{
    (void)state;
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    struct http_reader reader;
    memset(&told, 0, sizeof(told));
    told.head_error = ERROR_LIMIT;
    http_reader_init(&reader);
    assert_int_equal(feed(&reader, text, 100), ERROR_LIMIT);
    assert_int_equal(told.length, 0);
    memset(&told, 0, sizeof(told));
    told.body_error = ERROR_STATE;
    http_reader_init(&reader);
    assert_int_equal(feed(&reader, text, 100), ERROR_STATE);
    assert_int_equal(told.done, 0);
}

static void what_is_not_http_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "HTTQ/1.1 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "HTT\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTQ/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 999 OK\r\n\r\n",
        "HTTP/1.1 1200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n",
        "<html>an answer without a head</html>",
        "hello",
        "\x16\x03\x01",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        for (size_t piece = 1; piece < 60; piece++) {
            if (read_text(texts[i], piece) != ERROR_INVALID) {
                fail_msg("accepted in pieces of %zu: %s", piece, texts[i]);
            }
        }
    }
}

static void a_head_without_end_is_refused(void **state)
{
    (void)state;
    static const char *const starts[] = {"HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 ", "HTTP/1.1 200 OK\r\n",
                                         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: "};
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        struct http_reader reader;
        uint64_t fed = 0;
        memset(&told, 0, sizeof(told));
        http_reader_init(&reader);
        enum error_code error = feed(&reader, starts[i], 100);
        while (error == ERROR_NONE && fed <= 2 * HTTP_HEAD_MAX_BYTES) {
            error = feed(&reader, "aaaaaaaaaaaaaaaa", 16);
            fed += 16;
        }
        assert_int_equal(error, ERROR_INVALID);
        assert_true(fed <= HTTP_HEAD_MAX_BYTES + 16);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_understood_however_it_is_cut),
        cmocka_unit_test(chunks_are_put_together),
        cmocka_unit_test(interim_answers_are_passed_over),
        cmocka_unit_test(a_switch_of_protocols_is_an_answer_like_another),
        cmocka_unit_test(answers_on_one_connection_are_told_apart),
        cmocka_unit_test(an_answer_without_a_length_lasts_until_the_end),
        cmocka_unit_test(the_owner_can_refuse_a_head_or_a_body),
        cmocka_unit_test(what_is_not_http_is_refused),
        cmocka_unit_test(a_head_without_end_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
