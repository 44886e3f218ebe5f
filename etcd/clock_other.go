//go:build !linux

package etcd

import "time"

func sinceBoot() (time.Duration, bool) { return 0, false }

func machineSinceBoot() string { return "" }
