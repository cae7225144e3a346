/* config_tests.h: what the tests of the configuration share: loading a text as a file, with
 * variables and flags, and asking what was said about it. */
#ifndef PEAL_TESTS_CONFIG_TESTS_H
#define PEAL_TESTS_CONFIG_TESTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/config.h"
#include "base/config_keys.h"

static struct config c;
static struct config_problems problems;
static char folder[] = "/tmp/test_config.XXXXXX";
static char file[64];

__attribute__((unused)) static int make_folder(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/peal.ini", folder);
    return 0;
}

__attribute__((unused)) static int remove_folder(void **state)
{
    (void)state;
    unlink(file);
    return rmdir(folder);
}

__attribute__((unused)) static void write_file(const char *path, const char *text, size_t n)
{
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

#define LIST(...) args_of((const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

/* What main() gets is not const, though nobody writes to it. */
__attribute__((unused)) static char *const *args_of(const char *const list[])
{
    return (char *const *)(uintptr_t)list;
}

__attribute__((unused)) static int count(char *const list[])
{
    int n = 0;

    while (list[n] != NULL)
        n++;
    return n;
}

/* Loads a file of this text (NULL: none) with these variables and flags. */
__attribute__((unused)) static bool load_all(const char *text, char *const environment[],
                                             char *const flags[])
{
    if (text != NULL)
        write_file(file, text, strlen(text));
    return config_load(&c, text != NULL ? file : NULL, count(flags), flags, environment, &problems);
}

__attribute__((unused)) static bool load(const char *text)
{
    return load_all(text, LIST(), LIST());
}

__attribute__((unused)) static void expect_problem(const char *text)
{
    for (uint32_t i = 0; i < problems.n; i++) {
        if (strstr(problems.items[i].text, text) != NULL)
            return;
    }
    print_message("expected \"%s\", got %u problem(s)\n", text, problems.n);
    for (uint32_t i = 0; i < problems.n; i++)
        print_message("  %s\n", problems.items[i].text);
    fail();
}

__attribute__((unused)) static void expect_fine(bool ok)
{
    for (uint32_t i = 0; i < problems.n; i++)
        print_message("  %s\n", problems.items[i].text);
    assert_true(ok);
    assert_int_equal(problems.n, 0);
}

__attribute__((unused)) static const struct config_key *key_of(const char *name)
{
    const struct config_key *key = config_key_find(SECTION_SERVER, name);

    assert_non_null(key);
    return key;
}

__attribute__((unused)) static bool parses(const struct config_key *key, const char *text)
{
    char why[CONFIG_WHY_MAX];
    bool ok = config_value_parse(
        key, key->section == SECTION_SERVER ? (void *)&c : &c.namespaces[0], text, why);

    assert_true(ok || why[0] != '\0');
    return ok;
}

#endif
