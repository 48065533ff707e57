/* Clocks of a test: see clocks.h. */
#include "clocks.h"

#include "base/base.h"

#define BOOTED_NS (10ULL * 86400 * 1000000000)

static uint64_t boot_ns = BOOTED_NS;
static uint64_t wall_ns; /* 0: the test has not begun */

uint64_t __real_sz_wall_ns(void);
uint64_t __wrap_sz_wall_ns(void);
uint64_t __wrap_sz_boot_ns(void);

uint64_t __wrap_sz_wall_ns(void)
{
	if (wall_ns == 0)
		wall_ns = __real_sz_wall_ns();
	return wall_ns;
}

uint64_t __wrap_sz_boot_ns(void)
{
	return boot_ns;
}

void clocks_move(int64_t by_boot_ns, int64_t by_wall_ns)
{
	boot_ns += (uint64_t)by_boot_ns;
	wall_ns = sz_wall_ns() + (uint64_t)by_wall_ns;
}

void clocks_pass(uint64_t ns)
{
	clocks_move((int64_t)ns, (int64_t)ns);
}
