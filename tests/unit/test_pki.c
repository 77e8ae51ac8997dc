/* Makes the certificates of test_pki.h with GnuTLS. What it holds belongs to the caller's struct test_pki. */
#include "tests/unit/test_pki.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DAY_SECONDS 86400

struct test_pki_authority {
    gnutls_x509_crt_t certificate;
    gnutls_x509_privkey_t key;
};

static unsigned char next_serial = 1;

static bool check(int result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "test_pki: %s: %s\n", what, gnutls_strerror(result));
    }
    return result >= 0;
}

static bool path_of(const struct test_pki *pki, const char *file, const char *suffix, char path[TEST_PKI_PATH_BYTES])
{
    int length = snprintf(path, TEST_PKI_PATH_BYTES, "%s/%s%s", pki->directory, file, suffix);

    return length > 0 && length < TEST_PKI_PATH_BYTES;
}

static bool write_file(const char *path, const void *bytes, size_t length)
{
    FILE *file = fopen(path, "wb");

    if (file == NULL) {
        perror(path);
        return false;
    }
    bool written = fwrite(bytes, 1, length, file) == length;
    return fclose(file) == 0 && written;
}

static bool key_new(gnutls_x509_privkey_t *key, bool rsa)
{
    unsigned bits = rsa ? 2048 : (unsigned)GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1);

    return check(gnutls_x509_privkey_init(key), "key") &&
           check(gnutls_x509_privkey_generate(*key, rsa ? GNUTLS_PK_RSA : GNUTLS_PK_EC, bits, 0), "key");
}

static bool certificate_new(gnutls_x509_crt_t *certificate, gnutls_x509_privkey_t key, const char *common_name,
                            bool expired)
{
    time_t now = time(NULL);
    unsigned char serial = next_serial++;

    return check(gnutls_x509_crt_init(certificate), "certificate") &&
           check(gnutls_x509_crt_set_version(*certificate, 3), "version") &&
           check(gnutls_x509_crt_set_serial(*certificate, &serial, 1), "serial") &&
           check(gnutls_x509_crt_set_activation_time(*certificate, now - 30 * DAY_SECONDS), "activation") &&
           check(gnutls_x509_crt_set_expiration_time(*certificate, expired ? now - DAY_SECONDS : now + DAY_SECONDS),
                 "expiration") &&
           check(gnutls_x509_crt_set_dn_by_oid(*certificate, GNUTLS_OID_X520_COMMON_NAME, 0, common_name,
                                               (unsigned)strlen(common_name)),
                 "name") &&
           check(gnutls_x509_crt_set_key(*certificate, key), "public key");
}

static bool certificate_add_names(gnutls_x509_crt_t certificate, const char *const *names)
{
    for (size_t i = 0; names != NULL && names[i] != NULL; i++) {
        unsigned char address[16];
        int result;
        if (inet_pton(AF_INET, names[i], address) == 1) {
            result =
                gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_IPADDRESS, address, 4, GNUTLS_FSAN_APPEND);
        } else if (inet_pton(AF_INET6, names[i], address) == 1) {
            result = gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_IPADDRESS, address, 16,
                                                          GNUTLS_FSAN_APPEND);
        } else {
            result = gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_DNSNAME, names[i],
                                                          (unsigned)strlen(names[i]), GNUTLS_FSAN_APPEND);
        }
        if (!check(result, names[i])) {
            return false;
        }
    }
    return true;
}

static bool certificate_write(gnutls_x509_crt_t certificate, const char *path)
{
    gnutls_datum_t pem;

    if (!check(gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &pem), path)) {
        return false;
    }
    bool written = write_file(path, pem.data, pem.size);
    gnutls_free(pem.data);
    return written;
}

static bool key_write(gnutls_x509_privkey_t key, const char *path)
{
    gnutls_datum_t pem;

    if (!check(gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &pem), path)) {
        return false;
    }
    bool written = write_file(path, pem.data, pem.size) && chmod(path, S_IRUSR | S_IWUSR) == 0;
    gnutls_free(pem.data);
    return written;
}

static struct test_pki_authority *authority_new(const char *common_name, const char *path)
{
    struct test_pki_authority *authority = calloc(1, sizeof(*authority));

    if (authority != NULL && key_new(&authority->key, false) &&
        certificate_new(&authority->certificate, authority->key, common_name, false) &&
        check(gnutls_x509_crt_set_basic_constraints(authority->certificate, 1, -1), "constraints") &&
        check(gnutls_x509_crt_set_key_usage(authority->certificate, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN),
              "usage") &&
        check(
            gnutls_x509_crt_sign2(authority->certificate, authority->certificate, authority->key, GNUTLS_DIG_SHA256, 0),
            "signature") &&
        certificate_write(authority->certificate, path)) {
        return authority;
    }
    return NULL; /* the test ends here: what is left goes with the process */
}

static void authority_free(struct test_pki_authority *authority)
{
    if (authority != NULL) {
        gnutls_x509_crt_deinit(authority->certificate);
        gnutls_x509_privkey_deinit(authority->key);
        free(authority);
    }
}

bool test_pki_issue(struct test_pki *pki, const struct test_pki_request *request, struct test_identity *identity)
{
    const struct test_pki_authority *issuer = request->foreign ? pki->foreign_authority : pki->authority;
    gnutls_x509_crt_t certificate = NULL;
    gnutls_x509_privkey_t key = NULL;
    const char *purpose = request->client ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER;
    const char *common_name = request->common_name != NULL ? request->common_name : request->file;
    bool made = path_of(pki, request->file, ".crt", identity->certificate) &&
                path_of(pki, request->file, ".key", identity->key) && key_new(&key, request->rsa) &&
                certificate_new(&certificate, key, common_name, request->expired) &&
                check(gnutls_x509_crt_set_basic_constraints(certificate, 0, -1), "constraints") &&
                check(gnutls_x509_crt_set_key_usage(certificate, GNUTLS_KEY_DIGITAL_SIGNATURE), "usage") &&
                check(gnutls_x509_crt_set_key_purpose_oid(certificate, purpose, 0), "purpose") &&
                certificate_add_names(certificate, request->names) &&
                check(gnutls_x509_crt_sign2(certificate, issuer->certificate, issuer->key, GNUTLS_DIG_SHA256, 0),
                      "signature") &&
                certificate_write(certificate, identity->certificate) && key_write(key, identity->key);

    gnutls_x509_crt_deinit(certificate);
    gnutls_x509_privkey_deinit(key);
    return made;
}

bool test_pki_create(struct test_pki *pki)
{
    static const char *const edge_names[] = {"localhost", "127.0.0.1", "::1", NULL};
    static const char *const core_names[] = {"localhost", "127.0.0.1", "::1", "core", NULL};
    static const char *const trunk_names[] = {"edge", NULL};
    const char *parent = getenv("TMPDIR");

    memset(pki, 0, sizeof(*pki));
    int length = snprintf(pki->directory, sizeof(pki->directory), "%s/trunkline-pki-XXXXXX",
                          parent != NULL && parent[0] != '\0' ? parent : "/tmp");
    if (length < 0 || (size_t)length >= sizeof(pki->directory) || mkdtemp(pki->directory) == NULL) {
        perror("test_pki: mkdtemp");
        return false;
    }
    if (!path_of(pki, "ca", ".crt", pki->ca) || !path_of(pki, "foreign-ca", ".crt", pki->foreign_ca)) {
        return false;
    }
    pki->authority = authority_new("Test CA", pki->ca);
    pki->foreign_authority = authority_new("Foreign CA", pki->foreign_ca);
    if (pki->authority == NULL || pki->foreign_authority == NULL) {
        return false;
    }
    struct test_pki_request edge = {.file = "edge", .names = edge_names};
    struct test_pki_request core = {.file = "core", .names = core_names};
    struct test_pki_request trunk = {.file = "trunk", .names = trunk_names, .client = true};
    struct test_pki_request foreign = {.file = "foreign-trunk", .names = trunk_names, .client = true, .foreign = true};
    return test_pki_issue(pki, &edge, &pki->edge) && test_pki_issue(pki, &core, &pki->core) &&
           test_pki_issue(pki, &trunk, &pki->trunk) && test_pki_issue(pki, &foreign, &pki->foreign_trunk);
}

bool test_pki_write(const struct test_pki *pki, const char *file, const void *bytes, size_t length,
                    char path[TEST_PKI_PATH_BYTES])
{
    return path_of(pki, file, "", path) && write_file(path, bytes, length);
}

void test_pki_remove(struct test_pki *pki)
{
    char path[TEST_PKI_PATH_BYTES];
    struct dirent *entry;
    DIR *directory = opendir(pki->directory);

    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        if (entry->d_type == DT_REG && path_of(pki, entry->d_name, "", path)) {
            unlink(path);
        }
    }
    if (directory != NULL) {
        closedir(directory);
        rmdir(pki->directory);
    }
    authority_free(pki->authority);
    authority_free(pki->foreign_authority);
    memset(pki, 0, sizeof(*pki));
}
