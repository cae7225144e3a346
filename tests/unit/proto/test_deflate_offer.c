/* test_deflate_offer.c: which offers of permessage-deflate are agreed on. */
#include "lib/http_request.h"

#include "proto/deflate.h"

/* Headers of that value; a `|` begins another one. */
static enum deflate_agreed offered(const char *values)
{
    char lines[4096];
    int n = 0;

    for (const char *at = values;; at++) {
        int length = (int)strcspn(at, "|");

        n += snprintf(lines + n, sizeof lines - (size_t)n, "Sec-WebSocket-Extensions: %.*s\r\n",
                      length, at);
        at += length;
        if (*at == '\0')
            break;
    }
    parse_request("GET /", lines);
    return deflate_negotiate(&request);
}

struct row {
    const char *values;
    enum deflate_agreed agreed;
};

static const struct row rows[] = {
    /* what clients send */
    { "permessage-deflate", DEFLATE_AGREED },
    { "permessage-deflate; client_max_window_bits", DEFLATE_AGREED },
    { "permessage-deflate; client_max_window_bits=15", DEFLATE_AGREED },
    { "permessage-deflate; client_max_window_bits=8", DEFLATE_AGREED },
    { "permessage-deflate; client_max_window_bits=\"10\"", DEFLATE_AGREED },
    { "permessage-deflate; client_max_window_bits=\"1\\0\"", DEFLATE_AGREED },
    { "permessage-deflate;server_no_context_takeover;client_no_context_takeover", DEFLATE_AGREED },
    { "  permessage-deflate\t;\tclient_max_window_bits = 12 ", DEFLATE_AGREED },
    { "permessage-deflate; server_max_window_bits=15", DEFLATE_AGREED_WINDOW },
    { "permessage-deflate; server_max_window_bits=\"15\"; client_max_window_bits",
      DEFLATE_AGREED_WINDOW },
    /* not with what we cannot do */
    { "permessage-deflate; server_max_window_bits=14", DEFLATE_NOT },
    { "permessage-deflate; server_max_window_bits=8", DEFLATE_NOT },
    /* nor with what may not be in an offer */
    { "permessage-deflate; server_max_window_bits", DEFLATE_NOT },
    { "permessage-deflate; server_max_window_bits=7", DEFLATE_NOT },
    { "permessage-deflate; server_max_window_bits=16", DEFLATE_NOT },
    { "permessage-deflate; server_max_window_bits=015", DEFLATE_NOT },
    { "permessage-deflate; server_max_window_bits=1500000000000000000000", DEFLATE_NOT },
    { "permessage-deflate; client_max_window_bits=7", DEFLATE_NOT },
    { "permessage-deflate; client_max_window_bits=08", DEFLATE_NOT },
    { "permessage-deflate; client_max_window_bits=16", DEFLATE_NOT },
    { "permessage-deflate; client_max_window_bits=x", DEFLATE_NOT },
    { "permessage-deflate; client_max_window_bits=1x", DEFLATE_NOT },
    { "permessage-deflate; server_no_context_takeover=1", DEFLATE_NOT },
    { "permessage-deflate; client_no_context_takeover=\"yes\"", DEFLATE_NOT },
    { "permessage-deflate; client_max_window_bits; client_max_window_bits", DEFLATE_NOT },
    { "permessage-deflate; client_max_window_bits=15; client_max_window_bits=15", DEFLATE_NOT },
    { "permessage-deflate; server_no_context_takeover; server_no_context_takeover", DEFLATE_NOT },
    { "permessage-deflate; server_max_window_bits=15; server_max_window_bits=15", DEFLATE_NOT },
    { "permessage-deflate; fast", DEFLATE_NOT },
    { "permessage-deflate; Client_Max_Window_Bits", DEFLATE_NOT },
    { "x-webkit-deflate-frame", DEFLATE_NOT },
    { "permessage-deflate-2", DEFLATE_NOT },
    { "bbf-usp-protocol; eid=\"a.b\"", DEFLATE_NOT },
    { "", DEFLATE_NOT },
    { ",, ,", DEFLATE_NOT },
    /* the first that is good */
    { "permessage-deflate; server_max_window_bits=10, permessage-deflate", DEFLATE_AGREED },
    { "permessage-deflate; server_max_window_bits=10,"
      "permessage-deflate; server_max_window_bits=15, permessage-deflate",
      DEFLATE_AGREED_WINDOW },
    { "permessage-deflate, permessage-deflate; server_max_window_bits=15", DEFLATE_AGREED },
    { "mux; max=4; flow, , permessage-deflate; client_max_window_bits,", DEFLATE_AGREED },
    { "permessage-deflate; fast|permessage-deflate", DEFLATE_AGREED },
    { "mux|mux;a=\"b\"|permessage-deflate; server_max_window_bits=15", DEFLATE_AGREED_WINDOW },
    { "|permessage-deflate", DEFLATE_AGREED },
    /* no list of extensions at all */
    { "permessage-deflate;", DEFLATE_MALFORMED },
    { "permessage-deflate; ;client_max_window_bits", DEFLATE_MALFORMED },
    { "permessage-deflate; client_max_window_bits=", DEFLATE_MALFORMED },
    { "permessage-deflate; client_max_window_bits=\"\"", DEFLATE_MALFORMED },
    { "permessage-deflate; client_max_window_bits=\"10", DEFLATE_MALFORMED },
    { "permessage-deflate; client_max_window_bits=\"10\\", DEFLATE_MALFORMED },
    { "permessage-deflate; client_max_window_bits=\"1 0\"", DEFLATE_MALFORMED },
    { "permessage-deflate; =15", DEFLATE_MALFORMED },
    { "permessage-deflate client_max_window_bits", DEFLATE_MALFORMED },
    { "permessage-deflate; client_max_window_bits=10 11", DEFLATE_MALFORMED },
    { "permessage-deflate; client_max_window_bits=\"10\"1", DEFLATE_MALFORMED },
    { "=permessage-deflate", DEFLATE_MALFORMED },
    { "permessage/deflate", DEFLATE_MALFORMED },
    { "permessage-deflate, (comment)", DEFLATE_MALFORMED },
    { "permessage-deflate|;", DEFLATE_MALFORMED },
};

static void test_each_offer_gets_its_answer(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum deflate_agreed agreed = offered(rows[i].values);

        if (agreed != rows[i].agreed)
            fail_msg("`%s`: %d instead of %d", rows[i].values, agreed, rows[i].agreed);
    }
}

static void test_a_request_without_the_header_offers_nothing(void **state)
{
    (void)state;
    parse_request("GET /", "Upgrade: websocket\r\n");
    assert_int_equal(deflate_negotiate(&request), DEFLATE_NOT);
}

static void test_the_answer_takes_no_context_over(void **state)
{
    (void)state;
    assert_string_equal(deflate_header(DEFLATE_NOT), "");
    assert_string_equal(deflate_header(DEFLATE_MALFORMED), "");
    assert_string_equal(deflate_header(DEFLATE_AGREED),
                        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
                        "client_no_context_takeover\r\n");
    /* RFC 7692 section 7.1.2.1: an offer with it is accepted by naming it */
    assert_string_equal(deflate_header(DEFLATE_AGREED_WINDOW),
                        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
                        "client_no_context_takeover; server_max_window_bits=15\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_offer_gets_its_answer),
        cmocka_unit_test(test_a_request_without_the_header_offers_nothing),
        cmocka_unit_test(test_the_answer_takes_no_context_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
