package command

import (
	"fmt"
	"io"
	"time"
)

// A permit of a store lasts as long as the store hears of procsem. When it is about to be lost the command is ended, so that it
// does not run beside the next holder's.

// The parts of the TTL that are left when a command is asked to end, and when it is killed.
const (
	endingPart  = 4
	killingPart = 20
)

// lossLook is the longest time between two looks at what is left, for timers stand still while the machine is suspended.
const lossLook = time.Second / 4

// A loss is what is to happen to the command.
type loss int

const (
	ending   loss = iota
	regained      // procsem has reached the store again: nothing more is to happen
	killing
)

// watchLoss tells on the channel what is to happen. When the permits are lost others get them as soon as no time is left (see
// Store.Left), so the command is ended before.
func (all holdings) watchLoss(done <-chan struct{}) <-chan loss {
	tell, lost := make(chan loss), make(chan struct{}, len(all))
	for _, h := range all {
		go func() {
			select {
			case <-h.permit.Lost():
				lost <- struct{}{}
			case <-done:
			}
		}()
	}
	go func() {
		asked := false
		for {
			left, held := all.left()
			what, now := killing, true
			switch {
			case left <= clusterAt.TTL/killingPart:
			case !held || left <= clusterAt.TTL/endingPart:
				what, now, asked = ending, !asked, true
				left -= clusterAt.TTL / killingPart
			default:
				what, now, asked = regained, asked, false
				left -= clusterAt.TTL / endingPart
			}
			if now {
				select {
				case tell <- what:
				case <-done:
					return
				}
			}
			if what == killing {
				return
			}
			select {
			case <-lost:
			case <-time.After(min(left, lossLook)):
			case <-done:
				return
			}
		}
	}()
	return tell
}

// left returns for how long nobody else can have the permits, and whether none is lost.
func (all holdings) left() (least time.Duration, held bool) {
	least, held = clusterAt.TTL, true
	for _, h := range all {
		least = min(least, cluster.Left(h.permit))
		held = held && h.permit.Err() == nil
	}
	return least, held
}

// hold reports whether the permits are held, and will be for long enough to start something.
func (all holdings) hold() bool {
	left, held := all.left()
	return held && left > clusterAt.TTL/endingPart
}

// lose does to the command what watchLoss says. As strike, it speaks after that.
func (c *clock) lose(what loss, p child) {
	switch what {
	case ending:
		c.lost = true
		p.endFamily()
		c.say("the permit is being lost, as %s does not answer or has taken it back: the command is ended", clusterBy)
	case regained:
		c.lost = false
		p.forgetFamily()
		c.say("%s answers again: the permit is held, as it was all the time", clusterBy)
	case killing:
		c.lost = true
		err := p.killFamily()
		text := "the permit is lost, and the command runs on: it is killed"
		if err != nil {
			text = fmt.Sprintf("the permit is lost, and the command could not be killed (%v): it may run beside the next holder's", err)
		}
		c.say("%s", text)
	}
}

// A voice says things one after the other, and keeps nobody waiting: whoever reads them may have stopped to.
type voice struct {
	to   io.Writer
	last chan struct{} // closed when what was said last is written; nil: nothing was
}

func (v *voice) say(format string, args ...any) {
	before, written := v.last, make(chan struct{})
	v.last = written
	go func() {
		defer close(written)
		if before != nil {
			<-before
		}
		complain(v.to, format, args...)
	}()
}

// end waits until all is written, but not for long.
func (v *voice) end() {
	if v.last == nil {
		return
	}
	select {
	case <-v.last:
	case <-time.After(moment):
	}
}
