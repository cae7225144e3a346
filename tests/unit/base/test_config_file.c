/* test_config_file.c: what inih would get wrong, and lines, sections and files that are refused. */
#include "base/config_file.c"

#include "config_tests.h" /* after it: its names would be shadowed */

static void test_what_inih_would_mistake_is_kept_or_refused(void **state)
{
    static char text[9000];
    char name[300];
    (void)state;

    /* A line over 198 bytes is one line; inih alone would make two of it. */
    snprintf(text, sizeof text, "origins = https://%0300d.example\nworkers = 3\n", 7);
    assert_false(load(text)); /* one origin has at most 255 bytes */
    snprintf(text, sizeof text,
             "origins = "
             "https://%0200d.example,https://%0200d.example,https://%0200d.example\nworkers = 3\n",
             1, 2, 3);
    expect_fine(load(text));
    assert_int_equal(strlen(c.origins), 3 * 216 + 2);
    assert_int_equal(c.workers, 3);
    /* A section name over 49 bytes is not cut. */
    memset(name, 'n', sizeof name);
    name[0] = '/';
    name[255] = '\0';
    snprintf(text, sizeof text, "[namespace \"%s\"]\napp = relay\n", name);
    expect_fine(load(text));
    assert_string_equal(c.namespaces[1].name, name);
    name[255] = 'n';
    name[256] = '\0';
    snprintf(text, sizeof text, "[namespace \"%s\"]\napp = relay\n", name);
    assert_false(load(text));
    expect_problem(":1: namespace");
    assert_int_equal(problems.n, 1);
    /* " ;" is refused, since half of the readers would take it for a comment; ';' without a space
     * is a value. */
    assert_false(load("redis_key = a ;b\n"));
    expect_problem(":1: redis_key: a space and then ; or # in a value");
    assert_false(load("redis_key = a\t# b\n"));
    expect_problem(":1: redis_key: a space");
    expect_fine(load("redis_key = a;b#c\n"));
    assert_string_equal(c.redis_key, "a;b#c");
    /* An indented line is a line, not more of the one above. */
    expect_fine(load("redis_key = a\n   workers = 2\n"));
    assert_string_equal(c.redis_key, "a");
    assert_int_equal(c.workers, 2);
    /* ':' is not '='. */
    assert_false(load("workers: 2\n"));
    expect_problem(":1: not understood; a line is KEY = VALUE");
    expect_fine(load("pid_file = /run/a:b=c\n"));
    assert_string_equal(c.pid_file, "/run/a:b=c");
}

static void test_a_file_may_have_a_byte_order_mark_crlf_and_no_last_newline(void **state)
{
    (void)state;
    expect_fine(load("\xef\xbb\xbf[server]\r\nworkers=2\r\n\r\n; x\r\n# y\r\nmax_pending=7"));
    assert_int_equal(c.workers, 2);
    assert_int_equal(c.max_pending, 7);
    expect_fine(load(""));
}

static void test_bad_files_and_sections_are_refused(void **state)
{
    static char text[5000];
    static char huge[(1 << 20) + 10];
    (void)state;

    assert_false(config_load(&c, "/does/not/exist", 0, NULL, LIST(), &problems));
    expect_problem("/does/not/exist: cannot be read: No such file or directory");
    assert_false(config_load(&c, folder, 0, NULL, LIST(), &problems));
    expect_problem("Is a directory");
    write_file(file, "workers = 2\n\0\n", 14);
    assert_false(config_load(&c, file, 0, NULL, LIST(), &problems));
    expect_problem("NUL byte");
    memset(huge, '\n', sizeof huge);
    write_file(file, huge, sizeof huge);
    assert_false(config_load(&c, file, 0, NULL, LIST(), &problems));
    expect_problem("over 1M");
    memset(text, 'x', sizeof text - 1);
    memcpy(text, "pid_file = ", 11);
    assert_false(load(text));
    expect_problem(":1: a line of 4999 bytes; at most 4095");
    assert_false(
        load("[server\n[wss]\nworkers = foo\n[namespace /x]\n[namespace \"x\"]\n[namespace "
             "\"/ws\"]\n[namespace \"/a b\"]\n[ws] x\n[namespace \"\"]\n"
             "[namespace\n[]\n=\nx\n[namespace \"/a*b\"]\n"));
    expect_problem(":1: the ] of the section is missing");
    expect_problem(":2: [wss]: no such section");
    expect_problem(":4: [namespace /x]: no such section");
    expect_problem(":5: namespace \"x\": a name begins with /");
    expect_problem(
        ":6: namespace \"/ws\": taken by plain WebSocket clients; their section is [ws]");
    expect_problem(":7: namespace \"/a b\"");
    expect_problem(":8: nothing may follow");
    expect_problem(":9: [namespace \"\"]: no such section");
    expect_problem(":14: namespace \"/a*b\"");
    assert_int_equal(problems.n, 13);
    assert_false(load("workers = a\x01z\n"));
    expect_problem("workers = a?z: control characters are not possible");
}

static void test_64_namespaces_fit_and_not_one_more(void **state)
{
    static char text[8000];
    size_t n = 0;
    (void)state;

    for (int i = 1; i < CONFIG_NAMESPACES_MAX; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "[namespace \"/n%d\"]\nmax_rooms_per_socket = %d\n", i, i);
    expect_fine(load(text));
    assert_int_equal(c.n_namespaces, CONFIG_NAMESPACES_MAX);
    assert_int_equal(c.namespaces[63].max_rooms_per_socket, 63);
    assert_false(load_all(text, LIST(), LIST("--demo=yes")));
    expect_problem("no room for the namespace /demo");
    snprintf(text + n, sizeof text - n, "[namespace \"/more\"]\napp = relay\n");
    assert_false(load(text));
    expect_problem("at most 64 namespaces");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_inih_would_mistake_is_kept_or_refused),
        cmocka_unit_test(test_a_file_may_have_a_byte_order_mark_crlf_and_no_last_newline),
        cmocka_unit_test(test_bad_files_and_sections_are_refused),
        cmocka_unit_test(test_64_namespaces_fit_and_not_one_more),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
