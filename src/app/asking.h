/* asking.h: what the files behind app.h that ask (this host's workers, the cluster) have in common. */
#ifndef PEAL_APP_ASKING_H
#define PEAL_APP_ASKING_H

#include "app/messages.h"

/* A request of the application whose function runs. NULL: too many. `fn` may be NULL where the answers go elsewhere. */
struct request *asking_open(struct peal_host *host, enum request_kind kind, peal_answers_fn fn,
                            void *context);
/* It has been appended, and gets its timer; or it has not, and is closed. Returns `result`. */
enum peal_result asking_opened(struct peal_host *host, struct request *r, enum peal_result result,
                               uint32_t timeout_ms);
bool asking_timeout(uint32_t timeout_ms); /* is it one? */

/* cluster.c: a record of the bridge for a REQUEST_CLUSTER; its end otherwise. */
void cluster_take(struct peal_host *host, struct request *r, const struct record_view *view);
void cluster_finish(struct peal_host *host, struct request *r, enum peal_result result);

#endif
