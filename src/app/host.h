/* host.h: the inner side of include/peal/app.h: what a worker gives its applications. */
#ifndef PEAL_APP_HOST_H
#define PEAL_APP_HOST_H

#include "peal/app.h"
#include "session/clients.h"

struct peal_host {
    struct hub *hub;
};

peal_socket host_socket(struct hub *h, const struct sock *k);
struct sock *host_sock(const struct peal_host *host, peal_socket socket); /* NULL: gone */
peal_ack host_ack(bool has_id, double id);

#endif
