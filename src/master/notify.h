/* notify.h: what the service manager is told (sd_notify(3), without its library). */
#ifndef PEAL_MASTER_NOTIFY_H
#define PEAL_MASTER_NOTIFY_H

/* Sends `state`, e.g. "READY=1", to where NOTIFY_SOCKET says; nothing happens without it. */
void notify_service_manager(const char *state);

#endif
