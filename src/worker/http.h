/* http.h: the client listener's requests: routing (http.c), and the Engine.IO endpoint (engine.c). */
#ifndef PEAL_WORKER_HTTP_H
#define PEAL_WORKER_HTTP_H

#include "session/exchange.h"
#include "worker/worker.h"

/* Serves one request, of which `all` is the head and what was read behind it. The connection is then OPEN (upgraded), still HTTP (kept alive, or its
 * request is held), or ending. False: not now; the same bytes must come again. */
MUST_USE bool http_serve(struct worker *w, struct conn *c, const struct http_request *request,
                         struct slice all);
void http_answer_error(struct worker *w, struct conn *c, uint16_t status);

/* --- shared by both --- */

/* May the connection go on after this request? One with a body that nobody reads may not. */
bool http_goes_on(const struct http_request *r);

/* Is the Origin let in? Not from a browser: yes. False: refused and answered. */
MUST_USE bool http_origin_may(struct worker *w, struct conn *c, const struct http_request *r);

/* May it become a client? `address` gets whose it is then (worker_admission). False: refused and answered (503). */
MUST_USE bool http_admit(struct worker *w, struct conn *c, const struct http_request *r,
                         struct peer_address *address);
void http_refuse_full(struct worker *w, struct conn *c, enum parcel_refusal why);

/* Is it a good WebSocket handshake? False: answered. */
MUST_USE bool http_ws_good(struct worker *w, struct conn *c, const struct http_request *r,
                           uint16_t bad_version_status);

/* The 101, with the exchange's headers; the exchange is over. Agrees on permessage-deflate, where the client offers it and `deflate` lets it (CONN_DEFLATE). */
void http_send_switch(struct worker *w, struct conn *c, const struct http_request *r);

/* engine.c: as http_serve, for requests under `path`. */
MUST_USE bool engine_serve(struct worker *w, struct conn *c, const struct http_request *r,
                           struct slice all);
/* Bytes of a POST's body, taken off the front of `bytes`. */
void engine_on_body(struct worker *w, struct conn *c, struct slice *bytes);
/* Takes in the packets of a whole body, one by one, from where it had to wait the last time. What comes behind one that ended the session is not looked
 * at. */
void engine_dispatch_body(struct worker *w, struct conn *c);

#endif
