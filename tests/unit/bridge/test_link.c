/* test_link.c: a connection to Redis, against a server played by the test where a real one would not misbehave so (the real one: tests/e2e/outage.test.mjs).
 * The clock is the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bridge/link.h"

static struct config_redis redis;
static struct link l;
static uint64_t now_ms;
static int listener, server; /* server: the accepted end; -1: none */
static uint32_t n_replies;
static char last_reply[256];

static int setup(void **state)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof address;
    (void)state;

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    log_set_level(LOG_ERROR);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &n), 0);
    redis = (struct config_redis){ .enabled = true,
                                   .host = "127.0.0.1",
                                   .port = ntohs(address.sin_port) };
    server = -1;
    now_ms = 1000000;
    n_replies = 0;
    link_init(&l, &redis, NULL, "test");
    link_keep(&l, 4u << 20, 10000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    link_close(&l);
    close(listener);
    if (server >= 0)
        close(server);
    return 0;
}

static bool on_reply(void *context, redisReply *reply)
{
    (void)context;
    n_replies++;
    snprintf(last_reply, sizeof last_reply, "%s",
             reply->type == REDIS_REPLY_STATUS || reply->type == REDIS_REPLY_STRING ||
                     reply->type == REDIS_REPLY_ERROR
                 ? reply->str
                 : "");
    return true;
}

/* One turn of a loop: true, it came up. */
static bool turn(void)
{
    struct pollfd p = { l.fd, link_events(&l), 0 };
    bool up;

    (void)poll(&p, 1, 2);
    up = link_on_events(&l, p.revents, true, now_ms, on_reply, NULL);
    link_tick(&l, now_ms);
    link_flush(&l, now_ms);
    return up;
}

static void turns_until(enum link_state state)
{
    for (uint32_t i = 0; i < 5000 && l.state != state; i++)
        turn();
    assert_int_equal(l.state, state);
}

static void server_accept(void)
{
    if (server >= 0)
        close(server);
    for (uint32_t i = 0; i < 1000; i++) {
        struct pollfd p = { listener, POLLIN, 0 };

        turn();
        if (poll(&p, 1, 0) == 1)
            break;
    }
    server = accept(listener, NULL, NULL);
    assert_true(server >= 0);
}

static void server_say(const char *text)
{
    assert_int_equal(send(server, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Reads exactly this. */
static void server_hears(const char *text)
{
    size_t n = strlen(text), at = 0;
    char got[4096];

    assert_true(n < sizeof got);
    while (at < n) {
        struct pollfd p = { server, POLLIN, 0 };
        ssize_t n_read;

        turn();
        assert_true(poll(&p, 1, 5000) == 1);
        n_read = recv(server, got + at, n - at, 0);
        assert_true(n_read > 0);
        at += (size_t)n_read;
    }
    got[n] = '\0';
    assert_string_equal(got, text);
}

static bool server_hears_nothing(void)
{
    struct pollfd p = { server, POLLIN, 0 };

    for (uint32_t i = 0; i < 20; i++)
        turn();
    return poll(&p, 1, 0) == 0;
}

static void come_up(void)
{
    server_accept();
    server_hears("*1\r\n$4\r\nPING\r\n");
    server_say("+PONG\r\n");
    turns_until(LINK_UP);
}

static void message(const char *text)
{
    struct slice words[2] = { slice_text("M"), slice_text(text) };

    assert_true(link_message(&l, now_ms, 2, words));
}

/* --- the way up --- */

static void test_it_greets_with_who_it_is_and_survives_answers_in_pieces(void **state)
{
    static const char answers[] = "+OK\r\n+OK\r\n+PONG\r\n";
    (void)state;

    snprintf(redis.user, sizeof redis.user, "anna");
    snprintf(redis.password, sizeof redis.password, "geheim");
    redis.db = 12;
    server_accept();
    server_hears("*3\r\n$4\r\nAUTH\r\n$4\r\nanna\r\n$6\r\ngeheim\r\n"
                 "*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n*1\r\n$4\r\nPING\r\n");
    for (uint32_t i = 0; answers[i] != '\0'; i++) {
        assert_int_equal(l.state, LINK_GREETING);
        assert_int_equal(send(server, answers + i, 1, 0), 1);
        for (uint32_t j = 0; j < 5 && l.state != LINK_UP; j++)
            turn();
    }
    turns_until(LINK_UP);
    assert_int_equal(n_replies, 0); /* they were the link's own */
}

static void test_a_password_alone_is_that_of_the_default_user(void **state)
{
    (void)state;
    snprintf(redis.password, sizeof redis.password, "p");
    server_accept();
    server_hears("*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n*1\r\n$4\r\nPING\r\n");
}

/* Down for how long, at least and at most? */
static void expect_retry(uint32_t least_ms, uint32_t most_ms)
{
    assert_int_equal(l.state, LINK_DOWN);
    assert_in_range(link_wait_ms(&l, now_ms), least_ms, most_ms);
}

static void test_a_wrong_password_is_not_tried_again_at_once(void **state)
{
    (void)state;
    snprintf(redis.password, sizeof redis.password, "p");
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t most_ms = i < 3 ? 5000u << i : LINK_BACKOFF_SLOW_MS;

        server_accept();
        server_hears("*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n*1\r\n$4\r\nPING\r\n");
        server_say("-WRONGPASS invalid username-password pair or user is disabled.\r\n");
        turns_until(LINK_DOWN);
        expect_retry(most_ms / 2, most_ms);
        now_ms += most_ms;
    }
}

static void test_a_redis_that_loads_is_soon_tried_again(void **state)
{
    (void)state;
    server_accept();
    server_hears("*1\r\n$4\r\nPING\r\n");
    server_say("-LOADING Redis is loading the dataset in memory\r\n");
    turns_until(LINK_DOWN);
    expect_retry(50, 100);
}

static void test_it_backs_off_and_not_for_longer_than_a_second(void **state)
{
    (void)state;
    close(listener);
    listener = -1;
    for (uint32_t i = 0; i < 12; i++) {
        uint32_t most_ms = i < 4 ? 100u << i : LINK_BACKOFF_MAX_MS;

        turns_until(LINK_CONNECTING);
        turns_until(LINK_DOWN);
        expect_retry(most_ms / 2, most_ms);
        now_ms += most_ms;
    }
    setup(NULL); /* for the teardown */
}

static void test_who_does_not_answer_the_greeting_is_given_up(void **state)
{
    (void)state;
    server_accept();
    server_hears("*1\r\n$4\r\nPING\r\n");
    now_ms += 4000;
    turn();
    assert_int_equal(l.state, LINK_GREETING);
    now_ms += 2000;
    turn();
    assert_int_equal(l.state, LINK_DOWN);
}

static void test_each_address_of_a_name_is_tried(void **state)
{
    (void)state;
    snprintf(redis.host, sizeof redis.host,
             "localhost"); /* where it has ::1 too, nobody is there */
    come_up();
}

static void test_a_name_that_is_none_leaves_it_down(void **state)
{
    (void)state;
    snprintf(redis.host, sizeof redis.host, "no.such.name.invalid");
    turn();
    assert_int_equal(l.state, LINK_RESOLVING);
    turns_until(LINK_DOWN);
    expect_retry(50, 100);
}

static void test_a_look_up_that_takes_too_long_is_given_up(void **state)
{
    (void)state;
    snprintf(redis.host, sizeof redis.host, "no.such.name.invalid");
    link_tick(&l, now_ms);
    assert_int_equal(l.state, LINK_RESOLVING);
    now_ms += 5001;
    link_tick(&l, now_ms);
    expect_retry(50, 100);
}

/* --- messages --- */

static void test_messages_wait_for_it_and_go_in_order(void **state)
{
    (void)state;
    message("one");
    message("two");
    l.held = true;
    come_up();
    assert_true(server_hears_nothing()); /* the owner is not ready */
    l.held = false;
    message("three");
    server_hears("*2\r\n$1\r\nM\r\n$3\r\none\r\n*2\r\n$1\r\nM\r\n$3\r\ntwo\r\n"
                 "*2\r\n$1\r\nM\r\n$5\r\nthree\r\n");
    assert_false(link_is_idle(&l));
    server_say(":1\r\n:0\r\n-NOPERM no\r\n");
    while (!link_is_idle(&l))
        turn();
    assert_int_equal(l.n_published, 2);
    assert_int_equal(l.dropped[LINK_DROP_REFUSED], 1);
    assert_int_equal(n_replies, 3);
}

static void test_what_was_in_flight_is_not_repeated_and_what_was_not_is_kept(void **state)
{
    (void)state;
    come_up();
    message("one");
    message("two");
    server_hears("*2\r\n$1\r\nM\r\n$3\r\none\r\n*2\r\n$1\r\nM\r\n$3\r\ntwo\r\n");
    server_say(":1\r\n"); /* of one; of two nobody knows */
    while (l.n_published == 0)
        turn();
    close(server);
    server = -1;
    turns_until(LINK_DOWN);
    assert_int_equal(l.dropped[LINK_DROP_CUT], 1);
    message("three");
    now_ms += 100;
    come_up();
    server_hears("*2\r\n$1\r\nM\r\n$5\r\nthree\r\n");
    assert_true(server_hears_nothing());
    assert_int_equal(l.dropped[LINK_DROP_CUT], 1);
}

static void test_what_is_too_old_is_not_sent(void **state)
{
    (void)state;
    message("old");
    now_ms += 9000;
    message("young");
    now_ms += 1500;
    come_up();
    server_hears("*2\r\n$1\r\nM\r\n$5\r\nyoung\r\n");
    assert_int_equal(l.dropped[LINK_DROP_OLD], 1);
}

static void test_a_command_goes_ahead_and_its_answer_is_not_a_messages(void **state)
{
    struct slice command = slice_text("C");
    (void)state;

    assert_false(link_command(&l, 1, &command)); /* it is not up */
    message("one");
    l.held = true;
    come_up();
    assert_true(link_command(&l, 1, &command));
    l.held = false;
    server_hears("*1\r\n$1\r\nC\r\n*2\r\n$1\r\nM\r\n$3\r\none\r\n");
    server_say("-ERR no such thing\r\n");
    while (n_replies == 0)
        turn();
    assert_string_equal(last_reply, "ERR no such thing");
    assert_int_equal(l.n_published + l.dropped[LINK_DROP_REFUSED], 0);
    server_say(":0\r\n");
    while (!link_is_idle(&l))
        turn();
    assert_int_equal(l.n_published, 1);
}

static void test_nobody_is_woken_for_answers_to_a_few_messages(void **state)
{
    struct pollfd p;
    (void)state;

    come_up();
    assert_int_equal(link_events(&l), POLLIN);
    message("one");
    server_hears("*2\r\n$1\r\nM\r\n$3\r\none\r\n");
    server_say(":1\r\n");
    p = (struct pollfd){ l.fd, link_events(&l), 0 };
    assert_int_equal(poll(&p, 1, 50), 0);
    assert_int_equal(l.n_published, 0);
    assert_in_range(link_wait_ms(&l, now_ms), 1, 100); /* but soon somebody looks */
    (void)link_on_events(&l, 0, true, now_ms, on_reply, NULL);
    assert_int_equal(l.n_published, 1);
    assert_int_equal(link_events(&l), POLLIN); /* what comes now, nobody has asked for */
}

static void test_answers_to_a_command_and_the_end_are_waited_for(void **state)
{
    struct slice command = slice_text("C");
    struct pollfd p;
    (void)state;

    come_up();
    message("one");
    server_hears("*2\r\n$1\r\nM\r\n$3\r\none\r\n");
    assert_true(link_command(&l, 1, &command));
    server_hears("*1\r\n$1\r\nC\r\n");
    assert_int_equal(link_events(&l) & POLLIN, POLLIN);
    server_say(":1\r\n+OK\r\n");
    while (!link_is_idle(&l))
        turn();
    message("two");
    server_hears("*2\r\n$1\r\nM\r\n$3\r\ntwo\r\n");
    close(server);
    server = -1;
    p = (struct pollfd){ l.fd, link_events(&l), 0 };
    assert_int_equal(poll(&p, 1, 5000), 1);
    turns_until(LINK_DOWN);
    assert_int_equal(l.dropped[LINK_DROP_CUT], 1);
}

/* Redis has stopped: neither its socket nor our buffer grows beyond what was agreed. */
static void test_a_redis_that_does_not_read_gets_no_more_than_the_window(void **state)
{
    static char text[1000];
    uint64_t n_written = 0, n_sent = 0;
    (void)state;

    memset(text, 'x', sizeof text - 1);
    come_up();
    for (uint32_t i = 0; i < 20000; i++) {
        message(text);
        if (i % 50 == 0)
            turn();
        assert_true(l._messages.n_bytes <= 4u << 20);
    }
    for (uint32_t i = 0; i < l._n_flight; i++)
        n_written += l._flight[(l._flight_at + i) % LINK_FLIGHT_MAX].n_bytes;
    assert_true(n_written <= LINK_FLIGHT_BYTES + OUTBUF_CHUNK_BYTES);
    link_tick(&l, now_ms); /* takes the buffer's own counts over */
    assert_true(l.dropped[LINK_DROP_FULL] > 10000);
    now_ms += 5001;
    turn();
    assert_int_equal(l.state, LINK_DOWN);
    n_sent = l.dropped[LINK_DROP_CUT] + l.dropped[LINK_DROP_FULL] + l._messages.n_commands;
    assert_int_equal(n_sent, 20000);
}

static void test_a_connection_that_is_silent_is_asked_and_then_given_up(void **state)
{
    (void)state;
    come_up();
    now_ms += 2600;
    server_hears("*1\r\n$4\r\nPING\r\n");
    server_say("+PONG\r\n");
    while (n_replies == 0)
        turn();
    now_ms += 2600;
    server_hears("*1\r\n$4\r\nPING\r\n");
    now_ms += 5001;
    turn();
    assert_int_equal(l.state, LINK_DOWN);
}

/* --- hostile replies --- */

/* Each ends the connection, nothing else, and the next one is fine. */
static void test_replies_that_are_none_only_end_the_connection(void **state)
{
    static const char *const hostile[] = {
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "\x15\x03\x03\x00\x02\x02\x46",
        "*2147483648\r\n",
        "*2147483647\r\n",
        "*-2\r\n",
        "*262145\r\n",
        "*2\r\n*131072\r\n:1\r\n*262144\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        "$-2\r\n",
        "$99999999999999999999\r\n",
        "$abc\r\n",
        ":99999999999999999999\r\n",
        ":\r\n",
        "*1\r\n?\r\n",
    };
    (void)state;

    for (uint32_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        come_up();
        server_say(hostile[i]);
        for (uint32_t j = 0; j < 200 && l.state == LINK_UP; j++)
            turn();
        if (l.state != LINK_DOWN)
            fail_msg("%s", hostile[i]);
        now_ms += LINK_BACKOFF_MAX_MS;
    }
    come_up();
}

static void test_a_reply_beyond_the_bound_ends_the_connection_and_is_counted(void **state)
{
    static char piece[1u << 20];
    uint32_t n_pieces = 0;
    (void)state;

    come_up();
    memset(piece, 'x', sizeof piece);
    server_say("$2147483000\r\n");
    while (l.state == LINK_UP) {
        size_t at = 0;

        while (at < sizeof piece && l.state == LINK_UP) {
            ssize_t n = send(server, piece + at, sizeof piece - at, MSG_NOSIGNAL | MSG_DONTWAIT);

            if (n > 0)
                at += (size_t)n;
            turn();
        }
        assert_true(++n_pieces <= (LINK_REPLY_MAX >> 20) + 8);
    }
    assert_int_equal(l.dropped[LINK_DROP_TOO_BIG], 1);
}

static void test_answers_that_nobody_asked_for_do_no_harm(void **state)
{
    (void)state;
    come_up();
    server_say(":1\r\n+OK\r\n$-1\r\n*-1\r\n*0\r\n*1\r\n$0\r\n\r\n-ERR surprise\r\n");
    while (n_replies < 7)
        turn();
    message("one");
    server_hears("*2\r\n$1\r\nM\r\n$3\r\none\r\n");
    server_say(":1\r\n");
    while (!link_is_idle(&l))
        turn();
    assert_int_equal(l.n_published, 1);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_it_greets_with_who_it_is_and_survives_answers_in_pieces),
        CASE(test_a_password_alone_is_that_of_the_default_user),
        CASE(test_a_wrong_password_is_not_tried_again_at_once),
        CASE(test_a_redis_that_loads_is_soon_tried_again),
        CASE(test_it_backs_off_and_not_for_longer_than_a_second),
        CASE(test_who_does_not_answer_the_greeting_is_given_up),
        CASE(test_each_address_of_a_name_is_tried),
        CASE(test_a_name_that_is_none_leaves_it_down),
        CASE(test_a_look_up_that_takes_too_long_is_given_up),
        CASE(test_messages_wait_for_it_and_go_in_order),
        CASE(test_what_was_in_flight_is_not_repeated_and_what_was_not_is_kept),
        CASE(test_what_is_too_old_is_not_sent),
        CASE(test_a_command_goes_ahead_and_its_answer_is_not_a_messages),
        CASE(test_nobody_is_woken_for_answers_to_a_few_messages),
        CASE(test_answers_to_a_command_and_the_end_are_waited_for),
        CASE(test_a_redis_that_does_not_read_gets_no_more_than_the_window),
        CASE(test_a_connection_that_is_silent_is_asked_and_then_given_up),
        CASE(test_replies_that_are_none_only_end_the_connection),
        CASE(test_a_reply_beyond_the_bound_ends_the_connection_and_is_counted),
        CASE(test_answers_that_nobody_asked_for_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
