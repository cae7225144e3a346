/* test_redis_cluster.c: redirections, refusals and masters that are away, against masters played by the test, which say what a real one says rarely or at the
 * wrong moment (real ones: tests/e2e/sharded.test.mjs). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "bridge/redis_cluster.h"

#define MASTERS   2
#define CONNS_MAX 8
#define HEARD_MAX 8192

/* A master that answers at once: `says` to SPUBLISH and SSUBSCRIBE, if there is something, else what is normal. */
struct master {
    int listener;
    uint16_t port;
    int conns[CONNS_MAX];
    redisReader *readers[CONNS_MAX];
    uint32_t n_conns;
    int subscriber; /* the connection that subscribed last */
    bool silent;    /* does not answer SPUBLISH */
    char says[128];
    char asked[128];       /* the same, once ASKING has come: for one command */
    char heard[HEARD_MAX]; /* "SPUBLISH c p;" ... */
    bool asking;
};

static struct master masters[MASTERS];
static struct cluster c;
static struct config config;
static struct shm_counters *row;
static const uint64_t key[2] = { 1, 2 };
static char slots[1024]; /* what CLUSTER SLOTS answers */
static uint64_t now_ms;
static char messages[HEARD_MAX];
static uint32_t last_count;

static void listen_on(struct master *m)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof address;

    m->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(m->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(m->listener, 16), 0);
    assert_int_equal(getsockname(m->listener, (struct sockaddr *)&address, &n), 0);
    m->port = ntohs(address.sin_port);
}

/* Slots below `border` are the first master's, the others the second's. */
static void set_border(uint32_t border)
{
    (void)snprintf(slots, sizeof slots,
                   "*2\r\n*3\r\n:0\r\n:%u\r\n*3\r\n$9\r\n127.0.0.1\r\n:%u\r\n$1\r\nx\r\n"
                   "*3\r\n:%u\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:%u\r\n$1\r\ny\r\n",
                   border - 1, masters[0].port, border, masters[1].port);
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void drop_conn(struct master *m, uint32_t i)
{
    close(m->conns[i]);
    redisReaderFree(m->readers[i]);
    m->n_conns--;
    m->conns[i] = m->conns[m->n_conns];
    m->readers[i] = m->readers[m->n_conns];
}

static void answer(struct master *m, int fd, const redisReply *command)
{
    const char *name = command->element[0]->str;
    char text[256];

    if (strcmp(name, "PING") == 0) {
        say(fd, "+PONG\r\n");
        return;
    }
    if (strcmp(name, "CLUSTER") == 0) {
        say(fd, slots);
        return;
    }
    for (size_t i = 0; i < command->elements; i++)
        (void)snprintf(m->heard + strlen(m->heard), HEARD_MAX - strlen(m->heard), "%s%s",
                       command->element[i]->str, i + 1 < command->elements ? " " : ";");
    if (strcmp(name, "ASKING") == 0) {
        m->asking = true;
        say(fd, "+OK\r\n");
        return;
    }
    if (strcmp(name, "PUBSUB") == 0) {
        (void)snprintf(text, sizeof text, "*2\r\n$1\r\nc\r\n:%u\r\n", 3u);
    } else if (m->says[0] != '\0' && !m->asking) {
        (void)snprintf(text, sizeof text, "%s", m->says);
    } else if (name[1] == 'S' || name[1] == 'U') {
        m->subscriber = fd;
        (void)snprintf(text, sizeof text, "*3\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n:1\r\n",
                       name[1] == 'S' ? strlen("ssubscribe") : strlen("sunsubscribe"),
                       name[1] == 'S' ? "ssubscribe" : "sunsubscribe", command->element[1]->len,
                       command->element[1]->str);
    } else {
        (void)snprintf(text, sizeof text, ":1\r\n");
    }
    m->asking = false;
    if (!m->silent || name[1] != 'P')
        say(fd, text);
}

static void serve(struct master *m)
{
    int fd = accept4(m->listener, NULL, NULL, SOCK_NONBLOCK);

    if (fd >= 0) {
        assert_true(m->n_conns < CONNS_MAX);
        m->readers[m->n_conns] = redisReaderCreate();
        m->conns[m->n_conns++] = fd;
    }
    for (uint32_t i = 0; i < m->n_conns; i++) {
        char bytes[4096];
        ssize_t n = recv(m->conns[i], bytes, sizeof bytes, 0);
        void *command = NULL;

        if (n == 0) {
            drop_conn(m, i);
            return;
        }
        if (n > 0)
            assert_int_equal(redisReaderFeed(m->readers[i], bytes, (size_t)n), REDIS_OK);
        while (redisReaderGetReply(m->readers[i], &command) == REDIS_OK && command != NULL) {
            answer(m, m->conns[i], command);
            freeReplyObject(command);
        }
    }
}

static bool on_message(void *context, struct slice channel, struct slice payload)
{
    (void)context;
    (void)snprintf(messages + strlen(messages), HEARD_MAX - strlen(messages), "%.*s %.*s;",
                   (int)channel.n_bytes, channel.bytes, (int)payload.n_bytes, payload.bytes);
    return true;
}

static bool on_counted(void *context, uint64_t id, uint32_t n)
{
    (void)context;
    (void)id;
    last_count = n;
    return true;
}

static void turn(void)
{
    struct cluster_events events = { on_message, on_counted, NULL };
    struct pollfd fds[CLUSTER_FDS_MAX] = { { 0 } };

    (void)poll(fds, cluster_fds(&c, fds, true), 1);
    now_ms++;
    cluster_turn(&c, fds, true, now_ms, &events);
    cluster_expire(&c);
    cluster_flush(&c, now_ms);
    for (uint32_t i = 0; i < MASTERS; i++)
        serve(&masters[i]);
}

static void turns(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        turn();
}

static void come_up(void)
{
    for (uint32_t i = 0; i < 5000 && !cluster_is_up(&c); i++)
        turn();
    assert_true(cluster_is_up(&c));
}

/* Clears what it has heard. */
static void assert_heard(uint32_t master, const char *text)
{
    for (uint32_t i = 0; i < 2000 && strcmp(masters[master].heard, text) != 0; i++)
        turn();
    assert_string_equal(masters[master].heard, text);
    masters[master].heard[0] = '\0';
}

#define UNTIL(condition)                                       \
    do {                                                       \
        for (uint32_t i_ = 0; i_ < 3000 && !(condition); i_++) \
            turn();                                            \
        assert_true(condition);                                \
    } while (0)

static void publish(const char *channel, const char *payload)
{
    assert_true(cluster_publish(&c, slice_text(channel), slice_text(payload)));
}

static uint64_t counted(enum counter which)
{
    return row->counters[which];
}

static void await(enum counter which, uint64_t n)
{
    for (uint32_t i = 0; i < 2000 && counted(which) < n; i++)
        turn();
    assert_int_equal(counted(which), n);
}

static int setup(void **state)
{
    (void)state;
    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    memset(masters, 0, sizeof masters);
    row = calloc(1, sizeof *row);
    assert_non_null(row);
    now_ms = 1000000;
    messages[0] = '\0';
    last_count = 0;
    for (uint32_t i = 0; i < MASTERS; i++)
        listen_on(&masters[i]);
    config = (struct config){ .redis_buffer_bytes = 4096, .redis_buffer_age_ms = 3000 };
    config.redis =
        (struct config_redis){ .enabled = true, .host = "127.0.0.1", .port = masters[0].port };
    set_border(8192); /* "b" has slot 3300, "a" 15495 */
    assert_true(cluster_init(&c, &config, NULL, row, key));
    c.now_ms = now_ms;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    channels_check(&c.channels);
    cluster_close(&c);
    for (uint32_t i = 0; i < MASTERS; i++) {
        close(masters[i].listener);
        while (masters[i].n_conns > 0)
            drop_conn(&masters[i], 0);
    }
    free(row);
    return 0;
}

static void test_each_slot_has_its_master(void **state)
{
    (void)state;
    come_up();
    assert_true(cluster_hold(&c, slice_text("a"), 1));
    assert_heard(1, "SSUBSCRIBE a;");
    publish("a", "1");
    publish("b", "2");
    assert_heard(0, "SPUBLISH b 2;");
    assert_heard(1, "SPUBLISH a 1;");
    UNTIL(cluster_has(&c, slice_text("a")));
    say(masters[1].subscriber, "*3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$2\r\nhi\r\n");
    UNTIL(strcmp(messages, "a hi;") == 0);
    assert_true(cluster_count(&c, slice_text("a"), 5));
    assert_heard(1, "PUBSUB SHARDNUMSUB a;");
    UNTIL(last_count == 3);
    cluster_release(&c, slice_text("a"), 1, 50);
    assert_heard(1, "SUNSUBSCRIBE a;");
    await(COUNT_REDIS_PUBLISHED, 2);
}

static void test_moved_takes_all_of_the_slot_along_in_order(void **state)
{
    (void)state;
    come_up();
    (void)snprintf(masters[1].says, sizeof masters[1].says, "-MOVED 15495 127.0.0.1:%u\r\n",
                   masters[0].port);
    for (char n[2] = "1"; n[0] <= '5'; n[0]++)
        publish("a", n);
    assert_heard(1, "SPUBLISH a 1;SPUBLISH a 2;SPUBLISH a 3;SPUBLISH a 4;SPUBLISH a 5;");
    publish("a", "6");
    assert_heard(0,
                 "SPUBLISH a 1;SPUBLISH a 2;SPUBLISH a 3;SPUBLISH a 4;SPUBLISH a 5;SPUBLISH a 6;");
    await(COUNT_REDIS_PUBLISHED, 6);
    assert_int_equal(counted(COUNT_REDIS_DROPPED_REFUSED), 0);
}

static void test_ask_is_for_one_message(void **state)
{
    (void)state;
    come_up();
    (void)snprintf(masters[1].says, sizeof masters[1].says, "-ASK 15495 127.0.0.1:%u\r\n",
                   masters[0].port);
    publish("a", "1");
    assert_heard(1, "SPUBLISH a 1;");
    assert_heard(0, "ASKING;SPUBLISH a 1;");
    masters[1].says[0] = '\0';
    publish("a", "2");
    assert_heard(1, "SPUBLISH a 2;");
    await(COUNT_REDIS_PUBLISHED, 2);
}

static void test_masters_that_send_a_message_round_in_circles_lose_it(void **state)
{
    (void)state;
    come_up();
    for (uint32_t i = 0; i < 2; i++)
        (void)snprintf(masters[i].says, sizeof masters[i].says, "-ASK 15495 127.0.0.1:%u\r\n",
                       masters[1 - i].port);
    publish("a", "1");
    /* (the second one is asked, and answers; it is only the first that would not) */
    await(COUNT_REDIS_PUBLISHED, 1);
    (void)snprintf(masters[1].says, sizeof masters[1].says, "-MOVED 15495 127.0.0.1:%u\r\n",
                   masters[1].port);
    publish("a", "2"); /* it sends us to itself */
    await(COUNT_REDIS_DROPPED_REFUSED, 1);
    (void)snprintf(masters[1].says, sizeof masters[1].says,
                   "-CLUSTERDOWN Hash slot not served\r\n");
    publish("a", "3");
    await(COUNT_REDIS_DROPPED_REFUSED, 2);
}

static void test_messages_wait_for_a_master_in_order_and_not_for_ever(void **state)
{
    static char large[5000];

    (void)state;
    memset(large, 'x', sizeof large - 1);
    publish("a", "0"); /* nobody is known yet */
    come_up();
    assert_heard(1, "SPUBLISH a 0;");
    c.nodes[c.map[15495]].out._retry_at_ms = 0;
    link_fail(&c.nodes[c.map[15495]].out, now_ms, "the test wants it");
    publish("a", "1");
    publish("b", "2"); /* another master's: at once */
    publish("a", "3");
    assert_heard(0, "SPUBLISH b 2;");
    assert_heard(1, "SPUBLISH a 1;SPUBLISH a 3;");
    /* too much: the oldest go; too old: all go */
    close(masters[1].listener);
    while (masters[1].n_conns > 0)
        drop_conn(&masters[1], 0);
    UNTIL(c.nodes[c.map[15495]].out.state != LINK_UP);
    publish("a", "old");
    publish("a", large);
    assert_int_equal(counted(COUNT_REDIS_DROPPED_BUFFER),
                     1); /* alone over the bound: it goes, not the others */
    large[1500] = '\0';
    for (uint32_t i = 0; i < 4; i++)
        publish("a", large);
    assert_true(counted(COUNT_REDIS_DROPPED_BUFFER) > 2);
    now_ms += 4000;
    await(COUNT_REDIS_DROPPED_EXPIRED, 2);
    assert_int_equal(c.waiting.n_items, 0);
    listen_on(&masters[1]);
}

static void test_what_a_broken_connection_had_not_answered_is_lost(void **state)
{
    (void)state;
    come_up();
    masters[1].silent = true;
    publish("a", "1");
    publish("a", "2");
    assert_heard(1, "SPUBLISH a 1;SPUBLISH a 2;");
    while (masters[1].n_conns > 0)
        drop_conn(&masters[1], 0);
    masters[1].silent = false;
    await(COUNT_REDIS_DROPPED_DISCONNECTED, 2);
    come_up();
    turns(100);
    assert_string_equal(masters[1].heard, "");
    publish("a", "3");
    assert_heard(1, "SPUBLISH a 3;");
}

static void test_subscriptions_follow_their_slot(void **state)
{
    (void)state;
    come_up();
    assert_true(cluster_hold(&c, slice_text("a"), 1));
    assert_true(cluster_hold(&c, slice_text("b"), 1ull << PEAL_SLOT_BRIDGE));
    assert_heard(1, "SSUBSCRIBE a;");
    assert_heard(0, "SSUBSCRIBE b;");
    /* Redis ends it where the slot has gone; there we are told where to go */
    (void)snprintf(masters[1].says, sizeof masters[1].says, "-MOVED 15495 127.0.0.1:%u\r\n",
                   masters[0].port);
    set_border(16000);
    say(masters[1].subscriber, "*3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:0\r\n");
    assert_heard(0, "SSUBSCRIBE a;");
    UNTIL(cluster_has(&c, slice_text("a")));
    assert_true(cluster_has(&c, slice_text("b")));
    /* a connection that comes anew has nothing */
    while (masters[0].n_conns > 0)
        drop_conn(&masters[0], 0);
    masters[0].heard[0] = '\0';
    UNTIL(!cluster_has(&c, slice_text("a")));
    come_up();
    UNTIL(cluster_has(&c, slice_text("a")));
    UNTIL(cluster_has(&c, slice_text("b")));
}

static void test_a_refused_subscription_is_asked_for_again(void **state)
{
    (void)state;
    come_up();
    (void)snprintf(masters[1].says, sizeof masters[1].says, "-CLUSTERDOWN The cluster is down\r\n");
    assert_true(cluster_hold(&c, slice_text("a"), 1));
    assert_heard(1, "SSUBSCRIBE a;");
    turns(100);
    assert_false(cluster_has(&c, slice_text("a")));
    masters[1].says[0] = '\0';
    now_ms += 1500;
    assert_heard(1, "SSUBSCRIBE a;");
    UNTIL(cluster_has(&c, slice_text("a")));
}

static void test_a_server_that_is_no_cluster_has_all_slots(void **state)
{
    (void)state;
    (void)snprintf(slots, sizeof slots, "-ERR This instance has cluster support disabled\r\n");
    come_up();
    publish("a", "1");
    publish("b", "2");
    assert_heard(0, "SPUBLISH a 1;SPUBLISH b 2;");
    assert_int_equal(masters[1].n_conns, 0);
}

static void test_maps_that_cannot_be_are_not_followed(void **state)
{
    static const char *const bad[] = {
        ":5\r\n",
        "*1\r\n:5\r\n",
        "*1\r\n*3\r\n:-1\r\n:5\r\n*2\r\n$1\r\nh\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\nh\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:5\r\n*2\r\n$1\r\nh\r\n:0\r\n",
        "*1\r\n*3\r\n:0\r\n:5\r\n*2\r\n$1\r\nh\r\n:65536\r\n",
        "*1\r\n*3\r\n:0\r\n:5\r\n*1\r\n$1\r\nh\r\n",
        "*1\r\n*2\r\n:0\r\n:5\r\n",
        "*1\r\n*3\r\n$1\r\n0\r\n:5\r\n*2\r\n$1\r\nh\r\n:1\r\n",
        "-ERR no\r\n",
        "*0\r\n",
    };

    (void)state;
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        (void)snprintf(slots, sizeof slots, "%s", bad[i]);
        c.refresh_at_ms = now_ms;
        turns(40);
        assert_false(cluster_is_up(&c));
        assert_int_equal(c.n_uncovered, REDIS_SLOTS);
    }
    set_border(8192);
    c.refresh_at_ms = now_ms;
    come_up();
}

static void test_masters_that_have_gone_are_left(void **state)
{
    (void)state;
    come_up();
    assert_true(masters[1].n_conns == 2);
    (void)snprintf(slots, sizeof slots,
                   "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$-1\r\n:%u\r\n$1\r\nx\r\n", masters[0].port);
    c.refresh_at_ms = now_ms; /* the host that is not told is that of who answers */
    UNTIL(c.refresh_at_ms > now_ms);
    for (uint32_t i = 0; i < 500 && masters[1].n_conns > 0; i++) {
        c.refresh_at_ms = now_ms;
        turn();
    }
    assert_int_equal(masters[1].n_conns, 0);
    assert_true(cluster_is_up(&c));
    publish("a", "1");
    assert_heard(0, "SPUBLISH a 1;");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_each_slot_has_its_master),
        CASE(test_moved_takes_all_of_the_slot_along_in_order),
        CASE(test_ask_is_for_one_message),
        CASE(test_masters_that_send_a_message_round_in_circles_lose_it),
        CASE(test_messages_wait_for_a_master_in_order_and_not_for_ever),
        CASE(test_what_a_broken_connection_had_not_answered_is_lost),
        CASE(test_subscriptions_follow_their_slot),
        CASE(test_a_refused_subscription_is_asked_for_again),
        CASE(test_a_server_that_is_no_cluster_has_all_slots),
        CASE(test_maps_that_cannot_be_are_not_followed),
        CASE(test_masters_that_have_gone_are_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
