package store_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/store"
	. "github.com/procsem/semaphore/internal/testkit"
)

// No network filesystem can be mounted here, so a local one's type stands in.
func TestFlockRefusesNetworkFilesystem(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SEMAPHORE_DIR", dir)
	Must(t, store.CheckLocal(dir))
	var st unix.Statfs_t
	Must(t, unix.Statfs(dir, &st))
	store.NetworkTypes[uint32(st.Type)] = "pretended"
	defer delete(store.NetworkTypes, uint32(st.Type))
	_, err := semaphore.Open("x", semaphore.WithEngine(semaphore.EngineFlock))
	WantErr(t, "Open", err, semaphore.ErrUnsupported)
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "pretended") {
		t.Errorf("%v: names neither directory nor filesystem", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	if store.NetworkTypes[unix.NFS_SUPER_MAGIC] != "NFS" {
		t.Error("NFS is not in the table")
	}
}
