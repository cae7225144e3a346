/* cookie.h: the session cookie of a handshake answer over polling. A session that begins with a
 * WebSocket gets none (engine.io 6.6.12, recorded). */
#ifndef PEAL_PROTO_COOKIE_H
#define PEAL_PROTO_COOKIE_H

#include "base/config.h"

/* name (CONFIG_TEXT_MAX) + sid + the fixed text, its end included */
#define COOKIE_SID_MAX  64
#define COOKIE_LINE_MAX (CONFIG_TEXT_MAX + COOKIE_SID_MAX + 64)

/* `Set-Cookie: NAME=SID; Path=/; HttpOnly; SameSite=Lax` as a header line with its CR LF, ended with
 * NUL; "" if the name (option `cookie`) is. Returns the length. `sid` has 1 to COOKIE_SID_MAX
 * base64url characters. */
uint32_t cookie_line(char out[COOKIE_LINE_MAX], const char *name, struct slice sid);

#endif
