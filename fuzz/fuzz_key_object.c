/* The plaintexts of a key object's slots and directory; the first two bytes: slot, and type. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sz_key_object object = { 0 };
	uint8_t payload[SZ_PAGE_PAYLOAD];
	uint64_t revision;

	if (size < 2)
		return 0;
	fuzz_fill(payload, sizeof(payload), data + 2, size - 2);
	if (sz_slot_unpack(payload, data[0] % SZ_SLOTS,
			   (enum sz_slot_type)(data[1] % (SZ_SLOT_RECOVERY + 1)), &object,
			   &revision) == 0)
		FUZZ_CHECK(object.old_epoch != 0 ||
			   sz_is_zeros(object.old_master, sizeof(object.old_master)));
	if (sz_directory_unpack(payload, &object) == 0)
		for (uint32_t i = 0; i < SZ_SLOTS; i++)
			FUZZ_CHECK(strnlen(object.slots[i].label, sizeof(object.slots[i].label)) <
				   sizeof(object.slots[i].label));
	return 0;
}
