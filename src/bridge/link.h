/* link.h: one connection to Redis: looks the host up, connects, authenticates, selects, keeps itself alive, and comes back with back-off. RESP2; the reader is
 * hiredis', the socket is ours, TLS is tls.c. Nothing here blocks.
 *
 * Commands (link_command) are of one connection: they are forgotten with it. Messages (link_message) wait while there is none, as long and as many as
 * the link was told (link_keep): each is written at most once, whole or not at all, in the order in which it came. */
#ifndef PEAL_BRIDGE_LINK_H
#define PEAL_BRIDGE_LINK_H

#include "base/config.h"
#include "base/log.h"
#include "bridge/outbuf.h"
#include "bridge/resolve.h"
#include "peal/limits.h"

struct link_reader;
struct redisReply;
struct tls;
struct tls_context;

enum link_state {
    LINK_DOWN = 0,   /* until it is time to try again */
    LINK_RESOLVING,  /* the name is looked up; fd is the look-up's */
    LINK_CONNECTING, /* to one of the addresses */
    LINK_SECURING,   /* TLS' handshake */
    LINK_GREETING,   /* AUTH, SELECT, PING are under way */
    LINK_UP
};

/* Why a message was not published, or a reply not taken. */
enum link_drop {
    LINK_DROP_FULL = 0, /* older than what filled the buffer */
    LINK_DROP_OLD,      /* waited for too long */
    LINK_DROP_CUT,      /* written, not answered when the connection ended: Redis has it or not */
    LINK_DROP_REFUSED,  /* Redis answered with an error */
    LINK_DROP_TOO_BIG,  /* a reply over LINK_REPLY_MAX, or a message that no memory is for */
    LINK_DROPS
};

/* One write, or more than one command at once, that is not answered yet. */
struct link_flight {
    uint64_t since_ms; /* written completely; 0: being written */
    uint32_t n_bytes;
    uint32_t n;        /* answers that are to come */
    bool are_messages; /* else commands */
};

struct link {
    const struct config_redis *redis;
    const char *name;             /* for the log */
    int fd;                       /* to be polled; -1: none */
    uint8_t state;                /* enum link_state */
    bool held;                    /* the owner's: messages wait, though the link is up */
    bool keeps;                   /* has messages; each thing written is answered once, in order */
    uint64_t n_published;         /* messages that Redis has taken; the owner may set it back */
    uint64_t dropped[LINK_DROPS]; /* likewise */
    struct tls_context *_tls_context;
    struct tls *_tls;
    struct link_reader *_reader;
    struct outbuf _commands, _messages;
    struct outbuf_chunk *_stage; /* is being written */
    struct link_flight _flight[LINK_FLIGHT_MAX];
    uint32_t _flight_at, _n_flight;
    uint32_t _flight_bytes; /* of messages */
    struct resolve *_resolve;
    struct resolve_address _addresses[RESOLVE_ADDRESSES_MAX];
    uint32_t _n_addresses, _n_tried;
    uint32_t _address;   /* which is tried first: another one after each failure */
    uint32_t _greetings; /* answers to AUTH, SELECT and PING that are to come */
    uint32_t _n_failures;
    uint64_t _since_ms; /* when the present state began */
    uint64_t _retry_at_ms;
    uint64_t _pinged_at_ms; /* 0: no ping is out */
    uint64_t _heard_at_ms;
    uint64_t _wrote_at_ms;
    char _told[64]; /* the reason that was logged last */
    struct log_rate _rate, _error_rate;
};

/* Called for each reply of an established connection. The reply is freed by the caller. False: stop for now, keep the rest. */
typedef bool (*link_on_reply)(void *context, struct redisReply *reply);

/* `tls`: needed if redis->tls, and not owned; NULL there: it does not come up. */
void link_init(struct link *l, const struct config_redis *redis, struct tls_context *tls,
               const char *name);
/* The link takes messages. One that is larger than bytes_max is kept alone. */
void link_keep(struct link *l, uint64_t bytes_max, uint32_t age_max_ms);
void link_close(struct link *l);

/* Which poll(2) events it waits for; `fd` may be -1. */
short link_events(const struct link *l);

/* Once per turn, after link_on_events: connects when it is time, pings when it is silent, gives up what does not answer. */
void link_tick(struct link *l, uint64_t now_ms);

/* After poll: reads, hands out replies, writes. True: it came up just now. `read` = false: only writes (its replies must wait). */
bool link_on_events(struct link *l, short events, bool read, uint64_t now_ms,
                    link_on_reply on_reply, void *context);

/* Hands out replies that have been read already. True: all of them, and the connection stands. */
bool link_replies(struct link *l, uint64_t now_ms, link_on_reply on_reply, void *context);

/* Queues a command, ahead of messages. False: not up, or LINK_COMMANDS_MAX reached; nothing was queued. */
MUST_USE bool link_command(struct link *l, uint32_t n, const struct slice *words);

/* Queues a message, whether or not it is up. Older ones may be dropped for it. False: it was itself. Counted in `dropped`. */
bool link_message(struct link *l, uint64_t now_ms, uint32_t n, const struct slice *words);
void link_flush(struct link *l, uint64_t now_ms);

/* Since when something written is not answered; UINT64_MAX: nothing is. Only of a link that keeps messages. */
uint64_t link_waits_since(const struct link *l);
/* Nothing waits and nothing is in flight. */
bool link_is_idle(const struct link *l);

/* Ends the connection, for a reason that only the owner can see; it is made anew. */
void link_fail(struct link *l, uint64_t now_ms, const char *why);

/* How long a sleep may last. */
uint32_t link_wait_ms(const struct link *l, uint64_t now_ms);

#endif
