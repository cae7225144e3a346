/* test_log.c: what a line looks like, and that nothing a value holds can break it or block us. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>

#include "base/log.c"

static int saved = -1, from = -1;

/* Standard error becomes a pipe or socket pair whose other end is `from`. */
static void capture(bool as_socket)
{
    int ends[2];

    saved = dup(STDERR_FILENO);
    assert_true(saved >= 0);
    assert_int_equal(as_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : pipe(ends), 0);
    from = ends[0];
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
    fcntl(from, F_SETFL, O_NONBLOCK);
}

static char text[1 << 20];

static const char *captured(void)
{
    size_t n = 0;
    ssize_t got;

    while ((got = read(from, text + n, sizeof text - 1 - n)) > 0)
        n += (size_t)got;
    text[n] = '\0';
    return text;
}

static void release(void)
{
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(from);
}

static void begin(const char *process, enum log_level level, enum log_format format)
{
    capture(false);
    log_init(process, level, format);
}

/* The line without its time, which must have the right shape. */
static const char *after_time(const char *line)
{
    static const char shape[] = "time=dddd-dd-ddTdd:dd:dd.dddZ ";

    for (size_t i = 0; shape[i] != '\0'; i++) {
        if (shape[i] == 'd')
            assert_true(line[i] >= '0' && line[i] <= '9');
        else
            assert_int_equal(line[i], shape[i]);
    }
    return line + sizeof shape - 1;
}

static void test_the_ready_line_reads_as_documented(void **state)
{
    (void)state;
    begin("master", LOG_INFO, LOG_FORMAT_TEXT);
    log_info("ready", "listen=%s admin=%s workers=%u pid=%d", "[::]:3000", "127.0.0.1:9300", 4u,
             4711);
    const char *line = captured();
    release();
    assert_string_equal(after_time(line), "level=info process=master event=ready listen=[::]:3000 "
                                          "admin=127.0.0.1:9300 workers=4 pid=4711\n");
}

static void test_levels_below_the_set_one_are_silent(void **state)
{
    (void)state;
    begin("bridge", LOG_WARNING, LOG_FORMAT_TEXT);
    log_debug("a", "x=%d", 1);
    log_info("b", "x=%d", 1);
    log_warning("c", "x=%d", 1);
    log_set_level(LOG_DEBUG);
    log_debug("d", NULL);
    char *lines = strdup(captured());
    release();
    assert_null(strstr(lines, "event=a"));
    assert_null(strstr(lines, "event=b"));
    assert_non_null(strstr(lines, "level=warning process=bridge event=c x=1\n"));
    assert_non_null(strstr(lines, "level=debug process=bridge event=d\n"));
    free(lines);
}

static void test_text_of_strangers_cannot_pose_as_a_pair_or_a_line(void **state)
{
    (void)state;
    const char *volatile absent = NULL; /* volatile: gcc would see and warn */

    begin("worker-3", LOG_INFO, LOG_FORMAT_TEXT);
    log_info("x", "origin=%s next=%s", "a level=error b=\"\\\n\r\t\x1b[2J\x7f", "");
    log_info("y", "u=%s bad=%s c1=%s null=%s", "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80",
             "\xff\xc0\x80\xed\xa0\x80", "\xc2\x9b", absent);
    char *lines = strdup(captured());
    release();
    char *second = strchr(lines, '\n');
    *second++ = '\0';
    assert_string_equal(after_time(lines),
                        "level=info process=worker-3 event=x origin=\"a level=error "
                        "b=\\\"\\\\\\n\\r\\t\\x1b[2J\\x7f\" next=\"\"");
    assert_string_equal(
        after_time(second),
        "level=info process=worker-3 event=y u=\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\" "
        "bad=\"\\xff\\xc0\\x80\\xed\\xa0\\x80\" c1=\"\\xc2\\x9b\" null=(null)\n");
    free(lines);
}

static void test_every_conversion_takes_its_own_argument(void **state)
{
    (void)state;
    begin("p", LOG_INFO, LOG_FORMAT_TEXT);
    errno = ENOENT;
    log_info("x",
             "a=%d b=%ld c=%lld d=%zu e=%hhu f=%hd g=%x h=%#llx i=%.2f j=%.*s k=%*d l=%c m=%m "
             "n=%5.1f%% o=%zd p=%jd q=%lu r=%td s=%s:%u t=%Lf",
             -1, -2L, -3LL, (size_t)4, (unsigned char)5, (short)-6, 0xabu, 0x1234567890ULL, 1.005,
             3, "abcdef", 4, 7, 'z', 99.5, (ssize_t)-9, (intmax_t)10, 11UL, (ptrdiff_t)-12, "h",
             80u, 2.5L);
    assert_int_equal(errno, ENOENT);
    const char *line = captured();
    release();
    assert_string_equal(strstr(line, "event=x") + 8,
                        "a=-1 b=-2 c=-3 d=4 e=5 f=-6 g=ab h=0x1234567890 i=1.00 j=abc k=\"   7\" "
                        "l=z m=\"No such file or directory\" "
                        "n=\" 99.5%\" o=-9 p=10 q=11 r=-12 s=h:80 t=2.500000\n");
}

static void test_spaces_in_a_format_belong_to_the_value(void **state)
{
    (void)state;
    begin("p", LOG_INFO, LOG_FORMAT_TEXT);
    log_info("x", "why=cannot open %s now file=%s", "it", "f");
    const char *line = captured();
    release();
    assert_string_equal(strstr(line, "event=x"), "event=x why=\"cannot open it now\" file=f\n");
}

static void test_json_keeps_numbers_and_escapes_the_rest(void **state)
{
    json_error_t error;
    (void)state;
    begin("admin", LOG_INFO, LOG_FORMAT_JSON);
    log_error("x", "n=%u neg=%d f=%.3f pad=%03d hex=%x text=%s nasty=%s both=%d/%d plus=%+d nan=%f",
              7u, -7, 0.5, 7, 255u, "12", "\"\\\n\x01\xff\xc3\xa9", 1, 2, 3, __builtin_nan(""));
    json_t *o = json_loads(captured(), 0, &error);
    release();
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "level")), "error");
    assert_string_equal(json_string_value(json_object_get(o, "process")), "admin");
    assert_string_equal(json_string_value(json_object_get(o, "event")), "x");
    assert_true(json_is_integer(json_object_get(o, "n")));
    assert_int_equal(json_integer_value(json_object_get(o, "neg")), -7);
    assert_true(json_real_value(json_object_get(o, "f")) == 0.5);
    assert_string_equal(json_string_value(json_object_get(o, "pad")), "007");
    assert_string_equal(json_string_value(json_object_get(o, "hex")), "ff");
    assert_string_equal(json_string_value(json_object_get(o, "text")), "12");
    assert_string_equal(json_string_value(json_object_get(o, "nasty")),
                        "\"\\\n\x01\xef\xbf\xbd\xc3\xa9");
    assert_string_equal(json_string_value(json_object_get(o, "both")), "1/2");
    assert_string_equal(json_string_value(json_object_get(o, "plus")), "+3");
    assert_true(json_is_string(json_object_get(o, "nan")));
    json_decref(o);
}

static void test_a_long_line_is_cut_at_any_length_and_stays_whole(void **state)
{
    static char value[5000];
    (void)state;

    for (int format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
        for (uint32_t n = 3700; n < 4400; n++) {
            bool odd = n % 2 == 1;
            const char *line;

            memset(value, odd ? '\n' : 'v', n);
            value[n] = '\0';
            begin("worker-0", LOG_INFO, (enum log_format)format);
            log_info("x", "a=%s bb=%s c=%d", odd ? value + n / 2 : value, "text with spaces", 1);
            line = captured();
            release();
            assert_true(strlen(line) <= LOG_LINE_MAX);
            assert_int_equal(line[strlen(line) - 1], '\n');
            assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
            if (n > 4200)
                assert_non_null(
                    strstr(line, format == LOG_FORMAT_JSON ? ",\"cut\":true}\n" : " cut=yes\n"));
            if (format == LOG_FORMAT_JSON) {
                json_t *o = json_loads(line, 0, NULL);

                assert_non_null(o);
                json_decref(o);
            }
        }
    }
}

static void full_output(bool as_socket)
{
    char *lines;
    uint32_t n = 0;

    capture(as_socket);
    log_init("p", LOG_INFO, LOG_FORMAT_TEXT);
    assert_int_equal(self.is_socket, as_socket);
    uint64_t before = log_dropped();
    alarm(10); /* a write that blocks ends the test */
    while (log_dropped() < before + 3 && n < 1000000) {
        log_info("fill", "n=%u", n);
        n++;
    }
    assert_int_equal(log_dropped(), before + 3);
    lines = strdup(captured());
    assert_null(strstr(lines, "log_dropped"));
    log_info("after", "k=%d", 1);
    free(lines);
    lines = strdup(captured());
    assert_non_null(strstr(lines, "event=after k=1 log_dropped=3\n"));
    assert_int_equal(log_dropped(), 0);
    log_info("later", "k=%d", 2);
    assert_non_null(strstr(captured(), "event=later k=2\n"));
    alarm(0);
    free(lines);
    release();
}

static void test_a_full_pipe_drops_and_tells_later(void **state)
{
    (void)state;
    full_output(false);
}

static void test_a_full_socket_drops_and_tells_later(void **state)
{
    (void)state;
    full_output(true);
}

static void test_a_closed_reader_is_survived(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    begin("p", LOG_INFO, LOG_FORMAT_TEXT);
    close(from);
    log_info("x", "k=%d", 1);
    dup2(saved, STDERR_FILENO);
    close(saved);
    assert_int_equal(log_dropped(), 1);
    self.dropped = 0;
}

static void test_the_rate_limit_counts_what_it_swallows(void **state)
{
    struct log_rate rate = { 0 };
    uint32_t suppressed = 99, allowed = 0;
    (void)state;

    for (uint64_t now = 1000000; now < 1000000 + 60000; now += 100)
        allowed += log_allow(&rate, now, 5, &suppressed);
    assert_int_equal(allowed, 5);
    assert_int_equal(suppressed, 595);
    assert_true(log_allow(&rate, 1000000 + 60000, 5, &suppressed));
    assert_int_equal(suppressed, 595);
    assert_true(log_allow(&rate, 1000000 + 60001, 5, &suppressed));
    assert_int_equal(suppressed, 0);
    assert_false(log_allow(&(struct log_rate){ 0 }, 5, 0, &suppressed));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_ready_line_reads_as_documented),
        cmocka_unit_test(test_levels_below_the_set_one_are_silent),
        cmocka_unit_test(test_text_of_strangers_cannot_pose_as_a_pair_or_a_line),
        cmocka_unit_test(test_every_conversion_takes_its_own_argument),
        cmocka_unit_test(test_spaces_in_a_format_belong_to_the_value),
        cmocka_unit_test(test_json_keeps_numbers_and_escapes_the_rest),
        cmocka_unit_test(test_a_long_line_is_cut_at_any_length_and_stays_whole),
        cmocka_unit_test(test_a_full_pipe_drops_and_tells_later),
        cmocka_unit_test(test_a_full_socket_drops_and_tells_later),
        cmocka_unit_test(test_a_closed_reader_is_survived),
        cmocka_unit_test(test_the_rate_limit_counts_what_it_swallows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
