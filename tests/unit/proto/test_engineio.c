/* test_engineio.c: identities as text, and the open packet byte for byte. */
#include "proto/engineio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_known_bytes_have_their_base64url_text(void **state)
{
    static const uint8_t bytes[] = { 0x00, 0x10, 0x83, 0x10, 0x51, 0x87,
                                     0x20, 0x92, 0x8b, 0xfb, 0xff, 0xbe };
    char text[16];

    (void)state;
    base64url_encode(text, bytes, sizeof bytes);
    assert_memory_equal(text, "ABCDEFGHIJKL-_--", sizeof text);
    base64url_encode(text, NULL, 0);
    assert_memory_equal(text, "ABCD", 4); /* nothing written */
}

static void test_identities_survive_the_way_to_text_and_back(void **state)
{
    uint8_t id[EIO_SID_BYTES];
    uint8_t back[EIO_SID_BYTES];
    char text[EIO_SID_CHARS];

    (void)state;
    for (uint32_t seed = 0; seed < 1000; seed++) {
        for (uint32_t i = 0; i < sizeof id; i++)
            id[i] = (uint8_t)((seed * 2654435761u + i * 40503u) >> (i % 24));
        base64url_encode(text, id, EIO_SID_BYTES);
        assert_true(base64url_decode(back, slice_of(text, EIO_SID_CHARS)));
        assert_memory_equal(back, id, sizeof id);
        base64url_encode(text, id, SOCKET_ID_BYTES);
        assert_true(base64url_decode(back, slice_of(text, SOCKET_ID_CHARS)));
        assert_memory_equal(back, id, SOCKET_ID_BYTES);
    }
}

static void test_only_the_64_characters_are_taken_at_any_place(void **state)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char text[8];
    uint8_t out[6];

    (void)state;
    for (uint32_t at = 0; at < sizeof text; at++) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            bool known = byte != 0 && strchr(alphabet, (int)byte) != NULL;

            memset(text, 'A', sizeof text);
            memset(out, 0x5a, sizeof out);
            text[at] = (char)byte;
            assert_int_equal(base64url_decode(out, slice_of(text, sizeof text)), known);
            assert_int_equal(out[at / 4 * 3 == 0 ? 3 : 0],
                             known ? 0 : 0x5a); /* refused: nothing was written */
        }
    }
}

static void test_texts_of_other_lengths_are_refused(void **state)
{
    uint8_t out[EIO_SID_BYTES];
    char text[EIO_SID_CHARS];

    (void)state;
    memset(text, 'a', sizeof text);
    for (uint32_t n = 0; n <= sizeof text; n++)
        assert_int_equal(base64url_decode(out, slice_of(text, n)), n % 4 == 0);
    assert_false(base64url_decode(out, slice_text("YQ==")));
}

static void test_the_index_of_a_socket_id_is_its_first_three_bytes(void **state)
{
    uint8_t id[SOCKET_ID_BYTES];

    (void)state;
    memset(id, 0xff, sizeof id);
    assert_true(base64url_decode(id, slice_text("EjRW")));
    assert_int_equal(socket_id_index(id), 0x123456);
}

static void check_open(const char *sid, bool may_upgrade, uint32_t number, const char *want)
{
    char *out = malloc(EIO_OPEN_MAX);
    uint32_t n_bytes;

    assert_non_null(out);
    n_bytes = eio_put_open(out, slice_text(sid), may_upgrade, number, number - 1, number - 2);
    assert_int_equal(n_bytes, strlen(want));
    assert_memory_equal(out, want, n_bytes);
    free(out);
}

static void test_the_open_packet_has_the_keys_in_the_order_of_node(void **state)
{
    (void)state;
    check_open("lv_VI97HAXpY6yYWAAAC", true, 25000,
               "0{\"sid\":\"lv_VI97HAXpY6yYWAAAC\",\"upgrades\":[\"websocket\"],\"pingInterval\":"
               "25000,\"pingTimeout\":24999,"
               "\"maxPayload\":24998}");
    check_open("AAAA", false, 4294967295u,
               "0{\"sid\":\"AAAA\",\"upgrades\":[],\"pingInterval\":4294967295,\"pingTimeout\":"
               "4294967294,\"maxPayload\":4294967293}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_bytes_have_their_base64url_text),
        cmocka_unit_test(test_identities_survive_the_way_to_text_and_back),
        cmocka_unit_test(test_only_the_64_characters_are_taken_at_any_place),
        cmocka_unit_test(test_texts_of_other_lengths_are_refused),
        cmocka_unit_test(test_the_index_of_a_socket_id_is_its_first_three_bytes),
        cmocka_unit_test(test_the_open_packet_has_the_keys_in_the_order_of_node),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
