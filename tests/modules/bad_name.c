/* bad_name.c: a module whose name would break the log. */
#include <peal/app.h>

const struct peal_app peal_module = { .abi = PEAL_APP_ABI, .name = "two words" };
