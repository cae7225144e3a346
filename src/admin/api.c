/* api.c: the table of endpoints, and what each does.
 *
 * Access is decided from the head alone, before a byte of a body is read and before it is said
 * whether there is such an endpoint. */
#include "admin/state.h"

#include <assert.h>
#include <errno.h>

#include "base/log.h"
#include "proto/http_host.h"
#include "proto/json.h"

/* Made by the Makefile from the files of these names. */
extern const unsigned char asset_dashboard_html[], asset_dashboard_css[], asset_dashboard_js[];
extern const unsigned long asset_dashboard_html_size, asset_dashboard_css_size,
    asset_dashboard_js_size;

enum endpoint {
    ENDPOINT_NONE = 0,
    ENDPOINT_METRICS,
    ENDPOINT_LIVEZ,
    ENDPOINT_READYZ,
    ENDPOINT_DASHBOARD,
    ENDPOINT_DASHBOARD_CSS,
    ENDPOINT_DASHBOARD_JS,
    ENDPOINT_WORKERS,
    ENDPOINT_EMIT,
    ENDPOINT_WS,
    ENDPOINT_DISCONNECT,
    ENDPOINT_DRAIN,
    ENDPOINT_LATER /* documented, not in this build */
};

static const struct route {
    const char *path;
    bool prefix; /* the rest of the path is an argument */
    bool post;   /* else GET and HEAD */
    enum access_area area;
    enum access_type type;
    enum endpoint endpoint;
} routes[] = {
    { "/metrics", false, false, AREA_HEALTH, TYPE_ANY, ENDPOINT_METRICS },
    { "/livez", false, false, AREA_HEALTH, TYPE_ANY, ENDPOINT_LIVEZ },
    { "/readyz", false, false, AREA_HEALTH, TYPE_ANY, ENDPOINT_READYZ },
    { "/", false, false, AREA_PAGE, TYPE_ANY, ENDPOINT_DASHBOARD },
    { "/dashboard.css", false, false, AREA_PAGE, TYPE_ANY, ENDPOINT_DASHBOARD_CSS },
    { "/dashboard.js", false, false, AREA_PAGE, TYPE_ANY, ENDPOINT_DASHBOARD_JS },
    { "/api/workers", false, false, AREA_API, TYPE_ANY, ENDPOINT_WORKERS },
    { "/api/rooms", false, false, AREA_API, TYPE_ANY, ENDPOINT_LATER },
    { "/api/sockets", false, false, AREA_API, TYPE_ANY, ENDPOINT_LATER },
    { "/api/emit", false, true, AREA_API, TYPE_JSON, ENDPOINT_EMIT },
    { "/api/disconnect", false, true, AREA_API, TYPE_JSON, ENDPOINT_DISCONNECT },
    { "/api/drain", false, true, AREA_API, TYPE_JSON, ENDPOINT_DRAIN },
    { "/api/limits", false, true, AREA_API, TYPE_JSON, ENDPOINT_LATER },
    { "/api/ws/", true, true, AREA_API, TYPE_PREFLIGHT, ENDPOINT_WS },
};

static const struct route *route_find(struct slice path)
{
    for (uint32_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        struct slice wanted = slice_text(routes[i].path);

        if (slice_equal(path, wanted) || (routes[i].prefix && path.n_bytes > wanted.n_bytes &&
                                          memcmp(path.bytes, wanted.bytes, wanted.n_bytes) == 0))
            return &routes[i];
    }
    return NULL;
}

/* Also what is no endpoint belongs to an area: nobody is told what is there before access is
 * decided. */
static enum access_area area_of(const struct route *route, struct slice path)
{
    static const char prefix[] = "/api/";

    if (route != NULL)
        return route->area;
    return path.n_bytes >= sizeof prefix - 1 && memcmp(path.bytes, prefix, sizeof prefix - 1) == 0
               ? AREA_API
               : AREA_PAGE;
}

static void answer_json(struct answer *out, uint16_t status)
{
    out->status = status;
    out->type = "application/json";
}

void api_error(struct answer *out, uint16_t status, const char *why)
{
    answer_json(out, status);
    page_printf(&out->body, "{\"ok\":false,\"error\":");
    page_put_json(&out->body, slice_text(why));
    page_printf(&out->body, "}\n");
}

static void answer_ok(struct answer *out)
{
    answer_json(out, 200);
    page_printf(&out->body, "{\"ok\":true}\n");
}

bool api_admit(struct admin *a, const struct peer_address *peer, const struct http_request *request,
               struct answer *out)
{
    const struct route *route = route_find(request->path);
    const bool is_get = request->method == HTTP_GET_ || request->method == HTTP_HEAD_;
    const bool fits = route != NULL && (route->post ? request->method == HTTP_POST_ : is_get);
    const enum access outcome = access_decide(&a->rules, area_of(route, request->path),
                                              fits ? route->type : TYPE_ANY, peer, request);

    if (outcome != ACCESS_GRANTED) {
        api_error(out, access_status(outcome), access_text(outcome));
        out->ask_token = outcome == ACCESS_TOKEN;
        return false;
    }
    if (route == NULL) {
        api_error(out, 404, "there is no such endpoint");
        return false;
    }
    if (!fits) {
        out->allow = route->post ? "POST" : "GET, HEAD";
        api_error(out, 405, route->post ? "this endpoint takes POST" : "this endpoint takes GET");
        return false;
    }
    return true;
}

/* --- the endpoints --- */

static void answer_asset(struct answer *out, const char *type, const unsigned char *bytes,
                         unsigned long n_bytes)
{
    out->status = 200;
    out->type = type;
    out->fixed = slice_of(bytes, (uint32_t)n_bytes);
}

static void answer_appended(struct answer *out, enum append_result result)
{
    switch (result) {
    case APPEND_OK: answer_ok(out); break;
    case APPEND_TOO_BIG:
        api_error(out, 413, "larger than event_bytes_max or a quarter of ring_bytes");
        break;
    case APPEND_NO_MEMORY: api_error(out, 503, "out of memory"); break;
    case APPEND_NO_NAMESPACE: api_error(out, 404, "there is no such namespace"); break;
    case APPEND_NOT_A_MESSAGE:
        api_error(out, 400, "/ws takes the event \"message\" with exactly one argument");
        break;
    case APPEND_FULL: assert(false); break; /* the caller waits */
    }
}

static enum api_result finish(struct answer *out, enum append_result result)
{
    if (result == APPEND_FULL)
        return API_WAITS;
    answer_appended(out, result);
    return API_DONE;
}

static enum api_result do_emit(struct admin *a, struct slice body, struct answer *out)
{
    if (command_parse_emit(&a->command, body))
        return finish(out, append_emit(a, &a->command));
    api_error(out, 400, a->command.why);
    return API_DONE;
}

static enum api_result do_disconnect(struct admin *a, struct slice body, struct answer *out)
{
    if (command_parse_disconnect(&a->command, body))
        return finish(out, append_disconnect(a, &a->command));
    api_error(out, 400, a->command.why);
    return API_DONE;
}

/* Text or binary follows from the type: JSON, anything of text/ and anything that says charset=utf-8
 * is text. */
static enum api_result do_ws(struct admin *a, const struct http_request *request, struct slice body,
                             struct answer *out)
{
    const struct slice room = slice_of(request->path.bytes + sizeof "/api/ws/" - 1,
                                       request->path.n_bytes - (uint32_t)sizeof "/api/ws/" + 1);
    bool utf8;
    const struct slice type = access_type_essence(http_header_find(request, "content-type"), &utf8);
    const bool json = http_same_text(type, slice_text("application/json"));
    const bool text =
        json || utf8 ||
        (type.n_bytes > 5 && http_same_text(slice_of(type.bytes, 5), slice_text("text/")));
    enum json_kind kind;

    if (!command_parse_room(&a->command, room)) {
        api_error(out, 400, a->command.why);
        return API_DONE;
    }
    if (json ? !json_valid(body, &kind) : text && !command_is_utf8(body)) {
        api_error(out, 400, json ? "the body is no JSON" : "the body is not UTF-8");
        return API_DONE;
    }
    return finish(out, append_frame(a, &a->command, body, !text));
}

static void do_drain(struct admin *a, struct slice body, struct answer *out)
{
    const struct parcel parcel = { .version = PARCEL_VERSION,
                                   .kind = PARCEL_COMMAND,
                                   .command = COMMAND_DRAIN,
                                   .from_slot = PEAL_SLOT_ADMIN };
    const int none = -1;
    int error;

    if (!command_parse_nothing(&a->command, body)) {
        api_error(out, 400, a->command.why);
        return;
    }
    error = inbox_send(a->child->inboxes[PEAL_SLOT_MASTER], &parcel, &none, 1);
    if (error == 0) {
        log_info("drain_asked", NULL);
        answer_ok(out);
        return;
    }
    log_error("drain_not_passed_on", "error=%s", strerror(-error));
    api_error(out, 503, "the master does not take commands at the moment");
    out->retry = error == -EAGAIN;
}

static void do_readyz(struct admin *a, struct answer *out)
{
    out->type = "text/plain; charset=utf-8";
    out->status = status_ready(a, &out->body) ? 200 : 503;
}

enum api_result api_answer(struct admin *a, const struct http_request *request, struct slice body,
                           struct answer *out)
{
    const struct route *route = route_find(request->path);

    assert(route != NULL); /* admitted */
    out->status = 200;
    switch (route->endpoint) {
    case ENDPOINT_METRICS:
        out->type = "text/plain; version=0.0.4; charset=utf-8";
        metrics_write(&a->metrics, &a->ring, a->now_us, &out->body);
        break;
    case ENDPOINT_LIVEZ:
        out->type = "text/plain; charset=utf-8";
        page_printf(&out->body, "ok\n");
        break;
    case ENDPOINT_READYZ: do_readyz(a, out); break;
    case ENDPOINT_DASHBOARD:
        answer_asset(out, "text/html; charset=utf-8", asset_dashboard_html,
                     asset_dashboard_html_size);
        break;
    case ENDPOINT_DASHBOARD_CSS:
        answer_asset(out, "text/css; charset=utf-8", asset_dashboard_css, asset_dashboard_css_size);
        break;
    case ENDPOINT_DASHBOARD_JS:
        answer_asset(out, "text/javascript; charset=utf-8", asset_dashboard_js,
                     asset_dashboard_js_size);
        break;
    case ENDPOINT_WORKERS:
        answer_json(out, 200);
        status_workers(a, &out->body);
        break;
    case ENDPOINT_EMIT: return do_emit(a, body, out);
    case ENDPOINT_DISCONNECT: return do_disconnect(a, body, out);
    case ENDPOINT_WS: return do_ws(a, request, body, out);
    case ENDPOINT_DRAIN: do_drain(a, body, out); break;
    case ENDPOINT_LATER: api_error(out, 501, "not in this build"); break;
    case ENDPOINT_NONE: api_error(out, 404, "there is no such endpoint"); break;
    }
    return API_DONE;
}
