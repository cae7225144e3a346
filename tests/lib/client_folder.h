/* client_folder.h: a temporary folder of made-up client bundles; the real ones need npm. */
#ifndef PEAL_TESTS_CLIENT_FOLDER_H
#define PEAL_TESTS_CLIENT_FOLDER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/client_files.h"

static char client_folder[] = "/tmp/test_client.XXXXXX";

__attribute__((unused)) static const char *client_path(uint32_t i)
{
    static char path[128];

    (void)snprintf(path, sizeof path, "%s/%s", client_folder, client_file_names[i]);
    return path;
}

/* Text that compresses: its name, `lines` times. */
__attribute__((unused)) static void write_client_file(uint32_t i, uint32_t lines)
{
    FILE *f = fopen(client_path(i), "we");

    assert_non_null(f);
    for (uint32_t line = 0; line < lines; line++)
        (void)fprintf(f, "/* %s %u */\n", client_file_names[i], line);
    assert_int_equal(fclose(f), 0);
}

__attribute__((unused)) static int make_client_folder(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(client_folder));
    for (uint32_t i = 0; i < CLIENT_FILES; i++)
        write_client_file(i, 100 + i);
    return 0;
}

__attribute__((unused)) static int remove_client_folder(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < CLIENT_FILES; i++)
        (void)unlink(client_path(i)); /* a test may have done it */
    return rmdir(client_folder);
}

#endif
