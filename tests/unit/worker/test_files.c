/* test_files.c: the client bundles: which request gets which form of which file, and the recorded
 * answers of a Node server. */
#include "lib/client_folder.h"
#include "lib/http_request.h"

#include <jansson.h>
#include <strings.h>
#include <zlib.h>

#include "proto/etag.h"
#include "worker/files.h"

#define PATH "/socket.io/"
#define JS   "application/javascript; charset=utf-8"
#define MAP  "application/json; charset=utf-8"

static struct files *files;
static struct files_answer answer;
static char why[FILES_WHY_MAX];

static int open_files(void **state)
{
    if (make_client_folder(state) != 0)
        return -1;
    files = files_load(client_folder, why);
    return files == NULL;
}

static int close_files(void **state)
{
    files_free(files);
    files_free(NULL);
    return remove_client_folder(state);
}

static bool find(const char *line, const char *headers)
{
    parse_request(line, headers);
    return files_find(files, PATH, &request, &answer);
}

static const char *expected_file(uint32_t i, uint32_t *n)
{
    static char text[16384];
    FILE *f = fopen(client_path(i), "re");

    assert_non_null(f);
    *n = (uint32_t)fread(text, 1, sizeof text, f);
    assert_in_range(*n, 1, sizeof text - 1);
    assert_int_equal(fclose(f), 0);
    return text;
}

/* The tag that stands in the lines. */
static const char *tag(void)
{
    static char text[ETAG_CHARS + 1];
    const char *at = strstr(answer.headers, "ETag: ");

    assert_non_null(at);
    (void)snprintf(text, sizeof text, "%s", at + 6);
    assert_int_equal(text[ETAG_CHARS - 1], '"');
    return text;
}

static void test_each_name_is_served_under_the_path(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < CLIENT_FILES; i++) {
        const char *name = client_file_names[i];
        bool is_map = strcmp(name + strlen(name) - 4, ".map") == 0;
        const char *text;
        char line[128];
        uint32_t n;

        (void)snprintf(line, sizeof line, "GET " PATH "%s?v=1", name);
        assert_true(find(line, ""));
        text = expected_file(i, &n);
        assert_int_equal(answer.status, 200);
        assert_string_equal(answer.type, is_map ? MAP : JS);
        assert_int_equal(answer.body.n_bytes, n);
        assert_memory_equal(answer.body.bytes, text, n);
        (void)snprintf(line, sizeof line,
                       "Cache-Control: public, max-age=0\r\n"
                       "Vary: Accept-Encoding\r\nETag: %s\r\n",
                       tag());
        assert_string_equal(answer.headers, line);
    }
}

static void test_other_names_are_not_ours(void **state)
{
    static const char *const others[] = {
        "GET /socket.io/",
        "GET /socket.io/?EIO=4&transport=polling",
        "GET /socket.io/other.js",
        "GET /socket.io/socket.io.j",
        "GET /socket.io/socket.io.jsx",
        "GET /socket.io/socket.io.js/",
        "GET /socket.io/x/socket.io.js",
        "GET /socket.io//socket.io.js",
        "GET /socket.io/../socket.io.js",
        "GET /socket.io/%73ocket.io.js",
        "GET /socket.io/SOCKET.IO.JS",
        "GET /socket.io/socket.io.msgpack.js",
        "GET /socket.io.js",
        "GET /socket.iosocket.io.js",
        "GET /",
    };
    (void)state;

    memset(&answer, 0, sizeof answer);
    for (uint32_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(find(others[i], ""));
    assert_int_equal(answer.status, 0); /* unchanged */
    parse_request("GET /rt/socket.io.js", "");
    assert_true(files_find(files, "/rt/", &request, &answer));
    parse_request("GET " PATH "socket.io.js", "");
    assert_false(files_find(files, "/rt/", &request, &answer));
    assert_false(files_find(NULL, PATH, &request, &answer)); /* no client_files */
}

static void test_the_compressed_form_is_for_those_who_take_it(void **state)
{
    static char back[16384];
    const char *text;
    uint32_t n;
    z_stream z = { 0 };
    (void)state;

    assert_true(find("GET " PATH "socket.io.js", "Accept-Encoding: br, gzip\r\n"));
    text = expected_file(0, &n);
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.headers, "\r\nContent-Encoding: gzip\r\n"));
    assert_non_null(strstr(answer.headers, "\r\nVary: Accept-Encoding\r\n"));
    assert_in_range(answer.body.n_bytes, 1, n / 2);
    z.next_in = (Bytef *)(uintptr_t)answer.body.bytes;
    z.avail_in = answer.body.n_bytes;
    z.next_out = (Bytef *)back;
    z.avail_out = sizeof back;
    assert_int_equal(inflateInit2(&z, MAX_WBITS + 16), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(inflateEnd(&z), Z_OK);
    assert_int_equal(z.total_out, n);
    assert_memory_equal(back, text, n);
    /* only gzip is kept ready */
    assert_true(find("GET " PATH "socket.io.js", "Accept-Encoding: deflate\r\n"));
    assert_int_equal(answer.body.n_bytes, n);
    assert_null(strstr(answer.headers, "Content-Encoding"));
}

static void test_who_has_it_gets_304(void **state)
{
    static const char *const before[] = { "", "W/", "\"x\", ", "\"x\",W/", "*, " };
    char headers[256], kept[ETAG_CHARS + 1];
    (void)state;

    assert_true(find("GET " PATH "socket.io.js", ""));
    (void)snprintf(kept, sizeof kept, "%s", tag());
    for (uint32_t i = 0; i < sizeof before / sizeof before[0]; i++) {
        (void)snprintf(headers, sizeof headers,
                       "Accept-Encoding: gzip\r\nIf-None-Match: %s%s , \"y\"\r\n", before[i], kept);
        for (uint32_t method = 0; method < 2; method++) {
            assert_true(find(method == 0 ? "GET " PATH "socket.io.js" : "HEAD " PATH "socket.io.js",
                             headers));
            assert_int_equal(answer.status, 304);
            assert_null(answer.type);
            assert_int_equal(answer.body.n_bytes, 0);
            assert_string_equal(tag(), kept);
            assert_null(strstr(answer.headers, "Content-"));
        }
    }
    assert_true(find("GET " PATH "socket.io.min.js", "If-None-Match: *\r\n"));
    assert_int_equal(answer.status, 304);
    (void)snprintf(headers, sizeof headers, "If-None-Match: %s\r\n", kept);
    assert_true(find("GET " PATH "socket.io.min.js", headers)); /* its tag is another */
    assert_int_equal(answer.status, 200);
    assert_true(find("POST " PATH "socket.io.js", headers)); /* 304 answers GET and HEAD only */
    assert_int_equal(answer.status, 200);
}

static void test_head_tells_what_get_would_send(void **state)
{
    struct files_answer get;
    (void)state;

    assert_true(find("GET " PATH "socket.io.esm.min.js", "Accept-Encoding: gzip\r\n"));
    get = answer;
    assert_true(find("HEAD " PATH "socket.io.esm.min.js", "Accept-Encoding: gzip\r\n"));
    assert_memory_equal(&get, &answer, sizeof get);
}

/* --- loading --- */

static void expect_refused(const char *folder, const char *text)
{
    struct files *f = files_load(folder, why);

    assert_null(f);
    if (strstr(why, text) == NULL)
        print_message("expected \"%s\", got \"%s\"\n", text, why);
    assert_non_null(strstr(why, text));
}

static void test_a_missing_or_unfit_file_is_named(void **state)
{
    char expected[256];
    (void)state;

    expect_refused("/nonexistent", "/nonexistent/socket.io.js: cannot be read: No such file");
    assert_int_equal(unlink(client_path(7)), 0);
    (void)snprintf(expected, sizeof expected, "%s: cannot be read: No such file", client_path(7));
    expect_refused(client_folder, expected);

    assert_int_equal(mkfifo(client_path(7), 0600), 0); /* and nobody waits for a writer */
    expect_refused(client_folder, ".map: is not a file");
    assert_int_equal(unlink(client_path(7)), 0);

    write_client_file(7, 0);
    expect_refused(client_folder, ": 0 bytes; 1 to 8388608 are possible");
    assert_int_equal(truncate(client_path(7), CLIENT_FILE_BYTES_MAX + 1), 0);
    expect_refused(client_folder, ": 8388609 bytes; 1 to 8388608 are possible");

    assert_int_equal(truncate(client_path(7), CLIENT_FILE_BYTES_MAX), 0);
    files_free(files);
    files = files_load(client_folder, why);
    assert_non_null(files);
    assert_true(find("GET " PATH "socket.io.msgpack.min.js.map", ""));
    assert_int_equal(answer.body.n_bytes, CLIENT_FILE_BYTES_MAX);
    write_client_file(7, 107);
}

static void test_a_file_that_does_not_compress_has_one_form(void **state)
{
    FILE *f = fopen(client_path(0), "we");
    (void)state;

    assert_non_null(f);
    assert_int_equal(fputc('x', f), 'x');
    assert_int_equal(fclose(f), 0);
    files_free(files);
    files = files_load(client_folder, why);
    assert_non_null(files);
    assert_true(find("GET " PATH "socket.io.js", "Accept-Encoding: gzip\r\n"));
    assert_int_equal(answer.body.n_bytes, 1);
    assert_null(strstr(answer.headers, "Content-Encoding"));
    write_client_file(0, 100);
}

/* --- as recorded --- */

/* Each line of the recorded head but the status, what the tag's value is, and what the sender of an
 * answer adds, is among ours. Returns how many there were. */
static uint32_t expect_lines_of(const char *head)
{
    static const char *const others[] = { "Date: ", "Connection: ", "Keep-Alive: ",
                                          "Transfer-Encoding: " };
    char ours[512], line[256];
    uint32_t n = 0;

    (void)snprintf(ours, sizeof ours, "\r\n%s%s%s%s", answer.headers,
                   answer.type != NULL ? "Content-Type: " : "",
                   answer.type != NULL ? answer.type : "", answer.type != NULL ? "\r\n" : "");
    for (head = strstr(head, "\r\n") + 2; head[0] != '\r'; head = strstr(head, "\r\n") + 2) {
        bool skipped = false;

        for (uint32_t i = 0; i < sizeof others / sizeof others[0]; i++)
            skipped = skipped || strncmp(head, others[i], strlen(others[i])) == 0;
        if (skipped)
            continue;
        (void)snprintf(line, sizeof line, "\r\n%.*s",
                       (int)(strncmp(head, "ETag", 4) == 0 ? 7 : strcspn(head, "\r")), head);
        if (strcasestr(ours, line) == NULL)
            print_message("recorded \"%s\", ours \"%s\"\n", line, ours);
        assert_non_null(strcasestr(ours, line));
        n++;
    }
    return n;
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static void test_the_recorded_answers(void **state)
{
    json_t *file =
        json_load_file("tests/vectors/http-errors-and-options.json", JSON_ALLOW_NUL, NULL);
    static const char *const served[] = { "plain", "gzip", "br", "map" };
    static const uint32_t n_lines[] = { 3, 4, 4, 3 };
    json_t *v = NULL;
    const char *request_of_304;
    char changed[512];
    size_t at;
    (void)state;

    assert_non_null(file);
    json_array_foreach(json_object_get(file, "vectors"), at, v)
    {
        if (strcmp(text_of(v, "name"), "client-file") == 0)
            break;
    }
    assert_non_null(v);
    for (uint32_t i = 0; i < sizeof served / sizeof served[0]; i++) {
        const json_t *part = json_object_get(v, served[i]);

        parse_head(text_of(part, "request"));
        assert_true(files_find(files, PATH, &request, &answer));
        assert_int_equal(strncmp(text_of(part, "head"), "HTTP/1.1 200 ", 13), 0);
        assert_int_equal(answer.status, 200);
        assert_int_equal(expect_lines_of(text_of(part, "head")), n_lines[i]);
    }
    /* Node's tag is the version, ours a hash: theirs would not match, ours in its place does */
    request_of_304 = text_of(json_object_get(v, "notModified"), "request");
    parse_head(request_of_304);
    assert_true(files_find(files, PATH, &request, &answer));
    assert_int_equal(answer.status, 200);
    (void)snprintf(changed, sizeof changed, "%.*s%s\r\n\r\n",
                   (int)(strstr(request_of_304, "\"4.8.4\"") - request_of_304), request_of_304,
                   tag());
    parse_head(changed);
    assert_true(files_find(files, PATH, &request, &answer));
    assert_int_equal(answer.status, 304);
    assert_int_equal(expect_lines_of(text_of(json_object_get(v, "notModified"), "head")), 0);
    /* any method is served */
    assert_true(find("POST " PATH "socket.io.js", "Content-Length: 0\r\n"));
    assert_int_equal(answer.status, 200);
    assert_int_equal(expect_lines_of(text_of(v, "post")), 3);
    /* other names fall to the engine */
    parse_head(text_of(json_object_get(v, "unknownFile"), "request"));
    assert_false(files_find(files, PATH, &request, &answer));
    json_decref(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_name_is_served_under_the_path),
        cmocka_unit_test(test_other_names_are_not_ours),
        cmocka_unit_test(test_the_compressed_form_is_for_those_who_take_it),
        cmocka_unit_test(test_who_has_it_gets_304),
        cmocka_unit_test(test_head_tells_what_get_would_send),
        cmocka_unit_test(test_a_missing_or_unfit_file_is_named),
        cmocka_unit_test(test_a_file_that_does_not_compress_has_one_form),
        cmocka_unit_test(test_the_recorded_answers),
    };

    return cmocka_run_group_tests(tests, open_files, close_files);
}
