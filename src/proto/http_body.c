/* http_body.c: see http_body.h. Chunk extensions and trailers are skipped, within LINES_MAX bytes each. */
#include "proto/http_body.h"

#define LINES_MAX  4096
#define DIGITS_MAX 8 /* of a chunk's size: 4 GB is beyond every limit */

enum step {
    STEP_LENGTH, /* so many bytes, and that is all */
    STEP_SIZE,
    STEP_EXTENSION,
    STEP_SIZE_LF,
    STEP_CHUNK,
    STEP_CHUNK_CR,
    STEP_CHUNK_LF,
    STEP_TRAILER_START,
    STEP_TRAILER,
    STEP_TRAILER_LF,
    STEP_LAST_LF,
    STEP_END,
    STEP_BAD
};

void http_body_init(struct http_body *body, const struct http_request *request)
{
    *body = (struct http_body){ .step = STEP_SIZE };
    if (request->chunked)
        return;
    body->left = request->content_length;
    body->step = body->left > 0 ? STEP_LENGTH : STEP_END;
}

static bool size_digit(struct http_body *body, char c)
{
    uint32_t value = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10
                                            : 16;

    if (value == 16 || body->digits == DIGITS_MAX)
        return false;
    body->left = body->left << 4 | value;
    body->digits++;
    return true;
}

/* One byte of what is not content. */
static enum step frame_byte(struct http_body *body, char c)
{
    if (++body->line > LINES_MAX)
        return STEP_BAD;
    switch ((enum step)body->step) {
    case STEP_SIZE:
        if (size_digit(body, c))
            return STEP_SIZE;
        if (body->digits == 0)
            return STEP_BAD;
        return c == '\r' ? STEP_SIZE_LF : c == ';' || c == ' ' || c == '\t' ? STEP_EXTENSION : STEP_BAD;
    case STEP_EXTENSION: return c == '\r' ? STEP_SIZE_LF : c == '\n' ? STEP_BAD : STEP_EXTENSION;
    case STEP_SIZE_LF:
        if (c != '\n')
            return STEP_BAD;
        body->line = 0;
        return body->left > 0 ? STEP_CHUNK : STEP_TRAILER_START;
    case STEP_CHUNK_CR: return c == '\r' ? STEP_CHUNK_LF : STEP_BAD;
    case STEP_CHUNK_LF:
        body->digits = 0;
        body->line = 0;
        return c == '\n' ? STEP_SIZE : STEP_BAD;
    case STEP_TRAILER_START:
        return c == '\r' ? STEP_LAST_LF : c == '\n' ? STEP_BAD : STEP_TRAILER;
    case STEP_TRAILER: return c == '\r' ? STEP_TRAILER_LF : c == '\n' ? STEP_BAD : STEP_TRAILER;
    case STEP_TRAILER_LF: return c == '\n' ? STEP_TRAILER_START : STEP_BAD;
    case STEP_LAST_LF: return c == '\n' ? STEP_END : STEP_BAD;
    case STEP_LENGTH:
    case STEP_CHUNK:
    case STEP_END:
    case STEP_BAD: break;
    }
    return STEP_BAD;
}

enum http_body_result http_body_next(struct http_body *body, struct slice *input,
                                     struct slice *piece)
{
    for (;;) { /* each round takes a byte, or ends */
        if (body->step == STEP_END)
            return HTTP_BODY_END;
        if (body->step == STEP_BAD)
            return HTTP_BODY_BAD;
        if (input->n_bytes == 0)
            return HTTP_BODY_MORE;
        if (body->step == STEP_LENGTH || body->step == STEP_CHUNK) {
            uint32_t n = body->left < input->n_bytes ? (uint32_t)body->left : input->n_bytes;

            *piece = slice_of(input->bytes, n);
            *input = slice_of(input->bytes + n, input->n_bytes - n);
            body->left -= n;
            if (body->left == 0)
                body->step = body->step == STEP_LENGTH ? STEP_END : STEP_CHUNK_CR;
            return HTTP_BODY_PIECE;
        }
        body->step = (uint8_t)frame_byte(body, input->bytes[0]);
        *input = slice_of(input->bytes + 1, input->n_bytes - 1);
    }
}
