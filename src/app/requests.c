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

#define NUMBER_BYTES 32 /* [count] */

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

struct request *requests_take(struct requests *rs, const struct record_view *view)
{
    const struct record_header *header = view->header;
    struct request *r = request_find(rs, header->id);
    struct slice payload;
    uint8_t opcode;

    if (r == NULL)
        return NULL; /* too late */
    if (header->kind == RECORD_ACK) {
        if (r->kind != REQUEST_ACKS || header->n_parts == 0)
            return NULL;
        add_answer(rs, r, view);
        return request_complete(r) ? r : NULL;
    }
    if (header->slot >= PEAL_SLOTS || (r->waiting >> header->slot & 1) == 0)
        return NULL; /* nobody asked it */
    payload = header->n_parts == 0 ? slice_text("") : record_part(view, 0, &opcode);
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
    case REQUEST_CLUSTER: break; /* all but its end, which is behind the switch, is cluster.c's */
    }
    r->truncated = r->truncated || (header->flags & RECORD_TRUNCATED) != 0;
    if ((header->flags & RECORD_LAST) != 0)
        r->waiting &= ~(1ull << header->slot);
    return request_complete(r) ? r : NULL;
}

struct request *requests_gone(struct requests *rs, uint32_t slot)
{
    if (slot >= PEAL_SLOTS || rs->n == 0)
        return NULL;
    for (uint32_t i = 0; i < PEAL_REQUESTS_MAX; i++) {
        struct request *r = &rs->items[i];

        if (r->id == 0 || (r->waiting >> slot & 1) == 0)
            continue;
        r->waiting &= ~(1ull << slot);
        r->lost = true;
        if (request_complete(r))
            return r;
    }
    return NULL;
}

static enum peal_result result_of(const struct request *r, bool timed_out)
{
    if (timed_out)
        return PEAL_TIMEOUT;
    if (r->lost || (r->single && r->n_answers == 0))
        return PEAL_GONE;
    return r->truncated ? PEAL_TOO_BIG : PEAL_OK;
}

bool request_answers(const struct request *r, bool timed_out, struct peal_answers *out)
{
    bool is_list = r->kind == REQUEST_LIST || r->kind == REQUEST_COUNT;
    size_t n = is_list ? 1 : r->n_answers;
    struct peal_message *messages = calloc(1, n * sizeof *messages + NUMBER_BYTES);

    *out = (struct peal_answers){ .result = result_of(r, timed_out), .n_expected = r->n_expected };
    if (messages == NULL) {
        out->result = PEAL_TOO_BIG;
        return false;
    }
    out->messages = messages;
    if (r->kind == REQUEST_COUNT) {
        char *number = (char *)(messages + n);

        snprintf(number, NUMBER_BYTES, "[%llu]", (unsigned long long)r->count);
        messages[out->n_messages++].json = peal_text(number);
    } else if (r->kind == REQUEST_LIST && r->n_list == 0) {
        messages[out->n_messages++].json = peal_text("[]");
    } else if (r->kind == REQUEST_LIST) {
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
