/* test_check.c: what `peal check` and the other small subcommands print, and how they exit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "cli/check.c"

#define LIST(...) args_of((const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

/* What main() gets is not const, though nobody writes to it. */
static char *const *args_of(const char *const list[])
{
    return (char *const *)(uintptr_t)list;
}

static char out[65536], err[65536];
static char path[] = "/tmp/test_check.XXXXXX";

/* Runs it with standard output and error in memory; its exit status. */
static int check(char *const args[])
{
    FILE *const streams[] = { stdout, stderr };
    char *const texts[] = { out, err };
    int saved[2], files[2], n = 0, status;

    while (args[n] != NULL)
        n++;
    for (int i = 0; i < 2; i++) {
        fflush(streams[i]);
        saved[i] = dup(i + 1);
        files[i] = memfd_create("stream", MFD_CLOEXEC);
        assert_true(saved[i] >= 0);
        assert_true(files[i] >= 0);
        assert_int_equal(dup2(files[i], i + 1), i + 1);
    }
    status = cli_check(n, args);
    for (int i = 0; i < 2; i++) {
        ssize_t got;

        fflush(streams[i]);
        dup2(saved[i], i + 1);
        close(saved[i]);
        got = pread(files[i], texts[i], sizeof out - 1, 0);
        assert_true(got >= 0);
        texts[i][got] = '\0';
        close(files[i]);
    }
    return status;
}

static void write_file(const char *text)
{
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int make_file(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    clearenv();
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void test_a_good_file_is_ok_and_exits_0(void **state)
{
    char line[64];
    (void)state;

    write_file("workers = 2\n");
    assert_int_equal(check(LIST("--config", path)), 0);
    snprintf(line, sizeof line, "%s: ok\n", path);
    assert_string_equal(out, line);
    assert_string_equal(err, "");
}

static void test_problems_are_lines_on_standard_error_and_exit_2(void **state)
{
    char text[256];
    (void)state;

    write_file("workers = 0\n\ntls_cert = /x\n");
    assert_int_equal(check(LIST("--config", path, "--wrokers=3")), 2);
    snprintf(text, sizeof text,
             "%s:1: workers = 0: auto, or 1 to 62\n"
             "%s:3: tls_cert: not in this build (tls_cert = /x; the default is none)\n"
             "--wrokers: wrokers: no such key; did you mean workers?\n",
             path, path);
    assert_string_equal(err, text);
    assert_string_equal(out, "");
}

static void test_print_shows_the_values_in_force(void **state)
{
    (void)state;
    write_file("workers = 2\nadmin_token = geheim\n");
    assert_int_equal(check(LIST("--print", "--config", path, "--workers=3")), 0);
    assert_non_null(strstr(out, "[server]\n"));
    assert_non_null(strstr(out, "\nworkers = 3\n"));
    assert_non_null(strstr(out, "\n[namespace \"/\"]\napp = none\n"));
    assert_null(strstr(out, "geheim"));
}

static void test_without_a_file_there_is_a_usage_line(void **state)
{
    (void)state;
    assert_int_equal(check(LIST()), 2);
    assert_non_null(strstr(err, "usage: peal check --config FILE"));
    assert_int_equal(check(LIST("--config")), 2);
    assert_non_null(strstr(err, "usage: peal check --config FILE"));
}

static void test_the_reference_is_markdown(void **state)
{
    (void)state;
    assert_int_equal(check(LIST("--reference")), 0);
    assert_non_null(strstr(out, "\n| `workers` | auto | auto, or 1 to 62 | "));
}

static void test_help_names_every_subcommand_and_unknown_ones_exit_2(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    (void)state;

    assert_int_equal(cli_help(f), 0);
    assert_int_equal(cli_version(f), 0);
    fclose(f);
    assert_non_null(strstr(text, "peal serve"));
    assert_non_null(strstr(text, "peal check"));
    assert_non_null(strstr(text, "doctor top emit drain limits upgrade"));
    assert_non_null(strstr(text, "\n  ring_bytes "));
    assert_int_equal(cli_unknown("doctor"), 2);
    assert_int_equal(cli_unknown("docter"), 2);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_file_is_ok_and_exits_0),
        cmocka_unit_test(test_problems_are_lines_on_standard_error_and_exit_2),
        cmocka_unit_test(test_print_shows_the_values_in_force),
        cmocka_unit_test(test_without_a_file_there_is_a_usage_line),
        cmocka_unit_test(test_the_reference_is_markdown),
        cmocka_unit_test(test_help_names_every_subcommand_and_unknown_ones_exit_2),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
