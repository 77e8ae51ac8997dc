/* The PROXY protocol, version 2: tells a backend who the client is, in front of the client's bytes. */
#ifndef CORE_HANDLERS_PROXY_HEADER_H
#define CORE_HANDLERS_PROXY_HEADER_H

#include <stddef.h>
#include <stdint.h>

#include "trunkline.h"

#define PROXY_HEADER_MAX_BYTES 1024U

/* Writes the header of this client: its address and the listener's, and TLVs for ALPN, authority (SNI) and TLS.
 * Returns its length. */
size_t proxy_header_make(const trunkline_client *client, uint8_t into[PROXY_HEADER_MAX_BYTES]);

#endif
