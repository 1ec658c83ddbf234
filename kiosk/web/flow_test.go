package web

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"sportello.example/kiosk"
	"sportello.example/sync/wire"
)

// begin goes from the attract page to the first question.
func begin(t testing.TB, b *branch) *browser {
	t.Helper()
	w := b.browse()
	w.open("/k/1")
	w.on("")
	w.open("/k/1/language")
	w.press("language", "it")
	w.on("/need")
	return w
}

// ask answers the questions up to how to log in.
func ask(w *browser, holder string) {
	w.t.Helper()
	w.press("choice", "certificate")
	w.on("/recipient")
	w.press("choice", "private")
	w.on("/certificate")
	w.press("toggle", "residenza")
	w.press("action", "next")
	w.on("/holder")
	w.press("choice", holder)
	w.on("/stamp")
	w.press("choice", "exempt")
	w.on("/exemption")
	w.press("choice", "2")
}

// login logs in by phone, up to "È lei?".
func login(b *branch, w *browser) {
	w.t.Helper()
	w.on("/login")
	w.press("action", "qr")
	w.on("/qr")
	w.open("/k/1/code")
	b.set(func() { b.login = wire.LoginDone })
	w.press("action", "enter", "code", "4821 7730")
	b.await("the name", func(v kiosk.View) bool { return v.Masked != "" })
	w.open("/k/1/identity")
	w.says("M")
}

func TestCertificateByLinksAndForms(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	ask(w, "family")
	login(b, w)
	w.press("action", "yes")
	w.on("/member")
	w.press("choice", "m2")
	w.on("/review")
	w.says("Mario")
	w.says("Lucia")
	w.says("Residenza")
	w.press("", "")
	b.stage(kiosk.StagePreview)
	w.open("/k/1/preview")
	w.says("È giusto?")
	w.open("/k/1/page/1.png")
	if w.status != http.StatusOK || w.header.Get("Content-Type") != "image/png" || w.header.Get("Cache-Control") != "no-store" {
		t.Errorf("picture: %d %v", w.status, w.header)
	}
	w.open("/k/1/preview")
	w.press("action", "print")
	w.on("/printing")
	b.job <- nil
	b.stage(kiosk.StageTake)
	w.open("/k/1/take")
	w.press("action", "all")
	w.on("/goodbye")
	if got := w.header.Get("Clear-Site-Data"); got != `"cookies"` {
		t.Errorf("Clear-Site-Data: %s", got)
	}
	w.open("/k/1")
	w.on("")
}

func TestBackKeepsAnswers(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	ask(w, "self")
	w.on("/login")
	for _, page := range []string{"exemption", "stamp", "holder", "certificate", "recipient", "need"} {
		var back string
		for a := range find(w.doc, "a") {
			if strings.Contains(textOf(a), "Indietro") {
				back = attr(a, "href")
			}
		}
		w.open(back)
		w.on("/" + page)
	}
	w.open("/k/1/recipient")
	w.says("Risposta già data")
	w.press("choice", "abroad")
	w.on("/login") // the other answers are still there
	v := b.view()
	if v.Answers.Recipient != kiosk.ToAbroad || v.Answers.Exemption != 2 || v.Answers.Holder != kiosk.Self {
		t.Errorf("answers: %+v", v.Answers)
	}
}

func (b *branch) view() kiosk.View {
	b.t.Helper()
	s, err := b.desk.Session(1, "")
	if err != nil {
		b.t.Fatal(err)
	}
	return s.View()
}

func TestPublicOfficeGetsASelfDeclaration(t *testing.T) {
	w := begin(t, newBranch(t))
	w.press("choice", "certificate")
	w.press("choice", "public")
	w.on("/advice")
	w.says("16 euro")
	w.press("choice", "declaration")
	w.on("/facts")
}

func TestForbiddenCombination(t *testing.T) {
	w := begin(t, newBranch(t))
	w.press("choice", "certificate")
	w.press("choice", "court")
	w.press("action", "next")
	if w.status != http.StatusUnprocessableEntity {
		t.Errorf("nothing chosen: %d", w.status)
	}
	w.says("almeno un certificato")
	w.open("/k/1/certificate?group=family")
	w.press("toggle", "stato_famiglia")
	if got := w.at.Query().Get("group"); got != "family" {
		t.Errorf("group %q after a choice", got)
	}
	w.press("toggle", "stato_famiglia_parentela")
	if w.status != http.StatusUnprocessableEntity {
		t.Errorf("status %d", w.status)
	}
	w.says("«Stato di famiglia» e «Stato di famiglia con parentela» non possono stare sullo stesso foglio")
	w.press("toggle", "stato_famiglia") // off again
	w.says("Tocchi uno o più certificati")
}

func TestDeclarationTyped(t *testing.T) {
	b := newBranch(t)
	b.setLine(false)
	w := begin(t, b)
	w.says("interrotto dalle 11:05")
	w.press("choice", "declaration")
	w.press("", "")
	w.says("Scelga almeno una cosa")
	w.press("", "", "fact", "residence", "fact", "family", "fact", "civil")
	w.on("/fill")
	w.press("choice", "typed")
	w.on("/person")
	w.press("", "", "name", "Ada", "family_name", "", "fiscal_code", "RSSMRA")
	w.says("Qui serve una risposta")
	w.says("Il codice non è giusto")
	if !strings.Contains(w.body, `value="Ada"`) {
		t.Error("what was typed is gone after a mistake")
	}
	w.press("", "", "name", "Ada", "family_name", "Bianchi", "fiscal_code", "")
	w.on("/birth")
	w.press("", "", "birth_place", "Milano", "birth_province", "MI", "birth_date", "31/02/1950")
	w.says("giorno, mese e anno")
	w.press("", "", "birth_place", "Milano", "birth_province", "MI", "birth_date", "3/2/1950")
	w.on("/address")
	w.press("", "", "street", "via <b>", "place", "Milano")
	w.says("un segno che non possiamo stampare")
	w.press("", "", "street", "via Roma", "number", "1", "place", "Milano", "province", "MI")
	w.on("/since")
	w.press("", "", "since", "")
	w.on("/civil")
	w.press("", "", "status", "married", "with", "Carlo Verdi")
	w.on("/relatives")
	w.press("add", "1", "relative", "Verdi Carlo", "birth", "Roma", "relation", "marito")
	w.says("Verdi Carlo")
	w.press("add", "1", "relative", "Verdi Anna", "birth", "", "relation", "figlia")
	w.press("remove", "0")
	w.press("action", "next")
	w.on("/review")
	w.says("Verdi Anna")
	if v := b.view(); len(v.Answers.Form.Family) != 1 || v.Answers.Form.Person.FamilyName != "Bianchi" {
		t.Errorf("form: %+v", v.Answers.Form)
	}
	w.press("", "")
	b.stage(kiosk.StagePreview)
	w.open("/k/1/preview")
	w.press("action", "back")
	w.on("/review")
	w.open("/k/1/person")
	if !strings.Contains(w.body, `value="Bianchi"`) {
		t.Error("the form is empty after going back")
	}
}

func TestDeclarationBlank(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	w.press("choice", "declaration")
	w.press("", "", "fact", "residence")
	w.press("choice", "blank")
	w.on("/review")
	w.press("", "")
	b.stage(kiosk.StagePreview)
}

func TestRequestWhileTheLineIsDown(t *testing.T) {
	b := newBranch(t)
	b.setLine(false)
	w := begin(t, b)
	w.says("Ora può lasciare la richiesta")
	ask(w, "self")
	w.on("/request")
	w.says("Non c'è il suo nome")
	w.press("", "")
	w.on("/preview")
	w.says("La richiesta è salvata")
	w.press("action", "print")
	b.job <- nil
	b.stage(kiosk.StageTake)
	w.open("/k/1/take")
	w.press("action", "missing")
	w.on("/problem")
	w.says("lo dica al banco")
}

func TestCollect(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	w.press("choice", "collect")
	w.on("/collect")
	for _, k := range "CFG2" {
		w.press("key", string(k))
	}
	w.press("key", "del")
	if !strings.Contains(w.body, `value="CFG"`) {
		t.Error("keys do not type")
	}
	for _, tt := range []struct {
		err  error
		says string
	}{
		{kiosk.ErrNoRequest, "Non troviamo una richiesta"}, {kiosk.ErrTooMany, "Troppi codici"}, {kiosk.ErrOffline, "resta valido"},
	} {
		b.set(func() { b.collect = tt.err })
		w.press("action", "enter", "code", "CFG 234")
		w.says(tt.says)
	}
	b.set(func() { b.collect = nil })
	w.press("action", "enter", "code", "CFG 234")
	login(b, w)
	w.press("action", "yes")
	b.stage(kiosk.StagePreview)
}

func TestCodes(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	ask(w, "self")
	w.press("action", "qr")
	w.open("/k/1/code")
	for _, k := range "48217" {
		w.press("key", string(k))
	}
	if !strings.Contains(w.body, `value="4821 7"`) {
		t.Error("keys do not type")
	}
	w.press("action", "enter", "code", "1234 5678")
	w.says("ancora 2 volte")
	w.press("action", "enter", "code", "1234 5678")
	w.says("ancora una volta")
	w.press("action", "enter", "code", "1234 5678")
	w.says("Tre numeri sbagliati")
	w.open("/k/1")
	w.on("/login")
	for _, tt := range []struct {
		err    error
		status int
		says   string
	}{
		{kiosk.ErrLoginExpired, http.StatusGone, "Il tempo è finito"}, {kiosk.ErrLoginLocked, http.StatusTooManyRequests, "Troppi numeri sbagliati"},
	} {
		b.set(func() { b.enter = tt.err })
		w.open("/k/1/login")
		w.press("action", "qr")
		w.open("/k/1/code")
		w.press("action", "enter", "code", "1234 5678")
		if w.status != tt.status {
			t.Errorf("%v: status %d", tt.err, w.status)
		}
		w.says(tt.says)
	}
}

func TestPhoneSideEnds(t *testing.T) {
	for state, says := range map[wire.LoginState]string{
		wire.LoginCancelled: "Ha annullato sul telefono", wire.LoginRefused: "Il telefono non è riuscito a entrare",
	} {
		t.Run(string(state), func(t *testing.T) {
			b := newBranch(t)
			w := begin(t, b)
			ask(w, "self")
			w.press("action", "qr")
			b.set(func() { b.login = state })
			b.await("the end", func(v kiosk.View) bool { return v.LoginEnded != "" })
			w.open("/k/1/qr")
			w.says(says)
			b.set(func() { b.login = wire.LoginWaiting })
			w.press("action", "new")
			w.on("/qr")
			w.says("Inquadri il codice")
		})
	}
}

func TestQRIsHiddenAfterItsLife(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	ask(w, "self")
	w.press("action", "qr")
	if strings.Contains(strings.ToUpper(w.text()), "/P/") || strings.Contains(w.body, challenge) {
		t.Error("the challenge stands on the page in clear")
	}
	w.says("hub.sportello.example")
	b.pass(kiosk.QRLife + time.Second)
	w.open("/k/1/qr")
	w.says("Il codice è nascosto")
	w.press("action", "cancel")
	w.on("/login")
}

func TestNotMe(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	ask(w, "self")
	login(b, w)
	w.press("action", "no")
	w.on("/login")
}

func TestExit(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	w.open("/k/1/exit")
	w.press("reason", "asked")
	w.on("/goodbye")
	w.says("non sono più su questo schermo")
	w.open("/k/1/need")
	w.on("")

	w = begin(t, b) // the goodbye of the one before does not keep the next one waiting
	w.send("/k/1/exit", "reason", "idle")
	w.on("")
	if b.desk.Busy() {
		t.Error("a session is open after nobody was there")
	}
}

func TestLanguageAndModeInTheMiddle(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	w.press("choice", "certificate")
	w.open("/k/1/language")
	w.press("language", "en")
	w.on("/recipient")
	w.says("Who will receive it?")
	w.open("/k/1/assist")
	w.press("mode", "assisted")
	w.on("/recipient")
	w.says("A person is helping you")
	if v := b.view(); v.Mode != kiosk.Assisted {
		t.Errorf("mode %s", v.Mode)
	}
}
