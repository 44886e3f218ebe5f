/*
 * The protocol of the module etcd: a place in the line that is leased, a twin that is not and alone counts as held, a loss delay, and
 * a holder that reckons by its own clock until when its lease lasts.
 *
 * One permit. A holder takes it and renews its lease; NT takers wait for it, and one of them removes the twin if the holder is lost.
 * Time passes in ticks, as long as it likes between any two steps: so each process may be stopped for any time before
 * each of its steps, and for ever (it is killed there), in the middle of a removal too. The store ends the holder's lease at
 * any moment, however much of its time is left (a leader that was stopped and resumed does that); for up to ELECTION
 * ticks after that a server that does not know it yet may acknowledge a renewal. All clocks run at the same rate.
 *
 * A transaction of the store is one step. A renewal is three: it is sent, acknowledged, heard of.
 *
 * Safety: no taker has the permit while the holder is valid: has not heard of its loss, nor is beyond the time that it reckons. At most one taker has it.
 */
#ifndef NT
#define NT 2
#endif
#ifndef TTL
#define TTL 2
#endif
#ifndef ELECTION
#define ELECTION 1
#endif
#ifdef MUTANT_DELAY_OF_TTL
#define DELAY TTL
#else
#define DELAY (TTL + ELECTION)
#endif
#ifndef END
#define END 10		/* ticks */
#endif
#define RENEWALS 2

byte now = 1;

/* The store: the holder's lease, q/ID, g/ID; what takers have. */
bool alive, place, twin;
byte ended;			/* when the store has ended the lease */
byte takers;			/* twins of takers */
byte grants;			/* the revision of the last twin that was put */

/* What was free when it was read is given only if no twin was put since. */
#ifdef MUTANT_NOT_COMPARED
#define unchanged true
#else
#define unchanged (grants == saw)
#endif

/* The holder. */
bool holds, lost;
byte deadline;

#define valid (holds && !lost && now < deadline)
#define check assert(takers + valid <= 1)

proctype Holder() {
	byte sent, renewals, saw;
	bool acked;

	/* The time of the lease is reckoned from before it is asked for. */
	sent = now;
	atomic { alive = true; deadline = sent + TTL; sent = 0 };
	atomic {
		if
		:: alive -> place = true
		:: else -> goto end
		fi
	};
	atomic {
		if
		:: takers == 0 -> saw = grants
		:: else -> goto end
		fi
	};
	atomic {
		if
		:: place && unchanged -> twin = true; grants++; holds = true; saw = 0; check
		:: else -> goto end
		fi
	};
	do
	:: renewals < RENEWALS ->
		atomic { renewals++; sent = now };
		atomic { acked = alive || (ended > 0 && now <= ended + ELECTION) };
		atomic {
			if
#ifdef MUTANT_FROM_THE_ANSWER
			:: acked -> deadline = now + TTL
#else
			:: acked && sent + TTL > deadline -> deadline = sent + TTL
#endif
			:: !acked ->
#ifndef MUTANT_LOSS_IGNORED
				lost = true
#else
				deadline = now + TTL
#endif
			:: else
			fi;
			sent = 0; acked = false;
			check
		}
	:: atomic { valid -> holds = false; twin = false; place = false; alive = false; goto end }	/* Release */
	:: atomic { !valid -> break }
	:: atomic { !place -> lost = true; break }	/* its watch tells */
	od;
end:	skip
}

proctype Taker() {
	byte seen;	/* when it saw the twin without the place */
	byte saw;
	do
	:: atomic { !twin && takers == 0 -> saw = grants };
		if
		:: atomic { unchanged -> takers++; grants++; check; goto end }
		:: atomic { else -> saw = 0 }
		fi
	:: atomic { twin && !place && seen == 0 -> seen = now }
	:: seen > 0 && now >= seen + DELAY ->
		atomic {
			if
			:: twin && !place -> twin = false
			:: else
			fi;
			seen = 0
		}
#ifdef MUTANT_NO_TWIN
	:: atomic { !place && takers == 0 -> takers++; grants++; check; goto end }
#endif
#ifdef MUTANT_NO_DELAY
	:: atomic { twin && !place -> twin = false }
#endif
	:: now == END -> break
	od;
end:	skip
}

proctype Store() {
	atomic { alive -> alive = false; place = false; ended = now }
}

proctype Clock() {
	do
	:: atomic { now < END -> now++; check }
	:: now == END -> break
	od
}

init {
	byte i;
	atomic {
		do
		:: i < NT -> run Taker(); i++
		:: else -> break
		od;
		i = 0;
		run Holder(); run Store(); run Clock()
	}
}
