/* deflate_offer.c: Sec-WebSocket-Extensions, and which offer of permessage-deflate is agreed on.
 *
 * Source: RFC 6455 section 9.1 (the header; several are one list), RFC 7692 section 7.1 (the parameters). An offer that cannot be agreed on is declined,
 * and the next one is looked at: clients list alternatives in the order that they like. A header that breaks the grammar fails the handshake, whatever else
 * it offers. Names are compared as they are, as Node's ws does. */
#include <assert.h>

#include "proto/deflate.h"
#include "proto/http_host.h"

#define VALUE_MAX 2 /* "8" to "15": longer ones need not be kept */

struct cursor {
    const char *at;
    const char *end;
};

struct param {
    struct slice name;
    bool has_value;
    uint32_t n_value; /* as sent: may be more than is kept */
    char value[VALUE_MAX];
};

/* What has been seen of an offer. */
struct offer {
    bool bad;
    bool server_no_takeover;
    bool client_no_takeover;
    bool server_window;
    bool client_window;
};

static void skip_spaces(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t'))
        c->at++;
}

static bool take_char(struct cursor *c, char wanted)
{
    skip_spaces(c);
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static bool take_token(struct cursor *c, struct slice *token)
{
    const char *begin;

    skip_spaces(c);
    begin = c->at;
    while (c->at < c->end && http_is_token(slice_of(c->at, 1)))
        c->at++;
    *token = slice_of(begin, (uint32_t)(c->at - begin));
    return token->n_bytes > 0;
}

static void keep_value(struct param *p, char byte)
{
    if (p->n_value < VALUE_MAX)
        p->value[p->n_value] = byte;
    p->n_value++;
}

/* What is in the quotes must be a token when it has been unescaped. */
static bool take_quoted(struct cursor *c, struct param *p)
{
    for (c->at++; c->at < c->end && *c->at != '"'; c->at++) {
        if (*c->at == '\\' && ++c->at == c->end)
            return false;
        if (!http_is_token(slice_of(c->at, 1)))
            return false;
        keep_value(p, *c->at);
    }
    return take_char(c, '"') && p->n_value > 0;
}

static bool take_value(struct cursor *c, struct param *p)
{
    struct slice token;

    skip_spaces(c);
    p->has_value = true;
    if (c->at < c->end && *c->at == '"')
        return take_quoted(c, p);
    if (!take_token(c, &token))
        return false;
    for (uint32_t i = 0; i < token.n_bytes; i++)
        keep_value(p, token.bytes[i]);
    return true;
}

static bool take_param(struct cursor *c, struct param *p)
{
    *p = (struct param){ .has_value = false };
    return take_token(c, &p->name) && (!take_char(c, '=') || take_value(c, p));
}

/* 8 to 15, without leading zeros; 0: anything else. */
static uint32_t window_bits(const struct param *p)
{
    if (p->n_value == 1 && (p->value[0] == '8' || p->value[0] == '9'))
        return (uint32_t)(p->value[0] - '0');
    if (p->n_value == 2 && p->value[0] == '1' && p->value[1] >= '0' && p->value[1] <= '5')
        return 10 + (uint32_t)(p->value[1] - '0');
    return 0;
}

/* A parameter may be there once; what it must be otherwise, its caller says. */
static void note(struct offer *o, bool *seen, bool good)
{
    if (*seen || !good)
        o->bad = true;
    *seen = true;
}

static void offer_param(struct offer *o, const struct param *p)
{
    if (slice_is(p->name, "server_no_context_takeover"))
        note(o, &o->server_no_takeover, !p->has_value);
    else if (slice_is(p->name, "client_no_context_takeover"))
        note(o, &o->client_no_takeover, !p->has_value);
    else if (slice_is(p->name, "server_max_window_bits"))
        note(o, &o->server_window, window_bits(p) == 15); /* ours are made with no less */
    else if (slice_is(p->name, "client_max_window_bits"))
        note(o, &o->client_window, !p->has_value || window_bits(p) != 0);
    else
        o->bad = true;
}

/* One extension of the list. False: the header is malformed. */
static bool take_extension(struct cursor *c, enum deflate_agreed *agreed)
{
    struct offer offer = { .bad = false };
    struct slice name;
    struct param param;

    if (!take_token(c, &name))
        return false;
    while (take_char(c, ';')) {
        if (!take_param(c, &param))
            return false;
        offer_param(&offer, &param);
    }
    if (*agreed == DEFLATE_NOT && slice_is(name, "permessage-deflate") && !offer.bad)
        *agreed = offer.server_window ? DEFLATE_AGREED_WINDOW : DEFLATE_AGREED;
    skip_spaces(c);
    return c->at == c->end || *c->at == ',';
}

/* Empty elements of a list count for nothing (RFC 9110 section 5.6.1). */
static bool take_list(struct slice value, enum deflate_agreed *agreed)
{
    struct cursor c = { value.bytes, value.bytes + value.n_bytes };

    for (;;) {
        while (take_char(&c, ','))
            ;
        if (c.at == c.end)
            return true;
        if (!take_extension(&c, agreed))
            return false;
    }
}

enum deflate_agreed deflate_negotiate(const struct http_request *r)
{
    enum deflate_agreed agreed = DEFLATE_NOT;

    for (uint32_t i = 0; i < r->n_headers; i++)
        if (http_same_text(r->headers[i].name, slice_text("sec-websocket-extensions")) &&
            r->headers[i].value.n_bytes > 0 && !take_list(r->headers[i].value, &agreed))
            return DEFLATE_MALFORMED;
    return agreed;
}

const char *deflate_header(enum deflate_agreed agreed)
{
    switch (agreed) {
    case DEFLATE_NOT:
    case DEFLATE_MALFORMED: return "";
    case DEFLATE_AGREED:
        return "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
               "client_no_context_takeover\r\n";
    case DEFLATE_AGREED_WINDOW:
        return "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
               "client_no_context_takeover; server_max_window_bits=15\r\n";
    }
    return "";
}
