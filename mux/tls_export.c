/*
 * Established connections that go on in another process: see mux/tls.h. A server's are nothing but their record layer.
 * No state; any thread.
 */
#include "mux/tls_backend.h"

#include <string.h>

#include "mux/slab_group.h"

enum error_code tls_export(const struct tls_session *tls, struct pack *pack)
{
    if (!tls_established(tls) || tls->backend->resumable || !tls_open_of(tls)->record.server ||
        tls_open_of(tls)->record.error != ERROR_NONE) {
        return ERROR_STATE;
    }
    record_export(&tls_open_of(tls)->record, pack);
    return pack->failed ? ERROR_NO_MEMORY : ERROR_NONE;
}

enum error_code tls_import(struct tls_session *tls, struct unpack *unpack, struct slab_group *memory)
{
    enum tls_cipher_suite suite = TLS_CIPHER_AES_128_GCM;
    bool version_13 = false;

    tls->backend = NULL;
    if (!record_import_suite(unpack, &suite, &version_13)) {
        return ERROR_INVALID;
    }
    struct tls_open *open = slab_group_alloc(memory, sizeof(*open) + record_material_bytes(suite, version_13));
    if (open == NULL) {
        return ERROR_NO_MEMORY;
    }
    enum error_code error = record_import(&open->record, unpack);
    if (error == ERROR_NONE && !open->record.server) {
        record_dispose(&open->record);
        error = ERROR_INVALID;
    }
    if (error != ERROR_NONE) {
        slab_group_free(open);
        return error;
    }
    tls->backend = (struct tls_backend *)(void *)open;
    tls->backend->state = TLS_OPEN;
    tls->backend->resumable = 0;
    return ERROR_NONE;
}
