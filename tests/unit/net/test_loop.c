/* test_loop.c: each request ends with one event, on every rung of the ladder that this kernel has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/loop.c"

#define SEND_OP 9
#define RECV_OP 10

static struct loop *loop;
static int pair[2];

static int setup(void **state)
{
    struct loop_options options = { 8, 64 };
    char why[512] = "";

    (void)state;
    if (loop_new(&loop, &options, why, sizeof why) != 0) {
        print_message("%s\n", why);
        return -1;
    }
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair);
}

static int teardown(void **state)
{
    (void)state;
    loop_free(loop);
    if (pair[0] >= 0)
        (void)close(pair[0]);
    (void)close(pair[1]);
    return 0;
}

static struct loop_event one_event(void)
{
    struct loop_event events[8];

    assert_int_equal(loop_turn(loop, 2000, events, 8), 1);
    return events[0];
}

static void no_event(void)
{
    struct loop_event events[8];

    assert_int_equal(loop_turn(loop, 0, events, 8), 0);
}

static uint32_t rung_with(const char *text, int *error)
{
    struct loop_options options = { 8, 64 };
    struct loop *l;
    char why[512] = "";
    const char *before = getenv("PEAL_RUNG");
    char *kept = before == NULL ? NULL : strdup(before);
    uint32_t rung = 0;

    assert_int_equal(setenv("PEAL_RUNG", text, 1), 0);
    *error = loop_new(&l, &options, why, sizeof why);
    if (*error == 0)
        rung = loop_rung(l);
    else
        assert_non_null(strstr(why, text));
    loop_free(l);
    assert_int_equal(kept == NULL ? unsetenv("PEAL_RUNG") : setenv("PEAL_RUNG", kept, 1), 0);
    free(kept);
    return rung;
}

static void test_the_environment_forces_a_lower_rung_and_never_an_unknown_one(void **state)
{
    static const char *const unknown[] = { "0", "4", "x", "22" };
    uint32_t highest;
    int error;

    (void)state;
    highest = rung_with("", &error);
    assert_int_equal(error, 0);
    assert_in_range(highest, 1, 3);
    for (uint32_t rung = 1; rung <= 3; rung++) {
        char text[2] = { (char)('0' + rung), 0 };

        assert_int_equal(rung_with(text, &error), rung < highest ? rung : highest);
        assert_int_equal(error, 0);
    }
    for (uint32_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_int_equal(rung_with(unknown[i], &error), 0);
        assert_int_equal(error, -ENOTSUP);
    }
}

struct sent {
    uint32_t n;
    uint64_t bytes;
    uint64_t tag;
    int32_t last;
};

static void on_sent(void *context, uint64_t tag, int32_t result)
{
    struct sent *s = context;

    s->n++;
    s->tag = tag;
    s->last = result;
    s->bytes += result > 0 ? (uint64_t)result : 0;
}

static int32_t receive(char *out, uint32_t n_bytes)
{
    struct sent got = { 0 };

    loop_recv(loop, pair[0], out, n_bytes, tag_pack(RECV_OP, 1, 2));
    loop_flush(loop, RECV_OP, on_sent, &got);
    assert_int_equal(got.n, 1);
    assert_int_equal(got.tag, tag_pack(RECV_OP, 1, 2));
    return got.last;
}

static void test_a_receive_does_not_wait_and_takes_what_it_has_room_for(void **state)
{
    char out[4] = "....";

    (void)state;
    assert_int_equal(receive(out, sizeof out), -EAGAIN);
    assert_int_equal(send(pair[1], "abcde", 5, 0), 5);
    assert_int_equal(receive(out, 3), 3);
    assert_memory_equal(out, "abc.", 4);
    assert_int_equal(receive(out, sizeof out), 2);
    assert_memory_equal(out, "dec.", 4);
    assert_int_equal(shutdown(pair[1], SHUT_WR), 0);
    assert_int_equal(receive(out, sizeof out), 0);
}

static void test_a_vector_arrives_in_order_and_more_of_them_than_the_queue_holds(void **state)
{
    struct iovec iov[50][3];
    struct sent sent = { 0 };
    char text[50][4];
    char got[512];

    (void)state;
    for (uint32_t i = 0; i < 50; i++) {
        (void)snprintf(text[i], sizeof text[i], "%03u", i);
        for (uint32_t k = 0; k < 3; k++)
            iov[i][k] = (struct iovec){ &text[i][k], 1 };
        loop_sendv(loop, pair[0], iov[i], 3, tag_pack(SEND_OP, i, 77));
    }
    loop_flush(loop, SEND_OP, on_sent, &sent);
    assert_int_equal(sent.n, 50);
    assert_int_equal(sent.bytes, 150);
    assert_int_equal(tag_generation(sent.tag), 77);
    assert_int_equal(recv(pair[1], got, sizeof got, 0), 150);
    for (uint32_t i = 0; i < 50; i++)
        assert_memory_equal(got + (size_t)3 * i, text[i], 3);
    no_event(); /* a send is not an event as well */
}

static void test_sends_complete_within_the_flush_and_other_events_are_kept(void **state)
{
    int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct loop_event e;
    struct sent sent = { 0 };
    uint64_t rung = 0;

    (void)state;
    loop_poll_once(loop, pair[0], POLLOUT, tag_pack(3, 5, 6));
    loop_send(loop, pair[0], "out", 3, tag_pack(SEND_OP, 1, 2));
    loop_flush(loop, SEND_OP, on_sent, &sent);
    assert_int_equal(sent.n, 1);
    assert_int_equal(sent.last, 3);
    assert_int_equal(sent.tag, tag_pack(SEND_OP, 1, 2));
    e = one_event();
    assert_int_equal(e.tag, tag_pack(3, 5, 6));
    assert_int_equal(e.result, POLLOUT);
    loop_read(loop, bell, &rung, sizeof rung, 8);
    no_event(); /* waits until it is rung */
    assert_int_equal(eventfd_write(bell, 4), 0);
    e = one_event();
    assert_int_equal(e.tag, 8);
    assert_int_equal(rung, 4);
    assert_int_equal(close(bell), 0);
}

/* The kernel refuses requests until completions are taken; which it does too seldom to wait for it. */
static void test_a_send_taken_to_make_room_still_reaches_its_owner(void **state)
{
    struct sent sent = { 0 };

    (void)state;
    loop_poll_once(loop, pair[0], POLLOUT, 5);
    loop_send(loop, pair[0], "a", 1, tag_pack(SEND_OP, 1, 0));
    submit(loop);
    make_room(loop);
    loop_send(loop, pair[0], "b", 1, tag_pack(SEND_OP, 2, 0));
    loop_flush(loop, SEND_OP, on_sent, &sent);
    assert_int_equal(sent.n, 2);
    assert_int_equal(tag_index(sent.tag), 2); /* in their order */
    assert_int_equal(one_event().tag, 5);
    no_event();
}

static void test_a_full_socket_says_so_and_a_broken_one_raises_no_signal(void **state)
{
    static char bytes[1u << 20];
    struct sent sent = { 0 };

    (void)state;
    loop_send(loop, pair[0], bytes, sizeof bytes, tag_pack(SEND_OP, 0, 0));
    loop_flush(loop, SEND_OP, on_sent, &sent);
    assert_in_range(sent.last, 1, sizeof bytes - 1); /* short */
    while (sent.last > 0) {
        loop_send(loop, pair[0], bytes, sizeof bytes, tag_pack(SEND_OP, 0, 0));
        loop_flush(loop, SEND_OP, on_sent, &sent);
    }
    assert_int_equal(sent.last, -EAGAIN);
    assert_int_equal(close(pair[1]), 0);
    pair[1] = -1;
    loop_send(loop, pair[0], bytes, 1, tag_pack(SEND_OP, 0, 0));
    loop_flush(loop, SEND_OP, on_sent, &sent);
    assert_int_equal(sent.last, -EPIPE);
}

static void test_a_cancelled_poll_ends_once_and_the_cancellation_is_an_event_too(void **state)
{
    struct loop_event events[4];
    uint32_t n = 0, n_poll = 0;

    (void)state;
    loop_poll(loop, pair[0], POLLIN, 1);
    no_event();
    assert_int_equal(send(pair[1], "x", 1, 0), 1);
    events[0] = one_event();
    assert_true(events[0].more);
    assert_true((events[0].result & POLLIN) != 0);
    assert_int_equal(send(pair[1], "y", 1, 0), 1);
    assert_true(one_event().more); /* each arrival is told */
    loop_cancel(loop, 1, 2);
    while (n < 2)
        n += loop_turn(loop, 2000, events + n, 4 - n);
    for (uint32_t i = 0; i < 2; i++) {
        assert_false(events[i].more);
        n_poll += events[i].tag == 1;
        assert_int_equal(events[i].result, events[i].tag == 1 ? -ECANCELED : 1);
    }
    assert_int_equal(n_poll, 1);
    assert_int_equal(send(pair[1], "z", 1, 0), 1);
    no_event();
}

static void test_a_poll_asked_for_once_tells_once(void **state)
{
    (void)state;
    loop_poll_once(loop, pair[0], POLLOUT, 5);
    assert_int_equal(one_event().tag, 5);
    no_event();
}

static void test_an_accepted_socket_is_not_inherited_and_does_not_block(void **state)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t n = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct loop_event e;

    (void)state;
    assert_int_equal(bind(listener, (struct sockaddr *)&address, n), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &n), 0);
    loop_accept(loop, listener, 3);
    no_event();
    for (uint32_t i = 0; i < 2; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        char byte;

        assert_int_equal(connect(client, (struct sockaddr *)&address, n), 0);
        e = one_event();
        assert_true(e.result >= 0);
        assert_true(e.more);
        assert_int_equal(recv(e.result, &byte, 1, 0), -1);
        assert_int_equal(errno, EAGAIN);
        loop_close(loop, e.result, 4);
        assert_int_equal(one_event().tag, 4);
        assert_int_equal(recv(client, &byte, 1, 0), 0);
        assert_int_equal(close(client), 0);
    }
    assert_int_equal(close(listener), 0);
}

static void test_what_does_not_fit_into_one_turn_comes_with_the_next(void **state)
{
    struct loop_event events[4];
    uint32_t seen = 0;

    (void)state;
    for (uint32_t i = 0; i < 30; i++) /* more than the submission queue holds */
        loop_poll_once(loop, pair[0], POLLOUT, i);
    for (uint32_t n; (n = loop_turn(loop, 10, events, 4)) > 0;)
        for (uint32_t i = 0; i < n; i++)
            seen |= 1u << events[i].tag;
    assert_int_equal(seen, (1u << 30) - 1);
}

static void test_waiting_ends_with_its_time(void **state)
{
    struct loop_event events[1];

    (void)state;
    assert_int_equal(loop_turn(loop, 10, events, 1), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    static const char *const rungs[] = { "1", "2", "3" };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_environment_forces_a_lower_rung_and_never_an_unknown_one),
        TEST(test_a_receive_does_not_wait_and_takes_what_it_has_room_for),
        TEST(test_a_vector_arrives_in_order_and_more_of_them_than_the_queue_holds),
        TEST(test_sends_complete_within_the_flush_and_other_events_are_kept),
        TEST(test_a_send_taken_to_make_room_still_reaches_its_owner),
        TEST(test_a_full_socket_says_so_and_a_broken_one_raises_no_signal),
        TEST(test_a_cancelled_poll_ends_once_and_the_cancellation_is_an_event_too),
        TEST(test_a_poll_asked_for_once_tells_once),
        TEST(test_an_accepted_socket_is_not_inherited_and_does_not_block),
        TEST(test_what_does_not_fit_into_one_turn_comes_with_the_next),
        TEST(test_waiting_ends_with_its_time),
    };
    int failed = 0;

    for (uint32_t i = 0; i < sizeof rungs / sizeof rungs[0]; i++) {
        if (setenv("PEAL_RUNG", rungs[i], 1) != 0)
            return 1;
        failed += cmocka_run_group_tests_name(rungs[i], tests, NULL, NULL);
    }
    return failed;
}
