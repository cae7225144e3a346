/* bare_connect.c: the reference for connects: what a WebSocket handshake costs that is nothing else.
 *
 * One process, one epoll. Reads a request head line by line, wants the four headers of an upgrade,
 * answers with the SHA-1 of the key, and holds the connection until the client ends it.
 * Never:  looks at the path, reads frames, or keeps a head that did not come in one piece.
 *
 *     bare_connect PORT */
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/bare_loop.h"

#define HEAD_MAX 8192

static int name_is(const char *line, const char *colon, const char *name)
{
    return (size_t)(colon - line) == strlen(name) &&
           strncasecmp(line, name, (size_t)(colon - line)) == 0;
}

/* The 24 characters of Sec-WebSocket-Key, or NULL when this is not the whole head of an upgrade. */
static const char *head_parse(const char *head, size_t n)
{
    const char *end = memmem(head, n, "\r\n\r\n", 4), *line, *next, *key = NULL;
    int upgrade = 0, connection = 0, version = 0;

    if (!end || memcmp(head, "GET /", 5) != 0)
        return NULL;
    for (line = memmem(head, n, "\r\n", 2); line < end; line = next) {
        const char *colon, *value;

        line += 2;
        next = memmem(line, (size_t)(end + 2 - line), "\r\n", 2);
        colon = memchr(line, ':', (size_t)(next - line));
        if (!colon)
            return NULL;
        value = colon + 1 + strspn(colon + 1, " \t");
        if (name_is(line, colon, "Upgrade"))
            upgrade = next - value == 9 && strncasecmp(value, "websocket", 9) == 0;
        else if (name_is(line, colon, "Connection"))
            connection = next - value == 7 && strncasecmp(value, "upgrade", 7) == 0;
        else if (name_is(line, colon, "Sec-WebSocket-Version"))
            version = next - value == 2 && memcmp(value, "13", 2) == 0;
        else if (name_is(line, colon, "Sec-WebSocket-Key") && next - value == 24)
            key = value;
    }
    return upgrade && connection && version ? key : NULL;
}

static int answer(int fd, const char *key)
{
    uint8_t accept[64], digest[SHA_DIGEST_LENGTH];
    char text[256];
    int n = snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);

    (void)EVP_EncodeBlock(accept, SHA1((uint8_t *)text, (size_t)n, digest), sizeof digest);
    n = snprintf(text, sizeof text,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                 "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                 accept);
    return send(fd, text, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -1;
}

static void on_readable(int fd)
{
    static char head[HEAD_MAX + 1];
    ssize_t n = recv(fd, head, HEAD_MAX, MSG_DONTWAIT);
    const char *key = NULL;

    if (n > 0) {
        head[n] = 0; /* strspn() ends there */
        key = head_parse(head, (size_t)n);
    }
    if (!key || answer(fd, key) != 0)
        (void)close(fd);
}

int main(int argc, char **argv)
{
    bare_loop(argc == 2 ? argv[1] : NULL, on_readable);
}
