/* tls.c: see tls.h. */
#include "bridge/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

struct tls_context {
    SSL_CTX *ctx;
};

struct tls {
    SSL *ssl;
    bool wants_write;
    char why[TLS_WHY_MAX];
};

/* The reason of the oldest error in OpenSSL's queue, which is emptied. */
static const char *reason(void)
{
    unsigned long error = ERR_get_error();
    const char *text = ERR_reason_error_string(error);

    ERR_clear_error();
    if (text == NULL && ERR_SYSTEM_ERROR(error))
        text = strerror(ERR_GET_REASON(error));
    return text != NULL ? text : "unknown error";
}

struct tls_context *tls_context_new(const char *ca_file, const char *cert_file,
                                    const char *key_file, char why[TLS_WHY_MAX])
{
    struct tls_context *c = calloc(1, sizeof *c);

    ERR_clear_error();
    if (c != NULL)
        c->ctx = SSL_CTX_new(TLS_client_method());
    if (c == NULL || c->ctx == NULL) {
        snprintf(why, TLS_WHY_MAX, "out of memory");
    } else if (SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION) != 1) {
        snprintf(why, TLS_WHY_MAX, "TLS 1.2: %s", reason());
    } else if (ca_file[0] != '\0' && SSL_CTX_load_verify_locations(c->ctx, ca_file, NULL) != 1) {
        snprintf(why, TLS_WHY_MAX, "redis_ca_file = %.128s: %s", ca_file, reason());
    } else if (ca_file[0] == '\0' && SSL_CTX_set_default_verify_paths(c->ctx) != 1) {
        snprintf(why, TLS_WHY_MAX, "the system's certificates: %s", reason());
    } else if (cert_file[0] != '\0' && SSL_CTX_use_certificate_chain_file(c->ctx, cert_file) != 1) {
        snprintf(why, TLS_WHY_MAX, "redis_cert_file = %.128s: %s", cert_file, reason());
    } else if (key_file[0] != '\0' &&
               SSL_CTX_use_PrivateKey_file(c->ctx, key_file, SSL_FILETYPE_PEM) != 1) {
        snprintf(why, TLS_WHY_MAX, "redis_cert_key_file = %.128s: %s", key_file, reason());
    } else {
        SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_mode(c->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS);
        return c;
    }
    tls_context_free(c);
    return NULL;
}

void tls_context_free(struct tls_context *c)
{
    if (c == NULL)
        return;
    SSL_CTX_free(c->ctx);
    free(c);
}

/* The certificate must be for this host. Only a name can be told to the server (SNI). */
static bool expect_host(SSL *ssl, const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];

    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

struct tls *tls_open(struct tls_context *c, int fd, const char *host)
{
    struct tls *t = calloc(1, sizeof *t);

    if (t == NULL)
        return NULL;
    t->ssl = SSL_new(c->ctx);
    if (t->ssl == NULL || SSL_set_fd(t->ssl, fd) != 1 || !expect_host(t->ssl, host)) {
        ERR_clear_error();
        SSL_free(t->ssl);
        free(t);
        return NULL;
    }
    SSL_set_connect_state(t->ssl);
    return t;
}

void tls_free(struct tls *t)
{
    if (t == NULL)
        return;
    if (t->why[0] == '\0') /* after a failure it is not allowed */
        (void)SSL_shutdown(t->ssl);
    ERR_clear_error();
    SSL_free(t->ssl);
    free(t);
}

/* What a call that did not go through means: TLS_DONE is the orderly end of the stream. */
static enum tls_result judge(struct tls *t, int result)
{
    int saved = errno;
    long verified = SSL_get_verify_result(t->ssl);

    switch (SSL_get_error(t->ssl, result)) {
    case SSL_ERROR_WANT_READ: return TLS_AGAIN;
    case SSL_ERROR_WANT_WRITE: t->wants_write = true; return TLS_AGAIN;
    case SSL_ERROR_ZERO_RETURN: return TLS_DONE;
    case SSL_ERROR_SYSCALL:
        snprintf(t->why, sizeof t->why, "%s", saved != 0 ? strerror(saved) : "closed by Redis");
        break;
    default:
        if (verified != X509_V_OK)
            snprintf(t->why, sizeof t->why, "certificate: %s",
                     X509_verify_cert_error_string(verified));
        else
            snprintf(t->why, sizeof t->why, "TLS: %s", reason());
        break;
    }
    ERR_clear_error();
    return TLS_FAILED;
}

static void before(struct tls *t)
{
    ERR_clear_error(); /* SSL_get_error looks at the queue */
    errno = 0;
    t->wants_write = false;
}

enum tls_result tls_handshake(struct tls *t)
{
    int result;

    before(t);
    result = SSL_do_handshake(t->ssl);
    if (result == 1)
        return TLS_DONE;
    switch (judge(t, result)) {
    case TLS_AGAIN: return TLS_AGAIN;
    case TLS_DONE: snprintf(t->why, sizeof t->why, "closed by Redis"); break;
    case TLS_FAILED: break;
    }
    return TLS_FAILED;
}

static ssize_t outcome(struct tls *t, int result, size_t n)
{
    if (result == 1)
        return (ssize_t)n;
    switch (judge(t, result)) {
    case TLS_DONE: return 0;
    case TLS_AGAIN: errno = EAGAIN; return -1;
    case TLS_FAILED: break;
    }
    errno = EPROTO;
    return -1;
}

ssize_t tls_recv(struct tls *t, void *bytes, size_t n)
{
    int result;

    before(t);
    result = SSL_read_ex(t->ssl, bytes, n, &n);
    return outcome(t, result, n);
}

ssize_t tls_send(struct tls *t, const void *bytes, size_t n)
{
    int result;

    before(t);
    result = SSL_write_ex(t->ssl, bytes, n, &n);
    return outcome(t, result, n);
}

bool tls_wants_write(const struct tls *t)
{
    return t->wants_write;
}

bool tls_pending(const struct tls *t)
{
    return SSL_pending(t->ssl) > 0;
}

const char *tls_why(const struct tls *t)
{
    return t->why;
}
