/* room_news.c: see room_news.h.
 *
 * Invariant: what has been said and what is noted, in this order, give the rooms that there are, unless everything is being told: then what has been looked
 *            at already does. Coming and going are told as they are, not counted, so that saying one twice is no harm. */
#include "session/room_news.h"

#include <stdlib.h>

#include "session/clients.h"
#include "session/client_socks.h"
#include "session/publish.h"

#define NOTES_BYTES_MAX (1u << 20) /* beyond it everything is told anew */
#define RECORD_BYTES    32768      /* of news in one record */
#define LOOK_PER_FLUSH  1024       /* rooms and sockets, while everything is told */

/* One note: op, length of the namespace's name, length of the room's, both names. */
#define NOTE_HEAD 3u

struct room_news {
    const struct config *config;
    uint8_t *notes;
    uint32_t n_notes; /* bytes */
    uint32_t at;      /* of them have been sent */
    uint32_t max;
    bool telling; /* everything; looked at so far: */
    uint32_t next_room;
    uint32_t next_sock;
};

bool room_news_new(struct hub *h, struct room_news **out)
{
    *out = NULL;
    if (!h->config->redis.enabled || !h->config->redis_sharded ||
        h->config->redis_subscription_mode == CONFIG_SUBSCRIPTIONS_STATIC)
        return true;
    *out = calloc(1, sizeof **out);
    if (*out != NULL)
        (*out)->config = h->config;
    return *out != NULL;
}

void room_news_free(struct room_news *news)
{
    if (news != NULL)
        free(news->notes);
    free(news);
}

static bool make_room(struct room_news *news, uint32_t n_bytes)
{
    uint32_t max = news->max == 0 ? 4096 : news->max;
    uint8_t *notes;

    if (news->at > 0 && news->n_notes + n_bytes > news->max) {
        memmove(news->notes, news->notes + news->at, news->n_notes - news->at);
        news->n_notes -= news->at;
        news->at = 0;
    }
    if (news->n_notes + n_bytes <= news->max)
        return true;
    while (max < news->n_notes + n_bytes)
        max *= 2;
    notes = max > NOTES_BYTES_MAX ? NULL : realloc(news->notes, max);
    if (notes == NULL)
        return false;
    news->notes = notes;
    news->max = max;
    return true;
}

static void note(struct room_news *news, enum room_news_op op, struct slice nsp, struct slice name)
{
    uint8_t *to;

    if (!make_room(news, NOTE_HEAD + nsp.n_bytes + name.n_bytes)) {
        room_news_tell_all(news);
        return;
    }
    to = news->notes + news->n_notes;
    to[0] = (uint8_t)op;
    to[1] = (uint8_t)nsp.n_bytes; /* both are NAME_BYTES_MAX at most */
    to[2] = (uint8_t)name.n_bytes;
    memcpy(to + NOTE_HEAD, nsp.bytes, nsp.n_bytes);
    if (name.n_bytes > 0)
        memcpy(to + NOTE_HEAD + nsp.n_bytes, name.bytes, name.n_bytes);
    news->n_notes += NOTE_HEAD + nsp.n_bytes + name.n_bytes;
}

void room_news_note(struct room_news *news, const struct region *region, uint16_t nsp,
                    struct slice name, bool come)
{
    if (news != NULL)
        note(news, come ? NEWS_COME : NEWS_GONE, namespace_name(region, nsp), name);
}

void room_news_note_socket(struct hub *h, const struct sock *k, bool come)
{
    char id[SOCKET_ID_CHARS];

    if (h->news == NULL ||
        h->config->redis_subscription_mode != CONFIG_SUBSCRIPTIONS_DYNAMIC_PRIVATE)
        return;
    client_socket_id(h, k, id);
    room_news_note(h->news, &h->region, k->nsp, slice_of(id, sizeof id), come);
}

void room_news_tell_all(struct room_news *news)
{
    if (news == NULL)
        return;
    news->n_notes = news->at = 0;
    news->telling = true;
    news->next_room = news->next_sock = 0;
    if (make_room(news,
                  NOTE_HEAD + 1)) /* no memory: what is told is not whole until the next time */
        note(news, NEWS_BEGIN, slice_of("/", 1), slice_of("", 0));
}

/* Looks at some more of what there is. */
static void tell_more(struct hub *h, struct room_news *news)
{
    uint32_t budget = LOOK_PER_FLUSH;

    for (; budget > 0 && news->next_room < h->rooms.n_rooms; budget--) {
        const struct room *r = room_at(&h->rooms, news->next_room++);

        if (r->refs > 0 && r->name != NULL)
            room_news_note(news, &h->region, r->nsp, room_name(r), true);
    }
    for (; budget > 0 && news->next_sock < h->sockets.fresh_sock; budget--) {
        const struct sock *k = sock_at(&h->sockets, news->next_sock++);

        if (k->state == SOCK_ACTIVATING || k->state == SOCK_ACTIVE)
            room_news_note_socket(h, k, true);
    }
    if (budget == 0 || !news->telling)
        return;
    news->telling = false;
    note(news, NEWS_WHOLE, slice_of("/", 1), slice_of("", 0));
}

/* One record of the notes at the front that are of one namespace. */
static enum ring_result send_some(struct hub *h, struct room_news *news)
{
    uint8_t body[RECORD_BYTES];
    struct record_part part = { .payload = { (const char *)body, 0 } };
    struct record_spec spec = { .parts = &part, .n_parts = 1 };
    uint32_t at = news->at;
    enum ring_result result;

    spec.nsp = slice_of(news->notes + at + NOTE_HEAD, news->notes[at + 1]);
    while (at < news->n_notes) {
        const uint8_t *from = news->notes + at;
        uint32_t n_name = from[2];

        if (!slice_equal(slice_of(from + NOTE_HEAD, from[1]), spec.nsp) ||
            part.payload.n_bytes + 2 + n_name > sizeof body)
            break;
        body[part.payload.n_bytes] = from[0];
        body[part.payload.n_bytes + 1] = from[2];
        memcpy(body + part.payload.n_bytes + 2, from + NOTE_HEAD + from[1], n_name);
        part.payload.n_bytes += 2 + n_name;
        at += NOTE_HEAD + from[1] + n_name;
    }
    spec.header.kind = RECORD_ROOM_NEWS;
    spec.header.targets = 1ull << PEAL_SLOT_BRIDGE;
    result = publish(h, &spec);
    if (result == RING_OK)
        news->at = at;
    return result;
}

bool room_news_flush(struct hub *h)
{
    struct room_news *news = h->news;

    if (news == NULL)
        return true;
    if (news->telling && news->at == news->n_notes)
        tell_more(h, news);
    while (news->at < news->n_notes)
        if (send_some(h, news) != RING_OK)
            return false;
    news->at = news->n_notes = 0;
    return !news->telling;
}

bool room_news_next(struct slice part, uint32_t *at, enum room_news_op *op, struct slice *name)
{
    const uint8_t *from = (const uint8_t *)part.bytes + *at;

    if (part.n_bytes - *at < 2 || from[0] > NEWS_WHOLE || part.n_bytes - *at - 2 < from[1])
        return false;
    *op = (enum room_news_op)from[0];
    *name = slice_of(from + 2, from[1]);
    *at += 2u + from[1];
    return true;
}
