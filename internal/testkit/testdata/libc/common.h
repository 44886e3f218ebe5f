// What the libcs of this directory share. sem_posix.h includes one of them in place
// of glibc if the macro SEMAPHORE_TEST_LIBC names it; all headers that sem_posix.c
// includes come first, so that they see glibc. See docs/platforms.md.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
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

SHIM sem_t *shim_open(const char *name, int flags, unsigned mode, unsigned value)
{
	shim_name other;
	return sem_open(shim_elsewhere(name, &other), flags, mode, value);
}

SHIM int shim_unlink(const char *name)
{
	shim_name other;
	return sem_unlink(shim_elsewhere(name, &other));
}

// The table of open semaphores, for libcs whose first sem_close unmaps. glibc counts
// opens, and unmaps at the last sem_close.
#define SHIM_SEMS 4096
typedef struct { sem_t *sem; int opens, mapped; } shim_entry;
SHIM shim_entry shim_sems[SHIM_SEMS];
SHIM pthread_mutex_t shim_lock = PTHREAD_MUTEX_INITIALIZER;

// shim_find returns the entry of sem, or a free one if sem is NULL, among the first n of
// the table; NULL if there is none.
SHIM shim_entry *shim_find(const sem_t *sem, int n)
{
	int i;
	for (i = 0; i < n; i++)
		if (shim_sems[i].sem == sem)
			return &shim_sems[i];
	return NULL;
}

// shim_opened counts an open of sem, and returns its entry, NULL if the table is full.
SHIM shim_entry *shim_opened(sem_t *sem, int n)
{
	shim_entry *e = shim_find(sem, n);
	if (e == NULL)
		e = shim_find(NULL, n);
	if (e != NULL) {
		e->sem = sem;
		e->opens++;
	}
	return e;
}
