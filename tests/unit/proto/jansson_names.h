/* jansson_names.h: includes jansson.h beside proto/json.h. Four enumerators have the same names in
 * both; jansson's get others here.
 *
 * json_is_array() and its like of jansson.h must not be used for these four: as macros they would
 * mean our values. */
#ifndef PEAL_TESTS_JANSSON_NAMES_H
#define PEAL_TESTS_JANSSON_NAMES_H

#define JSON_OBJECT JANSSON_OBJECT
#define JSON_ARRAY  JANSSON_ARRAY
#define JSON_STRING JANSSON_STRING
#define JSON_NULL   JANSSON_NULL
#include <jansson.h>
#undef JSON_OBJECT
#undef JSON_ARRAY
#undef JSON_STRING
#undef JSON_NULL

#endif
