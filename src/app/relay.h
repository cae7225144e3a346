/* relay.h: the built-in application `relay`: clients join rooms and publish to them, as far as the namespace's section lets them. */
#ifndef PEAL_APP_RELAY_H
#define PEAL_APP_RELAY_H

#include "peal/app.h"

extern const struct peal_app relay_app;
extern const struct peal_app demo_app; /* relay, and the counters once a second: the page at `/` */

#endif
