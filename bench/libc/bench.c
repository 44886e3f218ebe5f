// The other side of the benchmarks: libc's semaphores, driven as main.go's
// workers are. A line on standard input starts it; it prints nanoseconds of
// wall and CPU time.
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static long long now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	long n = atol(argv[2]);
	sem_t *a = sem_open(argv[3], 0), *b = sem_open(argv[4], 0);
	if (a == SEM_FAILED || b == SEM_FAILED)
		return 1;
	puts("ready");
	fflush(stdout);
	getchar();
	long long wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
	if (strcmp(argv[1], "loop") == 0) {
		for (long i = 0; i < n; i++) {
			sem_wait(a);
			sem_post(a);
		}
	} else {
		for (long i = 0; i < n; i++) { // ping
			sem_wait(a);
			sem_post(b);
		}
	}
	printf("%lld %lld\n", now(CLOCK_MONOTONIC) - wall, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
	return 0;
}
