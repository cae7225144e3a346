/* messages.h: sending, for the files behind app.h. */
#ifndef PEAL_APP_MESSAGES_H
#define PEAL_APP_MESSAGES_H

#include "app/host.h"
#include "session/emit.h"

/* A selector as the session layer takes it; borrowed from the application's. */
struct names {
    struct slice rooms[PEAL_ROOMS_MAX];
    struct slice except[PEAL_ROOMS_MAX];
};
MUST_USE bool message_selector(const struct peal_selector *to, struct names *names);

/* peal_emit and peal_send; `with` (may be NULL): flags, and who acknowledges. */
enum peal_result message_emit(struct peal_host *host, struct peal_text nsp,
                              const struct peal_selector *to, const struct peal_message *message,
                              const struct emit *with);
enum peal_result message_send(struct peal_host *host, peal_socket socket,
                              const struct peal_message *message, const struct emit *with);

/* One record of another kind. */
enum peal_result message_append(struct peal_host *host, struct record_spec *spec);

/* Answers who asked with `t`, a worker or the cluster, with the parts of `spec`; none: there is no answer from here. */
void message_reply(struct peal_host *host, const struct ticket *t, struct record_spec *spec);

/* A record for this worker: a part of an answer to one of its requests (RECORD_ACK, RECORD_REPLY); the end of the worker in `slot`. */
void host_take_answer(struct peal_host *host, const struct record_view *view);
void host_worker_gone(struct peal_host *host, uint32_t slot);

#endif
