package main

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

func TestChart(t *testing.T) {
	c := chart{Title: "Time", Below: "today", Series: []string{"few", "many"}, Rows: []row{
		{Name: "ours", Ours: true, Values: []float64{7.5, 3e6}},
		{Name: "theirs", Values: []float64{0, 2e9}},
	}}
	var svg strings.Builder
	if err := c.draw(&svg); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(strings.NewReader(svg.String())); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{">Time<", ">today<", ">few<", ">many<", ">ours<", ">theirs<", ">1 ns<", ">100 µs<", ">10 s<", "fill:#FFFFFF", "Arial"} {
		if !strings.Contains(svg.String(), want) {
			t.Errorf("the chart has no %q", want)
		}
	}
	if n := strings.Count(svg.String(), "<path"); n < 5 {
		t.Errorf("the chart has %d paths, and 3 dots and a legend", n)
	}
	if (chart{Title: "empty", Series: []string{"a"}}).draw(io.Discard) == nil {
		t.Error("a chart without values is drawn")
	}
}
