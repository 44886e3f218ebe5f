package command

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/procsem/semaphore/internal/doccode"
)

// The blocks of shell commands in docs and README.md run as they are written there, with stand-ins for what a machine may not
// have. Those of recipes have tests of their own, which say more.

// blocks are the blocks that run here, by their first lines, and what their commands write down.
var blocks = map[string]string{
	"procsem run -n4 build make -j8":                     "make -j8\nmake -j8\nmake -j8\ndeploy\nmake\ndeploy\n",
	"procsem run --dir ~/.cache/tool -n 1":               "tool --refresh\n",
	"procsem run -k 2 -n 8 build make -j2":               "make -j2\nmake install\n",
	"procsem run -n 4 --also db=1 --also net build make": "make\n",
	"procsem run -n 4 -c 'exec ./server":                 "./server --port 8000\n./train\n",
	"procsem run --every 1h -w 0 report ./report":        "./report\n./call\n",
	`exec 9<>"$(procsem path build)"`:                    "make\n",
	`for f in *.c; do procsem run --bg`:                  "cc -c a.c\n",
}

// elsewhere are the blocks that do not, and why.
var elsewhere = map[string]string{
	"cp docs/systemd/procsem.service":                      "tests of systemd's tools verify the files",
	"go install github.com/procsem/semaphore/cmd/procsem@": "what is published",
	"go get github.com/procsem/semaphore":                  "what is published",
	"for i in 1 2 3 4 5 6; do":                             ".ci/run: the README's commands",
	`bin=$(mktemp -d) && go build -o "$bin" ./cmd/procsem`: ".ci/run: etcd",
	"go test ./...": ".ci/run",
	"bash .ci/wine": ".ci/run",
}

func TestBlocksOfDocuments(t *testing.T) {
	recipes := strings.Join(slices.Collect(maps.Values(chapter(t, "command.md", "Recipes"))), "")
	used := make(map[string]bool)
	for _, s := range doccode.Blocks(t, "../..", "sh") {
		block := s.Code
		if strings.Contains(recipes, block) {
			continue
		}
		first, _, _ := strings.Cut(block, "\n")
		want, runs := startOf(blocks, block, used)
		if _, known := startOf(elsewhere, block, used); !runs {
			if !known {
				t.Errorf("%s: the block that begins with %q is not run by a test", s.Where, first)
			}
			continue
		}
		if strings.Contains(block, "lock --fd") && os.Getenv("SEMAPHORE_TEST_NO_OFD_LOCKS") != "" {
			continue // TestLockInScript is skipped
		}
		t.Run(s.Where+": "+first, func(t *testing.T) {
			p := newPlace(t)
			p.extra = []string{"HOME=" + p.dir}
			if err := os.MkdirAll(filepath.Join(p.dir, ".cache/tool"), 0o700); err != nil {
				t.Fatal(err)
			}
			p.touch("a.c")
			for _, name := range []string{"make", "deploy", "tool", "update", "cc", "./report", "./call", "./server", "./train"} {
				p.standIn(name, `echo "`+name+`" "$@" >>"$LOG"`)
			}
			if got := p.run(block); got.status != 0 || p.log() != want {
				t.Errorf("%+v, and commands have run:\n%swant:\n%s", got, p.log(), want)
			}
		})
	}
	for _, all := range []map[string]string{blocks, elsewhere} {
		for start := range all {
			if !used[start] {
				t.Errorf("no block begins with %q", start)
			}
		}
	}
}

// startOf returns what a map has for the beginning of a block.
func startOf(all map[string]string, block string, used map[string]bool) (string, bool) {
	for start, what := range all {
		if strings.HasPrefix(block, start) {
			used[start] = true
			return what, true
		}
	}
	return "", false
}
