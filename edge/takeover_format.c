/* Messages of a takeover as bytes: see takeover_format.h. */
#include "edge/takeover_format.h"

#include <string.h>

#include "mux/limits.h"
#include "mux/memory.h"

#define HELLO_MAGIC 0x54726b54U /* "TrkT" */

/* ------------------------------------------------------------------------------------------------ header */

void takeover_header_write(uint8_t header[TAKEOVER_HEADER_BYTES], enum takeover_message message, size_t sockets,
                           size_t length)
{
    header[0] = (uint8_t)message;
    header[1] = 0;
    header[2] = (uint8_t)(sockets >> 8);
    header[3] = (uint8_t)sockets;
    for (unsigned i = 0; i < 4; i++) {
        header[4 + i] = (uint8_t)(length >> (24 - 8 * i));
    }
}

enum error_code takeover_header_read(const uint8_t header[TAKEOVER_HEADER_BYTES], enum takeover_message *message,
                                     size_t *sockets, size_t *length)
{
    struct unpack unpack;
    unpack_init(&unpack, header, TAKEOVER_HEADER_BYTES);
    uint8_t number = unpack_u8(&unpack);
    uint8_t unused = unpack_u8(&unpack);
    *sockets = unpack_u16(&unpack);
    *length = unpack_u32(&unpack);
    *message = (enum takeover_message)number;
    bool possible = number >= TAKEOVER_HELLO && number <= TAKEOVER_DONE && unused == 0 &&
                    *length <= LIMIT_TAKEOVER_FRAME_BYTES &&
                    (*sockets == 0 || (number >= TAKEOVER_WORKER && number <= TAKEOVER_END));
    return possible ? ERROR_NONE : ERROR_INVALID;
}

/* ------------------------------------------------------------------------------------------------ texts */

enum error_code takeover_texts_add(struct takeover_texts *texts, const char *text)
{
    char **items = memory_realloc(texts->items, (texts->count + 1) * sizeof(*items));
    if (items == NULL) {
        return ERROR_NO_MEMORY;
    }
    texts->items = items;
    items[texts->count] = memory_strdup(text);
    if (items[texts->count] == NULL) {
        return ERROR_NO_MEMORY;
    }
    texts->count++;
    return ERROR_NONE;
}

void takeover_texts_dispose(struct takeover_texts *texts)
{
    for (size_t i = 0; i < texts->count; i++) {
        memory_free(texts->items[i]);
    }
    memory_free(texts->items);
    *texts = (struct takeover_texts){NULL, 0};
}

size_t takeover_texts_find(const struct takeover_texts *texts, const char *text)
{
    for (size_t i = 0; i < texts->count; i++) {
        if (strcmp(texts->items[i], text) == 0) {
            return i;
        }
    }
    return SIZE_MAX;
}

static void texts_write(const struct takeover_texts *texts, struct pack *pack)
{
    pack_u16(pack, (uint16_t)texts->count);
    for (size_t i = 0; i < texts->count; i++) {
        pack_text(pack, texts->items[i]);
    }
}

static enum error_code texts_read(struct takeover_texts *texts, struct unpack *unpack)
{
    size_t count = unpack_u16(unpack);
    enum error_code error = count <= TAKEOVER_TEXTS_MAX ? ERROR_NONE : ERROR_INVALID;
    for (size_t i = 0; error == ERROR_NONE && i < count; i++) {
        char *text = unpack_text(unpack, TAKEOVER_TEXT_MAX);
        error = text != NULL ? takeover_texts_add(texts, text) : ERROR_INVALID;
        memory_free(text);
    }
    return error;
}

/* Nothing may be left over. */
static enum error_code end_of(const struct unpack *unpack, enum error_code error)
{
    return error == ERROR_NONE && (unpack->failed || unpack->left > 0) ? ERROR_INVALID : error;
}

/* ------------------------------------------------------------------------------------------------ messages */

void takeover_hello_write(const struct takeover_hello *hello, struct pack *pack)
{
    pack_u32(pack, HELLO_MAGIC);
    pack_u16(pack, hello->version_oldest);
    pack_u16(pack, hello->version);
    pack_u32(pack, hello->workers);
    pack_u8(pack, hello->resumes);
    pack_text(pack, hello->trunk_name);
    texts_write(&hello->cores, pack);
}

enum error_code takeover_hello_read(struct takeover_hello *hello, const uint8_t *bytes, size_t length)
{
    struct unpack unpack;
    unpack_init(&unpack, bytes, length);
    *hello = (struct takeover_hello){0};
    uint32_t magic = unpack_u32(&unpack);
    hello->version_oldest = unpack_u16(&unpack);
    hello->version = unpack_u16(&unpack);
    if (magic != HELLO_MAGIC || unpack.failed) {
        return ERROR_INVALID;
    }
    if (hello->version_oldest > TAKEOVER_VERSION || hello->version < TAKEOVER_VERSION) {
        return ERROR_NONE; /* to be refused: the rest may be anything */
    }
    hello->workers = unpack_u32(&unpack);
    hello->resumes = unpack_u8(&unpack) != 0;
    hello->trunk_name = unpack_text(&unpack, TAKEOVER_TEXT_MAX);
    enum error_code error = hello->trunk_name != NULL ? texts_read(&hello->cores, &unpack) : ERROR_INVALID;
    error = end_of(&unpack, error);
    if (error != ERROR_NONE) {
        takeover_hello_dispose(hello);
    }
    return error;
}

void takeover_hello_dispose(struct takeover_hello *hello)
{
    memory_free(hello->trunk_name);
    hello->trunk_name = NULL;
    takeover_texts_dispose(&hello->cores);
}

void takeover_welcome_write(const struct takeover_welcome *welcome, struct pack *pack)
{
    pack_u16(pack, welcome->version);
    pack_u32(pack, welcome->identity);
    texts_write(&welcome->listens, pack);
}

enum error_code takeover_welcome_read(struct takeover_welcome *welcome, const uint8_t *bytes, size_t length)
{
    struct unpack unpack;
    unpack_init(&unpack, bytes, length);
    *welcome = (struct takeover_welcome){0};
    welcome->version = unpack_u16(&unpack);
    if (unpack.failed || welcome->version < TAKEOVER_VERSION_OLDEST || welcome->version > TAKEOVER_VERSION) {
        return ERROR_INVALID;
    }
    welcome->identity = unpack_u32(&unpack);
    enum error_code error = end_of(&unpack, texts_read(&welcome->listens, &unpack));
    if (error != ERROR_NONE) {
        takeover_welcome_dispose(welcome);
    }
    return error;
}

void takeover_welcome_dispose(struct takeover_welcome *welcome)
{
    takeover_texts_dispose(&welcome->listens);
}

void takeover_ready_write(const struct takeover_ready *ready, struct pack *pack)
{
    pack_u16(pack, (uint16_t)ready->listener_count);
    for (size_t i = 0; i < ready->listener_count; i++) {
        pack_u16(pack, ready->listeners[i]);
    }
    pack_bytes(pack, ready->up, ready->up_count);
}

enum error_code takeover_ready_read(struct takeover_ready *ready, const uint8_t *bytes, size_t length)
{
    struct unpack unpack;
    unpack_init(&unpack, bytes, length);
    ready->listener_count = unpack_u16(&unpack);
    if (ready->listener_count > TAKEOVER_TEXTS_MAX) {
        return ERROR_INVALID;
    }
    for (size_t i = 0; i < ready->listener_count; i++) {
        ready->listeners[i] = unpack_u16(&unpack);
    }
    ready->up = unpack_bytes(&unpack, &ready->up_count);
    return end_of(&unpack, ERROR_NONE);
}

void takeover_count_write(uint64_t count, struct pack *pack)
{
    pack_u64(pack, count);
}

enum error_code takeover_count_read(uint64_t *count, const uint8_t *bytes, size_t length)
{
    struct unpack unpack;
    unpack_init(&unpack, bytes, length);
    *count = unpack_u64(&unpack);
    return end_of(&unpack, ERROR_NONE);
}

void takeover_worker_write(const struct takeover_worker *worker, struct pack *pack)
{
    pack_u32(pack, worker->index);
    pack_u64(pack, worker->numbered);
    pack_raw(pack, worker->secret, sizeof(worker->secret));
    pack_u16(pack, (uint16_t)worker->listener_count);
    for (size_t i = 0; i < worker->listener_count; i++) {
        pack_u16(pack, worker->listeners[i]);
    }
}

enum error_code takeover_worker_read(struct takeover_worker *worker, const uint8_t *bytes, size_t length)
{
    struct unpack unpack;
    unpack_init(&unpack, bytes, length);
    worker->index = unpack_u32(&unpack);
    worker->numbered = unpack_u64(&unpack);
    const uint8_t *secret = unpack_raw(&unpack, sizeof(worker->secret));
    worker->listener_count = unpack_u16(&unpack);
    if (secret == NULL || worker->listener_count > TAKEOVER_TEXTS_MAX) {
        return ERROR_INVALID;
    }
    memcpy(worker->secret, secret, sizeof(worker->secret));
    for (size_t i = 0; i < worker->listener_count; i++) {
        worker->listeners[i] = unpack_u16(&unpack);
    }
    return end_of(&unpack, ERROR_NONE);
}
