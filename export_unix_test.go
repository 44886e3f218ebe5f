//go:build unix

package semaphore

var (
	CheckLocal     = checkLocal
	StoresPatience = &storesPatience
)
