/*
 * readers: what a seal replaces is removed when nobody reads it any more. A reader finds an object in the
 * map and opens it without a lock; so whoever removes objects that the map does not name any more first
 * waits for those who may have found them. Readers never wait.
 */
#include "device/device_internal.h"

void sz_readers_init(struct readers *readers)
{
	*readers = (struct readers){ 0 };
	(void)pthread_mutex_init(&readers->lock, NULL);
	(void)pthread_cond_init(&readers->left, NULL);
}

void sz_readers_fini(struct readers *readers)
{
	(void)pthread_cond_destroy(&readers->left);
	(void)pthread_mutex_destroy(&readers->lock);
}

struct reader sz_readers_enter(struct readers *readers)
{
	MUTEX_SCOPE(&readers->lock);

	readers->inside[readers->turn]++;
	return (struct reader){ readers, readers->turn };
}

void sz_readers_leave(struct reader *reader)
{
	struct readers *readers = reader->readers;
	MUTEX_SCOPE(&readers->lock);

	if (--readers->inside[reader->turn] == 0)
		(void)pthread_cond_broadcast(&readers->left);
}

void sz_readers_wait(struct readers *readers)
{
	MUTEX_SCOPE(&readers->lock);
	uint32_t before = readers->turn;

	/* Nobody is in the other turn: the last one to wait has seen to that. */
	readers->turn = before ^ 1;
	while (readers->inside[before] > 0)
		(void)pthread_cond_wait(&readers->left, &readers->lock);
}
