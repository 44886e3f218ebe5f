// What the libcs of this directory share. sem_posix.h includes one of them in place
// of glibc if the macro SEMAPHORE_TEST_LIBC names it; all headers that sem_posix.c
// includes come first, so that they see glibc. See docs/platforms.md.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SHIM __attribute__((unused)) static

// The semaphores of these libcs are not glibc's of the same name: they are where glibc
// has those of a name whose last byte differs.
typedef struct { char name[512]; } shim_name;

SHIM const char *shim_elsewhere(const char *name, shim_name *other)
{
	size_t n = strlen(name);
	if (n < 2 || n >= sizeof other->name)
		return name;
	memcpy(other->name, name, n + 1);
	other->name[n - 1] ^= '\x80';
	return other->name;
}
