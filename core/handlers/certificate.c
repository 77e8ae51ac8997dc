/*
 * Finds the subject's common name in a certificate. The certificate was verified at the edge, but its bytes came over
 * the network: every length is checked against what encloses it. No state.
 */
#include "certificate.h"

#include <string.h>

#define DER_SEQUENCE   0x30
#define DER_SET        0x31
#define DER_OID        0x06
#define DER_EXPLICIT_0 0xa0

struct der {
    const uint8_t *bytes;
    size_t length;
};

/* Takes the next element off `from`: 0, or -1 when there is none that is whole. */
static int der_next(struct der *from, uint8_t *tag, struct der *content)
{
    size_t header = 2;
    size_t length;

    if (from->length < 2) {
        return -1;
    }
    *tag = from->bytes[0];
    length = from->bytes[1];
    if (length >= 0x80) {
        size_t digits = length & 0x7f;

        if (digits == 0 || digits > 3 || from->length < 2 + digits) {
            return -1;
        }
        length = 0;
        for (size_t i = 0; i < digits; i++) {
            length = length << 8 | from->bytes[2 + i];
        }
        header += digits;
    }
    if (length > from->length - header) {
        return -1;
    }
    content->bytes = from->bytes + header;
    content->length = length;
    from->bytes += header + length;
    from->length -= header + length;
    return 0;
}

static int der_expect(struct der *from, uint8_t wanted, struct der *content)
{
    uint8_t tag;

    return der_next(from, &tag, content) == 0 && tag == wanted ? 0 : -1;
}

/* Certificate: tbsCertificate: [0] version, serialNumber, signature, issuer, validity, subject. */
static int certificate_subject(struct der certificate, struct der *subject)
{
    struct der outer;
    struct der body;
    struct der skipped;
    uint8_t tag;

    if (der_expect(&certificate, DER_SEQUENCE, &outer) != 0 || der_expect(&outer, DER_SEQUENCE, &body) != 0) {
        return -1;
    }
    if (body.length > 0 && body.bytes[0] == DER_EXPLICIT_0 && der_next(&body, &tag, &skipped) != 0) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        if (der_next(&body, &tag, &skipped) != 0) {
            return -1;
        }
    }
    return der_expect(&body, DER_SEQUENCE, subject);
}

size_t certificate_common_name(const uint8_t *der, size_t length, char *into, size_t capacity)
{
    static const uint8_t common_name[] = {0x55, 0x04, 0x03}; /* 2.5.4.3 */
    struct der subject;
    struct der set;
    size_t found = 0;

    into[0] = '\0';
    if (certificate_subject((struct der){der, length}, &subject) != 0) {
        return 0;
    }
    while (der_expect(&subject, DER_SET, &set) == 0) {
        struct der pair;
        struct der oid;
        struct der value;
        uint8_t tag;

        while (der_expect(&set, DER_SEQUENCE, &pair) == 0) {
            if (der_expect(&pair, DER_OID, &oid) == 0 && der_next(&pair, &tag, &value) == 0 &&
                oid.length == sizeof(common_name) && memcmp(oid.bytes, common_name, sizeof(common_name)) == 0) {
                found = value.length < capacity - 1 ? value.length : capacity - 1;
                memcpy(into, value.bytes, found);
                into[found] = '\0';
            }
        }
    }
    return found;
}
