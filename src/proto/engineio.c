/* engineio.c: writes the Engine.IO open packet. */
#include "proto/engineio.h"

#include <assert.h>
#include <stdio.h>

#define SID_BYTES_MAX 64 /* of the text; ours have EIO_SID_CHARS */

uint32_t eio_put_open(char *out, struct slice sid, bool may_upgrade, uint32_t ping_interval_ms,
                      uint32_t ping_timeout_ms, uint32_t max_payload_bytes)
{
    int n_bytes;

    assert(sid.n_bytes > 0 && sid.n_bytes <= SID_BYTES_MAX);
    assert(base64url_valid(sid)); /* nothing that JSON would want escaped */
    n_bytes = snprintf(out, EIO_OPEN_MAX,
                       "0{\"sid\":\"%.*s\",\"upgrades\":[%s],\"pingInterval\":%u,\"pingTimeout\":%"
                       "u,\"maxPayload\":%u}",
                       (int)sid.n_bytes, sid.bytes, may_upgrade ? "\"websocket\"" : "",
                       ping_interval_ms, ping_timeout_ms, max_payload_bytes);
    assert(n_bytes > 0 && n_bytes < EIO_OPEN_MAX);
    return (uint32_t)n_bytes;
}
