// The counterpart of the workers in loops.go: the same loops with libc's semaphores,
// and one with System V's and SEM_UNDO. A line on standard input starts the loop; the
// program then prints the nanoseconds of wall and CPU time that it took.
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <time.h>

static long long now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long wall, cpu;

static void begin(void)
{
	puts("ready");
	fflush(stdout);
	getchar();
	wall = now(CLOCK_MONOTONIC);
	cpu = now(CLOCK_PROCESS_CPUTIME_ID);
}

static int end(void)
{
	printf("%lld %lld\n", now(CLOCK_MONOTONIC) - wall, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
	return 0;
}

static int undo(int id, long n)
{
	struct sembuf take = {0, -1, SEM_UNDO}, give = {0, 1, SEM_UNDO};
	begin();
	for (long i = 0; i < n; i++)
		if (semop(id, &take, 1) || semop(id, &give, 1))
			return 1;
	return end();
}

static int reopen(const char *name, long n)
{
	begin();
	for (long i = 0; i < n; i++) {
		sem_t *s = sem_open(name, 0);
		if (s == SEM_FAILED || sem_close(s))
			return 1;
	}
	return end();
}

int main(int argc, char **argv)
{
	enum { most = 8 };
	sem_t *s[most];
	if (argc < 4 || argc > 3 + most)
		return 2;
	const char *mode = argv[1];
	long n = atol(argv[2]);
	int count = argc - 3;
	if (strcmp(mode, "undo") == 0)
		return undo(atoi(argv[3]), n);
	if (strcmp(mode, "open") == 0)
		return reopen(argv[3], n);
	for (int i = 0; i < count; i++)
		if ((s[i] = sem_open(argv[3 + i], 0)) == SEM_FAILED)
			return 1;
	if (strcmp(mode, "loop") == 0) {
		begin();
		for (long i = 0; i < n; i++) {
			sem_wait(s[0]);
			sem_post(s[0]);
		}
	} else if (strcmp(mode, "reopen") == 0) {
		return reopen(argv[3], n);
	} else if (strcmp(mode, "ping") == 0) {
		begin();
		for (long i = 0; i < n; i++) {
			sem_wait(s[0]);
			sem_post(s[1]);
		}
	} else { // ring
		sem_wait(s[0]);
		begin();
		for (long i = 0, at = 0; i < n; i++) {
			long next = at + 1 == count ? 0 : at + 1;
			sem_wait(s[next]);
			sem_post(s[at]);
			at = next;
		}
	}
	return end();
}
