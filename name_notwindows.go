//go:build !windows

package semaphore

func nameLength(name string) (n int, unit string) { return len(name), "bytes" }

func withoutNamespace(name string) string { return name }

func checkSystemName(string) error { return nil }
