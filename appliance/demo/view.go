package main

import (
	"sportello.example/sync/health"
)

// consoleView is a state in the words of the console's page.
type consoleView struct {
	state
	Switches     []toggle
	Counts       []count
	Lights       []lightView
	HubReachable bool
}

// toggle is a switch with its choices, exactly one of which is now.
type toggle struct {
	Name, Label, English string
	Choices              []choice
	Broken               bool
}

type choice struct {
	To, Label string
	Now, Bad  bool
}

type count struct {
	Label, English string
	Value          string
}

type lightView struct{ State, Label, Words, Since string }

func newView(s state) consoleView {
	v := consoleView{state: s, HubReachable: s.Municipality.Reachable}
	add := func(name, label, english, now string, choices ...choice) {
		t := toggle{Name: name, Label: label, English: english}
		for _, c := range choices {
			c.Now = c.To == now
			t.Broken = t.Broken || c.Now && c.Bad
			t.Choices = append(t.Choices, c)
		}
		v.Switches = append(v.Switches, t)
	}
	add("line", "La linea", "branch to municipality", string(s.Line),
		choice{To: string(lineUp), Label: "Attiva"}, choice{To: string(lineSlow), Label: "Lenta", Bad: true}, choice{To: string(lineCut), Label: "Tagliata", Bad: true})
	add("hub", "L’hub del Comune", "the municipality’s server", s.Hub,
		choice{To: on, Label: "Acceso"}, choice{To: off, Label: "Spento", Bad: true})
	add("registry", "ANPR", "the national registry", s.Registry,
		choice{To: on, Label: "Risponde"}, choice{To: off, Label: "Non risponde", Bad: true})
	add("printer", "La stampante", "the printer", string(s.Printer),
		choice{To: string(printerReady), Label: "Pronta"}, choice{To: string(printerPaper), Label: "Senza carta", Bad: true},
		choice{To: string(printerJam), Label: "Inceppata", Bad: true}, choice{To: string(printerGone), Label: "Sparita", Bad: true},
		choice{To: string(printerKey), Label: "Chiave nuova", Bad: true})
	add("clock", "L’orologio del box", "restarts the box", string(s.Clock),
		choice{To: string(clockRight), Label: "Giusto"}, choice{To: string(clockTomorrow), Label: "Un giorno avanti", Bad: true},
		choice{To: string(clockPast), Label: "Dieci anni indietro", Bad: true})
	add("box", "Il box", "pull the plug (kill -9)", s.BoxPower,
		choice{To: on, Label: "Acceso"}, choice{To: off, Label: "Senza corrente", Bad: true})

	add("notice", "Avviso del Comune", "on every kiosk", string(s.Notice),
		choice{To: string(noticeNone), Label: "Nessuno"}, choice{To: string(noticeInfo), Label: "Informazione"},
		choice{To: string(noticeEmergency), Label: "Emergenza", Bad: true})
	add("stick", "La chiavetta USB", "takes the queue to the hub without a line", "",
		choice{To: "carry", Label: "Porta in Comune e ritorno"})

	t := s.Municipality.Total
	v.Counts = []count{
		{"Sessioni", "sessions, at the hub", itoa(t.Sessions)},
		{"Fogli", "sheets, at the hub", itoa(t.Papers)},
		{"Dati fino alle", "data up to", clockOrDash(s.Municipality.DataUpTo)},
	}
	labels := map[health.Light]string{
		health.Network: "Rete", health.Hub: "Comune", health.Registry: "ANPR e SPID", health.Printer: "Stampante", health.Disk: "Disco", health.Clock: "Orologio",
	}
	words := map[health.State]string{health.Up: "bene", health.Slow: "lento", health.Down: "guasto", health.Unknown: "non si sa", "": "non si sa"}
	for _, l := range health.Lights() {
		st := s.Box.Lights[l]
		lv := lightView{State: string(st.State), Label: labels[l], Words: words[st.State]}
		if !st.Since.IsZero() {
			lv.Since = st.Since.Local().Format("15:04")
		}
		v.Lights = append(v.Lights, lv)
	}
	return v
}
