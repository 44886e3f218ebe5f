// A program that knows nothing of semaphores, and has inherited descriptor 3. It
// forks twice and ends; each child lives, with the descriptor, until it can read a
// byte from descriptor 4, or the end of that.
#include <unistd.h>

int main(void)
{
	for (int i = 0; i < 2; i++) {
		switch (fork()) {
		case -1:
			return 1;
		case 0:
			for (char c; read(4, &c, 1) < 0;)
				;
			return 0;
		}
	}
	return 0;
}
