/* dataset: what file systems and volumes need of ZFS alike. */
#include "engine/pool_zfs.h"

#include <errno.h>
#include <stdio.h>
#include <zfs_namecheck.h>

int sz_zfs_error(int zfs_error)
{
	switch (zfs_error) {
	case 0:
		return 0;
	case ECKSUM:
		return -EBADMSG;
	case EEXIST:
	case ENOENT:
	case ENOSPC:
	case EDQUOT:
	case EROFS:
	case ENOMEM:
	case EINVAL:
	case ENAMETOOLONG:
	case EFBIG:
	case ENXIO:
	case ENODATA:
	case ERANGE:
	case E2BIG:
		return -zfs_error;
	default:
		return -EIO;
	}
}

int sz_tx_begin(dmu_tx_t *tx)
{
	int result = dmu_tx_assign(tx, DMU_TX_WAIT);

	if (result == 0)
		return 0;
	dmu_tx_abort(tx);
	return sz_zfs_error(result);
}

/*
 * ZFS upgrades a dataset's accounting in the background when it is owned; a new pool's root dataset
 * always needs that. The thread keeps the dataset for a moment longer than dmu_objset_disown waits,
 * which then aborts: it is waited for here.
 */
void sz_objset_disown(objset_t *os, const void *tag)
{
	mutex_enter(&os->os_upgrade_lock);
	os->os_upgrade_exit = B_TRUE;
	mutex_exit(&os->os_upgrade_lock);
	while (zfs_refcount_count(&dmu_objset_ds(os)->ds_longholds) > 1)
		sz_sleep_ms(1);
	dmu_objset_disown(os, B_FALSE, tag);
}

int sz_checksums_check(objset_t *os, const char *name, struct sz_error *error)
{
	if (os->os_checksum != ZIO_CHECKSUM_OFF && os->os_checksum != ZIO_CHECKSUM_NOPARITY)
		return 0;
	return sz_fail(error, -EINVAL,
		       "%s has checksum=off, which is refused: damage could not be seen; set "
		       "checksum=on where that was set, and write the data anew",
		       name);
}

int sz_dataset_name_check(const char *dataset, const char *kind, char name[SZ_DATASET_NAME_BYTES],
			  struct sz_error *error)
{
	namecheck_err_t why;
	char what;

	if (sz_dataset_name(dataset, NULL, name) == 0 && strpbrk(dataset, "@#%") == NULL &&
	    dataset_namecheck(name, &why, &what) == 0)
		return 0;
	return sz_fail(error, -EINVAL,
		       "'%s' cannot be a %s's name: letters, digits, space, and -_.: are "
		       "allowed, with / between the names",
		       dataset, kind);
}

itx_t *sz_log_write(dnode_t *dnode, uint64_t offset, uint64_t length, itx_wr_state_t state)
{
	itx_t *itx = NULL;
	lr_write_t *record;

	if (state == WR_COPIED) {
		itx = zil_itx_create(TX_WRITE, sizeof(*record) + length);
		record = (lr_write_t *)&itx->itx_lr;
		if (dmu_read_by_dnode(dnode, offset, length, record->lr_data,
				      DMU_READ_NO_PREFETCH) != 0) {
			zil_itx_destroy(itx);
			itx = NULL;
			state = WR_NEED_COPY;
		}
	}
	if (itx == NULL)
		itx = zil_itx_create(TX_WRITE, sizeof(*record));
	record = (lr_write_t *)&itx->itx_lr;
	record->lr_foid = dnode->dn_object;
	record->lr_offset = offset;
	record->lr_length = length;
	record->lr_blkoff = 0;
	BP_ZERO(&record->lr_blkptr);
	itx->itx_wr_state = state;
	return itx;
}
