// A libc like musl before 1.2.3: it counts the opens of a semaphore, but the first
// sem_close unmaps it all the same.
#include "common.h"

#define MUSL_SEMS 256 // SEM_NSEMS_MAX

SHIM sem_t *musl_sem_open(const char *name, int flags, unsigned mode, unsigned value)
{
	shim_entry *e;
	sem_t *sem = shim_open(name, flags, mode, value);
	if (sem == SEM_FAILED)
		return SEM_FAILED;
	pthread_mutex_lock(&shim_lock);
	e = shim_opened(sem, MUSL_SEMS);
	if (e == NULL) {
		sem_close(sem);
		errno = EMFILE;
		sem = SEM_FAILED;
	} else {
		e->mapped++;
	}
	pthread_mutex_unlock(&shim_lock);
	return sem;
}

SHIM int musl_sem_close(sem_t *sem)
{
	shim_entry *e;
	pthread_mutex_lock(&shim_lock);
	e = shim_find(sem, MUSL_SEMS);
	if (e == NULL)
		abort(); // musl does not check
	for (; e->mapped > 0; e->mapped--)
		sem_close(sem); // the last one unmaps
	if (--e->opens == 0)
		e->sem = NULL;
	pthread_mutex_unlock(&shim_lock);
	return 0;
}

#define sem_open musl_sem_open
#define sem_close musl_sem_close
#define sem_unlink shim_unlink
#define sem_clockwait musl_has_no_sem_clockwait
#undef __GLIBC__
