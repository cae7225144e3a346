/* access.c: see access.h. */
#include "admin/access.h"

#include <arpa/inet.h>
#include <assert.h>
#include <strings.h>

#include "proto/http_host.h"

bool access_is_loopback(const struct peer_address *address)
{
    static const uint8_t one[16] = { [15] = 1 };

    switch (address->family) {
    case AF_UNIX: return true;
    case AF_INET: return address->bytes[0] == 127;
    case AF_INET6: return memcmp(address->bytes, one, sizeof one) == 0;
    default: return false;
    }
}

/* Does the text name this host, and no other that a foreign name server could have chosen? */
static bool host_is_local(struct slice text)
{
    struct http_authority authority;
    struct peer_address address = { 0 };
    char host[INET6_ADDRSTRLEN];
    struct slice name;

    if (text.bytes == NULL || !http_authority_parse(text, &authority))
        return false;
    name = authority.host;
    if (http_same_text(name, slice_text("localhost")))
        return true;
    address.family = AF_INET;
    if (name.n_bytes > 2 && name.bytes[0] == '[') {
        address.family = AF_INET6;
        name = slice_of(name.bytes + 1, name.n_bytes - 2);
    }
    if (name.n_bytes >= sizeof host)
        return false;
    memcpy(host, name.bytes, name.n_bytes);
    host[name.n_bytes] = '\0';
    return inet_pton(address.family, host, address.bytes) == 1 && access_is_loopback(&address);
}

static bool was_forwarded(const struct http_request *request)
{
    static const char prefix[] = "x-forwarded-";

    for (uint32_t i = 0; i < request->n_headers; i++) {
        struct slice name = request->headers[i].name;

        if (http_same_text(name, slice_text("forwarded")) ||
            (name.n_bytes >= sizeof prefix - 1 &&
             strncasecmp(name.bytes, prefix, sizeof prefix - 1) == 0))
            return true;
    }
    return false;
}

/* Takes the same time wherever the difference is; only the length given by the client shows. */
static bool same_secret(struct slice secret, struct slice given)
{
    volatile uint32_t difference = secret.n_bytes ^ given.n_bytes;

    assert(secret.n_bytes > 0);
    for (uint32_t i = 0; i < given.n_bytes; i++)
        difference |= (uint8_t)secret.bytes[i % secret.n_bytes] ^ (uint8_t)given.bytes[i];
    return difference == 0;
}

static bool has_token(struct slice token, const struct http_request *request)
{
    static const char scheme[] = "bearer ";
    struct slice value = http_header_find(request, "authorization");

    if (value.n_bytes < sizeof scheme - 1 ||
        strncasecmp(value.bytes, scheme, sizeof scheme - 1) != 0)
        return false;
    value = http_trim(
        slice_of(value.bytes + sizeof scheme - 1, value.n_bytes - (uint32_t)sizeof scheme + 1));
    return same_secret(token, value);
}

struct slice access_type_essence(struct slice value, bool *utf8)
{
    struct slice rest = value;
    struct slice essence = { NULL, 0 };

    *utf8 = false;
    for (bool first = true; rest.bytes != NULL; first = false) {
        const char *end = rest.n_bytes > 0 ? memchr(rest.bytes, ';', rest.n_bytes) : NULL;
        uint32_t n = end != NULL ? (uint32_t)(end - rest.bytes) : rest.n_bytes;
        struct slice part = http_trim(slice_of(rest.bytes, n));

        if (first)
            essence = part;
        else if (http_same_text(part, slice_text("charset=utf-8")) ||
                 http_same_text(part, slice_text("charset=\"utf-8\"")))
            *utf8 = true;
        rest = end != NULL ? slice_of(end + 1, rest.n_bytes - n - 1) : (struct slice){ NULL, 0 };
    }
    return essence;
}

static bool type_fits(enum access_type wanted, const struct http_request *request)
{
    static const char *const simple[] = { "text/plain", "multipart/form-data",
                                          "application/x-www-form-urlencoded" };
    bool utf8;
    struct slice essence = access_type_essence(http_header_find(request, "content-type"), &utf8);
    const char *slash;

    if (wanted == TYPE_ANY)
        return true;
    if (wanted == TYPE_JSON)
        return http_same_text(essence, slice_text("application/json"));
    for (uint32_t i = 0; i < sizeof simple / sizeof simple[0]; i++) {
        if (http_same_text(essence, slice_text(simple[i])))
            return false;
    }
    /* A value that is no type at all is nothing that anybody means; browsers differ in what they
     * make of it. */
    slash = essence.n_bytes > 0 ? memchr(essence.bytes, '/', essence.n_bytes) : NULL;
    return slash != NULL &&
           http_is_token(slice_of(essence.bytes, (uint32_t)(slash - essence.bytes))) &&
           http_is_token(
               slice_of(slash + 1, essence.n_bytes - (uint32_t)(slash - essence.bytes) - 1));
}

enum access access_decide(const struct access_rules *rules, enum access_area area,
                          enum access_type type, const struct peer_address *peer,
                          const struct http_request *request)
{
    struct slice origin = http_header_find(request, "origin");
    struct slice host = http_header_find(request, "host");
    const bool needs_token = rules->token.n_bytes > 0;

    if (area == AREA_HEALTH)
        return ACCESS_GRANTED;
    if (!rules->is_loopback && !needs_token)
        return ACCESS_EXPOSED;
    if (area == AREA_PAGE)
        return ACCESS_GRANTED;
    if (!needs_token) {
        if (!access_is_loopback(peer))
            return ACCESS_PEER;
        if (was_forwarded(request))
            return ACCESS_FORWARDED;
        if (!host_is_local(host))
            return ACCESS_HOST;
    }
    if (!http_origin_allowed("same-host", origin, host))
        return ACCESS_ORIGIN;
    if (needs_token && !has_token(rules->token, request))
        return ACCESS_TOKEN;
    return type_fits(type, request) ? ACCESS_GRANTED : ACCESS_TYPE;
}

uint16_t access_status(enum access outcome)
{
    static const uint16_t statuses[ACCESS_OUTCOMES] = {
        [ACCESS_GRANTED] = 200,   [ACCESS_EXPOSED] = 403, [ACCESS_PEER] = 403,
        [ACCESS_FORWARDED] = 403, [ACCESS_HOST] = 403,    [ACCESS_ORIGIN] = 403,
        [ACCESS_TOKEN] = 401,     [ACCESS_TYPE] = 415,
    };

    assert(outcome < ACCESS_OUTCOMES);
    return statuses[outcome];
}

const char *access_text(enum access outcome)
{
    static const char *const texts[ACCESS_OUTCOMES] = {
        [ACCESS_GRANTED] = "granted",
        [ACCESS_EXPOSED] = "admin_listen is no loopback address: set admin_token or "
                           "admin_token_file to use more than /metrics, /livez and /readyz",
        [ACCESS_PEER] = "without admin_token the API answers peers on this host only",
        [ACCESS_FORWARDED] =
            "without admin_token the API does not answer what a proxy has forwarded",
        [ACCESS_HOST] = "without admin_token the Host must be localhost or a loopback address",
        [ACCESS_ORIGIN] = "the API does not answer pages of other sites",
        [ACCESS_TOKEN] = "Authorization: Bearer with the value of admin_token is needed",
        [ACCESS_TYPE] = "this Content-Type is not accepted: use application/json (for /api/ws/ "
                        "also application/octet-stream, or any that is not a form's or text/plain)",
    };

    assert(outcome < ACCESS_OUTCOMES);
    return texts[outcome];
}
