/*
 * refusal: a mount whose file system cannot be used any more. Every request is answered with an error, so that nobody
 * waits, until it is taken off its folder. libfuse is not needed for that, nor what it has agreed on with the kernel:
 * the descriptor over which the kernel asks is all that there is, and it may come from a program that was here before.
 */
#include "fuse/fuse_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The kernel asks for room for the largest write, and its head. */
#define ROOM_BYTES (REQUEST_BYTES_MAX + 65536U)

struct sz_refusal {
	char *folder;
	int device;   /* FUSE's */
	dev_t number; /* of the mount */
	int stop;     /* an eventfd */
	int code;     /* a positive errno */
	uint8_t *room;
	sz_mount_ended_fn *ended;
	void *context;
	atomic_bool is_ending; /* by who has begun it */
	pthread_t thread;
};

static bool has_answer(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

/* False: it is not mounted any more. */
static bool request_refuse(struct sz_refusal *refusal)
{
	struct fuse_out_header answer = { .len = sizeof(answer), .error = -refusal->code };
	struct fuse_in_header head;
	ssize_t length = read(refusal->device, refusal->room, ROOM_BYTES);

	if (length < 0)
		return errno != ENODEV;
	if ((size_t)length < sizeof(head))
		return true;
	memcpy(&head, refusal->room, sizeof(head));
	answer.unique = head.unique;
	/* Who asked may be gone: then it is no use, and no harm. */
	if (has_answer(head.opcode))
		(void)!write(refusal->device, &answer, sizeof(answer));
	return true;
}

static void *refusal_run(void *argument)
{
	struct sz_refusal *refusal = argument;

	(void)pthread_setname_np(pthread_self(), "fuse-refusal");
	for (;;) {
		struct pollfd fds[2] = { { .fd = refusal->device, .events = POLLIN },
					 { .fd = refusal->stop, .events = POLLIN } };

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents != 0)
			return NULL;
		if (!request_refuse(refusal))
			break;
	}
	if (!atomic_load(&refusal->is_ending))
		refusal->ended(refusal->context);
	return NULL;
}

static void refusal_free(struct sz_refusal *refusal)
{
	sz_cleanup_fd(&refusal->device);
	sz_cleanup_fd(&refusal->stop);
	free(refusal->room);
	free(refusal->folder);
	free(refusal);
}

int sz_refusal_start(int device, dev_t number, const char *folder, int code,
		     sz_mount_ended_fn *ended, void *context, struct sz_refusal **refusal_out)
{
	struct sz_refusal *refusal = calloc(1, sizeof(*refusal));
	int result;

	if (refusal == NULL)
		return -ENOMEM;
	*refusal = (struct sz_refusal){ .folder = strdup(folder),
					.device = device,
					.number = number,
					.stop = eventfd(0, EFD_CLOEXEC),
					.code = -code,
					.room = malloc(ROOM_BYTES),
					.ended = ended,
					.context = context };
	if (refusal->folder == NULL || refusal->stop < 0 || refusal->room == NULL)
		result = -ENOMEM;
	else if (fcntl(device, F_SETFL, O_NONBLOCK) != 0)
		result = -errno;
	else
		result = -pthread_create(&refusal->thread, NULL, refusal_run, refusal);
	if (result != 0) {
		refusal_free(refusal);
		return result;
	}
	*refusal_out = refusal;
	return 0;
}

int sz_refusal_end(struct sz_refusal *refusal)
{
	struct sz_error ignored = { 0 };
	struct pollfd over = { .fd = refusal->device };
	bool is_mounted = poll(&over, 1, 0) == 0 || (over.revents & POLLERR) == 0;
	int result = -ENOTCONN;

	atomic_store(&refusal->is_ending, true);
	/* While it still answers: unmounting may ask something. */
	if (is_mounted && folder_device(refusal->folder) == refusal->number)
		result = folder_unmount(refusal->folder, true, &ignored);
	(void)eventfd_write(refusal->stop, 1);
	(void)pthread_join(refusal->thread, NULL);
	refusal_free(refusal);
	return result;
}
