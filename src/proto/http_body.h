/* http_body.h: the body of a request, by Content-Length or chunked (RFC 9112 section 7.1). Sans-IO, no allocation, as strict as the head:
 * CR LF and nothing else ends a line, so no proxy before us can have seen other borders. */
#ifndef PEAL_PROTO_HTTP_BODY_H
#define PEAL_PROTO_HTTP_BODY_H

#include "proto/http.h"

struct http_body {
    uint64_t left; /* bytes of the body, or of the chunk, that are to come */
    uint32_t line; /* bytes of the line in hand: of a chunk's size, or of trailers */
    uint8_t digits;
    uint8_t step; /* private */
};

enum http_body_result {
    HTTP_BODY_MORE = 0, /* all of the input was taken; the body goes on */
    HTTP_BODY_PIECE,    /* `piece` is some of it; call again */
    HTTP_BODY_END,      /* the body is through; what is left of the input is behind it */
    HTTP_BODY_BAD       /* no chunked encoding, or one with lines of more than 4096 bytes */
};

void http_body_init(struct http_body *body, const struct http_request *request);

/* Takes bytes off the front of `input`. `piece` points into it. */
MUST_USE enum http_body_result http_body_next(struct http_body *body, struct slice *input,
                                              struct slice *piece);

#endif
