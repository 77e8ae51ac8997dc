/* The little that handlers need of an X.509 certificate (RFC 5280), without a TLS library. */
#ifndef CORE_HANDLERS_CERTIFICATE_H
#define CORE_HANDLERS_CERTIFICATE_H

#include <stddef.h>
#include <stdint.h>

/* Writes the last common name of the subject, zero-terminated and cut to `capacity`; "" when there is none or the
 * certificate is malformed. Returns its length. */
size_t certificate_common_name(const uint8_t *der, size_t length, char *into, size_t capacity);

#endif
