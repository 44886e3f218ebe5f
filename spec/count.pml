/*
 * The number of waiters, and Heal.
 *
 * Handles join and leave; givers that have woken nobody heal; dead owners are reaped
 * (here: their slot says no more that they wait), and another handle claims their slot
 * with the next generation. The handle VICTIM may be killed after every step.
 *
 * Safety: the number is never below that of the living handles that have counted
 * themselves. When no process can take a step any more, one more Heal, after the dead
 * owner was reaped, makes it exact.
 */
#define NS 3		/* slots */
#ifndef VICTIM
#define VICTIM 0
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef HEALERS
#define HEALERS 2
#endif
#define B(x) (1 << (x))
#define count(x) (((x) & 1) + (((x) >> 1) & 1) + (((x) >> 2) & 1))

byte waiters;			/* the number; each change sets all bits of changed */
byte changed;			/* set of healers: the number's word has changed since they read it */
byte waits[NS];			/* 0, or the generation that waits */
byte gen[NS];
byte gone;			/* set of slots whose owner is dead and whose lock is free */
byte counted;			/* ghost: set of slots whose living owner is counted */

#define enough assert(waiters >= count(counted & ~gone))

proctype Handle(byte s) {
	byte g, round;
	{
	atomic { g = gen[s]; round = 0 };
	do
	:: atomic { round < ROUNDS -> round++ };
		/* Join: the slot says so first, then the handle counts itself. */
#ifdef MUTANT_COUNTS_BEFORE_SAYING
		atomic { waiters++; changed = 255; counted = counted | B(s) };
		waits[s] = g;
#else
		waits[s] = g;
		atomic { waiters++; changed = 255; counted = counted | B(s) };
#endif
		/* Leave: in the reverse order. */
#ifdef MUTANT_UNSAYS_BEFORE_UNCOUNTING
		waits[s] = 0;
		atomic { counted = counted & ~B(s); waiters--; changed = 255; enough };
#else
		atomic { counted = counted & ~B(s); waiters--; changed = 255; enough };
		waits[s] = 0;
#endif
	:: atomic { round == ROUNDS -> break }
	od
	} unless { atomic { gone & B(s) -> g = 0; round = 0 } };
	/* The dead owner's slot gets a new one: lock, waits, generation. */
	if
	:: atomic { (gone & B(s)) -> round = 0; counted = counted & ~B(s); gone = gone & ~B(s) };
		waits[s] = 0;
		atomic { gen[s]++; g = gen[s] };
		atomic { waits[s] = g; g = 0 };
		atomic { waiters++; changed = 255; counted = counted | B(s) }
		/* and sleeps */
	:: atomic { (gone & B(s)) == 0 -> skip }
	fi
}

inline strike(s) {	/* visit and reapOwner, only what they do to waits */
	if
	:: atomic { waits[s] != 0 -> g = waits[s] };
		if
		:: atomic { (gone & B(s)) -> skip };	/* the lock is free */
			atomic {
#ifdef MUTANT_GENERATION_IGNORED
				waits[s] = 0;
#else
				if :: waits[s] == g -> waits[s] = 0 :: else fi;
#endif
				g = 0
			}
		:: atomic { (gone & B(s)) == 0 -> g = 0 }
		fi
	:: atomic { waits[s] == 0 -> skip }
	fi
}

inline heal(me) {
	atomic { w = waiters; changed = changed & ~B(me) };
	strike(0);	/* no other handle dies */
	do
	:: atomic { if :: waits[i] -> n++ :: else fi; i++; if :: i == NS -> break :: else fi }
	od;
	atomic {
		if
#ifdef MUTANT_HEAL_IGNORES_CHANGE
		:: n < w && waiters == w -> waiters = n; changed = 255
#else
		:: n < w && (changed & B(me)) == 0 -> waiters = n; changed = 255
#endif
		:: else
		fi;
		enough;
		n = 0; i = 0; w = 0
	}
}

proctype Healer(byte me) {
	byte w, n, i, g;
	heal(me)
}

proctype Killer() {
	byte v;
	if
	:: skip
	:: atomic {
		v = VICTIM; gone = gone | B(v); v = 0 }
	fi
}

init {
	byte i, w, n, g;
	atomic {
		do :: i < NS -> gen[i] = 1; run Handle(i); i++ :: else -> break od;
		i = 0;
		do :: i < HEALERS -> run Healer(i); i++ :: else -> break od;
		i = 0;
		do :: i < KILLS -> run Killer(); i++ :: else -> break od;
		i = 0
	};
	timeout;
	atomic {
		heal(7);
		assert(waiters == count(counted & ~gone))
	}
}
