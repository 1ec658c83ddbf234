package web

import (
	"context"
	"time"

	"sportello.example/kiosk/locale"
	"sportello.example/sync/desired"
)

// noticeView is a message of the municipality as a page shows it.
type noticeView struct {
	ID       string           `json:"id"`
	Severity desired.Severity `json:"severity"` // emergency | warning | info
	Head     string           `json:"head"`     // the severity in a word
	Text     string           `json:"text"`
	Lang     string           `json:"lang"` // of Text
	Note     string           `json:"note"` // who says so and, when the line is down, since when that is known
}

// Icon is the name of the icon beside it.
func (n noticeView) Icon() string {
	if n.Severity == desired.Info {
		return "info"
	}
	return "warning"
}

// notices returns what a page shows of the municipality's messages, the gravest first: on the first page all of them,
// on others no mere information.
func (s *Server) notices(l *locale.Language, page string, lineUp bool) ([]noticeView, error) {
	out := []noticeView{}
	if s.cfg.Notices == nil {
		return out, nil
	}
	t := &texts{l: l}
	for _, n := range s.cfg.Notices() {
		v := noticeView{ID: n.ID, Severity: n.Severity, Lang: l.Tag, Text: n.Text[l.Tag]}
		switch n.Severity {
		case desired.Emergency:
			v.Head = t.t("notice.emergency")
		case desired.Info:
			if page != "attract" {
				continue
			}
			v.Head = t.t("notice.info")
		default: // a newer hub may know others
			v.Severity, v.Head = desired.Warning, t.t("notice.warning")
		}
		if v.Text == "" {
			v.Lang, v.Text = locale.Default, n.Text[locale.Default]
		}
		if v.Text == "" {
			continue
		}
		v.Note = t.t("notice.from")
		if at := n.Received.In(s.cfg.Now().Location()); !lineUp && at.After(unset) {
			v.Note = t.t("notice.received", "day", at.Day(), "month", l.Months[at.Month()-1], "time", at.Format("15:04"))
		}
		out = append(out, v)
	}
	return out, t.err
}

// unset is a date that no clock which was ever set shows.
var unset = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// noticesChanged returns a channel that holds a value when there may be other notices.
func (s *Server) noticesChanged(ctx context.Context) <-chan struct{} {
	if s.cfg.NoticesChanged == nil {
		return never()
	}
	return s.cfg.NoticesChanged(ctx)
}

// Emergencies are the notices at the very top of a page.
func (p *page) Emergencies() []noticeView { return p.some(true) }

// OtherNotices are the others.
func (p *page) OtherNotices() []noticeView { return p.some(false) }

func (p *page) some(emergency bool) []noticeView {
	var out []noticeView
	for _, n := range p.Notices {
		if (n.Severity == desired.Emergency) == emergency {
			out = append(out, n)
		}
	}
	return out
}
