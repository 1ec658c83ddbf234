package paper

import (
	_ "embed"
	"unicode"

	"codeberg.org/go-pdf/fpdf"
)

// Titillium Web is the typeface of the Italian public administration. Its Latin reaches from Portuguese to Romanian and
// Polish, but not to Vietnamese, and it has no Greek and no Cyrillic: a document with a name that needs those is set in
// Noto Sans as a whole. Both come with the SIL Open Font License, whose text is beside them.
var (
	//go:embed fonts/TitilliumWeb-Regular.ttf
	titilliumRegular []byte
	//go:embed fonts/TitilliumWeb-Bold.ttf
	titilliumBold []byte
	//go:embed fonts/NotoSans-Regular.ttf
	notoRegular []byte
	//go:embed fonts/NotoSans-Bold.ttf
	notoBold []byte
)

// narrow is what Titillium Web can print, wide what Noto Sans can: both without combining marks, which would need
// shaping. TestFonts compares them with the font files.
var (
	narrow = &unicode.RangeTable{R16: []unicode.Range16{
		{0x0020, 0x007e, 1},
		{0x00a0, 0x00ac, 1},
		{0x00ae, 0x0131, 1},
		{0x0134, 0x0137, 1},
		{0x0139, 0x013e, 1},
		{0x0141, 0x0148, 1},
		{0x014a, 0x017e, 1},
		{0x0218, 0x021b, 1},
		{0x2013, 0x2014, 1},
		{0x2018, 0x201a, 1},
		{0x201c, 0x201e, 1},
		{0x2022, 0x2022, 1},
		{0x2026, 0x2026, 1},
		{0x20ac, 0x20ac, 1},
	}}
	wide = &unicode.RangeTable{R16: []unicode.Range16{
		{0x0020, 0x007e, 1},
		{0x00a0, 0x00ac, 1},
		{0x00ae, 0x024f, 1},
		{0x0259, 0x0259, 1},
		{0x0370, 0x0377, 1},
		{0x037a, 0x037f, 1},
		{0x0384, 0x038a, 1},
		{0x038c, 0x038c, 1},
		{0x038e, 0x03a1, 1},
		{0x03a3, 0x03e1, 1},
		{0x03f0, 0x0482, 1},
		{0x048a, 0x04ff, 1},
		{0x1e00, 0x1eff, 1},
		{0x2010, 0x2015, 1},
		{0x2018, 0x201e, 1},
		{0x2022, 0x2022, 1},
		{0x2026, 0x2026, 1},
		{0x20ac, 0x20ac, 1},
	}}
)

// family is the name under which either typeface is known to a document.
const family = "text"

// addFonts gives f the typeface that can print all of texts.
func addFonts(f *fpdf.Fpdf, texts []string) {
	regular, bold := titilliumRegular, titilliumBold
	for _, t := range texts {
		for _, r := range t {
			if !unicode.Is(narrow, r) {
				regular, bold = notoRegular, notoBold
			}
		}
	}
	f.AddUTF8FontFromBytes(family, "", regular)
	f.AddUTF8FontFromBytes(family, "B", bold)
}
