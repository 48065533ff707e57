/* The boot and the wall clock of a test: they stand still unless it moves them. Linked with --wrap. */
#ifndef SZ_TESTS_DEVICE_CLOCKS_H
#define SZ_TESTS_DEVICE_CLOCKS_H

#include <stdint.h>

void clocks_move(int64_t boot_ns, int64_t wall_ns);
void clocks_pass(uint64_t ns); /* time goes by, for both */

#endif
