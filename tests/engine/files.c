/* See files.h. */
#include "files.h"

void file_write(struct opened *opened, unsigned int number)
{
	const struct sz_fs_new new = { .mode = S_IFREG | 0644 };
	uint8_t *content = malloc(FILE_BYTES);
	char name[16];
	uint64_t inode;

	(void)snprintf(name, sizeof(name), "file%u", number);
	random_fill(content, FILE_BYTES, number);
	NEED(sz_fs_create(opened->fs, sz_fs_root(opened->fs), name, &new, &inode) == 0);
	NEED(sz_fs_write(opened->fs, inode, content, FILE_BYTES, 0) == 0);
	free(content);
}

int file_check(struct opened *opened, unsigned int number)
{
	uint8_t *content = malloc(FILE_BYTES);
	uint8_t *read = malloc(FILE_BYTES);
	char name[16];
	uint64_t inode;
	size_t done;
	int result;

	(void)snprintf(name, sizeof(name), "file%u", number);
	random_fill(content, FILE_BYTES, number);
	NEED(sz_fs_lookup(opened->fs, sz_fs_root(opened->fs), name, &inode) == 0);
	result = sz_fs_read(opened->fs, inode, read, FILE_BYTES, 0, &done);
	NEED(result != 0 || (done == FILE_BYTES && memcmp(content, read, FILE_BYTES) == 0));
	free(content);
	free(read);
	return result;
}

void files_write(struct opened *opened)
{
	for (unsigned int i = 0; i < FILES; i++)
		file_write(opened, i);
}

void files_check(struct opened *opened)
{
	for (unsigned int i = 0; i < FILES; i++)
		NEED(file_check(opened, i) == 0);
}

void scrub(struct opened *opened, struct sz_scan_status *status_out)
{
	struct sz_error error = { 0 };

	NEED_OK(sz_pool_scrub_start(opened->pool, &error), &error);
	NEED_OK(sz_pool_scan_wait(opened->pool, NULL, NULL, &error), &error);
	sz_pool_scan_status(opened->pool, status_out);
	NEED(status_out->kind == SZ_SCAN_SCRUB && status_out->state == SZ_SCAN_FINISHED);
}

void pool_close(struct opened *opened)
{
	struct sz_error error = { 0 };

	sz_fs_close(opened->fs);
	NEED_OK(sz_pool_export(opened->pool, &error), &error);
}
