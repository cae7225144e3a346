/* compose.c: see compose.h. */
#include "app/compose.h"

#include <stdlib.h>

#include "proto/json.h"

/* Is there a first element, and may an event be called so? */
static bool first_is_name(const struct composed *c)
{
    /* a head that is only a bracket: the first element is the tail's */
    struct json_iter it =
        c->head.n_bytes > 1 ? json_iter_open(c->head)
                            : (struct json_iter){ c->tail.bytes, c->tail.bytes + c->tail.n_bytes };
    char name[32]; /* longer than any that is reserved */
    struct slice value;
    enum json_kind kind;
    uint32_t n_bytes;

    if (!json_iter_next(&it, NULL, &value, &kind))
        return false;
    if (kind != JSON_STRING)
        return kind == JSON_NUMBER;
    n_bytes = json_unescape(value, name, sizeof name);
    return n_bytes > sizeof name || !sio_event_reserved(slice_of(name, n_bytes));
}

static bool is_array(struct slice json)
{
    enum json_kind kind;

    return json.bytes != NULL && json_valid(json, &kind) && kind == JSON_ARRAY;
}

/* What is left of the array behind its first `skip` elements, with the closing bracket. False: it has not so many. */
static bool rest_of(struct slice array, uint32_t skip, struct slice *rest, bool *any)
{
    struct json_iter it = json_iter_open(array);
    struct slice value;

    for (uint32_t i = 0; i < skip; i++)
        if (!json_iter_next(&it, NULL, &value, NULL))
            return false;
    *any = json_iter_next(&it, NULL, &value, NULL);
    *rest = slice_text("]");
    if (*any)
        *rest = slice_of(value.bytes, (uint32_t)(array.bytes + array.n_bytes - value.bytes));
    return true;
}

/* "[prefix," before the rest. */
static enum peal_result put_prefix(struct peal_host *host, struct slice prefix, bool more,
                                   struct composed *out)
{
    char *text = host_text(host, (uint64_t)prefix.n_bytes + 2);
    struct slice array = slice_of(text, prefix.n_bytes + 2);
    struct json_iter it;

    if (text == NULL)
        return PEAL_FULL;
    text[0] = '[';
    memcpy(text + 1, prefix.bytes, prefix.n_bytes);
    text[prefix.n_bytes + 1] = ']';
    if (!is_array(array))
        return PEAL_INVALID;
    it = json_iter_open(array);
    if (!json_iter_next(&it, NULL, NULL, NULL) || /* white space is no value */
        (out->n_attachments > 0 && !sio_placeholders_valid(array, out->n_attachments)))
        return PEAL_INVALID;
    out->head = array;
    if (more)
        text[prefix.n_bytes + 1] = ',';
    else
        out->head.n_bytes--; /* the tail is the bracket */
    return PEAL_OK;
}

static bool take_attachments(const struct peal_message *m, struct composed *out, uint64_t *n_bytes)
{
    if (m->n_attachments > SIO_ATTACHMENTS_MAX)
        return false;
    out->n_attachments = m->n_attachments;
    for (uint32_t i = 0; i < m->n_attachments; i++) {
        out->attachments[i] = slice_from(m->attachments[i]);
        if (out->attachments[i].bytes == NULL)
            out->attachments[i] = slice_of("", 0);
        *n_bytes += out->attachments[i].n_bytes;
    }
    return true;
}

enum peal_result compose(struct peal_host *host, const struct peal_message *m, bool is_event,
                         struct composed *out)
{
    struct slice json = slice_from(m->json);
    bool in_hand = json.bytes != NULL && json.bytes == host->in_hand.bytes &&
                   json.n_bytes == host->in_hand.n_bytes;
    uint64_t n_bytes = (uint64_t)json.n_bytes + m->prefix.n_bytes + 2;
    enum peal_result result = PEAL_OK;
    bool has_prefix = m->prefix.bytes != NULL && m->prefix.n_bytes > 0;
    bool more = true;

    *out = (struct composed){ .head = json };
    if (!take_attachments(m, out, &n_bytes))
        return PEAL_INVALID;
    if (n_bytes > host->hub->config->event_bytes_max)
        return PEAL_TOO_BIG;
    if (!in_hand && !is_array(json))
        return PEAL_INVALID;
    if (out->n_attachments > 0 && !(in_hand && out->n_attachments == host->n_attached) &&
        !sio_placeholders_valid(json, out->n_attachments))
        return PEAL_INVALID;
    if (m->skip > 0 || has_prefix) {
        if (!rest_of(json, m->skip, &out->tail, &more))
            return PEAL_INVALID;
        out->head = slice_text("[");
        if (has_prefix)
            result = put_prefix(host, slice_from(m->prefix), more, out);
    }
    if (result != PEAL_OK)
        return result;
    out->n_bytes = (uint32_t)n_bytes;
    return is_event && !first_is_name(out) ? PEAL_INVALID : PEAL_OK;
}

char *composed_text(const struct composed *c, struct slice *text)
{
    char *joined = malloc((size_t)c->head.n_bytes + c->tail.n_bytes);

    if (joined == NULL)
        return NULL;
    memcpy(joined, c->head.bytes, c->head.n_bytes);
    if (c->tail.n_bytes > 0)
        memcpy(joined + c->head.n_bytes, c->tail.bytes, c->tail.n_bytes);
    *text = slice_of(joined, c->head.n_bytes + c->tail.n_bytes);
    return joined;
}
