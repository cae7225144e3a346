/* handshake.c: see handshake.h. Layout of the kept block: struct kept, the url, then, but for the User-Agent, pairs of header name and value, each ended by a zero byte.
 * Source: the handshake object of socket.io 4.8 (namespace.js), as REMOTE_FETCH answers carry it. */
#include "session/handshake.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proto/json.h"

#define AGENT "user-agent"

struct kept {
    uint64_t issued_ms;
    struct agent *agent; /* NULL: among the headers, if there is one */
    uint32_t url_bytes;
    uint32_t headers_bytes;
    char bytes[];
};

static bool wanted(struct slice name, bool full)
{
    static const char *const few[] = { AGENT, "origin", "x-forwarded-for" };

    if (full)
        return true;
    for (uint32_t i = 0; i < sizeof few / sizeof few[0]; i++)
        if (strlen(few[i]) == name.n_bytes && strncasecmp(few[i], name.bytes, name.n_bytes) == 0)
            return true;
    return false;
}

static bool is_among(const struct http_header *header, bool full, const struct agent *agent)
{
    return wanted(header->name, full) &&
           !(agent != NULL && header->name.n_bytes == sizeof AGENT - 1 &&
             strncasecmp(header->name.bytes, AGENT, sizeof AGENT - 1) == 0);
}

char *handshake_keep(const struct http_request *request, bool full, uint64_t now_realtime_ms,
                     struct agents *agents)
{
    size_t n_bytes = sizeof(struct kept) + request->target.n_bytes;
    struct slice text = http_header_find(request, AGENT);
    struct agent *agent = text.n_bytes > 0 ? agent_ref(agents, text) : NULL;
    struct kept *k;
    char *to;

    for (uint32_t i = 0; i < request->n_headers; i++)
        if (is_among(&request->headers[i], full, agent))
            n_bytes += request->headers[i].name.n_bytes + request->headers[i].value.n_bytes + 2;
    k = malloc(n_bytes);
    if (k == NULL) {
        agent_unref(agents, agent);
        return NULL;
    }
    k->issued_ms = now_realtime_ms;
    k->agent = agent;
    k->url_bytes = request->target.n_bytes;
    k->headers_bytes = (uint32_t)(n_bytes - sizeof *k - k->url_bytes);
    memcpy(k->bytes, request->target.bytes, k->url_bytes);
    to = k->bytes + k->url_bytes;
    for (uint32_t i = 0; i < request->n_headers; i++) {
        const struct http_header *header = &request->headers[i];

        if (!is_among(header, full, agent))
            continue;
        for (uint32_t j = 0; j < header->name.n_bytes; j++)
            *to++ = (char)tolower((unsigned char)header->name.bytes[j]);
        *to++ = 0;
        if (header->value.n_bytes > 0)
            memcpy(to, header->value.bytes, header->value.n_bytes);
        to += header->value.n_bytes;
        *to++ = 0;
    }
    return (char *)k;
}

void handshake_free(char *kept, struct agents *agents)
{
    if (kept != NULL)
        agent_unref(agents, ((struct kept *)(void *)kept)->agent);
    free(kept);
}

uint32_t handshake_json_max(const char *kept, struct slice auth)
{
    const struct kept *k = (const struct kept *)(const void *)kept;

    /* six bytes for each that must be escaped; the url is there twice, once as query, where each pair adds quotes and commas */
    if (k == NULL)
        return 512 + auth.n_bytes;
    return 512 + auth.n_bytes + 24 * k->url_bytes + 12 * k->headers_bytes +
           (k->agent == NULL ? 0 : 6 * agent_text(k->agent).n_bytes);
}

static char *put_text(char *to, const char *text)
{
    size_t n = strlen(text);

    memcpy(to, text, n);
    return to + n;
}

static char *put_query(char *to, struct slice url)
{
    const char *mark = memchr(url.bytes, '?', url.n_bytes);
    struct slice rest = { NULL, 0 };
    struct slice key;
    struct slice value;
    bool first = true;

    if (mark != NULL)
        rest = slice_of(mark + 1, (uint32_t)(url.bytes + url.n_bytes - mark - 1));
    *to++ = '{';
    while (http_query_next(&rest, &key, &value)) {
        char text[HTTP_TARGET_MAX]; /* decoded is never longer */

        if (!first)
            *to++ = ',';
        first = false;
        to += json_put_string(to,
                              slice_of(text, (uint32_t)http_query_decode(key, text, sizeof text)));
        *to++ = ':';
        to += json_put_string(
            to, slice_of(text, (uint32_t)http_query_decode(value, text, sizeof text)));
    }
    *to++ = '}';
    return to;
}

static char *put_headers(char *to, const struct kept *k, bool *has_origin)
{
    const char *at = k->bytes + k->url_bytes;
    const char *end = at + k->headers_bytes;
    bool first = true;

    *to++ = '{';
    if (k->agent != NULL) {
        first = false;
        to = put_text(to, "\"" AGENT "\":");
        to += json_put_string(to, agent_text(k->agent));
    }
    while (at < end) {
        const char *name = at;
        const char *value = name + strlen(name) + 1;

        at = value + strlen(value) + 1;
        *has_origin = *has_origin || strcmp(name, "origin") == 0;
        if (!first)
            *to++ = ',';
        first = false;
        to += json_put_string(to, slice_text(name));
        *to++ = ':';
        to += json_put_string(to, slice_text(value));
    }
    *to++ = '}';
    return to;
}

uint32_t handshake_put_json(char *out, const char *kept, const struct peer_address *peer,
                            struct slice auth)
{
    static const struct kept nothing;
    const struct kept *k = kept == NULL ? &nothing : (const struct kept *)(const void *)kept;
    time_t seconds = (time_t)(k->issued_ms / 1000);
    char address[INET6_ADDRSTRLEN + 8];
    bool has_origin = false;
    char text[128];
    struct tm tm;
    char *to = out;

    to = put_text(to, "{\"headers\":");
    to = put_headers(to, k, &has_origin);
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text,
             ",\"time\":\"%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)\"", &tm);
    to = put_text(to, text);
    peer_address_text(address, sizeof address, peer);
    to = put_text(to, ",\"address\":");
    to += json_put_string(to, slice_text(address));
    to += sprintf(to, ",\"xdomain\":%s,\"secure\":false,\"issued\":%llu,\"url\":",
                  has_origin ? "true" : "false", (unsigned long long)k->issued_ms);
    to += json_put_string(to, slice_of(k->bytes, k->url_bytes));
    to = put_text(to, ",\"query\":");
    to = put_query(to, slice_of(k->bytes, k->url_bytes));
    to = put_text(to, ",\"auth\":");
    if (auth.bytes == NULL) {
        to = put_text(to, "{}");
    } else {
        memcpy(to, auth.bytes, auth.n_bytes);
        to += auth.n_bytes;
    }
    *to++ = '}';
    return (uint32_t)(to - out);
}
