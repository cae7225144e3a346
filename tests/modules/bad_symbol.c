/* bad_symbol.c: a shared object, but no module. */
extern const int some_module;
const int some_module = 1;
