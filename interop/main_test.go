package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	good := map[string]string{"p A": "pass", "p B": "pass", "p C": "fail"}
	reasons := map[string]string{"p C": "a reason"}
	with := func(m map[string]string, name, value string) map[string]string {
		m = maps.Clone(m)
		if m[name] = value; value == "" {
			delete(m, name)
		}
		return m
	}
	for _, test := range []struct {
		name            string
		results, cannot map[string]string
		wrong           []string // the beginning of each line
		added           []string
	}{
		{"as listed", good, reasons, nil, nil},
		{"a listed test fails", with(good, "p A", "fail"), reasons, []string{"p A passed before (fail)"}, nil},
		{"a listed test is skipped", with(good, "p A", "skip"), reasons, []string{"p A passed before (skip)"}, nil},
		{"a listed test vanishes", with(good, "p B", ""), reasons, []string{"p B passed before, and is not run any more"}, nil},
		{"another passes", with(good, "p D", "pass"), reasons, nil, []string{"p D"}},
		{"another fails", with(good, "p D", "fail"), reasons, []string{"p D does not pass (fail)"}, nil},
		{"what cannot pass passes", with(good, "p C", "pass"), reasons, []string{"p C passes although it cannot"}, nil},
		{"what cannot pass vanishes", with(good, "p C", ""), reasons, []string{"p C is among those that cannot pass, and is not run"}, nil},
		{"listed, and cannot", good, with(reasons, "p A", "a reason"), []string{"p A is in passes.txt, and among those that cannot pass"}, nil},
	} {
		wrong, added := compare([]string{"p A", "p B"}, test.results, test.cannot)
		if !slices.EqualFunc(wrong, test.wrong, strings.HasPrefix) || !slices.Equal(added, test.added) {
			t.Errorf("%s: got %q and %q, want %q and %q", test.name, wrong, added, test.wrong, test.added)
		}
	}
}

func TestRead(t *testing.T) {
	s := suite{module: "m", dir: "p"}
	_, got, err := s.read([]byte(`{"Action":"start","Package":"m/p"}
{"Action":"pass","Test":"TestA"}
{"Action":"skip","Test":"TestB/c d"}
{"Action":"output","Test":"Test","Output":"FAIL: m/v2@v2.0.0/x_test.go:294: x.TestD\n"}
{"Action":"output","Test":"Test","Output":"PASS: x_test.go:158: x.TestE\t0.002s\n"}
{"Action":"output","Test":"Test","Output":"PASS\n"}
{"Action":"fail","Package":"m/p"}
`))
	want := map[string]string{"m/p TestA": "pass", "m/p TestB/c d": "skip", "m/p x.TestD": "fail", "m/p x.TestE": "pass"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v and %v, want %v", got, err, want)
	}
	if _, _, err := s.read([]byte("not JSON\n")); err == nil {
		t.Error("got no error for what is not JSON")
	}
}
