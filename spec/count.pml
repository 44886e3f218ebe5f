/*
 * The number of waiters, and who heals it.
 *
 * Handles join and leave; givers who have woken nobody heal; the dead are struck off,
 * and their slot is another handle's with the next generation. Each handle may be
 * killed after every step.
 *
 * Safety: the number is never below that of the living who are counted. When nothing
 * moves any more, one more healing after the dead were struck off makes it exact.
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

byte waiters;			/* the number; who changes it marks all as having seen another */
byte changed;			/* set of healers: the word has changed since they read it */
byte waits[NS];			/* 0, or the generation that waits */
byte gen[NS];
byte gone;			/* slots whose owner is dead, and the lock free */
byte counted;			/* ghost: slots whose living owner is counted */

#define enough assert(waiters >= count(counted & ~gone))

proctype Handle(byte s) {
	byte g, round;
	{
	atomic { g = gen[s]; round = 0 };
	do
	:: atomic { round < ROUNDS -> round++ };
		/* Join: says so first, counts itself then. */
#ifdef MUTANT_COUNTS_BEFORE_SAYING
		atomic { waiters++; changed = 255; counted = counted | B(s) };
		waits[s] = g;
#else
		waits[s] = g;
		atomic { waiters++; changed = 255; counted = counted | B(s) };
#endif
		/* Leave: the other way round. */
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
	/* The dead one's slot gets a new owner: lock, generation, waits. */
	if
	:: atomic { (gone & B(s)) -> round = 0; counted = counted & ~B(s); gone = gone & ~B(s) };
		atomic { gen[s]++; g = gen[s] };
		waits[s] = 0;
		atomic { waits[s] = g; g = 0 };
		atomic { waiters++; changed = 255; counted = counted | B(s) }
		/* and sleeps */
	:: atomic { (gone & B(s)) == 0 -> skip }
	fi
}

inline strike(s) {	/* visit and reap, as far as waits goes */
	if
	:: atomic { waits[s] != 0 -> g = gen[s] };
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
	strike(0);	/* nobody else dies */
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
