package escpos

// cp858 is the upper half of code page 858, from 0x80: page 19 of the printers, code page 850 with the euro.
const cp858 = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐" +
	"└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈ€ÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u00ad±‗¾¶§÷¸°¨·¹³²■\u00a0"

// alphabet says what the letters of a stretch of Unicode are written as, one for one: what code page 858 has of them, by
// taking away one accent after the other. '*' stands for several letters, see digraphs, and '?' for what has no letter.
type alphabet struct {
	first   rune
	letters string
}

var alphabets = []alphabet{
	{0x0100, "AaAaAaCcCcCcCcDdDdEeEeEeEeEeGgGgGgGgHhHhIiIiIiIiIi**JjKkkLlLlLlL" +
		"lLlNnNnNn*NnOoOoOo**RrRrRrSsSsSsSsTtTtTtUuUuUuUuUuUuWwYyYZzZzZzs" +
		"bBBbBbOCcDDDddEEEFƒGG*IIKkllMNnOOo**PpRSsSstTtTUuUVYyZzZZzz255'w" +
		"|||!*********AaIiOoUuÜüÜüÜüÜüeÄäAaÆæGgGgKkOoOoZzj***Gg*WNnÅåÆæØø" +
		"AaAaEeEeIiIiOoOoRrRrUuUuSsTtYyHhNdOoZzAaEeÖöÕõOoOoYylntj**ACcLTs" +
		"z''BUVEeJjQqRrYy"},
	{0x1e00, "AaBbBbBbÇçDdDdDdDdDdEeEeEeEeEeFfGgHhHhHhHhHhIiÏïKkKkKkLlLlLlLlMm" +
		"MmMmNnNnNnNnÕõÕõOoOoPpPpRrRrRrRrSsSsSsSsSsTtTtTtTtUuUuUuUuUuVvVv" +
		"WwWwWwWwWwXxXxYyZzZzZzhtwyasss*dAaAaÂâÂâÂâÂâAaAaAaAaAaAaEeEeEeÊê" +
		"ÊêÊêÊêEeIiIiOoOoÔôÔôÔôÔôOoOoOoOoOoOoUuUuUuUuUuUuUuYyYyYyYyLlVvYy"},
	{0x0370, "??????????????;??????¨A·EII?O?YOiAVGDEZI*IKLMNXOPR?STYF**OIYaeii" +
		"yavgdezi*iklmnxoprsstyf**oiyoyo"},
	{0x0400, "E**G**I*J**CKIU*ABVGDE*ZIJKLMNOPRSTUF*****\"Y'E**abvgde*zijklmnop" +
		"rstuf*****\"y'e**e**g**i*j**ckiu*"},
}

// digraphs are letters that are written as several, or signs that are.
var digraphs = map[rune]string{
	'Ĳ': "IJ", 'ĳ': "ij", 'Œ': "OE", 'œ': "oe", 'Ǆ': "DZ", 'ǅ': "Dz", 'ǆ': "dz", 'Ǉ': "LJ", 'ǈ': "Lj", 'ǉ': "lj",
	'Ǌ': "NJ", 'ǋ': "Nj", 'ǌ': "nj", 'Ǳ': "DZ", 'ǲ': "Dz", 'ǳ': "dz", 'Ƣ': "OI", 'ƣ': "oi", 'ƕ': "hv", 'Ƕ': "Hv",
	'ȸ': "db", 'ȹ': "qp", 'ẞ': "SS", 'ŉ': "'n", 'Θ': "Th", 'θ': "th", 'Χ': "Ch", 'χ': "ch", 'Ψ': "Ps", 'ψ': "ps",
	'Ж': "Zh", 'ж': "zh", 'Х': "Kh", 'х': "kh", 'Ц': "Ts", 'ц': "ts", 'Ч': "Ch", 'ч': "ch", 'Ш': "Sh", 'ш': "sh",
	'Щ': "Shch", 'щ': "shch", 'Ю': "Yu", 'ю': "yu", 'Я': "Ya", 'я': "ya", 'Є': "Ye", 'є': "ye", 'Ї': "Yi", 'ї': "yi",
	'Ђ': "Dj", 'ђ': "dj", 'Љ': "Lj", 'љ': "lj", 'Њ': "Nj", 'њ': "nj", 'Џ': "Dz", 'џ': "dz", 'Ё': "Yo", 'ё': "yo",
	'Ѕ': "Dz", 'ѕ': "dz",
	'‐': "-", '‑': "-", '‒': "-", '–': "-", '—': "-", '―': "-", '−': "-", '‘': "'", '’': "'", '‚': "'", '‛': "'",
	'′': "'", 'ʼ': "'", '“': "\"", '”': "\"", '„': "\"", '″': "\"", '‹': "<", '›': ">", '…': "...", '•': "·", '№': "No",
	'™': "TM", 'ﬁ': "fi", 'ﬂ': "fl", '≤': "<=", '≥': ">=", '→': "->", '←': "<-", 'ə': "e", '⁄': "/",
}

// composed are the letters of code page 858 that a letter and a combining mark after it make: pairs of the letter alone and
// with its mark. Other marks are left out, as from the letters above.
var composed = map[rune]string{
	0x0300: "AÀEÈIÌOÒUÙaàeèiìoòuù",
	0x0301: "AÁEÉIÍOÓUÚYÝaáeéiíoóuúyý",
	0x0302: "AÂEÊIÎOÔUÛaâeêiîoôuû",
	0x0303: "AÃNÑOÕaãnñoõ",
	0x0308: "AÄEËIÏOÖUÜaäeëiïoöuüyÿ",
	0x030a: "AÅaå",
	0x0327: "CÇcç",
}
