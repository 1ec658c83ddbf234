package box

import (
	"encoding/json"
	"net/http"
	"time"

	"sportello.example/appliance/sqlite"
	"sportello.example/firmware/release"
	"sportello.example/kiosk"
	"sportello.example/sync/health"
	"sportello.example/sync/wire"
)

// Status is what GET /status says to whoever sits at the box itself: nothing of any person.
type Status struct {
	Release  string                         `json:"release"`
	Box      uint32                         `json:"box"` // number at the hub, 0: not enrolled
	Branch   string                         `json:"branch"`
	Kiosks   int                            `json:"kiosks"`
	Enrolled bool                           `json:"enrolled"`
	Busy     bool                           `json:"busy"`   // somebody is at a kiosk
	Queue    int                            `json:"queue"`  // events that wait for the hub
	Oldest   *time.Time                     `json:"oldest"` // when the oldest of them happened
	Epoch    string                         `json:"epoch"`
	Lights   map[health.Light]health.Status `json:"lights"`
	Printer  PrinterStatus                  `json:"printer"`
	Sync     SyncStatus                     `json:"sync"`
}

// SyncStatus is how the queue is, and what the box has from the hub.
type SyncStatus struct {
	wire.Report

	Running bool               `json:"running"` // false: read from the disk of a box that does not run
	Box     uint32             `json:"box"`
	Branch  string             `json:"branch,omitempty"`
	Link    LinkStatus         `json:"link"`
	Desired DesiredStatus      `json:"desired"`
	Dead    []sqlite.DeadEvent `json:"dead_events,omitempty"`
	Trouble []Trouble          `json:"trouble"` // what needs a hand
}

// LinkStatus is how the line to the hub is.
type LinkStatus struct {
	State   health.State `json:"state"`
	Since   *time.Time   `json:"since,omitempty"`
	Contact *time.Time   `json:"contact,omitempty"` // when the hub was last heard of since the box started
}

// DesiredStatus is what the box has of what the hub wants.
type DesiredStatus struct {
	Version uint64     `json:"version"` // 0: nothing yet
	Since   *time.Time `json:"since,omitempty"`
	Fresh   bool       `json:"fresh"`             // false: older than the hub meant it to be
	Missing []string   `json:"missing,omitempty"` // files that are not there
}

// Trouble is something that needs a hand, and what to do about it.
type Trouble struct {
	What string `json:"what"`
	Hint string `json:"hint"`
}

// PrinterStatus is the printer's part of a Status.
type PrinterStatus struct {
	State   kiosk.PrinterState `json:"state"`
	Trouble kiosk.Trouble      `json:"trouble,omitempty"`
	Name    string             `json:"name,omitempty"`
	Since   time.Time          `json:"since"`
}

// handler adds to the kiosk's pages what the box says of itself, and what its own commands ask of it.
func (b *Box) handler(pages, staff http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.Handle("/staff/", staff)
	mux.Handle("/staff", staff)
	mux.HandleFunc("GET /status", local(b.serveStatus))
	mux.HandleFunc("GET "+pathPrinters, b.commands(b.servePrinters))
	mux.HandleFunc("POST "+pathExport, b.commands(b.serveExport))
	mux.HandleFunc("POST "+pathImport, b.commands(b.serveImport))
	return mux
}

func (b *Box) serveStatus(w http.ResponseWriter, r *http.Request) {
	sync, err := b.queue.status(r.Context())
	if err != nil {
		b.log.Error("queue not read", "err", err)
		http.Error(w, "database", http.StatusInternalServerError)
		return
	}
	if l := b.board.Status(health.Hub); l.State != "" {
		sync.Link.State = l.State
		sync.Link.Since = instant(l.Since)
	}
	sync.Branch = b.desk.Branch()
	p := b.printers.spool.Status()
	st := Status{
		Release: release.Current().String(), Box: sync.Box, Branch: sync.Branch, Kiosks: b.desk.Kiosks(), Enrolled: b.hub.in.Load() != nil,
		Busy: b.desk.Busy(), Queue: sync.Queued(), Epoch: string(sync.Epoch), Lights: b.board.Snapshot(),
		Printer: PrinterStatus{State: p.State, Trouble: p.Trouble, Name: p.Name, Since: p.Since},
		Oldest:  sync.oldest(), Sync: sync,
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(st) // the reader has gone
}

// oldest is when the oldest event happened that waits, nil when none does.
func (s SyncStatus) oldest() *time.Time {
	var oldest *time.Time
	for _, st := range s.Streams {
		if st.Oldest != nil && (oldest == nil || st.Oldest.Before(*oldest)) {
			oldest = st.Oldest
		}
	}
	return oldest
}

// instant returns nil for the zero time.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
