/* fuzz_socketio.c: any bytes as a Socket.IO packet. What decodes must be written back to a packet
 * that decodes to the same. */
#include "proto/json.h"
#include "proto/socketio.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FUZZ_CHECK(condition) \
    ((condition) ? (void)0    \
                 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), abort()))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static bool within(struct slice part, struct slice text)
{
    return part.bytes >= text.bytes && part.bytes + part.n_bytes <= text.bytes + text.n_bytes;
}

static void check_shape(const struct sio_packet *packet, struct slice text)
{
    bool binary = packet->type == SIO_BINARY_EVENT || packet->type == SIO_BINARY_ACK;
    enum json_kind kind = JSON_NULL;

    FUZZ_CHECK(packet->type <= SIO_BINARY_ACK);
    FUZZ_CHECK(binary == (packet->n_attachments > 0));
    FUZZ_CHECK(packet->n_attachments <= SIO_ATTACHMENTS_MAX);
    FUZZ_CHECK(packet->nsp.n_bytes > 0 && packet->nsp.bytes[0] == '/');
    FUZZ_CHECK(slice_is(packet->nsp, "/") || within(packet->nsp, text));
    FUZZ_CHECK(!packet->has_id || !(packet->id < 0));
    if (packet->payload.bytes == NULL)
        return;
    FUZZ_CHECK(packet->type != SIO_DISCONNECT);
    FUZZ_CHECK(within(packet->payload, text));
    FUZZ_CHECK(json_valid(packet->payload, &kind));
    if (packet->type == SIO_CONNECT)
        FUZZ_CHECK(kind == JSON_OBJECT);
    else if (packet->type != SIO_CONNECT_ERROR)
        FUZZ_CHECK(kind == JSON_ARRAY);
}

/* An id that is no finite number below 1e21 has no form that reads back, as in JavaScript. */
static void check_rewritten(const struct sio_packet *packet)
{
    char *out = malloc((size_t)SIO_HEADER_MAX + packet->nsp.n_bytes + packet->payload.n_bytes);
    struct sio_packet again;
    uint32_t n_bytes;

    FUZZ_CHECK(out != NULL);
    n_bytes = sio_put_header(out, packet->type, packet->n_attachments, packet->nsp,
                             packet->has_id ? packet->id : -1);
    FUZZ_CHECK(n_bytes <= SIO_HEADER_MAX + packet->nsp.n_bytes);
    if (!packet->has_id || packet->id < 1e21) {
        if (packet->payload.n_bytes > 0)
            memcpy(out + n_bytes, packet->payload.bytes, packet->payload.n_bytes);
        n_bytes += packet->payload.n_bytes;
        FUZZ_CHECK(sio_decode(slice_of(out + 1, n_bytes - 1), &again));
        FUZZ_CHECK(again.type == packet->type && again.n_attachments == packet->n_attachments);
        FUZZ_CHECK(slice_equal(again.nsp, packet->nsp));
        FUZZ_CHECK(again.has_id == packet->has_id && (!again.has_id || again.id == packet->id));
        FUZZ_CHECK(slice_equal(again.payload, packet->payload));
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct slice text = slice_of(data, (uint32_t)n_bytes);
    struct sio_packet packet;

    if (n_bytes > 65536 || !sio_decode(text, &packet))
        return 0;
    check_shape(&packet, text);
    check_rewritten(&packet);
    if (sio_placeholders_valid(packet.payload,
                               packet.n_attachments)) /* then with one more it is as well */
        FUZZ_CHECK(sio_placeholders_valid(packet.payload, packet.n_attachments + 1));
    return 0;
}
