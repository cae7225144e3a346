/* tls.h: TLS of a connection to Redis, on a non-blocking socket of the caller's. TLS 1.2 or newer; the certificate and the host's name are always verified.
 * The only file that knows OpenSSL. */
#ifndef PEAL_BRIDGE_TLS_H
#define PEAL_BRIDGE_TLS_H

#include <sys/types.h>

#include "base/slice.h"

struct tls_context; /* whom we trust and who we are; for all connections of the process */
struct tls;         /* one connection */

#define TLS_WHY_MAX 256

/* ca_file: PEM certificates that are trusted instead of the system's; cert_file and key_file: for a Redis that asks clients for a certificate. "": none.
 * NULL: `why` names the file and what is wrong with it. */
struct tls_context *tls_context_new(const char *ca_file, const char *cert_file,
                                    const char *key_file, char why[TLS_WHY_MAX]);
void tls_context_free(struct tls_context *c);

/* For a connected socket, which stays the caller's. host: a name or a numeric address; the certificate has to be for it. NULL: no memory. */
struct tls *tls_open(struct tls_context *c, int fd, const char *host);
void tls_free(struct tls *t); /* says good-bye if it can at once */

enum tls_result { TLS_DONE = 0, TLS_AGAIN, TLS_FAILED };

/* To be called when the socket is readable or writable (tls_wants_write) until it is done. TLS_FAILED: tls_why says why. */
MUST_USE enum tls_result tls_handshake(struct tls *t);

/* Like recv(2) and send(2): -1 with errno EAGAIN, or EPROTO (tls_why). What tls_send was given has to be offered again unchanged after EAGAIN. */
ssize_t tls_recv(struct tls *t, void *bytes, size_t n);
ssize_t tls_send(struct tls *t, const void *bytes, size_t n);

bool tls_wants_write(const struct tls *t); /* the last call waits for the socket to be writable */
bool tls_pending(const struct tls *t);     /* has bytes that poll(2) does not know of */
const char *tls_why(const struct tls *t);  /* of the last failure */

#endif
