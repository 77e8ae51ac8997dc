/*
 * Ids of sessions that nobody can guess and nobody has to keep: HMAC-SHA256 of a number under a secret, cut to 128
 * bits. No state; any thread.
 */
#include <string.h>

#include <gnutls/crypto.h>

#include "mux/memory.h"
#include "mux/tls.h"

bool tls_session_number_seal(const uint8_t secret[TLS_SESSION_SECRET_BYTES], uint64_t number,
                             uint8_t id[TLS_SESSION_ID_BYTES])
{
    uint8_t input[8];
    uint8_t digest[32];
    for (int i = 0; i < 8; i++) {
        input[i] = (uint8_t)(number >> (56 - 8 * i));
    }
    if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, TLS_SESSION_SECRET_BYTES, input, sizeof(input), digest) < 0) {
        return false;
    }
    memcpy(id, digest, TLS_SESSION_ID_BYTES);
    memory_wipe(digest, sizeof(digest));
    return true;
}
