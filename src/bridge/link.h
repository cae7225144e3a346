/* link.h: one connection to Redis: connects, authenticates, selects, keeps itself alive, and comes back with back-off. RESP2; the reader and the command
 * formatter are hiredis', the socket is ours. Nothing here blocks but the look-up of a host's name. */
#ifndef PEAL_BRIDGE_LINK_H
#define PEAL_BRIDGE_LINK_H

#include "base/config.h"

struct redisReply;

enum link_state { LINK_DOWN = 0, LINK_CONNECTING, LINK_GREETING, LINK_UP };

struct link {
    const struct config_redis *redis;
    const char *name; /* for the log */
    int fd;           /* -1: none */
    uint8_t state;    /* enum link_state */
    void *_reader;
    char *_out; /* bytes to be written */
    uint32_t _n_out, _out_at, _out_max;
    uint32_t _greetings; /* answers to AUTH and SELECT that are to come */
    uint32_t _n_failures;
    uint64_t _retry_at_ms;
    uint64_t _pinged_at_ms; /* 0: no ping is out */
    uint64_t _heard_at_ms;
};

#define LINK_OUT_MAX   (64u << 20)  /* bytes that wait to be written */
#define LINK_REPLY_MAX (256u << 20) /* bytes of one reply; beyond it the connection is made anew */

/* Called for each reply of an established connection. The reply is freed by the caller. False: stop for now, keep the rest. */
typedef bool (*link_on_reply)(void *context, struct redisReply *reply);

void link_init(struct link *l, const struct config_redis *redis, const char *name);
void link_close(struct link *l);

/* Which poll(2) events it waits for; `fd` may be -1. */
short link_events(const struct link *l);

/* Once per turn: connects when it is time, pings when it is silent. */
void link_tick(struct link *l, uint64_t now_ms);

/* After poll: reads, hands out replies, writes. True: it came up just now. `read` = false: only writes (its replies must wait). */
bool link_on_events(struct link *l, short events, bool read, uint64_t now_ms,
                    link_on_reply on_reply, void *context);

/* Hands out replies that have been read already. True: all of them, and the connection stands. */
bool link_replies(struct link *l, uint64_t now_ms, link_on_reply on_reply, void *context);

/* Queues a command. False: not up, or LINK_OUT_MAX reached; nothing was queued. */
MUST_USE bool link_command(struct link *l, uint32_t n, const struct slice *words);
void link_flush(struct link *l, uint64_t now_ms);

/* How long a sleep may last. */
uint32_t link_wait_ms(const struct link *l, uint64_t now_ms);

#endif
