/* test_config.c: the order of the sources, what has to hold between keys, what this build lacks,
 * and what the host adds. */
#include <ftw.h>
#include <sys/stat.h>

#include "base/config.c"

#include "config_tests.h" /* after it: its names would be shadowed */

/* --- sources --- */

static void test_flags_win_over_the_environment_and_that_over_the_file(void **state)
{
    (void)state;
    expect_fine(load_all("workers = 2\nmax_pending = 10\naccept_rate = 1\n",
                         LIST("PEAL_WORKERS=3", "PEAL_MAX_PENDING=11", "HOME=/"),
                         LIST("--workers=4", "--redis_key=k")));
    assert_int_equal(c.workers, 4);
    assert_int_equal(c.max_pending, 11);
    assert_int_equal(c.accept_rate, 1);
    assert_string_equal(c.redis_key, "k");
}

static void test_flags_take_dashes_or_underscores_and_sections(void **state)
{
    (void)state;
    expect_fine(load_all(NULL, LIST(),
                         LIST("--max-pending=5", "--accept_rate=6", "--namespace:/chat:app=relay",
                              "--namespace:/chat:client-join=yes", "--ws:client_join=yes",
                              "--namespace:/a:b*:max_rooms_per_socket=3", "--config", "x")));
    assert_int_equal(c.max_pending, 5);
    assert_int_equal(c.accept_rate, 6);
    assert_int_equal(c.n_namespaces, 3);
    assert_string_equal(c.namespaces[1].name, "/chat");
    assert_true(c.namespaces[1].client_join);
    assert_string_equal(c.namespaces[2].name, "/a:b");
    assert_true(c.namespaces[2].is_prefix);
    assert_int_equal(c.namespaces[2].max_rooms_per_socket, 3);
    assert_true(c.ws.client_join);
}

static void test_bad_flags_are_named(void **state)
{
    (void)state;
    assert_false(load_all(NULL, LIST(),
                          LIST("--max-pending=1", "--max_pending=2", "--wrokers=1", "--demo", "-x",
                               "x", "--", "--=1", "--namespace:app=relay",
                               "--namespace:chat:app=relay", "--ws:clent_join=yes", "--config")));
    expect_problem("--max_pending: max_pending: given twice");
    expect_problem("--wrokers: wrokers: no such key; did you mean workers?");
    expect_problem("--demo: a value is missing: --KEY=VALUE");
    expect_problem("argument 5: not understood");
    expect_problem("argument 6: not understood");
    expect_problem("argument 7: not understood");
    expect_problem("argument 8: not understood");
    expect_problem("--namespace:app: not understood");
    expect_problem("--namespace:chat:app: namespace \"chat\": a name begins with /");
    expect_problem("--ws:clent_join: clent_join: no such key; did you mean client_join?");
    expect_problem("--config: the name of a file is missing");
    assert_int_equal(problems.n, 11);
}

static void test_foreign_variables_are_left_alone_but_misspelt_keys_are_not(void **state)
{
    (void)state;
    expect_fine(load_all(NULL,
                         LIST("PEAL_PORT=tcp://10.0.0.1:3000", "PEAL_SERVICE_HOST=x",
                              "PEAL_PORT_3000_TCP_ADDR=x", "PEAL_RUNG=2", "PEAL_=1", "PEAL_X"),
                         LIST()));
    assert_false(load_all(NULL, LIST("PEAL_WORKRES=2", "PEAL_ECHO=perhaps"), LIST()));
    expect_problem("PEAL_WORKRES: workres: no such key; did you mean workers?");
    expect_problem("PEAL_ECHO: echo = perhaps: yes or no");
}

static void test_redis_url_counts_only_where_nothing_else_sets_redis(void **state)
{
    (void)state;
    expect_fine(load_all(NULL, LIST("REDIS_URL=redis://env"), LIST()));
    assert_string_equal(c.redis.host, "env");
    expect_fine(load_all("redis = redis://file", LIST("REDIS_URL=redis://env"), LIST()));
    assert_string_equal(c.redis.host, "file");
    expect_fine(load_all("redis = redis://file", LIST("REDIS_URL=rediss://env", "PEAL_REDIS=none"),
                         LIST()));
    assert_false(c.redis.enabled);
    expect_fine(load_all(NULL, LIST("REDIS_URL="), LIST()));
    assert_false(c.redis.enabled);
    assert_false(load_all(NULL, LIST("REDIS_URL=http://geheim"), LIST()));
    expect_problem("REDIS_URL: redis = (hidden): ");
    expect_fine(load_all(NULL, LIST("REDIS_URL=rediss://h"), LIST()));
    assert_true(c.redis.tls);
}

static void test_each_problem_names_file_line_key_value_and_what_is_allowed(void **state)
{
    char text[128];
    (void)state;

    assert_false(load("# one\n\nworkers = 99\r\n  balance=foo  \nworkres = 4\nworkers = "
                      "3\n[ws]\nworkers = 1\n[namespace \"/x\"]\nclient_jion = yes\n"));
    snprintf(text, sizeof text, "%s:3: workers = 99: auto, or 1 to 62", file);
    expect_problem(text);
    snprintf(text, sizeof text, "%s:4: balance = foo: leastconn|reuseport|iphash", file);
    expect_problem(text);
    expect_problem(":5: workres: no such key; did you mean workers?");
    expect_problem(":6: workers: set before in line 3");
    expect_problem(":8: workers: no key of [ws]; it belongs into [server]");
    expect_problem(":10: client_jion: no such key; did you mean client_join?");
    assert_int_equal(problems.n, 6);
}

static void test_more_problems_than_fit_are_told(void **state)
{
    static char text[20000];
    size_t n = 0;
    (void)state;

    for (int i = 0; i < 100; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "nonsense_%d = 1\n", i);
    assert_false(load(text));
    assert_int_equal(problems.n, CONFIG_PROBLEMS_MAX);
    expect_problem("more problems follow");
}

static void test_a_secret_is_never_shown(void **state)
{
    (void)state;
    assert_false(load_all(
        "admin_token = geheim wort\nredis = redis://u:geheim@h:x\nadmin_tokn = geheim\n=geheim\n",
        LIST("PEAL_ADMIN_TOKN=geheim"),
        LIST("--admin-token=geheim wort", "--redis-password=geheim", "--redis=http://geheim",
             "geheim")));
    assert_true(problems.n >= 8);
    for (uint32_t i = 0; i < problems.n; i++)
        assert_null(strstr(problems.items[i].text, "geheim"));

    char *printed = NULL;
    size_t n;
    FILE *f = open_memstream(&printed, &n);

    expect_fine(load_all("admin_token = geheim\nredis = redis://u:geheim@h:1\n", LIST(), LIST()));
    config_print(&c, f);
    fclose(f);
    assert_null(strstr(printed, "geheim"));
    assert_non_null(strstr(printed, "admin_token = ***\n"));
    assert_non_null(strstr(printed, "redis = redis://u:***@h:1/0\n"));
    free(printed);
}

static void test_secrets_come_from_files_too(void **state)
{
    char path[80], text[200];
    (void)state;

    snprintf(path, sizeof path, "%s/secret", folder);
    write_file(path, "pa ss\nrest\n", 11);
    snprintf(text, sizeof text, "redis = redis://h\nredis_password_file = %s\n", path);
    expect_fine(load(text));
    assert_string_equal(c.redis.password, "pa ss");
    snprintf(text, sizeof text, "redis = redis://:x@h\nredis_password_file = %s\n", path);
    assert_false(load(text));
    expect_problem("redis holds a password too");
    snprintf(text, sizeof text, "redis_password_file = %s\n", path);
    assert_false(load(text));
    expect_problem("redis is not set");
    snprintf(text, sizeof text, "admin_token_file = %s\n", path);
    assert_false(load(text));
    expect_problem("visible ASCII");
    write_file(path, "token", 5);
    expect_fine(load(text));
    assert_string_equal(c.admin_token, "token");
    assert_false(load_all(text, LIST(), LIST("--admin-token=x")));
    expect_problem("admin_token is set too");
    write_file(path, "\n", 1);
    assert_false(load(text));
    expect_problem("1 to 255 bytes");
    unlink(path);
    assert_false(load(text));
    expect_problem("cannot be read: No such file");
}

/* --- what this build lacks --- */

static void test_documented_keys_that_this_build_lacks_are_refused(void **state)
{
    static const char *const refused[] = {
        "tls_cert=/x", "tls_key=/x",     "tls_listen=443",
        "user=nobody", "message_rate=1", "message_burst=1",
    };
    static const char *const fine[] = {
        "tls_cert=none",
        "deflate=yes",
        "deflate_threshold=0",
        "recovery=0",
        "cookie=none",
        "cors_credentials=no",
        "client_files=none",
        "trusted_proxies=",
        "trusted_proxies=10.0.0.0/8, ::1,unix",
        "proxy_protocol=on",
        "max_connections_per_ip=5",
        "redis=rediss://h",
        "redis_adapter=pubsub",
        "redis_adapter=sharded",
        "redis_subscription_mode=dynamic-private",
        "transports=polling",
        "transports=polling, websocket",
        "transports=websocket,polling",
        "transports=websocket",
        "user=none",
        "message_rate=0",
        "http_compression=0",
        "http_compression=1K",
        "upgrade_timeout=5s",
        "namespace:/:app=none",
        "namespace:/:app=relay",
        "namespace:/:app=module:/x.so", /* whether it loads is for src/app/module.c to find out */
        "namespace:/:forward_timeout=1s",
        "accept_rate=5",
        "health=no",
        "pid_file=/run/x",
        "cpu_affinity=off",
    };
    char flag[128], expected[128];
    (void)state;

    for (uint32_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        const char *name = strrchr(refused[i], '/') != NULL && refused[i][0] == 'n'
                               ? strchr(refused[i], '/') + 2
                               : refused[i];

        snprintf(flag, sizeof flag, "--%s", refused[i]);
        assert_false(load_all(NULL, LIST(), LIST(flag)));
        snprintf(expected, sizeof expected, ": %.*s: not in this build", (int)strcspn(name, "="),
                 name);
        expect_problem(expected);
        assert_int_equal(problems.n, 1);
    }
    for (uint32_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
        snprintf(flag, sizeof flag, "--%s", fine[i]);
        expect_fine(load_all(NULL, LIST(), LIST(flag)));
    }
}

/* --- between keys --- */

static void test_keys_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    assert_false(load("ring_bytes = 16M\n"));
    expect_problem("default: event_bytes_max = 12M: at most ring_bytes/4 less 64K = 4032K (");
    expect_problem(":1: ring_bytes = 16M); or set ring_bytes to 64M or more");
    expect_fine(load("ring_bytes = 16M\nevent_bytes_max = 4032K\n"));
    assert_false(load("ring_bytes = 16M\nevent_bytes_max = 4128769\n"));
    assert_false(load_all("outq_bytes_max = 11M\n", LIST("PEAL_OUTQ_SOFT=12M"), LIST()));
    expect_problem(
        ":1: outq_bytes_max = 11M: at least event_bytes_max (default: event_bytes_max = 12M)");
    expect_problem("PEAL_OUTQ_SOFT: outq_soft = 12M: at most outq_bytes_max (");
    assert_false(load_all(NULL, LIST(), LIST("--max-message-bytes=13M")));
    expect_problem("--max_message_bytes: max_message_bytes = 13M: at most event_bytes_max");
    assert_false(load("origins = *, https://a.b\n"));
    expect_problem("stands alone");
    assert_false(load("listen = 127.0.0.1:9300\n"));
    expect_problem("admin_listen = 127.0.0.1:9300: also in listen");
    expect_fine(load("listen = 127.0.0.1:0\nadmin_listen = 127.0.0.1:0\n"));
    assert_false(load_all("[namespace \"/x\"]\nclient_join = yes\n", LIST(),
                          LIST("--namespace:/y:client_publish=any")));
    expect_problem(":2: client_join = yes: namespace \"/x\": only with app = relay");
    expect_problem("--namespace:/y:client_publish: client_publish = any: namespace \"/y\": only "
                   "with app = relay");
    assert_false(load("[namespace \"/x*\"]\napp = forward\nforward_timeout = 45s\n"));
    expect_problem(":2: app = forward: namespace \"/x*\": app = forward needs redis");
    expect_problem(
        ":3: forward_timeout = 45s: namespace \"/x*\": less than connect_timeout (default");
    expect_fine(load("redis = redis://h\n[namespace \"/x*\"]\napp = forward\n"));
    assert_true(config_forwards(&c));
}

static void test_credentials_with_every_origin_are_refused_once_cors_is_there(void **state)
{
    static struct config_loader l;
    (void)state;

    config_defaults(&c);
    problems.n = 0;
    l = (struct config_loader){ .c = &c, .problems = &problems };
    assert_true(parses(key_of("cors_credentials"), "yes"));
    config_check(&l);
    assert_int_equal(problems.n, 0);
    assert_true(parses(key_of("origins"), "*"));
    config_check(&l);
    expect_problem("cors_credentials = yes: not with origins = *");
}

static void test_demo_adds_its_namespace_unless_there_is_one(void **state)
{
    (void)state;
    expect_fine(load("demo = yes\n"));
    assert_int_equal(c.n_namespaces, 2);
    assert_string_equal(c.namespaces[1].name, "/demo");
    assert_int_equal(c.namespaces[1].app, APP_RELAY);
    assert_true(c.namespaces[1].client_join);
    assert_int_equal(c.namespaces[1].client_publish, PUBLISH_JOINED);
    assert_int_equal(c.namespaces[0].app, APP_NONE);
    expect_fine(load("demo = yes\n[namespace \"/demo\"]\napp = none\n[namespace \"/demo*\"]\n"));
    assert_int_equal(c.n_namespaces, 3);
    assert_int_equal(c.namespaces[1].app, APP_NONE);
    expect_fine(load("demo = yes\n[namespace \"/demo*\"]\n"));
    assert_int_equal(c.n_namespaces, 3);
}

static void test_a_namespace_is_found_exact_first_then_by_longest_prefix(void **state)
{
    (void)state;
    expect_fine(load(
        "[namespace \"/a*\"]\n[namespace \"/ab*\"]\n[namespace \"/abc\"]\n[namespace \"/*\"]\n"));
    assert_string_equal(config_namespace_find(&c, slice_text("/abc"))->name, "/abc");
    assert_string_equal(config_namespace_find(&c, slice_text("/abcd"))->name, "/ab");
    assert_string_equal(config_namespace_find(&c, slice_text("/ab"))->name, "/ab");
    assert_string_equal(config_namespace_find(&c, slice_text("/ax"))->name, "/a");
    assert_true(config_namespace_find(&c, slice_text("/zzz"))->is_prefix);
    assert_false(config_namespace_find(&c, slice_text("/"))->is_prefix);
    assert_null(config_namespace_find(&c, slice_text("/ws")));
    assert_non_null(config_namespace_find(&c, slice_text("/wsx")));
    assert_null(config_namespace_find(&c, slice_text("")));
    expect_fine(load(""));
    assert_null(config_namespace_find(&c, slice_text("/zzz")));
}

/* --- the host --- */

static bool resolve(uint32_t n_cpus, uint64_t memory_bytes, uint64_t nofile)
{
    struct config_host host = { .n_cpus = n_cpus, .memory_bytes = memory_bytes, .nofile = nofile };

    problems.n = 0;
    return config_resolve(&c, &host, &problems);
}

static void test_the_host_fills_in_what_is_not_set(void **state)
{
    (void)state;
    config_defaults(&c);
    expect_fine(resolve(4, 100000000000ull, 20000));
    assert_int_equal(c.workers, 4);
    assert_int_equal(c.inbound_bytes_total, 10000000000ull);
    assert_int_equal(c.outq_bytes_total, 25000000000ull);
    assert_int_equal(c.max_connections_per_worker, 20000 - FDS_KEPT - 1024);
    assert_int_equal(c.max_connections, 4 * (20000 - FDS_KEPT - 1024));
    config_defaults(&c);
    expect_fine(resolve(200, 8ull << 30, UINT64_MAX));
    assert_int_equal(c.workers, 62);
    assert_int_equal(c.max_connections, (8ull << 30) / CLIENT_BYTES);
    assert_int_equal(c.max_connections_per_worker, c.max_connections);
    config_defaults(&c);
    expect_fine(resolve(0, 1, 4096));
    assert_int_equal(c.workers, 1);
    assert_int_equal(c.max_connections, CONNECTIONS_LEAST);
    config_defaults(&c);
    c.workers = 4;
    c.max_connections_per_worker = 50;
    expect_fine(resolve(1, 1, 4096));
    assert_int_equal(c.max_connections, 200);
    assert_int_equal(c.workers, 4);
}

static void test_limits_that_the_host_cannot_keep_are_refused(void **state)
{
    (void)state;
    config_defaults(&c);
    assert_false(resolve(1, 1ull << 30, FDS_LEAST - 1));
    expect_problem("RLIMIT_NOFILE (hard) = ");
    config_defaults(&c);
    expect_fine(resolve(1, 1ull << 30, FDS_LEAST));
    assert_int_equal(c.max_pending, 32);
    assert_int_equal(c.max_connections, 32);
    config_defaults(&c);
    c.max_connections = 100000;
    assert_false(resolve(2, 1ull << 40, 20000));
    expect_problem("max_connections = 100000: RLIMIT_NOFILE (hard) = 20000 leaves ");
    config_defaults(&c);
    c.max_connections_per_worker = 19900;
    assert_false(resolve(2, 1ull << 40, 20000));
    expect_problem("max_connections_per_worker = 19900: ");
    config_defaults(&c);
    c.max_connections = 1000;
    expect_fine(resolve(2, 1ull << 40, 20000));
    assert_int_equal(c.max_connections_per_worker, 1000);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void test_the_memory_limit_of_a_control_group_counts(void **state)
{
    static const struct {
        const char *cgroup, *path, *content;
        uint64_t limit;
    } cases[] = {
        { "0::/a/b\n", "memory.max", "max\n", UINT64_MAX },
        { "0::/a/b\n", "a/memory.max", "4096000\n", 4096000 },
        { "0::/a/b\n", "a/b/memory.max", "17\n", 17 },
        { "0::/\n", "memory.max", "5\n", 5 },
        { "12:cpu:/x\n7:memory:/x\n0::/\n", "memory/x/memory.limit_in_bytes", "99\n", 99 },
        { "7:hugetlb,memory:/docker/1\n", "memory/memory.limit_in_bytes", "98\n", 98 },
        { "nonsense\n", "memory.max", "5\n", UINT64_MAX },
    };
    char proc[64], path[200];
    struct config_host host;
    (void)state;

    snprintf(proc, sizeof proc, "%s/cgroup", folder);
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(path, sizeof path, "%s/root/%s", folder, cases[i].path);
        for (char *p = path + strlen(folder) + 1; (p = strchr(p, '/')) != NULL; p++) {
            *p = '\0';
            (void)mkdir(path, 0700);
            *p = '/';
        }
        write_file(path, cases[i].content, strlen(cases[i].content));
        write_file(proc, cases[i].cgroup, strlen(cases[i].cgroup));
        snprintf(path, sizeof path, "%s/root", folder);
        assert_int_equal(cgroup_memory(proc, path), cases[i].limit);
        assert_int_equal(nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    }
    unlink(proc);
    assert_int_equal(cgroup_memory(proc, path), UINT64_MAX);
    config_host_read(&host);
    assert_true(host.n_cpus >= 1);
    assert_true(host.memory_bytes >= 16 << 20);
    assert_true(host.nofile >= 64);
}

/* --- the reference --- */

static void test_the_reference_names_every_key_once(void **state)
{
    char *text = NULL, *markdown = NULL, row[64];
    size_t n;
    FILE *f = open_memstream(&text, &n);
    (void)state;

    config_describe(f);
    fclose(f);
    f = open_memstream(&markdown, &n);
    config_describe_markdown(f);
    fclose(f);
    for (uint32_t i = 0; i < config_n_keys; i++) {
        snprintf(row, sizeof row, "\n  %s ", config_keys[i].name);
        assert_non_null(strstr(text, row));
        snprintf(row, sizeof row, "\n| `%s` | ", config_keys[i].name);
        assert_non_null(strstr(markdown, row));
        for (uint32_t k = 0; k < i; k++)
            assert_false(config_keys[k].section == config_keys[i].section &&
                         strcmp(config_keys[k].name, config_keys[i].name) == 0);
    }
    assert_non_null(strstr(text, "(not in this build)"));
    assert_non_null(strstr(markdown, "leastconn\\|reuseport\\|iphash"));
    free(text);
    free(markdown);
}

static void test_the_file_flag_is_found(void **state)
{
    (void)state;
    assert_string_equal(config_file_of(2, LIST("--config", "a")), "a");
    assert_string_equal(config_file_of(2, LIST("--x=1", "--config=b")), "b");
    assert_null(config_file_of(1, LIST("--config")));
    assert_null(config_file_of(1, LIST("--configure=1")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flags_win_over_the_environment_and_that_over_the_file),
        cmocka_unit_test(test_flags_take_dashes_or_underscores_and_sections),
        cmocka_unit_test(test_bad_flags_are_named),
        cmocka_unit_test(test_foreign_variables_are_left_alone_but_misspelt_keys_are_not),
        cmocka_unit_test(test_redis_url_counts_only_where_nothing_else_sets_redis),
        cmocka_unit_test(test_each_problem_names_file_line_key_value_and_what_is_allowed),
        cmocka_unit_test(test_more_problems_than_fit_are_told),
        cmocka_unit_test(test_a_secret_is_never_shown),
        cmocka_unit_test(test_secrets_come_from_files_too),
        cmocka_unit_test(test_documented_keys_that_this_build_lacks_are_refused),
        cmocka_unit_test(test_keys_that_contradict_each_other_are_refused),
        cmocka_unit_test(test_credentials_with_every_origin_are_refused_once_cors_is_there),
        cmocka_unit_test(test_demo_adds_its_namespace_unless_there_is_one),
        cmocka_unit_test(test_a_namespace_is_found_exact_first_then_by_longest_prefix),
        cmocka_unit_test(test_the_host_fills_in_what_is_not_set),
        cmocka_unit_test(test_limits_that_the_host_cannot_keep_are_refused),
        cmocka_unit_test(test_the_memory_limit_of_a_control_group_counts),
        cmocka_unit_test(test_the_reference_names_every_key_once),
        cmocka_unit_test(test_the_file_flag_is_found),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
