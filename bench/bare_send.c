/* bare_send.c: the reference: what a fan-out costs that does nothing but send().
 *
 * One process, one epoll. A WebSocket upgrade of /ANY/ROOM makes a member of that room; a message
 * of a member is framed once and sent to all others, one plain send() per member and message; with
 * `coalesce` for all messages that were read at once.
 * Never:  answers pings, queues, checks UTF-8, or keeps a member whose socket is full.
 * Usage:  bare_send PORT [coalesce]. (bare_uring.c and bare_echo.c replace the sends only.) */
#include <err.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/bare_loop.h"

#define ROOMS_MAX 16384
#define INPUT_MAX (65536 + 16)

struct room {
    char name[64];
    int *fds;
    uint32_t count;
};

struct conn {
    uint8_t *kept;              /* a cut head or frame */
    uint32_t kept_bytes, place; /* place: in the room */
    struct room *room;          /* none before the upgrade */
};

static struct conn conns[BARE_CONNS_MAX];
static struct room rooms[ROOMS_MAX];
static uint32_t n_rooms;
static int coalesce;

static void drop(int fd)
{
    struct room *r = conns[fd].room;

    if (r) {
        r->fds[conns[fd].place] = r->fds[--r->count];
        conns[r->fds[r->count]].place = conns[fd].place;
    }
    free(conns[fd].kept);
    conns[fd] = (struct conn){ 0 };
    (void)close(fd);
}

static void sends_fan_out(struct room *r, int from, const uint8_t *frame, size_t n);
#ifndef BARE_SENDS_OTHERWISE
static void sends_fan_out(struct room *r, int from, const uint8_t *frame, size_t n)
{
    for (uint32_t i = r->count; i-- > 0;) { /* downwards: drop() puts the last one into the gap */
        if (r->fds[i] != from &&
            send(r->fds[i], frame, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n)
            drop(r->fds[i]);
    }
}
#endif

static int join_room(int fd, const char *name, size_t n)
{
    struct room *r = rooms;

    if (n == 0 || n >= sizeof r->name)
        return -1;
    while (r < rooms + n_rooms && (memcmp(r->name, name, n) != 0 || r->name[n]))
        r++;
    if (r == rooms + ROOMS_MAX)
        return -1;
    if (r == rooms + n_rooms)
        memcpy(rooms[n_rooms++].name, name, n);
    if ((r->count & (r->count - 1)) == 0) { /* doubled at powers of two */
        r->fds = realloc(r->fds, (r->count ? r->count * 2 : 1) * sizeof *r->fds);
        if (!r->fds)
            err(1, "room");
    }
    conns[fd].room = r;
    conns[fd].place = r->count;
    r->fds[r->count++] = fd;
    return 0;
}

/* Returns the bytes of the head, 0 when it is not whole yet, -1 when the client is to go. */
static ssize_t on_head(int fd, const void *bytes, size_t n)
{
    const char *head = bytes, *end = memmem(bytes, n, "\r\n\r\n", 4), *key, *path_end, *name;
    uint8_t accept[64], digest[SHA_DIGEST_LENGTH];
    char text[256];
    int length;

    if (!end)
        return 0;
    key = memmem(head, (size_t)(end - head), "\r\nSec-WebSocket-Key: ", 21);
    path_end = memchr(head + 4, ' ', n - 4);
    name = path_end ? memrchr(head, '/', (size_t)(path_end - head)) : NULL;
    if (memcmp(head, "GET /", 5) != 0 || !key || end - key < 21 + 24 || !name ||
        join_room(fd, name + 1, (size_t)(path_end - name) - 1) != 0)
        return -1;
    length = snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key + 21);
    (void)EVP_EncodeBlock(accept, SHA1((uint8_t *)text, (size_t)length, digest), sizeof digest);
    length = snprintf(text, sizeof text,
                      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                      "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                      accept);
    return send(fd, text, (size_t)length, MSG_NOSIGNAL) == length ? end - head + 4 : -1;
}

/* As on_head(), for a frame, put to the `end` of what others get; a close frame makes the client go. */
static ssize_t on_frame(int fd, const uint8_t *bytes, size_t n, uint8_t **end)
{
    size_t length = bytes[1] & 0x7f, head = 2;
    uint8_t *out = *end;

    if (bytes[0] != 0x81 || (bytes[1] & 0x80) == 0 || length == 127)
        return -1;
    if (length == 126) {
        length = (size_t)bytes[2] << 8 | bytes[3];
        head = 4;
    }
    if (n < head + 4 + length)
        return 0;
    memcpy(out, bytes, head);
    out[1] &= 0x7f;
    for (size_t i = 0; i < length; i++)
        out[head + i] = bytes[head + 4 + i] ^ bytes[head + (i & 3)];
    if (coalesce)
        *end += head + length;
    else
        sends_fan_out(conns[fd].room, fd, out, head + length);
    return (ssize_t)(head + 4 + length);
}

static void on_readable(int fd)
{
    static uint8_t in[2 * INPUT_MAX], out[2 * INPUT_MAX];
    struct conn *c = &conns[fd];
    uint8_t *end = out;
    size_t n = c->kept_bytes, at = 0;
    ssize_t used;

    if (n > 0)
        memcpy(in, c->kept, n);
    used = recv(fd, in + n, INPUT_MAX, MSG_DONTWAIT);
    if (used <= 0) {
        if (used == 0 || errno != EAGAIN)
            drop(fd);
        return;
    }
    free(c->kept);
    c->kept = NULL;
    c->kept_bytes = 0;
    n += (size_t)used;
    while (n - at >= 8 && used > 0) { /* no head and no frame with a message in it is shorter */
        used = c->room ? on_frame(fd, &in[at], n - at, &end) : on_head(fd, &in[at], n - at);
        at += used > 0 ? (size_t)used : 0;
    }
    if (end > out)
        sends_fan_out(c->room, fd, out, (size_t)(end - out));
    if (at == n)
        return;
    if (used >= 0 && n - at < INPUT_MAX && (c->kept = malloc(n - at)) != NULL)
        memcpy(c->kept, in + at, c->kept_bytes = (uint32_t)(n - at));
    else
        drop(fd);
}

int main(int argc, char **argv)
{
    coalesce = argc == 3 && strcmp(argv[2], "coalesce") == 0;
    bare_loop(argc == 2 + coalesce ? argv[1] : NULL, on_readable);
}
