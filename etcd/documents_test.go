package etcd

import (
	"strings"
	"testing"

	"github.com/procsem/semaphore/internal/doccode"
)

// The Go code of docs that needs this module compiles. The rest is tested in test/documents.
func TestGoCodeOfDocuments(t *testing.T) {
	checker := doccode.New(t, `
var (
	ctx  context.Context
	work interface{ Next() bool }
)`, "context", "time", "github.com/procsem/semaphore", "github.com/procsem/semaphore/etcd", "go.etcd.io/etcd/client/v3")
	checked := 0
	for _, s := range doccode.Blocks(t, "..", "go") {
		if strings.Contains(s.Code, "etcd.") {
			checked++
			if err := checker.Check(s); err != nil {
				t.Error(err)
			}
		}
	}
	if checked == 0 {
		t.Error("no code was found")
	}
}

// Each exported name is in an example, or needs none.
func TestExamplesShowAllNames(t *testing.T) {
	doccode.CheckShown(t, map[string][]string{"github.com/procsem/semaphore/etcd": nil})
}
