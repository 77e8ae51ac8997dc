/* State as bytes: see pack.h. A pack owns its memory; an unpack owns nothing. */
#include "mux/pack.h"

#include <string.h>

#include "mux/chain.h"
#include "mux/memory.h"

#define PACK_BYTES_MIN 4096U

/* ------------------------------------------------------------------------------------------------ writing */

void pack_dispose(struct pack *pack)
{
    if (pack->bytes != NULL) {
        memory_wipe(pack->bytes, pack->capacity);
        memory_free(pack->bytes);
    }
    pack_init(pack);
}

void pack_cut(struct pack *pack, size_t length)
{
    if (length < pack->length) {
        memory_wipe(pack->bytes + length, pack->length - length);
        pack->length = length;
    }
}

void pack_clear(struct pack *pack)
{
    pack_cut(pack, 0);
    pack->failed = false;
}

/* Room for so many bytes behind what there is; NULL when memory is out. Not realloc: that would leave keys behind. */
static uint8_t *pack_reserve(struct pack *pack, size_t length)
{
    if (pack->failed) {
        return NULL;
    }
    if (pack->capacity - pack->length < length) {
        size_t capacity = pack->capacity < PACK_BYTES_MIN ? PACK_BYTES_MIN : pack->capacity;
        while (capacity - pack->length < length) {
            capacity *= 2;
        }
        uint8_t *bytes = memory_alloc(capacity);
        if (bytes == NULL) {
            pack->failed = true;
            return NULL;
        }
        if (pack->bytes != NULL) {
            memcpy(bytes, pack->bytes, pack->length);
            memory_wipe(pack->bytes, pack->capacity);
            memory_free(pack->bytes);
        }
        pack->bytes = bytes;
        pack->capacity = capacity;
    }
    uint8_t *place = pack->bytes + pack->length;
    pack->length += length;
    return place;
}

static void pack_number(struct pack *pack, uint64_t value, unsigned bytes)
{
    uint8_t *place = pack_reserve(pack, bytes);
    for (unsigned i = 0; place != NULL && i < bytes; i++) {
        place[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
    }
}

void pack_u8(struct pack *pack, uint8_t value)
{
    pack_number(pack, value, 1);
}

void pack_u16(struct pack *pack, uint16_t value)
{
    pack_number(pack, value, 2);
}

void pack_u32(struct pack *pack, uint32_t value)
{
    pack_number(pack, value, 4);
}

void pack_u64(struct pack *pack, uint64_t value)
{
    pack_number(pack, value, 8);
}

void pack_raw(struct pack *pack, const void *bytes, size_t length)
{
    uint8_t *place = length > 0 ? pack_reserve(pack, length) : NULL;
    if (place != NULL) {
        memcpy(place, bytes, length);
    }
}

void pack_bytes(struct pack *pack, const void *bytes, size_t length)
{
    pack_u32(pack, (uint32_t)length);
    pack_raw(pack, bytes, length);
}

void pack_text(struct pack *pack, const char *text)
{
    pack_bytes(pack, text, text != NULL ? strlen(text) : 0);
}

void pack_chain(struct pack *pack, const struct chain *chain)
{
    size_t length = chain_bytes(chain);
    pack_u32(pack, (uint32_t)length);
    uint8_t *place = length > 0 ? pack_reserve(pack, length) : NULL;
    if (place != NULL) {
        (void)chain_copy(chain, 0, place, length);
    }
}

/* ------------------------------------------------------------------------------------------------ reading */

const uint8_t *unpack_raw(struct unpack *unpack, size_t length)
{
    if (unpack->failed || unpack->left < length) {
        unpack_fail(unpack);
        return NULL;
    }
    const uint8_t *bytes = unpack->bytes;
    unpack->bytes += length;
    unpack->left -= length;
    return bytes;
}

static uint64_t unpack_number(struct unpack *unpack, unsigned bytes)
{
    const uint8_t *place = unpack_raw(unpack, bytes);
    uint64_t value = 0;
    for (unsigned i = 0; place != NULL && i < bytes; i++) {
        value = value << 8 | place[i];
    }
    return value;
}

uint8_t unpack_u8(struct unpack *unpack)
{
    return (uint8_t)unpack_number(unpack, 1);
}

uint16_t unpack_u16(struct unpack *unpack)
{
    return (uint16_t)unpack_number(unpack, 2);
}

uint32_t unpack_u32(struct unpack *unpack)
{
    return (uint32_t)unpack_number(unpack, 4);
}

uint64_t unpack_u64(struct unpack *unpack)
{
    return unpack_number(unpack, 8);
}

const uint8_t *unpack_bytes(struct unpack *unpack, size_t *length)
{
    *length = unpack_u32(unpack);
    const uint8_t *bytes = unpack_raw(unpack, *length);
    if (bytes == NULL) {
        *length = 0;
    }
    return bytes;
}

char *unpack_text(struct unpack *unpack, size_t length_max)
{
    size_t length = 0;
    const uint8_t *bytes = unpack_bytes(unpack, &length);
    if (bytes == NULL) {
        return NULL;
    }
    char *text = NULL;
    if (length <= length_max && memchr(bytes, 0, length) == NULL) {
        text = memory_strndup((const char *)bytes, length);
    }
    if (text == NULL) {
        unpack_fail(unpack);
    }
    return text;
}

bool unpack_chain(struct unpack *unpack, struct chain *chain)
{
    size_t length = 0;
    const uint8_t *bytes = unpack_bytes(unpack, &length);
    if (bytes != NULL && length > 0 && chain_append(chain, bytes, length) != ERROR_NONE) {
        unpack_fail(unpack);
    }
    return !unpack->failed;
}
