/* config_redis.c: where Redis is: redis://[user[:password]@]host[:port][/db], rediss://…,
 * unix:PATH.
 *
 * Never:     quotes the URL in a message; it may hold a password. User and password are
 *            percent-decoded, so that any byte but NUL can be in them; an '@' or '/' in a password
 *            has to be written as %40 or %2F. */
#include "base/config_keys.h"

#include <stdio.h>
#include <stdlib.h>

#define REDIS_PORT   6379
#define REDIS_DB_MAX 1000000u

#define REJECT(...) (snprintf(why, CONFIG_WHY_MAX, __VA_ARGS__), false)

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes n bytes of text. False: a bad escape, a NUL, or too long. */
static bool percent_decode(char *to, size_t room, const char *text, size_t n)
{
    size_t used = 0;

    for (size_t i = 0; i < n; i++) {
        char c = text[i];

        if (c == '%') {
            int high = n - i > 2 ? hex_digit(text[i + 1]) : -1,
                low = n - i > 2 ? hex_digit(text[i + 2]) : -1;

            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (c == '\0' || used + 1 >= room)
            return false;
        to[used++] = c;
    }
    to[used] = '\0';
    return true;
}

static bool take_decimal(const char *text, size_t n, uint32_t max, uint32_t *number)
{
    uint32_t value = 0;

    if (n == 0 || n > 7)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (uint32_t)(text[i] - '0');
    }
    *number = value;
    return value <= max;
}

static bool parse_address(struct config_redis *r, const char *text, size_t n, char *why)
{
    const char *end = text + n, *host = text, *port;
    size_t n_host;
    uint32_t number = REDIS_PORT;

    if (n > 0 && text[0] == '[') {
        port = memchr(text, ']', n);
        if (port == NULL)
            return REJECT("the ] of the IPv6 address is missing");
        host = text + 1;
        n_host = (size_t)(port - host);
        port++;
    } else {
        port = memchr(text, ':', n);
        port = port != NULL ? port : end;
        n_host = (size_t)(port - host);
    }
    if (n_host == 0 || n_host >= sizeof r->host)
        return REJECT("the host is missing or too long: redis://[user:password@]host[:port][/db]");
    for (size_t i = 0; i < n_host; i++) {
        if (host[i] <= ' ' || host[i] > '~' || strchr("%\\\"<>^`{|}", host[i]) != NULL)
            return REJECT("the host holds a character that no host name has");
    }
    memcpy(r->host, host, n_host);
    if (port != end &&
        (*port != ':' || !take_decimal(port + 1, (size_t)(end - port - 1), 65535, &number) ||
         number == 0))
        return REJECT("the port is 1 to 65535");
    r->port = (uint16_t)number;
    return true;
}

static bool parse_user(struct config_redis *r, const char *text, size_t n, char *why)
{
    const char *colon = memchr(text, ':', n);
    size_t n_user = colon != NULL ? (size_t)(colon - text) : n;

    if (!percent_decode(r->user, sizeof r->user, text, n_user) ||
        (colon != NULL &&
         !percent_decode(r->password, sizeof r->password, colon + 1, n - n_user - 1)))
        return REJECT(
            "user and password: at most %d bytes each, %% only as part of an escape such as %%40",
            CONFIG_TEXT_MAX - 1);
    return true;
}

bool config_redis_parse(struct config_redis *r, const char *text, char why[CONFIG_WHY_MAX])
{
    const char *authority, *end, *at = NULL;

    memset(r, 0, sizeof *r);
    if (strcmp(text, "none") == 0)
        return true;
    r->enabled = true;
    if (strncmp(text, "unix:", 5) == 0) {
        r->is_unix = true;
        if (text[5] == '\0' || strlen(text + 5) > 107)
            return REJECT("unix:PATH with a path of 1 to 107 bytes");
        return config_text_copy(r->host, sizeof r->host, text + 5, why);
    }
    r->tls = strncmp(text, "rediss://", 9) == 0;
    if (!r->tls && strncmp(text, "redis://", 8) != 0)
        return REJECT("none, redis://[user:password@]host[:port][/db], rediss://… or unix:PATH");
    authority = text + (r->tls ? 9 : 8);
    end = authority + strcspn(authority, "/?#");
    for (const char *p = authority; p < end; p++) {
        if (*p == '@')
            at = p; /* the last: more than one can only be part of the password */
    }
    if (at != NULL && !parse_user(r, authority, (size_t)(at - authority), why))
        return false;
    authority = at != NULL ? at + 1 : authority;
    if (!parse_address(r, authority, (size_t)(end - authority), why))
        return false;
    if (*end == '/' && end[1] != '\0' &&
        !take_decimal(end + 1, strlen(end + 1), REDIS_DB_MAX, &r->db))
        return REJECT("what follows the host is /db, a number up to %u (a / or @ in a password is "
                      "written %%2F or %%40)",
                      REDIS_DB_MAX);
    if (*end == '?' || *end == '#')
        return REJECT("no ? or # (in a password they are written %%3F and %%23)");
    return true;
}
