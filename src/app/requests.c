/* requests.c: see requests.h.
 *
 * Invariant: n_bytes of a request is what its answers and its list take; the sum over all is requests.n_bytes. Beyond PEAL_REQUEST_BYTES_MAX or _TOTAL an
 *            answer is counted and its content left out. */
#include "app/requests.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "proto/json.h"
#include "proto/socketio.h"
#include "session/hub.h"
#include "shm/atomic.h"

#define NUMBER_BYTES     32 /* [count] */
#define SILENT_NAMES_MAX 64 /* that the bridge tells at most */

struct answer {
    struct answer *next;
    uint32_t n_attachments;
    uint32_t n_json;
    struct peal_text attachments[SIO_ATTACHMENTS_MAX];
    char bytes[]; /* the JSON, then the attachments */
};

bool requests_init(struct requests *rs)
{
    void *area = mmap(NULL, PEAL_REQUESTS_MAX * sizeof *rs->items, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    *rs = (struct requests){ 0 };
    if (area == MAP_FAILED)
        return false;
    rs->items = area;
    return true;
}

void requests_destroy(struct requests *rs)
{
    if (rs->items == NULL)
        return;
    for (uint32_t i = 0; i < PEAL_REQUESTS_MAX && rs->n > 0; i++)
        if (rs->items[i].id != 0)
            request_close(rs, &rs->items[i]);
    (void)munmap(rs->items, PEAL_REQUESTS_MAX * sizeof *rs->items);
    rs->items = NULL;
}

struct request *request_open(struct requests *rs, struct hub *h, enum request_kind kind)
{
    uint64_t counter = shm_load_u64(&h->slot->next_ack);
    struct request *r;

    if (rs->n == PEAL_REQUESTS_MAX)
        return NULL;
    do {
        counter++;
        r = &rs->items[counter % PEAL_REQUESTS_MAX];
    } while (r->id != 0);
    shm_store_u64(&h->slot->next_ack, counter);
    *r = (struct request){ .id = counter * PEAL_SLOTS + h->region.self, .kind = (uint8_t)kind };
    rs->n++;
    return r;
}

void request_close(struct requests *rs, struct request *r)
{
    while (r->first != NULL) {
        struct answer *a = r->first;

        r->first = a->next;
        free(a);
    }
    free(r->list);
    free(r->silent);
    assert(rs->n_bytes >= r->n_bytes);
    rs->n_bytes -= r->n_bytes;
    rs->n--;
    *r = (struct request){ 0 };
}

struct request *request_find(struct requests *rs, uint64_t id)
{
    struct request *r = &rs->items[id / PEAL_SLOTS % PEAL_REQUESTS_MAX];

    return id != 0 && r->id == id ? r : NULL;
}

/* Room for so many bytes more, within the bounds. */
static bool charge(struct requests *rs, struct request *r, uint64_t n_bytes)
{
    if (r->truncated || r->n_bytes + n_bytes > PEAL_REQUEST_BYTES_MAX ||
        rs->n_bytes + n_bytes > PEAL_REQUEST_BYTES_TOTAL) {
        r->truncated = true;
        return false;
    }
    r->n_bytes += (uint32_t)n_bytes;
    rs->n_bytes += n_bytes;
    return true;
}

static void add_answer(struct requests *rs, struct request *r, const struct record_view *view)
{
    uint32_t n_attachments = view->header->n_parts - 1u;
    uint64_t n_bytes = sizeof(struct answer);
    struct answer *a;
    char *to;
    uint8_t opcode;

    r->n_answers++;
    if (n_attachments > SIO_ATTACHMENTS_MAX)
        return;
    for (uint32_t i = 0; i <= n_attachments; i++)
        n_bytes += record_part(view, i, &opcode).n_bytes;
    a = charge(rs, r, n_bytes) ? malloc(n_bytes) : NULL;
    if (a == NULL) {
        r->truncated = true;
        return;
    }
    a->next = NULL;
    a->n_attachments = n_attachments;
    a->n_json = record_part(view, 0, &opcode).n_bytes;
    to = a->bytes;
    for (uint32_t i = 0; i <= n_attachments; i++) {
        struct slice part = record_part(view, i, &opcode);

        if (part.n_bytes > 0)
            memcpy(to, part.bytes, part.n_bytes);
        if (i > 0)
            a->attachments[i - 1] = (struct peal_text){ to, part.n_bytes };
        to += part.n_bytes;
    }
    if (r->last != NULL)
        r->last->next = a;
    else
        r->first = a;
    r->last = a;
}

static void add_list(struct requests *rs, struct request *r, struct slice more)
{
    char *list;

    if (more.n_bytes == 0)
        return;
    list = charge(rs, r, more.n_bytes + 1ull)
               ? realloc(r->list, (size_t)r->n_list + more.n_bytes + 3)
               : NULL;
    if (list == NULL) {
        r->truncated = true;
        return;
    }
    r->list = list;
    if (r->n_list == 0)
        r->list[r->n_list++] = '[';
    else if (more.bytes[0] != ',')
        r->list[r->n_list++] = ',';
    memcpy(r->list + r->n_list, more.bytes, more.n_bytes);
    r->n_list += more.n_bytes;
}

bool request_complete(const struct request *r)
{
    return r->waiting == 0 && (r->kind != REQUEST_ACKS || r->n_answers >= r->n_expected);
}

/* The bridge has told how the other servers did. */
static void take_end(struct request *r, const struct record_header *header, struct slice told)
{
    struct json_iter it = json_iter_open(told);
    struct slice asked, answered;

    r->waiting &= ~(1ull << PEAL_SLOT_BRIDGE);
    r->unreachable = r->unreachable || (header->flags & RECORD_LOST) != 0;
    if (!json_iter_next(&it, NULL, &asked, NULL) || !json_iter_next(&it, NULL, &answered, NULL))
        return;
    r->n_servers = (uint32_t)json_number(asked);
    if (json_number(asked) > json_number(answered)) /* more than were asked: who came meanwhile */
        r->n_silent = r->n_servers - (uint32_t)json_number(answered);
    r->n_silent_bytes = (uint32_t)(it.end - it.at);
    r->silent = malloc(r->n_silent_bytes + 1u);
    if (r->silent == NULL)
        r->n_silent_bytes = 0; /* then without names */
    else
        memcpy(r->silent, it.at, r->n_silent_bytes);
}

struct request *requests_take(struct requests *rs, const struct record_view *view)
{
    const struct record_header *header = view->header;
    struct request *r = request_find(rs, header->id);
    struct slice payload;
    uint8_t opcode;

    if (r == NULL)
        return NULL; /* too late */
    if (header->kind == RECORD_ACK) {
        if (r->kind != REQUEST_ACKS)
            return NULL;
        if (header->n_parts > 0) {
            add_answer(rs, r, view);
        } else { /* it did not fit into the ring */
            r->n_answers++;
            r->truncated = true;
        }
        return request_complete(r) ? r : NULL;
    }
    if (header->slot >= PEAL_SLOTS || (r->waiting >> header->slot & 1) == 0)
        return NULL; /* nobody asked it */
    payload = header->n_parts == 0 ? slice_text("") : record_part(view, 0, &opcode);
    if (header->slot == PEAL_SLOT_BRIDGE && (header->flags & RECORD_LAST) != 0) {
        take_end(r, header, payload);
        return request_complete(r) ? r : NULL;
    }
    switch ((enum request_kind)r->kind) {
    case REQUEST_ACKS: r->n_expected += (uint32_t)json_number(payload); break;
    case REQUEST_LIST: add_list(rs, r, payload); break;
    case REQUEST_COUNT: r->count += (uint64_t)json_number(payload); break;
    case REQUEST_WORKERS:
        if (header->n_parts > 0)
            add_answer(rs, r, view);
        else if (r->n_expected > 0)
            r->n_expected--; /* nobody listens there */
        break;
    case REQUEST_CLUSTER: break; /* cluster.c */
    }
    r->truncated = r->truncated || (header->flags & RECORD_TRUNCATED) != 0;
    if ((header->flags & RECORD_LAST) != 0)
        r->waiting &= ~(1ull << header->slot);
    return request_complete(r) ? r : NULL;
}

struct request *requests_gone(struct requests *rs, uint32_t slot, uint32_t *at)
{
    if (slot >= PEAL_SLOTS || rs->n == 0)
        return NULL;
    while (*at < PEAL_REQUESTS_MAX) {
        struct request *r = &rs->items[(*at)++];

        if (r->id == 0 || (r->waiting >> slot & 1) == 0)
            continue;
        r->waiting &= ~(1ull << slot);
        if (slot == PEAL_SLOT_BRIDGE)
            r->unreachable = true;
        else
            r->lost = true;
        if (request_complete(r))
            return r;
    }
    return NULL;
}

static enum peal_result result_of(const struct request *r, bool timed_out)
{
    if (timed_out || r->n_silent > 0)
        return r->unreachable ? PEAL_UNREACHABLE : PEAL_TIMEOUT;
    if (r->lost || (r->single && r->n_answers == 0))
        return PEAL_GONE;
    if (r->unreachable)
        return PEAL_UNREACHABLE;
    return r->truncated ? PEAL_TOO_BIG : PEAL_OK;
}

static int by_text(const void *a, const void *b)
{
    const struct slice *x = a;
    const struct slice *y = b;
    uint32_t n = x->n_bytes < y->n_bytes ? x->n_bytes : y->n_bytes;
    int order = memcmp(x->bytes, y->bytes, n);

    return order != 0 ? order : (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

/* Leaves each entry of the list once. Out of memory it stays as it is. */
static void make_unique(struct request *r)
{
    struct json_iter it = { r->list + 1, r->list + r->n_list };
    struct slice entry;
    struct slice *entries;
    uint32_t n = 0;
    char *list;

    while (json_iter_next(&it, NULL, NULL, NULL))
        n++;
    entries = malloc((n + 1u) * sizeof *entries);
    list = malloc((size_t)r->n_list + 3);
    if (entries == NULL || list == NULL) {
        free(entries);
        free(list);
        return;
    }
    it = (struct json_iter){ r->list + 1, r->list + r->n_list };
    for (n = 0; json_iter_next(&it, NULL, &entry, NULL);)
        entries[n++] = entry;
    qsort(entries, n, sizeof *entries, by_text);
    list[0] = '[';
    r->n_list = 1;
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0 && slice_equal(entries[i], entries[i - 1]))
            continue;
        if (r->n_list > 1)
            list[r->n_list++] = ',';
        memcpy(list + r->n_list, entries[i].bytes, entries[i].n_bytes);
        r->n_list += entries[i].n_bytes;
    }
    free(entries);
    free(r->list);
    r->list = list;
}

/* Names in the text that the bridge told; they hold nothing that would be escaped. */
static void take_silent(const struct request *r, struct peal_text *names, struct peal_answers *out)
{
    struct json_iter it = { r->silent, r->silent + r->n_silent_bytes };
    struct slice name;

    out->n_servers = r->n_servers;
    out->n_silent = r->n_silent;
    out->silent = names;
    while (out->n_silent_names < SILENT_NAMES_MAX && r->silent != NULL &&
           json_iter_next(&it, NULL, &name, NULL))
        names[out->n_silent_names++] = (struct peal_text){ name.bytes + 1, name.n_bytes - 2 };
}

bool request_answers(struct request *r, bool timed_out, struct peal_answers *out)
{
    bool is_list = r->kind == REQUEST_LIST || r->kind == REQUEST_COUNT;
    size_t n = is_list ? 1 : 0;
    struct peal_message *messages;
    struct peal_text *names;

    for (const struct answer *a = r->first; a != NULL; a = a->next)
        n++; /* fewer than have come, if there was no room for them */
    messages = calloc(1, n * sizeof *messages + SILENT_NAMES_MAX * sizeof *names + NUMBER_BYTES);
    *out = (struct peal_answers){ .result = result_of(r, timed_out), .n_expected = r->n_expected };
    if (messages == NULL) {
        out->result = PEAL_TOO_BIG;
        return false;
    }
    names = (struct peal_text *)(messages + n);
    out->messages = messages;
    take_silent(r, names, out);
    if (r->kind == REQUEST_COUNT) {
        char *number = (char *)(names + SILENT_NAMES_MAX);

        snprintf(number, NUMBER_BYTES, "[%llu]", (unsigned long long)r->count);
        messages[out->n_messages++].json = peal_text(number);
    } else if (r->kind == REQUEST_LIST && r->n_list == 0) {
        messages[out->n_messages++].json = peal_text("[]");
    } else if (r->kind == REQUEST_LIST) {
        if (r->unique)
            make_unique(r);
        r->list[r->n_list] = ']';
        messages[out->n_messages++].json = (struct peal_text){ r->list, r->n_list + 1 };
    }
    for (const struct answer *a = r->first; a != NULL; a = a->next)
        messages[out->n_messages++] = (struct peal_message){
            .json = { a->bytes, a->n_json },
            .attachments = a->attachments,
            .n_attachments = a->n_attachments,
        };
    return true;
}

void request_answers_free(struct peal_answers *out)
{
    free((void *)(uintptr_t)out->messages);
    out->messages = NULL;
}
