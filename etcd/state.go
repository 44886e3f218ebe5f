package etcd

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/procsem/semaphore"
)

// What a semaphore is in the store, below its prefix:
//
//	limit   the limit
//	q/ID    a waiter or holder: leased, so it goes with the process. The revision of its creation is the place in the line.
//	g/ID    what ID holds. It is not leased: it stays when the lease is gone, and counts on.
//	s/ID/M  when programs of the machine M first saw that ID is lost, for those of them that come later.
//
// Only what is in g/ counts as held. Each g/ID is put by a transaction that asks whether, since the state was read in which the
// permits were free, the limit was put or anything in g/ was (see grantIf). Deletions only make more of them free. So at the
// moment of each grant no more are held than the limit says. What such a transaction leaves of the permits it tells the next one in the line, in q/ID:
// since its revision the same can be asked without another look (see after).

// A member is the value of q/ID and of g/ID.
type member struct {
	Serial int64  `json:"serial"`
	N      int    `json:"n"` // permits that are wanted, or held; semaphore.All while it waits
	Host   string `json:"host"`
	PID    int    `json:"pid"`
	Label  string `json:"label,omitempty"`
	Since  int64  `json:"since,omitempty"` // when it got them, by its own clock: Unix time in ns. In q/ID: it waits no more
	Came   int64  `json:"came,omitempty"`  // when it began to wait, by the same clock; 0: it did not have to
	Delay  int64  `json:"delay"`           // the loss delay of its holder, in ns
	// Of one that was in front of the line: so many are held, by most, when it has got its own, under that limit, which was put at that revision.
	Held    int   `json:"held,omitempty"`
	Limit   int   `json:"limit,omitempty"`
	LimitAt int64 `json:"limitAt,omitempty"`
}

func (m member) String() string {
	text, _ := json.Marshal(m) // it has nothing that cannot be written
	return string(text)
}

// memberOf reads one. What is no member is one of which nothing is known.
func memberOf(kv *mvccpb.KeyValue) (m member) {
	_ = json.Unmarshal(kv.Value, &m)
	return m
}

// A limit is the value of the key of that name.
type limit struct {
	N   int    `json:"n"`
	Set bool   `json:"set,omitempty"` // by SetLimit: an operator's word, which no WithLimit changes
	By  string `json:"by,omitempty"`  // the call of Open that has made the semaphore, for which it is new also if the answer did not come
}

// An entry is somebody in the line, or what somebody holds.
type entry struct {
	member
	created int64 // revision
}

// A state is what a semaphore was at a revision.
type state struct {
	revision int64
	limit    limit
	limitAt  int64               // the revision that put it; 0: there is none
	line     map[string]entry    // q/
	held     map[string]entry    // g/
	seen     map[string]sighting // s/, of this machine, by ID
}

// apply makes the state what it is after a key was put, or deleted if kv has no value.
func (s *state) apply(key string, kv *mvccpb.KeyValue, deleted bool) {
	kind, id, _ := strings.Cut(key, "/")
	in := s.line
	switch kind {
	case "limit":
		s.limit, s.limitAt = limit{}, 0
		if !deleted {
			_ = json.Unmarshal(kv.Value, &s.limit)
			s.limitAt = kv.ModRevision
		}
		return
	case "q":
	case "g":
		in = s.held
	case "s":
		if id, machine, _ := strings.Cut(id, "/"); machine == thisMachine() && !deleted {
			var seen sighting
			_ = json.Unmarshal(kv.Value, &seen)
			s.seen[id] = seen
		}
		return
	default:
		return // of a later version
	}
	if deleted {
		delete(in, id)
		return
	}
	in[id] = entry{memberOf(kv), kv.CreateRevision}
}

// stateOf makes a state of what a range over the semaphore's prefix has returned.
func stateOf(prefix string, revision int64, kvs []*mvccpb.KeyValue) *state {
	s := &state{revision: revision, line: make(map[string]entry), held: make(map[string]entry), seen: make(map[string]sighting)}
	for _, kv := range kvs {
		s.apply(strings.TrimPrefix(string(kv.Key), prefix), kv, false)
	}
	return s
}

// sum returns how many permits are held, those of lost holders among them.
func (s *state) sum() (n int) {
	for _, e := range s.held {
		n += max(1, e.N)
	}
	return n
}

// waiters returns who waits, in their order.
func (s *state) waiters() (ids []string) {
	for id, e := range s.line {
		if _, holds := s.held[id]; !holds && e.Since == 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(s.line[a].created, s.line[b].created) })
	return ids
}

// passable reports whether a waiter keeps nobody up: it wants more than there are.
func (s *state) passable(id string) bool { return s.line[id].N > s.limit.N }

// after returns what id knows when other, the one ahead of it, has got its permits, as its place now says, put at that revision: that id is in front,
// how many are held by most, and the limit. It is nil if that does not tell it, or too few are free. Nobody is between: who waits between the two
// wants more than the limit, and nobody can have come there. Who was before other was served, or wants more, too. A server that lags behind may tell
// what was before the state: another place that other had, whose ID was used again.
func (s *state) after(id, other string, place *mvccpb.KeyValue) *state {
	m, told := memberOf(place), *s
	if m.LimitAt > s.limitAt { // the news of the limit is still under way
		told.limit.N, told.limitAt = m.Limit, m.LimitAt
	}
	if ahead, _ := told.ahead(id); ahead != other || place.CreateRevision != s.line[other].created || m.LimitAt != told.limitAt {
		return nil
	}
	told.revision = place.ModRevision
	told.line = map[string]entry{id: s.line[id]}
	told.held = map[string]entry{"": {member: member{N: m.Held}}}
	if told.fits(s.line[id].N) == 0 {
		return nil
	}
	return &told
}

// ahead returns the last one of those that wait before id and are to be served before it.
func (s *state) ahead(id string) (other string, is bool) {
	for _, w := range s.waiters() {
		if w == id {
			break
		}
		if !s.passable(w) {
			other, is = w, true
		}
	}
	return other, is
}

// fits returns how many permits one gets that wants n, 0 if these are not free.
func (s *state) fits(n int) int {
	free := s.limit.N - s.sum()
	switch {
	case n == semaphore.All && free == s.limit.N:
		return max(0, free)
	case n == semaphore.All || n > free:
		return 0
	}
	return n
}
