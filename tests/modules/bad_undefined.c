/* bad_undefined.c: calls what the server does not have. */
#include <peal/app.h>

extern void peal_does_not_exist(void);

static void on_second(struct peal_host *host)
{
    (void)host;
    peal_does_not_exist();
}

const struct peal_app peal_module = { .abi = PEAL_APP_ABI,
                                      .name = "undefined",
                                      .second = on_second };
