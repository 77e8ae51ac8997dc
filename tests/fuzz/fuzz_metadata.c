/*
 * libFuzzer: header fields of a CONNECT request, and the trunk's greeting. The input is lines of "name NUL value LF";
 * what parses must survive a copy and another round of encoding.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mux/memory.h"
#include "mux/metadata_pool.h"
#include "mux/trunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void feed(struct metadata_parser *parser, const char *text, size_t size)
{
    const char *end = text + size;
    while (text < end) {
        const char *line_end = memchr(text, '\n', (size_t)(end - text));
        line_end = line_end != NULL ? line_end : end;
        const char *split = memchr(text, 0, (size_t)(line_end - text));
        if (split != NULL) {
            metadata_parse_field(parser, text, (size_t)(split - text), split + 1, (size_t)(line_end - split - 1));
        }
        text = line_end < end ? line_end + 1 : end;
    }
}

/* What was accepted can be encoded again, and is the same then. */
static void check_round(const struct metadata *metadata)
{
    static char room[METADATA_ENCODE_BYTES + 4 * METADATA_CERTIFICATE_MAX / 3 + 8];
    struct metadata_field fields[METADATA_FIELDS_MAX];
    size_t count = 0;
    struct metadata_parser again;
    if (metadata_encode(metadata, room, sizeof(room), fields, &count) != ERROR_NONE ||
        metadata_parser_init(&again, 65536) != ERROR_NONE) {
        abort();
    }
    metadata_parse_begin(&again);
    for (size_t i = 0; i < count; i++) {
        metadata_parse_field(&again, fields[i].name, fields[i].name_length, fields[i].value, fields[i].value_length);
    }
    if (metadata_parse_end(&again) != ERROR_NONE || strcmp(again.view.service, metadata->service) != 0 ||
        strcmp(again.view.server_name, metadata->server_name) != 0 || strcmp(again.view.alpn, metadata->alpn) != 0 ||
        memcmp(&again.view.client, &metadata->client, sizeof(metadata->client)) != 0 ||
        again.view.certificate_length != metadata->certificate_length) {
        abort();
    }
    metadata_parser_dispose(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t edge_worker = 0;
    (void)trunk_greeting_parse(data, size, &edge_worker);
    struct metadata_parser parser;
    if (metadata_parser_init(&parser, 16384) != ERROR_NONE) {
        abort();
    }
    metadata_parse_begin(&parser);
    feed(&parser, (const char *)data, size);
    if (metadata_parse_end(&parser) == ERROR_NONE) {
        struct metadata_pool pool;
        metadata_pool_init(&pool, size);
        struct metadata_shared *shared = metadata_pool_share(&pool, &parser.view);
        if (shared == NULL) {
            abort();
        }
        struct metadata copy = shared->view;
        copy.client = parser.view.client;
        if (copy.client.family != 0 || copy.listener.family == 0) {
            check_round(&copy);
        }
        metadata_shared_release(&shared);
        metadata_pool_dispose(&pool);
    }
    metadata_parser_dispose(&parser);
    return 0;
}
