/* module.h: app = module:PATH: shared objects that export an application. */
#ifndef PEAL_APP_MODULE_H
#define PEAL_APP_MODULE_H

#include "base/config.h"
#include "peal/app.h"

#define MODULE_WHY_MAX 512

/* Loads the module at PATH (relative ones from the working directory) into this process, for good. NULL: `why` says so, and names the file. A module that crashes
 * as it is loaded takes this process with it: module_check first. */
const struct peal_app *module_load(const char *path, char why[MODULE_WHY_MAX]);

/* Loads it in a child process, which may crash or hang (10 s). False: `why` names file and reason. */
MUST_USE bool module_check(const char *path, char why[MODULE_WHY_MAX]);

/* Checks all modules of a configuration, each once. False: what is wrong has been added to the problems. */
MUST_USE bool modules_check(const struct config *c, struct config_problems *problems);

#endif
