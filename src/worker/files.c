/* files.c: eight files and their two forms.
 *
 * Invariant: everything an answer needs is made at the start; a request costs a few comparisons.
 * Owns:      the bytes of both forms.
 *
 * As engine.io 6.6.12 answers, but for three lines: the tag is a hash of the bytes, since the version
 * is not ours to know; `Vary: Accept-Encoding`, or a shared cache would give the compressed form to
 * everybody; and a 304 repeats what it stands for, as RFC 9110 section 15.4.5 demands. */
#include "worker/files.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/client_files.h"
#include "proto/etag.h"
#include "proto/gzip.h"

#define LINES_MAX 192
#define CACHING   "Cache-Control: public, max-age=0\r\nVary: Accept-Encoding\r\nETag: %.*s\r\n"

struct file {
    uint8_t *bytes;
    uint8_t *zipped;
    uint32_t n_bytes;
    uint32_t n_zipped; /* 0: compression does not pay */
    char etag[ETAG_CHARS];
    char lines[LINES_MAX];
    char zipped_lines[LINES_MAX];
};

struct files {
    struct file all[CLIENT_FILES];
};

/* Exactly n bytes: a file that grows or shrinks meanwhile is being replaced. */
static bool read_all(int fd, uint8_t *to, uint32_t n)
{
    uint8_t more;

    while (n > 0) {
        ssize_t got = read(fd, to, n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        to += got;
        n -= (uint32_t)got;
    }
    return read(fd, &more, 1) == 0;
}

static bool compress_file(struct file *file, struct gzip *gzip)
{
    uint8_t *zipped = malloc(file->n_bytes);

    if (zipped == NULL)
        return false;
    file->n_zipped =
        gzip_body(gzip, CODING_GZIP, slice_of(file->bytes, file->n_bytes), zipped, file->n_bytes);
    file->zipped = realloc(zipped, file->n_zipped > 0 ? file->n_zipped : 1);
    if (file->zipped == NULL)
        file->zipped = zipped; /* it could not be made smaller: then it stays large */
    return true;
}

static void write_lines(struct file *file)
{
    int n;

    etag_make(file->etag, slice_of(file->bytes, file->n_bytes));
    n = snprintf(file->lines, sizeof file->lines, CACHING, ETAG_CHARS, file->etag);
    assert(n > 0 && n < LINES_MAX);
    n = snprintf(file->zipped_lines, sizeof file->zipped_lines, CACHING "%s", ETAG_CHARS,
                 file->etag, gzip_header(CODING_GZIP));
    assert(n > 0 && n < LINES_MAX);
}

static bool load(struct file *file, const char *folder, uint32_t i, struct gzip *gzip,
                 char why[FILES_WHY_MAX])
{
    int fd = client_file_open(folder, i, &file->n_bytes, why, FILES_WHY_MAX);
    bool good = false;

    if (fd < 0)
        return false;
    file->bytes = malloc(file->n_bytes);
    if (file->bytes == NULL)
        (void)snprintf(why, FILES_WHY_MAX, "%s: no memory for %u bytes", client_file_names[i],
                       file->n_bytes);
    else if (!read_all(fd, file->bytes, file->n_bytes))
        (void)snprintf(why, FILES_WHY_MAX, "%s/%s: changes while it is read", folder,
                       client_file_names[i]);
    else if (!compress_file(file, gzip))
        (void)snprintf(why, FILES_WHY_MAX, "%s: no memory for its compressed form",
                       client_file_names[i]);
    else
        good = true;
    (void)close(fd); /* only read from */
    if (good)
        write_lines(file);
    return good;
}

struct files *files_load(const char *folder, char why[FILES_WHY_MAX])
{
    struct files *f = calloc(1, sizeof *f);
    struct gzip *gzip = gzip_new(GZIP_LEVEL_GOOD);
    bool good = f != NULL && gzip != NULL;

    if (!good)
        (void)snprintf(why, FILES_WHY_MAX, "no memory");
    for (uint32_t i = 0; good && i < CLIENT_FILES; i++)
        good = load(&f->all[i], folder, i, gzip, why);
    gzip_free(gzip);
    if (good)
        return f;
    files_free(f);
    return NULL;
}

void files_free(struct files *f)
{
    if (f == NULL)
        return;
    for (uint32_t i = 0; i < CLIENT_FILES; i++) {
        free(f->all[i].bytes);
        free(f->all[i].zipped);
    }
    free(f);
}

/* The number of the file behind `path`, or CLIENT_FILES. */
static uint32_t number_of(struct slice target, const char *path)
{
    uint32_t n_path = (uint32_t)strlen(path);
    uint32_t i = 0;
    struct slice name;

    if (target.n_bytes <= n_path || memcmp(target.bytes, path, n_path) != 0)
        return CLIENT_FILES;
    name = slice_of(target.bytes + n_path, target.n_bytes - n_path);
    while (i < CLIENT_FILES && !slice_is(name, client_file_names[i]))
        i++;
    return i;
}

static bool is_map(uint32_t i)
{
    return strstr(client_file_names[i], ".map") != NULL;
}

bool files_find(const struct files *f, const char *path, const struct http_request *r,
                struct files_answer *out)
{
    uint32_t i = f == NULL ? CLIENT_FILES : number_of(r->path, path);
    bool reads = r->method == HTTP_GET_ || r->method == HTTP_HEAD_;
    const struct file *file;

    if (i == CLIENT_FILES)
        return false;
    file = &f->all[i];
    if (reads && etag_known(r, slice_of(file->etag, ETAG_CHARS))) {
        *out = (struct files_answer){ 304, NULL, file->lines, { NULL, 0 } };
        return true;
    }
    out->status = 200;
    out->type =
        is_map(i) ? "application/json; charset=utf-8" : "application/javascript; charset=utf-8";
    if (file->n_zipped > 0 && gzip_negotiate(r) == CODING_GZIP) {
        out->headers = file->zipped_lines;
        out->body = slice_of(file->zipped, file->n_zipped);
    } else {
        out->headers = file->lines;
        out->body = slice_of(file->bytes, file->n_bytes);
    }
    return true;
}
