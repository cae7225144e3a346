/* proxy.c: who a connection and its requests are from, where proxies stand in front.
 *
 * A connection's peer is what the kernel says, or what the PROXY header says that it begins with. A request's client is that peer, or, where the peer is
 * trusted, what X-Forwarded-For says. The client of a handshake is the client of its session for good, whatever carries it later.
 *
 * Invariant: nothing that a client can write is believed: a header counts only from who is in trusted_proxies; where PROXY headers are due, one comes before
 *            any byte of a client, and a connection without one is closed. */
#include "base/log.h"
#include "proto/forwarded.h"
#include "proto/proxy_protocol.h"
#include "worker/worker.h"

static bool is_trusted(const struct worker *w, const struct peer_address *address)
{
    const struct config *config = w->hub.config;

    return address_is_in(address, config->trusted_proxies, config->n_trusted_proxies);
}

void proxy_begin(struct worker *w, struct conn *c)
{
    const struct config *config = w->hub.config;

    if (config->proxy_protocol &&
        (config->n_trusted_proxies == 0 || is_trusted(w, &conn_cold(&w->hub.conns, c)->peer)))
        c->proxy = CONN_PROXY_DUE;
}

static void refuse(struct worker *w, struct conn *c, enum counter why, const char *reason)
{
    static struct log_rate rate;
    char peer[ADDRESS_TEXT_MAX];
    uint32_t suppressed;

    count_add(w->hub.row, why, 1);
    peer_address_text(peer, sizeof peer, &conn_cold(&w->hub.conns, c)->peer);
    if (log_allow(&rate, w->hub.now_ms, 10, &suppressed))
        log_warning("proxy_header_refused", "peer=%s reason=%s suppressed=%u", peer, reason,
                    suppressed);
    client_gone(&w->hub, c, CLOSE_PROTOCOL_ERROR);
}

bool proxy_take_header(struct worker *w, struct conn *c, struct slice *bytes)
{
    struct hub *h = &w->hub;
    struct proxy_header header;
    struct slice all;
    uint32_t *scanned;

    if (input_add_head(h, c, *bytes, &all, &scanned) != INPUT_COMPLETE) {
        client_gone(h, c,
                    CLOSE_MEMORY); /* a header and what is behind it in one buffer always fit */
        return false;
    }
    switch (proxy_header_parse(all, &header)) {
    case PROXY_HEADER_MORE: return false;
    case PROXY_HEADER_NONE:
        refuse(w, c, COUNT_PROXY_MISSING, "no PROXY header (proxy_protocol = on)");
        return false;
    case PROXY_HEADER_BROKEN:
        refuse(w, c, COUNT_PROXY_MALFORMED, "malformed PROXY header");
        return false;
    case PROXY_HEADER_OK: break;
    }
    /* the header was incomplete without `bytes`, so what is behind it is their end */
    *bytes = slice_of(bytes->bytes + bytes->n_bytes - (all.n_bytes - header.n_bytes),
                      all.n_bytes - header.n_bytes);
    input_done(h, c);
    c->proxy = header.has_source ? CONN_PROXY_NONE : CONN_PROXY_SILENT;
    if (header.has_source)
        conn_cold(&h->conns, c)->peer = header.source;
    return true;
}

void proxy_timed_out(struct worker *w, struct conn *c)
{
    refuse(w, c, COUNT_PROXY_TIMEOUT, "PROXY header not complete within header_timeout");
}

struct peer_address proxy_client(struct worker *w, const struct conn *c,
                                 const struct http_request *r)
{
    const struct peer_address *peer = &conn_cold(&w->hub.conns, c)->peer;

    if (c->proxy == CONN_PROXY_SILENT)
        return *peer;
    return forwarded_client(r, peer, w->hub.config->trusted_proxies,
                            w->hub.config->n_trusted_proxies);
}

struct slice proxy_host(struct worker *w, const struct conn *c, const struct http_request *r)
{
    struct slice host = { NULL, 0 };

    if (c->proxy != CONN_PROXY_SILENT && is_trusted(w, &conn_cold(&w->hub.conns, c)->peer))
        host = forwarded_host(r);
    return host.bytes != NULL ? host : http_header_find(r, "host");
}
