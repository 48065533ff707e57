/* A backend that passes everything on to another one, which outlives it. */
#ifndef SZ_TESTS_DEVICE_BORROW_H
#define SZ_TESTS_DEVICE_BORROW_H

#include "store/store.h"

/*
 * *alive is one more until the backend is closed. hidden: a file that no listing shows, NULL: none; it has to live as
 * long. Aborts if there is no memory.
 */
struct sz_backend *borrow(struct sz_backend *inner, int *alive, const char *hidden);

#endif
