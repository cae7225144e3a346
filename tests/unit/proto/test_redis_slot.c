/* test_redis_slot.c: slots as Redis computes them (CLUSTER KEYSLOT of a Redis 7.0), and errors. */
#include "proto/redis_slot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void test_slots_are_those_of_redis(void **state)
{
    static const struct {
        const char *name;
        uint16_t slot;
    } known[] = {
        { "", 0 },
        { "a", 15495 },
        { "123456789", 12739 },
        { "socket.io#/#", 13868 },
        { "socket.io#/#room1#", 9640 },
        { "socket.io#/chat#", 2409 },
        { "{a}b", 15495 },
        { "x{a}b", 15495 },
        { "x{}b", 7598 },
        { "x{a", 6541 },
        { "a}", 5921 },
        { "{{a}}", 10276 },
        { "{}{a}", 13650 },
        { "socket.io#/#{user1000}.following#", 3443 },
        { "socket.io#/#{user1000}.followers#", 3443 },
        { "é😀", 14663 },
    };

    (void)state;
    for (uint32_t i = 0; i < sizeof known / sizeof *known; i++) {
        print_message("%s\n", known[i].name);
        assert_int_equal(redis_slot(slice_text(known[i].name)), known[i].slot);
    }
}

static void assert_target(const char *error, enum redis_refusal kind, uint16_t slot,
                          const char *host, uint16_t port)
{
    struct redis_redirection r = redis_redirection(slice_text(error));

    assert_int_equal(r.kind, kind);
    assert_int_equal(r.slot, slot);
    assert_true(slice_is(r.host, host));
    assert_int_equal(r.port, port);
}

static void test_redirections_are_read(void **state)
{
    (void)state;
    assert_target("MOVED 3999 127.0.0.1:6381", REFUSAL_MOVED, 3999, "127.0.0.1", 6381);
    assert_target("ASK 16383 redis-1.example:7000", REFUSAL_ASK, 16383, "redis-1.example", 7000);
    assert_target("MOVED 0 ::1:6379", REFUSAL_MOVED, 0, "::1", 6379);
    assert_target("MOVED 866 :6379", REFUSAL_MOVED, 866, "", 6379);
}

static void test_what_is_no_redirection_is_none(void **state)
{
    static const char *const other[] = { "",
                                         "MOVED",
                                         "MOVED ",
                                         "MOVED 16384 h:1",
                                         "MOVED 99999999999 h:1",
                                         "MOVED x h:1",
                                         "MOVED 5 h",
                                         "MOVED 5 h:",
                                         "MOVED 5 h:0",
                                         "MOVED 5 h:65536",
                                         "MOVED 5 h:1x",
                                         "MOVED 5h:1",
                                         "ASKING 5 h:1",
                                         "WRONGPASS invalid" };

    (void)state;
    for (uint32_t i = 0; i < sizeof other / sizeof *other; i++)
        assert_target(other[i], REFUSAL_OTHER, 0, "", 0);
    assert_target("CLUSTERDOWN Hash slot not served", REFUSAL_NOT_NOW, 0, "", 0);
    assert_target("TRYAGAIN Multiple keys", REFUSAL_NOT_NOW, 0, "", 0);
    assert_target("LOADING Redis is loading", REFUSAL_NOT_NOW, 0, "", 0);
    assert_target("ERR This instance has cluster support disabled", REFUSAL_NO_CLUSTER, 0, "", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots_are_those_of_redis),
        cmocka_unit_test(test_redirections_are_read),
        cmocka_unit_test(test_what_is_no_redirection_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
