/*
 * Take, give, wait, cancel, leave; the report of an exit, reaping, the claim of a dead
 * owner's slot, and how a waiter that leaves passes on what it was notified of.
 *
 * A process is a handle with one thread of control. Each statement that accesses what
 * other processes see is one step (a Go atomic operation or one system call), and the
 * kernel may kill the process VICTIM after each.
 *
 * The property: when no process can take a step any more, no living process sleeps
 * while a permit is free, or is that of a dead owner. There is no safety net here.
 *
 * The event, the word of the last ticket and the word with the number of waiters are
 * only compared for equality with what was read before (apart from the number itself).
 * So instead of a counter that never wraps around, each process has a bit that says
 * that the word has changed since the process read it. Bits that will not be read are
 * set, so that states that differ in nothing else are one state.
 *
 * Only the victim's liveness word and the victim's lock ever change. So a scan looks at
 * no other slot: it would always see the same there.
 */
#ifndef NP
#define NP 3		/* processes; 0 is inside at first, as the first taker would be */
#endif
#ifndef NW
#define NW 1		/* permits */
#endif
#ifndef BIG
#define BIG 1		/* how many of them process 0 has */
#endif
#ifndef VICTIM
#define VICTIM 9	/* is killed; 9 here and below: none */
#endif
#ifndef CANCELLED
#define CANCELLED 0	/* set of processes, one of which is cancelled while it waits */
#endif
#ifndef KEEPER
#define KEEPER 9	/* gives no permit back */
#endif
#ifndef TRY
#define TRY 9		/* does not wait, but reaps */
#endif
#ifndef REAPER
#define REAPER 9	/* only reaps, once the lock is free */
#endif
#ifndef CLAIMER
#define CLAIMER 9	/* claims the victim's slot */
#endif
#ifndef ASLEEP
#define ASLEEP 0	/* set of processes that sleep at first, in their order; process 0 is inside */
#endif
#define KILL (VICTIM < NP)
#define ALL ((1 << NP) - 1)
#define B(x) (1 << (x))

byte word[NW];		/* 0, or owner+1 */
byte waiters;		/* the number */
byte waits;		/* set of processes: the slot says that it waits */
byte event = ALL, tickets = ALL, wchange = ALL;	/* sets: the word has changed since the process read it */
byte cancelled;		/* set: its stop word was fired */

/* The victim's slot. */
bit died;		/* the liveness word has OwnerDied */
bit unlocked;		/* the kernel has dropped the lock */
bit reaped;		/* the slot says so */
bit gone;		/* ghost: it takes no step any more */
bit newgen, relive;	/* the claimer has changed the generation, and the liveness word */

/* The kernel's queues of processes that sleep on the event, and on the victim's liveness
 * word, first come first served. A process that was woken from one stays in the other
 * until it runs. */
byte evq[NP], evn, lvq[NP], lvn;
byte woken;
byte asleep;		/* ghost, for the property */

#define drop(q, n, x)	/* takes x out of q */ \
	k = 0; m = 0; \
	do \
	:: k < n -> if :: q[k] != x + 1 -> q[m] = q[k]; m++ :: else fi; k++ \
	:: else -> break \
	od; \
	do \
	:: m < n -> n--; q[n] = 0 \
	:: else -> break \
	od; \
	k = 0; m = 0;

#define LOCALS \
	byte i, n, c, w, k, m, t, held, freed, has; \
	bit hold, watch, dying, free, again, all, matters;	/* of the scan */ \
	bit slept, fdying, ev, ticketValid;	/* serve's: found.Watch, found.Dying, woken, ticketValid */ \
	bit tried; \
	byte sret, tret		/* where scan and notify return to */

#define changed (slept && (died || relive))

inline process() {
	if
	:: atomic { p == 0 -> has = BIG; goto inside }
	:: atomic { p == REAPER && unlocked -> tried = 1; goto try }
	:: atomic { p == CLAIMER && unlocked -> unlocked = 0; goto claim }
	:: atomic { ASLEEP & B(p) -> slept = (VICTIM == 0); goto sleeping }
	:: atomic { p != 0 && p != REAPER && p != CLAIMER && !(ASLEEP & B(p)) -> goto take }
	fi;

	/* Claim of a slot whose lock was free: occupy. */
claim:	waits = waits & ~B(VICTIM);
	newgen = 1;
	atomic { died = 0; relive = 1 };
claim_sweep: atomic {
		if :: word[i] == VICTIM + 1 -> word[i] = 0; freed++ :: else fi;
		i++;
		if
		:: i < NW -> goto claim_sweep
		:: else -> i = 0
		fi;
#ifndef MUTANT_CLAIM_SILENT
		if :: freed == 0 -> freed = 1 :: else fi;
#endif
		n = freed; freed = 0; tret = 3; goto notify
	};

	/* Take. */
take:	atomic {
		if
		:: word[i] != 0 -> i++;
			if
			:: i < NW -> goto take
			:: else -> i = 0
			fi
		:: else -> goto take_cas
		fi;
		if
		:: waits & B(p) -> goto wait_scan
		:: (waits & B(p)) == 0 && p == TRY -> if :: tried -> goto done :: else -> tried = 1; goto try fi
		:: else -> goto wait
		fi
	};
take_cas: atomic {
		if
		:: word[i] == 0 -> word[i] = p + 1; has++
		:: else -> i = 0; goto take	/* another process was faster */
		fi;
		i = 0;
		if
		:: waits & B(p) -> ev = 0; goto leave
		:: else -> goto inside
		fi
	};

	/* Reap, as TryWait, Value and Holders do. */
try:	atomic { all = 1; sret = 3; goto scan };
try_scanned: atomic {
		all = 0; watch = 0; dying = 0; free = 0; again = 0;
#ifdef MUTANT_REAP_SILENT
		freed = 0;
#endif
		n = freed; freed = 0; tret = 3; goto notify
	};

	/* Give. */
inside:	atomic {
		if
		:: p == KEEPER -> goto done
		:: else
		fi
#ifdef MUTANT_GIVE_READS_FIRST
		;
give:		w = waiters
	};
	atomic {
#else
	};
give:	atomic {
#endif
		do
		:: i < NW -> if :: word[i] == p + 1 -> break :: else -> i++ fi
		:: else -> break
		od;
		assert(i < NW);	/* no permit was taken from a living owner */
		word[i] = 0; i = 0; has--; n = 1; tret = 0;
#ifdef MUTANT_GIVE_READS_FIRST
		if :: w == 0 -> n = 0; goto given :: else -> goto notify_event fi
#else
		goto notify
#endif
	};
given:	atomic {
		if
		:: has > 0 -> goto give
		:: else -> goto done
		fi
	};

	/* Wait: Join, then serve. */
wait:	waits = waits | B(p);
#ifndef MUTANT_WAIT_LOOKS_FIRST
	atomic { waiters++; wchange = ALL };
#endif
wait_event: atomic {
		event = event & ~B(p);
		if
		:: cancelled & B(p) -> goto leave
		:: else -> goto take
		fi
	};
wait_scan: atomic {
#ifndef MUTANT_TICKET_ANEW
		if
		:: ticketValid -> goto tickets_read
		:: else
		fi;
#endif
		tickets = ALL
	};
tickets_read: atomic { tickets = tickets & ~B(p); slept = 0; fdying = 0; sret = 0; goto scan };
wait_scanned: atomic {
		slept = watch; fdying = dying; watch = 0; dying = 0;
#ifdef MUTANT_REAPED_NOT_AGAIN
		again = 0;
#endif
#ifdef MUTANT_WAITERS_NOT_WATCHED
		if :: hold :: else -> slept = 0 fi;
#endif
		hold = 0;
		if
		:: freed > 0 || free || again ->
			free = 0; again = 0; tickets = tickets | B(p);
			if :: freed > 0 -> ev = 1 :: else fi;
			if
			:: freed > 1 -> n = freed - 1; freed = 0; tret = 1; goto notify
			:: else -> freed = 0; goto wait_event
			fi
		:: else
		fi
	};
#ifdef MUTANT_WAIT_LOOKS_FIRST
	atomic { if :: !tried -> tried = 1; waiters++; wchange = ALL :: else fi };
#endif
	/* futex_waitv enters the words' queues one after the other, and compares each word. */
wait_sleep: atomic {
#ifdef MUTANT_EVENT_NOT_COMPARED
		event = event & ~B(p);
#endif
		if
		:: (event | cancelled) & B(p) -> ticketValid = 0; goto awake
		:: else -> evq[evn] = p + 1; evn++
		fi
	};
	atomic {
		if
#ifdef MUTANT_TICKETS_NOT_COMPARED
		:: changed ->
#else
#ifdef MUTANT_DEATH_NOT_COMPARED
		:: (tickets & B(p)) ->
#else
		:: (tickets & B(p)) || changed ->
#endif
#endif
			woken = woken & ~B(p); drop(evq, evn, p)
			ticketValid = (event & B(p)) == 0;
			goto awake
		:: else ->
			asleep = asleep | B(p);
			if :: slept -> lvq[lvn] = p + 1; lvn++ :: else fi
		fi
	};
	/* It sleeps until it is woken, or until it is time to look at a dying owner's lock. */
sleeping: atomic {
		((woken | cancelled) & B(p)) || (fdying && (unlocked || relive)) ->
		asleep = asleep & ~B(p); woken = woken & ~B(p);
		drop(evq, evn, p) drop(lvq, lvn, p)
		ticketValid = 0;
awake:
#ifdef MUTANT_WOKEN_FORGOTTEN
		ev = (event & B(p)) != 0;
#else
		ev = ev || (event & B(p));
#endif
		tickets = tickets | B(p);
		goto wait_event
	};

	/* Leave, PassOn. */
leave:	atomic {
#ifdef MUTANT_WAIT_LOOKS_FIRST
		if :: !tried -> waiters++ :: else fi;
#endif
		waiters--; wchange = ALL; c = waiters
	};
	atomic {
		waits = waits & ~B(p); event = event | B(p); cancelled = cancelled & ~B(p);
		tickets = tickets | B(p); ticketValid = 0;
#ifdef MUTANT_LEAVE_SILENT
		c = 0;
#endif
		if
		:: c == 0 -> slept = 0; fdying = 0; ev = 0; goto left
		:: else -> c = 0
		fi;
#ifndef MUTANT_DYING_NOT_PASSED_ON
		ev = ev || fdying;
#endif
		fdying = 0;
#ifdef MUTANT_DEATH_NOT_PASSED_ON
		slept = 0;
#endif
#ifdef MUTANT_WOKEN_NOT_PASSED_ON
		ev = 0;
#endif
		if
		:: !slept -> goto passon
		:: else
		fi
	};
	atomic {
		if
		:: changed -> slept = 0; sret = 2; goto scan
		:: else -> slept = 0
		fi
	};
passon:	atomic {	/* and passon_scanned */
		hold = 0; watch = 0; free = 0; again = 0;
#ifndef MUTANT_DYING_NOT_PASSED_ON
		ev = ev || dying;
#endif
		dying = 0;
		if
		:: ev -> ev = 0; if :: freed == 0 -> freed = 1 :: else fi; n = freed; freed = 0; tret = 2; goto notify
		:: else
		fi
	};
leave_room: atomic {
		if
#ifndef MUTANT_ROOM_NOT_PASSED_ON
		:: word[i] == 0 -> if :: freed == 0 -> freed = 1 :: else fi; i = NW
#endif
		:: else -> i++
		fi;
		if
		:: i < NW -> goto leave_room
		:: else -> i = 0; n = freed; freed = 0; tret = 2; goto notify
		fi
	};
left:	atomic { if :: has -> goto inside :: else -> goto done fi };

	/* Scan; the results are freed, free, again, watch, dying. */
scan: atomic {
		if
		:: word[i] == 0
		:: word[i] == VICTIM + 1 && newgen -> word[i] = 0; freed++	/* stale */
		:: else -> held++; if :: word[i] == VICTIM + 1 -> hold = 1 :: else fi
		fi;
		i++;
		if
		:: i < NW -> goto scan
		:: else -> i = 0
		fi;
		if
		:: !KILL || p == VICTIM || p == CLAIMER -> goto scan_room
		:: else
		fi
	};
	atomic {
		matters = hold || (waits & B(VICTIM));
		if
#ifdef NOREPORT
		:: matters -> skip
#else
		:: !died && !relive && matters ->
			watch = 1;
			if
			:: all && hold -> skip
			:: else -> goto scan_room
			fi
		:: (died && (matters || !reaped)) || (relive && matters) -> skip
#endif
		:: else -> goto scan_room
		fi
	};
	atomic {
#ifdef MUTANT_BEFORE_UNLOCK
		if
		:: unlocked || died -> skip
#else
		if
		:: unlocked -> skip
#endif
		:: else -> dying = died && matters; goto scan_room
		fi;
		again = 1
	};
scan_reap: atomic {
		if :: word[i] == VICTIM + 1 -> word[i] = 0; freed++ :: else fi;
		i++;
		if
		:: i < NW -> goto scan_reap
		:: else -> i = 0
		fi
	};
	waits = waits & ~B(VICTIM);
	atomic { reaped = 1; held = 0; matters = 0; goto scanned };	/* because of again the caller looks once more, and needs no room */
scan_room: atomic {
		matters = 0;
		if
		:: held < NW && sret == 0 -> held = 0	/* only serve uses the result */
		:: else -> held = 0; goto scanned
		fi
	};
scan_room2: atomic {
		if
		:: word[i] == 0 -> free = 1; i = 0; goto scanned
		:: else -> i++
		fi;
		if
		:: i < NW -> goto scan_room2
		:: else -> i = 0
		fi
	};
scanned: atomic {
		if
		:: sret == 0 -> goto wait_scanned
		:: sret == 1 -> sret = 0; goto notify_scanned
		:: sret == 2 -> sret = 0; goto passon
		:: sret == 3 -> sret = 0; goto try_scanned
		fi
	};

	/* Notify. */
notify:	atomic {
		hold = 0;
		if
		:: n == 0 || waiters == 0 -> n = 0; goto notify_end
		:: else -> w = waiters; wchange = wchange & ~B(p)
		fi
	};
notify_event: event = ALL;
	atomic {
		do	/* FUTEX_WAKE */
		:: n > 0 && evn > 0 -> t = evq[0] - 1; woken = woken | B(t); drop(evq, evn, t) n--; c = 1
		:: else -> break
		od;
		t = 0;
		if
		:: c -> c = 0; n = 0; w = 0; wchange = wchange | B(p); goto notify_end
		:: !c && !KILL -> n = 0; w = 0; wchange = wchange | B(p); goto notify_end
		:: else -> n = 0; sret = 1; goto scan
		fi
	};
notify_scanned: atomic {	/* Heal; count.pml has its steps */
		hold = 0; watch = 0; dying = 0; free = 0; again = 0;
		n = freed; freed = 0;
		c = (waits & 1) + ((waits >> 1) & 1) + ((waits >> 2) & 1) + ((waits >> 3) & 1);
		if
		:: c < w && (wchange & B(p)) == 0 -> waiters = c; wchange = ALL
		:: else -> wchange = wchange | B(p)
		fi;
		c = 0; w = 0; goto notify
	};
notify_end: atomic {
		if
		:: tret == 0 -> goto given
		:: tret == 1 -> tret = 0; goto wait_event
		:: tret == 2 -> tret = 0; goto left
		:: tret == 3 -> tret = 0; if :: p == TRY -> goto take :: else -> goto done fi
		fi
	};
done:	(false)
}

proctype Process(byte p) {
	LOCALS;
	process()
}

proctype Victim(byte p) {
	LOCALS;
	{ process() } unless { atomic { gone ->
		i = 0; n = 0; c = 0; w = 0; k = 0; m = 0; t = 0; held = 0; freed = 0; has = 0;
		hold = 0; watch = 0; dying = 0; free = 0; again = 0; all = 0; matters = 0;
		slept = 0; fdying = 0; ev = 0; ticketValid = 0; tried = 0; sret = 0; tret = 0; p = 0;
		false } }
}

inline report() {	/* exit_robust_list: sets OwnerDied, wakes one process that sleeps on the word */
	died = 1;
	if
	:: lvn > 0 -> t = lvq[0] - 1; woken = woken | B(t); drop(lvq, lvn, t) t = 0
	:: else
	fi
}

inline end() {	/* its threads have stopped, and have left the kernel's queues */
	gone = 1;
	drop(evq, evn, VICTIM) drop(lvq, lvn, VICTIM)
	woken = woken & ~B(VICTIM); asleep = asleep & ~B(VICTIM); cancelled = cancelled & ~B(VICTIM);
	event = event | B(VICTIM); tickets = tickets | B(VICTIM); wchange = wchange | B(VICTIM)
}

/* The kernel ends a process: it reports the exit, stops the threads, and drops the lock
 * last. The thread whose exit is reported may end before the other threads stop, or after. */
proctype Killer() {
	byte k, m, t;
#ifdef NOREPORT
	d_step { end() };
#else
	if
	:: d_step { !gone -> report() }; d_step { end() }
	:: d_step { !gone -> end() }; d_step { report() }
	fi;
#endif
	unlocked = 1
}

proctype Canceller() {
	byte v;
	atomic {
		if
		:: waits & CANCELLED & 1 -> v = 1
		:: waits & CANCELLED & 2 -> v = 2
		:: waits & CANCELLED & 4 -> v = 4
		:: waits & CANCELLED & 8 -> v = 8
		fi;
		(!KILL || !gone || v != B(VICTIM)) -> cancelled = cancelled | v; v = 0
	}
}

init {
	byte p, i;
	atomic {
		do :: i < BIG -> word[i] = 1; i++ :: else -> break od;
		i = 0;
		waits = ASLEEP; asleep = ASLEEP;
		do
		:: p < NP ->
			if
			:: ASLEEP & B(p) ->
				waiters++; event = event & ~B(p); evq[evn] = p + 1; evn++;
				if :: VICTIM == 0 -> lvq[lvn] = p + 1; lvn++ :: else fi
			:: else
			fi;
			if :: p == VICTIM -> run Victim(p) :: else -> run Process(p) fi;
			p++
		:: else -> break
		od;
		p = 0;
		if :: KILL -> run Killer() :: else fi;
		if :: CANCELLED -> run Canceller() :: else fi
	};
	timeout;
	d_step {
		do
		:: p < NP ->
			i = 0;
			do
			:: (asleep & B(p)) && i < NW ->
				/* no process sleeps while a permit is free */
				assert(word[i] != 0);
				/* nor while it is that of a dead owner */
				assert(!gone || word[i] != VICTIM + 1);
				i++
			:: else -> break
			od;
			p++
		:: else -> break
		od;
		/* and a giver would see that all that sleep are counted */
		assert(waiters >= (asleep & 1) + ((asleep >> 1) & 1) + ((asleep >> 2) & 1) + ((asleep >> 3) & 1))
	}
}
