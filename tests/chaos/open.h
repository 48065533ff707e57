/* Opening a store as the program does: with the passphrase alone. */
#ifndef SZ_TESTS_CHAOS_OPEN_H
#define SZ_TESTS_CHAOS_OPEN_H

#include "device/device.h"

/* Tells why, and ends the program. */
void die(const char *format, ...) PRINTF_LIKE(1, 2) __attribute__((noreturn));

/* The passphrase is the first line of the file that SZPOOL_PASSPHRASE_FILE names. */
#define PASSPHRASE_BYTES 200
struct sz_passphrase passphrase_read(char text[PASSPHRASE_BYTES]);
int store_open(const struct sz_store_open *options, struct sz_store **store_out,
	       struct sz_error *error) MUST_CHECK;

#endif
