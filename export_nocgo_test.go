//go:build !(cgo && unix)

package semaphore

const LibcPolls, LibcIsGlibc, LibcIsMusl = false, false, false

func LibcPath(string) string { return "" }
