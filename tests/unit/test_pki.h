/*
 * A public key infrastructure for tests: made within the process in a few milliseconds, written as PEM files into a
 * directory of its own under $TMPDIR or /tmp, removed at the end. The test that creates it owns it. One thread.
 */
#ifndef TESTS_UNIT_TEST_PKI_H
#define TESTS_UNIT_TEST_PKI_H

#include <stdbool.h>
#include <stddef.h>

#include "mux/tls.h"

#define TEST_PKI_PATH_BYTES 160

struct test_pki_authority;

/* A certificate and its key, in files. */
struct test_identity {
    char certificate[TEST_PKI_PATH_BYTES];
    char key[TEST_PKI_PATH_BYTES];
};

struct test_pki {
    char directory[TEST_PKI_PATH_BYTES / 2];
    char ca[TEST_PKI_PATH_BYTES];
    char foreign_ca[TEST_PKI_PATH_BYTES];
    struct test_identity edge;          /* for clients: localhost, 127.0.0.1, ::1 */
    struct test_identity core;          /* for trunks: localhost, 127.0.0.1, ::1, core */
    struct test_identity trunk;         /* the edge as a client of the core: edge */
    struct test_identity foreign_trunk; /* the same, of the foreign CA */
    struct test_pki_authority *authority;
    struct test_pki_authority *foreign_authority;
};

/* What test_pki_issue makes; everything is ECDSA P-256, signed by the CA and valid now, unless told otherwise. */
struct test_pki_request {
    const char *file;         /* "edge" for edge.crt and edge.key */
    const char *common_name;  /* NULL: the file's name */
    const char *const *names; /* subject alternative names, DNS or IP, ended by NULL; NULL: none */
    bool client;              /* for client authentication; else for a server */
    bool foreign;             /* signed by the foreign CA */
    bool expired;
    bool rsa; /* RSA 2048 */
};

/* All of these are false on failure (the reason is on stderr). */
bool test_pki_create(struct test_pki *pki);
bool test_pki_issue(struct test_pki *pki, const struct test_pki_request *request, struct test_identity *identity);

/* Writes any file into the directory; its path goes to `path`. */
bool test_pki_write(const struct test_pki *pki, const char *file, const void *bytes, size_t length,
                    char path[TEST_PKI_PATH_BYTES]);

/* Removes the directory with all that is in it. */
void test_pki_remove(struct test_pki *pki);

static inline struct tls_certificate_files test_identity_files(const struct test_identity *identity)
{
    return (struct tls_certificate_files){.certificate = identity->certificate, .key = identity->key};
}

#endif
