/* redis_slot.c: see redis_slot.h. */
#include "proto/redis_slot.h"

static uint16_t crc16(struct slice bytes)
{
    uint32_t crc = 0;

    for (uint32_t i = 0; i < bytes.n_bytes; i++) {
        crc ^= (uint32_t)(uint8_t)bytes.bytes[i] << 8;
        for (uint32_t bit = 0; bit < 8; bit++)
            crc = (crc & 0x8000) != 0 ? crc << 1 ^ 0x1021 : crc << 1;
    }
    return (uint16_t)crc;
}

uint16_t redis_slot(struct slice name)
{
    const char *open = name.n_bytes > 0 ? memchr(name.bytes, '{', name.n_bytes) : NULL;
    const char *end = name.bytes + name.n_bytes;
    const char *close = open == NULL ? NULL : memchr(open + 1, '}', (size_t)(end - open - 1));

    if (close != NULL && close > open + 1)
        name = slice_of(open + 1, (uint32_t)(close - open - 1));
    return crc16(name) % REDIS_SLOTS;
}

static bool begins(struct slice text, const char *word)
{
    size_t n = strlen(word);

    return text.n_bytes >= n && memcmp(text.bytes, word, n) == 0;
}

/* Takes digits from the front. False: there are none, or the number is over `max`. */
static bool take_number(struct slice *text, uint32_t max, uint32_t *number)
{
    uint32_t n = 0;

    *number = 0;
    while (n < text->n_bytes && text->bytes[n] >= '0' && text->bytes[n] <= '9' && *number <= max)
        *number = *number * 10 + (uint32_t)(text->bytes[n++] - '0');
    *text = slice_of(text->bytes + n, text->n_bytes - n);
    return n > 0 && *number <= max;
}

/* "3999 127.0.0.1:6381", with an IPv6 address without brackets, or with nothing before the colon. */
static bool take_target(struct slice text, struct redis_redirection *out)
{
    uint32_t number, n_host;
    struct slice port;

    if (!take_number(&text, REDIS_SLOTS - 1, &number) || text.n_bytes < 2 || text.bytes[0] != ' ')
        return false;
    out->slot = (uint16_t)number;
    text = slice_of(text.bytes + 1, text.n_bytes - 1);
    for (n_host = text.n_bytes; n_host > 0 && text.bytes[n_host - 1] != ':';)
        n_host--;
    if (n_host == 0)
        return false;
    port = slice_of(text.bytes + n_host, text.n_bytes - n_host);
    out->host = slice_of(text.bytes, n_host - 1);
    if (!take_number(&port, UINT16_MAX, &number) || number == 0 || port.n_bytes != 0)
        return false;
    out->port = (uint16_t)number;
    return true;
}

struct redis_redirection redis_redirection(struct slice error)
{
    static const char *const not_now[] = { "CLUSTERDOWN", "TRYAGAIN", "LOADING", "MASTERDOWN" };
    struct redis_redirection out = { .kind = REFUSAL_OTHER };
    struct slice target;

    for (uint32_t i = 0; i < sizeof not_now / sizeof *not_now; i++)
        if (begins(error, not_now[i]))
            out.kind = REFUSAL_NOT_NOW;
    if (begins(error, "ERR This instance has cluster support disabled"))
        out.kind = REFUSAL_NO_CLUSTER;
    if (!begins(error, "MOVED ") && !begins(error, "ASK "))
        return out;
    out.kind = error.bytes[0] == 'M' ? REFUSAL_MOVED : REFUSAL_ASK;
    target = slice_of(error.bytes + (error.bytes[0] == 'M' ? 6 : 4),
                      error.n_bytes - (error.bytes[0] == 'M' ? 6 : 4));
    if (!take_target(target, &out))
        out = (struct redis_redirection){ .kind = REFUSAL_OTHER };
    return out;
}
