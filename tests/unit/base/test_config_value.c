/* test_config_value.c: every key at its limits and beyond, each type of value, and back to text. */

#include "config_tests.h" /* after it: its names would be shadowed */
#include "base/log.h"

static uint64_t number_in(const struct config_key *key)
{
    const char *member =
        (const char *)(key->section == SECTION_SERVER ? (void *)&c : &c.namespaces[0]) +
        key->offset;
    uint64_t large = 0;

    memcpy(&large, member, key->size); /* little-endian: the only machines we claim */
    return large;
}

/* Key and default, as in the reference. */
static const char *const expected[] = {
    "listen",
    "[::]:3000",
    "path",
    "/socket.io/",
    "transports",
    "polling, websocket",
    "admin_listen",
    "127.0.0.1:9300",
    "admin_token",
    "none",
    "admin_token_file",
    "none",
    "health",
    "yes",
    "workers",
    "auto",
    "cpu_affinity",
    "auto",
    "balance",
    "leastconn",
    "max_connections",
    "0",
    "max_connections_per_worker",
    "0",
    "max_connections_per_ip",
    "0",
    "max_pending",
    "1024",
    "accept_rate",
    "0",
    "max_message_bytes",
    "1000000",
    "event_bytes_max",
    "12M",
    "inbound_bytes_total",
    "10%",
    "message_timeout",
    "30s",
    "message_rate",
    "0",
    "message_burst",
    "0",
    "ping_interval",
    "25s",
    "ping_timeout",
    "20s",
    "connect_timeout",
    "45s",
    "upgrade_timeout",
    "10s",
    "header_timeout",
    "10s",
    "ring_bytes",
    "64M",
    "outq_items_max",
    "1024",
    "outq_bytes_max",
    "12M",
    "outq_soft",
    "256K",
    "outq_bytes_total",
    "25%",
    "slow_consumer",
    "close",
    "deflate",
    "no",
    "deflate_threshold",
    "1K",
    "http_compression",
    "1K",
    "recovery",
    "0",
    "cookie",
    "none",
    "origins",
    "same-host",
    "cors_origin",
    "follows origins",
    "cors_credentials",
    "no",
    "trusted_proxies",
    "none",
    "proxy_protocol",
    "off",
    "redis",
    "none",
    "redis_password_file",
    "none",
    "redis_ca_file",
    "none",
    "redis_cert_file",
    "none",
    "redis_cert_key_file",
    "none",
    "redis_buffer_bytes",
    "16M",
    "redis_buffer_age",
    "5s",
    "redis_key",
    "socket.io",
    "redis_adapter",
    "pubsub",
    "redis_request_timeout",
    "5s",
    "redis_answer_max_bytes",
    "4M",
    "redis_own_channel",
    "no",
    "fetch_handshake",
    "minimal",
    "ready_requires_redis",
    "no",
    "drain_grace",
    "10s",
    "drain_rate",
    "auto",
    "drain_timeout",
    "1m",
    "tls_cert",
    "none",
    "tls_key",
    "none",
    "tls_listen",
    "none",
    "echo",
    "no",
    "demo",
    "no",
    "client_files",
    "none",
    "user",
    "none",
    "pid_file",
    "none",
    "log_level",
    "info",
    "log_format",
    "text",
};

static void test_the_defaults_are_those_of_the_documentation(void **state)
{
    uint32_t n_server = 0;
    char text[CONFIG_VALUE_MAX];
    (void)state;

    config_defaults(&c);
    for (uint32_t i = 0; i < sizeof expected / sizeof expected[0]; i += 2) {
        config_value_text(key_of(expected[i]), &c, text, sizeof text);
        assert_string_equal(text, expected[i + 1]);
    }
    for (uint32_t i = 0; i < config_n_keys; i++)
        n_server += config_keys[i].section == SECTION_SERVER;
    assert_int_equal(n_server, sizeof expected / sizeof expected[0] / 2);
    assert_int_equal(c.n_namespaces, 1);
    assert_string_equal(c.namespaces[0].name, "/");
    assert_int_equal(c.namespaces[0].app, APP_NONE);
    assert_int_equal(c.namespaces[0].max_rooms_per_socket, 64);
    assert_int_equal(c.namespaces[0].forward_timeout_ms, 5000);
    assert_false(c.namespaces[0].client_join);
    assert_int_equal(c.namespaces[0].client_publish, PUBLISH_NONE);
    assert_string_equal(c.ws.name, "/ws");
    assert_false(c.ws.client_join);
    assert_int_equal(c.listen[0].port, 3000);
    assert_string_equal(c.listen[0].host, "");
    assert_int_equal(c.log_level, LOG_INFO);
    assert_int_equal(c.log_format, LOG_FORMAT_TEXT);
    assert_int_equal(c.event_bytes_max, 12 << 20);
    assert_int_equal(c.drain_timeout_ms, 60000);
}

static void test_numbers_sizes_and_times_hold_at_their_limits_and_not_beyond(void **state)
{
    uint32_t n = 0;
    char text[64];
    (void)state;

    config_defaults(&c);
    for (uint32_t i = 0; i < config_n_keys; i++) {
        const struct config_key *key = &config_keys[i];
        const char *unit = key->type == TYPE_TIME ? "ms" : "";

        if (key->type != TYPE_COUNT && key->type != TYPE_BYTES && key->type != TYPE_TIME)
            continue;
        n++;
        snprintf(text, sizeof text, "%llu%s", (unsigned long long)key->min, unit);
        assert_true(parses(key, text));
        assert_int_equal(number_in(key), key->min);
        snprintf(text, sizeof text, "%llu%s", (unsigned long long)key->max, unit);
        assert_true(parses(key, text));
        assert_int_equal(number_in(key), key->max);
        snprintf(text, sizeof text, "%llu%s", (unsigned long long)key->max + 1, unit);
        assert_false(parses(key, text));
        if (key->min > 0) {
            snprintf(text, sizeof text, "%llu%s", (unsigned long long)key->min - 1, unit);
            assert_false(parses(key, text));
        }
        assert_int_equal(number_in(key), key->max); /* what was refused has changed nothing */
    }
    assert_true(n > 30);
}

static void test_garbage_is_refused_by_every_key(void **state)
{
    static const char *const numbers[] = { "x",
                                           "-1",
                                           "+1",
                                           "1x",
                                           "0x10",
                                           "1 0",
                                           "1e3",
                                           "99999999999999999999999",
                                           "18446744073709551617",
                                           "1.5",
                                           "1,5",
                                           " ",
                                           "",
                                           "K",
                                           "yes",
                                           "%",
                                           "1KB",
                                           "1Ki",
                                           "91%",
                                           "0%",
                                           "10%%",
                                           "s",
                                           "5 s",
                                           "5sec",
                                           "5d" };
    static const char *const words[] = {
        "x", "", "Yes", "yes no", "2", "|", "leastconn|reuseport", "closed", "CLOSE"
    };
    (void)state;

    config_defaults(&c);
    for (uint32_t i = 0; i < config_n_keys; i++) {
        const struct config_key *key = &config_keys[i];

        if (key->type == TYPE_COUNT || key->type == TYPE_BYTES || key->type == TYPE_TIME) {
            for (uint32_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++)
                if (!(key->words != NULL && numbers[k][0] == '\0'))
                    assert_false(parses(key, numbers[k]));
        } else if (key->type == TYPE_BOOL || key->type == TYPE_WORD) {
            for (uint32_t k = 0; k < sizeof words / sizeof words[0]; k++)
                assert_false(parses(key, words[k]));
        }
        if (key->type != TYPE_REDIS && key->type != TYPE_TOKEN)
            assert_false(parses(key, "\"none\""));
    }
}

static void test_every_value_written_is_read_back_the_same(void **state)
{
    static struct config first;
    char text[CONFIG_VALUE_MAX], again[CONFIG_VALUE_MAX], why[CONFIG_WHY_MAX];
    (void)state;

    config_defaults(&c);
    assert_true(parses(key_of("listen"), "3000, 127.0.0.1:0,[::1]:80 , unix:/a/b"));
    assert_true(parses(key_of("cpu_affinity"), "3,1-2"));
    assert_true(parses(key_of("origins"), "https://A.example , same-host"));
    assert_true(parses(key_of("redis"), "unix:/run/redis.sock"));
    assert_true(parses(key_of("inbound_bytes_total"), "33 %"));
    assert_true(parses(key_of("path"), "/x"));
    memcpy(&first, &c, sizeof c);
    for (uint32_t i = 0; i < config_n_keys; i++) {
        void *base = config_keys[i].section == SECTION_SERVER ? (void *)&c : &c.namespaces[0];

        config_value_text(&config_keys[i], base, text, sizeof text);
        assert_true(config_value_parse(&config_keys[i], base, text, why));
        config_value_text(&config_keys[i], base, again, sizeof again);
        assert_string_equal(text, again);
    }
    assert_int_equal(c.n_listen, 4);
    assert_memory_equal(c.listen, first.listen, sizeof c.listen);
    assert_string_equal(c.origins, "https://a.example,same-host");
    assert_string_equal(c.path, "/x/");
    assert_int_equal(c.cpu_list[2], 2);
    assert_int_equal(c.n_cpu_list, 3);
    assert_true(c.redis.is_unix);
}

static void test_units_are_1024_based_and_times_need_one(void **state)
{
    (void)state;
    expect_fine(load("ring_bytes = 128M\noutq_soft = 3k\nmax_message_bytes = 2M\nping_interval = "
                     "1500ms\nping_timeout = 2m\nmessage_timeout = 1h\n"
                     "drain_grace = 0\naccept_rate = 17\n"));
    assert_int_equal(c.ring_bytes, 128ull << 20);
    assert_int_equal(c.outq_soft_bytes, 3072);
    assert_int_equal(c.max_message_bytes, 2 << 20);
    assert_int_equal(c.ping_interval_ms, 1500);
    assert_int_equal(c.ping_timeout_ms, 120000);
    assert_int_equal(c.message_timeout_ms, 3600000);
    assert_int_equal(c.drain_grace_ms, 0);
    assert_int_equal(c.accept_rate, 17);
    assert_false(load("ping_interval = 30\n"));
    expect_problem(":1: ping_interval = 30: a time needs a unit: 30s or 30ms?");
    assert_false(load("ring_bytes = 1.5M\n"));
    expect_problem(":1: ring_bytes = 1.5M: whole numbers only");
    assert_false(load("ring_bytes = 48M\n\nring_bytes = 40M"));
    expect_problem(":1: ring_bytes = 48M: a power of two from 1M to 4G, in bytes or with K, M, G; "
                   "the nearest is 64M");
    assert_false(load("ring_bytes = 40M\n"));
    expect_problem("the nearest is 32M");
}

static void test_booleans_have_four_spellings_each(void **state)
{
    static const char *const yes[] = { "yes", "true", "on", "1" }, *const no[] = { "no", "false",
                                                                                   "off", "0" };
    (void)state;

    config_defaults(&c);
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(parses(key_of("echo"), yes[i]));
        assert_true(c.echo);
        assert_true(parses(key_of("echo"), no[i]));
        assert_false(c.echo);
    }
}

static void test_trusted_proxies_are_addresses_and_networks(void **state)
{
    static const char *const bad[] = {
        "example.com",   "10.0.0.0/33",       "10.0.0.1,", ",10.0.0.1",   "10.0.0.1,,10.0.0.2",
        "none,10.0.0.1", "10.0.0.1 10.0.0.2", "[::1]",     "10.0.0.1:80", "*"
    };
    char text[2048];
    uint32_t n = 0;

    (void)state;
    expect_fine(load("trusted_proxies = 10.1.2.3/8, 192.0.2.7 ,2001:db8::/32,unix"));
    assert_int_equal(c.n_trusted_proxies, 4);
    assert_int_equal(c.trusted_proxies[0].family, ADDRESS_IPV4);
    assert_int_equal(c.trusted_proxies[0].prefix_bits, 8);
    assert_int_equal(c.trusted_proxies[3].family, ADDRESS_UNIX);
    config_value_text(key_of("trusted_proxies"), &c, text, sizeof text);
    assert_string_equal(text, "10.0.0.0/8, 192.0.2.7, 2001:db8::/32, unix");
    assert_true(parses(key_of("trusted_proxies"), "none"));
    assert_int_equal(c.n_trusted_proxies, 0);
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (parses(key_of("trusted_proxies"), bad[i]))
            fail_msg("%s", bad[i]);
    for (uint32_t i = 0; i < CONFIG_PROXIES_MAX; i++)
        n += (uint32_t)snprintf(text + n, sizeof text - n, "%s10.0.0.%u", i > 0 ? "," : "", i);
    assert_true(parses(key_of("trusted_proxies"), text));
    assert_int_equal(c.n_trusted_proxies, CONFIG_PROXIES_MAX);
    snprintf(text + n, sizeof text - n, ",::1");
    assert_false(parses(key_of("trusted_proxies"), text));
}

static void test_words_become_their_enum(void **state)
{
    (void)state;
    expect_fine(load("balance = iphash\nslow_consumer = drop\nfetch_handshake = full\nlog_level = "
                     "error\nlog_format = json\n[namespace \"/\"]\n"
                     "app = relay\nclient_publish = any\n[ws]\nclient_publish = joined"));
    assert_int_equal(c.balance, BALANCE_IPHASH);
    assert_int_equal(c.slow_consumer, SLOW_DROP);
    assert_int_equal(c.fetch_handshake, FETCH_FULL);
    assert_int_equal(c.log_level, LOG_ERROR);
    assert_int_equal(c.log_format, LOG_FORMAT_JSON);
    assert_int_equal(c.namespaces[0].client_publish, PUBLISH_ANY);
    assert_int_equal(c.ws.client_publish, PUBLISH_JOINED);
    assert_int_equal(c.n_namespaces, 1);
    config_defaults(&c);
    assert_true(parses(key_of("balance"), "reuseport"));
    assert_int_equal(c.balance, BALANCE_REUSEPORT);
}

static void test_listeners_are_addresses_ports_or_paths(void **state)
{
    static const char *const bad[] = { "",
                                       "host:80",
                                       "127.0.0.1",
                                       "127.0.0.1:",
                                       "127.0.0.1:65536",
                                       "[::1:80",
                                       "::1:80",
                                       "[::1]",
                                       "[fe80::1%eth0]:80",
                                       "unix:",
                                       "1,",
                                       ",1",
                                       "1,1",
                                       "127.0.0.1:8, 127.0.0.1:8",
                                       "1,2,3,4,5,6,7,8,9",
                                       "256.0.0.1:1",
                                       "*:x" };
    (void)state;

    config_defaults(&c);
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(parses(key_of("listen"), bad[i]));
    assert_true(parses(key_of("listen"), "*:0, :0, [::]:8080,localhost:1"));
    assert_int_equal(c.n_listen, 4);
    assert_string_equal(c.listen[2].host, "");
    assert_int_equal(c.listen[2].port, 8080);
    assert_string_equal(c.listen[3].host, "127.0.0.1");
    assert_false(parses(key_of("admin_listen"), "1,2"));
    assert_true(parses(key_of("admin_listen"), "unix:/run/a"));
    assert_true(c.admin_listen.is_unix);
    assert_int_equal(c.n_listen, 4);
}

static void test_a_redis_url_is_taken_apart_and_decoded(void **state)
{
    static const char *const bad[] = {
        "redis:",          "redis://",           "redis://:0",     "redis://h:0",
        "redis://h:65536", "redis://h:x",        "redis://h/x",    "redis://h/1/2",
        "redis://h?db=1",  "redis://u:p%4@h",    "redis://u:p%@h", "redis://u:%00@h",
        "redis://u:%zz@h", "http://h",           "unix:",          "redis://[::1",
        "redis://a b",     "redis://h/99999999", "h:6379",         "redis://u:a/b@h:1/2"
    };
    struct config_redis r;
    char why[CONFIG_WHY_MAX];
    (void)state;

    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (config_redis_parse(&r, bad[i], why))
            fail_msg("%s", bad[i]);
    }
    assert_true(config_redis_parse(&r, "redis://h", why));
    assert_true(r.enabled);
    assert_string_equal(r.host, "h");
    assert_int_equal(r.port, 6379);
    assert_int_equal(r.db, 0);
    assert_true(config_redis_parse(&r, "redis://us%40er:p%3aw%25%2F@x@redis.example:6380/15", why));
    assert_string_equal(r.user, "us@er");
    assert_string_equal(r.password, "p:w%/@x");
    assert_string_equal(r.host, "redis.example");
    assert_int_equal(r.port, 6380);
    assert_int_equal(r.db, 15);
    assert_true(config_redis_parse(&r, "rediss://:secret@[2001:db8::1]:7/", why));
    assert_true(r.tls);
    assert_string_equal(r.user, "");
    assert_string_equal(r.password, "secret");
    assert_string_equal(r.host, "2001:db8::1");
    assert_true(config_redis_parse(&r, "unix:/run/redis.sock", why));
    assert_true(r.is_unix);
    assert_string_equal(r.host, "/run/redis.sock");
    assert_true(config_redis_parse(&r, "none", why));
    assert_false(r.enabled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_defaults_are_those_of_the_documentation),
        cmocka_unit_test(test_numbers_sizes_and_times_hold_at_their_limits_and_not_beyond),
        cmocka_unit_test(test_garbage_is_refused_by_every_key),
        cmocka_unit_test(test_every_value_written_is_read_back_the_same),
        cmocka_unit_test(test_units_are_1024_based_and_times_need_one),
        cmocka_unit_test(test_booleans_have_four_spellings_each),
        cmocka_unit_test(test_trusted_proxies_are_addresses_and_networks),
        cmocka_unit_test(test_words_become_their_enum),
        cmocka_unit_test(test_listeners_are_addresses_ports_or_paths),
        cmocka_unit_test(test_a_redis_url_is_taken_apart_and_decoded),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
