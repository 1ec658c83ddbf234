package web

import (
	"strings"
	"testing"
	"time"

	"sportello.example/kiosk"
	"sportello.example/sync/wire"
)

// state is a page in a state that a citizen can find it in, and the way there.
type state struct {
	name string
	path string // below the kiosk
	do   func(b *branch, w *browser)
}

// to answers a page's main form again and again: "name=value", or "" for the button without a name.
func to(w *browser, presses ...string) {
	w.t.Helper()
	for _, p := range presses {
		name, value, _ := strings.Cut(p, "=")
		w.press(name, value)
	}
}

func toPreview(b *branch, w *browser) {
	ask(w, "self")
	login(b, w)
	to(w, "action=yes", "")
	b.stage(kiosk.StagePreview)
	w.open("/k/1/preview")
}

func toPrinting(b *branch, w *browser) {
	toPreview(b, w)
	to(w, "action=print")
	b.await("the printer", func(v kiosk.View) bool { return v.Progress.State == kiosk.PrintPrinting })
}

func toForm(_ *branch, w *browser) {
	to(w, "choice=declaration")
	w.press("", "", "fact", "residence", "fact", "civil", "fact", "family")
	to(w, "choice=typed")
}

func toBirth(b *branch, w *browser) {
	toForm(b, w)
	w.press("", "", "name", "Ada", "family_name", "Bianchi")
}

func toAddress(b *branch, w *browser) {
	toBirth(b, w)
	w.press("", "", "birth_place", "Milano", "birth_date", "1/1/1950")
}

func toSince(b *branch, w *browser) {
	toAddress(b, w)
	w.press("", "", "street", "via Roma", "number", "1", "place", "Milano")
}

func toRelatives(b *branch, w *browser) {
	toSince(b, w)
	w.press("", "", "since", "")
	w.press("", "", "status", "free")
	w.press("add", "1", "relative", "Verdi Carlo", "relation", "padre")
}

func toProblem(kind kiosk.ProblemKind) func(b *branch, w *browser) {
	return func(b *branch, w *browser) {
		ask(w, "self")
		login(b, w)
		to(w, "action=yes")
		b.set(func() {
			b.registry = map[kiosk.ProblemKind]error{
				kiosk.ProblemOffline: kiosk.ErrOffline, kiosk.ProblemRegistryDown: kiosk.ErrRegistryDown, kiosk.ProblemLoginOver: kiosk.ErrLoginOver,
				kiosk.ProblemNotRegistered: &kiosk.RegistryError{Code: wire.ProblemNotRegistered}, kiosk.ProblemInternal: errHub,
				kiosk.ProblemNotCertifiable: &kiosk.RegistryError{Code: wire.ProblemNotCertifiable}, kiosk.ProblemDocument: kiosk.ErrDocument,
				kiosk.ProblemDiskFull: kiosk.ErrDiskFull,
			}[kind]
		})
		to(w, "")
		b.stage(kiosk.StageProblem)
		b.set(func() { b.registry = nil })
	}
}

func troubles() []kiosk.Trouble {
	return []kiosk.Trouble{
		kiosk.TroublePaper, kiosk.TroubleJam, kiosk.TroubleCover, kiosk.TroubleTray, kiosk.TroubleToner, kiosk.TroubleOutputFull, kiosk.TroublePaused,
		kiosk.TroubleUnreachable, kiosk.TroubleBusy, kiosk.TroubleFormat, kiosk.TroubleMedia, kiosk.TroubleIdentity, kiosk.TroubleOther, kiosk.TroubleNoPrinter,
		kiosk.TroubleWaste, kiosk.TroubleHot, kiosk.TroubleAuth, kiosk.TroubleBlocked,
	}
}

// states lists every page in every state of its own. The line is up on the way there; the printer is ready.
func states() []state {
	nothing := func(*branch, *browser) {}
	all := []state{
		{"attract", "", nil},
		{"language before a session", "/language", nil},
		{"help before a session", "/help", nil},
		{"no such page", "/nothing", nothing},
		{"need", "/need", nothing},
		{"language", "/language", nothing},
		{"help", "/help?from=need", nothing},
		{"spid", "/spid", nothing},
		{"now", "/now", nothing},
		{"assist", "/assist", nothing},
		{"exit", "/exit", nothing},
		{"recipient", "/recipient", func(_ *branch, w *browser) { to(w, "choice=certificate") }},
		{"advice", "/advice", func(_ *branch, w *browser) { to(w, "choice=certificate", "choice=public") }},
		{"certificate", "/certificate?group=status", func(_ *branch, w *browser) {
			to(w, "choice=certificate", "choice=private", "toggle=residenza")
			w.open("/k/1/certificate?group=status")
			to(w, "toggle=stato_civile")
		}},
		{"holder", "/holder", func(_ *branch, w *browser) { ask(w, "self") }},
		{"stamp", "/stamp", func(_ *branch, w *browser) { ask(w, "self") }},
		{"exemption", "/exemption", func(_ *branch, w *browser) { ask(w, "self") }},
		{"exemption, the rest", "/exemption?page=1", func(_ *branch, w *browser) { ask(w, "self") }},
		{"login", "/login", func(_ *branch, w *browser) { ask(w, "self") }},
		{"request", "/request", func(_ *branch, w *browser) { ask(w, "self") }},
		{"collect", "/collect", func(_ *branch, w *browser) { to(w, "choice=collect") }},
		{"qr", "/qr", func(_ *branch, w *browser) { ask(w, "self"); to(w, "action=qr") }},
		{"qr, hidden", "/qr", func(b *branch, w *browser) { ask(w, "self"); to(w, "action=qr"); b.pass(3 * time.Minute) }},
		{"qr, cancelled on the phone", "/qr", func(b *branch, w *browser) {
			ask(w, "self")
			b.set(func() { b.login = wire.LoginCancelled })
			to(w, "action=qr")
			b.await("the end", func(v kiosk.View) bool { return v.LoginEnded != "" })
		}},
		{"code", "/code", func(_ *branch, w *browser) { ask(w, "self"); to(w, "action=qr") }},
		{"identity, waiting", "/identity", func(b *branch, w *browser) {
			ask(w, "self")
			to(w, "action=qr")
			w.open("/k/1/code")
			w.press("action", "enter", "code", rightCode)
			b.pass(20 * time.Second)
		}},
		{"identity", "/identity", func(b *branch, w *browser) { ask(w, "self"); login(b, w) }},
		{"member", "/member", func(b *branch, w *browser) { ask(w, "family"); login(b, w); to(w, "action=yes") }},
		{"review", "/review", func(b *branch, w *browser) { ask(w, "self"); login(b, w); to(w, "action=yes") }},
		{"preparing", "/preparing", func(b *branch, w *browser) {
			b.set(func() { b.hold = make(chan struct{}) })
			ask(w, "self")
			login(b, w)
			to(w, "action=yes", "")
			b.pass(16 * time.Second)
		}},
		{"preview", "/preview", toPreview},
		{"preview, large", "/preview?zoom=1", toPreview},
		{"preview of the slip", "/preview", func(b *branch, w *browser) {
			b.setLine(false)
			ask(w, "self")
			to(w, "")
			b.setLine(true)
		}},
		{"printing", "/printing", toPrinting},
		{"take", "/take", func(b *branch, w *browser) { toPrinting(b, w); b.job <- nil; b.stage(kiosk.StageTake) }},
		{"goodbye", "/goodbye", func(_ *branch, w *browser) { w.send("/k/1/exit") }},
		{"facts", "/facts", func(_ *branch, w *browser) { to(w, "choice=declaration") }},
		{"fill", "/fill", toForm},
		{"person", "/person", toForm},
		{"birth", "/birth", toBirth},
		{"address", "/address", toAddress},
		{"since", "/since", toSince},
		{"civil", "/civil", func(b *branch, w *browser) { toSince(b, w); w.press("", "", "since", "") }},
		{"relatives", "/relatives", toRelatives},
		{"review of the declaration", "/review", func(b *branch, w *browser) { toRelatives(b, w); to(w, "action=next") }},
	}
	for _, k := range []kiosk.ProblemKind{
		kiosk.ProblemOffline, kiosk.ProblemRegistryDown, kiosk.ProblemNotRegistered, kiosk.ProblemNotCertifiable, kiosk.ProblemLoginOver,
		kiosk.ProblemDocument, kiosk.ProblemDiskFull, kiosk.ProblemInternal,
	} {
		all = append(all, state{"problem " + string(k), "/problem", toProblem(k)})
	}
	for _, tr := range troubles() {
		all = append(all, state{"problem printer " + string(tr), "/problem", func(b *branch, w *browser) {
			toPrinting(b, w)
			b.job <- &kiosk.PrintError{Trouble: tr, Outcome: kiosk.NothingPrinted, Err: errHub}
			b.stage(kiosk.StageProblem)
		}}, state{"printing " + string(tr), "/printing", func(b *branch, w *browser) {
			toPrinting(b, w)
			b.report(kiosk.PrintProgress{State: kiosk.PrintStopped, Page: 1, Trouble: tr})
		}})
	}
	return append(all, state{"problem uncertain", "/problem", toUncertain("")}, state{"problem waiting for staff", "/problem", toUncertain("a")},
		state{"problem noted by staff", "/problem", func(b *branch, w *browser) {
			toUncertain("a")(b, w)
			if err := b.desk.Settle(w.t.Context(), "a", kiosk.VerdictNothing); err != nil {
				w.t.Fatal(err)
			}
		}},
		state{"preview, two printers", "/preview", func(b *branch, w *browser) { two(b); toPreview(b, w) }},
		state{"printing, two printers", "/printing", func(b *branch, w *browser) { two(b); toPrinting(b, w) }},
		state{"take, two printers", "/take", func(b *branch, w *browser) {
			two(b)
			toPrinting(b, w)
			b.job <- nil
			b.stage(kiosk.StageTake)
		}},
		state{"problem printer, and another one is there", "/problem", func(b *branch, w *browser) {
			two(b)
			toPrinting(b, w)
			b.job <- &kiosk.PrintError{Trouble: kiosk.TroubleIdentity, Outcome: kiosk.NothingPrinted, Err: errHub}
			b.stage(kiosk.StageProblem)
		}})
}

// two gives the branch a second printer, with a name that wants to be more, and a third that cannot be used.
func two(b *branch) {
	b.set(func() {
		b.printer = kiosk.PrinterStatus{UUID: "one", State: kiosk.PrinterReady, Name: "Ingresso"}
		b.others = []kiosk.PrinterStatus{
			{UUID: "two", State: kiosk.PrinterBusy, Name: "<b>Sala</b> studio al secondo piano"}, {UUID: "three", State: kiosk.PrinterOffline},
		}
	})
}

// toUncertain prints, and nobody knows what came out; id is what staff know the print by.
func toUncertain(id string) func(b *branch, w *browser) {
	return func(b *branch, w *browser) {
		toPrinting(b, w)
		b.job <- &kiosk.PrintError{Trouble: kiosk.TroubleJam, Outcome: kiosk.Uncertain, Print: id, Err: errHub}
		b.stage(kiosk.StageProblem)
	}
}

// in brings somebody to a state, in a language.
func in(t testing.TB, st state, language string) (*branch, *browser) {
	t.Helper()
	b := newBranch(t)
	w := b.browse()
	if st.do != nil {
		w.open("/k/1/language")
		w.press("language", language)
		st.do(b, w)
	}
	return b, w
}
