/* test_config_http.c: the keys of HTTP: transports, cookie, CORS, client files, compression. */
#include "lib/client_folder.h"

#include "config_tests.h"

static int open_folders(void **state)
{
    return make_folder(state) != 0 || make_client_folder(state) != 0;
}

static int close_folders(void **state)
{
    return remove_client_folder(state) != 0 || remove_folder(state) != 0;
}

/* Why the value is refused; "" if it is not. */
static const char *refusal(const char *key, const char *text)
{
    static char why[CONFIG_WHY_MAX];

    return config_value_parse(key_of(key), &c, text, why) ? "" : why;
}

static void expect_refusal(const char *key, const char *text, const char *part)
{
    const char *why = refusal(key, text);

    if (strstr(why, part) == NULL || why[0] == '\0')
        print_message("%s = %s: expected \"%s\", got \"%s\"\n", key, text, part, why);
    assert_true(why[0] != '\0');
    assert_non_null(strstr(why, part));
}

/* What holds between keys, for what has been parsed. */
static void check(void)
{
    static struct config_loader l;

    problems.n = 0;
    l = (struct config_loader){ .c = &c, .problems = &problems };
    config_check(&l);
}

static void test_transports(void **state)
{
    (void)state;
    config_defaults(&c);
    assert_true(c.transport_polling && c.transport_websocket);
    assert_string_equal(refusal("transports", "polling"), "");
    assert_true(c.transport_polling && !c.transport_websocket);
    assert_string_equal(refusal("transports", " websocket ,polling"), "");
    assert_true(c.transport_polling && c.transport_websocket);
    expect_refusal("transports", "", "polling, websocket or both");
    expect_refusal("transports", "polling,polling", "polling, websocket or both");
    expect_refusal("transports", "webtransport", "polling, websocket or both");
    expect_refusal("transports", "polling,", "polling, websocket or both");
}

static void test_upgrade_timeout_and_compression(void **state)
{
    (void)state;
    config_defaults(&c);
    assert_int_equal(c.upgrade_timeout_ms, 10000);
    assert_int_equal(c.http_compression_bytes, 1024);
    assert_string_equal(refusal("upgrade_timeout", "150ms"), "");
    assert_int_equal(c.upgrade_timeout_ms, 150);
    expect_refusal("upgrade_timeout", "0", "50ms to 24h");
    assert_string_equal(refusal("http_compression", "0"), "");
    assert_int_equal(c.http_compression_bytes, 0);
    assert_string_equal(refusal("http_compression", "4K"), "");
    assert_int_equal(c.http_compression_bytes, 4096);
    expect_refusal("http_compression", "no", "0 to 1G");
}

static void test_the_name_of_a_cookie_is_a_token(void **state)
{
    static const char *const good[] = { "io",     "a",       "JSESSIONID", "!#$%&'*+-.^_`|~",
                                        "__host", "x__Host-" };
    static const char *const bad[] = { "a b", "a;b",  "a=b", "a,b",  "\xc3\xa4",
                                       "a/b", "(a)",  "a:b", "a@b",  "[a]",
                                       "{a}", "a\\b", "a?",  "a\"b", "<a>" };
    char text[CONFIG_TEXT_MAX + 1];
    (void)state;

    config_defaults(&c);
    assert_string_equal(c.cookie, "");
    for (uint32_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_string_equal(refusal("cookie", good[i]), "");
        assert_string_equal(c.cookie, good[i]);
    }
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_refusal("cookie", bad[i], "token of RFC 6265");
    for (uint32_t i = 0; i < 128; i++) { /* no control, nothing that ends a pair */
        char name[3] = { 'a', (char)i, '\0' };

        if (i <= ' ' || i == 0x7f || strchr("()<>@,;:\\\"/[]?={}", (int)i) != NULL)
            assert_true(i == 0 || refusal("cookie", name)[0] != '\0');
        else
            assert_string_equal(refusal("cookie", name), "");
    }
    expect_refusal("cookie", "__Host-io", "only with Secure");
    expect_refusal("cookie", "__secure-io", "only with Secure");
    memset(text, 'a', sizeof text);
    text[CONFIG_TEXT_MAX] = '\0';
    expect_refusal("cookie", text, "at most 255");
    assert_string_equal(refusal("cookie", "none"), "");
    assert_string_equal(c.cookie, "");
}

static void test_origins_may_have_one_label_open(void **state)
{
    static const char *const keys[] = { "origins", "cors_origin" };
    static const char *const good[] = { "https://*.example.com",
                                        "http://*.a:8080,same-host",
                                        "https://a.example,https://*.b.example",
                                        "http://[::1]:80",
                                        "https://xn--bcher-kva.example",
                                        "app://x",
                                        "http://a_b" };
    static const char *const bad[] = { "https://*",
                                       "https://*.",
                                       "https://a.*.com",
                                       "https://*a.com",
                                       "https://*.*.com",
                                       "*.example.com",
                                       "https://a/",
                                       "https://a/b",
                                       "https://a?",
                                       "https://u@a",
                                       "null",
                                       "https://",
                                       "://a",
                                       "a.example",
                                       "https://b\xc3\xbc",
                                       "https://a\"b",
                                       "https://a;b",
                                       "https://a b" };
    (void)state;

    for (uint32_t k = 0; k < 2; k++) {
        config_defaults(&c);
        for (uint32_t i = 0; i < sizeof good / sizeof good[0]; i++) {
            assert_string_equal(refusal(keys[k], good[i]), "");
            assert_string_equal(k == 0 ? c.origins : c.cors_origin, good[i]);
        }
        for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
            expect_refusal(keys[k], bad[i], "https://*.example.com");
        expect_refusal(keys[k], "*,https://a", "stands alone");
        assert_string_equal(refusal(keys[k], "HTTPS://*.Example.COM"), "");
        assert_string_equal(k == 0 ? c.origins : c.cors_origin, "https://*.example.com");
    }
    expect_refusal("origins", "follows origins", "same-host, *, or");
}

static void test_cors_origin_follows_origins_by_default(void **state)
{
    char text[CONFIG_VALUE_MAX];
    (void)state;

    config_defaults(&c);
    assert_string_equal(c.cors_origin, "");
    assert_string_equal(refusal("cors_origin", "*"), "");
    assert_string_equal(c.cors_origin, "*");
    assert_string_equal(refusal("cors_origin", "follows origins"), "");
    assert_string_equal(c.cors_origin, "");
    config_value_text(key_of("cors_origin"), &c, text, sizeof text);
    assert_string_equal(text, "follows origins");
    assert_string_equal(refusal("cors_origin", "same-host"), "");
    assert_string_equal(refusal("cors_origin", ""), "");
    assert_string_equal(c.cors_origin, "");
    expect_refusal("cors_origin", "follows", "same-host, *, or");
}

static void test_credentials_are_not_for_every_origin(void **state)
{
    (void)state;
    config_defaults(&c);
    assert_string_equal(refusal("cors_credentials", "yes"), "");
    check();
    assert_int_equal(problems.n, 0);
    assert_string_equal(refusal("cors_origin", "*"), "");
    check();
    expect_problem("cors_credentials = yes: not with cors_origin = *");
    assert_string_equal(refusal("origins", "*"), "");
    check();
    expect_problem("cors_credentials = yes: not with origins = *");
    assert_int_equal(problems.n, 1);
    assert_string_equal(refusal("cors_origin", "https://a"), "");
    check();
    expect_problem("not with origins = *"); /* each site could still act */
    assert_string_equal(refusal("origins", "https://a"), "");
    check();
    assert_int_equal(problems.n, 0);
}

static void test_the_folder_of_client_files_has_all_of_them(void **state)
{
    (void)state;
    config_defaults(&c);
    check();
    assert_int_equal(problems.n, 0);
    assert_string_equal(refusal("client_files", client_folder), "");
    check();
    assert_int_equal(problems.n, 0);

    assert_int_equal(unlink(client_path(3)), 0);
    check();
    expect_problem("client_files = ");
    expect_problem(
        "/socket.io.min.js.map: cannot be read: No such file or directory (`make client`");
    write_client_file(3, 0);
    check();
    expect_problem(": 0 bytes; 1 to 8388608 are possible");
    write_client_file(3, 1);

    assert_string_equal(refusal("client_files", "/nonexistent"), "");
    check();
    expect_problem(
        "default: client_files = /nonexistent: /nonexistent/socket.io.js: cannot be read");
    assert_int_equal(problems.n, 1);                        /* not one for each of the eight */
    assert_string_equal(refusal("client_files", file), ""); /* not a folder, and not even there */
    check();
    expect_problem("cannot be read");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transports),
        cmocka_unit_test(test_upgrade_timeout_and_compression),
        cmocka_unit_test(test_the_name_of_a_cookie_is_a_token),
        cmocka_unit_test(test_origins_may_have_one_label_open),
        cmocka_unit_test(test_cors_origin_follows_origins_by_default),
        cmocka_unit_test(test_credentials_are_not_for_every_origin),
        cmocka_unit_test(test_the_folder_of_client_files_has_all_of_them),
    };

    return cmocka_run_group_tests(tests, open_folders, close_folders);
}
