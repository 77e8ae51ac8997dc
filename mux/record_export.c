/*
 * A connection of the record layer that goes on in another process: all that it is, as bytes and back. What comes is
 * from a process of the same user, and checked all the same: nothing in it may lead outside of what the record layer
 * itself could have come to. No state; as mux/record.h on threads and ownership.
 */
#include "mux/record_internal.h"

#include <assert.h>
#include <string.h>

#include "mux/memory.h"

/* Bits of the second byte. */
enum {
    EXPORT_SERVER = 1,
    EXPORT_VERSION_13 = 2,
    EXPORT_INPUT_ENDED = 4,
    EXPORT_OUTPUT_ENDED = 8,
    EXPORT_UPDATE_DUE = 16,
    EXPORT_UPDATE_ASKED = 32,
    EXPORT_SIZE_MUTUAL = 64,
    EXPORT_ALERT_RECEIVED = 128,
};

static uint8_t export_flags(const struct record_state *record)
{
    unsigned flags = 0;
    flags |= record->server ? EXPORT_SERVER : 0U;
    flags |= record->version_13 ? EXPORT_VERSION_13 : 0U;
    flags |= record->input == RECORD_ENDED ? EXPORT_INPUT_ENDED : 0U;
    flags |= record->output == RECORD_ENDED ? EXPORT_OUTPUT_ENDED : 0U;
    flags |= record->key_update_due ? EXPORT_UPDATE_DUE : 0U;
    flags |= record->key_update_asked ? EXPORT_UPDATE_ASKED : 0U;
    flags |= record->size_mutual ? EXPORT_SIZE_MUTUAL : 0U;
    flags |= record->alert_received ? EXPORT_ALERT_RECEIVED : 0U;
    return (uint8_t)flags;
}

static void export_partial(const struct record_partial *partial, struct pack *pack)
{
    pack_u8(pack, partial != NULL);
    if (partial != NULL) {
        pack_u32(pack, partial->begun.skip_bytes);
        pack_bytes(pack, partial->begun.message, partial->begun.message_length);
        pack_u8(pack, partial->begun.alert_begun);
        pack_u8(pack, partial->begun.alert_level);
        pack_bytes(pack, partial->bytes, partial->length);
    }
}

void record_export(const struct record_state *record, struct pack *pack)
{
    const uint8_t *material = (const uint8_t *)(record + 1);

    assert(record->error == ERROR_NONE && "there is nothing to go on with");
    pack_u8(pack, record->suite);
    pack_u8(pack, export_flags(record));
    pack_u8(pack, record->alert);
    pack_u16(pack, record->size_less_one);
    pack_u16(pack, record->idle_records);
    pack_u8(pack, record->warning_alerts);
    pack_u64(pack, record->sequence[RECORD_READ]);
    pack_u64(pack, record->sequence[RECORD_WRITE]);
    pack_raw(pack, material, record_material_bytes((enum tls_cipher_suite)record->suite, record->version_13));
    export_partial(record->partial, pack);
}

bool record_import_suite(const struct unpack *unpack, enum tls_cipher_suite *suite, bool *version_13)
{
    if (unpack->failed || unpack->left < 2 || unpack->bytes[0] >= TLS_CIPHER_SUITE_COUNT) {
        return false;
    }
    *suite = (enum tls_cipher_suite)unpack->bytes[0];
    *version_13 = (unpack->bytes[1] & EXPORT_VERSION_13) != 0;
    return true;
}

static void import_flags(struct record_state *record, uint8_t flags)
{
    record->server = (flags & EXPORT_SERVER) != 0;
    record->version_13 = (flags & EXPORT_VERSION_13) != 0;
    record->input = (flags & EXPORT_INPUT_ENDED) != 0; /* RECORD_ENDED */
    record->output = (flags & EXPORT_OUTPUT_ENDED) != 0;
    record->key_update_due = (flags & EXPORT_UPDATE_DUE) != 0;
    record->key_update_asked = (flags & EXPORT_UPDATE_ASKED) != 0;
    record->size_mutual = (flags & EXPORT_SIZE_MUTUAL) != 0;
    record->alert_received = (flags & EXPORT_ALERT_RECEIVED) != 0;
}

/* A record is incomplete only as long as its header says so, and only if that passed. */
static bool partial_bytes_possible(const struct record_state *record, const uint8_t *bytes, size_t length)
{
    static const struct record_events silent = {.output = NULL};
    const struct record_sink sink = {.events = &silent, .owner = NULL};
    struct record_state probe = *record;

    if (length < RECORD_HEADER_BYTES) {
        return true;
    }
    probe.output = RECORD_ENDED; /* the probe sends no alert */
    probe.partial = NULL;
    return record_check_header(&probe, &sink, bytes) == ERROR_NONE &&
           length < RECORD_HEADER_BYTES + ((size_t)bytes[3] << 8 | bytes[4]);
}

static enum error_code import_partial(struct record_state *record, struct unpack *unpack)
{
    struct record_begun begun = {0};
    size_t length = 0;
    size_t message_length = 0;

    if (unpack_u8(unpack) == 0) {
        return unpack->failed ? ERROR_INVALID : ERROR_NONE;
    }
    begun.skip_bytes = unpack_u32(unpack);
    const uint8_t *message = unpack_bytes(unpack, &message_length);
    begun.alert_begun = unpack_u8(unpack) != 0;
    begun.alert_level = unpack_u8(unpack);
    const uint8_t *bytes = unpack_bytes(unpack, &length);
    if (unpack->failed || message_length >= sizeof(begun.message) || begun.skip_bytes > RECORD_TICKET_BYTES_MAX ||
        !partial_bytes_possible(record, bytes, length)) {
        return ERROR_INVALID;
    }
    memcpy(begun.message, message, message_length);
    begun.message_length = (uint8_t)message_length;
    if (record_partial_reserve(record, length, RECORD_BYTES_MAX) != ERROR_NONE) {
        return ERROR_NO_MEMORY;
    }
    record->partial->begun = begun;
    record->partial->length = (uint32_t)length;
    memcpy(record->partial->bytes, bytes, length);
    return ERROR_NONE;
}

enum error_code record_import(struct record_state *record, struct unpack *unpack)
{
    memset(record, 0, sizeof(*record));
    record->suite = unpack_u8(unpack) & 3U;
    import_flags(record, unpack_u8(unpack));
    record->alert = unpack_u8(unpack);
    record->size_less_one = unpack_u16(unpack) & 0x3fffU;
    record->idle_records = unpack_u16(unpack) & 0x7ffU;
    record->warning_alerts = unpack_u8(unpack) & 0x1fU;
    record->sequence[RECORD_READ] = unpack_u64(unpack);
    record->sequence[RECORD_WRITE] = unpack_u64(unpack);
    if (unpack->failed || record->suite >= TLS_CIPHER_SUITE_COUNT) {
        record->suite = TLS_CIPHER_AES_128_GCM;
        return ERROR_INVALID;
    }
    size_t material_bytes = record_material_bytes((enum tls_cipher_suite)record->suite, record->version_13);
    const uint8_t *material = unpack_raw(unpack, material_bytes);
    if (material == NULL) {
        return ERROR_INVALID;
    }
    memcpy((uint8_t *)(record + 1), material, material_bytes);
    enum error_code error = import_partial(record, unpack);
    if (error != ERROR_NONE) {
        record_dispose(record);
    }
    return error;
}
