package semtest

import "time"

// SpeakAfter sets for how long a wait says nothing.
func SpeakAfter(d time.Duration) (restore func()) {
	before := speakAfter
	speakAfter = d
	return func() { speakAfter = before }
}
