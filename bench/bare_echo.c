/* bare_echo.c: the reference for echoes: one epoll, a recv() and a send() for each message.
 *
 * bare_send.c, whose messages go back to who sent them, and to nobody else.
 *
 *     bare_echo PORT */
#define BARE_SENDS_OTHERWISE
#include "bare_send.c" /* NOLINT(bugprone-suspicious-include): one server, two ways to send */

static void sends_fan_out(struct room *r, int from, const uint8_t *frame, size_t n)
{
    (void)r;
    if (send(from, frame, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n)
        errx(1, "an echo was not taken whole");
}
