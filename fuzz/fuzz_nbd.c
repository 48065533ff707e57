/* What an NBD client sends: the data of options, requests, names. */
#include "fuzz.h"
#include "nbd/protocol.h"

#include <errno.h>

static void name_check(const char *name)
{
	FUZZ_CHECK(strnlen(name, SZ_NBD_NAME_BYTES) < SZ_NBD_NAME_BYTES);
}

static void request_check(const uint8_t *data, size_t size)
{
	const struct sz_nbd_export export = { .size_bytes = 1ULL << 40 };
	uint8_t bytes[SZ_NBD_REQUEST_HEAD];
	struct sz_nbd_request request;

	fuzz_fill(bytes, sizeof(bytes), data, size);
	(void)sz_nbd_request_decode(bytes, &request);
	for (unsigned int i = 0; i < 4; i++) {
		if (sz_nbd_request_check(&request, &export, (i & 1) != 0, (i & 2) != 0) !=
			    NBD_SUCCESS ||
		    request.type == NBD_CMD_DISC)
			continue;
		FUZZ_CHECK(request.offset <= export.size_bytes);
		FUZZ_CHECK(request.length <= export.size_bytes - request.offset);
		FUZZ_CHECK((request.length == 0) == (request.type == NBD_CMD_FLUSH));
		FUZZ_CHECK((request.type != NBD_CMD_READ && request.type != NBD_CMD_WRITE) ||
			   request.length <= SZ_NBD_REQUEST_BYTES);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sz_nbd_info_request info;
	struct sz_nbd_context_request contexts;
	char name[SZ_NBD_NAME_BYTES];

	if (sz_nbd_info_request_decode(data, size, &info) == 0)
		name_check(info.name);
	if (sz_nbd_context_request_decode(data, size, &contexts) == 0) {
		name_check(contexts.name);
		FUZZ_CHECK(!contexts.selects || contexts.lists);
	}
	if (sz_nbd_name_decode(data, size, name) == 0) {
		name_check(name);
		FUZZ_CHECK(size >= SZ_NBD_NAME_BYTES || strlen(name) == size);
	}
	request_check(data, size);
	return 0;
}
