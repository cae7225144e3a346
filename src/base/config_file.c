/* config_file.c: the configuration file. inih splits the lines; what it would get wrong is caught
 * before it sees a line.
 *
 * inih cuts a long line in two and takes the rest for another line, cuts a section name at 49
 * bytes, takes " ;" inside a value for a comment, an indented line for more of the value above, and
 * ':' for '='. So this file reads the lines itself (that is also how it knows their numbers),
 * refuses what would be mistaken, understands section headings itself, and hands inih only lines
 * KEY = VALUE, one by one. */
#include "base/config_keys.h"

#include <assert.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_BYTES_MAX  (1u << 20)
#define LINE_BYTES_MAX  (CONFIG_VALUE_MAX - 1)
#define INIH_LINE_BYTES (LINE_BYTES_MAX + 8)

struct reader {
    struct config_loader *l;
    char *rest; /* unread lines */
    uint32_t line;
    uint32_t instance; /* of the section; CONFIG_INSTANCES: unknown, its keys are passed over */
    char where[CONFIG_TEXT_MAX + 16];
};

#define COMPLAIN(r, ...) (config_problem((r)->l->problems, __VA_ARGS__), false)

/* [server], [ws], [namespace "/NAME"] */
static bool read_section(struct reader *r, char *line)
{
    char *end = strrchr(line, ']'), *name = line + 1;

    r->instance = CONFIG_INSTANCES;
    if (end == NULL)
        return COMPLAIN(r, "%s: the ] of the section is missing", r->where);
    if (end[1] != '\0')
        return COMPLAIN(
            r, "%s: nothing may follow the ] of a section (a comment needs a line of its own)",
            r->where);
    *end = '\0';
    if (strcmp(name, "server") == 0) {
        r->instance = CONFIG_INSTANCE_SERVER;
        return true;
    }
    if (strcmp(name, "ws") == 0) {
        r->instance = CONFIG_INSTANCE_WS;
        return true;
    }
    if (strncmp(name, "namespace", 9) == 0) {
        char *quoted = name + 9 + strspn(name + 9, " \t");
        size_t n = strlen(quoted);

        if (n >= 3 && quoted[0] == '"' && quoted[n - 1] == '"') {
            quoted[n - 1] = '\0';
            r->instance = config_instance(r->l, r->where, quoted + 1);
            return r->instance != CONFIG_INSTANCES;
        }
    }
    return COMPLAIN(
        r, "%s: [%.100s]: no such section; there are [server], [ws] and [namespace \"/NAME\"]",
        r->where, name);
}

/* True if inih may have the line: it is KEY = VALUE, and inih will see the same key and value in it
 * as everybody else. */
static bool check_line(struct reader *r, char *line, size_t n)
{
    size_t n_key;

    if (n > LINE_BYTES_MAX)
        return COMPLAIN(r, "%s: a line of %zu bytes; at most %u are possible", r->where, n,
                        LINE_BYTES_MAX);
    if (line[0] == '\0' || line[0] == '#' || line[0] == ';')
        return false;
    if (line[0] == '[') {
        (void)read_section(r, line); /* has reported what is wrong */
        return false;
    }
    n_key = strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    if (n_key == 0 || line[n_key + strspn(line + n_key, " \t")] != '=')
        return COMPLAIN(
            r, "%s: not understood; a line is KEY = VALUE, [SECTION], or a comment after # or ;",
            r->where);
    if (strstr(line + n_key, " ;") != NULL || strstr(line + n_key, "\t;") != NULL ||
        strstr(line + n_key, " #") != NULL || strstr(line + n_key, "\t#") != NULL)
        return COMPLAIN(
            r, "%s: %.*s: a space and then ; or # in a value: a comment needs a line of its own",
            r->where, (int)n_key, line);
    return true;
}

/* inih asks for a line, as fgets: the next one that is KEY = VALUE. NULL at the end. */
static char *next_line(char *to, int room, void *reader)
{
    struct reader *r = reader;

    while (r->rest != NULL) {
        char *line = r->rest, *end = strchrnul(line, '\n');
        size_t n;

        r->rest = *end == '\n' ? end + 1 : NULL;
        r->line++;
        snprintf(r->where, sizeof r->where, "%.*s:%u", CONFIG_TEXT_MAX - 1, r->l->file, r->line);
        while (end > line && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
            end--;
        *end = '\0';
        line += strspn(line, " \t");
        n = line < end ? (size_t)(end - line) : 0;
        if (n == 0 || !check_line(r, line, n))
            continue;
        assert((int)n + 2 <= room); /* inih's buffer is INIH_LINE_BYTES */
        snprintf(to, (size_t)room, "%s\n", line);
        return to;
    }
    return NULL;
}

static int on_value(void *reader, const char *section, const char *name, const char *value)
{
    struct reader *r = reader;

    (void)section; /* read_section knows better */
    if (r->instance != CONFIG_INSTANCES)
        config_set(r->l, SOURCE_FILE, r->line, r->where, r->instance, name, value);
    return 1;
}

/* The whole file with a NUL behind it, or NULL (reported). A NUL in it is found by its length. */
static char *read_all(struct config_loader *l)
{
    FILE *f = fopen(l->file, "re");
    char *bytes = f != NULL ? malloc(FILE_BYTES_MAX + 2) : NULL;
    size_t n;

    if (bytes == NULL) {
        config_problem(l->problems, "%.200s: cannot be read: %s", l->file, strerror(errno));
        goto out;
    }
    n = fread(bytes, 1, FILE_BYTES_MAX + 1, f);
    bytes[n] = '\0';
    if (ferror(f) != 0 || n > FILE_BYTES_MAX || strlen(bytes) != n) {
        config_problem(l->problems, "%.200s: %s", l->file,
                       ferror(f) != 0       ? strerror(errno)
                       : n > FILE_BYTES_MAX ? "over 1M"
                                            : "not a text file: it holds a NUL byte");
        free(bytes);
        bytes = NULL;
    }
out:
    if (f != NULL)
        (void)fclose(f); /* only read from */
    return bytes;
}

void config_file_load(struct config_loader *l)
{
    struct reader r = { .l = l, .instance = CONFIG_INSTANCE_SERVER };
    char *bytes = read_all(l);

    if (bytes == NULL)
        return;
    r.rest = strncmp(bytes, "\xef\xbb\xbf", 3) == 0 ? bytes + 3 : bytes;
    ini_use_stack = false;
    ini_initial_alloc = INIH_LINE_BYTES;
    ini_max_line = INIH_LINE_BYTES;
    ini_allow_realloc = false;
    ini_allow_inline_comments = false;
    ini_allow_multiline = false;
    ini_allow_no_value = false;
    ini_stop_on_first_error = false;
    if (ini_parse_stream(next_line, &r, on_value, &r) != 0)
        config_problem(l->problems, "%.200s: not understood",
                       l->file); /* out of memory: the lines themselves have been checked */
    free(bytes);
}
