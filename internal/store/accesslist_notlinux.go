//go:build unix && !linux

package store

import "os"

func copyAccessList(*os.File, *os.File) error { return nil }
