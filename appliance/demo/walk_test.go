package main

import (
	"net/url"
	"slices"
	"testing"
)

const testPage = `<!doctype html><link rel="stylesheet" href="/s/a.css"><script type="module" src="/s/a.js"></script>
<h1> Come <b>si chiama</b>? </h1><p hidden>no</p><style>p{}</style>
<form action="/search"><input name="q"></form>
<form id="f" method="post" action="/k/1/person">
 <button class="vh" name="action" value="enter">Avanti</button>
 <input type="hidden" name="group" value="residence"><input type="text" name="name" value="già scritto">
 <label><input type="radio" name="status" value="free"></label><label><input type="radio" name="status" value="married" checked></label>
 <input type="checkbox" name="fact" value="residence" checked><input type="checkbox" name="fact" value="family"><input type="checkbox" name="fact" value="civil">
 <select name="lang"><option>it</option><option value="en" selected>English</option></select>
 <textarea name="note">due
 righe</textarea>
 <button name="key" value="1">1</button><button type="button" name="never" value="x">x</button><input type="text" name="off" disabled>
</form>
<button form="f" name="action" value="back">Indietro</button><img src="/k/1/page/1.png"><a href="/k/1/help">Aiuto</a>`

func TestReadPage(t *testing.T) {
	p, err := readPage([]byte(testPage))
	if err != nil {
		t.Fatal(err)
	}
	if p.title != "Come si chiama?" {
		t.Errorf("title: got %q", p.title)
	}
	if want := []string{"/s/a.css", "/s/a.js", "/k/1/page/1.png"}; !slices.Equal(p.assets, want) {
		t.Errorf("assets: got %q, want %q", p.assets, want)
	}
	if len(p.forms) != 2 || p.forms[0].post || !p.forms[1].post {
		t.Fatalf("forms: got %+v", p.forms)
	}
	for _, tt := range []struct {
		name string
		give answers
		want url.Values // of what is answered and of buttons
	}{
		{"the first button is pressed", nil, url.Values{"action": {"enter"}, "name": {"già scritto"}, "status": {"married"}, "fact": {"residence"}, "lang": {"en"}}},
		{"a button that is named is the only one", answers{"key": "1"}, url.Values{"key": {"1"}, "action": nil}},
		{"a button may stand outside of its form", answers{"action": "back"}, url.Values{"action": {"back"}}},
		{"text is typed over", answers{"name": "Zoë"}, url.Values{"name": {"Zoë"}, "group": {"residence"}}},
		{"one radio button is chosen", answers{"status": "free"}, url.Values{"status": {"free"}}},
		{"boxes are ticked", answers{"fact": "family,civil"}, url.Values{"fact": {"residence", "family", "civil"}}},
		{"an option is chosen", answers{"lang": "it"}, url.Values{"lang": {"it"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := p.forms[1].fill(tt.give)
			if !ok {
				t.Fatal("the form does not fit")
			}
			for name, want := range tt.want {
				if !slices.Equal(got[name], want) {
					t.Errorf("%s: got %q, want %q", name, got[name], want)
				}
			}
		})
	}
	for _, give := range []answers{{"status": "widowed"}, {"never": "x"}, {"off": "x"}, {"lang": "fr"}, {"key": "2"}} {
		if v, ok := p.forms[1].fill(give); ok {
			t.Errorf("%v fits: %v", give, v)
		}
	}
}

func FuzzReadPage(f *testing.F) {
	f.Add([]byte(testPage))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := readPage(b); err == nil {
			for _, form := range p.forms {
				form.fill(answers{"name": "x"})
			}
		}
	})
}
