package box

import (
	"encoding/json"
	"net"
	"net/http"
	"time"

	"sportello.example/firmware/release"
	"sportello.example/kiosk"
	"sportello.example/sync/health"
)

// Status is what GET /status says to whoever sits at the box itself: nothing of any person.
type Status struct {
	Release  string                         `json:"release"`
	Branch   string                         `json:"branch"`
	Kiosks   int                            `json:"kiosks"`
	Enrolled bool                           `json:"enrolled"`
	Busy     bool                           `json:"busy"`   // somebody is at a kiosk
	Queue    int                            `json:"queue"`  // events that wait for the hub
	Oldest   *time.Time                     `json:"oldest"` // when the oldest of them happened
	Epoch    string                         `json:"epoch"`
	Lights   map[health.Light]health.Status `json:"lights"`
	Printer  PrinterStatus                  `json:"printer"`
}

// PrinterStatus is the printer's part of a Status.
type PrinterStatus struct {
	State   kiosk.PrinterState `json:"state"`
	Trouble kiosk.Trouble      `json:"trouble,omitempty"`
	Name    string             `json:"name,omitempty"`
	Since   time.Time          `json:"since"`
}

// handler adds to the kiosk's pages what the box says of itself.
func (b *Box) handler(pages http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.HandleFunc("GET /status", b.serveStatus)
	return mux
}

func (b *Box) serveStatus(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		http.Error(w, "only from the box itself", http.StatusForbidden)
		return
	}
	// A page from elsewhere in a browser on this machine must not read it (DNS rebinding).
	if name, _, err := net.SplitHostPort(r.Host); err != nil || (name != "localhost" && net.ParseIP(name) == nil) {
		http.Error(w, "ask by address", http.StatusMisdirectedRequest)
		return
	}
	n, oldest, err := b.store.Queued(r.Context())
	if err != nil {
		b.log.Error("queue not read", "err", err)
		http.Error(w, "database", http.StatusInternalServerError)
		return
	}
	p := b.spool.Status()
	epoch, _ := b.store.Epoch(r.Context())
	st := Status{
		Release: release.Current().String(), Branch: b.desk.Branch(), Kiosks: b.desk.Kiosks(), Enrolled: b.hub.in.Load() != nil,
		Busy: b.desk.Busy(), Queue: n, Epoch: epoch, Lights: b.board.Snapshot(),
		Printer: PrinterStatus{State: p.State, Trouble: p.Trouble, Name: p.Name, Since: p.Since},
	}
	if n > 0 {
		st.Oldest = &oldest
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_ = json.NewEncoder(w).Encode(st) // the reader has gone
}
