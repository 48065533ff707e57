#ifndef SZ_ENGINE_LABEL_H
#define SZ_ENGINE_LABEL_H

#include "engine/engine_internal.h"

/*
 * The configuration to import, the caller's to free. *found_out: devices with a label.
 * -ENODATA: no device has one.
 */
int sz_label_config(struct sz_store *, nvlist_t **config_out, uint32_t *found_out) MUST_CHECK;

#endif
