/* http.c: what every part of HTTP needs: tokens, lists, authorities, headers by name, reasons. */
#include "proto/http.h"

#include <strings.h>

#include "proto/http_host.h"

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool http_same_text(struct slice a, struct slice b)
{
    return a.n_bytes == b.n_bytes &&
           (a.n_bytes == 0 || strncasecmp(a.bytes, b.bytes, a.n_bytes) == 0);
}

struct slice http_trim(struct slice text)
{
    while (text.n_bytes > 0 && (text.bytes[0] == ' ' || text.bytes[0] == '\t')) {
        text.bytes++;
        text.n_bytes--;
    }
    while (text.n_bytes > 0 &&
           (text.bytes[text.n_bytes - 1] == ' ' || text.bytes[text.n_bytes - 1] == '\t'))
        text.n_bytes--;
    return text;
}

bool http_is_token(struct slice text)
{
    for (uint32_t i = 0; i < text.n_bytes; i++) {
        if (!is_alnum(text.bytes[i]) &&
            (text.bytes[i] == '\0' || !strchr("!#$%&'*+-.^_`|~", text.bytes[i])))
            return false;
    }
    return text.n_bytes > 0;
}

bool http_list_next(struct slice *rest, struct slice *element)
{
    const char *comma;
    uint32_t n;

    if (!rest->bytes)
        return false;
    comma = rest->n_bytes > 0 ? memchr(rest->bytes, ',', rest->n_bytes) : NULL;
    n = comma ? (uint32_t)(comma - rest->bytes) : rest->n_bytes;
    *element = http_trim(slice_of(rest->bytes, n));
    *rest = comma ? slice_of(comma + 1, rest->n_bytes - n - 1) : (struct slice){ NULL, 0 };
    return true;
}

bool http_list_has(struct slice value, const char *token)
{
    struct slice wanted = slice_text(token);
    struct slice element;

    while (http_list_next(&value, &element)) {
        if (http_same_text(element, wanted))
            return true;
    }
    return false;
}

struct slice http_header_find(const struct http_request *r, const char *name)
{
    struct slice wanted = slice_text(name);

    for (uint32_t i = 0; i < r->n_headers; i++) {
        if (http_same_text(r->headers[i].name, wanted))
            return r->headers[i].value;
    }
    return (struct slice){ NULL, 0 };
}

/* Length of the host at the start of `text`, 0 if there is no good one. */
static uint32_t host_length(struct slice text)
{
    uint32_t n = 0;

    if (text.n_bytes > 0 && text.bytes[0] == '[') {
        for (n = 1; n < text.n_bytes && text.bytes[n] != ']'; n++) {
            char c = text.bytes[n];

            if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f') && !(c >= 'A' && c <= 'F') &&
                c != ':' && c != '.')
                return 0;
        }
        return n > 1 && n < text.n_bytes ? n + 1 : 0;
    }
    /* reg-name without the comma: that one would join two repeated headers */
    while (n < text.n_bytes && text.bytes[n] != '\0' &&
           (is_alnum(text.bytes[n]) || strchr("-._~%!$&'()*+;=", text.bytes[n])))
        n++;
    return n;
}

bool http_authority_parse(struct slice text, struct http_authority *out)
{
    uint32_t at = host_length(text);
    uint32_t port = 0;

    if (at == 0)
        return false;
    out->host = slice_of(text.bytes, at);
    out->port = -1;
    if (at == text.n_bytes)
        return true;
    if (text.bytes[at++] != ':')
        return false;
    for (uint32_t i = at; i < text.n_bytes; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9')
            return false;
        port = port * 10 + (uint32_t)(text.bytes[i] - '0');
        if (port > UINT16_MAX)
            return false;
    }
    if (at < text.n_bytes)
        out->port = (int32_t)port;
    return true;
}

int32_t http_scheme_port(struct slice scheme)
{
    if (http_same_text(scheme, slice_text("http")) || http_same_text(scheme, slice_text("ws")))
        return 80;
    if (http_same_text(scheme, slice_text("https")) || http_same_text(scheme, slice_text("wss")))
        return 443;
    return -1;
}

static const struct {
    uint16_t status;
    const char *reason;
} reasons[] = {
    { 100, "Continue" },
    { 101, "Switching Protocols" },
    { 200, "OK" },
    { 202, "Accepted" },
    { 204, "No Content" },
    { 206, "Partial Content" },
    { 301, "Moved Permanently" },
    { 302, "Found" },
    { 303, "See Other" },
    { 304, "Not Modified" },
    { 307, "Temporary Redirect" },
    { 308, "Permanent Redirect" },
    { 400, "Bad Request" },
    { 401, "Unauthorized" },
    { 403, "Forbidden" },
    { 404, "Not Found" },
    { 405, "Method Not Allowed" },
    { 406, "Not Acceptable" },
    { 408, "Request Timeout" },
    { 409, "Conflict" },
    { 411, "Length Required" },
    { 413, "Payload Too Large" },
    { 414, "URI Too Long" },
    { 415, "Unsupported Media Type" },
    { 417, "Expectation Failed" },
    { 421, "Misdirected Request" },
    { 426, "Upgrade Required" },
    { 429, "Too Many Requests" },
    { 431, "Request Header Fields Too Large" },
    { 500, "Internal Server Error" },
    { 501, "Not Implemented" },
    { 502, "Bad Gateway" },
    { 503, "Service Unavailable" },
    { 504, "Gateway Timeout" },
    { 505, "HTTP Version Not Supported" },
};

const char *http_reason(uint16_t status)
{
    for (uint32_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "Unknown";
}
