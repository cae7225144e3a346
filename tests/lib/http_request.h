/* http_request.h: a request for the tests of what answers one. */
#ifndef PEAL_TESTS_HTTP_REQUEST_H
#define PEAL_TESTS_HTTP_REQUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/http.h"

static struct http_request request;
static char request_text[HTTP_HEAD_MAX]; /* `request` points into it */

/* A whole head. */
__attribute__((unused)) static void parse_head(const char *head)
{
    uint32_t scanned = 0;
    uint32_t head_bytes;
    uint16_t status;
    int n = snprintf(request_text, sizeof request_text, "%s", head);

    assert_true(n > 0 && n < (int)sizeof request_text);
    assert_int_equal(http_parse(slice_text(request_text), &scanned, &request, &head_bytes, &status),
                     HTTP_OK);
}

/* A request line without version, and header lines, each with its CR LF. */
__attribute__((unused)) static void parse_request(const char *line, const char *headers)
{
    static char head[HTTP_HEAD_MAX];
    int n = snprintf(head, sizeof head, "%s HTTP/1.1\r\nHost: a\r\n%s\r\n", line, headers);

    assert_true(n > 0 && n < (int)sizeof head);
    parse_head(head);
}

#endif
