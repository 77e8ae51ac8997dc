/*
 * The configuration file: the options of mux/options.h, written down. Its language is a part of the Universal
 * Configuration Language, the part that holds no surprises: nothing is included, expanded or merged.
 *
 *     # comment, or one between slashes and stars
 *     listen = "0.0.0.0:443";                 # a value; '=' or ':' or a space stands between, ';' or a new line ends
 *     listen = ["[::]:443", "[::]:8443"]      # the same option again, as a list
 *     route { sni = "*.example.com"; service = "web" }
 *     service "echo" { handler = "echo" }     # a title fills one part: the name, here
 *
 * Words of visible characters need no quotes. "..." knows the escapes of JSON, '...' none; so a JSON object is a
 * configuration file, too. Numbers, sizes and durations are written as on the command line.
 *
 * Errors are said in one line: "edge.conf:12: trunks: must be between 1 and 64". Main's thread only.
 */
#ifndef MUX_CONFIG_H
#define MUX_CONFIG_H

#include <stddef.h>

#include "mux/options.h"

#define CONFIG_BYTES_MAX 1048576U /* of a configuration file */

/* Reads the command line and the file that its --config names: the file first, so that flags win. Then requires what
 * is required. `options` was initialised with options_init. */
enum settings_verdict config_read(struct options *options, int argc, char *const *argv);

/* Takes the options in `text`. `name` is used in messages, and kept until the end of the reading. */
enum settings_verdict config_read_text(struct options *options, const char *name, const char *text, size_t length);

/* The same from a file. */
enum settings_verdict config_read_file(struct options *options, const char *path);

#endif
