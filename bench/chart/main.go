// Chart draws a chart of durations, as bench -o does: what it shows comes as JSON from standard input, and the SVG
// goes to standard output. It is a program of its own so that the programs that are measured don't have a plotter in them.
package main

import (
	"encoding/json"
	"fmt"
	"image/color"
	"io"
	"log"
	"math"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A chart has a row for each of those that are compared, and in it a dot for each series.
type chart struct {
	Title  string
	Below  string // where and when
	Series []string
	Rows   []row
}

type row struct {
	Name   string
	Ours   bool
	Values []float64 // ns; 0 if there is none
	Label  string    // beside the dot, if there is one series
}

func main() {
	log.SetFlags(0)
	var c chart
	err := json.NewDecoder(os.Stdin).Decode(&c)
	if err == nil {
		err = c.draw(os.Stdout)
	}
	if err != nil {
		log.Fatal("chart: ", err)
	}
}

// draw uses a scale of powers of ten: there is everything from nanoseconds to seconds.
func (c chart) draw(w io.Writer) error {
	slices.Reverse(c.Rows) // the last one is at the bottom
	var names []string
	points := make([][2]plotter.XYs, len(c.Series)) // theirs and ours
	var labels plotter.XYLabels
	least, most := math.Inf(1), math.Inf(-1)
	for y, r := range c.Rows {
		names = append(names, r.Name)
		for i, x := range r.Values {
			if x > 0 {
				whose := theirs
				if r.Ours {
					whose = ours
				}
				points[i][whose] = append(points[i][whose], plotter.XY{X: x, Y: float64(y)})
				least, most = min(least, x), max(most, x)
			}
		}
		if r.Label != "" {
			labels.XYs = append(labels.XYs, plotter.XY{X: r.Values[0], Y: float64(y)})
			labels.Labels = append(labels.Labels, r.Label)
		}
	}
	if most < least {
		return fmt.Errorf("%s: no values", c.Title)
	}

	plot.DefaultFont.Typeface, plot.DefaultFont.Variant = "Liberation", "Sans"
	plotter.DefaultFont = plot.DefaultFont
	p := plot.New()
	p.Legend.TextStyle.Font.Size = vg.Points(10)
	p.BackgroundColor = color.White // also where the page around it is dark
	p.Title.Text = c.Title
	p.Title.Padding = vg.Points(8)
	p.X.Scale = plot.LogScale{}
	p.X.Tick.Marker = decades{}
	p.NominalY(names...)
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = color.Gray{235}, color.Gray{215}
	p.Add(grid)
	p.Legend.Top = true
	p.Legend.XOffs, p.Legend.Padding = vg.Points(-4), vg.Points(3)
	for i, both := range points {
		for whose, xys := range both {
			if len(xys) == 0 {
				continue
			}
			dots, err := plotter.NewScatter(xys)
			if err != nil {
				return err
			}
			dots.GlyphStyle = draw.GlyphStyle{Color: shade(whose, i, len(points)), Radius: vg.Points(3.5), Shape: draw.CircleGlyph{}}
			p.Add(dots)
			if len(points) > 1 && whose == ours {
				p.Legend.Add(c.Series[i], dots)
			}
		}
	}
	if len(labels.XYs) > 0 {
		l, err := plotter.NewLabels(labels)
		if err != nil {
			return err
		}
		l.Offset = vg.Point{X: vg.Points(6), Y: vg.Points(-3)}
		p.Add(l)
	}
	// Whole powers of ten, and room for labels and the legend on the right.
	p.X.Min, p.X.Max = math.Pow(10, math.Floor(math.Log10(least))), math.Pow(10, math.Ceil(math.Log10(most)+0.5))
	p.Y.Min, p.Y.Max = -0.7, float64(len(names))-0.3

	canvas := vgsvg.New(vg.Points(640), vg.Points(90+18*float64(len(names))))
	dc := draw.New(canvas)
	p.Draw(draw.Crop(dc, 8, -16, 24, -6))
	below := p.X.Tick.Label
	below.Font.Size, below.XAlign, below.YAlign, below.Color = vg.Points(9), draw.XRight, draw.YBottom, color.Gray{90}
	dc.FillText(below, vg.Point{X: dc.Max.X - 16, Y: 6}, c.Below)
	var svg strings.Builder
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	// Letters of these are as wide as those that the places of texts were computed with.
	_, err := strings.NewReplacer("font-family:Liberation Sans;", "font-family:Liberation Sans,Arial,Helvetica,sans-serif;").WriteString(w, svg.String())
	return err
}

const theirs, ours = 0, 1

// decades are ticks at the powers of ten.
type decades struct{}

func (decades) Ticks(least, most float64) (ticks []plot.Tick) {
	units := []string{"ns", "µs", "ms", "s"}
	for e := int(math.Ceil(math.Log10(least) - 1e-9)); e <= int(math.Floor(math.Log10(most)+1e-9)); e++ {
		unit := min(max(e/3, 0), len(units)-1)
		ticks = append(ticks, plot.Tick{Value: math.Pow10(e), Label: fmt.Sprintf("%g %s", math.Pow10(e-3*unit), units[unit])})
	}
	return ticks
}

// shade goes from a light color to a dark one: blue for ours, gray for theirs.
func shade(whose, i, n int) color.Color {
	part := 1.0
	if n > 1 {
		part = float64(i) / float64(n-1)
	}
	mix := func(light, dark float64) uint8 { return uint8(light + part*(dark-light)) }
	if whose == theirs {
		return color.Gray{mix(190, 60)}
	}
	return color.RGBA{mix(120, 10), mix(190, 60), mix(245, 170), 255}
}
