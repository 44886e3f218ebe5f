# A program that uses Python's named semaphores, and that a test drives over a pipe, a
# command a line: see actor.go.
import errno
import fcntl
import os
import struct
import sys
from _multiprocessing import SemLock, sem_unlink

SEMAPHORE = 1
MAX = SemLock.SEM_VALUE_MAX
FLOCK = struct.Struct("hhqqi4x")  # struct flock on 64-bit Linux


def others(directory, own):
    n = 0
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if path == own or name.startswith("."):
            continue
        with open(path, "r+b") as f:
            probe = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            n += FLOCK.unpack(fcntl.fcntl(f, fcntl.F_GETLK, probe))[0] != fcntl.F_UNLCK
    return n


def main():
    sem = name = witness = gate = None
    for line in sys.stdin:
        command, *args = line.split()
        answer = "ok"
        try:
            if command == "create":
                name = args[0]
                sem = SemLock(SEMAPHORE, int(args[1]), MAX, name, False)
            elif command == "open":
                name = args[0]
                sem = SemLock._rebuild(0, SEMAPHORE, MAX, name)
            elif command == "rounds":
                directory, most = args[2], 0
                own = os.path.join(directory, str(os.getpid()))
                witness = witness or open(own, "w+b")
                gate = gate or open(os.path.join(directory, ".gate"), "a+b")
                for _ in range(int(args[0])):
                    sem.acquire()
                    fcntl.lockf(gate, fcntl.LOCK_EX)
                    fcntl.lockf(witness, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    most = max(most, 1 + others(directory, own))
                    fcntl.lockf(gate, fcntl.LOCK_UN)
                    fcntl.lockf(gate, fcntl.LOCK_EX)
                    fcntl.lockf(witness, fcntl.LOCK_UN)
                    fcntl.lockf(gate, fcntl.LOCK_UN)
                    sem.release()
                if most > int(args[1]):
                    answer = "%d inside" % most
            elif command == "waits":
                for _ in range(int(args[0])):
                    sem.acquire()
            elif command == "posts":
                for _ in range(int(args[0])):
                    sem.release()
            elif command == "trywait":
                if not sem.acquire(False):
                    answer = "EAGAIN"
            elif command == "value":
                answer = "ok %d" % sem._get_value()
            elif command == "unlink":
                sem_unlink(name)
            else:
                sys.exit(9)
        except OSError as e:
            answer = errno.errorcode[e.errno]
        print(answer, flush=True)


main()
