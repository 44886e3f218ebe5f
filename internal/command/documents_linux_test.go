package command

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	used := make(map[string]bool)
	for _, file := range append(files, "../../README.md", "../../CONTRIBUTING.md") {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(content)
		if before, rest, found := strings.Cut(text, "\n## Recipes\n"); found {
			_, rest, _ = strings.Cut(rest, "\n## ")
			text = before + rest
		}
		for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllStringSubmatch(text, -1) {
			block := m[1]
			first, _, _ := strings.Cut(block, "\n")
			want, runs := startOf(blocks, block, used)
			if _, known := startOf(elsewhere, block, used); !runs {
				if !known {
					t.Errorf("%s: the block that begins with %q is not run by a test", filepath.Base(file), first)
				}
				continue
			}
			if strings.Contains(block, "lock --fd") && os.Getenv("SEMAPHORE_TEST_NO_OFD_LOCKS") != "" {
				continue // TestLockInScript is skipped
			}
			t.Run(fmt.Sprintf("%s: %s", filepath.Base(file), first), func(t *testing.T) {
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
