// A program that does not know about semaphores, and has inherited descriptor 3. It
// forks twice and ends; each child lives, with the descriptor, until it reads a byte
// or the end of file from descriptor 4.
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
