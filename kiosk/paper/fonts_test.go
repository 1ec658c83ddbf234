package paper

import (
	"encoding/binary"
	"testing"
	"unicode"
)

// glyphs returns whether a TrueType font has a glyph for a character (its cmap of format 4).
func glyphs(t *testing.T, ttf []byte) func(rune) bool {
	t.Helper()
	u16 := func(at int) int { return int(binary.BigEndian.Uint16(ttf[at:])) }
	u32 := func(at int) int { return int(binary.BigEndian.Uint32(ttf[at:])) }
	table := 0
	for i := range u16(4) {
		if at := 12 + 16*i; string(ttf[at:at+4]) == "cmap" {
			table = u32(at + 8)
		}
	}
	for i := range u16(table + 2) {
		at := table + u32(table+4+8*i+4)
		if u16(at) != 4 {
			continue
		}
		n := u16(at+6) / 2
		return func(r rune) bool {
			c := int(r)
			for s := range n {
				if c > u16(at+14+2*s) {
					continue
				}
				begin, delta, offset := u16(at+16+2*n+2*s), u16(at+16+4*n+2*s), u16(at+16+6*n+2*s)
				switch {
				case c < begin:
					return false
				case offset == 0:
					return (c+delta)&0xFFFF != 0
				}
				return u16(at+16+6*n+2*s+offset+2*(c-begin)) != 0
			}
			return false
		}
	}
	t.Fatal("no cmap of format 4")
	return nil
}

func TestFonts(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ttf   []byte
		table *unicode.RangeTable
	}{
		{"Titillium Web", titilliumRegular, narrow},
		{"Titillium Web bold", titilliumBold, narrow},
		{"Noto Sans", notoRegular, wide},
		{"Noto Sans bold", notoBold, wide},
	} {
		t.Run(tt.name, func(t *testing.T) {
			has := glyphs(t, tt.ttf)
			for r := rune(0); r < 0x10000; r++ {
				if unicode.Is(tt.table, r) && !has(r) {
					t.Errorf("no glyph for %q (%U)", r, r)
				}
			}
			for _, w := range []string{"it", "en"} {
				s, _ := slipWords(w)
				for _, text := range append(s.steps, s.title, s.note, textAware, textPrivacy, textStamp, textDuty) {
					for _, r := range text {
						if !has(r) {
							t.Errorf("no glyph for %q of our own words", r)
						}
					}
				}
			}
		})
	}
}

// TestWrapFits wraps what is hard to wrap: no line may be wider than its column, and nothing may be lost.
func TestWrapFits(t *testing.T) {
	s := newSheet("", nil, 0)
	s.font("", valueSize, 0)
	for _, text := range []string{
		"Wolfeschlegelsteinhausenbergerdorffwelchevoralternwarengewis", "WWWWWWWWWWWWWWWWWWWW iiii W", "a b c d e f g h i j k l m n o", "", "è",
	} {
		for _, w := range []float64{3, 10, 31.7, 90} {
			joined := ""
			for _, l := range s.wrap(text, w) {
				if got := s.pdf.GetStringWidth(l); got > w+0.01 && len([]rune(l)) > 1 {
					t.Errorf("%q is %.1f wide, not %.1f", l, got, w)
				}
				joined += l
			}
			if squeeze(joined) != squeeze(text) {
				t.Errorf("%q became %q", text, joined)
			}
		}
	}
}

func squeeze(s string) string {
	out := ""
	for _, r := range s {
		if r != ' ' {
			out += string(r)
		}
	}
	return out
}
